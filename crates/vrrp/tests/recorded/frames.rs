//! Reading the recorded packets.

use std::time::Duration;

use lockstep_vrrp::{Datagram, Endpoints, PROTOCOL, PROTOCOL_AH};

/// A recorded Ethernet frame and when it was seen.
pub(crate) struct Frame {
    /// Since the epoch.
    pub(crate) at: Duration,
    /// From the Ethernet header on.
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    /// The IP packet (or whatever else) in it.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.bytes[14..]
    }

    /// Its `EtherType`.
    pub(crate) fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.bytes[12], self.bytes[13]])
    }
}

/// The frames of a capture in the classic little-endian microsecond format.
pub(crate) fn frames(pcap: &[u8]) -> Vec<Frame> {
    assert_eq!(word(pcap, 0), 0xa1b2_c3d4, "a little-endian capture");
    let mut rest = &pcap[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let at = Duration::new(word(rest, 0).into(), word(rest, 4) * 1000);
        let length = word(rest, 8) as usize;
        frames.push(Frame { at, bytes: rest[16..16 + length].to_vec() });
        rest = &rest[16 + length..];
    }
    frames
}

/// The advertisement in a frame, if there is one.
pub(crate) fn datagram(frame: &Frame) -> Option<Datagram> {
    let payload = frame.payload();
    match frame.ethertype() {
        0x0800 if [PROTOCOL, PROTOCOL_AH].contains(&payload[9]) => {
            Datagram::from_ipv4(payload, frame.at).ok()
        }
        0x86dd if payload[6] == PROTOCOL => Some(Datagram {
            endpoints: Endpoints::Ipv6 {
                source: <[u8; 16]>::try_from(&payload[8..24]).unwrap().into(),
                destination: <[u8; 16]>::try_from(&payload[24..40]).unwrap().into(),
            },
            ttl: payload[7],
            identification: 0,
            protocol: PROTOCOL,
            payload: payload[40..].to_vec(),
            received: frame.at,
        }),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}
