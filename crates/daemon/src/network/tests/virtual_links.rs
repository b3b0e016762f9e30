//! Interfaces with a virtual MAC address, and what the core hears of addresses that are not usable.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;

use lockstep_routes::VirtualLink;

use super::*;

const MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
const NAME: &str = "vrrp.51";

fn declared() -> Declared {
    let address = |interface: &str, address: &str| Address {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        broadcast: None,
        label: None,
        scope: Scope::Global,
        condition: master_only(),
    };
    Declared {
        addresses: vec![address(NAME, "10.1.1.1/24"), address("eth0", "2001:db8::1/64")],
        virtual_links: vec![VirtualLink {
            name: NAME.to_owned(),
            parent: "eth0".to_owned(),
            mac: MAC,
        }],
        ..Declared::default()
    }
}

fn is_ready(link: Option<&LinkState>) -> bool {
    link.is_some_and(|link| link.up && link.carrier && link.mac == MAC)
}

/// Sends a datagram out by the virtual link, whatever the routes say.
fn speak(node: &Node) -> io::Result<usize> {
    node.run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        nix::sys::socket::setsockopt(
            &socket,
            nix::sys::socket::sockopt::BindToDevice,
            &NAME.into(),
        )?;
        socket.send_to(b"frame", "224.0.0.99:9")
    })
    .unwrap()
}

fn setting(router: &Router, name: &str) -> String {
    router.node.setting(&format!("net/ipv4/conf/eth0/{name}")).unwrap()
}

#[test]
fn a_virtual_link_is_there_before_any_election_and_gone_at_the_end() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.until_told(NAME, is_ready);
    let first = &router.heard_first[NAME];
    assert!(is_ready(first.link.as_ref()), "the core never hears that it is missing: {first:?}");
    router.until("it is shown", |status| {
        status.links.iter().any(|link| {
            link.object == "vrrp.51 00:00:5e:00:01:33 on eth0" && link.standing.state == "installed"
        })
    });
    assert_eq!(setting(&router, "arp_announce"), "2");
    router.become_master();
    assert!(router.has(NAME, "10.1.1.1/24"));
    router.become_backup();
    router.requests.blocking_send(NetworkRequest::Stop).unwrap();
    router.thread.take().unwrap().join().unwrap();
    assert!(!router.ip(&["-o", "link"]).contains(NAME));
    assert_eq!(setting(&router, "arp_announce"), "0");
}

#[test]
fn a_backups_virtual_link_is_silent_and_a_masters_speaks() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.until_told(NAME, is_ready);
    for _ in 0..2 {
        assert_eq!(speak(&router.node).unwrap_err().kind(), ErrorKind::PermissionDenied);
        router.become_master();
        speak(&router.node).unwrap();
        router.become_backup();
    }
}

#[test]
fn a_virtual_link_that_is_deleted_comes_back_with_its_addresses() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.until_told(NAME, is_ready);
    router.become_master();
    router.ip(&["link", "del", NAME]);
    router.until_restored(1);
    assert!(router.has(NAME, "10.1.1.1/24"));
    router.until_told(NAME, is_ready);
    speak(&router.node).unwrap();
}

#[test]
fn a_virtual_links_address_that_somebody_removes_comes_back_while_master() {
    let Some((node, lan)) = node() else { return };
    let mut router = Router::start(&declared(), node, lan);
    router.until_told(NAME, is_ready);
    router.become_master();
    for times in 1..=5 {
        router.ip(&["addr", "del", "10.1.1.1/24", "dev", NAME]);
        router.until_restored(times);
        assert!(router.has(NAME, "10.1.1.1/24"));
    }
    router.become_backup();
    assert!(!router.has(NAME, "10.1.1.1/24"));
    assert_eq!(router.restored, 5);
}

#[test]
fn a_killed_runs_virtual_link_is_used_again_and_what_is_not_declared_removed() {
    let Some((node, lan)) = node() else { return };
    let other = VirtualLink { name: "vrrp.7".to_owned(), mac: [0, 0, 0x5e, 0, 1, 7], ..link() };
    let more = Declared { virtual_links: vec![link(), other], ..declared() };
    // A run that is left without its end.
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (core, _events) = mpsc::channel(QUEUE);
            let mut killed = Actor::start(settings(more), core).await.unwrap();
            killed.raise_virtual_links().await;
            assert!(killed.actual.link("vrrp.7").unwrap().up);
        });
    })
    .unwrap();
    let index = |router: &Router| {
        router.ip(&["-o", "link", "show", NAME]).split(':').next().map(str::to_owned)
    };
    let mut router = Router::start(&declared(), node, lan);
    let before = index(&router);
    router.until_told(NAME, is_ready);
    assert_eq!(index(&router), before);
    assert!(!router.ip(&["-o", "link"]).contains("vrrp.7"));
    router.requests.blocking_send(NetworkRequest::Stop).unwrap();
    router.thread.take().unwrap().join().unwrap();
    assert_eq!(
        (setting(&router, "arp_announce"), setting(&router, "arp_ignore")),
        ("0".into(), "0".into())
    );
}

fn link() -> VirtualLink {
    declared().virtual_links.remove(0)
}

#[test]
fn an_ipv6_virtual_address_is_usable_at_once_also_after_an_admin_down() {
    let Some((node, lan)) = node() else { return };
    for (setting, value) in [("accept_dad", "1"), ("dad_transmits", "1")] {
        node.set(&format!("net/ipv6/conf/eth0/{setting}"), value).unwrap();
    }
    let mut declared = declared();
    let mut more = declared.addresses[1].clone();
    more.address = "2001:db8::1:1/128".parse().unwrap();
    declared.addresses.push(more);
    let mut router = Router::start(&declared, node, lan);
    router.until_told(NAME, is_ready);
    router.become_master();
    for times in 1..=2 {
        let shown = router.ip(&["-o", "-6", "addr", "show", "dev", "eth0"]);
        let line = |address: &str| shown.lines().find(|line| line.contains(address)).unwrap();
        for address in ["2001:db8::1/64", "2001:db8::1:1/128"] {
            assert!(!line(address).contains("tentative"), "{shown}");
        }
        // What the router begins itself comes from an address that stays.
        assert!(line("2001:db8::1:1/128").contains("deprecated"), "{shown}");
        assert!(!line("2001:db8::1/64").contains("deprecated"), "{shown}");
        router.node.set_link("eth0", false).unwrap();
        router.until_told("eth0", |link| link.is_some_and(|link| !link.up));
        assert!(!router.has("eth0", "2001:db8::1/64"));
        router.node.set_link("eth0", true).unwrap();
        router.until_restored(times);
    }
}

#[test]
fn own_addresses_are_offered_once_nobody_else_has_them_and_never_when_somebody_has() {
    let Some((node, lan)) = node() else { return };
    let other = Node::new("other").unwrap();
    other.attach(&lan, &Interface::new("eth0")).unwrap();
    other.add_address("eth0", "2001:db8::66/64".parse().unwrap()).unwrap();
    let taken: IpAddr = "2001:db8::66".parse().unwrap();
    let free: IpAddr = "2001:db8::67".parse().unwrap();
    for (setting, value) in [("accept_dad", "1"), ("dad_transmits", "1")] {
        node.set(&format!("net/ipv6/conf/eth0/{setting}"), value).unwrap();
    }
    let mut router = Router::start(&declared(), node, lan);
    for address in ["2001:db8::66/64", "2001:db8::67/64"] {
        router.ip(&["addr", "add", address, "dev", "eth0"]);
    }
    router.until_told("eth0", |link| {
        link.is_some_and(|link| link.tentative.contains(&free) && !link.addresses.contains(&free))
    });
    router.until_told("eth0", |link| {
        link.is_some_and(|link| link.duplicate == [taken] && link.addresses.contains(&free))
    });
    let link = router.heard["eth0"].link.clone().unwrap();
    assert!(!link.addresses.contains(&taken) && !link.tentative.contains(&taken), "{link:?}");
}
