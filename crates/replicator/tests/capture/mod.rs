//! Reads the recorded conversations in `tests/vectors`.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "shared by several tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// One datagram of the protocol, put together from fragments; of TCP, all that one side sent.
pub struct Datagram {
    pub source: IpAddr,
    /// Microseconds.
    pub at: u64,
    pub payload: Vec<u8>,
}

pub fn captures() -> Vec<(String, Vec<Datagram>)> {
    let entries = std::fs::read_dir(directory()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.len() > 20);
    names.into_iter().map(|name| (name.clone(), datagrams(&name))).collect()
}

#[expect(clippy::disallowed_methods, reason = "tests may read files")]
pub fn datagrams(name: &str) -> Vec<Datagram> {
    let file = std::fs::read(directory().join(format!("{name}.pcap"))).unwrap();
    let mut found = Vec::new();
    let mut fragments: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut streams: BTreeMap<IpAddr, (u64, Vec<u8>)> = BTreeMap::new();
    let mut rest = &file[24..];
    while !rest.is_empty() {
        let at = u64::from(word(rest, 0)) * 1_000_000 + u64::from(word(rest, 4));
        let length = word(rest, 8) as usize;
        let frame = &rest[16..16 + length];
        rest = &rest[16 + length..];
        let Some((source, protocol, payload)) = packet(frame, &mut fragments) else { continue };
        match protocol {
            17 => found.push(Datagram { source, at, payload: payload[8..].to_vec() }),
            6 => {
                let header = usize::from(payload[12] >> 4) * 4;
                let stream = streams.entry(source).or_insert((at, Vec::new()));
                stream.1.extend_from_slice(&payload[header..]);
            }
            _ => {}
        }
    }
    let streams = streams.into_iter();
    found.extend(streams.map(|(source, (at, payload))| Datagram { source, at, payload }));
    found
}

/// Source, protocol and what is above it.
fn packet(frame: &[u8], fragments: &mut BTreeMap<u32, Vec<u8>>) -> Option<(IpAddr, u8, Vec<u8>)> {
    let packet = &frame[14..];
    match u16::from_be_bytes([frame[12], frame[13]]) {
        0x0800 => {
            let header = usize::from(packet[0] & 0x0f) * 4;
            let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let source = Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15]);
            Some((IpAddr::V4(source), packet[9], packet[header..length].to_vec()))
        }
        0x86dd => {
            let length = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            let source = Ipv6Addr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap());
            let payload = &packet[40..40 + length];
            if packet[6] != 44 {
                return Some((IpAddr::V6(source), packet[6], payload.to_vec()));
            }
            let identification = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            let whole = fragments.entry(identification).or_default();
            whole.extend_from_slice(&payload[8..]);
            let more = payload[3] & 1 == 1;
            if more { None } else { Some((IpAddr::V6(source), payload[0], std::mem::take(whole))) }
        }
        _ => None,
    }
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}
