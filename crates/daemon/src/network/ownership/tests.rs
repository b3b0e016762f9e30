//! What is kept for the next run, and what is not believed.

use std::os::unix::fs::PermissionsExt as _;

use lockstep_routes::{
    Condition, Fwmark, NextHop, PortRange, Route, RouteKind, Rule, RuleAction, RuleKey, TableId,
};
use tempfile::TempDir;

use super::*;

const STATIC: u8 = 4;

fn route(to: &str, protocol: u8) -> Change {
    let hop = |via: &str| NextHop {
        via: Some(via.parse().unwrap()),
        dev: Some("eth0".to_owned()),
        weight: 3,
        onlink: true,
    };
    let route = Route {
        kind: RouteKind::Unicast,
        to: to.parse().unwrap(),
        next_hops: vec![hop("10.0.0.1"), hop("fe80::1")],
        source: None,
        table: TableId(100),
        metric: Some(7),
        mtu: None,
        scope: None,
        protocol,
        condition: Condition::ALWAYS,
    };
    Change::AddRoute { route: Arc::new(route), devs: vec![Some(2), None] }
}

fn rule(action: RuleAction) -> Change {
    let key = RuleKey {
        ipv6: false,
        priority: 1000,
        from: "10.1.0.0/16".parse().ok(),
        to: "10.2.0.0/16".parse().ok(),
        fwmark: Some(Fwmark { value: 0x64, mask: 0xff }),
        iif: Some("eth0".to_owned()),
        oif: Some("eth1".to_owned()),
        tos: 0x10,
        ip_protocol: Some(6),
        source_port: Some(PortRange { first: 1024, last: 2047 }),
        destination_port: Some(PortRange::single(80)),
        suppress_prefix_length: Some(0),
        action,
    };
    Change::AddRule { rule: Rule { key, protocol: STATIC, condition: Condition::ALWAYS } }
}

fn changes() -> Vec<Change> {
    let actions = [
        RuleAction::Lookup(TableId(100)),
        RuleAction::Blackhole,
        RuleAction::Unreachable,
        RuleAction::Prohibit,
    ];
    let routes = [route("192.0.2.0/24", STATIC), route("0.0.0.0/0", 3)];
    routes.into_iter().chain(actions.map(rule)).collect()
}

#[test]
fn what_was_noted_is_known_after_a_new_start() {
    let state = TempDir::new().unwrap();
    let directory = state.path().join("made/when/needed");
    let mut first = Ownership::load(&directory);
    first.before(&changes());
    assert_eq!(first.trouble(), None);
    assert_eq!((first.owned.routes.len(), first.owned.rules.len()), (2, 4));

    let again = Ownership::load(&directory);
    assert_eq!(again.owned, first.owned);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&again.path)), (0o700, 0o600));
}

#[test]
fn routes_that_bear_our_number_need_no_file() {
    let state = TempDir::new().unwrap();
    let directory = state.path().join("not-needed");
    let mut ownership = Ownership::load(&directory);
    let change = route("192.0.2.0/24", PROTOCOL_LOCKSTEP);
    ownership.before(std::slice::from_ref(&change));
    ownership.after([&change]);
    ownership.keep();
    assert!(!directory.exists());
}

#[test]
fn what_is_gone_is_forgotten_when_there_is_time() {
    let state = TempDir::new().unwrap();
    let mut ownership = Ownership::load(state.path());
    ownership.before(&changes());
    ownership.not_made(&changes()[0]);
    ownership.not_made(&changes()[2]);
    assert_eq!(Ownership::load(state.path()).owned.routes.len(), 2, "known in any case");
    ownership.keep();
    let later = Ownership::load(state.path());
    assert_eq!((later.owned.routes.len(), later.owned.rules.len()), (1, 3));
    assert_eq!(later.owned, ownership.owned);
}

#[test]
fn a_file_of_another_boot_or_namespace_is_not_believed() {
    let state = TempDir::new().unwrap();
    let mut ownership = Ownership::load(state.path());
    ownership.before(&changes());
    let contents = fs::read_to_string(&ownership.path).unwrap();
    let home = ownership.home.as_ref().unwrap();
    for (true_one, another) in [
        (home.boot.clone(), "00000000-0000-0000-0000-000000000000"),
        (home.namespace.to_string(), "1"),
    ] {
        fs::write(&ownership.path, contents.replace(&true_one, another)).unwrap();
        assert_eq!(*Ownership::load(state.path()).owned, Owned::default(), "{another}");
    }
    fs::write(&ownership.path, contents).unwrap();
    assert_eq!(Ownership::load(state.path()).owned, ownership.owned);
}

#[test]
fn a_file_that_is_not_understood_is_replaced() {
    let state = TempDir::new().unwrap();
    let mut ownership = Ownership::load(state.path());
    ownership.before(&changes());
    let whole = fs::read(&ownership.path).unwrap();
    let newer = String::from_utf8(whole.clone()).unwrap().replace("\"version\":1", "\"version\":2");
    let broken = String::from_utf8(whole.clone()).unwrap().replace("192.0.2.0/24", "192.0.2.0/99");
    for contents in
        [&b""[..], b"\xff\xfe", &whole[..whole.len() / 2], newer.as_bytes(), broken.as_bytes()]
    {
        fs::write(&ownership.path, contents).unwrap();
        let mut again = Ownership::load(state.path());
        assert_eq!(*again.owned, Owned::default());
        again.before(&changes());
        assert_eq!(again.trouble(), None);
        assert_eq!(Ownership::load(state.path()).owned, ownership.owned);
    }
}

#[test]
fn without_a_place_to_write_everything_is_known_for_this_run_and_the_trouble_is_told() {
    let state = TempDir::new().unwrap();
    let directory = state.path().join("a-file");
    fs::write(&directory, "in the way").unwrap();
    let mut ownership = Ownership::load(&directory);
    assert_eq!(ownership.trouble(), None, "nothing was to be kept");
    ownership.before(&changes());
    let trouble = ownership.trouble().unwrap().to_owned();
    assert!(trouble.starts_with("cannot write ") && trouble.contains("routes.json"), "{trouble}");
    assert_eq!(ownership.owned.routes.len(), 2);

    fs::remove_file(&directory).unwrap();
    ownership.keep();
    assert_eq!(ownership.trouble(), None);
    assert_eq!(Ownership::load(&directory).owned, ownership.owned);
}

#[test]
fn what_a_killed_run_has_half_written_is_in_nobodys_way() {
    let state = TempDir::new().unwrap();
    let mut ownership = Ownership::load(state.path());
    fs::write(state.path().join("routes.new"), "{\"version\":").unwrap();
    ownership.before(&changes());
    assert_eq!(ownership.trouble(), None);
    assert_eq!(Ownership::load(state.path()).owned, ownership.owned);
}
