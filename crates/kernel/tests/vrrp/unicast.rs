//! Advertisements to single peers.

use std::net::IpAddr;

use lockstep_vrrp::{Family, Packet};

use crate::cable::{A, A6, B, SOON, with_cable};
use crate::made::{advertise, password, to_peer, version_3_over_ipv6};

/// An address of `va` and one of `vb`, beyond the link-local ones.
const FAR_A6: &str = "2001:db8:51::11";
const FAR_B6: &str = "2001:db8:51::12";

#[test]
fn a_peer_is_reached_over_both_families() {
    with_cable(async |cable| {
        cable.a.set_sysctl("ipv6/conf/va/accept_dad", "0");
        cable.b.set_sysctl("ipv6/conf/vb/accept_dad", "0");
        cable.a.add_address("va", FAR_A6).await;
        cable.b.add_address("vb", FAR_B6).await;
        cable.b.add_address("vb", "fe80::b").await;
        for (config, source, peer, interface) in [
            (password(), A, B, None),
            (password(), A, B, Some("va")),
            (version_3_over_ipv6(), FAR_A6, FAR_B6, None),
            (version_3_over_ipv6(), A6, "fe80::b", Some("va")),
        ] {
            let packet = to_peer(peer, advertise(&config, source));
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            let mut unicast = cable.a.unicast(interface, config.family);
            let heard =
                ears.until_heard(|| drop(unicast.send(std::slice::from_ref(&packet)))).await;
            assert_eq!(heard.endpoints.source(), source.parse::<IpAddr>().unwrap());
            assert_eq!(heard.endpoints.destination(), peer.parse::<IpAddr>().unwrap());
            assert_eq!(heard.ttl, 255);
            assert!(packet.bytes.ends_with(&heard.payload) && heard.payload.len() > 8);
            if config.family == Family::Ipv4 {
                assert_eq!(heard.identification, 1, "as it was given");
            }
        }
    });
}

#[test]
fn a_packet_that_the_firewall_drops_is_told_and_the_others_leave() {
    with_cable(async |cable| {
        let rules = "table inet filter { chain output { type filter hook output priority 0; \
             ip daddr 10.51.0.13 drop; ip6 daddr 2001:db8:51::13 drop; }; }";
        if !cable.a.load_rules(rules) {
            return;
        }
        cable.a.set_sysctl("ipv6/conf/va/accept_dad", "0");
        cable.b.set_sysctl("ipv6/conf/vb/accept_dad", "0");
        cable.a.add_address("va", FAR_A6).await;
        cable.b.add_address("vb", FAR_B6).await;
        for (config, source, peer, forbidden) in [
            (password(), A, B, "10.51.0.13"),
            (version_3_over_ipv6(), FAR_A6, FAR_B6, "2001:db8:51::13"),
        ] {
            let packet = to_peer(peer, advertise(&config, source));
            let dropped = to_peer(forbidden, packet.clone());
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            let mut unicast = cable.a.unicast(None, config.family);
            ears.until_heard(|| drop(unicast.send(std::slice::from_ref(&packet)))).await;

            let batch = [packet.clone(), dropped.clone(), packet.clone(), dropped];
            let failures = unicast.send(&batch);
            let told: Vec<_> =
                failures.iter().map(|it| (it.position, it.error.raw_os_error())).collect();
            assert_eq!(told, [(1, Some(libc::EPERM)), (3, Some(libc::EPERM))]);
            assert!(ears.collect(2).await.len() >= 2);
        }
    });
}

#[test]
fn a_peer_without_a_route_is_told_and_the_others_are_reached() {
    with_cable(async |cable| {
        let packet = to_peer(B, advertise(&password(), A));
        let nowhere = to_peer("192.0.2.1", packet.clone());
        let other_family = to_peer(FAR_B6, advertise(&version_3_over_ipv6(), FAR_A6));
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        let mut unicast = cable.a.unicast(None, Family::Ipv4);
        ears.until_heard(|| drop(unicast.send(std::slice::from_ref(&packet)))).await;
        let failures = unicast.send(&[nowhere, other_family, packet]);
        assert_eq!(failures.len(), 2);
        assert_eq!(failures[0].error.raw_os_error(), Some(libc::ENETUNREACH));
        assert_eq!(failures[1].error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(!ears.collect(1).await.is_empty());
    });
}

#[test]
fn a_dead_peer_is_named_and_no_packet_to_another_is_lost_to_it() {
    with_cable(async |cable| {
        // The kernel tells itself over the loopback.
        cable.a.set("lo", true).await;
        cable.a.set_sysctl("ipv4/neigh/va/retrans_time_ms", "20");
        cable.a.set_sysctl("ipv6/neigh/va/retrans_time_ms", "20");
        cable.a.set_sysctl("ipv6/conf/va/accept_dad", "0");
        cable.b.set_sysctl("ipv6/conf/vb/accept_dad", "0");
        cable.a.add_address("va", FAR_A6).await;
        cable.b.add_address("vb", FAR_B6).await;
        for (config, source, alive, dead) in [
            (password(), A, B, "10.51.0.99"),
            (version_3_over_ipv6(), FAR_A6, FAR_B6, "2001:db8:51::99"),
        ] {
            let to_alive = to_peer(alive, advertise(&config, source));
            let to_dead = to_peer(dead, to_alive.clone());
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            let mut unicast = cable.a.unicast(None, config.family);
            ears.until_heard(|| drop(unicast.send(std::slice::from_ref(&to_alive)))).await;

            let search = async {
                for round in 1.. {
                    let batch: [Packet; 3] = [to_alive.clone(), to_dead.clone(), to_alive.clone()];
                    let failures = unicast.send(&batch);
                    assert!(failures.is_empty(), "the kernel takes every one: {failures:?}");
                    assert!(!ears.collect(2).await.is_empty());
                    // Seldom asked, so that the trouble is there while others are sent to.
                    let unreachable =
                        if round % 100 == 0 { unicast.unreachable() } else { Vec::new() };
                    if !unreachable.is_empty() {
                        return unreachable;
                    }
                }
                unreachable!("rounds have no end")
            };
            let unreachable =
                tokio::time::timeout(SOON, search).await.expect("it is told in the end");
            assert_eq!(unreachable.len(), 1);
            assert_eq!(unreachable[0].peer, dead.parse::<IpAddr>().unwrap());
            assert_eq!(unreachable[0].error.raw_os_error(), Some(libc::EHOSTUNREACH));
        }
    });
}
