//! In which order things are done, what stays meanwhile, and what is put right.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod objects;

use std::sync::Arc;

use lockstep_routes::{
    Actual, ActualAddress, ActualRule, Address, Change, Condition, Declared, Desired, Link,
    NextHop, Owned, PROTOCOL_LOCKSTEP, Phases, Refusals, Route, Rule, RuleAction, RuleKey, State,
    TableId, assess, plan,
};

use objects::{address, link};

const TABLE: TableId = TableId(2);
const STATIC: u8 = 4;

/// An address of somebody's on a link.
fn there(index: u32, address: &str, protocol: u8) -> ActualAddress {
    ActualAddress { protocol, ..objects::there(index, address) }
}

/// A router with `eth1` up, and `eth2` as said; with an address each, of nobody's number.
fn router(eth2_up: bool) -> Actual {
    let mut actual = Actual::default();
    for (index, name, up) in [(1, "eth1", true), (2, "eth2", eth2_up)] {
        actual.links.insert(index, link(index, name, false));
        actual.addresses.push(there(index, &format!("10.{index}.0.2/24"), 0));
        if up {
            actual.record(&Change::SetLink { index, name: name.to_owned(), up });
            actual.links.get_mut(&index).unwrap().carrier = true;
        }
    }
    actual
}

fn hop(via: &str, dev: Option<&str>) -> NextHop {
    objects::hop(via, dev.unwrap_or_default())
}

fn route(to: &str, next_hops: Vec<NextHop>) -> Route {
    Route { next_hops, table: TABLE, ..objects::route(to) }
}

fn on_link(to: &str, dev: &str) -> Route {
    route(to, objects::dev(dev))
}

fn rule(priority: u32, action: RuleAction) -> Rule {
    let from = Some("10.9.0.0/16".parse().unwrap());
    objects::rule(RuleKey { from, action, ..objects::everything(priority, TABLE) })
}

fn routes(routes: Vec<Route>) -> Declared {
    Declared { routes: routes.into_iter().map(Arc::new).collect(), ..Declared::default() }
}

fn changes(declared: &Declared, actual: &Actual) -> Vec<Change> {
    let (phases, owned) = (Phases::default(), Owned::default());
    plan(Desired { declared, phases: &phases, owned: &owned }, actual)
}

/// The commands of a plan, which is then carried out.
fn carried_out(declared: &Declared, actual: &mut Actual) -> Vec<String> {
    let changes = changes(declared, actual);
    let commands = changes.iter().map(|change| change.command(actual)).collect();
    actual.record_all(&changes);
    commands
}

fn states(declared: &Declared, actual: &Actual) -> (Vec<State>, Vec<State>) {
    let (phases, owned) = (Phases::default(), Owned::default());
    let desired = Desired { declared, phases: &phases, owned: &owned };
    let all = assess(desired, actual, &Refusals::default());
    (all.routes, all.addresses)
}

#[test]
fn everything_that_a_link_makes_possible_is_in_one_plan() {
    let mut actual = router(false);
    let declared = Declared {
        links: vec![Link { interface: "eth2".to_owned(), up: Condition::ALWAYS }],
        addresses: vec![address("eth2", "10.7.0.1/24")],
        rules: vec![rule(100, RuleAction::Lookup(TABLE))],
        ..routes(vec![
            route("0.0.0.0/0", vec![hop("10.7.0.9", None)]),
            route("10.50.0.0/16", vec![hop("10.60.0.9", None)]),
            route("10.50.7.0/24", vec![hop("10.2.0.9", None)]),
            on_link("10.60.0.0/24", "eth2"),
        ])
    };
    assert_eq!(
        carried_out(&declared, &mut actual),
        [
            "ip link set dev eth2 up",
            "ip addr add 10.7.0.1/24 dev eth2",
            "ip route add 10.60.0.0/24 dev eth2 table 2 proto 112",
            "ip route add 10.50.7.0/24 via 10.2.0.9 table 2 proto 112",
            "ip route add 10.50.0.0/16 via 10.60.0.9 table 2 proto 112",
            "ip route add default via 10.7.0.9 table 2 proto 112",
            "ip rule add from 10.9.0.0/16 lookup 2 priority 100 protocol 112",
        ]
    );
    assert_eq!(carried_out(&declared, &mut actual), [""; 0], "a second plan is empty");
    assert_eq!(
        carried_out(&Declared::default(), &mut actual),
        [
            "ip rule del from 10.9.0.0/16 lookup 2 priority 100 protocol 112",
            "ip route del default via 10.7.0.9 dev eth2 table 2 proto 112",
            "ip route del 10.50.0.0/16 via 10.60.0.9 dev eth2 table 2 proto 112",
            "ip route del 10.50.7.0/24 via 10.2.0.9 dev eth2 table 2 proto 112",
            "ip route del 10.60.0.0/24 dev eth2 table 2 proto 112",
            "ip addr del 10.7.0.1/24 dev eth2",
        ]
    );
}

#[test]
fn a_changed_default_route_is_there_before_the_old_one_goes() {
    let mut actual = router(true);
    let default = |via: &str, metric| Route { metric, ..route("0.0.0.0/0", vec![hop(via, None)]) };
    carried_out(&routes(vec![default("10.1.0.9", None)]), &mut actual);
    assert_eq!(
        carried_out(&routes(vec![default("10.2.0.9", None)]), &mut actual),
        ["ip route replace default via 10.2.0.9 table 2 proto 112"]
    );
    assert_eq!(
        carried_out(&routes(vec![default("10.2.0.9", Some(50))]), &mut actual),
        [
            "ip route add default via 10.2.0.9 table 2 proto 112 metric 50",
            "ip route del default via 10.2.0.9 dev eth2 table 2 proto 112",
        ]
    );
}

#[test]
fn a_changed_rule_is_there_before_the_old_one_goes() {
    let mut actual = router(true);
    let with = |rule| Declared { rules: vec![rule], ..Declared::default() };
    carried_out(&with(rule(100, RuleAction::Lookup(TABLE))), &mut actual);
    let moved = with(rule(90, RuleAction::Lookup(TableId(3))));
    assert_eq!(
        carried_out(&moved, &mut actual),
        [
            "ip rule add from 10.9.0.0/16 lookup 3 priority 90 protocol 112",
            "ip rule del from 10.9.0.0/16 lookup 2 priority 100 protocol 112",
        ]
    );
}

#[test]
fn an_exception_comes_before_the_rule_it_is_from_and_goes_after_it() {
    let mut actual = router(true);
    let rules =
        vec![rule(200, RuleAction::Lookup(TABLE)), rule(100, RuleAction::Lookup(TableId::MAIN))];
    let declared = Declared { rules, ..Declared::default() };
    let priorities = |commands: Vec<String>| -> Vec<bool> {
        commands.iter().map(|command| command.contains("priority 100")).collect()
    };
    assert_eq!(priorities(carried_out(&declared, &mut actual)), [true, false]);
    assert_eq!(priorities(carried_out(&Declared::default(), &mut actual)), [false, true]);
}

#[test]
fn a_multipath_route_is_put_back_whole_and_its_rest_stays_until_then() {
    let mut actual = router(true);
    for (index, address) in [(1, "2001:db8:1::2/64"), (2, "2001:db8:2::2/64")] {
        let address = Address { interface: format!("eth{index}"), ..objects::address("", address) };
        actual.record(&Change::AddAddress { index, address, metric: None });
        actual.addresses.last_mut().unwrap().protocol = 0;
    }
    let hops = vec![hop("2001:db8:1::9", Some("eth1")), hop("2001:db8:2::9", Some("eth2"))];
    let declared = routes(vec![route("2001:db8:50::/48", hops)]);
    let command = "table 2 proto 112 nexthop via 2001:db8:1::9 dev eth1 weight 1 \
                   nexthop via 2001:db8:2::9 dev eth2 weight 1";
    assert_eq!(
        carried_out(&declared, &mut actual),
        [format!("ip -6 route add 2001:db8:50::/48 {command}")]
    );
    let mut turned = actual.clone();
    let multipath = turned.routes.last_mut().unwrap();
    multipath.next_hops = multipath.next_hops.iter().rev().cloned().collect();
    assert_eq!(carried_out(&declared, &mut turned), [""; 0], "in the kernel's own order");

    let mut down = actual.clone();
    down.record(&Change::SetLink { index: 2, name: "eth2".to_owned(), up: false });
    assert_eq!(carried_out(&declared, &mut down), [""; 0], "the kernel keeps it all");
    let reason = "in use in part: next hop 2001:db8:2::9: link eth2 is down";
    assert_eq!(states(&declared, &down).0[0].reason().as_deref(), Some(reason));

    actual.record(&Change::RemoveLink { index: 2, name: "eth2".to_owned() });
    assert_eq!(carried_out(&declared, &mut actual), [""; 0], "what is left does what it can");
    assert_eq!(actual.routes.last().unwrap().next_hops.len(), 1);
    let reason = "in use in part: next hop 2001:db8:2::9: eth2 does not exist";
    assert_eq!(states(&declared, &actual).0[0].reason().as_deref(), Some(reason));

    actual.links.insert(3, link(3, "eth2", true));
    let address = address("eth2", "2001:db8:2::2/64");
    actual.record(&Change::AddAddress { index: 3, address, metric: None });
    actual.addresses.last_mut().unwrap().protocol = 0;
    assert_eq!(
        carried_out(&declared, &mut actual),
        [format!("ip -6 route replace 2001:db8:50::/48 {command}")]
    );
    assert_eq!(states(&declared, &actual).0, [State::Installed]);
}

#[test]
fn a_multipath_route_goes_in_with_the_next_hops_that_can_be_and_becomes_whole() {
    let mut actual = router(false);
    let weighted = |weight, via| NextHop { weight, ..hop(via, None) };
    let hops = vec![weighted(3, "10.1.0.9"), weighted(2, "10.2.0.9"), weighted(1, "10.1.0.8")];
    let declared = routes(vec![route("0.0.0.0/0", hops)]);
    let part = "ip route add default table 2 proto 112 nexthop via 10.1.0.9 weight 3 \
                nexthop via 10.1.0.8 weight 1";
    assert_eq!(carried_out(&declared, &mut actual), [part]);
    assert_eq!(carried_out(&declared, &mut actual), [""; 0], "more is not possible");
    let reason = "in use in part: next hop 10.2.0.9: link eth2 is down";
    assert_eq!(states(&declared, &actual).0[0].reason().as_deref(), Some(reason));

    let eth2 = "eth2".to_owned();
    actual.record(&Change::SetLink { index: 2, name: eth2.clone(), up: true });
    let whole = "ip route replace default table 2 proto 112 nexthop via 10.1.0.9 weight 3 \
                 nexthop via 10.2.0.9 weight 2 nexthop via 10.1.0.8 weight 1";
    assert_eq!(carried_out(&declared, &mut actual), [whole]);
    actual.links.get_mut(&2).unwrap().carrier = true;
    assert_eq!(states(&declared, &actual).0, [State::Installed]);

    // Of IPv4 the kernel drops all of it with an interface.
    actual.record(&Change::RemoveLink { index: 2, name: eth2 });
    assert_eq!(carried_out(&declared, &mut actual), [part]);
    for index in [1, 2] {
        let name = format!("eth{index}");
        actual.record(&Change::SetLink { index, name, up: false });
    }
    assert_eq!(carried_out(&declared, &mut actual), [""; 0], "now none can be");
    assert_eq!(
        states(&declared, &actual).0[0].reason().as_deref(),
        Some("next hop 10.1.0.9: link eth1 is down")
    );
}

#[test]
fn the_only_next_hop_left_has_no_weight_and_one_route_of_somebody_keeps_a_part_out() {
    let mut actual = router(false);
    let weighted = |weight, via| NextHop { weight, ..hop(via, None) };
    let hops = vec![weighted(3, "10.1.0.9"), weighted(2, "10.2.0.9")];
    let mut theirs = actual.clone();
    let declared = routes(vec![route("0.0.0.0/0", hops)]);
    let part = ["ip route add default via 10.1.0.9 table 2 proto 112"];
    assert_eq!(carried_out(&declared, &mut actual), part);
    assert_eq!(carried_out(&declared, &mut actual), [""; 0]);
    let foreign = Route { protocol: STATIC, ..route("0.0.0.0/0", vec![hop("10.1.0.9", None)]) };
    carried_out(&routes(vec![foreign]), &mut theirs);
    assert_eq!(carried_out(&declared, &mut theirs), [""; 0]);
    assert_eq!(states(&declared, &theirs).0[0].as_str(), "conflicting");
}

#[test]
fn a_next_hop_that_has_moved_to_another_interface_is_followed() {
    let mut actual = router(true);
    let declared = routes(vec![route("0.0.0.0/0", vec![hop("10.2.0.9", None)])]);
    carried_out(&declared, &mut actual);
    let network = "10.2.0.0/24".parse().unwrap();
    let connected = actual.routes.iter_mut().find(|route| route.to == network).unwrap();
    let mut there = connected.next_hops[0].clone();
    there.dev = Some(1);
    connected.next_hops = lockstep_routes::NextHops::one(there);
    let replaced = ["ip route replace default via 10.2.0.9 table 2 proto 112"];
    assert_eq!(carried_out(&declared, &mut actual), replaced);
    assert_eq!(carried_out(&declared, &mut actual), [""; 0]);
}

#[test]
fn a_route_whose_protocol_number_changes_is_replaced() {
    let mut actual = router(true);
    let before = route("10.50.0.0/16", vec![hop("10.1.0.9", None)]);
    carried_out(&routes(vec![before.clone()]), &mut actual);
    let after = Route { protocol: STATIC, ..before };
    assert_eq!(
        carried_out(&routes(vec![after]), &mut actual),
        ["ip route replace 10.50.0.0/16 via 10.1.0.9 table 2 proto static"]
    );
}

#[test]
fn an_address_that_has_drifted_is_made_anew_and_never_missed() {
    let mut actual = router(true);
    let before = address("eth1", "10.7.0.1/24");
    let declared = |address| Declared { addresses: vec![address], ..Declared::default() };
    carried_out(&declared(before.clone()), &mut actual);
    let labelled = Address {
        broadcast: Some("10.7.0.255".parse().unwrap()),
        label: Some("eth1:vip".to_owned()),
        ..before
    };
    let after = declared(labelled);
    assert_eq!(states(&after, &actual).1[0].reason().as_deref(), Some("about to be installed"));
    let anew = [
        "ip addr add 10.7.0.1/32 dev eth1",
        "ip addr del 10.7.0.1/24 dev eth1",
        "ip addr add 10.7.0.1/24 brd 10.7.0.255 dev eth1 label eth1:vip",
        "ip addr del 10.7.0.1/32 dev eth1",
    ];
    assert_eq!(carried_out(&after, &mut actual), anew);
    assert_eq!(carried_out(&after, &mut actual), [""; 0]);
    assert_eq!(states(&after, &actual).1, [State::Installed]);
}

#[test]
fn an_address_that_another_host_has_too_is_told_as_such() {
    let mut actual = router(true);
    let declared =
        Declared { addresses: vec![address("eth1", "2001:db8:7::1/64")], ..Declared::default() };
    carried_out(&declared, &mut actual);
    assert_eq!(states(&declared, &actual).1, [State::Installed]);
    let there = actual.addresses.iter_mut().find(|there| there.address.addr().is_ipv6());
    there.unwrap().duplicate = true;
    let state = states(&declared, &actual).1.remove(0);
    assert_eq!(state.as_str(), "pending");
    assert_eq!(state.reason().as_deref(), Some("another host on eth1 has it too"));
}

#[test]
fn an_address_that_has_drifted_stays_where_others_would_lose_by_it() {
    let labelled =
        |text: &str| Address { label: Some("eth1:vip".to_owned()), ..address("eth1", text) };
    let alone = {
        let mut actual = router(true);
        actual.addresses = vec![there(1, "10.7.0.1/32", PROTOCOL_LOCKSTEP)];
        actual
    };
    let first_of_others = {
        let mut actual = router(true);
        let others = ActualAddress { secondary: true, ..there(1, "10.7.0.3/24", 0) };
        actual.addresses.extend([there(1, "10.7.0.1/24", PROTOCOL_LOCKSTEP), others]);
        actual
    };
    for (mut actual, text) in [(alone, "10.7.0.1/32"), (first_of_others, "10.7.0.1/24")] {
        for there in actual.addresses.iter_mut().filter(|there| there.protocol != 0) {
            there.label = Some("eth1".to_owned());
        }
        let declared = Declared { addresses: vec![labelled(text)], ..Declared::default() };
        assert_eq!(changes(&declared, &actual), []);
        let reason = states(&declared, &actual).1[0].reason().unwrap();
        assert!(reason.starts_with("it is there with another broadcast address"), "{reason}");
    }
    // One that somebody else has put there is as they want it.
    let mut theirs = router(true);
    theirs
        .addresses
        .push(ActualAddress { label: Some("eth1".to_owned()), ..there(1, "10.7.0.1/24", 0) });
    let declared = Declared { addresses: vec![labelled("10.7.0.1/24")], ..Declared::default() };
    assert_eq!(changes(&declared, &theirs), []);
    assert_eq!(states(&declared, &theirs).1, [State::Installed]);
}

#[test]
fn an_ipv6_address_with_another_prefix_length_takes_the_place_of_ours() {
    let mut actual = router(true);
    let with = |text| Declared { addresses: vec![address("eth1", text)], ..Declared::default() };
    carried_out(&with("2001:db8::1/64"), &mut actual);
    let swapped =
        ["ip -6 addr del 2001:db8::1/64 dev eth1", "ip -6 addr add 2001:db8::1/128 dev eth1 nodad"];
    assert_eq!(carried_out(&with("2001:db8::1/128"), &mut actual), swapped);
    assert_eq!(carried_out(&with("2001:db8::1/128"), &mut actual), [""; 0]);
}

#[test]
fn no_rule_goes_in_whose_place_the_kernel_would_remove_somebody_elses() {
    let mut actual = router(true);
    let of = |key: RuleKey| ActualRule { key, protocol: STATIC, special: false };
    let broad = rule(100, RuleAction::Lookup(TABLE));
    let narrow = RuleKey { ip_protocol: Some(6), ..broad.key.clone() };
    let mut owned = Owned::default();
    let made = Rule { protocol: STATIC, ..broad.clone() };
    owned.note(&Change::AddRule { rule: made });
    let (declared, phases) = (Declared::default(), Phases::default());
    let desired = Desired { declared: &declared, phases: &phases, owned: &owned };
    actual.rules = vec![of(narrow.clone()), of(broad.key.clone())];
    assert_eq!(plan(desired, &actual), []);
    actual.rules.reverse();
    let removed = Change::RemoveRule { rule: of(broad.key.clone()) };
    assert_eq!(plan(desired, &actual), [removed], "the kernel removes the first one");
    // Of ours the narrow one goes first.
    let ours = |key| ActualRule { key, protocol: PROTOCOL_LOCKSTEP, special: false };
    actual.rules = vec![ours(broad.key.clone()), ours(narrow.clone())];
    let removed = [narrow, broad.key].map(|key| Change::RemoveRule { rule: ours(key) });
    assert_eq!(plan(desired, &actual), removed);
}
