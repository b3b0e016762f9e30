//! Every advertisement in every capture, with all that is around it: heeded by the receiver, and
//! made to the same bytes with the sender's settings.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_vrrp::{Advertisement, Config, Datagram, Encoder, Format, judge};

use crate::captures::captures;
use crate::frames::datagram;

#[test]
fn every_recorded_packet_is_heeded() {
    for capture in captures() {
        let mut heeded = 0;
        for (number, frame) in capture.frames.iter().enumerate() {
            let Some(datagram) = datagram(frame) else { continue };
            let verdict = judge(&capture.receiver(), &datagram);
            assert!(verdict.is_ok(), "{} frame {}: {verdict:?}", capture.name, number + 1);
            heeded += 1;
        }
        assert!(heeded >= 2, "{} without advertisements shows nothing", capture.name);
    }
}

#[test]
fn whole_ip_packets_are_those_of_keepalived() {
    for capture in captures() {
        for (number, frame) in capture.frames.iter().enumerate() {
            let Some(datagram) = datagram(frame) else { continue };
            let name = format!("{} frame {}", capture.name, number + 1);
            let judged = judge(&capture.receiver(), &datagram).expect(&name);
            let config = capture.sender(datagram.endpoints.source());
            let utc = judged.stamp.map_or(Duration::ZERO, time_of);
            let ours = encoded(&config, &judged.advertisement, &datagram, utc);
            let length = ours.len();
            let theirs = without_flow_label(&frame.payload()[..length]);
            assert_eq!(ours, theirs, "{name}");
            let padding = &frame.payload()[length..];
            assert!(padding.iter().all(|byte| *byte == 0), "{name}: no more than padding");
        }
    }
}

#[test]
fn the_number_in_the_authentication_header_is_shared_by_the_routers_of_a_vrid() {
    let captures = captures();
    let capture = captures.iter().find(|capture| capture.name == "v2-ah-cloudstack").unwrap();
    let numbers: Vec<_> = capture
        .frames
        .iter()
        .filter_map(datagram)
        .map(|datagram| match judge(&capture.receiver(), &datagram).unwrap().advertisement.format {
            Format::V2(authentication) => authentication.sequence,
            Format::V3 => panic!("version 3"),
        })
        .collect();
    assert_eq!(numbers, (1..=18).collect::<Vec<_>>());
}

#[test]
fn the_stamps_of_a_sender_grow() {
    let captures = captures();
    let capture = captures.iter().find(|capture| capture.name == "v3-hmac-trailer").unwrap();
    let mut last = BTreeMap::new();
    for datagram in capture.frames.iter().filter_map(datagram) {
        let stamp = judge(&capture.receiver(), &datagram).unwrap().stamp.unwrap();
        let before = last.insert(datagram.endpoints.source(), stamp);
        assert!(before.is_none_or(|before| before < stamp));
        let late = datagram.received.checked_sub(time_of(stamp)).unwrap();
        assert!(late < Duration::from_millis(10), "recorded {late:?} after it was stamped");
    }
    assert_eq!(last.len(), 2);
}

/// Our packet, when those before it have been sent.
fn encoded(
    config: &Config,
    advertisement: &Advertisement,
    theirs: &Datagram,
    utc: Duration,
) -> Vec<u8> {
    let source = theirs.endpoints.source();
    let mut encoder = Encoder::new(config);
    for _ in 1..theirs.identification {
        drop(encoder.packets(advertisement, source, Duration::ZERO));
    }
    let [packet] = encoder.packets(advertisement, source, utc).try_into().expect("one packet");
    assert_eq!(packet.destination, theirs.endpoints.destination());
    packet.bytes
}

/// The least time of day that is stamped so.
fn time_of(stamp: u64) -> Duration {
    let fraction = stamp >> 16 & 0xffff;
    Duration::new(stamp >> 32, (fraction * 1_000_000_000).div_ceil(1 << 16) as u32)
}

/// The kernel chooses the IPv6 flow label of keepalived's packets; ours is 0.
fn without_flow_label(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[1] &= 0xf0;
        packet[2..4].fill(0);
    }
    packet
}
