//! Interfaces with a virtual MAC address: when they are made, raised, made again and removed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod objects;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_routes::{
    Actual, ActualLink, Change, Declared, Desired, Kind, Macvlan, Owned, Phases, Reason, Refusals,
    State, VIRTUAL_LINK_MARK, VIRTUAL_LINK_METRIC, VirtualLink, assess, plan, plan_kind,
};

use objects::link;

const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];

fn declared() -> Declared {
    Declared {
        addresses: vec![objects::address("vrrp.51", "10.0.0.1/24")],
        virtual_links: vec![VirtualLink {
            name: "vrrp.51".to_owned(),
            parent: "eth0".to_owned(),
            mac: MAC,
        }],
        ..Declared::default()
    }
}

fn macvlan(index: u32, name: &str, up: bool) -> ActualLink {
    ActualLink {
        mac: MAC,
        macvlan: Some(Macvlan { parent: 1, bridge: true }),
        alias: VIRTUAL_LINK_MARK.to_owned(),
        ..link(index, name, up)
    }
}

fn kernel(links: impl IntoIterator<Item = ActualLink>) -> Actual {
    let links = links.into_iter().map(|link| (link.index, link)).collect();
    Actual { links, ..Actual::default() }
}

/// Nothing bears another protocol number than ours.
static NOTHING_OWNED: Owned = Owned { routes: BTreeMap::new(), rules: BTreeSet::new() };

fn desired<'a>(declared: &'a Declared, phases: &'a Phases) -> Desired<'a> {
    Desired { declared, phases, owned: &NOTHING_OWNED }
}

fn planned(actual: &Actual) -> Vec<String> {
    planned_for(&declared(), actual)
}

fn planned_for(declared: &Declared, actual: &Actual) -> Vec<String> {
    let phases = Phases::default();
    let desired = desired(declared, &phases);
    plan(desired, actual).iter().map(Change::to_string).collect()
}

fn state(actual: &Actual) -> State {
    let (declared, phases) = (declared(), Phases::default());
    let desired = desired(&declared, &phases);
    assess(desired, actual, &Refusals::default()).virtual_links.remove(0)
}

#[test]
fn one_is_made_as_soon_as_the_interface_below_is_there() {
    let nothing = kernel([]);
    assert_eq!(planned(&nothing), [""; 0]);
    assert_eq!(state(&nothing), State::Pending(Reason::LinkMissing("eth0".to_owned())));
    assert_eq!(planned(&kernel([link(1, "eth0", false)])), ["add link vrrp.51 on eth0"]);
}

#[test]
fn one_is_up_whenever_the_interface_below_is() {
    let below_is_down = kernel([link(1, "eth0", false), macvlan(2, "vrrp.51", false)]);
    assert!(!planned(&below_is_down).contains(&"set link vrrp.51 up".to_owned()));
    assert_eq!(state(&below_is_down), State::Pending(Reason::LinkDown("eth0".to_owned())));
    let below_is_up = kernel([link(1, "eth0", true), macvlan(2, "vrrp.51", false)]);
    assert!(planned(&below_is_up).contains(&"set link vrrp.51 up".to_owned()));
    assert_eq!(state(&below_is_up), State::Pending(Reason::Due));
    let both = kernel([link(1, "eth0", true), macvlan(2, "vrrp.51", true)]);
    assert_eq!(planned(&both), ["add address 10.0.0.1/24 dev vrrp.51"]);
    assert_eq!(state(&both), State::Installed);
}

#[test]
fn one_that_an_earlier_run_left_is_used_again() {
    let mut unmarked = macvlan(2, "vrrp.51", true);
    unmarked.alias.clear();
    for there in [macvlan(2, "vrrp.51", true), unmarked] {
        let actual = kernel([link(1, "eth0", true), there]);
        assert_eq!(planned(&actual), ["add address 10.0.0.1/24 dev vrrp.51"]);
        assert_eq!(state(&actual), State::Installed);
    }
}

#[test]
fn ours_with_another_address_or_parent_is_replaced_before_it_is_raised() {
    let other_mac = ActualLink { mac: [4; 6], ..macvlan(3, "vrrp.51", true) };
    let elsewhere = ActualLink {
        macvlan: Some(Macvlan { parent: 9, bridge: true }),
        ..macvlan(3, "vrrp.51", true)
    };
    for there in [other_mac, elsewhere] {
        let plan = planned(&kernel([link(1, "eth0", true), there]));
        assert_eq!(plan[..2], ["remove link vrrp.51", "add link vrrp.51 on eth0"]);
    }
}

#[test]
fn ours_goes_when_nobody_declares_it_any_more_and_only_ours() {
    let mut others = macvlan(3, "mine", true);
    others.alias = "of the administrator".to_owned();
    let named_like_ours = ActualLink { alias: "lockstep".to_owned(), ..link(4, "eth4", true) };
    let actual =
        kernel([link(1, "eth0", true), macvlan(2, "vrrp.7", true), others, named_like_ours]);
    assert_eq!(planned_for(&Declared::default(), &actual), ["remove link vrrp.7"]);
}

#[test]
fn somebody_elses_interface_of_that_name_is_left_alone_and_named() {
    let actual = kernel([link(1, "eth0", true), link(2, "vrrp.51", true)]);
    let links: Vec<_> = {
        let (declared, phases) = (declared(), Phases::default());
        plan_kind(desired(&declared, &phases), &actual, Kind::Links)
    };
    assert_eq!(links, []);
    let taken = State::Pending(Reason::NameTaken("vrrp.51".to_owned()));
    assert_eq!(state(&actual), taken);
    assert_eq!(taken.reason().unwrap(), "there is an interface vrrp.51 that lockstep has not made");
}

#[test]
fn the_network_of_its_addresses_leaves_the_interface_below_the_better_route() {
    let actual = kernel([link(1, "eth0", true), macvlan(2, "vrrp.51", true)]);
    let (declared, phases) = (declared(), Phases::default());
    let changes = plan(desired(&declared, &phases), &actual);
    let [Change::AddAddress { metric, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!(*metric, Some(VIRTUAL_LINK_METRIC));
    let mut recorded = actual.clone();
    recorded.record_all(&changes);
    assert_eq!(recorded.routes[0].metric, VIRTUAL_LINK_METRIC);
}

#[test]
fn with_a_link_its_addresses_and_routes_are_gone() {
    let actual = kernel([link(1, "eth0", true), macvlan(2, "vrrp.51", true)]);
    let (declared, phases) = (declared(), Phases::default());
    let mut recorded = actual.clone();
    recorded.record_all(&plan(desired(&declared, &phases), &actual));
    assert_eq!(recorded.addresses.len(), 1);
    recorded.record(&Change::RemoveLink { index: 2, name: "vrrp.51".to_owned() });
    assert_eq!(recorded, kernel([link(1, "eth0", true)]));
}
