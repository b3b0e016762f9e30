//! What a plan or an assessment looks up again and again: with thousands of addresses, or a
//! hundred thousand routes, a search for each of them would take longer than the kernel does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::networks::Networks;
use crate::{
    Actual, ActualAddress, ActualLink, ActualRoute, Change, Desired, Kind, Route, RouteKey, TableId,
};

/// Links by name, addresses by place, networks by prefix; as they are, and further and further as
/// they will be while a plan is made.
pub(crate) struct Index<'a> {
    pub(crate) actual: &'a Actual,
    links: BTreeMap<&'a str, &'a ActualLink>,
    /// Links that are about to go up or down.
    switched: BTreeMap<u32, bool>,
    addresses: BTreeMap<(u32, IpAddr), Vec<&'a ActualAddress>>,
    /// The router's own addresses, and whether one can be a source.
    own: BTreeMap<IpAddr, bool>,
    networks: Networks,
    /// Networks of addresses whose links are down, as if they were of the main table.
    asleep: Networks,
    wanted: BTreeSet<(&'a str, IpNet)>,
    virtual_links: BTreeSet<&'a str>,
}

impl<'a> Index<'a> {
    pub(crate) fn of(desired: Desired<'a>, actual: &'a Actual) -> Self {
        let mut addresses: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut own = BTreeMap::new();
        let mut asleep = Networks::default();
        for there in &actual.addresses {
            let address = there.address.addr();
            addresses.entry((there.index, address)).or_default().push(there);
            *own.entry(address).or_insert(false) |= !there.tentative;
            if !actual.is_up(there.index) {
                asleep.add_address(there.address, there.index);
            }
        }
        let declared = desired.declared;
        let wanted = declared
            .addresses
            .iter()
            .filter(|address| desired.phases.wants(&address.condition, Kind::Addresses))
            .map(|address| (address.interface.as_str(), address.address))
            .collect();
        Self {
            actual,
            links: actual.links.values().map(|link| (link.name.as_str(), link)).collect(),
            switched: BTreeMap::new(),
            addresses,
            own,
            networks: Networks::of(actual),
            asleep,
            wanted,
            virtual_links: declared.virtual_links.iter().map(|link| link.name.as_str()).collect(),
        }
    }

    /// From now on as it will be after the change, as far as it concerns links and addresses.
    pub(crate) fn expect(&mut self, change: &Change) {
        match change {
            Change::RemoveLink { index, .. } => {
                self.links.retain(|_, link| link.index != *index);
                self.switch(*index, false);
            }
            Change::SetLink { index, up, .. } => self.switch(*index, *up),
            Change::AddAddress { index, address, .. } => {
                self.own.insert(address.address.addr(), true);
                if self.is_up(*index) {
                    self.networks.add_address(address.address, *index);
                }
            }
            Change::AddVirtualLink { .. }
            | Change::RemoveAddress { .. }
            | Change::AddRoute { .. }
            | Change::ReplaceRoute { .. }
            | Change::RemoveRoute { .. }
            | Change::AddRule { .. }
            | Change::RemoveRule { .. } => {}
        }
    }

    fn switch(&mut self, index: u32, up: bool) {
        self.switched.insert(index, up);
        let of_link = |there: &&ActualAddress| there.index == index;
        for there in self.actual.addresses.iter().filter(of_link) {
            if up {
                self.networks.add_address(there.address, index);
            } else {
                self.networks.remove_address(there.address, index);
            }
        }
        if !up {
            let routes = self.actual.routes.iter().filter(|route| route.is_connected());
            for route in routes.filter(|route| route.only_dev() == Some(index)) {
                self.networks.remove(route.key(), index);
            }
        }
    }

    /// From now on without these addresses. The network of one stays while another one of it does.
    pub(crate) fn expect_without(&mut self, removed: &BTreeSet<(u32, IpNet)>) {
        if removed.is_empty() {
            return;
        }
        let mut networks: BTreeSet<_> =
            removed.iter().map(|(index, address)| (*index, address.trunc())).collect();
        let mut lost: BTreeSet<_> = removed.iter().map(|(_, address)| address.addr()).collect();
        for there in &self.actual.addresses {
            if !removed.contains(&(there.index, there.address)) {
                networks.remove(&(there.index, there.address.trunc()));
                lost.remove(&there.address.addr());
            }
        }
        for (index, network) in networks {
            self.networks.remove_address(network, index);
        }
        // No source any more; still no next hop as long as it is there.
        for address in lost {
            self.own.insert(address, false);
        }
    }

    /// From now on the route is there as well, or no longer.
    pub(crate) fn expect_network(&mut self, place: RouteKey, dev: u32, there: bool) {
        if there && self.is_up(dev) {
            self.networks.add(place, dev);
        } else {
            self.networks.remove(place, dev);
        }
    }

    /// The link of that name.
    pub(crate) fn link(&self, name: &str) -> Option<&'a ActualLink> {
        self.links.get(name).copied()
    }

    /// Whether the link is up, or about to be.
    pub(crate) fn is_up(&self, index: u32) -> bool {
        self.switched.get(&index).copied().unwrap_or_else(|| self.actual.is_up(index))
    }

    /// The indices of the links that a route's next hops declare, where those are there.
    pub(crate) fn devs(&self, route: &Route) -> Vec<Option<u32>> {
        let index = |name: &str| self.link(name).map(|link| link.index);
        route.next_hops.iter().map(|hop| hop.dev.as_deref().and_then(index)).collect()
    }

    /// Whether a dumped route is what a declared one says.
    pub(crate) fn is_as_declared(&self, there: &ActualRoute, route: &Route) -> bool {
        there.matches(route, &self.devs(route))
            && !route.next_hops.iter().any(|hop| match (&hop.dev, hop.via) {
                (None, Some(via)) => self.has_moved(there, via),
                _ => false,
            })
    }

    /// Whether a next hop whose link the kernel has found is on another link now. In doubt it has
    /// not: rules of others can lead the kernel to it through tables that are not known here.
    fn has_moved(&self, there: &ActualRoute, via: IpAddr) -> bool {
        let of_hop = |dev: u32| {
            there.next_hops.iter().any(|hop| (hop.via, hop.dev) == (Some(via), Some(dev)))
        };
        let mut links = self.networks.links_to(there.table, via).peekable();
        links.peek().is_some()
            && !links.any(of_hop)
            && !there
                .next_hops
                .iter()
                .filter(|hop| hop.via == Some(via))
                .filter_map(|hop| hop.dev)
                .any(|dev| self.networks.any_holds(via, dev))
    }

    /// The links that a next hop of a route in the table is on.
    pub(crate) fn links_to(&self, table: TableId, via: IpAddr) -> impl Iterator<Item = u32> + '_ {
        self.networks.links_to(table, via)
    }

    /// A link that is down, on which the next hop would be.
    pub(crate) fn link_asleep(&self, via: IpAddr) -> Option<u32> {
        self.asleep.links_to(TableId::MAIN, via).find(|index| !self.is_up(*index))
    }

    /// Whether an address is the router's own.
    pub(crate) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains_key(&address)
    }

    /// Whether an address can be a source: it is the router's own, and duplicate detection has
    /// nothing against it.
    pub(crate) fn is_source(&self, address: IpAddr) -> bool {
        self.own.get(&address).copied().unwrap_or_default()
    }

    /// Whether a virtual link of that name is declared.
    pub(crate) fn is_virtual_link(&self, name: &str) -> bool {
        self.virtual_links.contains(name)
    }

    /// Whether an address is wanted now, by any of its declarations.
    pub(crate) fn is_wanted(&self, interface: &str, address: IpNet) -> bool {
        self.wanted.contains(&(interface, address))
    }

    /// The address on the link.
    pub(crate) fn address(&self, index: u32, address: IpNet) -> Option<&'a ActualAddress> {
        self.same_ip(index, address).find(|there| there.address == address)
    }

    /// The address that keeps `address` out: an IPv6 address can be on a link with one prefix
    /// length only.
    pub(crate) fn in_place_of(&self, index: u32, address: IpNet) -> Option<&'a ActualAddress> {
        self.same_ip(index, address)
            .find(|there| there.address != address && address.addr().is_ipv6())
    }

    /// Every address on the link with the same IP address, whatever its prefix length.
    pub(crate) fn same_ip(
        &self,
        index: u32,
        address: IpNet,
    ) -> impl Iterator<Item = &'a ActualAddress> {
        self.addresses.get(&(index, address.addr())).into_iter().flatten().copied()
    }

    /// Every address on the link.
    pub(crate) fn on_link(&self, index: u32) -> impl Iterator<Item = &'a ActualAddress> {
        const LOWEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        self.addresses
            .range((index, LOWEST)..)
            .take_while(move |((of, _), _)| *of == index)
            .flat_map(|(_, there)| there.iter().copied())
    }
}
