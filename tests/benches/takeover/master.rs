//! A master that speaks and falls silent when it is told to.

use std::thread;

use lockstep_lab::Node;
use lockstep_tests::inject::VrrpSender;

use crate::{INTERVAL, MASTER, VIRTUAL, VRID};

/// Higher than the router's.
const PRIORITY: u8 = 200;
const TTL: u32 = 255;

/// Advertises in VRRP version 3; on the wire nobody can tell it from a router.
pub(crate) struct Master {
    sender: VrrpSender,
    advertisement: Vec<u8>,
}

impl Master {
    pub(crate) fn new(node: &Node) -> Self {
        Self { sender: VrrpSender::new(node, MASTER), advertisement: advertisement() }
    }

    /// Sends one advertisement and lets an interval pass.
    pub(crate) fn advertise(&self) {
        self.sender.send(&self.advertisement, TTL);
        thread::sleep(INTERVAL);
    }
}

/// RFC 9568 §5.1 and §5.2, by hand like everything the tests compare with.
fn advertisement() -> Vec<u8> {
    let centiseconds = u8::try_from(INTERVAL.as_millis() / 10).unwrap();
    let mut bytes = vec![0x31, VRID, PRIORITY, 1, 0, centiseconds, 0, 0];
    bytes.extend(VIRTUAL.octets());
    let sum = checksum(&bytes);
    bytes[6..8].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// Over the pseudo-header too (RFC 9568 §5.2.8).
fn checksum(message: &[u8]) -> u16 {
    const GROUP: [u8; 4] = [224, 0, 0, 18];
    const PROTOCOL: u8 = 112;
    let mut summed = [MASTER.octets(), GROUP].concat();
    summed.extend([0, PROTOCOL, 0, u8::try_from(message.len()).unwrap()]);
    summed.extend(message);
    let words = summed.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
