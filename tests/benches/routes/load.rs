//! The routes that everybody is given.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use lockstep_routes::{Condition, Declared, NextHop, PROTOCOL_LOCKSTEP, Route, RouteKind, TableId};

/// The interface and the two next hops on it.
pub(crate) const DEV: &str = "eth0";
pub(crate) const ADDRESS: &str = "172.31.0.1/24";
pub(crate) const HOPS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 31, 0, 2), Ipv4Addr::new(172, 31, 0, 3)];

/// So many routes in so many tables.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) routes: usize,
    pub(crate) tables: usize,
}

/// What is to be done with them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Deed {
    Install,
    Verify,
    Replace,
    Remove,
}

impl Deed {
    pub(crate) const ALL: [Self; 4] = [Self::Install, Self::Verify, Self::Replace, Self::Remove];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Verify => "verify",
            Self::Replace => "replace",
            Self::Remove => "remove",
        }
    }
}

impl Load {
    /// Destination and table of each.
    fn places(self) -> impl Iterator<Item = (Ipv4Net, u32)> {
        (0..self.routes).map(move |number| {
            let network = 0x0a00_0000 + (number as u32) * 16;
            let to = Ipv4Net::new_assert(Ipv4Addr::from(network), 28);
            (to, 1_000 + (number % self.tables) as u32)
        })
    }

    pub(crate) fn numbers_of_tables(self) -> impl Iterator<Item = u32> {
        (0..self.tables as u32).map(|table| 1_000 + table)
    }

    /// What is declared, by way of one of the next hops; nothing at all without one.
    pub(crate) fn declared(self, hop: Option<Ipv4Addr>) -> Declared {
        let routes = hop.into_iter().flat_map(|hop| {
            self.places().map(move |(to, table)| {
                Arc::new(Route {
                    kind: RouteKind::Unicast,
                    to: IpNet::V4(to),
                    next_hops: vec![NextHop {
                        via: Some(IpAddr::V4(hop)),
                        dev: Some(DEV.to_owned()),
                        weight: 1,
                        onlink: false,
                    }],
                    source: None,
                    table: TableId(table),
                    metric: None,
                    mtu: None,
                    scope: None,
                    protocol: PROTOCOL_LOCKSTEP,
                    condition: Condition::ALWAYS,
                })
            })
        });
        Declared { routes: routes.collect(), ..Declared::default() }
    }

    /// The same as a file for `ip -batch`.
    pub(crate) fn batch(self, deed: Deed) -> String {
        let mut text = String::new();
        match deed {
            Deed::Verify => {
                for table in self.numbers_of_tables() {
                    let _ = writeln!(text, "route show table {table}");
                }
            }
            Deed::Install | Deed::Replace | Deed::Remove => {
                let (verb, hop) = match deed {
                    Deed::Install => ("add", HOPS[0]),
                    Deed::Replace => ("replace", HOPS[1]),
                    _ => ("del", HOPS[1]),
                };
                for (to, table) in self.places() {
                    let _ = writeln!(text, "route {verb} {to} via {hop} dev {DEV} table {table}");
                }
            }
        }
        text
    }

    /// As a configuration of the daemon.
    pub(crate) fn config(self) -> String {
        let mut text = String::from("[router]\nid = \"router\"\n");
        for (to, table) in self.places() {
            let _ = write!(
                text,
                "[[route]]\nto = \"{to}\"\nvia = \"{}\"\ndev = \"{DEV}\"\ntable = {table}\n",
                HOPS[0]
            );
        }
        text
    }
}
