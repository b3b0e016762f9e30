//! A model of the kernel (Linux 6.18) that refuses what the real one refuses, and drops silently
//! what the real one drops silently.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;
use lockstep_routes::{
    Actual, ActualAddress, ActualLink, ActualNextHop, ActualRoute, ActualRule, Address, Change,
    Macvlan, NextHop, NextHops, PROTOCOL_LOCKSTEP, Route, RouteKind, RuleKey, Scope, TableId,
    VIRTUAL_LINK_MARK,
};

use super::objects::everything;

/// The protocol number of what the kernel makes itself.
const KERNEL: u8 = 2;

#[derive(Clone, Default)]
pub(crate) struct Kernel {
    pub(crate) actual: Actual,
}

impl Kernel {
    /// A kernel whose links, addresses, routes and rules were made otherwise.
    pub(crate) fn of(actual: Actual) -> Self {
        Self { actual }
    }

    pub(crate) fn link(&mut self, link: ActualLink) {
        self.actual.links.insert(link.index, link);
    }

    /// Adds an address.
    pub(crate) fn address(&mut self, mut address: ActualAddress) -> Result<(), &'static str> {
        let index = address.index;
        let link = self.actual.links.get(&index).ok_or("no such device")?;
        let ipv6 = address.address.addr().is_ipv6();
        let mut on_link = self.actual.addresses.iter().filter(|there| there.index == index);
        let taken = on_link.any(|there| {
            there.address == address.address
                || ipv6 && there.address.addr() == address.address.addr()
        });
        if taken {
            return Err("file exists");
        }
        if ipv6 && !link.up {
            return Err("permission denied");
        }
        let first = self.first_of(index, address.address).filter(|_| !ipv6);
        if first.is_some_and(|first| self.actual.addresses[first].scope != address.scope) {
            return Err("invalid argument");
        }
        address.secondary = first.is_some();
        self.actual.addresses.push(address);
        self.connect(index);
        if !ipv6 {
            self.revive(index, false);
        }
        Ok(())
    }

    /// Does one change, or says why not.
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
                Ok(())
            }
            Change::RemoveLink { index, .. } => self.remove_link(*index),
            Change::SetLink { index, up, .. } => self.set_link(*index, *up),
            Change::AddAddress { index, address, .. } => self.address(made(*index, address)),
            Change::RemoveAddress { index, address, .. } => self.remove_address(*index, *address),
            Change::AddRoute { route, devs } => {
                if self.actual.routes.iter().any(|there| there.key() == route.key()) {
                    return Err("file exists");
                }
                let installed = self.resolve(route, devs)?;
                self.actual.routes.push(installed);
                Ok(())
            }
            Change::ReplaceRoute { route, devs } => {
                let installed = self.resolve(route, devs)?;
                let key = route.key();
                let found = self.actual.routes.iter().position(|there| there.key() == key);
                self.actual.routes[found.ok_or("nothing to replace")?] = installed;
                Ok(())
            }
            Change::RemoveRoute { route } => {
                let found = self.actual.routes.iter().position(|there| there == route);
                self.actual.routes.remove(found.ok_or("no such process")?);
                Ok(())
            }
            Change::AddRule { rule } => {
                let rule = ActualRule { key: rule.key(), protocol: rule.protocol, special: false };
                if self.actual.rules.contains(&rule) {
                    return Err("file exists");
                }
                self.actual.rules.push(rule);
                Ok(())
            }
            Change::RemoveRule { rule } => {
                let found = self.actual.rules.iter().position(|there| there == rule);
                self.actual.rules.remove(found.ok_or("no such file or directory")?);
                Ok(())
            }
        }
    }

    fn set_link(&mut self, index: u32, up: bool) -> Result<(), &'static str> {
        let link = self.actual.links.get_mut(&index).ok_or("no such device")?;
        (link.up, link.carrier) = (up, up);
        if up {
            self.connect(index);
            self.revive(index, true);
        } else {
            // The sources of IPv6 routes stay, other than when an address is removed alone.
            self.actual
                .addresses
                .retain(|there| there.index != index || there.address.addr().is_ipv4());
            self.die(index, |_| true);
        }
        Ok(())
    }

    fn remove_link(&mut self, index: u32) -> Result<(), &'static str> {
        self.set_link(index, false)?;
        let addresses: Vec<_> =
            self.actual.addresses.iter().filter(|there| there.index == index).cloned().collect();
        for address in addresses {
            self.remove_address(index, address.address)?;
        }
        // Of an IPv4 route all next hops go with one of them.
        self.actual.routes.retain_mut(|route| {
            let concerned = route.goes_out_by(index);
            if concerned && route.to.addr().is_ipv6() {
                let left = route.next_hops.iter().filter(|hop| hop.dev != Some(index));
                route.next_hops = left.cloned().collect();
                // It is no multipath route any more.
                if let [only] = &*route.next_hops {
                    route.next_hops = NextHops::one(ActualNextHop { weight: 1, ..only.clone() });
                }
            }
            !concerned || (route.to.addr().is_ipv6() && !route.next_hops.is_empty())
        });
        self.actual.links.remove(&index);
        Ok(())
    }

    fn remove_address(&mut self, index: u32, address: IpNet) -> Result<(), &'static str> {
        let place = (index, address);
        let found = self.actual.addresses.iter().position(|a| (a.index, a.address) == place);
        self.actual.addresses.remove(found.ok_or("cannot assign requested address")?);
        let ipv4 = address.addr().is_ipv4();
        let network = address.trunc();
        match self.first_of(index, address) {
            // Another one of the network takes its place, when the kernel is told so.
            Some(next) => self.actual.addresses[next].secondary = false,
            None => self.actual.routes.retain(|route| {
                route.protocol != KERNEL || (route.only_dev(), route.to) != (Some(index), network)
            }),
        }
        let gone = self.actual.addresses.iter().all(|a| a.address.addr() != address.addr());
        let source = Some(address.addr()).filter(|_| gone);
        if ipv4 {
            let main = |route: &ActualRoute| route.table == TableId::MAIN;
            self.actual
                .routes
                .retain(|route| source.is_none() || route.source != source || !main(route));
            let mut left = self.actual.addresses.iter().filter(|there| there.index == index);
            if left.all(|there| there.address.addr().is_ipv6()) {
                self.die(index, |route| route.to.addr().is_ipv4());
            }
        } else {
            for route in &mut self.actual.routes {
                route.source = route.source.filter(|_| source.is_none() || route.source != source);
            }
        }
        Ok(())
    }

    /// The first address of the same network on the link.
    fn first_of(&self, index: u32, address: IpNet) -> Option<usize> {
        self.actual
            .addresses
            .iter()
            .position(|there| there.index == index && there.address.trunc() == address.trunc())
    }

    /// Next hops over the link lead nowhere from now on; a route without others goes.
    fn die(&mut self, index: u32, concerned: impl Fn(&ActualRoute) -> bool) {
        self.actual.routes.retain_mut(|route| {
            let local = route.kind == Some(RouteKind::Local) && route.to.addr().is_ipv4();
            if local || !concerned(route) || !route.goes_out_by(index) {
                return true;
            }
            let mut alive = false;
            for hop in route.next_hops.iter_mut() {
                hop.dead |= hop.dev == Some(index);
                alive |= !hop.dead;
            }
            alive
        });
    }

    /// Next hops over the link lead on again: of both families when it has come up, of IPv4 when
    /// it has got an address.
    fn revive(&mut self, index: u32, both: bool) {
        for route in &mut self.actual.routes {
            let concerned = both || route.to.addr().is_ipv4();
            for hop in route.next_hops.iter_mut().filter(|hop| hop.dev == Some(index)) {
                hop.dead &= !concerned;
            }
        }
    }

    /// Every address of an up link has its connected network in the main table.
    fn connect(&mut self, index: u32) {
        if !self.actual.is_up(index) {
            return;
        }
        let on_link = self.actual.addresses.iter().filter(|there| there.index == index);
        let networks: Vec<IpNet> = on_link.map(|there| there.address.trunc()).collect();
        for to in networks {
            let ipv6 = to.addr().is_ipv6();
            let host_only = !ipv6 && to.prefix_len() == 32;
            let there = self.actual.routes.iter().any(|route| {
                route.protocol == KERNEL && (route.only_dev(), route.to) == (Some(index), to)
            });
            if host_only || there {
                continue;
            }
            self.actual.routes.push(ActualRoute {
                table: TableId::MAIN,
                kind: Some(RouteKind::Unicast),
                to,
                next_hops: NextHops::one(ActualNextHop {
                    via: None,
                    dev: Some(index),
                    weight: 1,
                    onlink: false,
                    dead: false,
                }),
                source: None,
                mtu: None,
                metric: if ipv6 { 256 } else { 0 },
                scope: if ipv6 { 0 } else { 253 },
                protocol: KERNEL,
                special: false,
            });
        }
    }

    fn resolve(&self, route: &Route, devs: &[Option<u32>]) -> Result<ActualRoute, &'static str> {
        let leads = matches!(route.kind, RouteKind::Unicast | RouteKind::Local);
        let mut next_hops = Vec::new();
        for (hop, dev) in route.next_hops.iter().zip(devs).filter(|_| leads) {
            if hop.dev.is_some() && dev.is_none() {
                return Err("no such device");
            }
            next_hops.push(ActualNextHop {
                via: hop.via,
                dev: Some(self.egress(route, hop, *dev)?),
                weight: if route.next_hops.len() > 1 { hop.weight } else { 1 },
                onlink: hop.onlink,
                dead: false,
            });
        }
        if leads && next_hops.is_empty() {
            return Err("no such device");
        }
        if let Some(source) = route.source
            && self.actual.addresses.iter().all(|there| there.address.addr() != source)
        {
            return Err("invalid argument");
        }
        Ok(ActualRoute {
            table: route.table,
            kind: Some(route.kind),
            to: route.to,
            next_hops: next_hops.into(),
            mtu: route.mtu,
            source: route.source.filter(|_| leads),
            metric: route.key().metric,
            scope: route.scope_number(),
            protocol: route.protocol,
            special: false,
        })
    }

    fn egress(&self, route: &Route, hop: &NextHop, dev: Option<u32>) -> Result<u32, &'static str> {
        let host_scope = route.kind == RouteKind::Local && route.to.addr().is_ipv4();
        if let Some(dev) = dev
            && !self.actual.is_up(dev)
            && !host_scope
        {
            return Err("network is down");
        }
        let Some(via) = hop.via else { return dev.ok_or("no such device") };
        let own = self.actual.addresses.iter().any(|there| there.address.addr() == via);
        if own && (via.is_ipv6() || hop.onlink) {
            return Err("invalid argument");
        }
        match dev {
            Some(dev) if hop.onlink => Ok(dev),
            _ if own => Err("the model does not know what comes of it"),
            dev => self.connected(route.table, via, dev).ok_or("network is unreachable"),
        }
    }

    /// The link of the longest network that holds a next hop: in the route's own table first, then
    /// where the rules lead it.
    fn connected(&self, table: TableId, via: IpAddr, dev: Option<u32>) -> Option<u32> {
        let mut rules: Vec<_> = self.actual.rules.iter().map(|rule| &rule.key).collect();
        rules.sort_by_key(|key| key.priority);
        let led_to = rules.into_iter().filter_map(|key| {
            let selects_all = RuleKey { to: None, iif: None, ..key.clone() }
                == RuleKey { ipv6: key.ipv6, ..everything(key.priority, key.table()?) };
            let from_here = key.iif.as_deref().is_none_or(|iif| iif == "lo");
            let to = key.to.is_none_or(|to| to.contains(&via));
            key.table().filter(|_| selects_all && from_here && to && !key.ipv6 && via.is_ipv4())
        });
        [table].into_iter().chain(led_to).chain([TableId::MAIN]).find_map(|table| {
            self.actual
                .routes
                .iter()
                .filter(|route| route.table == table)
                .filter(|route| route.is_connected() && route.to.contains(&via))
                .filter_map(|route| Some((route, route.only_dev()?)))
                .filter(|(_, link)| dev.is_none_or(|dev| dev == *link))
                .min_by_key(|(route, _)| (Reverse(route.to.prefix_len()), route.metric))
                .map(|(_, link)| link)
        })
    }
}

/// An address as the kernel has it after it was asked for it.
fn made(index: u32, address: &Address) -> ActualAddress {
    let ipv4 = address.address.addr().is_ipv4();
    ActualAddress {
        index,
        address: address.address,
        protocol: PROTOCOL_LOCKSTEP,
        broadcast: address.broadcast.filter(|_| ipv4),
        label: ipv4.then(|| address.label.as_ref().unwrap_or(&address.interface).clone()),
        scope: match address.scope {
            Scope::Global => 0,
            Scope::Link => 253,
            Scope::Host => 254,
        },
        secondary: false,
        tentative: false,
        duplicate: false,
    }
}

/// Whether a rule has all that the request to remove another one names. The kernel removes the
/// first of these, and asks nothing about what is not named; whoever carries changes out takes care
/// of our own.
pub(crate) fn is_taken_for(there: &ActualRule, removed: &ActualRule) -> bool {
    fn fits<T: PartialEq>(there: Option<&T>, named: Option<&T>) -> bool {
        named.is_none() || there == named
    }
    let (key, named) = (&there.key, &removed.key);
    there.protocol == removed.protocol
        && (key.ipv6, key.priority) == (named.ipv6, named.priority)
        && key.action == named.action
        && fits(key.from.as_ref(), named.from.as_ref())
        && fits(key.to.as_ref(), named.to.as_ref())
        && fits(key.fwmark.as_ref(), named.fwmark.as_ref())
        && fits(key.iif.as_ref(), named.iif.as_ref())
        && fits(key.oif.as_ref(), named.oif.as_ref())
        && (named.tos == 0 || key.tos == named.tos)
        && fits(key.ip_protocol.as_ref(), named.ip_protocol.as_ref())
        && fits(key.source_port.as_ref(), named.source_port.as_ref())
        && fits(key.destination_port.as_ref(), named.destination_port.as_ref())
        && fits(key.suppress_prefix_length.as_ref(), named.suppress_prefix_length.as_ref())
}
