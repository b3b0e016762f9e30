//! The same objects in `ip`'s words and in ours: what `ip` makes is read as `ip` shows it, and what
//! we make is shown by `ip` as if its words had been typed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "network/ip.rs"]
mod ip;
#[path = "../../routes/tests/objects/mod.rs"]
mod objects;
#[path = "network/world.rs"]
#[expect(dead_code, reason = "shared with tests that need more")]
mod world;

use lockstep_routes::{
    ActualRoute, Change, Declared, Fwmark, Interest, NextHop, PROTOCOL_LOCKSTEP, PortRange, Route,
    RouteKind, Rule, RuleAction, RuleKey, Scope, TableId,
};

use ip::{ip, try_ip};
use objects::{dev, everything, hop, route, rule, shared, via};
use world::{World, in_namespace};

const TABLE: TableId = TableId(77);
/// A table whose number does not fit into the fixed part of a message.
const LARGE: TableId = TableId(70_000);

/// Two links that are up, with networks of both families.
async fn two_links(world: &mut World) {
    world.set_link("lo", true).await;
    for (name, peer, ipv4, ipv6) in [
        ("eth0", "peer0", "10.0.0.1/24", "fd00::1/64"),
        ("eth1", "peer1", "10.0.1.1/24", "fd00:0:0:1::1/64"),
    ] {
        lockstep_kernel::sysctl::write("net/ipv6/conf/default/accept_dad", "0").unwrap();
        world.veth(name, peer).await;
        world.set_link(peer, true).await;
        world.set_link(name, true).await;
        world.add_address(name, ipv4).await;
        world.add_address(name, ipv6).await;
    }
}

/// What `ip route add` takes, and the same declared.
fn routes() -> Vec<(&'static str, Route)> {
    let several = |hops: [NextHop; 2], weights: [u16; 2]| {
        hops.into_iter().zip(weights).map(|(hop, weight)| NextHop { weight, ..hop }).collect()
    };
    let kind = |kind, to| Route { kind, ..route(to) };
    let through = |next_hops, to| Route { next_hops, ..route(to) };
    let onlink = |via, dev| NextHop { onlink: true, ..hop(via, dev) };
    vec![
        ("10.1.0.0/16 via 10.0.0.2", through(via("10.0.0.2"), "10.1.0.0/16")),
        ("default via 10.0.0.2 dev eth0", through(vec![hop("10.0.0.2", "eth0")], "0.0.0.0/0")),
        ("10.1.2.3 dev eth1", through(dev("eth1"), "10.1.2.3/32")),
        (
            "10.2.0.0/16 dev eth1 scope global",
            Route { scope: Some(Scope::Global), ..through(dev("eth1"), "10.2.0.0/16") },
        ),
        (
            "10.2.1.0/24 dev lo scope host",
            Route { scope: Some(Scope::Host), ..through(dev("lo"), "10.2.1.0/24") },
        ),
        (
            "10.3.0.0/16 via 203.0.113.9 dev eth0 onlink",
            through(vec![onlink("203.0.113.9", "eth0")], "10.3.0.0/16"),
        ),
        (
            "10.4.0.0/16 via 10.0.1.2 src 10.0.0.1 metric 7 mtu 1400",
            Route {
                source: Some("10.0.0.1".parse().unwrap()),
                metric: Some(7),
                mtu: Some(1400),
                ..through(via("10.0.1.2"), "10.4.0.0/16")
            },
        ),
        (
            "10.5.0.0/16 via inet6 fe80::1 dev eth1",
            through(vec![hop("fe80::1", "eth1")], "10.5.0.0/16"),
        ),
        (
            "local 10.6.0.0/16 dev lo",
            Route { next_hops: dev("lo"), ..kind(RouteKind::Local, "10.6.0.0/16") },
        ),
        ("throw 10.7.0.0/16", kind(RouteKind::Throw, "10.7.0.0/16")),
        ("blackhole 10.8.0.0/16", kind(RouteKind::Blackhole, "10.8.0.0/16")),
        (
            "unreachable 10.9.0.0/16 metric 4278198272",
            Route { metric: Some(4_278_198_272), ..kind(RouteKind::Unreachable, "10.9.0.0/16") },
        ),
        ("prohibit 10.10.0.0/16", kind(RouteKind::Prohibit, "10.10.0.0/16")),
        (
            "10.11.0.0/16 nexthop via 10.0.0.2 weight 3 nexthop via 10.0.1.2 weight 256",
            through(several([hop("10.0.0.2", ""), hop("10.0.1.2", "")], [3, 256]), "10.11.0.0/16"),
        ),
        (
            "10.12.0.0/16 src 10.0.1.1 metric 9 nexthop dev eth1 \
             nexthop via 203.0.113.9 dev eth0 weight 2 onlink",
            Route {
                source: Some("10.0.1.1".parse().unwrap()),
                metric: Some(9),
                ..through(
                    several([hop("", "eth1"), onlink("203.0.113.9", "eth0")], [1, 2]),
                    "10.12.0.0/16",
                )
            },
        ),
        (
            "10.13.0.0/16 mtu 1300 nexthop via inet6 fe80::1 dev eth0 nexthop via 10.0.1.2",
            Route {
                mtu: Some(1300),
                ..through(
                    several([hop("fe80::1", "eth0"), hop("10.0.1.2", "")], [1, 1]),
                    "10.13.0.0/16",
                )
            },
        ),
        ("fd01::/48 via fd00::2", through(via("fd00::2"), "fd01::/48")),
        ("default via fe80::2 dev eth0", through(vec![hop("fe80::2", "eth0")], "::/0")),
        ("fd02::1 dev eth1", through(dev("eth1"), "fd02::1/128")),
        (
            "fd03::/48 via 2001:db8::9 dev eth0 onlink",
            through(vec![onlink("2001:db8::9", "eth0")], "fd03::/48"),
        ),
        (
            "fd04::/48 via fd00::2 src fd00:0:0:1::1 metric 7 mtu 1400",
            Route {
                source: Some("fd00:0:0:1::1".parse().unwrap()),
                metric: Some(7),
                mtu: Some(1400),
                ..through(via("fd00::2"), "fd04::/48")
            },
        ),
        (
            "local fd06::/48 dev lo",
            Route { next_hops: dev("lo"), ..kind(RouteKind::Local, "fd06::/48") },
        ),
        ("throw fd07::/48", kind(RouteKind::Throw, "fd07::/48")),
        ("blackhole fd08::/48", kind(RouteKind::Blackhole, "fd08::/48")),
        ("unreachable fd09::/48", kind(RouteKind::Unreachable, "fd09::/48")),
        (
            "prohibit fd0a::/48 metric 5",
            Route { metric: Some(5), ..kind(RouteKind::Prohibit, "fd0a::/48") },
        ),
        (
            "fd0b::/48 nexthop via fd00::2 weight 3 nexthop via fd00:0:0:1::2 weight 256",
            through(several([hop("fd00::2", ""), hop("fd00:0:0:1::2", "")], [3, 256]), "fd0b::/48"),
        ),
        (
            "fd0c::/48 metric 9 nexthop via fe80::1 dev eth0 \
             nexthop via 2001:db8::9 dev eth1 weight 2 onlink",
            Route {
                metric: Some(9),
                ..through(
                    several([hop("fe80::1", "eth0"), onlink("2001:db8::9", "eth1")], [1, 2]),
                    "fd0c::/48",
                )
            },
        ),
    ]
}

/// The words without the next hops among several, which have to stand last, and those.
fn split(words: &str) -> (&str, &str) {
    words.split_at(words.find(" nexthop").unwrap_or(words.len()))
}

impl World {
    async fn dumped(&self, declared: &Declared, table: TableId) -> Vec<ActualRoute> {
        let mut routes = self.network.routes(&Interest::of(declared)).await.unwrap();
        routes.retain(|route| route.table == table);
        routes
    }

    async fn devs(&self, route: &Route) -> Vec<Option<u32>> {
        let mut devs = Vec::new();
        for hop in &route.next_hops {
            devs.push(match &hop.dev {
                Some(name) => Some(self.index(name).await),
                None => None,
            });
        }
        devs
    }
}

#[test]
fn routes_are_read_and_made_as_ip_shows_and_makes_them() {
    in_namespace(async |world| {
        two_links(world).await;
        let cases = routes().into_iter().enumerate();
        for (number, (words, route)) in cases {
            let table = if number % 2 == 0 { TABLE } else { LARGE };
            let protocol = if number % 3 == 0 { 4 } else { PROTOCOL_LOCKSTEP };
            let route = Route { table, protocol, ..route };
            let family = if route.to.addr().is_ipv4() { "-4" } else { "-6" };
            let (head, hops) = split(words);
            let words =
                format!("{family} route add {head} table {} proto {protocol}{hops}", table.0);
            let shown = format!("{family} -d route show table {}", table.0);
            let declared = Declared { routes: shared([route.clone()]), ..Declared::default() };
            let devs = world.devs(&route).await;

            ip(&words);
            let theirs_shown = ip(&shown);
            let theirs = world.dumped(&declared, table).await;
            let links = world.network.links().await.unwrap();
            assert_eq!(theirs, ip::routes(family == "-6", table, &links), "{words}");
            assert!(theirs[0].matches(&route, &devs), "{words}: {theirs:?}");
            world.carry_out(&[Change::RemoveRoute { route: theirs[0].clone() }]).await;
            assert_eq!(ip(&shown), "", "{words}");

            let route = std::sync::Arc::new(route);
            world.carry_out(&[Change::AddRoute { route: route.clone(), devs: devs.clone() }]).await;
            assert_eq!(ip(&shown), theirs_shown, "{words}");
            let ours = world.dumped(&declared, table).await;
            assert_eq!(ours, theirs, "{words}");
            world.carry_out(&[Change::ReplaceRoute { route, devs }]).await;
            assert_eq!(ip(&shown), theirs_shown, "{words}, replaced");
            ip(&words.replace(" add ", " del "));
            assert_eq!(ip(&shown), "", "{words}");
        }
    });
}

/// What `ip rule add` takes, and the same declared.
fn rules() -> Vec<(&'static str, RuleKey)> {
    let net = |text: &str| Some(text.parse().unwrap());
    let all = || everything(0, TABLE);
    let six = || RuleKey { ipv6: true, ..all() };
    let ports = |first, last| Some(PortRange { first, last });
    vec![
        ("lookup 77", all()),
        ("lookup 70000", RuleKey { action: RuleAction::Lookup(LARGE), ..all() }),
        ("from 10.0.0.0/8 lookup 77", RuleKey { from: net("10.0.0.0/8"), ..all() }),
        ("from 10.1.2.3 lookup 77", RuleKey { from: net("10.1.2.3/32"), ..all() }),
        ("to 10.1.0.0/16 lookup 77", RuleKey { to: net("10.1.0.0/16"), ..all() }),
        (
            "fwmark 102 lookup 77",
            RuleKey { fwmark: Some(Fwmark { value: 102, mask: u32::MAX }), ..all() },
        ),
        (
            "fwmark 0x2/0xff lookup 77",
            RuleKey { fwmark: Some(Fwmark { value: 2, mask: 0xff }), ..all() },
        ),
        (
            "fwmark 0/0xff lookup 77",
            RuleKey { fwmark: Some(Fwmark { value: 0, mask: 0xff }), ..all() },
        ),
        ("iif eth0 lookup 77", RuleKey { iif: Some("eth0".to_owned()), ..all() }),
        ("iif nowhere lookup 77", RuleKey { iif: Some("nowhere".to_owned()), ..all() }),
        ("oif eth1 lookup 77", RuleKey { oif: Some("eth1".to_owned()), ..all() }),
        ("tos 0x10 lookup 77", RuleKey { tos: 0x10, ..all() }),
        ("ipproto tcp lookup 77", RuleKey { ip_protocol: Some(6), ..all() }),
        (
            "ipproto udp sport 53 dport 1024-65534 lookup 77",
            RuleKey {
                ip_protocol: Some(17),
                source_port: ports(53, 53),
                destination_port: ports(1024, 65_534),
                ..all()
            },
        ),
        ("suppress_prefixlength 0 lookup 77", RuleKey { suppress_prefix_length: Some(0), ..all() }),
        (
            "suppress_prefixlength 24 lookup 77",
            RuleKey { suppress_prefix_length: Some(24), ..all() },
        ),
        ("blackhole", RuleKey { action: RuleAction::Blackhole, ..all() }),
        ("unreachable", RuleKey { action: RuleAction::Unreachable, ..all() }),
        (
            "prohibit from 10.0.0.0/8",
            RuleKey { from: net("10.0.0.0/8"), action: RuleAction::Prohibit, ..all() },
        ),
        (
            "from 10.0.0.0/8 to 10.1.0.0/16 tos 0x08 fwmark 0x3/0xf iif eth0 oif eth1 \
             ipproto sctp sport 5-6 dport 7 suppress_prefixlength 8 lookup 77",
            RuleKey {
                from: net("10.0.0.0/8"),
                to: net("10.1.0.0/16"),
                tos: 8,
                fwmark: Some(Fwmark { value: 3, mask: 0xf }),
                iif: Some("eth0".to_owned()),
                oif: Some("eth1".to_owned()),
                ip_protocol: Some(132),
                source_port: ports(5, 6),
                destination_port: ports(7, 7),
                suppress_prefix_length: Some(8),
                ..all()
            },
        ),
        ("from fd00::/8 lookup 77", RuleKey { from: net("fd00::/8"), ..six() }),
        (
            "to fd01::1 lookup 70000",
            RuleKey { to: net("fd01::1/128"), action: RuleAction::Lookup(LARGE), ..six() },
        ),
        (
            "fwmark 0x1 iif eth0 ipproto ipv6-icmp lookup 77",
            RuleKey {
                fwmark: Some(Fwmark { value: 1, mask: u32::MAX }),
                iif: Some("eth0".to_owned()),
                ip_protocol: Some(58),
                ..six()
            },
        ),
        ("suppress_prefixlength 0 lookup 77", RuleKey { suppress_prefix_length: Some(0), ..six() }),
        (
            "unreachable to fd02::/16",
            RuleKey { to: net("fd02::/16"), action: RuleAction::Unreachable, ..six() },
        ),
        ("blackhole", RuleKey { action: RuleAction::Blackhole, ..six() }),
        ("prohibit", RuleKey { action: RuleAction::Prohibit, ..six() }),
    ]
}

#[test]
fn rules_are_read_and_made_as_ip_shows_and_makes_them() {
    in_namespace(async |world| {
        two_links(world).await;
        for (number, (words, key)) in (100..).zip(rules()) {
            let family = if key.ipv6 { "-6" } else { "-4" };
            let protocol = if number % 3 == 0 { 4 } else { PROTOCOL_LOCKSTEP };
            let key = RuleKey { priority: number, ..key };
            // An action comes last, and takes no other word behind it.
            let words = format!("{family} rule add priority {number} protocol {protocol} {words}");
            let shown = format!("{family} -d rule show priority {number}");

            ip(&words);
            let theirs_shown = ip(&shown);
            let all = world.network.rules().await.unwrap();
            let theirs: Vec<_> = all.into_iter().filter(|rule| rule.key.ipv6 == key.ipv6).collect();
            assert_eq!(theirs, ip::rules(key.ipv6), "{words}");
            let made = theirs.into_iter().find(|rule| rule.key.priority == number).unwrap();
            assert_eq!(
                (&made.key, made.protocol, made.special),
                (&key, protocol, false),
                "{words}"
            );
            world.carry_out(&[Change::RemoveRule { rule: made.clone() }]).await;
            assert_eq!(ip(&shown), "", "{words}");

            let rule = Rule { protocol, ..rule(key) };
            world.carry_out(&[Change::AddRule { rule: rule.clone() }]).await;
            assert_eq!(ip(&shown), theirs_shown, "{words}");
            let again = world.network.apply(&[Change::AddRule { rule }]).await;
            assert_eq!(again[0].is_ok(), protocol == PROTOCOL_LOCKSTEP, "{words}: {again:?}");
            ip(&words.replace(" add ", " del "));
            assert_eq!(ip(&shown), "", "{words}");
        }
    });
}

#[test]
fn what_cannot_be_declared_is_marked_and_never_taken_for_a_declared_one() {
    in_namespace(async |world| {
        two_links(world).await;
        ip("nexthop add id 5 via 10.0.0.2 dev eth0");
        ip("nexthop add id 6 group 5");
        ip("-6 nexthop add id 7 via fd00::2 dev eth0");
        let routes = [
            ("10.1.0.0/16 tos 0x10 via 10.0.0.2", "10.1.0.0/16"),
            ("10.1.0.0/16 encap ip id 1 dst 10.0.0.9 via 10.0.0.2", "10.1.0.0/16"),
            ("10.1.0.0/16 via 10.0.0.2 mtu lock 1400", "10.1.0.0/16"),
            ("10.1.0.0/16 via 10.0.0.2 mtu 1400 advmss 1300", "10.1.0.0/16"),
            ("10.1.0.0/16 via 10.0.0.2 congctl reno", "10.1.0.0/16"),
            ("10.1.0.0/16 via 10.0.0.2 realms 3", "10.1.0.0/16"),
            ("10.1.0.0/16 nhid 5", "10.1.0.0/16"),
            ("10.1.0.0/16 nhid 6", "10.1.0.0/16"),
            ("10.1.0.0/16 nexthop via 10.0.0.2 realms 3 nexthop via 10.0.1.2", "10.1.0.0/16"),
            ("fd01::/48 nhid 7", "fd01::/48"),
            ("fd01::/48 via fd00::2 mtu lock 1400", "fd01::/48"),
            ("fd01::/48 via fd00::2 pref high", "fd01::/48"),
            ("fd01::/48 from fd00::/16 via fd00::2", "fd01::/48"),
        ];
        for (words, to) in routes {
            let wanted = Route {
                next_hops: via(if to.starts_with("fd") { "fd00::2" } else { "10.0.0.2" }),
                table: TABLE,
                ..route(to)
            };
            let (head, hops) = split(words);
            let words = format!("route add {head} table 77 proto 112{hops}");
            // An IPv6 route with a source prefix is a matter of how the kernel was built.
            if let Err(refusal) = try_ip(&words) {
                assert!(words.contains("from") || words.contains("encap"), "{words}: {refusal}");
                continue;
            }
            let declared = Declared { routes: shared([wanted]), ..Declared::default() };
            let there = world.dumped(&declared, TABLE).await;
            assert!(there[0].special, "{words}: {there:?}");
            assert!(!there[0].matches(&declared.routes[0], &[None]), "{words}: {there:?}");
            ip(&words.replace(" add ", " del "));
            assert_eq!(world.dumped(&declared, TABLE).await, [], "{words}");
        }
        for words in [
            "not from 10.0.0.0/8 lookup 77",
            "uidrange 0-10 lookup 77",
            "tun_id 7 lookup 77",
            "suppress_ifgroup 3 lookup 77",
            "goto 32766",
            "nop",
            "realms 3 lookup 77",
        ] {
            let words = format!("rule add priority 7 {words}");
            ip(&words);
            let rules = world.network.rules().await.unwrap();
            let there = rules.iter().find(|rule| rule.key.priority == 7).unwrap();
            assert!(there.special, "{words}: {there:?}");
            ip("rule del priority 7");
        }
    });
}

#[test]
fn routes_that_come_from_others_messages_or_are_over_are_not_seen() {
    in_namespace(async |world| {
        two_links(world).await;
        let wanted = Route { next_hops: via("fd00::2"), table: TABLE, ..route("fd01::/48") };
        let declared = Declared { routes: shared([wanted]), ..Declared::default() };
        ip("-6 route add fd01::/48 via fd00::2 table 77 proto 112 expires 1");
        assert_eq!(world.dumped(&declared, TABLE).await.len(), 1, "it lives for a second");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !world.dumped(&declared, TABLE).await.is_empty() {
            assert!(std::time::Instant::now() < deadline, "it is over");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
}
