//! Links with a virtual MAC address on the real kernel, and packets through them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
#[path = "network/host.rs"]
mod host;
#[path = "network/world.rs"]
mod world;

use std::net::IpAddr;
use std::time::Duration;

use lockstep_kernel::sysctl;
use lockstep_routes::{
    Address, Change, Condition, Declared, Phases, Reason, Scope, State, VIRTUAL_LINK_MARK,
    VirtualLink,
};

use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::LinkAttribute;

use host::Host;
use world::{World, in_namespace};

/// Longest wait for an answer that must come.
const SOON: Duration = Duration::from_secs(10);
const IPV4_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
const IPV6_MAC: [u8; 6] = [0, 0, 0x5e, 0, 2, 51];

fn link(name: &str, mac: [u8; 6]) -> VirtualLink {
    VirtualLink { name: name.to_owned(), parent: "eth0".to_owned(), mac }
}

fn address(interface: &str, address: &str) -> Address {
    Address {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        broadcast: None,
        label: None,
        scope: Scope::Global,
        condition: Condition::ALWAYS,
    }
}

/// Virtual router 51 of both families, as master.
fn declared() -> Declared {
    Declared {
        addresses: vec![
            address("vrrp.51", "10.0.0.1/24"),
            address("vrrp6.51", "fe80::1/64"),
            address("vrrp6.51", "2001:db8::1/64"),
        ],
        virtual_links: vec![link("vrrp.51", IPV4_MAC), link("vrrp6.51", IPV6_MAC)],
        ..Declared::default()
    }
}

async fn lan(world: &World) -> Host {
    world.set_link("lo", true).await;
    let host = world.host_on("eth0", &["10.0.0.50/24", "2001:db8::50/64"]).await;
    sysctl::write("net/ipv6/conf/eth0/accept_dad", "0").unwrap();
    world.add_address("eth0", "10.0.0.2/24").await;
    world.add_address("eth0", "2001:db8::2/64").await;
    host
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The host gets an answer from the address, and knows it by this Ethernet address, also when a
/// moment later everything under way has arrived.
fn assert_known_as(host: &Host, address: &str, mac: [u8; 6]) {
    assert!(host.is_answered_by(ip(address), SOON), "{address} answers");
    let known = host.run(async |host: &mut World| host.neighbour("eth0", ip(address)).await);
    assert_eq!(known, Some(mac), "{address}");
}

#[test]
fn neighbours_know_a_virtual_address_by_its_virtual_mac_address_only() {
    in_namespace(async |world| {
        let host = lan(world).await;
        world.settle(&declared(), &Phases::default()).await;
        let own = world.network.links().await.unwrap()[&world.index("eth0").await].mac;
        // The first answer of the virtual address makes the router ask who the host is.
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
        assert_known_as(&host, "2001:db8::1", IPV6_MAC);
        assert_known_as(&host, "10.0.0.2", own);
        assert_known_as(&host, "2001:db8::2", own);
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
        assert_known_as(&host, "2001:db8::1", IPV6_MAC);
    });
}

#[test]
fn a_strict_reverse_path_filter_everywhere_lets_packets_in_by_a_virtual_link() {
    in_namespace(async |world| {
        sysctl::write("net/ipv4/conf/all/rp_filter", "1").unwrap();
        let host = lan(world).await;
        world.settle(&declared(), &Phases::default()).await;
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
        assert_eq!(sysctl::read("net/ipv4/conf/all/rp_filter").unwrap(), "1");
    });
}

#[test]
fn the_interface_below_keeps_its_traffic_after_a_flap() {
    in_namespace(async |world| {
        sysctl::write("net/ipv4/conf/all/rp_filter", "1").unwrap();
        let host = lan(world).await;
        world.settle(&declared(), &Phases::default()).await;
        world.set_link("eth0", false).await;
        world.set_link("eth0", true).await;
        world.settle(&declared(), &Phases::default()).await;
        let own = world.network.links().await.unwrap()[&world.index("eth0").await].mac;
        assert_known_as(&host, "10.0.0.2", own);
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
    });
}

#[test]
fn a_virtual_link_has_no_address_of_its_own() {
    in_namespace(async |world| {
        let _host = lan(world).await;
        let without = Declared { addresses: Vec::new(), ..declared() };
        world.settle(&without, &Phases::default()).await;
        let actual = world.dump(&without).await;
        for name in ["vrrp.51", "vrrp6.51"] {
            let there = actual.link(name).unwrap();
            assert!(there.up && there.carrier, "{name}");
            assert!(actual.addresses.iter().all(|address| address.index != there.index), "{name}");
        }
        let eth0 = actual.link("eth0").unwrap().index;
        let macvlan = actual.link("vrrp.51").unwrap().macvlan.unwrap();
        assert!(macvlan.bridge && macvlan.parent == eth0);
        assert_eq!(sysctl::read("net/ipv6/conf/vrrp.51/disable_ipv6").unwrap(), "1");
    });
}

#[test]
fn one_that_is_deleted_or_whose_parent_is_made_anew_is_made_again() {
    in_namespace(async |world| {
        let host = lan(world).await;
        let declared = declared();
        world.settle(&declared, &Phases::default()).await;
        world.delete_link("vrrp.51").await;
        world.settle(&declared, &Phases::default()).await;
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
        world.delete_link("eth0").await;
        let states = world.assess(&declared, &Phases::default()).await.virtual_links;
        let missing = State::Pending(Reason::LinkMissing("eth0".to_owned()));
        assert_eq!(states, [missing.clone(), missing]);
        assert_eq!(world.plan(&declared, &Phases::default()).await, []);
        let host = lan(world).await;
        world.settle(&declared, &Phases::default()).await;
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
        assert_known_as(&host, "2001:db8::1", IPV6_MAC);
    });
}

#[test]
fn a_later_run_uses_it_again_and_puts_back_what_the_first_one_found() {
    in_namespace(async |world| {
        let host = lan(world).await;
        let declared = declared();
        world.settle(&declared, &Phases::default()).await;
        let before = world.dump(&declared).await.links;
        let setting = |name: &str| sysctl::read(&format!("net/ipv4/conf/eth0/{name}")).unwrap();
        assert_eq!((setting("arp_ignore"), setting("arp_announce")), ("1".into(), "2".into()));

        // As after a kill: the links are there, what they were made for is forgotten.
        let mut network = lockstep_kernel::network::Network::connect().unwrap();
        let actual = world.dump(&declared).await;
        for link in &declared.virtual_links {
            network.adopt(link, actual.link(&link.name).unwrap());
        }
        assert_eq!(world.dump(&declared).await.links, before, "nothing is made anew");
        assert_known_as(&host, "10.0.0.1", IPV4_MAC);
        let leaving = world.plan(&Declared::default(), &Phases::default()).await;
        assert!(network.apply(&leaving).await.iter().all(Result::is_ok));
        network.restore_settings();
        assert_eq!((setting("arp_ignore"), setting("arp_announce")), ("0".into(), "0".into()));
        let left: Vec<_> = world.dump(&declared).await.links.into_values().collect();
        assert!(left.iter().all(|link| !link.is_own_virtual_link()), "{left:?}");
    });
}

#[test]
fn what_somebody_has_set_meanwhile_or_stricter_stays() {
    in_namespace(async |world| {
        let _host = lan(world).await;
        sysctl::write("net/ipv4/conf/eth0/arp_ignore", "2").unwrap();
        world.settle(&declared(), &Phases::default()).await;
        sysctl::write("net/ipv4/conf/eth0/arp_announce", "1").unwrap();
        world.network.restore_settings();
        assert_eq!(sysctl::read("net/ipv4/conf/eth0/arp_ignore").unwrap(), "2");
        assert_eq!(sysctl::read("net/ipv4/conf/eth0/arp_announce").unwrap(), "1");
    });
}

#[test]
fn somebody_elses_interface_of_its_name_stays() {
    in_namespace(async |world| {
        let _host = lan(world).await;
        world.veth("vrrp.51", "other").await;
        let declared = Declared { addresses: Vec::new(), ..declared() };
        let before = world.index("vrrp.51").await;
        world.settle(&declared, &Phases::default()).await;
        assert_eq!(world.index("vrrp.51").await, before);
        let state = world.assess(&declared, &Phases::default()).await.virtual_links.remove(0);
        assert_eq!(state, State::Pending(Reason::NameTaken("vrrp.51".to_owned())));
    });
}

#[test]
fn people_see_whose_it_is() {
    in_namespace(async |world| {
        let _host = lan(world).await;
        world.settle(&declared(), &Phases::default()).await;
        let links = world.network.links().await.unwrap();
        let of = |name: &str| links.values().find(|link| link.name == name).unwrap();
        assert_eq!(of("vrrp.51").alias, format!("{VIRTUAL_LINK_MARK} arp_announce=0 arp_ignore=0"));
        assert_eq!(of("vrrp6.51").alias, VIRTUAL_LINK_MARK);
    });
}

#[test]
fn a_refused_link_is_answered_for_and_the_others_are_made() {
    in_namespace(async |world| {
        let _host = lan(world).await;
        let parent = world.index("eth0").await;
        let make = |link: VirtualLink, parent| Change::AddVirtualLink { link, parent };
        let changes = [
            make(link("vrrp.51", IPV4_MAC), parent + 1000),
            make(link("vrrp6.51", IPV6_MAC), parent),
        ];
        let answers = world.network.apply(&changes).await;
        assert_eq!(answers[0].as_ref().unwrap_err().errno, libc::ENODEV);
        assert!(answers[1].is_ok());
    });
}

#[test]
fn hundreds_are_removed_together_and_nothing_else_with_them() {
    in_namespace(async |world| {
        let _host = lan(world).await;
        world.veth("eth1", "peer1").await;
        let eth1 = world.index("eth1").await;
        let declared = Declared {
            virtual_links: (1..=255)
                .map(|vrid| link(&format!("vrrp.{vrid}"), [0, 0, 0x5e, 0, 1, vrid]))
                .collect(),
            ..Declared::default()
        };
        world.settle(&declared, &Phases::default()).await;
        // A link that somebody else has put into the group that would be taken.
        let group = LinkUnspec::new_with_index(eth1)
            .append_extra_attribute(LinkAttribute::Group(u32::MAX))
            .build();
        world.others.link().change(group).execute().await.unwrap();
        let mut leaving = world.plan(&Declared::default(), &Phases::default()).await;
        assert_eq!(leaving.len(), 255);
        leaving.push(Change::RemoveLink { index: 9_999, name: "gone already".to_owned() });
        world.carry_out(&leaving).await;
        let links = world.dump(&declared).await.links;
        let mut left: Vec<_> = links.values().map(|link| link.name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["eth0", "eth1", "lo", "peer1"]);
    });
}
