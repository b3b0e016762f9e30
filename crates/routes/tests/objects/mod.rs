//! Declared and dumped objects, as briefly as a person writes them; the tests of the kernel's side
//! include this file too.

#![allow(dead_code, reason = "each file of tests needs a part of it")]

use std::sync::Arc;

use lockstep_routes::{
    ActualAddress, ActualLink, Address, Change, Condition, NextHop, PROTOCOL_LOCKSTEP, Route,
    RouteKind, Rule, RuleAction, RuleKey, Scope, TableId,
};

/// A unicast route in the main table that leads nowhere yet.
pub(crate) fn route(to: &str) -> Route {
    Route {
        kind: RouteKind::Unicast,
        to: to.parse().unwrap(),
        next_hops: Vec::new(),
        source: None,
        table: TableId::MAIN,
        metric: None,
        mtu: None,
        scope: None,
        protocol: PROTOCOL_LOCKSTEP,
        condition: Condition::ALWAYS,
    }
}

/// A next hop; an empty word leaves out what it stands for.
pub(crate) fn hop(via: &str, dev: &str) -> NextHop {
    NextHop {
        via: (!via.is_empty()).then(|| via.parse().unwrap()),
        dev: (!dev.is_empty()).then(|| dev.to_owned()),
        weight: 1,
        onlink: false,
    }
}

/// The next hops of a route with a router and no declared link.
pub(crate) fn via(router: &str) -> Vec<NextHop> {
    vec![hop(router, "")]
}

/// The next hops of a route with a link and no router.
pub(crate) fn dev(name: &str) -> Vec<NextHop> {
    vec![hop("", name)]
}

/// Adds a route whose next hops declare no link.
pub(crate) fn addition(route: Route) -> Change {
    let devs = vec![None; route.next_hops.len()];
    Change::AddRoute { route: Arc::new(route), devs }
}

/// An address that is always wanted.
pub(crate) fn address(interface: &str, address: &str) -> Address {
    Address {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        broadcast: None,
        label: None,
        scope: Scope::Global,
        condition: Condition::ALWAYS,
    }
}

/// What selects every IPv4 packet.
pub(crate) fn everything(priority: u32, table: TableId) -> RuleKey {
    RuleKey {
        ipv6: false,
        priority,
        from: None,
        to: None,
        fwmark: None,
        iif: None,
        oif: None,
        tos: 0,
        ip_protocol: None,
        source_port: None,
        destination_port: None,
        suppress_prefix_length: None,
        action: RuleAction::Lookup(table),
    }
}

/// A rule with these selectors that is always wanted.
pub(crate) fn rule(key: RuleKey) -> Rule {
    Rule { key, protocol: PROTOCOL_LOCKSTEP, condition: Condition::ALWAYS }
}

/// As they are declared.
pub(crate) fn shared(routes: impl IntoIterator<Item = Route>) -> Vec<Arc<Route>> {
    routes.into_iter().map(Arc::new).collect()
}

/// A link of no special kind; its carrier is there when it is up.
pub(crate) fn link(index: u32, name: &str, up: bool) -> ActualLink {
    ActualLink {
        index,
        name: name.to_owned(),
        up,
        carrier: up,
        mtu: 1500,
        mac: [2; 6],
        macvlan: None,
        alias: String::new(),
    }
}

/// An address on a link, of nobody's number.
pub(crate) fn there(index: u32, address: &str) -> ActualAddress {
    ActualAddress {
        index,
        address: address.parse().unwrap(),
        protocol: 0,
        broadcast: None,
        label: None,
        scope: 0,
        secondary: false,
        tentative: false,
        duplicate: false,
    }
}
