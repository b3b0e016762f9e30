//! A model of the kernel that refuses what the real one refuses, and drops silently what the real
//! one drops silently.

use std::net::IpAddr;

use lockstep_routes::{
    Actual, ActualAddress, ActualLink, ActualNextHop, ActualRoute, ActualRule, Change, Macvlan,
    NextHops, PROTOCOL_LOCKSTEP, Route, RouteKind, TableId, VIRTUAL_LINK_MARK,
};

#[derive(Default)]
pub(crate) struct Kernel {
    pub(crate) actual: Actual,
}

impl Kernel {
    pub(crate) fn link(&mut self, link: ActualLink) {
        self.actual.links.insert(link.index, link);
    }

    /// Adds an address unless the kernel would not have it.
    pub(crate) fn address(&mut self, address: ActualAddress) {
        let taken = self.actual.addresses.iter().any(|there| {
            there.index == address.index
                && (there.address == address.address
                    || address.address.addr().is_ipv6()
                        && there.address.addr() == address.address.addr())
        });
        let up = self.actual.is_up(address.index);
        if !taken && (up || address.address.addr().is_ipv4()) {
            self.actual.addresses.push(address);
            self.restore_connected();
        }
    }

    /// Adds a route unless its place is taken or its link is down.
    pub(crate) fn route(&mut self, route: ActualRoute) {
        let free = self.actual.routes.iter().all(|there| there.key() != route.key());
        if free && only_dev(&route).is_none_or(|dev| self.actual.is_up(dev)) {
            self.actual.routes.push(route);
        }
    }

    pub(crate) fn rule(&mut self, rule: ActualRule) {
        if self.actual.rules.iter().all(|there| there.key != rule.key) {
            self.actual.rules.push(rule);
        }
    }

    pub(crate) fn carry_out(&mut self, change: &Change) -> Result<(), &'static str> {
        match change {
            Change::AddVirtualLink { link, parent } => {
                let index = self.actual.links.keys().max().map_or(1, |last| last + 1);
                self.link(ActualLink {
                    index,
                    name: link.name.clone(),
                    up: false,
                    carrier: false,
                    mtu: 1500,
                    mac: link.mac,
                    macvlan: Some(Macvlan { parent: *parent, bridge: true }),
                    alias: VIRTUAL_LINK_MARK.to_owned(),
                });
            }
            Change::RemoveLink { index, .. } => {
                self.actual.links.remove(index).ok_or("no such device")?;
                self.actual.addresses.retain(|there| there.index != *index);
                self.drop_silently();
            }
            Change::SetLink { index, up, .. } => {
                let link = self.actual.links.get_mut(index).ok_or("no such device")?;
                (link.up, link.carrier) = (*up, *up);
                if !up {
                    self.actual
                        .addresses
                        .retain(|there| there.index != *index || there.address.addr().is_ipv4());
                }
                self.drop_silently();
                self.restore_connected();
            }
            Change::AddAddress { index, address, .. } => {
                if !self.actual.links.contains_key(index) {
                    return Err("no such device");
                }
                let before = self.actual.addresses.len();
                self.address(ActualAddress {
                    index: *index,
                    address: address.address,
                    protocol: PROTOCOL_LOCKSTEP,
                    broadcast: None,
                    label: None,
                    scope: 0,
                    secondary: false,
                    tentative: false,
                    duplicate: false,
                });
                if self.actual.addresses.len() == before {
                    return Err("file exists, or permission denied");
                }
            }
            Change::RemoveAddress { index, address, .. } => {
                let place = (*index, *address);
                let found =
                    self.actual.addresses.iter().position(|a| (a.index, a.address) == place);
                self.actual.addresses.remove(found.ok_or("no such address")?);
                self.drop_silently();
            }
            Change::AddRoute { route, devs } => {
                if self.actual.routes.iter().any(|there| there.key() == route.key()) {
                    return Err("file exists");
                }
                let installed = self.resolve(route, devs.first().copied().flatten())?;
                self.actual.routes.push(installed);
            }
            Change::ReplaceRoute { route, devs } => {
                let installed = self.resolve(route, devs.first().copied().flatten())?;
                let key = route.key();
                let found = self.actual.routes.iter().position(|there| there.key() == key);
                self.actual.routes[found.ok_or("nothing to replace")?] = installed;
            }
            Change::RemoveRoute { route } => {
                let found = self.actual.routes.iter().position(|there| there == route);
                self.actual.routes.remove(found.ok_or("no such process")?);
            }
            Change::AddRule { rule } => {
                if self.actual.rules.iter().any(|there| there.key == rule.key()) {
                    return Err("file exists");
                }
                self.rule(ActualRule { key: rule.key(), protocol: rule.protocol, special: false });
            }
            Change::RemoveRule { rule } => {
                let found = self.actual.rules.iter().position(|there| there == rule);
                self.actual.rules.remove(found.ok_or("no such rule")?);
            }
        }
        Ok(())
    }

    fn resolve(&self, route: &Route, dev: Option<u32>) -> Result<ActualRoute, &'static str> {
        let mut egress = None;
        if route.kind == RouteKind::Unicast {
            if let Some(dev) = dev
                && !self.actual.is_up(dev)
            {
                return Err("network is down");
            }
            if let Some(source) = route.source
                && self.actual.addresses.iter().all(|there| there.address.addr() != source)
            {
                return Err("invalid argument");
            }
            let hop = &route.next_hops[0];
            egress = match hop.via {
                Some(via) if !(hop.onlink && dev.is_some()) => {
                    Some(self.connected(route.table, via, dev).ok_or("network is unreachable")?)
                }
                Some(_) | None => Some(dev.ok_or("no such device")?),
            };
        }
        Ok(ActualRoute {
            table: route.table,
            kind: Some(route.kind),
            to: route.to,
            next_hops: egress
                .map(|dev| ActualNextHop {
                    via: route.next_hops[0].via,
                    dev: Some(dev),
                    weight: 1,
                    onlink: route.next_hops[0].onlink,
                })
                .into_iter()
                .collect(),
            mtu: route.mtu,
            source: route.source.filter(|_| egress.is_some()),
            metric: route.key().metric,
            scope: route.scope_number(),
            protocol: route.protocol,
            special: false,
        })
    }

    fn connected(&self, table: TableId, via: IpAddr, dev: Option<u32>) -> Option<u32> {
        self.actual
            .routes
            .iter()
            .filter(|route| route.is_connected() && route.to.contains(&via))
            .filter(|route| [table, TableId::MAIN].contains(&route.table))
            .filter_map(only_dev)
            .find(|link| dev.is_none_or(|dev| dev == *link) && self.actual.is_up(*link))
    }

    /// Every address of an up link has its connected network in the main table.
    fn restore_connected(&mut self) {
        for address in self.actual.addresses.clone() {
            let to = address.address.trunc();
            let host_only = to.addr().is_ipv4() && to.prefix_len() == 32;
            let there = self.actual.routes.iter().any(|route| {
                route.is_connected()
                    && route.protocol == 2
                    && (only_dev(route), route.to) == (Some(address.index), to)
            });
            if host_only || there || !self.actual.is_up(address.index) {
                continue;
            }
            self.actual.routes.push(ActualRoute {
                table: TableId::MAIN,
                kind: Some(RouteKind::Unicast),
                to,
                next_hops: NextHops::one(ActualNextHop {
                    via: None,
                    dev: Some(address.index),
                    weight: 1,
                    onlink: false,
                }),
                source: None,
                mtu: None,
                metric: if to.addr().is_ipv6() { 256 } else { 0 },
                scope: if to.addr().is_ipv6() { 0 } else { 253 },
                protocol: 2,
                special: false,
            });
        }
    }

    /// Routes over a down link, connected networks without their address, sources that are gone.
    fn drop_silently(&mut self) {
        let Actual { links, addresses, routes, .. } = &mut self.actual;
        routes.retain(|route| {
            let link_up =
                only_dev(route).is_none_or(|dev| links.get(&dev).is_some_and(|link| link.up));
            let own_network = route.protocol != 2
                || addresses
                    .iter()
                    .any(|a| Some(a.index) == only_dev(route) && a.address.trunc() == route.to);
            let source = route
                .source
                .is_none_or(|source| addresses.iter().any(|a| a.address.addr() == source));
            link_up && own_network && source
        });
    }
}

fn only_dev(route: &ActualRoute) -> Option<u32> {
    route.only_dev()
}
