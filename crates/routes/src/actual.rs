//! What the kernel has, as dumped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::{Change, NextHop, NextHops, RouteKey, RouteKind, Rule, RuleKey, Scope, TableId};

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
    /// What it is, if it is a macvlan.
    pub macvlan: Option<Macvlan>,
    /// What people see beside its name (`ip link`, `IFLA_IFALIAS`); empty when there is nothing.
    pub alias: String,
}

/// What makes a link a macvlan.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Macvlan {
    /// The index of the link below.
    pub parent: u32,
    /// Whether it is in bridge mode.
    pub bridge: bool,
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
    /// The broadcast address of an IPv4 address.
    pub broadcast: Option<Ipv4Addr>,
    /// The label of an IPv4 address; `None` when there is none or it is not known. One that nobody
    /// has labelled bears its link's name.
    pub label: Option<String>,
    /// The scope's number (`/etc/iproute2/rt_scopes`).
    pub scope: u8,
    /// An IPv4 address under an earlier one of the same network, removed together with it.
    pub secondary: bool,
    /// An IPv6 address that is not usable yet or at all: duplicate detection runs or has failed.
    pub tentative: bool,
    /// One of those for which duplicate detection has failed.
    pub duplicate: bool,
}

/// One of a route's next hops.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualNextHop {
    /// The next router.
    pub via: Option<IpAddr>,
    /// The outgoing link.
    pub dev: Option<u32>,
    /// Its share among several, 1 to 256; 1 when it is alone.
    pub weight: u16,
    /// The next router is taken to be on the link.
    pub onlink: bool,
}

/// A route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ActualRoute {
    /// Its table.
    pub table: TableId,
    /// Its type, or `None` for one that cannot be declared (broadcast, multicast, …).
    pub kind: Option<RouteKind>,
    /// The destination.
    pub to: IpNet,
    /// Where it leads; empty for a type that leads nowhere.
    pub next_hops: NextHops,
    /// The preferred source address.
    pub source: Option<IpAddr>,
    /// The metric; 0 when there is none.
    pub metric: u32,
    /// Largest packet in bytes, when the route says one.
    pub mtu: Option<u32>,
    /// The scope's number (`/etc/iproute2/rt_scopes`).
    pub scope: u8,
    /// Who made it.
    pub protocol: u8,
    /// It has what cannot be declared: a type of service, an encapsulation, a next hop object.
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

    /// Notes changes the kernel has acknowledged, in their order, with what it silently brings
    /// along: the connected routes that come with a link or an address, and what is lost with them.
    /// A dump stays the truth; this only spares one between two changes.
    pub fn record_all<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        // Thousands of addresses come and go together: each run of them is one pass.
        let mut added = Vec::new();
        let mut removed = BTreeSet::new();
        for change in changes {
            if !matches!(change, Change::AddAddress { .. }) {
                self.record_added(&mut added);
            }
            if !matches!(change, Change::RemoveAddress { .. }) {
                self.record_removed(&mut removed);
            }
            match change {
                Change::AddAddress { index, address, metric } => {
                    added.push((*index, address.address, *metric));
                }
                Change::RemoveAddress { index, address, .. } => {
                    removed.insert((*index, *address));
                }
                other => self.record_one(other),
            }
        }
        self.record_added(&mut added);
        self.record_removed(&mut removed);
    }

    /// [`Actual::record_all`] for one change.
    pub fn record(&mut self, change: &Change) {
        self.record_all([change]);
    }

    fn record_one(&mut self, change: &Change) {
        match change {
            // Which number the kernel has given it, only a dump tells.
            Change::AddVirtualLink { .. } => {}
            Change::RemoveLink { index, .. } => {
                self.links.remove(index);
                self.addresses.retain(|there| there.index != *index);
                self.routes.retain(|route| !route.goes_out_by(*index));
            }
            Change::SetLink { index, up, .. } => self.record_link(*index, *up),
            Change::AddAddress { .. } | Change::RemoveAddress { .. } => {}
            Change::AddRoute { route, devs } | Change::ReplaceRoute { route, devs } => {
                let key = route.key();
                self.routes.retain(|present| present.key() != key);
                self.routes.push(self.as_installed(route, devs));
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
            let there: Vec<_> = self
                .addresses
                .iter()
                .filter(|address| address.index == index)
                .map(|address| (index, address.address, None))
                .collect();
            self.connect(there);
        } else {
            self.addresses.retain(|there| there.index != index || there.address.addr().is_ipv4());
            self.routes.retain(|route| !route.goes_out_by(index));
        }
    }

    fn record_added(&mut self, added: &mut Vec<(u32, IpNet, Option<u32>)>) {
        let added = std::mem::take(added);
        self.addresses.extend(added.iter().map(|&(index, address, _)| ActualAddress {
            index,
            address,
            protocol: crate::PROTOCOL_LOCKSTEP,
            broadcast: None,
            label: None,
            scope: 0,
            secondary: false,
            tentative: false,
            duplicate: false,
        }));
        self.connect(added);
    }

    /// The networks of which no address is left go, and what is beyond them.
    fn record_removed(&mut self, removed: &mut BTreeSet<(u32, IpNet)>) {
        if removed.is_empty() {
            return;
        }
        self.addresses.retain(|there| !removed.contains(&(there.index, there.address)));
        let mut lost: BTreeSet<_> =
            removed.iter().map(|(index, address)| (*index, address.trunc())).collect();
        for kept in &self.addresses {
            lost.remove(&(kept.index, kept.address.trunc()));
        }
        self.routes.retain(|route| {
            !route.next_hops.iter().any(|hop| {
                let Some(dev) = hop.dev else { return false };
                let connected = route.is_connected() && lost.contains(&(dev, route.to));
                let beyond = hop.via.is_some_and(|via| {
                    lost.iter().any(|(index, network)| *index == dev && network.contains(&via))
                });
                connected || beyond
            })
        });
        removed.clear();
    }

    /// The connected routes of addresses: link, address and the metric of its route.
    fn connect(&mut self, addresses: Vec<(u32, IpNet, Option<u32>)>) {
        if addresses.is_empty() {
            return;
        }
        let mut connected: BTreeSet<_> = self
            .routes
            .iter()
            .filter(|route| route.is_connected())
            .filter_map(|route| Some((route.only_dev()?, route.to)))
            .collect();
        for (index, address, metric) in addresses {
            let to = address.trunc();
            let ipv6 = to.addr().is_ipv6();
            let host_only = to.prefix_len() == to.max_prefix_len() && !ipv6;
            if host_only || !self.is_up(index) || !connected.insert((index, to)) {
                continue;
            }
            self.routes.push(ActualRoute {
                table: TableId::MAIN,
                kind: Some(RouteKind::Unicast),
                to,
                next_hops: NextHops::one(ActualNextHop {
                    via: None,
                    dev: Some(index),
                    weight: 1,
                    onlink: false,
                }),
                source: None,
                mtu: None,
                metric: metric.unwrap_or(if ipv6 { 256 } else { 0 }),
                scope: if ipv6 { 0 } else { SCOPE_LINK },
                protocol: 2,
                special: false,
            });
        }
    }

    fn as_installed(&self, route: &crate::Route, devs: &[Option<u32>]) -> ActualRoute {
        let next_hops = route.next_hops.iter().zip(devs).map(|(hop, dev)| ActualNextHop {
            via: hop.via,
            dev: dev.or_else(|| crate::reach::egress(route, hop, self)),
            weight: if route.next_hops.len() > 1 { hop.weight } else { 1 },
            onlink: hop.onlink,
        });
        ActualRoute {
            table: route.table,
            kind: Some(route.kind),
            to: route.to.trunc(),
            next_hops: next_hops.collect(),
            source: route.source,
            metric: route.key().metric,
            mtu: route.mtu,
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
            && self.only_dev().is_some()
            && self.next_hops.iter().all(|hop| hop.via.is_none())
            && !self.special
            && (self.to.addr().is_ipv6() || self.scope >= SCOPE_LINK)
    }

    /// The link of its next hop, when it has one next hop with a link.
    pub fn only_dev(&self) -> Option<u32> {
        match &*self.next_hops {
            [hop] => hop.dev,
            _ => None,
        }
    }

    /// Whether one of its next hops is on that link.
    pub fn goes_out_by(&self, index: u32) -> bool {
        self.next_hops.iter().any(|hop| hop.dev == Some(index))
    }

    /// Whether it does what `route` says, whoever made it; `devs` are the links that the route's
    /// next hops declare, in order.
    pub fn matches(&self, route: &crate::Route, devs: &[Option<u32>]) -> bool {
        if self.special || self.key() != route.key() || self.kind != Some(route.kind) {
            return false;
        }
        let alone = route.next_hops.len() == 1;
        let same_hop = |there: &ActualNextHop, (hop, dev): (&NextHop, &Option<u32>)| {
            there.via == hop.via
                && (hop.dev.is_none() || there.dev == *dev)
                && (alone || there.weight == hop.weight)
        };
        let leads = matches!(route.kind, RouteKind::Unicast | RouteKind::Local);
        let same_hops = !leads
            || route.next_hops.is_empty()
            || (self.next_hops.len() == route.next_hops.len()
                && self
                    .next_hops
                    .iter()
                    .zip(route.next_hops.iter().zip(devs))
                    .all(|(there, wanted)| same_hop(there, wanted)));
        same_hops
            && self.mtu == route.mtu
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
            (None, _) if self.kind == RouteKind::Local => 254,
            (None, _)
                if self.kind == RouteKind::Unicast
                    && self.next_hops.iter().all(|hop| hop.via.is_none()) =>
            {
                SCOPE_LINK
            }
            (None, _) => 0,
        }
    }
}

impl Rule {
    /// What makes two rules the same. A zero prefix selects nothing and is left out.
    pub fn key(&self) -> RuleKey {
        let prefix =
            |net: Option<IpNet>| net.map(|net| net.trunc()).filter(|net| net.prefix_len() > 0);
        RuleKey { from: prefix(self.key.from), to: prefix(self.key.to), ..self.key.clone() }
    }
}
