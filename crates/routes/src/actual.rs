//! What the kernel has, as dumped.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Change, RouteKey, RouteKind, Rule, RuleKey, Scope, TableId};

/// `RT_SCOPE_LINK`: on this link.
const SCOPE_LINK: u8 = 253;

/// The state of the network namespace, as far as it concerns us.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Actual {
    /// Every link by its index.
    pub links: BTreeMap<u32, ActualLink>,
    /// Every address, in the kernel's order.
    pub addresses: Vec<ActualAddress>,
    /// The routes an [`crate::Interest`] asked for.
    pub routes: Vec<ActualRoute>,
    /// Every rule, in the kernel's order.
    pub rules: Vec<ActualRule>,
}

/// A link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualLink {
    /// The kernel's number of it; a link made anew under the same name has another one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Carrier present (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// MTU in bytes.
    pub mtu: u32,
    /// Its Ethernet address; zero when it has none.
    pub mac: [u8; 6],
}

/// An address on a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualAddress {
    /// The link.
    pub index: u32,
    /// The address and its prefix length, host bits kept.
    pub address: IpNet,
    /// Who made it (`IFA_PROTO`); 0 when nobody said, or before Linux 5.18.
    pub protocol: u8,
    /// An IPv4 address under an earlier one of the same network, removed together with it.
    pub secondary: bool,
    /// An IPv6 address that is not usable yet or at all: duplicate detection runs or has failed.
    pub tentative: bool,
}

/// A route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualRoute {
    /// Its table.
    pub table: TableId,
    /// Its type, or `None` for one that cannot be declared (local, broadcast, multicast, …).
    pub kind: Option<RouteKind>,
    /// The destination.
    pub to: IpNet,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The outgoing link.
    pub dev: Option<u32>,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The metric; 0 when there is none.
    pub metric: u32,
    /// The scope's number (`/etc/iproute2/rt_scopes`).
    pub scope: u8,
    /// Who made it.
    pub protocol: u8,
    /// It has what cannot be declared: several next hops, a type of service, an encapsulation.
    pub special: bool,
}

/// A rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualRule {
    /// Its place, selectors and table.
    pub key: RuleKey,
    /// Who made it.
    pub protocol: u8,
    /// It has a selector or action that cannot be declared.
    pub special: bool,
}

impl Actual {
    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&ActualLink> {
        self.links.values().find(|link| link.name == name)
    }

    /// Whether the link of that index is there and administratively up.
    pub fn is_up(&self, index: u32) -> bool {
        self.links.get(&index).is_some_and(|link| link.up)
    }

    /// The link's name, or `#INDEX` when it is gone.
    pub fn link_name(&self, index: u32) -> String {
        self.links.get(&index).map_or_else(|| format!("#{index}"), |link| link.name.clone())
    }

    /// Notes a change the kernel has acknowledged, with what it silently brings along: the
    /// connected routes that come with a link or an address, and what is lost with them. A dump
    /// stays the truth; this only spares one between two changes.
    pub fn record(&mut self, change: &Change) {
        match change {
            Change::SetLink { index, up, .. } => self.record_link(*index, *up),
            Change::AddAddress { index, address } => {
                let added = ActualAddress {
                    index: *index,
                    address: address.address,
                    protocol: crate::PROTOCOL_LOCKSTEP,
                    secondary: false,
                    tentative: false,
                };
                self.connect(&added);
                self.addresses.push(added);
            }
            Change::RemoveAddress { index, address, .. } => self.record_removal(*index, *address),
            Change::AddRoute { route, dev } | Change::ReplaceRoute { route, dev } => {
                let key = route.key();
                self.routes.retain(|present| present.key() != key);
                self.routes.push(self.as_installed(route, *dev));
            }
            Change::RemoveRoute { route } => self.routes.retain(|present| present != route),
            Change::AddRule { rule } => self.rules.push(ActualRule {
                key: rule.key(),
                protocol: rule.protocol,
                special: false,
            }),
            Change::RemoveRule { rule } => self.rules.retain(|present| present != rule),
        }
    }

    fn record_link(&mut self, index: u32, up: bool) {
        if let Some(link) = self.links.get_mut(&index) {
            link.up = up;
            link.carrier &= up;
        }
        if up {
            let there: Vec<_> =
                self.addresses.iter().filter(|address| address.index == index).cloned().collect();
            for address in &there {
                self.connect(address);
            }
        } else {
            self.addresses.retain(|there| there.index != index || there.address.addr().is_ipv4());
            self.routes.retain(|route| route.dev != Some(index));
        }
    }

    fn record_removal(&mut self, index: u32, address: IpNet) {
        self.addresses.retain(|there| (there.index, there.address) != (index, address));
        let network = address.trunc();
        let kept = self
            .addresses
            .iter()
            .any(|there| there.index == index && there.address.trunc() == network);
        if !kept {
            self.routes.retain(|route| {
                let through = route.dev == Some(index);
                let connected = route.is_connected() && route.to == network;
                let beyond = route.via.is_some_and(|via| network.contains(&via));
                !(through && (connected || beyond))
            });
        }
    }

    fn connect(&mut self, address: &ActualAddress) {
        let to = address.address.trunc();
        let host_only = to.prefix_len() == to.max_prefix_len() && to.addr().is_ipv4();
        let there = self.routes.iter().any(|route| {
            route.is_connected() && route.dev == Some(address.index) && route.to == to
        });
        if host_only || there || !self.is_up(address.index) {
            return;
        }
        self.routes.push(ActualRoute {
            table: TableId::MAIN,
            kind: Some(RouteKind::Unicast),
            to,
            via: None,
            dev: Some(address.index),
            source: None,
            metric: if to.addr().is_ipv6() { 256 } else { 0 },
            scope: if to.addr().is_ipv6() { 0 } else { SCOPE_LINK },
            protocol: 2,
            special: false,
        });
    }

    fn as_installed(&self, route: &crate::Route, dev: Option<u32>) -> ActualRoute {
        let unicast = route.kind == RouteKind::Unicast;
        let egress = dev.or_else(|| crate::reach::egress(route, self));
        ActualRoute {
            table: route.table,
            kind: Some(route.kind),
            to: route.to.trunc(),
            via: route.via.filter(|_| unicast),
            dev: egress.filter(|_| unicast),
            source: route.source.filter(|_| unicast),
            metric: route.key().metric,
            scope: route.scope_number(),
            protocol: route.protocol,
            special: false,
        }
    }
}

impl ActualRoute {
    /// What makes two routes the same to the kernel.
    pub fn key(&self) -> RouteKey {
        RouteKey { table: self.table, to: self.to, metric: self.metric }
    }

    /// Whether it says that its destination is on a link, so that a next hop may be looked for
    /// there.
    pub fn is_connected(&self) -> bool {
        self.kind == Some(RouteKind::Unicast)
            && self.via.is_none()
            && self.dev.is_some()
            && !self.special
            && (self.to.addr().is_ipv6() || self.scope >= SCOPE_LINK)
    }

    /// Whether it does what `route` says, whoever made it.
    pub fn matches(&self, route: &crate::Route, dev: Option<u32>) -> bool {
        if self.special || self.key() != route.key() || self.kind != Some(route.kind) {
            return false;
        }
        if route.kind != RouteKind::Unicast {
            return true;
        }
        self.via == route.via
            && (route.dev.is_none() || self.dev == dev)
            && (route.source.is_none() || self.source == route.source)
            && (route.scope.is_none()
                || self.to.addr().is_ipv6()
                || self.scope == route.scope_number())
    }
}

impl crate::Route {
    /// What makes two routes the same to the kernel. A metric that is not given is 0 for IPv4 and
    /// 1024 for IPv6, as the kernel fills it in.
    pub fn key(&self) -> RouteKey {
        let metric = match (self.metric.unwrap_or(0), self.to) {
            (0, IpNet::V6(_)) => 1024,
            (metric, _) => metric,
        };
        RouteKey { table: self.table, to: self.to.trunc(), metric }
    }

    /// The scope's number: the declared one, or what follows from type and next hop.
    pub fn scope_number(&self) -> u8 {
        match (self.scope, self.to) {
            (_, IpNet::V6(_)) | (Some(Scope::Global), _) => 0,
            (Some(Scope::Link), _) => SCOPE_LINK,
            (Some(Scope::Host), _) => 254,
            (None, _) if self.kind == RouteKind::Unicast && self.via.is_none() => SCOPE_LINK,
            (None, _) => 0,
        }
    }
}

impl Rule {
    /// What makes two rules the same. A zero prefix selects nothing and is left out, and bits of
    /// the mark outside its mask do not count.
    pub fn key(&self) -> RuleKey {
        let prefix =
            |net: Option<IpNet>| net.map(|net| net.trunc()).filter(|net| net.prefix_len() > 0);
        RuleKey {
            ipv6: self.ipv6,
            priority: self.priority,
            from: prefix(self.from),
            to: prefix(self.to),
            fwmark: self.fwmark,
            iif: self.iif.clone(),
            oif: self.oif.clone(),
            table: self.table,
        }
    }
}
