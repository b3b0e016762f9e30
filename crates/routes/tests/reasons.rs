//! What a person reads: the state of each object and why, and the order of what is done.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "a test has a clock")]

mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_routes::{
    Actual, ActualNextHop, ActualRoute, ActualRule, Address, Change, Condition, Declared, Desired,
    Fwmark, Interest, Kind, NextHop, NextHops, Object, Owned, PROTOCOL_LOCKSTEP, Phases, Refusals,
    Route, RouteKind, Rule, RuleKey, Scope, Side, State, TableId, When, assess, assess_groups,
    plan,
};

use objects::{link, there};

const TABLE_ETH2: TableId = TableId(2);

fn hop(via: Option<&str>, dev: Option<u32>) -> ActualNextHop {
    ActualNextHop {
        via: via.map(|via| via.parse().unwrap()),
        dev,
        weight: 1,
        onlink: false,
        dead: false,
    }
}

fn connected(index: u32, to: &str) -> ActualRoute {
    ActualRoute {
        table: TableId::MAIN,
        kind: Some(RouteKind::Unicast),
        to: to.parse().unwrap(),
        next_hops: NextHops::one(hop(None, Some(index))),
        source: None,
        metric: 0,
        mtu: None,
        scope: 253,
        protocol: 2,
        special: false,
    }
}

/// `eth0` up, `eth2` as said; both with an address.
fn router(eth2_up: bool) -> Actual {
    let mut actual = Actual::default();
    actual.links.insert(1, link(1, "eth0", true));
    actual.links.insert(2, link(2, "eth2", eth2_up));
    actual.addresses = vec![there(1, "10.1.1.2/24"), there(2, "10.147.48.2/20")];
    actual.routes.push(connected(1, "10.1.1.0/24"));
    if eth2_up {
        actual.routes.push(connected(2, "10.147.48.0/20"));
    }
    actual
}

fn route(to: &str, via: Option<&str>, dev: Option<&str>) -> Route {
    let hop = objects::hop(via.unwrap_or_default(), dev.unwrap_or_default());
    Route { next_hops: vec![hop], table: TABLE_ETH2, ..objects::route(to) }
}

fn rule(priority: u32) -> Rule {
    let fwmark = Some(Fwmark { value: 2, mask: u32::MAX });
    objects::rule(RuleKey { fwmark, ..objects::everything(priority, TABLE_ETH2) })
}

fn routes(routes: Vec<Route>) -> Declared {
    Declared { routes: routes.into_iter().map(Arc::new).collect(), ..Declared::default() }
}

/// Nothing bears another protocol number than ours.
static NOTHING_OWNED: Owned = Owned { routes: BTreeMap::new(), rules: BTreeSet::new() };

fn desired<'a>(declared: &'a Declared, phases: &'a Phases) -> Desired<'a> {
    Desired { declared, phases, owned: &NOTHING_OWNED }
}

fn reason_of(route: Route, actual: &Actual) -> Option<String> {
    let declared = routes(vec![route]);
    let phases = Phases::default();
    let desired = desired(&declared, &phases);
    assess(desired, actual, &Refusals::default()).routes[0].reason()
}

fn master_of(group: &str) -> Phases {
    let mut phases = Phases::default();
    for kind in [Kind::Links, Kind::Addresses, Kind::Routes] {
        phases.settle(group, kind, Side::Master);
    }
    phases
}

#[test]
fn every_obstacle_has_its_sentence() {
    let with_source = Route {
        source: Some("10.1.1.1".parse().unwrap()),
        ..route("10.2.0.0/16", Some("10.1.1.254"), None)
    };
    let seed = || route("10.147.70.0/24", Some("10.147.52.1"), None);
    let without_address = {
        let mut actual = router(false);
        actual.addresses.pop();
        actual
    };
    let cases = [
        (seed(), router(false), Some("link eth2 is down")),
        (seed(), without_address, Some("next hop 10.147.52.1 is on no connected network")),
        (seed(), router(true), Some("about to be installed")),
        (route("0.0.0.0/0", None, Some("eth2")), router(false), Some("link eth2 is down")),
        (route("0.0.0.0/0", None, Some("eth9")), router(true), Some("eth9 does not exist")),
        (
            route("0.0.0.0/0", Some("10.147.48.1"), Some("eth0")),
            router(true),
            Some("next hop 10.147.48.1 is on no network of eth0"),
        ),
        (
            route("0.0.0.0/0", Some("10.1.1.2"), None),
            router(true),
            Some("next hop 10.1.1.2 is this router itself"),
        ),
        (with_source, router(true), Some("source address 10.1.1.1 is missing")),
    ];
    for (route, actual, reason) in cases {
        let text = route.to_string();
        assert_eq!(reason_of(route, &actual).as_deref(), reason, "{text}");
    }
}

#[test]
fn an_onlink_or_link_local_next_hop_needs_only_its_link() {
    let mut onlink = route("0.0.0.0/0", Some("203.0.113.1"), Some("eth2"));
    onlink.next_hops[0].onlink = true;
    let link_local = route("::/0", Some("fe80::1"), Some("eth2"));
    for route in [onlink, link_local] {
        let down = reason_of(route.clone(), &router(false));
        assert_eq!(down.as_deref(), Some("link eth2 is down"));
        assert_eq!(reason_of(route, &router(true)).as_deref(), Some("about to be installed"));
    }
}

#[test]
fn a_connected_network_in_the_routes_own_table_serves_too() {
    let mut actual = router(true);
    actual.routes.push(ActualRoute { table: TABLE_ETH2, ..connected(2, "10.50.0.0/24") });
    let through = route("10.60.0.0/16", Some("10.50.0.1"), None);
    let elsewhere = Route { table: TableId(9), ..through.clone() };
    assert_eq!(reason_of(through, &actual).as_deref(), Some("about to be installed"));
    let nowhere = "next hop 10.50.0.1 is on no connected network";
    assert_eq!(reason_of(elsewhere, &actual).as_deref(), Some(nowhere));
}

#[test]
fn a_rule_goes_in_after_its_tables_routes_and_out_before_them() {
    let mut actual = router(true);
    let declared = Declared {
        routes: vec![Arc::new(route("0.0.0.0/0", Some("10.147.48.1"), None))],
        rules: vec![rule(32_000)],
        ..Declared::default()
    };
    let phases = Phases::default();
    let there = plan(desired(&declared, &phases), &actual);
    assert!(matches!(there[..], [Change::AddRoute { .. }, Change::AddRule { .. }]), "{there:?}");
    for change in &there {
        actual.record(change);
    }
    let nothing = Declared::default();
    let back = plan(desired(&nothing, &phases), &actual);
    let words: Vec<String> = back.iter().map(Change::to_string).collect();
    assert_eq!(
        words,
        [
            "remove rule from all fwmark 0x2 lookup 2 priority 32000",
            "remove route default via 10.147.48.1 table 2",
        ]
    );
}

#[test]
fn a_default_route_that_changes_side_is_replaced_without_a_gap() {
    let follows = |when| Condition { when, group: Some("gateway".to_owned()) };
    let declared = routes(vec![
        Route {
            condition: follows(When::Master),
            ..route("0.0.0.0/0", Some("10.147.48.1"), Some("eth2"))
        },
        Route { condition: follows(When::Backup), ..route("0.0.0.0/0", Some("10.1.1.1"), None) },
    ]);
    let mut actual = router(true);
    let mut phases = Phases::default();
    for (side, via) in [(Side::Backup, "10.1.1.1"), (Side::Master, "10.147.48.1")] {
        phases.settle("gateway", Kind::Routes, side);
        let changes = plan(desired(&declared, &phases), &actual);
        let [Change::AddRoute { route, .. } | Change::ReplaceRoute { route, .. }] = &changes[..]
        else {
            panic!("{changes:?}")
        };
        assert_eq!(route.next_hops[0].via, Some(via.parse().unwrap()));
        actual.record(&changes[0]);
    }
    let last = actual.routes.last().unwrap();
    assert_eq!(last.next_hops, [hop(Some("10.147.48.1"), Some(2))]);
}

#[test]
fn a_route_in_somebody_elses_place_is_theirs() {
    let mut actual = router(true);
    let wanted = route("0.0.0.0/0", Some("10.147.48.1"), Some("eth2"));
    let theirs = ActualRoute {
        table: TABLE_ETH2,
        to: wanted.to,
        next_hops: NextHops::one(hop(Some("10.147.48.7"), Some(2))),
        scope: 0,
        protocol: 186,
        ..connected(2, "0.0.0.0/0")
    };
    actual.routes.push(theirs);
    let reason = reason_of(wanted.clone(), &actual);
    assert_eq!(
        reason.as_deref(),
        Some("in its place is default via 10.147.48.7 dev eth2 table 2, of protocol bgp")
    );
    let declared = routes(vec![wanted]);
    assert_eq!(plan(desired(&declared, &Phases::default()), &actual), []);
}

#[test]
fn an_unsettled_group_leaves_links_alone_and_wants_nothing() {
    let follows = |when| Condition { when, group: Some("gateway".to_owned()) };
    let declared = Declared {
        links: vec![lockstep_routes::Link {
            interface: "eth2".to_owned(),
            up: follows(When::Master),
        }],
        routes: vec![Arc::new(Route {
            condition: follows(When::Backup),
            ..route("10.2.0.0/16", Some("10.1.1.254"), None)
        })],
        ..Declared::default()
    };
    for up in [true, false] {
        let phases = Phases::default();
        let desired = desired(&declared, &phases);
        assert_eq!(plan(desired, &router(up)), []);
        let groups = BTreeSet::from(["gateway", "another"]);
        let refusals = Refusals::default();
        let states = assess_groups(desired, &router(up), &refusals, &groups, Kind::Links);
        assert_eq!(states["gateway"][0].as_str(), "pending");
        assert!(!states["gateway"][0].is_missing());
        assert_eq!(states.len(), 1, "nothing follows the other one");
    }
}

#[test]
fn a_link_that_is_up_without_carrier_is_pending() {
    let declared = Declared {
        links: vec![lockstep_routes::Link {
            interface: "eth2".to_owned(),
            up: Condition { when: When::Master, group: Some("gateway".to_owned()) },
        }],
        ..Declared::default()
    };
    let mut actual = router(true);
    actual.links.get_mut(&2).unwrap().carrier = false;
    let phases = master_of("gateway");
    let desired = desired(&declared, &phases);
    let states = assess(desired, &actual, &Refusals::default());
    assert_eq!(states.links[0].reason().as_deref(), Some("no carrier on eth2"));
}

#[test]
fn a_refused_change_waits_longer_each_time_and_is_forgotten_when_it_is_taken() {
    let start = Instant::now();
    let object = Object::Link("eth2".to_owned());
    let mut refusals = Refusals::default();
    let mut now = start;
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert!(refusals.is_due(&object, now));
        refusals.refused(object.clone(), "No such device".to_owned(), now);
        let next = refusals.next_deadline().unwrap();
        assert!(!refusals.is_due(&object, now) && refusals.is_due(&object, next));
        waits.push(next - now);
        now = next;
    }
    assert_eq!(waits[..3], [100, 200, 400].map(Duration::from_millis));
    assert_eq!(waits[11], Duration::from_secs(30));
    assert_eq!(refusals.of(&object).unwrap().attempts, 12);
    refusals.accepted(&object);
    assert_eq!(refusals.next_deadline(), None);
}

#[test]
fn a_refusal_is_shown_in_the_kernels_words() {
    let wanted = route("10.2.0.0/16", Some("10.1.1.254"), None);
    let mut refusals = Refusals::default();
    let object = Object::Route(wanted.key());
    refusals.refused(object.clone(), "Operation not permitted".to_owned(), Instant::now());
    refusals.refused(object, "Operation not permitted".to_owned(), Instant::now());
    let declared = routes(vec![wanted]);
    let phases = Phases::default();
    let desired = desired(&declared, &phases);
    let state = assess(desired, &router(true), &refusals).routes[0].clone();
    assert_eq!(state.as_str(), "failed");
    assert_eq!(state.reason().as_deref(), Some("Operation not permitted (2 times)"));
}

#[test]
fn a_dump_keeps_what_is_ours_in_our_place_or_connected() {
    let declared = routes(vec![route("10.2.0.0/16", Some("10.1.1.254"), None)]);
    let interest = Interest::of(&declared);
    let tables: Vec<_> = interest.tables().collect();
    assert_eq!(tables, [TABLE_ETH2, TableId::MAIN]);
    let foreign = |to: &str, table| ActualRoute {
        next_hops: NextHops::one(hop(Some("10.1.1.9"), Some(1))),
        scope: 0,
        protocol: 186,
        table,
        ..connected(1, to)
    };
    let cases = [
        (foreign("10.3.0.0/16", TABLE_ETH2), false),
        (foreign("10.2.0.0/16", TableId::MAIN), false),
        (foreign("10.2.0.0/16", TABLE_ETH2), true),
        (ActualRoute { protocol: PROTOCOL_LOCKSTEP, ..foreign("10.3.0.0/16", TABLE_ETH2) }, true),
        (connected(1, "10.1.1.0/24"), true),
    ];
    for (route, wanted) in cases {
        assert_eq!(interest.wants(&route), wanted, "{route}");
        let may = interest.may_want(false, route.to.prefix_len(), route.scope, route.protocol);
        assert!(may || !wanted, "the cheap check must not lose {route}");
    }
}

#[test]
fn objects_read_as_in_iproute2() {
    let vip = Address {
        interface: "eth0".to_owned(),
        address: "10.1.1.1/32".parse().unwrap(),
        broadcast: Some("10.1.1.255".parse().unwrap()),
        label: Some("eth0:1".to_owned()),
        scope: Scope::Link,
        condition: Condition::ALWAYS,
    };
    assert_eq!(vip.to_string(), "10.1.1.1/32 brd 10.1.1.255 dev eth0 label eth0:1 scope link");
    let declared = Declared {
        tables: vec![("Table_eth2".to_owned(), TABLE_ETH2)].into(),
        ..Declared::default()
    };
    assert_eq!(declared.table_name(TABLE_ETH2), "Table_eth2");
    assert_eq!(declared.table_name(TableId::MAIN), "main");
    assert_eq!(declared.table_name(TableId(9)), "9");
    let mut marked = rule(7);
    marked.key = RuleKey {
        from: Some("10.0.0.0/8".parse().unwrap()),
        to: Some("0.0.0.0/0".parse().unwrap()),
        fwmark: Some(Fwmark { value: 2, mask: 0xff }),
        iif: Some("eth1".to_owned()),
        ..marked.key
    };
    assert_eq!(
        marked.key().describe(&declared),
        "from 10.0.0.0/8 fwmark 0x2/0xff iif eth1 lookup Table_eth2 priority 7"
    );
}

#[test]
fn a_route_over_a_link_without_carrier_is_installed_and_says_so() {
    let declared = routes(vec![route("0.0.0.0/0", Some("10.147.48.1"), Some("eth2"))]);
    let mut actual = router(true);
    let phases = Phases::default();
    let desired = desired(&declared, &phases);
    actual.record_all(&plan(desired, &actual.clone()));
    actual.links.get_mut(&2).unwrap().carrier = false;
    let state = assess(desired, &actual, &Refusals::default()).routes.remove(0);
    assert_eq!(state, State::WithoutCarrier("eth2".to_owned()));
    assert_eq!((state.as_str(), state.is_missing()), ("installed", false));
    assert_eq!(state.reason().as_deref(), Some("no carrier on eth2"));
    assert_eq!(plan(desired, &actual), []);
}

#[test]
fn of_several_next_hops_the_one_that_cannot_be_is_named() {
    let several = |second: &NextHop| {
        let mut route = route("0.0.0.0/0", Some("10.1.1.254"), None);
        route.next_hops.push(second.clone());
        route
    };
    let second = |via: &str, dev| route("0.0.0.0/0", Some(via), dev).next_hops.remove(0);
    let cases = [
        (second("10.147.48.1", Some("eth2")), "next hop 10.147.48.1: link eth2 is down"),
        (second("10.147.48.1", None), "next hop 10.147.48.1: link eth2 is down"),
        (second("10.9.9.9", Some("eth9")), "next hop 10.9.9.9: eth9 does not exist"),
        (second("10.9.9.9", None), "next hop 10.9.9.9 is on no connected network"),
        (second("10.1.1.9", Some("eth2")), "next hop 10.1.1.9: link eth2 is down"),
        (second("10.1.1.2", None), "next hop 10.1.1.2 is this router itself"),
    ];
    for (hop, reason) in cases {
        let declared = routes(vec![several(&hop)]);
        let phases = Phases::default();
        let desired = desired(&declared, &phases);
        let mut actual = router(false);
        actual.record_all(&plan(desired, &actual.clone()));
        let state = assess(desired, &actual, &Refusals::default()).routes.remove(0);
        assert_eq!(state.as_str(), "pending");
        assert_eq!(state.reason(), Some(format!("in use in part: {reason}")));
        let mut neither = several(&hop);
        neither.next_hops.remove(0);
        neither.next_hops.push(hop);
        assert_eq!(reason_of(neither, &router(false)).as_deref(), Some(reason));
    }
}

#[test]
fn a_rule_that_cannot_be_removed_without_somebody_elses_says_so() {
    let at = |to: Option<&str>| {
        let to = to.map(|to| to.parse().unwrap());
        RuleKey { to, ..objects::everything(101, TABLE_ETH2) }
    };
    let there = |key| ActualRule { key, protocol: 4, special: false };
    let mut actual = router(true);
    actual.rules = vec![there(at(Some("10.60.0.0/15"))), there(at(None))];
    let condition = Condition { when: When::Master, group: Some("gateway".to_owned()) };
    let ours = Rule { protocol: 4, condition, ..objects::rule(at(None)) };
    let mut owned = NOTHING_OWNED.clone();
    owned.note(&Change::AddRule { rule: ours.clone() });
    let declared = Declared { rules: vec![ours], ..Declared::default() };
    let phases = Phases::default();
    let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
    let reason = |actual: &Actual| {
        assess(desired, actual, &Refusals::default()).rules.remove(0).reason().unwrap()
    };
    assert_eq!(plan(desired, &actual), []);
    let stays = "it stays: the kernel would remove a rule of somebody else's in its place";
    assert_eq!(reason(&actual), stays);
    actual.rules.reverse();
    assert_eq!(plan(desired, &actual).len(), 1);
    assert_eq!(reason(&actual), "about to be removed");
}

#[test]
fn a_next_hop_is_found_in_the_tables_that_the_rules_lead_the_router_itself_to() {
    let mut actual = router(true);
    let there = TableId(300);
    actual.routes.push(ActualRoute { table: there, ..connected(2, "10.60.0.0/24") });
    let beyond = || route("10.61.0.0/16", Some("10.60.0.9"), None);
    let unreachable = Some("next hop 10.60.0.9 is on no connected network".to_owned());
    assert_eq!(reason_of(beyond(), &actual), unreachable);
    let all = || objects::everything(100, there);
    let to = |net: &str| Some(net.parse().unwrap());
    let iif = |name: &str| Some(name.to_owned());
    let fwmark = Some(Fwmark { value: 2, mask: u32::MAX });
    let cases = [
        (all(), true),
        (RuleKey { to: to("10.60.0.0/16"), ..all() }, true),
        (RuleKey { to: to("10.61.0.0/16"), ..all() }, false),
        (RuleKey { iif: iif("lo"), ..all() }, true),
        (RuleKey { iif: iif("eth0"), ..all() }, false),
        (RuleKey { fwmark, ..all() }, false),
        (RuleKey { from: to("10.0.0.0/8"), ..all() }, false),
        (RuleKey { ipv6: true, ..all() }, false),
    ];
    for (key, leads) in cases {
        let mut actual = actual.clone();
        actual.rules.push(ActualRule { key: key.clone(), protocol: 4, special: false });
        let due = Some("about to be installed".to_owned());
        let wanted = if leads { due } else { unreachable.clone() };
        assert_eq!(reason_of(beyond(), &actual), wanted, "{key}");
    }
}

#[test]
fn what_is_in_the_way_is_shown_with_names() {
    let mut declared = routes(vec![route("0.0.0.0/0", Some("10.147.48.1"), None)]);
    declared.tables = vec![("Table_eth2".to_owned(), TABLE_ETH2)].into();
    let vip: Address = Address {
        interface: "eth0".to_owned(),
        address: "2001:db8::1/64".parse().unwrap(),
        broadcast: None,
        label: None,
        scope: Scope::Global,
        condition: Condition::ALWAYS,
    };
    declared.addresses = vec![vip];
    let mut actual = router(true);
    actual.addresses.push(there(1, "2001:db8::1/128"));
    let two = [hop(Some("10.1.1.7"), Some(1)), hop(Some("10.147.48.7"), Some(2))];
    actual.routes.push(ActualRoute {
        next_hops: two.into_iter().collect(),
        table: TABLE_ETH2,
        scope: 0,
        protocol: 18,
        ..connected(2, "0.0.0.0/0")
    });
    let phases = Phases::default();
    let states = assess(desired(&declared, &phases), &actual, &Refusals::default());
    assert_eq!(
        states.routes[0].reason().as_deref(),
        Some(
            "in its place is default nexthop via 10.1.1.7 dev eth0 weight 1 nexthop via \
             10.147.48.7 dev eth2 weight 1 table Table_eth2, of protocol keepalived"
        )
    );
    assert_eq!(
        states.addresses[0].reason().as_deref(),
        Some("in its place is 2001:db8::1/128 dev eth0, of protocol unspec")
    );
}

#[test]
fn what_follows_a_group_says_on_which_side_the_group_is() {
    let follows = |when| Condition { when, group: Some("gateway".to_owned()) };
    let with =
        |when| Route { condition: follows(when), ..route("10.2.0.0/16", Some("10.1.1.254"), None) };
    let mut phases = Phases::default();
    let reason = |phases: &Phases, when| {
        let declared = routes(vec![with(when)]);
        let states = assess(desired(&declared, phases), &router(true), &Refusals::default());
        states.routes[0].reason().unwrap()
    };
    assert_eq!(reason(&phases, When::Master), "group gateway has not been decided yet");
    phases.settle("gateway", Kind::Routes, Side::Backup);
    assert_eq!(reason(&phases, When::Master), "group gateway is not master");
    phases.settle("gateway", Kind::Routes, Side::Master);
    assert_eq!(reason(&phases, When::Backup), "group gateway is master");
}

#[test]
fn a_refusal_tells_when_it_is_tried_again() {
    let wanted = route("10.2.0.0/16", Some("10.1.1.254"), None);
    let start = Instant::now();
    let mut refusals = Refusals::default();
    for _ in 0..4 {
        refusals.refused(Object::Route(wanted.key()), "No buffer space".to_owned(), start);
    }
    let declared = routes(vec![wanted]);
    let phases = Phases::default();
    let state = assess(desired(&declared, &phases), &router(true), &refusals).routes.remove(0);
    let text = |after| state.reason_at(start + Duration::from_millis(after)).unwrap();
    assert_eq!(text(0), "No buffer space (4 times), tried again in 0.8 s");
    assert_eq!(text(800), "No buffer space (4 times), tried again now");
    assert_eq!(state.next_try_in(start), Some(Duration::from_millis(800)));
    assert_eq!(State::Installed.reason_at(start), None);
}
