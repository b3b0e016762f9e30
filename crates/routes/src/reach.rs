//! Whether the kernel would take a route now, told from links, addresses and connected networks.

use std::net::{IpAddr, Ipv6Addr};

use crate::{Actual, ActualRoute, NextHop, Reason, Route, RouteKind, TableId};

/// What stands in the way of a route, if anything.
///
/// The kernel looks a next hop up among the connected networks of the route's own table and then
/// of the main one; it refuses a route through a link that is down, and a source address that the
/// router does not have. A route of ours that is itself such a network and leaves in the same plan
/// still counts; the refusal that follows is tried again.
pub(crate) fn obstacle(route: &Route, actual: &Actual) -> Option<Reason> {
    if route.kind != RouteKind::Unicast {
        return None;
    }
    for dev in route.next_hops.iter().filter_map(|hop| hop.dev.as_ref()) {
        match actual.link(dev) {
            None => return Some(Reason::LinkMissing(dev.clone())),
            Some(link) if !link.up => return Some(Reason::LinkDown(dev.clone())),
            Some(_) => {}
        }
    }
    if let Some(source) = route.source
        && !has_address(actual, source)
    {
        return Some(Reason::SourceMissing(source));
    }
    route
        .next_hops
        .iter()
        .find_map(|hop| hop.via.and_then(|via| next_hop_obstacle(route, hop, via, actual)))
}

/// The link that a next hop without a declared one is on.
pub(crate) fn egress(route: &Route, hop: &NextHop, actual: &Actual) -> Option<u32> {
    networks_of(route, hop.via?, actual)
        .map(|network| (network.to.prefix_len(), network.only_dev()))
        .max()?
        .1
}

fn next_hop_obstacle(route: &Route, hop: &NextHop, via: IpAddr, actual: &Actual) -> Option<Reason> {
    if has_address(actual, via) {
        return Some(Reason::NextHopOwn(via));
    }
    if hop.dev.is_some() && (hop.onlink || is_link_local(via)) {
        return None;
    }
    let dev = hop.dev.as_deref().and_then(|name| actual.link(name)).map(|link| link.index);
    let mut elsewhere = None;
    for network in networks_of(route, via, actual) {
        if dev.is_none() || network.only_dev() == dev {
            return None;
        }
        elsewhere = elsewhere.or(hop.dev.clone());
    }
    if let Some(dev) = elsewhere {
        return Some(Reason::NextHopElsewhere { via, dev });
    }
    // An address whose network holds the next hop names the link it is waiting for.
    let waiting = actual
        .addresses
        .iter()
        .find(|there| there.address.contains(&via) && !actual.is_up(there.index));
    Some(match waiting {
        Some(there) => Reason::LinkDown(actual.link_name(there.index)),
        None => Reason::NextHopUnreachable(via),
    })
}

/// Connected networks of up links that hold `via`.
fn networks_of<'a>(
    route: &'a Route,
    via: IpAddr,
    actual: &'a Actual,
) -> impl Iterator<Item = &'a ActualRoute> {
    actual.routes.iter().filter(move |network| {
        network.is_connected()
            && (network.table == route.table || network.table == TableId::MAIN)
            && network.to.contains(&via)
            && network.only_dev().is_some_and(|dev| actual.is_up(dev))
    })
}

fn has_address(actual: &Actual, address: IpAddr) -> bool {
    actual.addresses.iter().any(|there| there.address.addr() == address)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}
