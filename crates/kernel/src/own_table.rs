//! The nftables table `inet lockstep`: what the daemon needs of the packet filter for itself.
//!
//! It leaves the routers' own conversation (VRRP, replication) out of connection tracking, drops
//! what is for virtual addresses that accept nothing, and keeps the links with a virtual MAC
//! address of a backup silent and deaf. While flows are committed it may hold back packets that
//! would begin others. The table belongs to the socket it was made with: nobody
//! else can change or flush it, and however the process ends, nothing of it stays.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::nftables::{
    AddressFamily, Batch, Connection, Element, Expression, Hook, Kind, SetKind, ct_state,
};

/// The table's name; its family is `inet`.
pub const NAME: &str = "lockstep";

/// Interfaces with a virtual MAC address that this router is not master on.
const SILENT: &str = "silent";
/// Virtual addresses that accept nothing.
const REFUSED: [(&str, AddressFamily); 2] =
    [("refused4", AddressFamily::Ipv4), ("refused6", AddressFamily::Ipv6)];

/// Before connection tracking, which is at -200.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_FILTER: i32 = 0;
/// Before anybody's rules, which might refuse a packet with an answer, and after tracking.
const PRIORITY_HOLD: i32 = -199;
const FORWARD: &str = "forward";
const VRRP: u8 = 112;
const AUTHENTICATION_HEADER: u8 = 51;
const UDP: u8 = 17;
const NEIGHBOUR_DISCOVERY: [u8; 2] = [135, 136];
const VRRP_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);

/// What the table is to hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Rules {
    /// Virtual addresses that accept nothing (RFC 9568 §6.1, `Accept_Mode` false): what is for them is
    /// dropped, neighbour discovery and the router's own packets excepted. What is sent *through*
    /// them is forwarded.
    pub refused: BTreeSet<IpAddr>,
    /// Peers that advertise by unicast within an authentication header: it is not tracked.
    pub header_peers: BTreeSet<IpAddr>,
    /// Interfaces and UDP ports of replication: it is not tracked.
    pub replication: BTreeSet<(String, u16)>,
    /// Interfaces with a virtual MAC address.
    pub virtual_links: BTreeSet<String>,
    /// Whether [forwarding is held](OwnTable::hold_forwarding) at times.
    pub holds_forwarding: bool,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Somebody else's table has our name. It is left alone.
    #[error("there is a table inet {NAME} that this process has not made")]
    Taken,
    /// Another process holds the table, an earlier run that is just ending perhaps; or this one
    /// lacks the privilege.
    #[error("another process holds the table inet {NAME}, or this one may not make it")]
    Held,
    /// The kernel has no `nf_tables`, lacks a part of it, or does not let us use it.
    #[error("the kernel does not make the table inet {NAME}")]
    Unavailable(#[source] io::Error),
}

/// The table; it is gone when this is dropped.
#[derive(Debug)]
pub struct OwnTable {
    connection: Connection,
    silent: BTreeSet<String>,
    holds: bool,
}

impl OwnTable {
    /// Makes the table in the namespace of the calling thread. All virtual links are silent.
    pub fn install(rules: &Rules) -> Result<Self, TableError> {
        let mut connection = Connection::open().map_err(TableError::Unavailable)?;
        let (mut batch, silent) = (Batch::new(), rules.virtual_links.clone());
        fill(&mut batch, rules, &silent);
        match connection.commit(batch) {
            Ok(()) => Ok(Self { connection, silent, holds: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(TableError::Taken),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(TableError::Held),
            Err(error) => Err(TableError::Unavailable(error)),
        }
    }

    /// Puts another table in the place of this one, at once: every packet meets the one or the other.
    /// These virtual links of it are silent; forwarding that is held stays held where the rules know
    /// of that.
    ///
    /// # Errors
    /// The kernel's refusal; nothing has changed then.
    pub fn exchange(&mut self, rules: &Rules, silent: &BTreeSet<String>) -> io::Result<()> {
        let holds = self.holds && rules.holds_forwarding;
        let mut batch = Batch::new();
        batch.delete_table(NAME);
        fill(&mut batch, rules, silent);
        if holds {
            hold(&mut batch);
        }
        self.connection.commit(batch)?;
        self.silent.clone_from(silent);
        self.holds = holds;
        Ok(())
    }

    /// Keeps exactly these virtual links silent and deaf: they are no use to a backup, whose
    /// frames would draw the virtual MAC address to the wrong port of a switch, and who must not
    /// forward what a switch floods (RFC 9568 §6.4.2). Takes one system call when anything changes,
    /// none otherwise.
    ///
    /// # Errors
    /// The kernel's refusal; nothing has changed then.
    pub fn keep_silent(&mut self, links: &BTreeSet<String>) -> io::Result<()> {
        let elements = |names: Vec<&String>| -> Vec<Element> {
            names.into_iter().cloned().map(Element::Interface).collect()
        };
        let coming = elements(links.difference(&self.silent).collect());
        let leaving = elements(self.silent.difference(links).collect());
        if coming.is_empty() && leaving.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new();
        batch.remove(NAME, SILENT, &leaving);
        batch.insert(NAME, SILENT, &coming);
        self.connection.commit(batch)?;
        self.silent.clone_from(links);
        Ok(())
    }

    /// Passes on only packets of flows that connection tracking knows, and nothing that is left out
    /// of it; or everything again. What is held is dropped without a word, and leaves no entry: its
    /// sender sends it again. Takes one system call when anything changes, none otherwise.
    ///
    /// # Errors
    /// The kernel's refusal, for one when the [rules](Rules::holds_forwarding) do not say that
    /// forwarding is held at times; nothing has changed then.
    pub fn hold_forwarding(&mut self, hold: bool) -> io::Result<()> {
        if hold == self.holds {
            return Ok(());
        }
        let mut batch = Batch::new();
        if hold {
            self::hold(&mut batch);
        } else {
            batch.clear(NAME, FORWARD);
        }
        self.connection.commit(batch)?;
        self.holds = hold;
        Ok(())
    }
}

fn hold(batch: &mut Batch) {
    let state = Expression::TrackingState;
    batch.rule(NAME, FORWARD, &[state(ct_state::INVALID), Expression::Drop]);
    // One that has an entry is new too as long as nobody has answered.
    let first = [state(ct_state::NEW), Expression::Unconfirmed, Expression::Drop];
    batch.rule(NAME, FORWARD, &first);
}

fn fill(batch: &mut Batch, rules: &Rules, silent: &BTreeSet<String>) {
    batch.owned_table(NAME);
    batch.set(NAME, SILENT, SetKind::Interfaces);
    let links: Vec<_> = silent.iter().cloned().map(Element::Interface).collect();
    batch.insert(NAME, SILENT, &links);
    for (chain, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        batch.chain(NAME, chain, Kind::Filter, hook, PRIORITY_RAW);
        let (silent, peer): (_, fn(IpAddr) -> Expression) = match hook {
            Hook::Prerouting => {
                (Expression::InputInterfaceIn(SILENT.to_owned()), Expression::Source)
            }
            _ => (Expression::OutputInterfaceIn(SILENT.to_owned()), Expression::Destination),
        };
        batch.rule(NAME, chain, &[silent, Expression::Drop]);
        bypass_tracking(batch, chain, hook, peer, rules);
    }
    if rules.holds_forwarding {
        batch.chain(NAME, FORWARD, Kind::Filter, Hook::Forward, PRIORITY_HOLD);
    }
    if !rules.refused.is_empty() {
        refuse(batch, &rules.refused);
    }
}

/// A full table of connections must neither keep advertisements from leaving, nor grow by what the
/// routers say about it.
fn bypass_tracking(
    batch: &mut Batch,
    chain: &str,
    hook: Hook,
    peer: fn(IpAddr) -> Expression,
    rules: &Rules,
) {
    let mut notrack = |mut rule: Vec<Expression>| {
        rule.push(Expression::Notrack);
        batch.rule(NAME, chain, &rule);
    };
    notrack(vec![Expression::Protocol(VRRP)]);
    // Others may use authentication headers too: only the group's and the peers' are VRRP.
    let header = Expression::Protocol(AUTHENTICATION_HEADER);
    notrack(vec![Expression::Destination(VRRP_GROUP.into()), header.clone()]);
    for address in &rules.header_peers {
        notrack(vec![peer(*address), header.clone()]);
    }
    for (interface, port) in &rules.replication {
        let interface = match hook {
            Hook::Prerouting => Expression::InputInterface(interface.clone()),
            _ => Expression::OutputInterface(interface.clone()),
        };
        for port in [Expression::DestinationPort(*port), Expression::SourcePort(*port)] {
            notrack(vec![interface.clone(), Expression::Protocol(UDP), port]);
        }
    }
}

fn refuse(batch: &mut Batch, refused: &BTreeSet<IpAddr>) {
    const CHAIN: &str = "input";
    batch.chain(NAME, CHAIN, Kind::Filter, Hook::Input, PRIORITY_FILTER);
    batch.rule(NAME, CHAIN, &[Expression::InputInterface("lo".to_owned()), Expression::Accept]);
    for kind in NEIGHBOUR_DISCOVERY {
        batch.rule(NAME, CHAIN, &[Expression::Icmpv6(kind), Expression::Accept]);
    }
    for (set, family) in REFUSED {
        let addresses: Vec<_> = refused
            .iter()
            .filter(|address| AddressFamily::of(**address) == family)
            .map(|address| Element::Address(*address))
            .collect();
        batch.set(NAME, set, SetKind::Addresses(family));
        batch.insert(NAME, set, &addresses);
        let is_refused = Expression::DestinationIn(set.to_owned(), family);
        batch.rule(NAME, CHAIN, &[is_refused, Expression::Drop]);
    }
}
