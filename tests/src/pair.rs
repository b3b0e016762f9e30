//! Two routers on one LAN, and an eye on the LAN.

use std::net::Ipv4Addr;

use lockstep_lab::{Interface, Lan, Node};

use crate::frames::Capture;

/// The primary address of [`Pair::ours`].
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 11);
/// The primary address of [`Pair::theirs`].
pub const THEIRS: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 12);
/// The virtual address, with its prefix length.
pub const VIRTUAL: &str = "10.51.0.1/24";
/// The password of both.
pub const PASSWORD: &str = "9YasrrhZ";

/// Two routers, each with one interface `eth0`, and everything they send.
#[derive(Debug)]
pub struct Pair {
    /// The one that runs Lockstep.
    pub ours: Node,
    /// The other one.
    pub theirs: Node,
    /// The advertisements and announcements of both.
    pub capture: Capture,
    /// Where the capture sits.
    _tap: Node,
}

impl Pair {
    /// Makes the routers, with nothing running on them.
    ///
    /// # Panics
    /// When namespaces cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let lan = Lan::new().expect("a LAN (the tests need the right to make network namespaces)");
        let host = |name: &str| Node::new(name).expect("a namespace");
        let (ours, theirs, tap) = (host("ours"), host("theirs"), host("tap"));
        for (node, address) in [(&ours, OURS), (&theirs, THEIRS)] {
            let interface = Interface::new("eth0").address(network(address));
            node.attach(&lan, &interface).expect("an interface");
        }
        tap.attach(&lan, &Interface::new("eth0")).expect("an interface");
        let capture = Capture::start(&tap);
        Self { ours, theirs, capture, _tap: tap }
    }

    /// Whether a router has the virtual address.
    ///
    /// # Panics
    /// When it cannot be asked.
    pub fn has_virtual_address(node: &Node) -> bool {
        let addresses = node.addresses("eth0").expect("its addresses can be read");
        addresses.iter().any(|address| address.to_string() == VIRTUAL)
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

fn network(address: Ipv4Addr) -> ipnet::IpNet {
    format!("{address}/24").parse().expect("an address")
}
