//! What acknowledged changes do to what is there, with what the kernel silently brings along or
//! takes with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::networks::{METRIC_CONNECTED, Networks};
use crate::{
    Actual, ActualAddress, ActualNextHop, ActualRoute, ActualRule, Address, Change, NextHops,
    PROTOCOL_LOCKSTEP, Route, RouteKey, RouteKind, TableId,
};

/// `RTPROT_KERNEL`: made by the kernel itself.
const PROTOCOL_KERNEL: u8 = 2;
/// `RT_SCOPE_LINK`: on this link.
const SCOPE_LINK: u8 = 253;

/// Changes of one kind that follow each other: thousands of addresses or routes come and go
/// together, and each run of them is one pass over what is there.
#[derive(Default)]
struct Run<'a> {
    added: Vec<(u32, &'a Address, Option<u32>)>,
    removed: BTreeSet<(u32, IpNet)>,
    routes_put: BTreeMap<RouteKey, ActualRoute>,
    routes_removed: BTreeMap<RouteKey, Vec<&'a ActualRoute>>,
    /// Of the routes that are there and those put; made when it is needed.
    networks: Option<Networks>,
}

impl Actual {
    /// Notes changes the kernel has acknowledged, in their order, with what it silently brings
    /// along: the connected routes that come with a link or an address, and what is lost with them.
    /// A dump stays the truth; this only spares one between two changes.
    pub fn record_all<'a>(&mut self, changes: impl IntoIterator<Item = &'a Change>) {
        let mut run = Run::default();
        for change in changes {
            match change {
                Change::AddAddress { index, address, metric } => {
                    self.end_unless(&mut run, |run| !run.added.is_empty());
                    run.added.push((*index, address, *metric));
                }
                Change::RemoveAddress { index, address, .. } => {
                    self.end_unless(&mut run, |run| !run.removed.is_empty());
                    run.removed.insert((*index, *address));
                }
                Change::AddRoute { route, devs } | Change::ReplaceRoute { route, devs } => {
                    self.end_unless(&mut run, Run::is_of_routes);
                    let installed = self.as_installed(route, devs, &mut run);
                    run.put(installed);
                }
                Change::RemoveRoute { route } => {
                    self.end_unless(&mut run, Run::is_of_routes);
                    run.remove(route);
                }
                other => {
                    self.end(&mut run);
                    self.record_one(other);
                }
            }
        }
        self.end(&mut run);
    }

    /// [`Actual::record_all`] for one change.
    pub fn record(&mut self, change: &Change) {
        self.record_all([change]);
    }

    fn end_unless<'a>(&mut self, run: &mut Run<'a>, goes_on: impl Fn(&Run<'a>) -> bool) {
        if !goes_on(run) {
            self.end(run);
        }
    }

    fn end(&mut self, run: &mut Run<'_>) {
        let Run { added, removed, routes_put, routes_removed, .. } = std::mem::take(run);
        if !added.is_empty() {
            self.record_added(&added);
        }
        if !removed.is_empty() {
            self.record_removed(&removed);
        }
        if !(routes_put.is_empty() && routes_removed.is_empty()) {
            self.routes.retain(|there| {
                let key = there.key();
                let mut removed = routes_removed.get(&key).into_iter().flatten();
                !routes_put.contains_key(&key) && !removed.any(|removed| *removed == there)
            });
            self.routes.extend(routes_put.into_values());
        }
    }

    fn record_one(&mut self, change: &Change) {
        match change {
            Change::RemoveLink { index, .. } => self.record_link_gone(*index),
            Change::SetLink { index, up, .. } => self.record_link(*index, *up),
            Change::AddRule { rule } => self.rules.push(ActualRule {
                key: rule.key(),
                protocol: rule.protocol,
                special: false,
            }),
            Change::RemoveRule { rule } => self.rules.retain(|there| there != rule),
            // Which number the kernel has given a virtual link, only a dump tells. The others are
            // recorded in runs.
            Change::AddVirtualLink { .. }
            | Change::AddAddress { .. }
            | Change::RemoveAddress { .. }
            | Change::AddRoute { .. }
            | Change::ReplaceRoute { .. }
            | Change::RemoveRoute { .. } => {}
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
            self.connect(&there);
            self.regain_way_over(index, |_| true);
        } else {
            self.addresses.retain(|there| there.index != index || there.address.addr().is_ipv4());
            self.lose_way_over(index, |_| true);
        }
    }

    /// Of an IPv4 route all next hops go with a link that does; of an IPv6 route the others stay.
    fn record_link_gone(&mut self, index: u32) {
        self.record_link(index, false);
        let removed = self.addresses.iter().filter(|there| there.index == index);
        let removed = removed.map(|there| (index, there.address)).collect();
        self.record_removed(&removed);
        self.routes.retain_mut(|route| {
            if !route.goes_out_by(index) {
                return true;
            }
            if route.to.addr().is_ipv6() {
                let left = route.next_hops.iter().filter(|hop| hop.dev != Some(index)).cloned();
                let left: Vec<_> = left.collect();
                let alone = left.len() == 1;
                let weight = |hop: &ActualNextHop| if alone { 1 } else { hop.weight };
                route.next_hops = left
                    .iter()
                    .map(|hop| ActualNextHop { weight: weight(hop), ..hop.clone() })
                    .collect();
                return !route.next_hops.is_empty();
            }
            false
        });
        self.links.remove(&index);
    }

    /// Next hops over a link are dead from now on; routes without others are dropped, in every
    /// table. Local routes of IPv4 do not mind.
    fn lose_way_over(&mut self, index: u32, concerned: impl Fn(&ActualRoute) -> bool) {
        self.routes.retain_mut(|route| {
            let local = route.kind == Some(RouteKind::Local) && route.to.addr().is_ipv4();
            if local || !concerned(route) || !route.goes_out_by(index) {
                return true;
            }
            for hop in route.next_hops.iter_mut().filter(|hop| hop.dev == Some(index)) {
                hop.dead = true;
            }
            route.next_hops.iter().any(|hop| !hop.dead)
        });
    }

    /// Next hops over a link lead on again.
    fn regain_way_over(&mut self, index: u32, concerned: impl Fn(&ActualRoute) -> bool) {
        for route in self.routes.iter_mut().filter(|route| concerned(route)) {
            for hop in route.next_hops.iter_mut().filter(|hop| hop.dev == Some(index)) {
                hop.dead = false;
            }
        }
    }

    fn record_added(&mut self, added: &[(u32, &Address, Option<u32>)]) {
        let mut networks: BTreeSet<_> =
            self.addresses.iter().map(|there| (there.index, there.address.trunc())).collect();
        for (index, address, _) in added {
            let ipv4 = address.address.addr().is_ipv4();
            let first = networks.insert((*index, address.address.trunc()));
            self.addresses.push(ActualAddress {
                index: *index,
                address: address.address,
                protocol: PROTOCOL_LOCKSTEP,
                broadcast: address.broadcast.filter(|_| ipv4),
                label: ipv4.then(|| address.label().to_owned()),
                scope: if ipv4 { address.scope.number() } else { 0 },
                secondary: ipv4 && !first,
                tentative: false,
                duplicate: false,
            });
        }
        let places: Vec<_> = added
            .iter()
            .map(|(index, address, metric)| (*index, address.address, *metric))
            .collect();
        self.connect(&places);
        let of_ipv4 = added.iter().filter(|(_, address, _)| address.address.addr().is_ipv4());
        let with_ipv4: BTreeSet<u32> = of_ipv4.map(|(index, ..)| *index).collect();
        for index in with_ipv4.into_iter().filter(|index| self.is_up(*index)).collect::<Vec<_>>() {
            self.regain_way_over(index, |route| route.to.addr().is_ipv4());
        }
    }

    /// With the last address of a network its connected route goes, with the last IPv4 address of
    /// a link every IPv4 route over it. A source that is gone takes the IPv4 routes of the main
    /// table with it, and is taken from those of IPv6.
    fn record_removed(&mut self, removed: &BTreeSet<(u32, IpNet)>) {
        let mut networks: BTreeSet<_> =
            removed.iter().map(|(index, address)| (*index, address.trunc())).collect();
        let mut sources: BTreeSet<_> = removed.iter().map(|(_, address)| address.addr()).collect();
        let ipv4 = |address: &IpNet| address.addr().is_ipv4();
        let mut bare: BTreeSet<_> =
            removed.iter().filter(|(_, address)| ipv4(address)).map(|(index, _)| *index).collect();
        self.addresses.retain(|there| !removed.contains(&(there.index, there.address)));
        let mut promoted = BTreeSet::new();
        for there in &mut self.addresses {
            let place = (there.index, there.address.trunc());
            networks.remove(&place);
            sources.remove(&there.address.addr());
            if there.address.addr().is_ipv4() {
                bare.remove(&there.index);
                there.secondary &= !promoted.insert(place);
            }
        }
        let is_source = |source: Option<IpAddr>| source.is_some_and(|one| sources.contains(&one));
        self.routes.retain_mut(|route| {
            let ours = route.only_dev().is_some_and(|dev| networks.contains(&(dev, route.to)));
            let connected = route.protocol == PROTOCOL_KERNEL && ours;
            let to_ipv6 = route.to.addr().is_ipv6();
            if to_ipv6 && is_source(route.source) {
                route.source = None;
            }
            let sourceless = route.table == TableId::MAIN && is_source(route.source);
            !connected && !sourceless
        });
        for index in bare {
            self.lose_way_over(index, |route| route.to.addr().is_ipv4());
        }
    }

    /// The connected routes of addresses: link, address and the metric of its route.
    fn connect(&mut self, addresses: &[(u32, IpNet, Option<u32>)]) {
        let mut connected: BTreeSet<_> = self
            .routes
            .iter()
            .filter(|route| route.is_connected() && route.protocol == PROTOCOL_KERNEL)
            .filter_map(|route| Some((route.only_dev()?, route.to)))
            .collect();
        for (index, address, metric) in addresses {
            let to = address.trunc();
            let ipv6 = to.addr().is_ipv6();
            let host_only = to.prefix_len() == to.max_prefix_len() && !ipv6;
            if host_only || !self.is_up(*index) || !connected.insert((*index, to)) {
                continue;
            }
            self.routes.push(ActualRoute {
                table: TableId::MAIN,
                kind: Some(RouteKind::Unicast),
                to,
                next_hops: NextHops::one(ActualNextHop {
                    via: None,
                    dev: Some(*index),
                    weight: 1,
                    onlink: false,
                    dead: false,
                }),
                source: None,
                mtu: None,
                metric: metric.unwrap_or(if ipv6 { METRIC_CONNECTED } else { 0 }),
                scope: if ipv6 { 0 } else { SCOPE_LINK },
                protocol: PROTOCOL_KERNEL,
                special: false,
            });
        }
    }

    fn as_installed(&self, route: &Route, devs: &[Option<u32>], run: &mut Run<'_>) -> ActualRoute {
        let several = route.next_hops.len() > 1;
        let next_hops = route.next_hops.iter().zip(devs).map(|(hop, dev)| ActualNextHop {
            via: hop.via,
            dev: dev.or_else(|| run.networks(self).links_to(route.table, hop.via?).next()),
            weight: if several { hop.weight } else { 1 },
            onlink: hop.onlink,
            dead: false,
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

impl<'a> Run<'a> {
    fn is_of_routes(&self) -> bool {
        !(self.routes_put.is_empty() && self.routes_removed.is_empty())
    }

    fn networks(&mut self, actual: &Actual) -> &Networks {
        self.networks.get_or_insert_with(|| {
            let mut networks = Networks::of(actual);
            self.routes_put.values().for_each(|route| networks.add_route(route));
            networks
        })
    }

    fn put(&mut self, route: ActualRoute) {
        if let Some(networks) = &mut self.networks {
            networks.add_route(&route);
        }
        self.routes_put.insert(route.key(), route);
    }

    fn remove(&mut self, route: &'a ActualRoute) {
        let key = route.key();
        if self.routes_put.get(&key) == Some(route) {
            self.routes_put.remove(&key);
        }
        self.routes_removed.entry(key).or_default().push(route);
    }
}
