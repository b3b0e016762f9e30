//! The machine: settings that hold for all of it, and what its kernel tells of a node.

use std::fs;

use lockstep_lab::Node;

use crate::raised::Raised;

/// Room for so many flows on each of two routers, which share the machine's hash table, and as
/// many buckets as flows.
pub(crate) fn room_for(flows: usize) -> [Raised; 2] {
    Raised::for_flows(4 * flows, 2 * flows)
}

/// What has left a node through an interface.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    bytes: u64,
    packets: u64,
}

impl Sent {
    pub(crate) fn through(node: &Node, interface: &str) -> Self {
        let table = read(node, "/proc/thread-self/net/dev");
        let line = table.lines().find_map(|line| line.trim().strip_prefix(interface)).unwrap();
        let fields: Vec<u64> =
            line.trim_start_matches(':').split_whitespace().map(|it| it.parse().unwrap()).collect();
        Self { bytes: fields[8], packets: fields[9] }
    }

    /// Bytes of payload that have left since `before`.
    pub(crate) fn payload_since(self, before: Self) -> u64 {
        /// Ethernet, IPv4 and UDP.
        const HEADERS: u64 = 14 + 20 + 8;
        self.bytes - before.bytes - HEADERS * (self.packets - before.packets)
    }
}

/// How often a listener to a node's connection tracking events has lost some.
pub(crate) fn lost_events(node: &Node) -> u64 {
    each_listener(node).iter().sum()
}

/// How many listen to a node's connection tracking events.
pub(crate) fn listeners(node: &Node) -> usize {
    each_listener(node).len()
}

fn each_listener(node: &Node) -> Vec<u64> {
    const NETLINK_NETFILTER: &str = "12";
    let table = read(node, "/proc/thread-self/net/netlink");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listeners = rows.filter(|row| {
        let groups = u32::from_str_radix(row[3], 16).unwrap();
        row[1] == NETLINK_NETFILTER && groups & 0b111 != 0
    });
    listeners.map(|row| row[8].parse().unwrap()).collect()
}

fn read(node: &Node, path: &str) -> String {
    node.run(|| fs::read_to_string(path)).unwrap().unwrap()
}
