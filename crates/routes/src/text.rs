//! The objects in iproute2's words.

use std::fmt;

use ipnet::IpNet;

use crate::{ActualRoute, Address, Declared, Link, Route, RouteKind, RuleKey, Scope, TableId};

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
        self.tables
            .iter()
            .find(|(_, id)| *id == table)
            .map_or_else(|| table.to_string(), |(name, _)| name.clone())
    }
}

impl RouteKind {
    /// The word in iproute2.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unicast => "unicast",
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
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(dev) = &self.dev {
            write!(f, " dev {dev}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        write!(f, " table {}", self.table)?;
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ActualRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind.filter(|kind| *kind != RouteKind::Unicast) {
            write!(f, "{} ", kind.as_str())?;
        }
        f.write_str(&destination(self.to))?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " table {} metric {}", self.table, self.metric)
    }
}

impl RuleKey {
    /// As it is shown, with the tables' names from `declared`.
    pub fn describe(&self, declared: &Declared) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = self.write_with(&mut text, &declared.table_name(self.table));
        text
    }

    fn write_with(&self, f: &mut impl fmt::Write, table: &str) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "from {from}")?,
            None => f.write_str("from all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(fwmark) = self.fwmark {
            write!(f, " fwmark {:#x}", fwmark.value)?;
            if fwmark.mask != u32::MAX {
                write!(f, "/{:#x}", fwmark.mask)?;
            }
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        write!(f, " lookup {table} priority {}", self.priority)
    }
}

impl fmt::Display for RuleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_with(f, &self.table.to_string())
    }
}
