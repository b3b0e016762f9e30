//! The networks that next hops are looked for in, by table and length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{Actual, ActualRoute, ActualRule, RouteKey, TableId};

/// The metric of the connected routes of IPv6 (`IP6_RT_PRIO_ADDRCONF`).
pub(crate) const METRIC_CONNECTED: u32 = 256;

/// Networks that are on a link, by table. A next hop is found by a look for each length of prefix
/// that the table has, however many networks there are.
#[derive(Default)]
pub(crate) struct Networks {
    /// Table, network, metric, link: of two of the same length the kernel takes the lower metric.
    on_link: BTreeSet<(TableId, IpNet, u32, u32)>,
    /// How many there are of each length, by table and family (true: IPv6).
    lengths: BTreeMap<(TableId, bool), BTreeMap<u8, usize>>,
    /// Where the rules lead, in their order, what the router itself looks up.
    ways: Vec<Way>,
}

/// A rule that counts when a next hop is looked for.
struct Way {
    ipv6: bool,
    to: Option<IpNet>,
    table: TableId,
}

impl Way {
    /// The kernel looks with no source, mark, protocol or outgoing interface; for one of IPv4 as if
    /// the packet came from `lo`.
    fn of(rule: &ActualRule) -> Option<Self> {
        let key = &rule.key;
        let counts = !rule.special
            && key.iif.as_deref().is_none_or(|iif| iif == "lo" && !key.ipv6)
            && key.selectors() == usize::from(key.iif.is_some()) + usize::from(key.to.is_some());
        let way = |table| Self { ipv6: key.ipv6, to: key.to, table };
        key.table().filter(|_| counts).map(way)
    }

    fn leads(&self, via: IpAddr) -> bool {
        self.ipv6 == via.is_ipv6() && self.to.is_none_or(|to| to.contains(&via))
    }
}

impl Networks {
    /// Those of links that are up.
    pub(crate) fn of(actual: &Actual) -> Self {
        let ways = actual.rules.iter().filter_map(Way::of).collect();
        let mut networks = Self { ways, ..Self::default() };
        let up = |route: &&ActualRoute| route.only_dev().is_some_and(|dev| actual.is_up(dev));
        for route in actual.routes.iter().filter(up) {
            networks.add_route(route);
        }
        networks
    }

    /// Adds the network of a route, if it is one of a link.
    pub(crate) fn add_route(&mut self, route: &ActualRoute) {
        if let Some(dev) = route.only_dev().filter(|_| route.is_connected()) {
            self.add(route.key(), dev);
        }
    }

    pub(crate) fn add(&mut self, place: RouteKey, dev: u32) {
        let RouteKey { table, to, metric } = place;
        if self.on_link.insert((table, to, metric, dev)) {
            let lengths = self.lengths.entry((table, to.addr().is_ipv6())).or_default();
            *lengths.entry(to.prefix_len()).or_default() += 1;
        }
    }

    /// Adds the network of an address, as the kernel does in the main table.
    pub(crate) fn add_address(&mut self, address: IpNet, dev: u32) {
        self.add(connected(address), dev);
    }

    pub(crate) fn remove(&mut self, place: RouteKey, dev: u32) {
        let RouteKey { table, to, metric } = place;
        if !self.on_link.remove(&(table, to, metric, dev)) {
            return;
        }
        let lengths = self.lengths.entry((table, to.addr().is_ipv6())).or_default();
        if let Some(number) = lengths.get_mut(&to.prefix_len()) {
            *number -= 1;
            if *number == 0 {
                lengths.remove(&to.prefix_len());
            }
        }
    }

    /// Removes the network of an address, whatever metric it has.
    pub(crate) fn remove_address(&mut self, address: IpNet, dev: u32) {
        let RouteKey { table, to, .. } = connected(address);
        let metrics: Vec<u32> = self
            .alike(table, to)
            .filter(|(.., there)| *there == dev)
            .map(|(_, _, metric, _)| *metric)
            .collect();
        for metric in metrics {
            self.remove(RouteKey { table, to, metric }, dev);
        }
    }

    fn alike(
        &self,
        table: TableId,
        to: IpNet,
    ) -> impl Iterator<Item = &(TableId, IpNet, u32, u32)> {
        self.on_link.range((table, to, 0, 0)..=(table, to, u32::MAX, u32::MAX))
    }

    /// The links that a next hop of a route in `table` is on, in the order in which the kernel
    /// looks: the route's own table, then those that the rules lead the router itself to, the
    /// longest network first, of those the lowest metric. The main table counts whatever the rules say.
    pub(crate) fn links_to(&self, table: TableId, via: IpAddr) -> impl Iterator<Item = u32> + '_ {
        let led_to = self.ways.iter().filter(move |way| way.leads(via)).map(|way| way.table);
        let others = led_to.chain([TableId::MAIN]).filter(move |other| *other != table);
        std::iter::once(table).chain(others).flat_map(move |table| {
            let lengths = self.lengths.get(&(table, via.is_ipv6()));
            let networks = lengths
                .into_iter()
                .flat_map(|lengths| lengths.keys().rev())
                .filter_map(move |length| IpNet::new(via, *length).ok())
                .map(|network| network.trunc());
            networks.flat_map(move |network| self.alike(table, network).map(|(.., dev)| *dev))
        })
    }

    /// Whether some table has a network on the link that holds the address.
    pub(crate) fn any_holds(&self, address: IpAddr, dev: u32) -> bool {
        let tables = self.lengths.iter().filter(|((_, ipv6), _)| *ipv6 == address.is_ipv6());
        tables
            .flat_map(|((table, _), lengths)| lengths.keys().map(move |length| (table, length)))
            .any(|(table, length)| {
                IpNet::new(address, *length).is_ok_and(|network| {
                    self.alike(*table, network.trunc()).any(|(.., there)| *there == dev)
                })
            })
    }
}

/// The place of the network that comes with an address.
fn connected(address: IpNet) -> RouteKey {
    let metric = if address.addr().is_ipv6() { METRIC_CONNECTED } else { 0 };
    RouteKey { table: TableId::MAIN, to: address.trunc(), metric }
}
