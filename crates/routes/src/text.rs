//! The objects in iproute2's words.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    Actual, ActualRoute, Address, Declared, Link, PortRange, Route, RouteKind, RuleAction, RuleKey,
    Scope, TableId,
};

/// The name of a routing protocol number as iproute2 ships it, or the number.
pub fn protocol_name(protocol: u8) -> String {
    let name = match protocol {
        0 => "unspec",
        1 => "redirect",
        2 => "kernel",
        3 => "boot",
        4 => "static",
        8 => "gated",
        9 => "ra",
        10 => "mrt",
        11 => "zebra",
        12 => "bird",
        13 => "dnrouted",
        14 => "xorp",
        15 => "ntk",
        16 => "dhcp",
        18 => "keepalived",
        42 => "babel",
        99 => "openr",
        crate::PROTOCOL_LOCKSTEP => "lockstep",
        186 => "bgp",
        187 => "isis",
        188 => "ospf",
        189 => "rip",
        192 => "eigrp",
        other => return other.to_string(),
    };
    name.to_owned()
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MAIN => f.write_str("main"),
            Self::LOCAL => f.write_str("local"),
            Self(253) => f.write_str("default"),
            Self(number) => number.fmt(f),
        }
    }
}

impl Declared {
    /// The table's declared name, or the one everybody knows, or its number.
    pub fn table_name(&self, table: TableId) -> String {
        self.tables.name(table).map_or_else(|| table.to_string(), str::to_owned)
    }
}

impl RouteKind {
    /// The word in iproute2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
            Self::Local => "local",
            Self::Throw => "throw",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        }
    }
}

impl Scope {
    /// The word in iproute2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Link => "link",
            Self::Host => "host",
        }
    }
}

/// `default` for the zero prefix.
pub(crate) fn destination(to: IpNet) -> String {
    if to.prefix_len() == 0 { "default".to_owned() } else { to.to_string() }
}

impl Route {
    /// The destination in iproute2's words: a prefix or `default`.
    pub fn destination(&self) -> String {
        destination(self.to)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.interface)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if let Some(broadcast) = self.broadcast {
            write!(f, " brd {broadcast}")?;
        }
        write!(f, " dev {}", self.interface)?;
        if let Some(label) = &self.label {
            write!(f, " label {label}")?;
        }
        if self.scope != Scope::Global {
            write!(f, " scope {}", self.scope.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind != RouteKind::Unicast {
            write!(f, "{} ", self.kind.as_str())?;
        }
        f.write_str(&self.destination())?;
        let several = self.next_hops.len() > 1;
        for hop in &self.next_hops {
            let dev = hop.dev.as_deref();
            write_next_hop(f, several.then_some(hop.weight), self.to, hop.via, dev)?;
            if hop.onlink {
                f.write_str(" onlink")?;
            }
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " table {}", self.table)?;
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

/// A next hop among several when it has a weight.
pub(crate) fn write_next_hop(
    f: &mut impl fmt::Write,
    weight: Option<u16>,
    to: IpNet,
    via: Option<IpAddr>,
    dev: Option<&str>,
) -> fmt::Result {
    if weight.is_some() {
        f.write_str(" nexthop")?;
    }
    match via {
        Some(via) if via.is_ipv6() && to.addr().is_ipv4() => write!(f, " via inet6 {via}")?,
        Some(via) => write!(f, " via {via}")?,
        None => {}
    }
    if let Some(dev) = dev {
        write!(f, " dev {dev}")?;
    }
    if let Some(weight) = weight {
        write!(f, " weight {weight}")?;
    }
    Ok(())
}

impl ActualRoute {
    /// As it is shown, with the names of links from `actual` and of tables from `declared`.
    pub fn describe(&self, actual: &Actual, declared: &Declared) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = self.write_with(
            &mut text,
            |index| actual.links.get(&index).map(|link| link.name.clone()),
            |table| declared.table_name(table),
        );
        text
    }

    fn write_with(
        &self,
        f: &mut impl fmt::Write,
        link_name: impl Fn(u32) -> Option<String>,
        table_name: impl Fn(TableId) -> String,
    ) -> fmt::Result {
        if let Some(kind) = self.kind.filter(|kind| *kind != RouteKind::Unicast) {
            write!(f, "{} ", kind.as_str())?;
        }
        f.write_str(&destination(self.to))?;
        let several = self.next_hops.len() > 1;
        for hop in &self.next_hops {
            let known = hop.dev.and_then(&link_name);
            // A number says little beside the next router.
            let number = || hop.dev.filter(|_| hop.via.is_none()).map(|dev| format!("#{dev}"));
            let dev = known.or_else(number);
            write_next_hop(f, several.then_some(hop.weight), self.to, hop.via, dev.as_deref())?;
        }
        write!(f, " table {}", table_name(self.table))?;
        if self.metric != 0 {
            write!(f, " metric {}", self.metric)?;
        }
        Ok(())
    }
}

impl fmt::Display for ActualRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with(f, |_| None, |table| table.to_string())
    }
}

impl PortRange {
    /// Every packet of one port.
    pub fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl RuleKey {
    /// As it is shown, with the tables' names from `declared`.
    pub fn describe(&self, declared: &Declared) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = self.write_with(&mut text, |table| declared.table_name(table));
        text
    }

    /// The table that it looks up, if it does.
    pub fn table(&self) -> Option<TableId> {
        match self.action {
            RuleAction::Lookup(table) => Some(table),
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => None,
        }
    }

    fn write_with(
        &self,
        f: &mut impl fmt::Write,
        table_name: impl Fn(TableId) -> String,
    ) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if self.tos != 0 {
            write!(f, " tos {:#04x}", self.tos)?;
        }
        if let Some(fwmark) = self.fwmark {
            write!(f, " fwmark {:#x}", fwmark.value)?;
            if fwmark.mask != u32::MAX {
                write!(f, "/{:#x}", fwmark.mask)?;
            }
        }
        for (word, interface) in [("iif", &self.iif), ("oif", &self.oif)] {
            if let Some(interface) = interface {
                write!(f, " {word} {interface}")?;
            }
        }
        if let Some(protocol) = self.ip_protocol {
            write!(f, " ipproto {protocol}")?;
        }
        for (word, ports) in [("sport", self.source_port), ("dport", self.destination_port)] {
            if let Some(ports) = ports {
                write!(f, " {word} {ports}")?;
            }
        }
        match self.action {
            RuleAction::Lookup(table) => write!(f, " lookup {}", table_name(table))?,
            RuleAction::Blackhole => f.write_str(" blackhole")?,
            RuleAction::Unreachable => f.write_str(" unreachable")?,
            RuleAction::Prohibit => f.write_str(" prohibit")?,
        }
        if let Some(length) = self.suppress_prefix_length {
            write!(f, " suppress_prefixlength {length}")?;
        }
        write!(f, " priority {}", self.priority)
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with(f, |table| table.to_string())
    }
}
