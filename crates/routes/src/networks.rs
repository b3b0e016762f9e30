//! The networks that next hops are looked for in, by table and length.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{ActualRoute, TableId};

/// Networks that are on a link, by table. A next hop is found by a look for each length of prefix
/// that the table has, however many networks there are.
#[derive(Default)]
pub(crate) struct Networks {
    /// Table, network, link.
    on_link: BTreeSet<(TableId, IpNet, u32)>,
    /// How many there are of each length, by table and family (true: IPv6).
    lengths: BTreeMap<(TableId, bool), BTreeMap<u8, usize>>,
}

impl Networks {
    /// Those of links that `up` says are up.
    pub(crate) fn of(routes: &[ActualRoute], up: impl Fn(u32) -> bool) -> Self {
        let mut networks = Self::default();
        for route in routes.iter().filter(|route| route.only_dev().is_some_and(&up)) {
            networks.add_route(route);
        }
        networks
    }

    /// Adds the network of a route, if it is one of a link.
    pub(crate) fn add_route(&mut self, route: &ActualRoute) {
        if let Some(dev) = route.only_dev().filter(|_| route.is_connected()) {
            self.add(route.table, route.to, dev);
        }
    }

    pub(crate) fn add(&mut self, table: TableId, network: IpNet, dev: u32) {
        if self.on_link.insert((table, network, dev)) {
            let lengths = self.lengths.entry((table, network.addr().is_ipv6())).or_default();
            *lengths.entry(network.prefix_len()).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, table: TableId, network: IpNet, dev: u32) {
        if !self.on_link.remove(&(table, network, dev)) {
            return;
        }
        let lengths = self.lengths.entry((table, network.addr().is_ipv6())).or_default();
        if let Some(number) = lengths.get_mut(&network.prefix_len()) {
            *number -= 1;
            if *number == 0 {
                lengths.remove(&network.prefix_len());
            }
        }
    }

    /// The links that a next hop of a route in `table` is on, in the order in which the kernel
    /// looks: the route's own table before the main one, the longest network first.
    pub(crate) fn links_to(&self, table: TableId, via: IpAddr) -> impl Iterator<Item = u32> + '_ {
        let main = Some(TableId::MAIN).filter(|main| *main != table);
        std::iter::once(table).chain(main).flat_map(move |table| {
            let lengths = self.lengths.get(&(table, via.is_ipv6()));
            let networks = lengths
                .into_iter()
                .flat_map(|lengths| lengths.keys().rev())
                .filter_map(move |length| IpNet::new(via, *length).ok())
                .map(|network| network.trunc());
            networks.flat_map(move |network| {
                self.on_link
                    .range((table, network, 0)..=(table, network, u32::MAX))
                    .map(|(_, _, dev)| *dev)
            })
        })
    }

    /// Whether some table has a network on the link that holds the address.
    pub(crate) fn any_holds(&self, address: IpAddr, dev: u32) -> bool {
        let tables = self.lengths.iter().filter(|((_, ipv6), _)| *ipv6 == address.is_ipv6());
        tables
            .flat_map(|((table, _), lengths)| lengths.keys().map(move |length| (table, length)))
            .any(|(table, length)| {
                IpNet::new(address, *length)
                    .is_ok_and(|network| self.on_link.contains(&(*table, network.trunc(), dev)))
            })
    }
}
