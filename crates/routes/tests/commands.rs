//! Every kind of change as the command of iproute2 that does the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod objects;

use std::sync::Arc;

use lockstep_routes::{
    Actual, ActualNextHop, ActualRoute, ActualRule, Address, Change, Condition, Fwmark, NextHop,
    NextHops, PROTOCOL_LOCKSTEP, PortRange, Route, RouteKind, Rule, RuleAction, RuleKey, Scope,
    TableId, VirtualLink, When,
};

const STATIC: u8 = 4;

fn actual() -> Actual {
    let mut actual = Actual::default();
    for (index, name) in [(1, "lo"), (2, "eth1"), (3, "eth2")] {
        actual.links.insert(index, objects::link(index, name, true));
    }
    actual
}

fn hop(via: Option<&str>, dev: Option<&str>) -> NextHop {
    objects::hop(via.unwrap_or_default(), dev.unwrap_or_default())
}

fn route(to: &str, next_hops: Vec<NextHop>) -> Route {
    Route { next_hops, table: TableId(2), ..objects::route(to) }
}

fn there(to: &str, hops: &[(Option<&str>, u32)], table: u32, metric: u32) -> ActualRoute {
    let hops = hops.iter().map(|(via, dev)| ActualNextHop {
        via: via.map(|via| via.parse().unwrap()),
        dev: Some(*dev),
        weight: 1,
        onlink: false,
        dead: false,
    });
    let next_hops: NextHops = hops.collect();
    ActualRoute {
        table: TableId(table),
        kind: Some(if next_hops.is_empty() { RouteKind::Throw } else { RouteKind::Unicast }),
        to: to.parse().unwrap(),
        next_hops,
        source: None,
        metric,
        mtu: None,
        scope: 0,
        protocol: PROTOCOL_LOCKSTEP,
        special: false,
    }
}

fn key(ipv6: bool, priority: u32, action: RuleAction) -> RuleKey {
    RuleKey { ipv6, action, ..objects::everything(priority, TableId::MAIN) }
}

fn commands(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.command(&actual())).collect()
}

fn added(route: Route) -> Change {
    Change::AddRoute { route: Arc::new(route), devs: Vec::new() }
}

#[test]
fn links_are_made_switched_and_removed() {
    let link = VirtualLink {
        name: "vrrp.51".to_owned(),
        parent: "eth1".to_owned(),
        mac: [0, 0, 0x5e, 0, 1, 51],
    };
    let eth2 = |up| Change::SetLink { index: 3, name: "eth2".to_owned(), up };
    let changes = [
        Change::AddVirtualLink { link, parent: 2 },
        eth2(true),
        eth2(false),
        Change::RemoveLink { index: 9, name: "vrrp.51".to_owned() },
    ];
    assert_eq!(
        commands(&changes),
        [
            "ip link add link eth1 name vrrp.51 address 00:00:5e:00:01:33 type macvlan mode bridge",
            "ip link set dev eth2 up",
            "ip link set dev eth2 down",
            "ip link del dev vrrp.51",
        ]
    );
}

#[test]
fn addresses_come_with_all_they_are_declared_with() {
    let plain = Address {
        interface: "eth1".to_owned(),
        address: "10.1.1.1/24".parse().unwrap(),
        broadcast: None,
        label: None,
        scope: Scope::Global,
        condition: Condition { when: When::Master, group: Some("gateway".to_owned()) },
    };
    let whole = Address {
        broadcast: Some("10.1.1.255".parse().unwrap()),
        label: Some("eth1:vip".to_owned()),
        scope: Scope::Link,
        ..plain.clone()
    };
    let ipv6 = Address { address: "2001:db8::1/64".parse().unwrap(), ..plain.clone() };
    let visitor = Address { address: "2001:db8::1/128".parse().unwrap(), ..plain.clone() };
    let add = |address, metric| Change::AddAddress { index: 2, address, metric };
    let remove = |address: &str| Change::RemoveAddress {
        index: 2,
        name: "eth1".to_owned(),
        address: address.parse().unwrap(),
    };
    let changes = [
        add(plain, None),
        add(whole, Some(1024)),
        add(ipv6, None),
        add(visitor, None),
        remove("10.1.1.1/24"),
        remove("2001:db8::1/64"),
    ];
    assert_eq!(
        commands(&changes),
        [
            "ip addr add 10.1.1.1/24 dev eth1",
            "ip addr add 10.1.1.1/24 brd 10.1.1.255 dev eth1 label eth1:vip scope link metric 1024",
            "ip -6 addr add 2001:db8::1/64 dev eth1 nodad",
            "ip -6 addr add 2001:db8::1/128 dev eth1 nodad preferred_lft 0",
            "ip addr del 10.1.1.1/24 dev eth1",
            "ip -6 addr del 2001:db8::1/64 dev eth1",
        ]
    );
}

#[test]
fn routes_of_every_kind_are_added_and_replaced() {
    let gateway = route("0.0.0.0/0", vec![hop(Some("10.1.1.254"), Some("eth2"))]);
    let onlink = {
        let hop = NextHop { onlink: true, ..hop(Some("203.0.113.1"), Some("eth2")) };
        Route { metric: Some(7), mtu: Some(1400), ..route("10.2.0.0/16", vec![hop]) }
    };
    let with_source = Route {
        source: Some("10.1.1.1".parse().unwrap()),
        table: TableId::MAIN,
        protocol: STATIC,
        ..route("10.3.0.0/16", vec![hop(Some("10.1.1.254"), None)])
    };
    let on_link =
        Route { scope: Some(Scope::Link), ..route("10.4.0.0/24", vec![hop(None, Some("eth1"))]) };
    let other_family = route("10.5.0.0/16", vec![hop(Some("fe80::1"), Some("eth1"))]);
    let local = Route {
        kind: RouteKind::Local,
        table: TableId::MAIN,
        ..route("10.6.0.0/24", vec![hop(None, Some("lo"))])
    };
    let blackhole = Route { kind: RouteKind::Blackhole, ..route("2001:db8:7::/48", Vec::new()) };
    let multipath = |to, one, two| {
        let two = NextHop { weight: 3, ..hop(Some(two), Some("eth2")) };
        Route { metric: Some(9), ..route(to, vec![hop(Some(one), None), two]) }
    };
    let changes = [
        Change::ReplaceRoute { route: Arc::new(gateway), devs: vec![Some(3)] },
        added(onlink),
        added(with_source),
        added(on_link),
        added(other_family),
        added(local),
        added(blackhole),
        added(multipath("10.8.0.0/16", "10.1.1.9", "10.2.2.9")),
        added(multipath("::/0", "2001:db8::9", "fe80::9")),
    ];
    assert_eq!(
        commands(&changes),
        [
            "ip route replace default via 10.1.1.254 dev eth2 table 2 proto 112",
            "ip route add 10.2.0.0/16 via 203.0.113.1 dev eth2 onlink table 2 proto 112 metric 7 mtu 1400",
            "ip route add 10.3.0.0/16 via 10.1.1.254 proto static src 10.1.1.1",
            "ip route add 10.4.0.0/24 dev eth1 table 2 proto 112 scope link",
            "ip route add 10.5.0.0/16 via inet6 fe80::1 dev eth1 table 2 proto 112",
            "ip route add local 10.6.0.0/24 dev lo table main proto 112",
            "ip -6 route add blackhole 2001:db8:7::/48 table 2 proto 112",
            "ip route add 10.8.0.0/16 table 2 proto 112 metric 9 nexthop via 10.1.1.9 weight 1 \
             nexthop via 10.2.2.9 dev eth2 weight 3",
            "ip -6 route add default table 2 proto 112 metric 9 nexthop via 2001:db8::9 weight 1 \
             nexthop via fe80::9 dev eth2 weight 3",
        ]
    );
}

#[test]
fn routes_that_go_are_named_as_they_are() {
    let multipath = there("10.8.0.0/16", &[(Some("10.1.1.9"), 2), (Some("10.2.2.9"), 3)], 2, 0);
    let removed = [
        there("0.0.0.0/0", &[(Some("10.1.1.254"), 2)], 254, 0),
        there("2001:db8:5::/48", &[(None, 3)], 300, 1024),
        there("10.7.0.0/16", &[], 2, 5),
        multipath,
    ];
    let removed = removed.map(|route| Change::RemoveRoute { route });
    assert_eq!(
        commands(&removed),
        [
            "ip route del default via 10.1.1.254 dev eth1 proto 112",
            "ip -6 route del 2001:db8:5::/48 dev eth2 table 300 proto 112 metric 1024",
            "ip route del throw 10.7.0.0/16 table 2 proto 112 metric 5",
            "ip route del 10.8.0.0/16 table 2 proto 112 nexthop via 10.1.1.9 dev eth1 weight 1 \
             nexthop via 10.2.2.9 dev eth2 weight 1",
        ]
    );
}

#[test]
fn rules_bear_every_selector_and_action() {
    let whole = RuleKey {
        from: Some("10.1.0.0/16".parse().unwrap()),
        to: Some("10.2.0.0/16".parse().unwrap()),
        fwmark: Some(Fwmark { value: 101, mask: 0xff }),
        iif: Some("eth1".to_owned()),
        oif: Some("eth2".to_owned()),
        tos: 0x10,
        ip_protocol: Some(6),
        source_port: Some(PortRange { first: 1024, last: 2047 }),
        destination_port: Some(PortRange::single(80)),
        suppress_prefix_length: Some(0),
        ..key(false, 100, RuleAction::Lookup(TableId(2)))
    };
    let add = |key, protocol| Change::AddRule {
        rule: Rule { key, protocol, condition: Condition::ALWAYS },
    };
    let gone = ActualRule {
        key: key(true, 102, RuleAction::Lookup(TableId::MAIN)),
        protocol: PROTOCOL_LOCKSTEP,
        special: false,
    };
    let changes = [
        add(whole, PROTOCOL_LOCKSTEP),
        add(key(false, 101, RuleAction::Unreachable), STATIC),
        add(key(true, 102, RuleAction::Blackhole), PROTOCOL_LOCKSTEP),
        Change::RemoveRule { rule: gone },
    ];
    assert_eq!(
        commands(&changes),
        [
            "ip rule add from 10.1.0.0/16 to 10.2.0.0/16 tos 0x10 fwmark 0x65/0xff iif eth1 oif eth2 \
             ipproto 6 sport 1024-2047 dport 80 lookup 2 suppress_prefixlength 0 priority 100 protocol 112",
            "ip rule add from all unreachable priority 101 protocol static",
            "ip -6 rule add from all blackhole priority 102 protocol 112",
            "ip -6 rule del from all lookup main priority 102 protocol 112",
        ]
    );
}
