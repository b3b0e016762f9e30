//! Whatever is there and whatever is wanted: a strict model of the kernel takes every change of
//! every plan, ends where it should, and keeps what others made.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "properties/kernel.rs"]
mod kernel;

use std::sync::Arc;

use lockstep_routes::{
    Actual, ActualAddress, ActualLink, ActualNextHop, ActualRoute, ActualRule, Address, Change,
    Condition, Declared, Desired, Kind, Link, NextHop, Owned, PROTOCOL_LOCKSTEP, Phases, Reason,
    Refusals, Route, RouteKind, Rule, RuleAction, RuleKey, Scope, Side, State, TableId, When,
    assess, plan, plan_kind,
};
use proptest::collection::vec;
use proptest::prelude::*;

use kernel::Kernel;

/// Plans after which nothing may be left to do: links, addresses, routes, and what took a place.
const ROUNDS: usize = 5;
/// A protocol number of somebody else's.
const FOREIGN: u8 = 18;
const GROUP: &str = "gateway";

fn condition() -> impl Strategy<Value = Condition> {
    let when = prop_oneof![Just(When::Always), Just(When::Master), Just(When::Backup)];
    when.prop_map(|when| Condition { when, group: Some(GROUP.to_owned()) })
}

fn address() -> impl Strategy<Value = Address> {
    let place = prop_oneof![
        Just(("eth0", "10.0.0.1/24")),
        Just(("eth0", "10.0.0.9/32")),
        Just(("eth0", "2001:db8::1/64")),
        Just(("eth1", "10.1.0.1/24")),
        Just(("eth1", "10.7.0.1/24")),
        Just(("eth1", "2001:db8:1::1/64")),
        Just(("eth9", "10.9.0.1/24")),
    ];
    (place, condition()).prop_map(|((interface, address), condition)| Address {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        broadcast: None,
        label: None,
        scope: Scope::Global,
        condition,
    })
}

fn route() -> impl Strategy<Value = Route> {
    let to = prop_oneof![Just("0.0.0.0/0"), Just("10.50.0.0/16"), Just("::/0")];
    let kind = prop_oneof![
        4 => Just(RouteKind::Unicast),
        1 => Just(RouteKind::Throw),
        1 => Just(RouteKind::Blackhole)
    ];
    let host = prop_oneof![Just(254u8), Just(253), Just(9)];
    let network = prop_oneof![Just(0u8), Just(1), Just(7), Just(8)];
    let dev = prop_oneof![Just(None), Just(Some("eth0")), Just(Some("eth1")), Just(Some("eth9"))];
    let table = prop_oneof![Just(TableId::MAIN), Just(TableId(2)), Just(TableId(300))];
    let protocol = prop_oneof![3 => Just(PROTOCOL_LOCKSTEP), 1 => Just(PROTOCOL_LOCKSTEP)];
    let source = prop_oneof![4 => Just(None), 1 => Just(Some("10.0.0.9"))];
    let gateway = prop::option::weighted(0.8, (network, host));
    let rest = (any::<bool>(), protocol, source, condition());
    (to, kind, gateway, dev, table, rest).prop_map(
        |(to, kind, gateway, dev, table, (onlink, protocol, source, condition))| {
            let ipv6 = to.contains(':');
            let via = gateway.map(|(network, host)| {
                let ipv4 = format!("10.{network}.0.{host}");
                let ipv6_text = format!("2001:db8:{network}::{host}");
                (if ipv6 { ipv6_text } else { ipv4 }).parse().unwrap()
            });
            let dev = if via.is_none() { dev.or(Some("eth0")) } else { dev };
            // An on-link route that holds next hops and leaves in the same plan is tried again
            // after the refusal; here every change must be taken.
            let to = match (via, ipv6) {
                (Some(_), _) => to,
                (None, false) => "10.50.0.0/16",
                (None, true) => "2001:db8:50::/48",
            };
            Route {
                kind,
                to: to.parse().unwrap(),
                next_hops: (kind == RouteKind::Unicast)
                    .then(|| NextHop {
                        via,
                        dev: dev.map(str::to_owned),
                        weight: 1,
                        onlink: onlink && dev.is_some(),
                    })
                    .into_iter()
                    .collect(),
                mtu: None,
                source: source
                    .filter(|_| !ipv6 && kind == RouteKind::Unicast)
                    .map(|source| source.parse().unwrap()),
                table,
                metric: None,
                scope: None,
                protocol,
                condition,
            }
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let table = prop_oneof![Just(TableId(2)), Just(TableId(300))];
    (0..3u32, table, condition()).prop_map(|(priority, table, condition)| Rule {
        key: RuleKey {
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
        },
        protocol: PROTOCOL_LOCKSTEP,
        condition,
    })
}

prop_compose! {
    fn declared()(
        link in prop::option::of(condition()),
        addresses in vec(address(), 0..5),
        routes in vec(route(), 0..8),
        rules in vec(rule(), 0..4),
    ) -> Declared {
        let links = link.map(|up| Link { interface: "eth1".to_owned(), up }).into_iter().collect();
        let routes = routes.into_iter().map(Arc::new).collect();
        Declared { links, addresses, routes, rules, tables: Vec::new(), virtual_links: Vec::new() }
    }
}

prop_compose! {
    fn phases()(sides in vec(0..3usize, 3)) -> Phases {
        let mut phases = Phases::default();
        for (kind, side) in [Kind::Links, Kind::Addresses, Kind::Routes].into_iter().zip(sides) {
            let side = [Side::Unsettled, Side::Backup, Side::Master][side];
            phases.settle(GROUP, kind, side);
        }
        phases
    }
}

prop_compose! {
    /// Two links with addresses of their own, and what an earlier run and others have left.
    fn actual()(
        up in any::<bool>(),
        missing in prop::bool::weighted(0.2),
        left_over in vec((address(), any::<bool>()), 0..3),
        routes in vec((route(), any::<bool>()), 0..5),
        rules in vec((rule(), any::<bool>()), 0..3),
    ) -> Actual {
        let mut kernel = Kernel::default();
        kernel.link(ActualLink {
            index: 1, name: "eth0".to_owned(), up: true, carrier: true, mtu: 1500, mac: [2; 6],
            macvlan: None, alias: String::new(),
        });
        kernel.address(ActualAddress {
            index: 1, address: "10.0.0.2/24".parse().unwrap(), protocol: 0,
            broadcast: None,label: None,scope: 0, secondary: false, tentative: false, duplicate: false,
        });
        if !missing {
            kernel.link(ActualLink {
                index: 2, name: "eth1".to_owned(), up, carrier: up, mtu: 1500, mac: [4; 6],
                macvlan: None, alias: String::new(),
            });
            kernel.address(ActualAddress {
                index: 2, address: "10.1.0.2/24".parse().unwrap(), protocol: 0,
                broadcast: None,label: None,scope: 0, secondary: false, tentative: false, duplicate: false,
            });
        }
        for (address, ours) in left_over {
            let Some(link) = kernel.actual.link(&address.interface) else { continue };
            let index = link.index;
            let protocol = if ours { PROTOCOL_LOCKSTEP } else { 0 };
            kernel.address(ActualAddress {
                index, address: address.address, protocol, broadcast: None,label: None,scope: 0, secondary: false, tentative: false, duplicate: false,
            });
        }
        for (route, ours) in routes {
            let protocol = if ours { PROTOCOL_LOCKSTEP } else { FOREIGN };
            // Others' routes lead over the link that is never switched.
            let next_hop = if route.to.addr().is_ipv4() { "10.0.0.77" } else { "fe80::77" };
            kernel.route(ActualRoute {
                table: route.table,
                kind: Some(route.kind),
                to: route.to,
                next_hops: (route.kind == RouteKind::Unicast)
                    .then(|| ActualNextHop {
                        via: Some(next_hop.parse().unwrap()),
                        dev: Some(1),
                        weight: 1,
                        onlink: false,
                    })
                    .into_iter()
                    .collect(),
                source: None,
                mtu: None,
                metric: route.key().metric,
                scope: 0,
                protocol,
                special: false,
            });
        }
        for (rule, ours) in rules {
            let protocol = if ours { PROTOCOL_LOCKSTEP } else { FOREIGN };
            kernel.rule(ActualRule { key: rule.key(), protocol, special: false });
        }
        kernel.actual
    }
}

/// What bears somebody else's protocol number, or is an address that was never declared.
fn of_others(actual: &Actual, declared: &Declared) -> Actual {
    let is_declared = |there: &ActualAddress| {
        declared.addresses.iter().any(|address| {
            address.address == there.address && actual.link_name(there.index) == address.interface
        })
    };
    let mut others = actual.clone();
    others.links.clear();
    others.addresses.retain(|there| there.protocol == 0 && there.address.addr().is_ipv4());
    others.addresses.retain(|there| !is_declared(there));
    others.routes.retain(|route| route.protocol == FOREIGN);
    others.rules.retain(|rule| rule.protocol == FOREIGN);
    others
}

/// Where a change stands in the order of a plan.
fn rank(change: &Change) -> u8 {
    match change {
        Change::RemoveLink { .. } | Change::AddVirtualLink { .. } | Change::RemoveRule { .. } => 0,
        Change::SetLink { up: true, .. } => 1,
        Change::AddAddress { .. } => 2,
        Change::AddRoute { .. } | Change::ReplaceRoute { .. } => 3,
        Change::AddRule { .. } => 4,
        Change::RemoveRoute { .. } => 5,
        Change::RemoveAddress { .. } => 6,
        Change::SetLink { up: false, .. } => 7,
    }
}

/// Plans and carries out until nothing is left; every change must be taken.
fn settle(kernel: &mut Kernel, desired: Desired<'_>) -> Result<(), TestCaseError> {
    for _ in 0..ROUNDS {
        let changes = plan(desired, &kernel.actual);
        if changes.is_empty() {
            return Ok(());
        }
        prop_assert!(changes.is_sorted_by_key(rank), "out of order: {changes:#?}");
        for change in &changes {
            let taken = kernel.carry_out(change);
            prop_assert_eq!(
                taken,
                Ok(()),
                "{} of {:#?} in {:#?}",
                change,
                &changes,
                &kernel.actual
            );
        }
    }
    let left = plan(desired, &kernel.actual);
    prop_assert!(left.is_empty(), "never settles: {left:#?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn plans_lead_to_what_is_wanted_and_then_end(
        declared in declared(), first in phases(), second in phases(), actual in actual()
    ) {
        let mut kernel = Kernel { actual };
        for phases in [first, second] {
            let owned = Owned::default();
            let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
            settle(&mut kernel, desired)?;
            let states = assess(desired, &kernel.actual, &Refusals::default());
            let all = [states.links, states.addresses, states.routes, states.rules].concat();
            for state in all {
                let unfinished = [State::Pending(Reason::Due), State::Pending(Reason::Leaving)];
                prop_assert!(!unfinished.contains(&state), "{state:?} in {:#?}", kernel.actual);
            }
        }
    }

    #[test]
    fn what_others_made_stays(declared in declared(), phases in phases(), actual in actual()) {
        let before = of_others(&actual, &declared);
        let mut kernel = Kernel { actual };
        settle(&mut kernel, Desired { declared: &declared, phases: &phases, owned: &Owned::default() })?;
        prop_assert_eq!(of_others(&kernel.actual, &declared), before);
    }

    #[test]
    fn no_address_of_a_group_stays_on_a_router_that_is_not_master(
        declared in declared(), actual in actual()
    ) {
        let mut kernel = Kernel { actual };
        let phases = Phases::default();
        let owned = Owned::default();
        let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
        for change in plan_kind(desired, &kernel.actual, Kind::Addresses) {
            prop_assert_eq!(kernel.carry_out(&change), Ok(()));
        }
        let always = |address: &&Address| address.condition.when == When::Always;
        for there in &kernel.actual.addresses {
            let name = kernel.actual.link_name(there.index);
            let mut entries = declared
                .addresses
                .iter()
                .filter(|address| address.interface == name && address.address == there.address)
                .peekable();
            prop_assert!(entries.peek().is_none() || entries.any(|address| always(&address)));
        }
    }

    #[test]
    fn what_is_recorded_of_an_acknowledged_change_leaves_nothing_of_it_to_do(
        declared in declared(), phases in phases(), actual in actual()
    ) {
        let owned = Owned::default();
        let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
        let mut recorded = actual;
        for change in plan(desired, &recorded.clone()) {
            recorded.record(&change);
            let again = plan(desired, &recorded);
            prop_assert!(!again.contains(&change), "{change} is planned again");
        }
    }
}
