//! Links, addresses, routes and rules on the real kernel, each test in a network namespace of its
//! own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "network/ip.rs"]
#[expect(dead_code, reason = "shared with tests that need more")]
mod ip;
#[path = "../../routes/tests/objects/mod.rs"]
mod objects;
#[path = "network/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt;
use lockstep_kernel::network::{Hints, Monitor};
use lockstep_routes::{
    Address, Change, Condition, Declared, Fwmark, Interest, Kind, Link, NextHop, Owned,
    PROTOCOL_LOCKSTEP, Phases, Reason, Route, RouteKind, Rule, RuleKey, Scope, Side, State,
    TableId, When,
};
use tokio::time::timeout;

use ip::ip;
use objects::{addition, address, dev, everything, hop, route, rule, shared, via};
use world::{World, in_namespace};

/// Longest wait for something that must come.
const SOON: Duration = Duration::from_secs(10);
const TABLE_ETH2: TableId = TableId(2);
const STATIC_ROUTE: TableId = TableId(100);
/// A table whose number does not fit into the fixed part of a message.
const LARGE: TableId = TableId(70_000);

fn follows(when: When) -> Condition {
    Condition { when, group: Some("gateway".to_owned()) }
}

fn phases(side: Side) -> Phases {
    let mut phases = Phases::default();
    for kind in [Kind::Links, Kind::Addresses, Kind::Routes] {
        phases.settle("gateway", kind, side);
    }
    phases
}

/// The network of a `CloudStack` router: `eth0` inside, `eth2` outside and up on the master only.
fn cloudstack() -> Declared {
    Declared {
        links: vec![Link { interface: "eth2".to_owned(), up: follows(When::Master) }],
        addresses: vec![Address {
            broadcast: Some("10.1.1.255".parse().unwrap()),
            condition: follows(When::Master),
            ..address("eth0", "10.1.1.1/32")
        }],
        routes: shared([
            Route {
                kind: RouteKind::Throw,
                table: TABLE_ETH2,
                protocol: 4,
                ..route("10.147.46.0/24")
            },
            Route { next_hops: via("10.147.52.1"), table: STATIC_ROUTE, ..route("10.147.70.0/24") },
            Route {
                next_hops: vec![hop("10.147.48.1", "eth2")],
                table: TABLE_ETH2,
                condition: follows(When::Master),
                ..route("0.0.0.0/0")
            },
        ]),
        rules: vec![rule(RuleKey {
            fwmark: Some(Fwmark { value: 2, mask: u32::MAX }),
            ..everything(32_000, TABLE_ETH2)
        })],
        tables: vec![("Table_eth2".to_owned(), TABLE_ETH2)].into(),
        virtual_links: Vec::new(),
    }
}

async fn cloudstack_router(world: &mut World) {
    world.veth("eth0", "inside").await;
    world.veth("eth2", "outside").await;
    for end in ["eth0", "inside", "outside"] {
        world.set_link(end, true).await;
    }
    world.add_address("eth0", "10.1.1.2/24").await;
    world.add_address("eth2", "10.147.48.2/20").await;
}

#[test]
fn every_kind_of_object_is_added_dumped_replaced_and_removed() {
    in_namespace(async |world| {
        world.veth("eth0", "peer").await;
        world.set_link("peer", true).await;
        let mut declared = Declared {
            links: vec![Link { interface: "eth0".to_owned(), up: Condition::ALWAYS }],
            addresses: vec![
                Address {
                    broadcast: Some("192.0.2.255".parse().unwrap()),
                    label: Some("eth0:vip".to_owned()),
                    ..address("eth0", "192.0.2.1/24")
                },
                Address { scope: Scope::Link, ..address("eth0", "198.51.100.1/32") },
                address("eth0", "2001:db8::1/64"),
            ],
            routes: shared([
                Route { next_hops: via("192.0.2.254"), ..route("0.0.0.0/0") },
                Route { next_hops: dev("eth0"), metric: Some(7), ..route("10.1.0.0/16") },
                Route {
                    next_hops: via("192.0.2.253"),
                    source: Some("192.0.2.1".parse().unwrap()),
                    table: LARGE,
                    ..route("10.2.0.0/16")
                },
                Route {
                    next_hops: vec![NextHop { onlink: true, ..hop("203.0.113.9", "eth0") }],
                    ..route("10.3.0.0/16")
                },
                Route { next_hops: via("2001:db8::fe"), ..route("::/0") },
                Route { kind: RouteKind::Throw, table: LARGE, ..route("10.4.0.0/16") },
                Route { kind: RouteKind::Blackhole, ..route("10.5.0.0/16") },
                Route { kind: RouteKind::Unreachable, ..route("10.6.0.0/16") },
                Route { kind: RouteKind::Prohibit, ..route("2001:db8:6::/48") },
            ]),
            rules: vec![
                rule(RuleKey {
                    from: Some("10.0.0.0/8".parse().unwrap()),
                    ..everything(100, LARGE)
                }),
                rule(RuleKey {
                    to: Some("10.7.0.0/16".parse().unwrap()),
                    ..everything(101, LARGE)
                }),
                rule(RuleKey {
                    fwmark: Some(Fwmark { value: 2, mask: 0xff }),
                    ..everything(102, TableId(9))
                }),
                rule(RuleKey { iif: Some("eth0".to_owned()), ..everything(103, LARGE) }),
                rule(RuleKey { oif: Some("lo".to_owned()), ipv6: true, ..everything(104, LARGE) }),
            ],
            tables: lockstep_routes::Tables::default(),
            virtual_links: Vec::new(),
        };
        let phases = Phases::default();
        world.settle(&declared, &phases).await;
        let states = world.assess(&declared, &phases).await;
        let all = [states.links, states.addresses, states.routes, states.rules].concat();
        assert_eq!(all, vec![State::Installed; all.len()]);
        let actual = world.dump(&declared).await;
        let virtual_one =
            actual.addresses.iter().find(|a| a.address == declared.addresses[0].address);
        assert_eq!(virtual_one.unwrap().protocol, PROTOCOL_LOCKSTEP);

        std::sync::Arc::make_mut(&mut declared.routes[0]).next_hops = via("192.0.2.252");
        let changes = world.plan(&declared, &phases).await;
        assert!(matches!(changes[..], [Change::ReplaceRoute { .. }]), "{changes:?}");
        world.settle(&declared, &phases).await;
        let states = world.assess(&declared, &phases).await;
        assert_eq!(states.routes, vec![State::Installed; states.routes.len()]);

        let empty = Declared::default();
        let everything = Interest::of(&declared);
        let before = world.network.dump(&everything).await.unwrap();
        let desired = lockstep_routes::Desired {
            declared: &empty,
            phases: &phases,
            owned: &Owned::default(),
        };
        world.carry_out(&lockstep_routes::plan(desired, &before)).await;
        let after = world.network.dump(&everything).await.unwrap();
        assert!(after.addresses.iter().all(|a| a.protocol != PROTOCOL_LOCKSTEP), "{after:?}");
        assert!(after.routes.iter().all(|r| r.protocol != PROTOCOL_LOCKSTEP), "{after:?}");
        assert!(after.rules.iter().all(|r| r.protocol != PROTOCOL_LOCKSTEP), "{after:?}");
    });
}

#[test]
fn a_route_over_the_backups_down_link_waits_and_never_provokes_an_error() {
    in_namespace(async |world| {
        cloudstack_router(world).await;
        let declared = cloudstack();
        let backup = phases(Side::Backup);
        // `settle` fails the test on any refusal of the kernel.
        world.settle(&declared, &backup).await;
        let states = world.assess(&declared, &backup).await;
        assert_eq!(states.links, [State::Installed]);
        let unwanted = State::Unwanted { condition: follows(When::Master), side: Side::Backup };
        assert_eq!(states.addresses, std::slice::from_ref(&unwanted));
        let waits = State::Pending(Reason::LinkDown("eth2".to_owned()));
        assert_eq!(states.routes, [State::Installed, waits, unwanted.clone()]);
        assert_eq!(states.rules, [State::Installed]);

        let master = phases(Side::Master);
        world.settle(&declared, &master).await;
        let states = world.assess(&declared, &master).await;
        let all = [states.links, states.addresses, states.routes, states.rules].concat();
        assert_eq!(all, vec![State::Installed; all.len()]);

        world.settle(&declared, &backup).await;
        let states = world.assess(&declared, &backup).await;
        assert_eq!(states.addresses, [unwanted]);
        assert_eq!(states.routes[1].as_str(), "pending");
    });
}

#[test]
fn a_route_waits_for_a_next_hop_that_no_connected_network_holds() {
    in_namespace(async |world| {
        let declared = cloudstack();
        let states = world.assess(&declared, &phases(Side::Backup)).await;
        let nowhere = Reason::NextHopUnreachable("10.147.52.1".parse().unwrap());
        assert_eq!(states.routes[1], State::Pending(nowhere));
        assert_eq!(states.links, [State::Pending(Reason::LinkMissing("eth2".to_owned()))]);
    });
}

#[test]
fn after_fifty_link_flaps_everything_is_there_again() {
    in_namespace(async |world| {
        cloudstack_router(world).await;
        let mut declared = cloudstack();
        declared.links.clear();
        declared.addresses.push(Address {
            condition: follows(When::Master),
            ..address("eth2", "2001:db8:2::1/64")
        });
        declared.routes.extend(shared([Route {
            next_hops: via("2001:db8:2::fe"),
            table: TABLE_ETH2,
            ..route("::/0")
        }]));
        let master = phases(Side::Master);
        world.set_link("eth2", true).await;
        world.settle(&declared, &master).await;
        for flap in 0..50 {
            world.set_link("eth2", false).await;
            let states = world.assess(&declared, &master).await;
            assert!(
                states.routes.iter().filter(|s| **s == State::Installed).count() == 1,
                "{flap}"
            );
            world.settle(&declared, &master).await;
            world.set_link("eth2", true).await;
            world.settle(&declared, &master).await;
            let states = world.assess(&declared, &master).await;
            let all = [states.addresses, states.routes, states.rules].concat();
            assert_eq!(all, vec![State::Installed; all.len()], "after flap {flap}");
        }
    });
}

#[test]
fn a_link_made_anew_gets_its_addresses_and_routes_again() {
    in_namespace(async |world| {
        cloudstack_router(world).await;
        let declared = cloudstack();
        let master = phases(Side::Master);
        world.settle(&declared, &master).await;
        let before = world.index("eth2").await;
        world.delete_link("eth2").await;
        world.settle(&declared, &master).await;
        let states = world.assess(&declared, &master).await;
        let gone = State::Pending(Reason::LinkMissing("eth2".to_owned()));
        assert_eq!(states.links, std::slice::from_ref(&gone));
        assert_eq!(states.routes[2], gone);

        world.veth("eth2", "outside").await;
        world.set_link("outside", true).await;
        world.add_address("eth2", "10.147.48.2/20").await;
        world.settle(&declared, &master).await;
        assert_ne!(world.index("eth2").await, before);
        let states = world.assess(&declared, &master).await;
        let all = [states.links, states.addresses, states.routes, states.rules].concat();
        assert_eq!(all, vec![State::Installed; all.len()]);
    });
}

#[test]
fn what_others_made_is_left_alone_and_named() {
    in_namespace(async |world| {
        cloudstack_router(world).await;
        world.set_link("eth2", true).await;
        let foreign_default = Route {
            next_hops: via("10.147.48.7"),
            table: TABLE_ETH2,
            protocol: 18,
            ..route("0.0.0.0/0")
        };
        let foreign_throw = Route {
            kind: RouteKind::Throw,
            table: TABLE_ETH2,
            protocol: 186,
            ..route("10.9.0.0/16")
        };
        let foreign_rule = Rule { protocol: 18, ..rule(everything(500, TABLE_ETH2)) };
        world
            .carry_out(&[
                addition(foreign_default.clone()),
                addition(foreign_throw.clone()),
                Change::AddRule { rule: foreign_rule.clone() },
            ])
            .await;
        let declared = cloudstack();
        for side in [Side::Master, Side::Unsettled, Side::Master] {
            world.settle(&declared, &phases(side)).await;
            let states = world.assess(&declared, &phases(Side::Master)).await;
            let State::Conflicting { with, protocol: 18 } = &states.routes[2] else {
                panic!("{:?}", states.routes[2]);
            };
            assert!(with.starts_with("default via 10.147.48.7 "), "{with}");
        }
        let others = Declared {
            routes: shared([foreign_default, foreign_throw]),
            rules: vec![foreign_rule],
            ..Declared::default()
        };
        let states = world.assess(&others, &Phases::default()).await;
        assert_eq!([states.routes, states.rules].concat(), vec![State::Installed; 3]);
        let actual = world.dump(&declared).await;
        let own = actual.addresses.iter().filter(|a| a.protocol != PROTOCOL_LOCKSTEP);
        let own: BTreeSet<_> = own.map(|a| a.address.to_string()).collect();
        assert!(own.contains("10.1.1.2/24") && own.contains("10.147.48.2/20"), "{own:?}");
    });
}

#[test]
fn other_addresses_of_a_network_survive_the_removal_of_its_first() {
    in_namespace(async |world| {
        world.veth("eth0", "peer").await;
        let index = world.index("eth0").await;
        let ours = address("eth0", "192.0.2.1/24");
        world.carry_out(&[Change::AddAddress { index, address: ours.clone(), metric: None }]).await;
        world.add_address("eth0", "192.0.2.2/24").await;
        let removal =
            Change::RemoveAddress { index, name: "eth0".to_owned(), address: ours.address };
        world.carry_out(&[removal]).await;
        let left = world.network.addresses().await.unwrap();
        let left: Vec<_> = left.iter().filter(|a| a.index == index).map(|a| a.address).collect();
        assert_eq!(left, ["192.0.2.2/24".parse().unwrap()]);
    });
}

#[test]
fn the_removal_of_a_rule_takes_no_other_that_says_more() {
    in_namespace(async |world| {
        let from = |net: &str| Some(net.parse().unwrap());
        let wide = rule(everything(9, LARGE));
        let narrow = |net| rule(RuleKey { from: from(net), ..everything(9, LARGE) });
        let kept = [narrow("10.0.0.0/8"), narrow("10.1.0.0/16"), narrow("10.2.0.0/16")];
        let rules = [kept[0].clone(), kept[1].clone(), wide.clone(), kept[2].clone()];
        let additions = rules.map(|rule| Change::AddRule { rule });
        world.carry_out(&additions).await;
        let there = world.network.rules().await.unwrap();
        let ours = there.iter().filter(|rule| rule.protocol == PROTOCOL_LOCKSTEP);
        assert_eq!(ours.count(), additions.len(), "{there:?}");
        let removed = lockstep_routes::ActualRule {
            key: wide.key(),
            protocol: wide.protocol,
            special: false,
        };
        world.carry_out(&[Change::RemoveRule { rule: removed }]).await;
        let left = world.network.rules().await.unwrap();
        let left: BTreeSet<_> = left
            .into_iter()
            .filter(|rule| rule.protocol == PROTOCOL_LOCKSTEP)
            .map(|rule| rule.key)
            .collect();
        assert_eq!(left, kept.iter().map(Rule::key).collect());

        ip("rule add priority 8 uidrange 0-10 lookup 70000 protocol 112");
        let plain = rule(everything(8, LARGE));
        let removed = lockstep_routes::ActualRule {
            key: plain.key(),
            protocol: plain.protocol,
            special: false,
        };
        world.carry_out(&[Change::AddRule { rule: plain }]).await;
        let answers = world.network.apply(&[Change::RemoveRule { rule: removed }]).await;
        assert!(answers[0].is_err(), "what cannot be put back is not taken away: {answers:?}");
        assert!(ip("rule show priority 8").contains("uidrange"));
    });
}

#[test]
fn a_rule_is_added_beside_one_that_says_more_and_not_twice() {
    in_namespace(async |world| {
        ip("rule add priority 9 from 10.0.0.0/8 lookup 70000 protocol static");
        ip("rule add priority 9 to 10.0.0.0/8 tos 0x10 lookup 70000");
        for protocol in [PROTOCOL_LOCKSTEP, 4] {
            let wide = Rule { protocol, ..rule(everything(9, LARGE)) };
            let addition = [Change::AddRule { rule: wide.clone() }];
            world.carry_out(&addition).await;
            let answers = world.network.apply(&addition).await;
            assert_eq!(answers[0].is_ok(), protocol == PROTOCOL_LOCKSTEP, "{answers:?}");
            let there = world.network.rules().await.unwrap();
            let same = |one: &&lockstep_routes::ActualRule| {
                (&one.key, one.protocol) == (&wide.key(), protocol)
            };
            assert_eq!(there.iter().filter(same).count(), 1, "{there:?}");
        }
    });
}

#[test]
fn what_is_done_already_is_no_failure() {
    in_namespace(async |world| {
        cloudstack_router(world).await;
        world.set_link("eth2", true).await;
        let mut declared = cloudstack();
        std::sync::Arc::make_mut(&mut declared.routes[0]).protocol = PROTOCOL_LOCKSTEP;
        let to_master = world.plan(&declared, &phases(Side::Master)).await;
        world.carry_out(&to_master).await;
        world.carry_out(&to_master).await;
        let to_nothing = {
            let actual = world.dump(&declared).await;
            let nothing = Declared::default();
            let desired = lockstep_routes::Desired {
                declared: &nothing,
                phases: &Phases::default(),
                owned: &Owned::default(),
            };
            lockstep_routes::plan(desired, &actual)
        };
        assert!(to_nothing.len() >= 3, "{to_nothing:?}");
        world.carry_out(&to_nothing).await;
        world.carry_out(&to_nothing).await;
    });
}

#[test]
fn what_bears_a_number_that_others_use_is_not_taken_for_done() {
    in_namespace(async |world| {
        let equal = Route { kind: RouteKind::Throw, protocol: 4, ..route("10.9.0.0/16") };
        let rule = Rule { protocol: 4, ..rule(everything(500, LARGE)) };
        for change in [addition(equal), Change::AddRule { rule }] {
            world.carry_out(std::slice::from_ref(&change)).await;
            let again = world.network.apply(&[change]).await;
            assert_eq!(again[0].as_ref().unwrap_err().errno, nix::errno::Errno::EEXIST as i32);
        }
    });
}

#[test]
fn a_refusal_brings_the_kernels_explanation() {
    in_namespace(async |world| {
        let unreachable = Route { next_hops: via("10.0.0.1"), ..route("10.2.0.0/16") };
        let answers = world.network.apply(&[addition(unreachable)]).await;
        let error = answers.into_iter().next().unwrap().unwrap_err();
        assert_eq!(error.errno, nix::errno::Errno::ENETUNREACH as i32);
        assert_eq!(
            error.to_string(),
            "cannot add route 10.2.0.0/16 via 10.0.0.1 table main: \
             Network is unreachable: Nexthop has invalid gateway"
        );
    });
}

#[test]
fn thousands_of_changes_are_each_answered_for_and_foreign_tables_are_not_copied() {
    in_namespace(async |world| {
        let many: Vec<_> = (0..3_000u32)
            .map(|number| {
                let to = std::net::Ipv4Addr::from(0x0b00_0000 + (number << 8));
                let route = Route {
                    kind: RouteKind::Blackhole,
                    protocol: 186,
                    metric: Some(20),
                    table: if number % 2 == 0 { TableId::MAIN } else { TableId(77) },
                    ..route(&format!("{to}/24"))
                };
                addition(route)
            })
            .collect();
        let mut monitor = Monitor::connect(&Interest::of(&Declared::default())).unwrap();
        let answers = world.network.apply(&many).await;
        assert_eq!(answers.len(), many.len());
        assert!(answers.iter().all(Result::is_ok));
        let hints = timeout(SOON, monitor.changed()).await.unwrap().unwrap();
        assert!(hints.routes, "{hints:?}");
        let actual = world.dump(&cloudstack()).await;
        assert_eq!(actual.routes, [], "none of them is ours or in our place");
    });
}

/// A link without addresses of its own, so that nothing about it happens later.
async fn quiet_link(world: &World, name: &str, peer: &str) {
    for (setting, value) in [("addr_gen_mode", "1"), ("accept_dad", "0")] {
        let setting = format!("net/ipv6/conf/default/{setting}");
        lockstep_kernel::sysctl::write(&setting, value).unwrap();
    }
    world.veth(name, peer).await;
    world.set_link(name, true).await;
    world.set_link(peer, true).await;
}

/// Hints until there are none for the moment.
async fn all_hints(monitor: &mut Monitor) -> Hints {
    let mut hints = timeout(SOON, monitor.changed()).await.unwrap().unwrap();
    while let Some(more) = monitor.changed().now_or_never() {
        hints |= more.unwrap();
    }
    hints
}

#[test]
fn whatever_changes_is_hinted_at() {
    in_namespace(async |world| {
        quiet_link(world, "eth0", "peer0").await;
        world.add_address("eth0", "192.0.2.1/24").await;
        let mut declared = cloudstack();
        declared.routes.extend(shared([Route { table: LARGE, ..route("10.1.0.0/16") }]));
        let mut monitor = Monitor::connect(&Interest::of(&declared)).unwrap();
        let links = Hints { links: true, ..Hints::default() };
        let routes = Hints { routes: true, ..Hints::default() };
        let rules = Hints { rules: true, ..Hints::default() };
        for (words, expected) in [
            ("link set eth0 mtu 1400", links),
            ("route add throw 10.1.0.0/16 table 70000", routes),
            ("route del throw 10.1.0.0/16 table 70000", routes),
            ("rule add from 10.0.0.0/8 lookup 7", rules),
            ("rule del from 10.0.0.0/8 lookup 7", rules),
            ("-6 rule add from fd00::/8 lookup 7", rules),
        ] {
            ip(words);
            let hints = all_hints(&mut monitor).await;
            // The kernel tells of a link's carrier when it comes to it, which may be now.
            let links = hints.links;
            assert_eq!(hints, Hints { links, ..expected }, "{words}");
            assert!(links || !expected.links, "{words}");
        }
        ip("link set peer0 down");
        assert!(all_hints(&mut monitor).await.links, "carrier");
        ip("addr del 192.0.2.1/24 dev eth0");
        assert!(all_hints(&mut monitor).await.addresses);
        ip("link del eth0");
        assert!(all_hints(&mut monitor).await.links);
        ip("route add throw 10.1.0.0/16 table 70001");
        ip("rule add from 10.1.0.0/16 lookup 7");
        assert_eq!(all_hints(&mut monitor).await, rules, "another table does not concern us");
    });
}

#[test]
fn looking_at_the_echo_of_our_own_changes_is_the_end_of_it() {
    in_namespace(async |world| {
        quiet_link(world, "eth0", "inside").await;
        quiet_link(world, "eth2", "outside").await;
        world.add_address("eth2", "10.147.48.2/20").await;
        let declared = cloudstack();
        let master = phases(Side::Master);
        let mut monitor = Monitor::connect(&Interest::of(&declared)).unwrap();
        let changes = world.plan(&declared, &master).await;
        assert!(changes.len() >= 3, "{changes:?}");
        world.carry_out(&changes).await;
        assert!(all_hints(&mut monitor).await.any());
        assert_eq!(world.plan(&declared, &master).await, []);
        assert_eq!(monitor.changed().now_or_never().map(Result::unwrap), None);
    });
}

#[test]
fn the_monitor_tells_what_kind_of_thing_has_changed_and_when_it_lost_count() {
    in_namespace(async |world| {
        let mut monitor = Monitor::connect(&Interest::of(&cloudstack())).unwrap();
        world.veth("eth0", "peer").await;
        world.set_link("eth0", true).await;
        world.add_address("eth0", "192.0.2.1/24").await;
        world.carry_out(&[Change::AddRule { rule: rule(everything(9, LARGE)) }]).await;
        let mut seen = Hints::default();
        while !(seen.links && seen.addresses && seen.rules) {
            seen |= timeout(SOON, monitor.changed()).await.unwrap().unwrap();
        }
        assert!(!seen.overrun);

        let elsewhere =
            Route { kind: RouteKind::Throw, table: TableId(55), ..route("10.8.0.0/16") };
        world.carry_out(&[addition(elsewhere)]).await;
        world.carry_out(&[Change::AddRule { rule: rule(everything(10, LARGE)) }]).await;
        let hints = timeout(SOON, monitor.changed()).await.unwrap().unwrap();
        assert!(hints.rules && !hints.routes, "another table does not concern us: {hints:?}");

        let flood: Vec<_> = (0..20_000)
            .map(|priority| Change::AddRule { rule: rule(everything(1_000 + priority % 2, LARGE)) })
            .flat_map(|add| {
                let Change::AddRule { rule } = &add else { unreachable!() };
                let there = lockstep_routes::ActualRule {
                    key: rule.key(),
                    protocol: rule.protocol,
                    special: false,
                };
                [add, Change::RemoveRule { rule: there }]
            })
            .collect();
        world.carry_out(&flood).await;
        let mut lost = false;
        while !lost {
            lost = timeout(SOON, monitor.changed()).await.unwrap().unwrap().overrun;
        }
    });
}

#[test]
fn a_route_with_one_dead_next_hop_goes_with_the_other_and_is_recorded_so() {
    in_namespace(async |world| {
        for (name, far, address) in [("eth0", "a", "10.0.0.1/24"), ("eth1", "b", "10.1.0.1/24")] {
            world.veth(name, far).await;
            for end in [name, far] {
                world.set_link(end, true).await;
            }
            world.add_address(name, address).await;
        }
        let hops = vec![hop("10.0.0.254", "eth0"), hop("10.1.0.254", "eth1")];
        let both = Route { next_hops: hops, ..route("10.9.0.0/16") };
        let declared = Declared { routes: shared([both]), ..Declared::default() };
        world.settle(&declared, &Phases::default()).await;

        let mut recorded = world.dump(&declared).await;
        let dead = |actual: &lockstep_routes::Actual| -> Vec<Vec<bool>> {
            let to_it = actual.routes.iter().filter(|there| there.to == declared.routes[0].to);
            to_it.map(|there| there.next_hops.iter().map(|hop| hop.dead).collect()).collect()
        };
        assert_eq!(dead(&recorded), [[false, false]]);
        let [eth0, eth1] = [world.index("eth0").await, world.index("eth1").await];
        for (change, expected) in [
            (
                Change::RemoveAddress {
                    index: eth1,
                    name: "eth1".to_owned(),
                    address: "10.1.0.1/24".parse().unwrap(),
                },
                vec![vec![false, true]],
            ),
            (Change::SetLink { index: eth0, name: "eth0".to_owned(), up: false }, vec![]),
        ] {
            recorded.record(&change);
            world.carry_out(&[change]).await;
            assert_eq!(dead(&world.dump(&declared).await), expected);
            assert_eq!(dead(&recorded), expected);
        }
    });
}
