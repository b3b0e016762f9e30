//! Settings and packets that tests send.

use std::net::IpAddr;
use std::time::Duration;

use lockstep_vrrp::{
    Advertisement, Authentication, Config, Encoder, Family, Packet, Password, Version, Vrid,
};

pub(crate) fn advertise(config: &Config, source: &str) -> Packet {
    let advertisement = Advertisement::of(config, 150);
    Encoder::new(config).packets(&advertisement, source.parse().unwrap(), Duration::ZERO).remove(0)
}

/// As many advertisements as asked for, counted in the IPv4 identification from 1 on.
pub(crate) fn advertise_often(config: &Config, source: &str, count: usize) -> Vec<Packet> {
    let advertisement = Advertisement::of(config, 150);
    let mut encoder = Encoder::new(config);
    let mut packet =
        || encoder.packets(&advertisement, source.parse().unwrap(), Duration::ZERO).remove(0);
    (0..count).map(|_| packet()).collect()
}

/// VRID 51 of version 2 with a password.
pub(crate) fn password() -> Config {
    Config {
        authentication: Authentication::Pass(Password::new("9YasrrhZ").unwrap()),
        addresses: vec!["10.51.0.1".parse().unwrap()],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

/// VRID 51 of version 3 over IPv6.
pub(crate) fn version_3_over_ipv6() -> Config {
    Config {
        version: Version::V3,
        family: Family::Ipv6,
        authentication: Authentication::None,
        addresses: vec!["fe80::51:1".parse().unwrap(), "2001:db8:51::1".parse().unwrap()],
        ..password()
    }
}

pub(crate) fn with_vrid(vrid: u8, config: Config) -> Config {
    Config { vrid: Vrid::new(vrid).unwrap(), ..config }
}

/// The same packet to a single peer; its message stays as it is.
pub(crate) fn to_peer(peer: &str, mut packet: Packet) -> Packet {
    packet.destination = peer.parse().unwrap();
    match packet.destination {
        IpAddr::V4(peer) => {
            packet.bytes[16..20].copy_from_slice(&peer.octets());
            packet.bytes[10..12].fill(0);
            let checksum = internet_checksum(&packet.bytes[..20]);
            packet.bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        IpAddr::V6(peer) => packet.bytes[24..40].copy_from_slice(&peer.octets()),
    }
    packet
}

/// RFC 1071.
fn internet_checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>();
    !(((sum >> 16) + (sum & 0xffff)) as u16)
}

/// The frames of a classic little-endian capture.
pub(crate) fn recorded(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &pcap[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

/// An advertisement with bytes after the end that its IP header states.
pub(crate) fn recorded_with_padding() -> Vec<u8> {
    recorded(include_bytes!("../../../vrrp/tests/vectors/v3-ipv4-padded-synthetic.pcap")).remove(0)
}

/// A recorded advertisement of VRID 51 in an authentication header, to the group.
pub(crate) fn recorded_in_authentication_header() -> Vec<u8> {
    let capture = include_bytes!("../../../vrrp/tests/vectors/v2-ah-cloudstack.pcap");
    recorded(capture).into_iter().find(|frame| frame[23] == lockstep_vrrp::PROTOCOL_AH).unwrap()
}
