//! What the kernel has, as dumped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::{NextHop, NextHops, RouteKey, RouteKind, Rule, RuleKey, Scope, TableId};

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

/// One of a route's next hops. Two are equal that lead the same way, [dead](Self::dead) or not.
#[derive(Clone, Debug)]
pub struct ActualNextHop {
    /// The next router.
    pub via: Option<IpAddr>,
    /// The outgoing link.
    pub dev: Option<u32>,
    /// Its share among several, 1 to 256; 1 when it is alone.
    pub weight: u16,
    /// The next router is taken to be on the link.
    pub onlink: bool,
    /// It leads nowhere at the moment (`RTNH_F_DEAD`): its link is down, or has lost its last IPv4
    /// address. A route all of whose next hops are dead goes.
    pub dead: bool,
}

impl PartialEq for ActualNextHop {
    fn eq(&self, other: &Self) -> bool {
        let way = |hop: &Self| (hop.via, hop.dev, hop.weight, hop.onlink);
        way(self) == way(other)
    }
}

impl Eq for ActualNextHop {}

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
        let leads = matches!(route.kind, RouteKind::Unicast | RouteKind::Local);
        (!leads || self.leads_as(route, devs))
            && self.mtu == route.mtu
            && (route.source.is_none() || self.source == route.source)
            && (route.scope.is_none()
                || self.to.addr().is_ipv6()
                || self.scope == route.scope_number())
    }

    /// Whether it has the same next hops, in whatever order: the kernel gives those of IPv6 in its
    /// own.
    fn leads_as(&self, route: &crate::Route, devs: &[Option<u32>]) -> bool {
        let alone = route.next_hops.len() == 1;
        let same = |there: &ActualNextHop, (hop, dev): (&NextHop, &Option<u32>)| {
            there.via == hop.via
                && (hop.dev.is_none() || (dev.is_some() && there.dev == *dev))
                && (alone || there.weight == hop.weight)
        };
        let wanted = || route.next_hops.iter().zip(devs);
        route.next_hops.is_empty()
            || (self.next_hops.len() == route.next_hops.len()
                && (self.next_hops.iter().zip(wanted()).all(|(there, hop)| same(there, hop))
                    || (self.next_hops.iter().all(|there| wanted().any(|hop| same(there, hop)))
                        && wanted()
                            .all(|hop| self.next_hops.iter().any(|there| same(there, hop))))))
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

    /// Whether it says that its destination is on a link, so that the next hops of other routes may
    /// be looked for there; see [`ActualRoute::is_connected`].
    pub(crate) fn is_on_link(&self) -> bool {
        self.kind == RouteKind::Unicast
            && self.next_hops.len() == 1
            && self.next_hops.iter().all(|hop| hop.via.is_none())
            && (self.to.addr().is_ipv6() || self.scope_number() >= SCOPE_LINK)
    }

    /// The scope's number: the declared one, or what follows from type and next hop.
    pub fn scope_number(&self) -> u8 {
        match (self.scope, self.to) {
            (_, IpNet::V6(_)) => 0,
            (Some(scope), _) => scope.number(),
            (None, _) if self.kind == RouteKind::Local => Scope::Host.number(),
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

impl RuleKey {
    /// How many selectors it has.
    pub(crate) fn selectors(&self) -> usize {
        [
            self.from.is_some(),
            self.to.is_some(),
            self.fwmark.is_some(),
            self.iif.is_some(),
            self.oif.is_some(),
            self.tos != 0,
            self.ip_protocol.is_some(),
            self.source_port.is_some(),
            self.destination_port.is_some(),
            self.suppress_prefix_length.is_some(),
        ]
        .into_iter()
        .filter(|there| *there)
        .count()
    }

    /// Whether it is of the same place and action, and has every selector of `other`.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        fn of<T: PartialEq>(this: Option<&T>, other: Option<&T>) -> bool {
            other.is_none() || this == other
        }
        (self.ipv6, self.priority, self.action) == (other.ipv6, other.priority, other.action)
            && of(self.from.as_ref(), other.from.as_ref())
            && of(self.to.as_ref(), other.to.as_ref())
            && of(self.fwmark.as_ref(), other.fwmark.as_ref())
            && of(self.iif.as_ref(), other.iif.as_ref())
            && of(self.oif.as_ref(), other.oif.as_ref())
            && (other.tos == 0 || self.tos == other.tos)
            && of(self.ip_protocol.as_ref(), other.ip_protocol.as_ref())
            && of(self.source_port.as_ref(), other.source_port.as_ref())
            && of(self.destination_port.as_ref(), other.destination_port.as_ref())
            && of(self.suppress_prefix_length.as_ref(), other.suppress_prefix_length.as_ref())
    }
}
