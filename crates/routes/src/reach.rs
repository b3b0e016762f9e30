//! Whether the kernel would take a route now, told from links, addresses and connected networks.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::index::Index;
use crate::{NextHop, Reason, Route, RouteKind};

/// As much of a route as the kernel would take now: of several next hops those that can be, or the
/// first reason why it cannot be at all.
///
/// The kernel looks a next hop up among the connected networks of the route's own table and then
/// by its rules, see [`Networks::links_to`](crate::networks::Networks::links_to); it refuses a route through a link that is down, and a
/// source address that the router does not have. Of several next hops it takes all or none. But a
/// route that is there when one of its links goes down it keeps, and uses the others: one that
/// comes later is to be no worse.
pub(crate) fn possible(route: &Arc<Route>, index: &Index<'_>) -> Result<Arc<Route>, Reason> {
    if !leads(route) {
        return Ok(Arc::clone(route));
    }
    if let Some(source) = route.source.filter(|source| !index.is_source(*source)) {
        return Err(first_obstacle(route, index).unwrap_or(Reason::SourceMissing(source)));
    }
    let Some(reason) = first_obstacle(route, index) else { return Ok(Arc::clone(route)) };
    let can_be = |hop: &&NextHop| hop_obstacle(route, hop, index).is_none();
    let next_hops: Vec<_> = route.next_hops.iter().filter(can_be).cloned().collect();
    if next_hops.is_empty() {
        return Err(reason);
    }
    Ok(Arc::new(Route { next_hops, ..Route::clone(route) }))
}

/// What stands in the way of the first next hop that cannot be.
pub(crate) fn first_obstacle(route: &Route, index: &Index<'_>) -> Option<Reason> {
    route.next_hops.iter().filter(|_| leads(route)).find_map(|hop| hop_obstacle(route, hop, index))
}

/// Whether packets go out by it, or end here.
fn leads(route: &Route) -> bool {
    matches!(route.kind, RouteKind::Unicast | RouteKind::Local)
}

/// What stands in the way of one next hop; among several it is named.
fn hop_obstacle(route: &Route, hop: &NextHop, index: &Index<'_>) -> Option<Reason> {
    let reason = match link_obstacle(route, hop, index) {
        Some(reason) => reason,
        None => next_hop_obstacle(route, hop, hop.via?, index)?,
    };
    let named = matches!(
        reason,
        Reason::NextHopOwn(_) | Reason::NextHopElsewhere { .. } | Reason::NextHopUnreachable(_)
    );
    Some(match hop.via {
        Some(via) if route.next_hops.len() > 1 && !named => {
            Reason::OfNextHop { via, reason: Box::new(reason) }
        }
        _ => reason,
    })
}

fn link_obstacle(route: &Route, hop: &NextHop, index: &Index<'_>) -> Option<Reason> {
    let dev = hop.dev.as_ref()?;
    let Some(link) = index.link(dev) else { return Some(Reason::LinkMissing(dev.clone())) };
    // Local addresses of IPv4 do not care whether their link is up.
    let needs_up = route.kind == RouteKind::Unicast || route.to.addr().is_ipv6();
    (needs_up && !index.is_up(link.index)).then(|| Reason::LinkDown(dev.clone()))
}

fn next_hop_obstacle(
    route: &Route,
    hop: &NextHop,
    via: IpAddr,
    index: &Index<'_>,
) -> Option<Reason> {
    if index.is_own(via) {
        return Some(Reason::NextHopOwn(via));
    }
    if hop.dev.is_some() && (hop.onlink || is_link_local(via)) {
        return None;
    }
    let mut links = index.links_to(route.table, via).peekable();
    if links.peek().is_some() {
        let Some(dev) = &hop.dev else { return None };
        let declared = index.link(dev).map(|link| link.index);
        return (!links.any(|link| Some(link) == declared))
            .then(|| Reason::NextHopElsewhere { via, dev: dev.clone() });
    }
    // An address whose network holds the next hop names the link it is waiting for.
    Some(match index.link_asleep(via) {
        Some(link) => Reason::LinkDown(index.actual.link_name(link)),
        None => Reason::NextHopUnreachable(via),
    })
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6))
}
