//! What routes and rules mean, key by key.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::fmt::Write as _;
use std::net::IpAddr;

use lockstep_config::{Checked, Config, Severity, Surroundings, parse};
use lockstep_routes::{
    Condition, Fwmark, NextHop, PROTOCOL_LOCKSTEP, PortRange, Route, RouteKind, Rule, RuleAction,
    RuleKey, Scope, TableId, When,
};

const LAN: &str = "[vrrp.lan]\ninterface = \"eth0\"\nvrid = 1\naddresses = [\"10.1.1.1/32\"]\n";

#[track_caller]
fn checked(text: &str) -> Checked {
    parse("lockstep.toml", text, &Surroundings::default())
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[track_caller]
fn read(text: &str) -> Config {
    let checked = checked(text);
    assert_eq!(checked.warnings, []);
    checked.config
}

/// The only route of a file in which it says `keys`.
#[track_caller]
fn route(keys: &str) -> Route {
    let config = read(&format!("[[route]]\n{keys}\n"));
    let [route] = config.declared.routes.as_slice() else { panic!("{config:?}") };
    Route::clone(route)
}

/// The only rule of a file in which it says `keys`, beside its place and what it does.
#[track_caller]
fn rule(keys: &str) -> RuleKey {
    let config = read(&format!("[[rule]]\npriority = 7\ntable = \"main\"\n{keys}\n"));
    let [rule] = config.declared.rules.as_slice() else { panic!("{config:?}") };
    rule.key.clone()
}

/// Whether a file with these sections is refused, by the first thing that is said of it.
fn refused(text: &str) -> String {
    match parse("lockstep.toml", text, &Surroundings::default()) {
        Ok(checked) => panic!("accepted: {checked:?}"),
        Err(problems) => {
            let error = problems.iter().find(|problem| problem.severity == Severity::Error);
            error.unwrap().message.clone()
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A route to 10.2.0.0/16 of which nothing more is said.
fn plain() -> Route {
    Route {
        kind: RouteKind::Unicast,
        to: "10.2.0.0/16".parse().unwrap(),
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

fn hop(via: Option<&str>, dev: Option<&str>, weight: u16, onlink: bool) -> NextHop {
    let via = via.map(address);
    NextHop { via, dev: dev.map(str::to_owned), weight, onlink }
}

fn plain_rule() -> RuleKey {
    RuleKey {
        ipv6: false,
        priority: 7,
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
        action: RuleAction::Lookup(TableId::MAIN),
    }
}

#[test]
fn every_setting_of_a_route_reaches_the_model() {
    let text = format!(
        "{LAN}[tables]\nisp = 100\n[[route]]\nto = \"10.2.0.0/16\"\nvia = \"192.0.2.1\"\ndev = \"eth2\"\n\
         onlink = true\nsrc = \"192.0.2.7\"\ntable = \"isp\"\nmetric = 50\nmtu = 1400\nscope = \"global\"\n\
         protocol = \"static\"\nwhen = \"master\"\ngroup = \"lan\"\n"
    );
    let expected = Route {
        next_hops: vec![hop(Some("192.0.2.1"), Some("eth2"), 1, true)],
        source: Some(address("192.0.2.7")),
        table: TableId(100),
        metric: Some(50),
        mtu: Some(1400),
        scope: Some(Scope::Global),
        protocol: 4,
        condition: Condition { when: When::Master, group: Some("lan".to_owned()) },
        ..plain()
    };
    assert_eq!(*read(&text).declared.routes[0], expected);
}

#[test]
fn a_route_leads_to_a_router_a_link_or_both() {
    let to = "to = \"10.2.0.0/16\"\n";
    let leading = |next_hop| Route { next_hops: vec![next_hop], ..plain() };
    assert_eq!(
        route(&format!("{to}via = \"10.9.9.1\"")),
        leading(hop(Some("10.9.9.1"), None, 1, false))
    );
    assert_eq!(route(&format!("{to}dev = \"eth1\"")), leading(hop(None, Some("eth1"), 1, false)));
    let both = format!("{to}via = \"10.9.9.1\"\ndev = \"eth1\"");
    assert_eq!(route(&both), leading(hop(Some("10.9.9.1"), Some("eth1"), 1, false)));
}

#[test]
fn several_next_hops_share_the_traffic_by_their_weights() {
    let keys = "to = \"10.2.0.0/16\"\nnext-hops = [\n\
                { via = \"10.9.9.1\", weight = 256 },\n\
                { via = \"10.8.8.1\", dev = \"eth2\", onlink = true },\n\
                { dev = \"ppp0\", weight = 2 },\n]";
    let next_hops = vec![
        hop(Some("10.9.9.1"), None, 256, false),
        hop(Some("10.8.8.1"), Some("eth2"), 1, true),
        hop(None, Some("ppp0"), 2, false),
    ];
    assert_eq!(route(keys), Route { next_hops, ..plain() });
}

#[test]
fn a_route_has_at_most_sixty_four_next_hops() {
    let several = |count: u32| {
        let hops = (1..=count).map(|host| format!("{{ via = \"10.9.9.{host}\" }}"));
        let hops: Vec<String> = hops.collect();
        format!("[[route]]\nto = \"10.2.0.0/16\"\nnext-hops = [{}]\n", hops.join(", "))
    };
    assert_eq!(read(&several(64)).declared.routes[0].next_hops.len(), 64);
    assert_eq!(refused(&several(65)), "`next-hops` of 65");
}

#[test]
fn an_ipv4_route_may_have_an_ipv6_next_hop_and_not_the_other_way_round() {
    let read = route("to = \"10.2.0.0/16\"\nvia = \"fe80::1\"\ndev = \"eth1\"");
    let expected =
        Route { next_hops: vec![hop(Some("fe80::1"), Some("eth1"), 1, false)], ..plain() };
    assert_eq!(read, expected);
    let mixed =
        "to = \"10.2.0.0/16\"\nnext-hops = [{ via = \"10.9.9.1\" }, { via = \"2001:db8::1\" }]";
    assert_eq!(route(mixed).next_hops.len(), 2);
    let wrong = refused("[[route]]\nto = \"2001:db8::/32\"\nvia = \"10.9.9.1\"\n");
    assert_eq!(wrong, "`via` is not of the family of `to`");
}

#[test]
fn default_is_of_the_family_of_the_source_or_else_of_all_next_hops() {
    let family = |keys: &str| route(&format!("to = \"default\"\n{keys}")).to.to_string();
    assert_eq!(family("dev = \"eth1\""), "0.0.0.0/0");
    assert_eq!(family("via = \"fe80::1\"\ndev = \"eth1\""), "::/0");
    assert_eq!(family("via = \"fe80::1\"\ndev = \"eth1\"\nsrc = \"10.1.1.2\""), "0.0.0.0/0");
    let both =
        |other: &str| format!("next-hops = [{{ via = \"2001:db8::1\" }}, {{ via = \"{other}\" }}]");
    assert_eq!(family(&both("2001:db8::2")), "::/0");
    assert_eq!(family(&both("10.9.9.1")), "0.0.0.0/0");
}

#[test]
fn routes_of_every_type_are_read() {
    let kinds = [
        ("throw", RouteKind::Throw),
        ("blackhole", RouteKind::Blackhole),
        ("unreachable", RouteKind::Unreachable),
        ("prohibit", RouteKind::Prohibit),
    ];
    for (word, kind) in kinds {
        let keys = format!("to = \"10.2.0.0/16\"\ntype = \"{word}\"\nmetric = 9");
        assert_eq!(route(&keys), Route { kind, metric: Some(9), ..plain() });
    }
    let local = "to = \"10.2.0.0/16\"\ntype = \"local\"\ndev = \"lo\"\nsrc = \"10.2.0.1\"\nscope = \"host\"";
    let expected = Route {
        kind: RouteKind::Local,
        next_hops: vec![hop(None, Some("lo"), 1, false)],
        source: Some(address("10.2.0.1")),
        scope: Some(Scope::Host),
        ..plain()
    };
    assert_eq!(route(local), expected);
}

#[test]
fn an_mtu_is_one_that_the_kernel_keeps_and_its_family_allows() {
    let mtu = |keys: &str| route(&format!("dev = \"eth1\"\n{keys}")).mtu;
    assert_eq!(mtu("to = \"10.2.0.0/16\"\nmtu = 68"), Some(68));
    assert_eq!(mtu("to = \"10.2.0.0/16\"\nmtu = 65520"), Some(65_520));
    assert_eq!(mtu("to = \"2001:db8::/32\"\nmtu = 1280"), Some(1280));
    let wrong = |keys: &str| refused(&format!("[[route]]\ndev = \"eth1\"\n{keys}\n"));
    assert_eq!(wrong("to = \"10.2.0.0/16\"\nmtu = 67"), "67 is out of range");
    assert_eq!(wrong("to = \"10.2.0.0/16\"\nmtu = 65521"), "65521 is out of range");
    assert_eq!(wrong("to = \"2001:db8::/32\"\nmtu = 1279"), "1279 is out of range");
}

#[test]
fn a_rule_selects_by_every_key_it_has() {
    assert_eq!(rule(""), plain_rule());
    let net = |text: &str| Some(text.parse().unwrap());
    let prefixes = RuleKey { from: net("10.1.0.0/16"), to: net("10.2.0.0/16"), ..plain_rule() };
    assert_eq!(rule("from = \"10.1.0.0/16\"\nto = \"10.2.0.0/16\""), prefixes);
    let interfaces =
        RuleKey { iif: Some("eth0".to_owned()), oif: Some("eth1".to_owned()), ..plain_rule() };
    assert_eq!(rule("iif = \"eth0\"\noif = \"eth1\""), interfaces);
    let marked = |value, mask| RuleKey { fwmark: Some(Fwmark { value, mask }), ..plain_rule() };
    assert_eq!(rule("fwmark = 101"), marked(101, u32::MAX));
    assert_eq!(rule("fwmark = \"0x10/0xf0\""), marked(0x10, 0xf0));
    assert_eq!(rule("fwmark = 0"), marked(0, u32::MAX), "packets without a mark");
    let ports = |first, last| Some(PortRange { first, last });
    let named = RuleKey {
        tos: 0x10,
        ip_protocol: Some(6),
        source_port: ports(1000, 2000),
        destination_port: ports(53, 53),
        ..plain_rule()
    };
    assert_eq!(rule("tos = 0x10\nipproto = \"tcp\"\nsport = \"1000-2000\"\ndport = 53"), named);
    let numbered = RuleKey {
        ip_protocol: Some(255),
        source_port: ports(1, 65_534),
        destination_port: ports(53, 53),
        ..plain_rule()
    };
    assert_eq!(rule("ipproto = 255\nsport = \"1-65534\"\ndport = \"53\""), numbered);
    let suppressed = RuleKey { suppress_prefix_length: Some(0), ..plain_rule() };
    assert_eq!(rule("suppress-prefixlength = 0"), suppressed);
}

#[test]
fn an_ipv6_rule_compares_more_of_the_traffic_class_and_longer_prefixes() {
    let key =
        rule("family = \"ipv6\"\ntos = 0xfc\nsuppress-prefixlength = 128\nipproto = \"icmpv6\"");
    let expected = RuleKey {
        ipv6: true,
        tos: 0xfc,
        suppress_prefix_length: Some(128),
        ip_protocol: Some(58),
        ..plain_rule()
    };
    assert_eq!(key, expected);
}

#[test]
fn a_rule_looks_up_a_table_or_does_one_other_thing() {
    let actions = [
        ("blackhole", RuleAction::Blackhole),
        ("unreachable", RuleAction::Unreachable),
        ("prohibit", RuleAction::Prohibit),
    ];
    for (word, action) in actions {
        let config = read(&format!(
            "{LAN}[[rule]]\npriority = 7\naction = \"{word}\"\nprotocol = \"static\"\nwhen = \"backup\"\n"
        ));
        let condition = Condition { when: When::Backup, group: Some("lan".to_owned()) };
        let key = RuleKey { action, ..plain_rule() };
        assert_eq!(config.declared.rules, [Rule { key, protocol: 4, condition }]);
    }
    assert_eq!(
        refused("[[rule]]\npriority = 7\naction = \"prohibit\"\ntable = \"main\"\n"),
        "`table` beside `action`"
    );
    assert_eq!(refused("[[rule]]\npriority = 7\n"), "this rule has no `table`");
}

#[test]
fn rules_that_are_never_wanted_together_may_be_the_same() {
    let rule = |when: &str| {
        format!("[[rule]]\npriority = 7\ntable = \"main\"\nfwmark = 1\nwhen = \"{when}\"\n")
    };
    let config = read(&format!("{LAN}{}{}", rule("master"), rule("backup")));
    assert_eq!(config.declared.rules.len(), 2);
    for third in ["master", "backup", "always"] {
        let text = format!("{LAN}{}{}{}", rule("master"), rule("backup"), rule(third));
        assert_eq!(refused(&text), "this rule is there twice", "{third}");
    }
}

#[test]
fn routes_that_differ_in_table_or_metric_have_places_of_their_own() {
    let route = |keys: &str| format!("[[route]]\nto = \"10.2.0.0/16\"\ndev = \"eth1\"\n{keys}\n");
    let text = ["", "metric = 5", "table = 9", "table = 9\nmetric = 5"].map(route).concat();
    assert_eq!(read(&text).declared.routes.len(), 4);
    let twice = format!("{text}{}", route("metric = 5\ntype = \"local\""));
    assert_eq!(refused(&twice), "the route to 10.2.0.0/16 is there twice");
}

#[test]
fn a_file_that_names_no_networks_is_not_told_that_its_next_hops_are_in_none() {
    let route = "[[route]]\nto = \"10.2.0.0/16\"\nvia = \"10.147.52.1\"\n";
    assert_eq!(checked(&format!("{LAN}{route}")).warnings, []);
    let with_network = LAN.replace("/32", "/24");
    let warnings = checked(&format!("{with_network}{route}")).warnings;
    let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
    assert_eq!(warning.severity, Severity::Warning);
    assert_eq!(warning.message, "no declared network holds 10.147.52.1: the host must have one");
    assert_eq!((warning.line, warning.column), (7, 7));
    let elsewhere = format!("{with_network}{route}dev = \"eth2\"\n");
    assert_eq!(checked(&elsewhere).warnings, [], "the file knows no network of eth2");
    let ipv6 = "[[route]]\nto = \"2001:db8::/32\"\nvia = \"2001:db8:1::1\"\n";
    assert_eq!(checked(&format!("{with_network}{ipv6}")).warnings, [], "it knows none of IPv6");
}

#[test]
fn a_table_that_the_host_names_may_be_filled_by_somebody_else() {
    let text = "[tables]\nbgp = 9\n[[rule]]\npriority = 7\ntable = \"bgp\"\n";
    assert_eq!(checked(text).warnings[0].message, "no declared route is in table bgp");
    let host = Surroundings {
        table_names: vec![("bgp".to_owned(), TableId(9))],
        ..Surroundings::default()
    };
    assert_eq!(parse("lockstep.toml", text, &host).unwrap().warnings, []);
}

#[test]
fn a_later_name_of_the_host_wins_and_the_file_s_own_is_shown_first() {
    let names = [("isp", 5), ("isp", 6), ("abc", 7)];
    let host = Surroundings {
        table_names: names.map(|(name, id)| (name.to_owned(), TableId(id))).to_vec(),
        ..Surroundings::default()
    };
    let text = "[tables]\nxyz = 7\n[[route]]\nto = \"default\"\ndev = \"eth1\"\ntable = \"isp\"\n";
    let declared = parse("lockstep.toml", text, &host).unwrap().config.declared;
    assert_eq!(declared.routes[0].table, TableId(6));
    assert_eq!(declared.table_name(TableId(7)), "xyz");
}

#[test]
fn many_routes_are_read_and_the_last_of_them_is_judged() {
    let mut text = String::from(LAN);
    for index in 0..20_000 {
        let (a, b, table) = (index / 256 % 256, index % 256, index / 65_536 + 1000);
        writeln!(text, "[[route]]\nto = \"10.{a}.{b}.0/24\"\nvia = \"192.0.2.1\"\ntable = {table}")
            .unwrap();
    }
    assert_eq!(read(&text).declared.routes.len(), 20_000);
    text.push_str("[[route]]\nto = \"10.0.1.0/24\"\ndev = \"eth1\"\ntable = 1000\n");
    let problems = parse("lockstep.toml", &text, &Surroundings::default()).unwrap_err();
    let [problem] = problems.as_slice() else { panic!("{} problems", problems.len()) };
    assert_eq!(problem.message, "the route to 10.0.1.0/24 is there twice");
    assert_eq!((problem.line, problem.column), (80_005, 1));
    let drawn = lockstep_config::render(problem, &text, false);
    assert!(drawn.contains("first here") && drawn.contains("lockstep.toml:80005:1"), "{drawn}");
}
