//! What a router of the lab does to packets: NAT, a filter, and, for tests, loss.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;

use crate::Node;
use crate::nftables::{Batch, Expression, Hook, Kind, ct_state};

/// How a router treats packets that meet no connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Firewall {
    /// As a careful administrator sets it up: what belongs to no known connection is dropped, nothing
    /// new comes in from outside, and a connection whose beginning was not seen is not picked up
    /// (`nf_conntrack_tcp_loose=0`). A connection that the router does not know stalls.
    Strict,
    /// NAT alone, all else as the kernel has it: an answer that meets no connection is taken for the
    /// router's own and reset.
    Default,
}

/// Source NAT of a router.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Nat {
    /// The network behind the router.
    pub inside: Ipv4Net,
    /// The interface to the outside.
    pub interface: String,
    /// What the outside sees: an address that moves with the mastership. (A router's own address
    /// would die with it, and its connections too.)
    pub address: Ipv4Addr,
}

/// Packets that a rule of [`lose`] looks at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Selector {
    /// All that arrive at the interface.
    Everything,
    /// UDP datagrams to this port.
    UdpPort(u16),
    /// An IP protocol, for example 112 for VRRP.
    Protocol(u8),
}

impl Firewall {
    /// Turns `node` into a router with NAT and this filter, in place of what was installed before.
    pub fn install(self, node: &Node, nat: &Nat) -> Result<()> {
        node.set("net/ipv4/ip_forward", "1")?;
        // Answers may come in by another interface than the route back uses.
        for which in ["all", "default"] {
            node.set(&format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
        }
        let mut batch = Batch::new();
        batch.table(TABLE);
        batch.delete_table(TABLE);
        batch.table(TABLE);
        batch.chain(TABLE, "postrouting", Kind::Nat, Hook::Postrouting, PRIORITY_SOURCE_NAT);
        batch.rule(
            TABLE,
            "postrouting",
            &[
                Expression::Ipv4,
                Expression::OutputInterface(nat.interface.clone()),
                Expression::Ipv4Source(nat.inside),
                Expression::SourceNat(nat.address),
            ],
        );
        if self == Self::Strict {
            filter(&mut batch, &nat.interface);
        }
        commit(node, batch)?;
        // The settings of connection tracking exist once a rule needs it.
        let loose = if self == Self::Strict { "0" } else { "1" };
        node.set("net/netfilter/nf_conntrack_tcp_loose", loose)?;
        // Flows born before anybody listens must be told later, too.
        node.set("net/netfilter/nf_conntrack_events", "1")
    }
}

/// Leaves the routers' own conversation out of connection tracking: VRRP, IGMP and replication on
/// `replication_port` (UDP). Otherwise each replicated event makes an event of its own.
pub fn bypass_tracking(node: &Node, replication_port: u16) -> Result<()> {
    let mut batch = Batch::new();
    batch.table(BYPASS_TABLE);
    batch.delete_table(BYPASS_TABLE);
    batch.table(BYPASS_TABLE);
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.chain(BYPASS_TABLE, chain, Kind::Filter, hook, PRIORITY_RAW);
        for protocol in [VRRP, IGMP] {
            batch.rule(BYPASS_TABLE, chain, &[Expression::Protocol(protocol), Expression::Notrack]);
        }
        for port in [
            Expression::DestinationPort(replication_port),
            Expression::SourcePort(replication_port),
        ] {
            batch.rule(
                BYPASS_TABLE,
                chain,
                &[Expression::Protocol(UDP), port, Expression::Notrack],
            );
        }
    }
    commit(node, batch)
}

/// Loses this share of the packets that arrive at an interface, in thousandths and by chance; 1000
/// loses all. Packet sockets (a capture) still see them, everybody else does not. May be called
/// several times; the rules add up.
pub fn lose(node: &Node, interface: &str, what: Selector, thousandths: u32) -> Result<()> {
    let mut batch = Batch::new();
    batch.table(LOSS_TABLE);
    batch.chain(LOSS_TABLE, "arriving", Kind::Filter, Hook::Prerouting, PRIORITY_LOSS);
    let mut rule = vec![Expression::InputInterface(interface.to_owned())];
    match what {
        Selector::Everything => {}
        Selector::UdpPort(port) => {
            rule.extend([Expression::Protocol(UDP), Expression::DestinationPort(port)]);
        }
        Selector::Protocol(number) => rule.push(Expression::Protocol(number)),
    }
    rule.extend([Expression::Chance(thousandths.min(1000)), Expression::Drop]);
    batch.rule(LOSS_TABLE, "arriving", &rule);
    commit(node, batch)
}

/// Ends what [`lose`] began.
pub fn lose_nothing(node: &Node) -> Result<()> {
    let mut batch = Batch::new();
    batch.table(LOSS_TABLE);
    batch.delete_table(LOSS_TABLE);
    commit(node, batch)
}

fn filter(batch: &mut Batch, outside: &str) {
    let known = ct_state::ESTABLISHED | ct_state::RELATED | ct_state::UNTRACKED;
    for (chain, hook) in [("forward", Hook::Forward), ("input", Hook::Input)] {
        batch.chain(TABLE, chain, Kind::Filter, hook, PRIORITY_FILTER);
        let rules = [
            [Expression::TrackingState(ct_state::INVALID), Expression::Drop],
            [Expression::TrackingState(known), Expression::Accept],
            [Expression::InputInterface(outside.to_owned()), Expression::Drop],
        ];
        for rule in rules {
            batch.rule(TABLE, chain, &rule);
        }
    }
}

fn commit(node: &Node, batch: Batch) -> Result<()> {
    node.run(|| batch.commit())?
        .with_context(|| format!("failed to install the firewall of {}", node.name()))
}

const TABLE: &str = "lockstep_lab";
const BYPASS_TABLE: &str = "lockstep_lab_bypass";
const LOSS_TABLE: &str = "lockstep_lab_loss";

const PRIORITY_LOSS: i32 = -400;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

const IGMP: u8 = 2;
const UDP: u8 = 17;
const VRRP: u8 = 112;
