//! Links that carry datagrams, on the real kernel: two namespaces with two cables between them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod replication_support;
mod sides;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use lockstep_kernel::replication::{Condition, LinkError};
use lockstep_replicator::{Link, Transport};
use replication_support::*;
use rtnetlink::LinkUnspec;
use sides::lay;
use tokio::time::{sleep, timeout};

const GROUP: &str = "225.0.0.50";
const GROUP_V6: &str = "ff02::4242";

#[test]
fn datagrams_reach_the_other_side_and_not_the_sender() {
    with_cables(async |a, b| {
        for (group, addresses) in [(GROUP, [A, ""]), (GROUP_V6, [A6, "fe80:"])] {
            let mut sender = a.open_soon(&to_group("va", group)).await;
            let mut receiver = b.open_soon(&to_group("vb", group)).await;
            let told = deliver(&mut sender, None, b"flows", &mut receiver).await;
            let Told::Datagram { source, to_group, bytes } = &told[0] else { panic!("{told:?}") };
            assert_eq!((bytes.as_slice(), *to_group), (b"flows".as_slice(), true));
            let source = source.to_string();
            assert!(addresses.iter().any(|it| source.starts_with(it)), "{source}");
            assert_eq!(take(&mut sender), []);
        }
    });
}

#[test]
fn a_router_on_a_multicast_link_hears_what_is_sent_to_it_alone_and_can_tell() {
    with_cables(async |a, b| {
        for (group, near, far) in [(GROUP, A, B), (GROUP_V6, A6, B6)] {
            let mut sender = a.open_soon(&to_group("va", group)).await;
            let mut receiver = b.open_soon(&to_group("vb", group)).await;
            let told = deliver(&mut sender, Some(address(far)), b"alone", &mut receiver).await;
            let Told::Datagram { source, to_group, bytes } = &told[0] else { panic!("{told:?}") };
            assert_eq!((bytes.as_slice(), *to_group), (b"alone".as_slice(), false));
            // Over IPv6 the sender's address may be the link's own.
            let source = source.to_string();
            assert!(source == near || source.starts_with("fe80:"), "{source}");
        }
    });
}

#[test]
fn nothing_but_the_link_is_heard() {
    with_cables(async |a, b| {
        let mut receiver = b.open(&to_group("vb", GROUP)).unwrap();
        let stranger = a.run(|| UdpSocket::bind((OTHER_A, 0)).unwrap());
        let mut elsewhere = a.open(&to_group("wa", GROUP)).unwrap();
        let mut sender = a.open(&to_group("va", GROUP)).unwrap();
        // Unicast to the port past the link, the group on another link, another group on this one.
        // A refusal comes back as an error, and is what is wanted.
        drop(stranger.send_to(b"unicast", SocketAddr::new(address(OTHER_B), Link::PORT)));
        assert!(elsewhere.send(None, b"elsewhere"));
        assert!(elsewhere.flush());
        let other_group = b.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        other_group.join_multicast_v4(&"225.0.0.51".parse().unwrap(), &B.parse().unwrap()).unwrap();
        assert!(sender.send(Some(address("225.0.0.51")), b"another group"));
        for told in deliver(&mut sender, None, b"marker", &mut receiver).await {
            assert_eq!(told.bytes(), b"marker");
        }
        assert_eq!(receiver.counters().received_bytes % 6, 0);
    });
}

#[test]
fn only_configured_peers_are_heard_on_a_link_between_addresses() {
    with_cables(async |a, b| {
        for (near, far, stranger) in [(A, B, "10.99.0.77"), (A6, B6, "fd00:99::77")] {
            a.add_address("va", stranger).await;
            let mut sender = a.open_soon(&between("va", near, far)).await;
            let mut receiver = b.open_soon(&between("vb", far, near)).await;
            let bound = async {
                loop {
                    match a.run(|| UdpSocket::bind((address(stranger), 0))) {
                        Ok(socket) => return socket,
                        // The kernel has not looked yet whether somebody else has it.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::AddrNotAvailable),
                    }
                    sleep(AGAIN).await;
                }
            };
            let stranger = timeout(SOON, bound).await.unwrap();
            stranger.send_to(b"me too", SocketAddr::new(address(far), Link::PORT)).unwrap();
            for told in deliver(&mut sender, Some(address(far)), b"flows", &mut receiver).await {
                let bytes = b"flows".to_vec();
                assert_eq!(told, Told::Datagram { source: address(near), to_group: false, bytes });
            }
            // Both take the same way, so the stranger's has come before.
            assert_eq!(receiver.counters().strangers, 1);
            assert_eq!(take(&mut sender), [], "nobody answers, and nothing is said of that");
        }
    });
}

#[test]
fn a_silent_peer_breaks_nothing() {
    with_cables(async |a, _| {
        let mut sender = a.open_soon(&between("va", A, B)).await;
        // Nobody has the port there, and the router there says so.
        for _ in 0..20 {
            assert!(sender.send(Some(address(B)), b"hello"));
            assert!(sender.flush());
            drop(timeout(AGAIN / 10, sender.ready()).await);
            assert_eq!(take(&mut sender), []);
        }
        assert_eq!((sender.counters().sent_datagrams, sender.counters().refused), (20, 0));
    });
}

#[test]
fn many_datagrams_go_out_and_come_in_together_and_in_order() {
    with_cables(async |a, b| {
        let mut roomy = to_group("vb", GROUP);
        roomy.receive_buffer = Some(1 << 20);
        let mut sender = a.open_soon(&to_group("va", GROUP)).await;
        let mut receiver = b.open_soon(&roomy).await;
        deliver(&mut sender, None, b"ready", &mut receiver).await;
        let datagram = |number: u32| [number.to_be_bytes().as_slice(), &[7; 200]].concat();
        for number in 0..200 {
            assert!(sender.has_room());
            assert!(sender.send(None, &datagram(number)));
        }
        assert!(sender.flush());
        let wanted: Vec<_> = (0..200).map(datagram).collect();
        let told = attend(&mut [(b, &mut receiver)], |told| {
            told.iter().filter(|it| it.bytes() != b"ready").count() == wanted.len()
        })
        .await;
        let came: Vec<_> = told.iter().map(Told::bytes).filter(|it| *it != b"ready").collect();
        assert_eq!(came, wanted);
    });
}

#[test]
fn no_more_is_taken_than_asked_for_and_the_rest_stays() {
    with_cables(async |a, b| {
        let mut sender = a.open_soon(&to_group("va", GROUP)).await;
        let mut receiver = b.open_soon(&to_group("vb", GROUP)).await;
        deliver(&mut sender, None, b"ready", &mut receiver).await;
        for number in 0..10 {
            assert!(sender.send(None, &[number]));
        }
        assert!(sender.flush());
        let mut came = Vec::new();
        let all = async {
            while came.len() < 10 {
                receiver.ready().await;
                let taken = receiver.receive_many(3, |heard| came.push(Told::of(heard))).unwrap();
                assert!(taken <= 3);
                came.retain(|told| told.bytes() != b"ready");
            }
        };
        timeout(SOON, all).await.unwrap();
        let numbers: Vec<_> = came.iter().map(|told| told.bytes()[0]).collect();
        assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    });
}

#[test]
fn a_full_send_buffer_is_told_and_empties() {
    with_cables(async |a, b| {
        let mut small = to_group("va", GROUP);
        small.send_buffer = Some(4096);
        let mut sender = a.open_soon(&small).await;
        let mut receiver = b.open_soon(&to_group("vb", GROUP)).await;
        deliver(&mut sender, None, b"ready", &mut receiver).await;
        // Whether the buffer fills depends on how fast the cable is; in either case everything
        // that was taken goes out.
        let mut taken = 0;
        for _ in 0..1000 {
            if sender.has_room() {
                assert!(sender.send(None, &[1; 1400]));
                taken += 1;
            }
            while !sender.flush() {
                timeout(SOON, sender.ready()).await.unwrap();
            }
            take(&mut receiver);
        }
        let counters = sender.counters();
        assert!(taken == 1000 && counters.sent_datagrams >= 1000, "{counters:?}");
        assert_eq!(counters.refused, 0);
    });
}

#[test]
fn a_port_that_somebody_has_is_said_in_one_line() {
    with_cables(async |a, _| {
        for link in [to_group("va", GROUP), to_group("va", GROUP_V6), between("va", A, B)] {
            let first = a.open_soon(&link).await;
            let error = a.open(&link).unwrap_err();
            assert!(matches!(error, LinkError::InUse { .. }) && !error.is_temporary());
            assert_eq!(error.to_string(), "port 3780 on va is in use");
            drop(first);
            a.open(&link).unwrap();
        }
    });
}

#[test]
fn two_links_with_one_port_stand_beside_each_other() {
    with_cables(async |a, _| {
        let _first = a.open_soon(&to_group("va", GROUP)).await;
        let _second = a.open_soon(&to_group("wa", GROUP)).await;
        let _third = a.open_soon(&to_group("va", GROUP_V6)).await;
    });
}

#[test]
fn what_cannot_be_opened_is_told_apart_from_what_is_not_there_yet() {
    with_cables(async |a, _| {
        let error = a.open(&to_group("vx", GROUP)).unwrap_err();
        assert_eq!(error.to_string(), "there is no interface vx");
        assert!(error.is_temporary());
        let error = a.open(&to_group("va", "10.99.0.2")).unwrap_err();
        assert_eq!(error.to_string(), "10.99.0.2 is not a multicast address");
        assert!(!error.is_temporary());
        let error = a.open(&between("va", "10.97.0.1", B)).unwrap_err();
        assert_eq!(error.to_string(), "failed to bind the replication socket on va");
        assert!(error.is_temporary(), "the address may come");
    });
}

#[test]
fn the_largest_datagram_follows_the_mtu_of_the_link() {
    with_cables(async |a, _| {
        let v4 = a.open_soon(&to_group("va", GROUP)).await;
        let v6 = a.open_soon(&to_group("va", GROUP_V6)).await;
        let mut elsewhere = between("va", A6, B6);
        elsewhere.port += 1;
        let unicast = a.open_soon(&elsewhere).await;
        // The other cable is not looked at, whatever the calling thread's namespace is.
        for (mtu, in_v4, in_v6) in [(1500, 1472, 1452), (1400, 1372, 1352), (2000, 1972, 1952)] {
            a.change(LinkUnspec::new_with_name("va").mtu(mtu)).await;
            assert_eq!(v4.condition(), Condition::Up { max_datagram: in_v4 });
            // An address of the old one follows the link's.
            for link in [&v6, &unicast] {
                assert_eq!(link.condition(), Condition::Up { max_datagram: in_v6 });
            }
        }
        a.change(LinkUnspec::new_with_name("va").mtu(9000)).await;
        let reason = "va carries larger packets now".to_owned();
        assert_eq!(v4.condition(), Condition::Gone { reason });
        drop((v4, unicast));
        let v4 = a.open_soon(&to_group("va", GROUP)).await;
        assert_eq!(v4.condition(), Condition::Up { max_datagram: 8972 });
    });
}

#[test]
fn the_largest_datagram_arrives_whole_in_both_families() {
    with_cables(async |a, b| {
        for group in [GROUP, GROUP_V6] {
            let mut sender = a.open_soon(&to_group("va", group)).await;
            let mut receiver = b.open_soon(&to_group("vb", group)).await;
            deliver(&mut sender, None, b"ready", &mut receiver).await;
            let Condition::Up { max_datagram } = sender.condition() else { panic!("{group}") };
            assert!(sender.send(None, &vec![3; max_datagram]));
            assert!(sender.flush());
            let told = attend(&mut [(b, &mut receiver)], |told| {
                told.iter().any(|it| it.bytes() != b"ready")
            })
            .await;
            assert!(told.iter().any(|it| it.bytes().len() == max_datagram));
        }
    });
}

#[test]
fn a_link_that_goes_down_and_up_again_is_told() {
    with_cables(async |a, b| {
        let link = a.open_soon(&to_group("va", GROUP)).await;
        let is = async |wanted: Condition| {
            let seen = async {
                while link.condition() != wanted {
                    sleep(AGAIN).await;
                }
            };
            timeout(SOON, seen).await.unwrap_or_else(|_| panic!("{wanted:?}"));
        };
        let up = Condition::Up { max_datagram: 1472 };
        is(up.clone()).await;
        b.set("vb", false).await;
        is(Condition::Down { reason: "va has no carrier".to_owned() }).await;
        b.set("vb", true).await;
        is(up.clone()).await;
        a.set("va", false).await;
        is(Condition::Down { reason: "va is down".to_owned() }).await;
        a.set("va", true).await;
        is(up).await;
    });
}

#[test]
fn an_interface_renamed_or_made_anew_is_noticed_and_can_be_used() {
    with_cables(async |a, b| {
        let before = a.open(&to_group("va", GROUP)).unwrap();
        a.set("va", false).await;
        a.change(LinkUnspec::new_with_index(a.index("va")).name("other")).await;
        let reason = "va is called other now".to_owned();
        assert_eq!(before.condition(), Condition::Gone { reason });
        a.delete("other").await;
        let gone = Condition::Gone { reason: "there is no interface va any more".to_owned() };
        assert_eq!(before.condition(), gone);
        lay(a, b, "va", "vb").await;
        assert_eq!(before.condition(), gone, "the same name is not the same interface");
        drop(before);
        a.add_address("va", A).await;
        let mut sender = a.open_soon(&to_group("va", GROUP)).await;
        let mut receiver = b.open_soon(&to_group("vb", GROUP)).await;
        let told = deliver(&mut sender, None, b"again", &mut receiver).await;
        assert_eq!(told[0].bytes(), b"again");
    });
}

#[test]
fn checksums_can_be_left_out_and_buffers_asked_for() {
    with_cables(async |a, b| {
        let mut plain = to_group("va", GROUP);
        plain.checksum = false;
        plain.send_buffer = Some(1_249_280);
        plain.receive_buffer = Some(1_249_280);
        let mut sender = a.open_soon(&plain).await;
        let mut receiver = b.open_soon(&to_group("vb", GROUP)).await;
        let told = deliver(&mut sender, None, b"unsummed", &mut receiver).await;
        assert_eq!(told[0].bytes(), b"unsummed");
    });
}

#[test]
fn what_the_receive_buffer_has_no_room_for_is_counted() {
    with_cables(async |a, b| {
        let mut small = to_group("vb", GROUP);
        small.receive_buffer = Some(4096);
        let mut receiver = b.open_soon(&small).await;
        let mut sender = a.open_soon(&to_group("va", GROUP)).await;
        deliver(&mut sender, None, b"ready", &mut receiver).await;
        assert_eq!(receiver.overflowed(), 0);
        let lost = async {
            while receiver.overflowed() == 0 {
                assert!(sender.send(None, &[1; 1000]));
                if !sender.flush() {
                    sender.ready().await;
                }
            }
        };
        timeout(SOON, lost).await.unwrap();
    });
}

fn to_group(interface: &str, group: &str) -> Link {
    Link::multicast(interface, address(group))
}

fn between(interface: &str, local: &str, peer: &str) -> Link {
    let peers = vec![address(peer)];
    Link::new(interface, Transport::Udp { local: address(local), peers })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
