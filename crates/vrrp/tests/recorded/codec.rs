//! The codec against what real routers put on the wire.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use lockstep_vrrp::{
    Advertisement, Authentication, AuthenticationData, ChecksumDialect, Config, Datagram,
    DecodeError, Encoder, Endpoints, Family, Format, Password, Rejection, Version, Vrid,
    gratuitous_arp, judge, neighbour_advertisement,
};
use serde::Deserialize;

use crate::captures::captures;
use crate::frames::{datagram, frames};

#[derive(Deserialize)]
struct Vector {
    pcap: String,
    frame: u32,
    src: IpAddr,
    dst: IpAddr,
    version: u8,
    ttl_or_hoplimit: u8,
    vrid: u8,
    priority: u8,
    count: usize,
    addresses: Vec<String>,
    checksum_ok_message_only: bool,
    vrrp_hex: String,
    trailer_hex: Option<String>,
    ah: Option<Header>,
    auth_type: Option<u8>,
    auth_data: Option<String>,
    adver_int_s: Option<u64>,
    max_adver_int_cs: Option<u64>,
}

#[derive(Deserialize)]
struct Header {
    seq: u32,
}

impl Vector {
    fn endpoints(&self) -> Endpoints {
        Endpoints::between(self.src, self.dst).expect("one family")
    }

    fn payload(&self) -> Vec<u8> {
        bytes(&self.vrrp_hex)
    }

    fn message(&self) -> Vec<u8> {
        let mut message = self.payload();
        let trailer = self.trailer_hex.as_deref().map_or(0, |hex| hex.len() / 2);
        message.truncate(message.len() - trailer);
        message
    }

    fn dialect(&self) -> ChecksumDialect {
        if self.checksum_ok_message_only {
            ChecksumDialect::MessageAlone
        } else {
            ChecksumDialect::PseudoHeader
        }
    }
}

#[test]
fn every_listed_advertisement_is_in_its_capture() {
    let captures = captures();
    for vector in vectors() {
        let name = format!("{} frame {}", vector.pcap, vector.frame);
        let capture = captures.iter().find(|c| vector.pcap.strip_suffix(".pcap") == Some(c.name));
        let frame = &capture.expect(&name).frames[vector.frame as usize - 1];
        let datagram = datagram(frame).expect(&name);
        assert_eq!(datagram.endpoints, vector.endpoints(), "{name}");
        assert_eq!(datagram.ttl, vector.ttl_or_hoplimit, "{name}");
        assert_eq!(datagram.vrid().map(Vrid::value), Some(vector.vrid), "{name}");
        let message = match &vector.ah {
            Some(header) => {
                let password = capture.unwrap().receiver();
                let heard = judge(&password, &datagram).expect(&name).advertisement;
                let Format::V2(authentication) = heard.format else { panic!("{name}") };
                assert_eq!(authentication.sequence, header.seq, "{name}");
                &datagram.payload[24..]
            }
            None => &datagram.payload[..],
        };
        assert_eq!(message, vector.payload(), "{name}");
    }
}

#[test]
fn every_recorded_advertisement_is_decoded_to_its_stated_meaning() {
    for vector in vectors() {
        let name = format!("{} frame {}", vector.pcap, vector.frame);
        let heard = Advertisement::decode(&vector.payload(), &vector.endpoints()).expect(&name);
        assert_eq!(heard.version().number(), vector.version, "{name}");
        assert_eq!(heard.vrid.value(), vector.vrid, "{name}");
        assert_eq!(heard.priority, vector.priority, "{name}");
        assert_eq!(heard.addresses.len(), vector.count, "{name}");
        if vector.addresses.len() == vector.count {
            let texts: Vec<_> = heard.addresses.iter().map(ToString::to_string).collect();
            assert_eq!(texts, vector.addresses, "{name}");
        }
        let interval = match vector.version {
            2 => Duration::from_secs(vector.adver_int_s.unwrap()),
            _ => Duration::from_millis(vector.max_adver_int_cs.unwrap() * 10),
        };
        assert_eq!(heard.interval, interval, "{name}");
        let format = match vector.auth_type {
            Some(kind) => {
                let data = bytes(vector.auth_data.as_deref().unwrap()).try_into().unwrap();
                Format::V2(AuthenticationData { kind, data, sequence: 0 })
            }
            None => Format::V3,
        };
        assert_eq!(heard.format, format, "{name}");
    }
}

#[test]
fn every_recorded_advertisement_is_encoded_to_the_same_bytes() {
    let mut compared = 0;
    for vector in vectors() {
        let name = format!("{} frame {}", vector.pcap, vector.frame);
        let heard = Advertisement::decode(&vector.payload(), &vector.endpoints()).expect(&name);
        let ours = heard.encode_in(vector.dialect(), &vector.endpoints());
        assert_eq!(ours, vector.message(), "{name}");
        compared += 1;
    }
    assert_eq!(compared, 64);
}

#[test]
fn what_the_configuration_says_is_what_keepalived_sends() {
    let config = password_config();
    let vector = vectors().into_iter().find(|v| v.pcap == "v2-pass.pcap" && v.frame == 5).unwrap();
    let ours = Advertisement::of(&config, 150).encode(&vector.endpoints());
    assert_eq!(ours, vector.payload());
}

#[test]
fn packets_are_numbered_from_one() {
    let advertisement = Advertisement::of(&password_config(), 150);
    let source = "10.51.0.11".parse().unwrap();
    let mut encoder = Encoder::new(&password_config());
    let numbers: Vec<_> = (0..65_537)
        .map(|_| {
            let packet = encoder.packets(&advertisement, source, Duration::ZERO).remove(0).bytes;
            u16::from_be_bytes([packet[4], packet[5]])
        })
        .collect();
    assert_eq!(numbers[..3], [1, 2, 3]);
    assert_eq!(numbers[65_534..], [65_535, 1, 2], "0 would be replaced by the kernel");
}

#[test]
fn every_recorded_password_advertisement_is_heeded() {
    for frame in frames(include_bytes!("../vectors/v2-pass.pcap")) {
        let Some(datagram) = datagram(&frame) else { continue };
        assert!(judge(&password_config(), &datagram).is_ok());
    }
}

#[test]
fn both_readings_of_the_checksum_over_ipv4_are_heeded_and_told_apart() {
    let mut dialects = BTreeMap::new();
    for frame in frames(include_bytes!("../vectors/v3-ipv4-checksum-rfc9568.pcap")) {
        let Some(datagram) = datagram(&frame) else { continue };
        let judged = judge(&v3_config(Family::Ipv4), &datagram).unwrap();
        let dialect = judged.dialect.expect("the readings differ");
        let before = dialects.insert(datagram.endpoints.source().to_string(), dialect);
        assert!(before.is_none_or(|before| before == dialect));
    }
    let expected = [
        ("10.51.0.11".to_owned(), ChecksumDialect::MessageAlone),
        ("10.51.0.12".to_owned(), ChecksumDialect::PseudoHeader),
    ];
    assert_eq!(dialects, BTreeMap::from(expected));
}

#[test]
fn padding_after_the_ip_packet_is_not_part_of_it() {
    let frames = frames(include_bytes!("../vectors/v3-ipv4-padded-synthetic.pcap"));
    assert_eq!(frames.len(), 2);
    for frame in frames {
        assert_eq!(frame.bytes.len(), 60);
        let datagram = datagram(&frame).unwrap();
        assert_eq!(datagram.payload.len(), 12);
        assert!(judge(&v3_config(Family::Ipv4), &datagram).is_ok());
    }
}

#[test]
fn a_trailer_of_a_newer_peer_is_passed_over() {
    let frame = &frames(include_bytes!("../vectors/v3-hmac-trailer.pcap"))[0];
    let datagram = datagram(frame).unwrap();
    assert_eq!(datagram.payload.len(), 12 + 28);
    assert!(judge(&v3_config(Family::Ipv4), &datagram).is_ok());
}

#[test]
fn an_authentication_header_is_named() {
    let mut refused = 0;
    for frame in frames(include_bytes!("../vectors/v2-ah-cloudstack.pcap")) {
        if frame.ethertype() != 0x0800 || frame.payload()[9] != 51 {
            continue;
        }
        let datagram = Datagram::from_ipv4(frame.payload(), frame.at).unwrap();
        assert_eq!(datagram.vrid(), Vrid::new(51), "found behind the header");
        let rejection = judge(&password_config(), &datagram).unwrap_err();
        assert_eq!(rejection, Rejection::AuthenticationHeader { ours: 1 });
        let text = rejection.to_string();
        assert_eq!(text, "an authentication header (type 2, AH), ours is 1 (password)");
        refused += 1;
    }
    assert!(refused > 4);
}

#[test]
fn an_advertisement_cut_short_anywhere_is_refused_for_its_length() {
    for vector in vectors() {
        let message = vector.message();
        for length in 0..message.len() {
            let result = Advertisement::decode(&message[..length], &vector.endpoints());
            assert!(
                matches!(result, Err(DecodeError::Length { length: told, .. }) if told == length),
                "{} cut to {length}",
                vector.pcap
            );
        }
    }
}

#[test]
fn gratuitous_arp_is_that_of_keepalived() {
    let captures: [&[u8]; 3] = [
        include_bytes!("../vectors/v2-pass.pcap"),
        include_bytes!("../vectors/v2-noauth.pcap"),
        include_bytes!("../vectors/v2-vmac.pcap"),
    ];
    for capture in captures {
        let mut compared = 0;
        for frame in frames(capture).iter().filter(|frame| frame.ethertype() == 0x0806) {
            let mac = frame.bytes[6..12].try_into().unwrap();
            assert_eq!(gratuitous_arp("10.51.0.1".parse().unwrap(), mac), frame.bytes);
            compared += 1;
        }
        assert!(compared >= 1);
    }
}

#[test]
fn unsolicited_neighbour_advertisements_are_those_of_keepalived() {
    let captures: [&[u8]; 2] =
        [include_bytes!("../vectors/v3-ipv6.pcap"), include_bytes!("../vectors/v3-vmac-ipv6.pcap")];
    for capture in captures {
        let mut compared = 0;
        for frame in frames(capture).iter().filter(|frame| frame.bytes.get(54) == Some(&136)) {
            let mac = frame.bytes[6..12].try_into().unwrap();
            let target: [u8; 16] = frame.bytes[62..78].try_into().unwrap();
            assert_eq!(neighbour_advertisement(target.into(), mac, false), frame.bytes);
            compared += 1;
        }
        assert!(compared >= 4);
    }
}

#[test]
fn a_forwarding_router_says_so_in_its_neighbour_advertisement() {
    let address = "fe80::51:1".parse().unwrap();
    let host = neighbour_advertisement(address, [2, 0, 0, 0, 0, 10], false);
    let router = neighbour_advertisement(address, [2, 0, 0, 0, 0, 10], true);
    assert_eq!(host[58], 0x20, "override");
    assert_eq!(router[58], 0xa0, "router, override");
}

fn password_config() -> Config {
    Config {
        authentication: Authentication::Pass(Password::new("9YasrrhZ").unwrap()),
        addresses: vec!["10.51.0.1".parse().unwrap()],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

fn v3_config(family: Family) -> Config {
    Config {
        version: Version::V3,
        family,
        authentication: Authentication::None,
        ..password_config()
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../vectors/vectors.json")).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}
