//! What is heard, and what is not.

use std::task::{Context, Waker};
use std::time::{Duration, SystemTime};

use lockstep_vrrp::{Family, PROTOCOL_AH, Vrid, judge};

use crate::cable::{A, A6, B, ETHERNET_HEADER, SOON, set, with_cable};
use crate::made::{
    advertise, advertise_often, password, recorded_in_authentication_header, recorded_with_padding,
    to_peer, version_3_over_ipv6, with_vrid,
};

#[test]
fn a_socket_hears_its_own_interface_only_and_never_itself() {
    with_cable(async |cable| {
        cable.lay("wa", "wb").await;
        for (config, source) in [(password(), A), (version_3_over_ipv6(), A6)] {
            let packet = advertise(&config, source);
            let mut sender = cable.a.sender("va");
            let mut itself = cable.a.receiver("va", config.family, &[51]);
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            let mut elsewhere = cable.b.receiver("wb", config.family, &[51]);
            ears.link_is_up(&mut sender, &packet).await;
            assert_eq!(itself.waiting(), []);
            assert_eq!(elsewhere.waiting(), []);
        }
    });
}

#[test]
fn what_is_waiting_is_read_whether_or_not_the_runtime_has_noticed() {
    with_cable(async |cable| {
        let packets = advertise_often(&password(), A, 200);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packets[0]).await;
        assert!(sender.send(&packets).is_empty());
        // Without ever letting the runtime look at its sockets. A veth hands its packets over
        // before `send` returns, or in a soft interrupt soon after.
        let until = std::time::Instant::now() + SOON;
        let mut count = 0;
        while count < packets.len() && std::time::Instant::now() < until {
            count += ears.waiting().len();
        }
        assert_eq!(count, packets.len());
        assert_eq!(ears.waiting(), []);
    });
}

#[test]
fn whoever_asked_last_is_woken() {
    with_cable(async |cable| {
        let packet = advertise(&password(), A);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packet).await;
        for _ in 0..3 {
            // The runtime may not have noticed yet that all has been read.
            let mut nobody = Context::from_waker(Waker::noop());
            while ears.receiver.poll_ready(&mut nobody).is_ready() {
                assert_eq!(ears.waiting(), []);
            }
            let (heard, failures) = tokio::join!(ears.collect(1), async {
                tokio::task::yield_now().await;
                sender.send(std::slice::from_ref(&packet))
            });
            assert_eq!((heard.len(), failures.len()), (1, 0));
        }
    });
}

#[test]
fn packets_know_the_time_of_day_at_which_they_were_read() {
    with_cable(async |cable| {
        let utc = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let packet = advertise(&password(), A);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        let before = utc();
        let heard = ears.until_heard(|| drop(sender.send(std::slice::from_ref(&packet)))).await;
        assert!((before..=utc()).contains(&heard.received));
        assert!(heard.received > Duration::from_secs(1_600_000_000));
    });
}

#[test]
fn a_flood_for_other_vrids_never_wakes_us_and_takes_no_room() {
    with_cable(async |cable| {
        for (config, source) in [(password(), A), (version_3_over_ipv6(), A6)] {
            let ours = advertise(&config, source);
            let mut sender = cable.a.sender("va");
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            ears.link_is_up(&mut sender, &ours).await;

            let others = (1..=255).filter(|vrid| *vrid != 51);
            let mut flood: Vec<_> =
                others.map(|vrid| advertise(&with_vrid(vrid, config.clone()), source)).collect();
            flood = flood.iter().cycle().take(20_000).cloned().collect();
            flood.push(ours.clone());
            for chunk in flood.chunks(500) {
                assert_eq!(sender.send(chunk).len(), 0);
                // The link is given the time to hand them over.
                tokio::task::yield_now().await;
            }
            let first = ears.wait().await;
            assert_eq!(first.len(), 1, "woken once, for the one packet that is ours");
            assert_eq!(first[0].vrid(), Vrid::new(51));
            assert_eq!(ears.waiting(), []);
            assert_eq!(ears.receiver.dropped().unwrap(), 0);
        }
    });
}

#[test]
fn the_vrids_let_in_can_be_changed() {
    with_cable(async |cable| {
        for (config, source) in [(password(), A), (version_3_over_ipv6(), A6)] {
            let packets: Vec<_> =
                [7, 51, 255].map(|vrid| advertise(&with_vrid(vrid, config.clone()), source)).into();
            let mut sender = cable.a.sender("va");
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            ears.link_is_up(&mut sender, &packets[1]).await;
            for vrids in [vec![7, 255], vec![51, 255], vec![7, 51, 255]] {
                ears.receiver.set_vrids(&set(&vrids)).unwrap();
                assert_eq!(*ears.receiver.vrids(), set(&vrids));
                assert!(sender.send(&packets).is_empty());
                let heard = ears.collect(vrids.len()).await;
                let heard: Vec<_> = heard.iter().map(|it| it.vrid().unwrap().value()).collect();
                assert_eq!(heard, vrids);
            }
        }
    });
}

#[test]
fn packets_that_are_not_read_in_time_are_counted() {
    with_cable(async |cable| {
        let packets = advertise_often(&password(), A, 500);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packets[0]).await;
        let mut sent = 0;
        while ears.receiver.dropped().unwrap() == 0 && sent < 1_000_000 {
            assert!(sender.send(&packets).is_empty());
            sent += packets.len() as u64;
        }
        let mut read = 0;
        let all = async {
            while read + ears.receiver.dropped().unwrap() < sent {
                read += ears.waiting().len() as u64;
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, all).await.expect("each is read or counted");
        assert!(read > 1000, "the queue holds some seconds of a thousand virtual routers");
        assert_eq!(read + ears.receiver.dropped().unwrap(), sent);
    });
}

#[test]
fn one_look_takes_a_bounded_number_and_the_rest_wakes_again() {
    with_cable(async |cable| {
        let most = lockstep_kernel::vrrp::Receiver::MOST;
        let packets = advertise_often(&password(), A, most + 10);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packets[0]).await;
        for chunk in packets.chunks(100) {
            assert!(sender.send(chunk).is_empty());
        }
        let mut looks = Vec::new();
        while looks.iter().sum::<usize>() < packets.len() {
            looks.push(ears.wait().await.len());
        }
        assert!(looks.iter().all(|count| *count <= most), "{looks:?}");
    });
}

#[test]
fn packets_in_an_authentication_header_are_heard_to_the_group_and_to_us() {
    with_cable(async |cable| {
        let mut announcer = cable.a.announcer("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        let frame = recorded_in_authentication_header();
        let heard =
            ears.until_heard(|| drop(announcer.send_all(std::slice::from_ref(&frame)))).await;
        assert_eq!(heard.protocol, PROTOCOL_AH);
        assert_eq!(heard.vrid(), Vrid::new(51));
        assert_eq!(heard.payload, frame[ETHERNET_HEADER + 20..]);

        let bytes = frame[ETHERNET_HEADER..].to_vec();
        let packet = to_peer(B, lockstep_vrrp::Packet { bytes, ..advertise(&password(), A) });
        let mut unicast = cable.a.unicast(None, Family::Ipv4);
        let to_us = B.parse::<std::net::IpAddr>().unwrap();
        let search = async {
            loop {
                let to_b = ears.until_heard(|| drop(unicast.send(std::slice::from_ref(&packet))));
                let heard = to_b.await;
                if heard.endpoints.destination() == to_us {
                    return heard;
                }
            }
        };
        let heard = tokio::time::timeout(SOON, search).await.expect("unicast arrives");
        assert_eq!((heard.protocol, heard.vrid()), (PROTOCOL_AH, Vrid::new(51)));
    });
}

#[test]
fn padding_behind_an_advertisement_is_cut() {
    with_cable(async |cable| {
        let frame = recorded_with_padding();
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert!(frame.len() > ETHERNET_HEADER + total);
        let vrid = frame[ETHERNET_HEADER + 21];
        let mut announcer = cable.a.announcer("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[vrid]);
        let heard =
            ears.until_heard(|| drop(announcer.send_all(std::slice::from_ref(&frame)))).await;
        assert_eq!(heard.payload, frame[ETHERNET_HEADER + 20..ETHERNET_HEADER + total]);
    });
}

#[test]
fn what_is_wrong_in_any_way_but_its_vrid_is_heard_and_can_be_judged() {
    with_cable(async |cable| {
        for (config, source) in [(password(), A), (version_3_over_ipv6(), A6)] {
            let good = advertise(&config, source);
            let mut wrong = good.clone();
            *wrong.bytes.last_mut().unwrap() ^= 1;
            let mut sender = cable.a.sender("va");
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            ears.link_is_up(&mut sender, &good).await;
            assert!(sender.send(&[wrong]).is_empty());
            let heard = ears.collect(1).await;
            assert!(judge(&config, &heard[0]).is_err(), "a wrong checksum is named, not swallowed");
        }
    });
}
