//! The daemon's own nftables table on the real kernel, and packets past it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, unused_imports, reason = "shared with other tests, of which each uses a part")]
mod conntrack_support;
#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
#[path = "network/host.rs"]
mod host;
#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
#[path = "network/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::process::Command;
use std::time::Duration;

use lockstep_ctnetlink::Family;
use lockstep_kernel::conntrack::TableSocket;
use lockstep_kernel::nftables::{Batch, Element, Expression, Hook, Kind, ct_state};
use lockstep_kernel::own_table::{NAME, OwnTable, Rules, TableError};
use lockstep_kernel::sysctl;
use rtnetlink::RouteMessageBuilder;
use socket2::{Domain, Protocol, Socket, Type};

use host::Host;
use world::{World, in_namespace};

/// Longest wait for an answer that must come.
const SOON: Duration = Duration::from_secs(10);
/// For how long an answer that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(400);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn refused(addresses: &[&str]) -> Rules {
    Rules { refused: addresses.iter().map(|text| ip(text)).collect(), ..Rules::default() }
}

/// A router between two hosts; `.1` is virtual on both sides. The hosts route by it.
async fn between_hosts(world: &World) -> (Host, Host) {
    world.set_link("lo", true).await;
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        sysctl::write(setting, "1").unwrap();
    }
    let inside = world.host_on("eth0", &["10.0.0.50/24", "2001:db8::50/64"]).await;
    let outside = world.host_on("eth1", &["10.1.0.50/24", "2001:db8:1::50/64"]).await;
    for (name, v4, v6) in
        [("eth0", "10.0.0.1/24", "2001:db8::1/64"), ("eth1", "10.1.0.1/24", "2001:db8:1::1/64")]
    {
        sysctl::write(&format!("net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
        world.add_address(name, v4).await;
        world.add_address(name, v6).await;
    }
    for (host, v4, v6) in
        [(&inside, "10.0.0.1", "2001:db8::1"), (&outside, "10.1.0.1", "2001:db8:1::1")]
    {
        host.run(async |host: &mut World| {
            let v4 = RouteMessageBuilder::<Ipv4Addr>::new().gateway(v4.parse().unwrap());
            host.others.route().add(v4.build()).execute().await.unwrap();
            let v6 = RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(v6.parse().unwrap());
            host.others.route().add(v6.build()).execute().await.unwrap();
        });
    }
    (inside, outside)
}

#[test]
fn what_is_for_a_refusing_address_is_dropped_and_what_goes_through_it_forwarded() {
    in_namespace(async |world| {
        let (inside, _outside) = between_hosts(world).await;
        assert!(inside.is_answered_by(ip("10.0.0.1"), SOON));
        let table = OwnTable::install(&refused(&["10.0.0.1", "2001:db8::1"])).unwrap();
        // Neighbour discovery of the address must work for the second of each family.
        for (virtual_address, beyond) in
            [("10.0.0.1", "10.1.0.50"), ("2001:db8::1", "2001:db8:1::50")]
        {
            assert!(!inside.is_answered_by(ip(virtual_address), SILENCE), "{virtual_address}");
            assert!(inside.is_answered_by(ip(beyond), SOON), "{beyond} by {virtual_address}");
        }
        assert!(inside.is_answered_by(ip("10.1.0.1"), SOON), "others are not refused");
        assert!(Host::here().is_answered_by(ip("10.0.0.1"), SOON), "nor is the router itself");
        drop(table);
        assert!(inside.is_answered_by(ip("10.0.0.1"), SOON));
        assert!(inside.is_answered_by(ip("2001:db8::1"), SOON));
    });
}

/// Has connection tracking look at everything.
fn track() {
    let mut batch = Batch::new();
    batch.table("tracking");
    for (chain, hook) in [("input", Hook::Input), ("output", Hook::Output)] {
        batch.chain("tracking", chain, Kind::Filter, hook, 10);
        let any = ct_state::NEW | ct_state::ESTABLISHED;
        batch.rule("tracking", chain, &[Expression::TrackingState(any), Expression::Accept]);
    }
    batch.commit().unwrap();
}

fn tracked_protocols() -> BTreeSet<u8> {
    let mut table = TableSocket::open().unwrap();
    conntrack_support::dump(&mut table, Family::Any).iter().map(|flow| flow.orig.protocol).collect()
}

/// Sends a packet of an IP protocol to a multicast group or host.
fn send(protocol: u8, to: Ipv4Addr) {
    let socket =
        Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(i32::from(protocol)))).unwrap();
    socket.set_multicast_if_v4(&"10.0.0.1".parse().unwrap()).unwrap();
    socket.send_to(&[0; 24], &SocketAddrV4::new(to, 0).into()).unwrap();
}

fn send_udp(from: u16, to: u16) {
    let socket = UdpSocket::bind(("10.0.0.1", from)).unwrap();
    socket.send_to(b"flows", ("10.0.0.50", to)).unwrap();
}

#[test]
fn what_routers_say_to_each_other_is_not_tracked_and_all_else_is() {
    const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
    const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
    let (vrrp, header, udp) = (112, 51, 17);
    let say_it_all = || {
        send(vrrp, GROUP);
        send(vrrp, PEER);
        send(header, GROUP);
        send(header, PEER);
        send_udp(40_000, 3780);
        send_udp(3780, 40_000);
    };
    in_namespace(async |world| {
        let (_inside, _outside) = between_hosts(world).await;
        track();
        let rules = Rules {
            header_peers: BTreeSet::from([PEER.into()]),
            replication: BTreeSet::from([("eth0".to_owned(), 3780)]),
            ..Rules::default()
        };
        let table = OwnTable::install(&rules).unwrap();
        say_it_all();
        assert_eq!(tracked_protocols(), BTreeSet::new());
        send_udp(40_000, 3781);
        send(header, Ipv4Addr::new(10, 0, 0, 51));
        assert_eq!(tracked_protocols(), BTreeSet::from([header, udp]));
        drop(table);
        say_it_all();
        assert_eq!(tracked_protocols(), BTreeSet::from([vrrp, header, udp]));
    });
}

#[test]
fn what_arrives_is_not_tracked_either() {
    in_namespace(async |world| {
        let (inside, _outside) = between_hosts(world).await;
        track();
        let rules =
            Rules { replication: BTreeSet::from([("eth0".to_owned(), 3780)]), ..Rules::default() };
        let _table = OwnTable::install(&rules).unwrap();
        let listener = UdpSocket::bind("10.0.0.1:3780").unwrap();
        let tracked = UdpSocket::bind("10.0.0.1:3781").unwrap();
        inside.run(async |_: &mut World| {
            let socket = UdpSocket::bind("10.0.0.50:0").unwrap();
            socket.send_to(b"flows", "10.0.0.1:3780").unwrap();
        });
        listener.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(listener.recv(&mut [0; 8]).unwrap(), 5);
        assert_eq!(tracked_protocols(), BTreeSet::new());
        inside.run(async |_: &mut World| {
            let socket = UdpSocket::bind("10.0.0.50:0").unwrap();
            socket.send_to(b"other", "10.0.0.1:3781").unwrap();
        });
        tracked.set_read_timeout(Some(SOON)).unwrap();
        assert_eq!(tracked.recv(&mut [0; 8]).unwrap(), 5);
        assert_eq!(tracked_protocols(), BTreeSet::from([17]));
    });
}

/// Sends a datagram out by an interface that has no address.
fn speak(interface: &str) -> io::Result<usize> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket2::SockRef::from(&socket).bind_device(Some(interface.as_bytes()))?;
    socket.send_to(b"frame", SocketAddr::from(([224, 0, 0, 99], 9)))
}

#[test]
fn a_silent_virtual_link_neither_speaks_nor_forwards_and_one_of_a_master_does() {
    const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    in_namespace(async |world| {
        let (inside, _outside) = between_hosts(world).await;
        let link = lockstep_routes::VirtualLink {
            name: "vrrp.51".to_owned(),
            parent: "eth0".to_owned(),
            mac: MAC,
        };
        let declared = lockstep_routes::Declared {
            virtual_links: vec![link],
            ..lockstep_routes::Declared::default()
        };
        world.settle(&declared, &lockstep_routes::Phases::default()).await;
        // What a switch floods: frames for the virtual MAC address reach this router too.
        inside.run(async |host: &mut World| {
            let index = host.index("eth0").await;
            let neighbour = host.others.neighbours().add(index, ip("10.0.0.1"));
            neighbour.link_layer_address(&MAC).replace().execute().await.unwrap();
        });
        let links = BTreeSet::from(["vrrp.51".to_owned()]);
        let rules = Rules { virtual_links: links.clone(), ..Rules::default() };
        let mut table = OwnTable::install(&rules).unwrap();
        for _ in 0..2 {
            assert!(!inside.is_answered_by(ip("10.1.0.50"), SILENCE), "it forwards nothing");
            assert_eq!(speak("vrrp.51").unwrap_err().kind(), ErrorKind::PermissionDenied);
            table.keep_silent(&BTreeSet::new()).unwrap();
            assert!(inside.is_answered_by(ip("10.1.0.50"), SOON), "it forwards");
            speak("vrrp.51").unwrap();
            table.keep_silent(&links).unwrap();
        }
    });
}

#[test]
fn while_forwarding_is_held_known_flows_pass_and_others_get_no_answer() {
    in_namespace(async |world| {
        let (inside, outside) = between_hosts(world).await;
        track();
        let beyond = SocketAddr::new(ip("10.1.0.50"), 4000);
        let (near, far) =
            (socket_in(&inside, "10.0.0.50:4000"), socket_in(&outside, "10.1.0.50:4000"));
        let mut table =
            OwnTable::install(&Rules { holds_forwarding: true, ..Rules::default() }).unwrap();
        assert!(passes(&near, &far, beyond, SOON));

        table.hold_forwarding(true).unwrap();
        assert!(passes(&near, &far, beyond, SOON), "a known flow");
        let stranger = socket_in(&inside, "10.0.0.50:4001");
        assert!(!passes(&stranger, &far, beyond, SILENCE), "an unknown flow");
        // Nobody listens there: without the hold the answer is a refusal.
        assert!(!inside.is_answered_by(ip("10.1.0.50"), SILENCE));
        assert!(!inside.is_answered_by(ip("2001:db8:1::50"), SILENCE));
        assert!(inside.is_answered_by(ip("10.0.0.1"), SOON), "the router itself");

        table.hold_forwarding(false).unwrap();
        assert!(passes(&stranger, &far, beyond, SOON), "held for good");
        assert!(inside.is_answered_by(ip("10.1.0.50"), SOON));
        assert!(inside.is_answered_by(ip("2001:db8:1::50"), SOON));
    });
}

#[test]
fn forwarding_is_held_and_passed_again_any_number_of_times() {
    in_namespace(async |_| {
        let mut table =
            OwnTable::install(&Rules { holds_forwarding: true, ..Rules::default() }).unwrap();
        for hold in [false, true, true, false, false, true, false] {
            table.hold_forwarding(hold).unwrap();
        }
        // A table without the chain holds nothing.
        drop(table);
        let mut without = OwnTable::install(&Rules::default()).unwrap();
        assert!(without.hold_forwarding(true).is_err());
        without.hold_forwarding(false).unwrap();
    });
}

#[test]
fn another_table_takes_the_place_of_the_one_before_and_what_is_held_stays_held() {
    in_namespace(async |world| {
        let (inside, outside) = between_hosts(world).await;
        track();
        let silent = |name: &str| BTreeSet::from([name.to_owned()]);
        let rules = |refused: &[&str], link: &str| Rules {
            holds_forwarding: true,
            virtual_links: silent(link),
            ..self::refused(refused)
        };
        let mut table = OwnTable::install(&rules(&["10.0.0.1"], "vrrp.51")).unwrap();
        table.hold_forwarding(true).unwrap();
        assert!(!inside.is_answered_by(ip("10.0.0.1"), SILENCE));

        table.exchange(&rules(&["2001:db8::1"], "lo"), &silent("lo")).unwrap();
        assert!(inside.is_answered_by(ip("10.0.0.1"), SOON), "it is refused no more");
        assert!(!inside.is_answered_by(ip("2001:db8::1"), SILENCE), "and this one is");
        let (near, far) =
            (socket_in(&inside, "10.0.0.50:4000"), socket_in(&outside, "10.1.0.50:4000"));
        let beyond = SocketAddr::new(ip("10.1.0.50"), 4000);
        assert!(!passes(&near, &far, beyond, SILENCE), "forwarding is held");
        assert!(!Host::here().is_answered_by(ip("127.0.0.1"), SILENCE), "the other link is silent");
        table.keep_silent(&BTreeSet::new()).unwrap();
        assert!(Host::here().is_answered_by(ip("127.0.0.1"), SOON));
        table.hold_forwarding(false).unwrap();
        assert!(passes(&near, &far, beyond, SOON));

        table.hold_forwarding(true).unwrap();
        table.exchange(&Rules::default(), &BTreeSet::new()).unwrap();
        assert!(passes(&near, &far, beyond, SOON), "nothing is held where nothing can be");
        assert!(table.hold_forwarding(true).is_err());
    });
}

fn socket_in(host: &Host, address: &str) -> UdpSocket {
    let address = address.to_owned();
    host.run(async move |_| UdpSocket::bind(address).unwrap())
}

/// Whether a datagram from `near` reaches `far`, which waits for it for `limit`.
fn passes(near: &UdpSocket, far: &UdpSocket, beyond: SocketAddr, limit: Duration) -> bool {
    near.send_to(b"x", beyond).unwrap();
    far.set_read_timeout(Some(limit)).unwrap();
    let heard = far.recv_from(&mut [0; 8]);
    heard.is_ok_and(|(_, from)| from == near.local_addr().unwrap())
}

#[test]
fn nobody_else_can_remove_the_table() {
    in_namespace(async |world| {
        let (inside, _outside) = between_hosts(world).await;
        let _table = OwnTable::install(&refused(&["10.0.0.1"])).unwrap();
        let mut batch = Batch::new();
        batch.delete_table(NAME);
        assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::PermissionDenied);
        let mut batch = Batch::new();
        batch.remove(NAME, "refused4", &[Element::Address(ip("10.0.0.1"))]);
        assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::PermissionDenied);
        // An operator's `nft -f`, which begins like this as a rule.
        match Command::new("nft").args(["flush", "ruleset"]).status() {
            Ok(status) => assert!(status.success()),
            Err(error) => eprintln!("not tried: nft flush ruleset: {error}"),
        }
        assert!(!inside.is_answered_by(ip("10.0.0.1"), SILENCE), "it is still there");
    });
}

#[test]
fn somebody_elses_table_of_our_name_is_left_alone() {
    in_namespace(async |_| {
        let mut batch = Batch::new();
        batch.table(NAME);
        batch.commit().unwrap();
        let refusal = OwnTable::install(&Rules::default()).unwrap_err();
        assert!(matches!(refusal, TableError::Taken), "{refusal}");
        let mut batch = Batch::new();
        batch.delete_table(NAME);
        batch.commit().unwrap();
        OwnTable::install(&Rules::default()).unwrap();
    });
}

#[test]
fn the_next_run_makes_its_own() {
    in_namespace(async |_| {
        let first = OwnTable::install(&Rules::default()).unwrap();
        assert!(matches!(OwnTable::install(&Rules::default()), Err(TableError::Held)));
        drop(first);
        OwnTable::install(&Rules::default()).unwrap();
    });
}

#[test]
fn links_come_into_silence_and_out_of_it_in_any_order() {
    in_namespace(async |_| {
        let links = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let rules = Rules { virtual_links: links(&["vrrp.1"]), ..Rules::default() };
        let mut table = OwnTable::install(&rules).unwrap();
        for names in [&["vrrp.1", "vrrp.2"][..], &["vrrp.2"], &[], &[], &["vrrp.1"]] {
            table.keep_silent(&links(names)).unwrap();
        }
    });
}

#[test]
fn thousands_of_addresses_and_links_fit() {
    in_namespace(async |_| {
        let links: BTreeSet<String> = (0..4000).map(|number| format!("vrrp{number}")).collect();
        let rules = Rules {
            refused: (0..4000u32)
                .flat_map(|number| {
                    [
                        IpAddr::from((0x0a00_0000 + number).to_be_bytes()),
                        IpAddr::from((0xfd00u128 << 112 | u128::from(number)).to_be_bytes()),
                    ]
                })
                .collect(),
            virtual_links: links.clone(),
            ..Rules::default()
        };
        let mut table = OwnTable::install(&rules).unwrap();
        table.keep_silent(&BTreeSet::new()).unwrap();
        table.keep_silent(&links).unwrap();
    });
}
