//! What leaves for the group, and announcements.

use lockstep_vrrp::{
    Advertisement, Datagram, Family, Packet, gratuitous_arp, judge, neighbour_advertisement,
};

use crate::cable::{A, A6, B, ETHERNET_HEADER, with_cable};
use crate::made::{advertise, advertise_often, password, to_peer, version_3_over_ipv6};

#[test]
fn an_advertisement_over_ipv4_arrives_byte_for_byte() {
    with_cable(async |cable| {
        let config = password();
        let packet = advertise(&config, A);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        let wire = cable.b.capture("vb", libc::ETH_P_IP);

        let heard = ears.until_heard(|| drop(sender.send(std::slice::from_ref(&packet)))).await;
        assert_eq!(heard, Datagram::from_ipv4(&packet.bytes, heard.received).unwrap());
        let said = judge(&config, &heard).map(|judged| judged.advertisement);
        assert_eq!(said, Ok(Advertisement::of(&config, 150)));

        let frame = wire.next(|frame| frame[ETHERNET_HEADER + 9] == 112).await;
        assert_eq!(frame[ETHERNET_HEADER..], packet.bytes);
        assert_eq!(frame[..6], [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
    });
}

#[test]
fn an_advertisement_over_ipv6_arrives_byte_for_byte() {
    with_cable(async |cable| {
        let config = version_3_over_ipv6();
        let packet = advertise(&config, A6);
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv6, &[51]);
        let wire = cable.b.capture("vb", libc::ETH_P_IPV6);

        let heard = ears.until_heard(|| drop(sender.send(std::slice::from_ref(&packet)))).await;
        assert_eq!(heard.endpoints.source(), A6.parse::<std::net::IpAddr>().unwrap());
        assert_eq!(heard.endpoints.destination(), Family::Ipv6.group());
        assert_eq!(heard.ttl, 255);
        let said = judge(&config, &heard).map(|judged| judged.advertisement);
        assert_eq!(said, Ok(Advertisement::of(&config, 150)));

        let frame = wire.next(|frame| frame[ETHERNET_HEADER + 6] == 112).await;
        assert_eq!(frame[ETHERNET_HEADER..], packet.bytes);
        assert_eq!(frame[..6], [0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);
    });
}

#[test]
fn what_leaves_by_a_macvlan_has_its_virtual_mac_as_source() {
    with_cable(async |cable| {
        for (name, config, source, ethertype, mac) in [
            ("vrrp4", password(), A, libc::ETH_P_IP, [0, 0, 0x5e, 0, 1, 51]),
            ("vrrp6", version_3_over_ipv6(), A6, libc::ETH_P_IPV6, [0, 0, 0x5e, 0, 2, 51]),
        ] {
            cable.a.add_macvlan(name, "va", mac).await;
            let packet = advertise(&config, source);
            let mut sender = cable.a.sender(name);
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            let wire = cable.b.capture("vb", ethertype);

            let heard = ears.until_heard(|| drop(sender.send(std::slice::from_ref(&packet)))).await;
            assert!(judge(&config, &heard).is_ok());
            let frame = wire.next(|frame| frame[6..12] == mac).await;
            assert_eq!(frame[ETHERNET_HEADER..], packet.bytes);
        }
    });
}

#[test]
fn advertisements_leave_without_an_address_and_without_a_route() {
    with_cable(async |cable| {
        cable.a.set_sysctl("ipv6/conf/default/disable_ipv6", "1");
        cable.lay("wa", "wb").await;
        let mut sender = cable.a.sender("wa");
        for (config, source) in [(password(), A), (version_3_over_ipv6(), A6)] {
            let packet = advertise(&config, source);
            let mut ears = cable.b.receiver("wb", config.family, &[51]);
            let heard = ears.until_heard(|| drop(sender.send(std::slice::from_ref(&packet)))).await;
            assert!(judge(&config, &heard).is_ok());
            assert!(sender.send(&[packet]).is_empty());
        }
    });
}

#[test]
fn what_is_sent_to_the_group_is_never_tracked_and_not_in_the_firewalls_way() {
    with_cable(async |cable| {
        let rules = "table inet filter { chain output { type filter hook output priority 0; policy drop; \
             ct state new counter drop; }; }";
        if !cable.a.load_rules(rules) {
            return;
        }
        let mut sender = cable.a.sender("va");
        for (config, source) in [(password(), A), (version_3_over_ipv6(), A6)] {
            let packet = advertise(&config, source);
            let mut ears = cable.b.receiver("vb", config.family, &[51]);
            let heard = ears.until_heard(|| drop(sender.send(std::slice::from_ref(&packet)))).await;
            assert!(judge(&config, &heard).is_ok());
            assert_eq!(cable.a.tracked_flows(), 0);
        }
    });
}

#[test]
fn both_families_leave_by_one_socket_in_the_order_given() {
    with_cable(async |cable| {
        let mut sender = cable.a.sender("va");
        let packets = advertise_often(&password(), A, 300);
        let other = advertise(&version_3_over_ipv6(), A6);
        let mut v4 = cable.b.receiver("vb", Family::Ipv4, &[51]);
        let mut v6 = cable.b.receiver("vb", Family::Ipv6, &[51]);
        v4.link_is_up(&mut sender, &packets[0]).await;
        v6.link_is_up(&mut sender, &other).await;

        let mut mixed: Vec<Packet> = packets.clone();
        mixed.insert(100, other.clone());
        mixed.push(other);
        assert!(sender.send(&mixed).is_empty());
        let order: Vec<u16> =
            v4.collect(300).await.iter().map(|datagram| datagram.identification).collect();
        assert_eq!(order, (1..=300).collect::<Vec<u16>>());
        assert_eq!(v6.collect(2).await.len(), 2);
    });
}

#[test]
fn each_packet_that_cannot_be_sent_is_told_and_the_others_leave() {
    with_cable(async |cable| {
        let mut sender = cable.a.sender("va");
        let mut packets = advertise_often(&password(), A, 100);
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packets[0]).await;

        packets[10].bytes.resize(1501, 0);
        packets[70].destination = "10.51.0.12".parse().unwrap();
        packets[99].bytes.resize(9000, 0);
        let failures = sender.send(&packets);
        let positions: Vec<_> = failures.iter().map(|failure| failure.position).collect();
        assert_eq!(positions, [10, 70, 99]);
        assert_eq!(failures[0].error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(failures[1].error.kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(failures[2].error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(ears.collect(97).await.len(), 97);
    });
}

#[test]
fn a_full_queue_of_the_interface_is_told_for_each_packet_it_refuses() {
    with_cable(async |cable| {
        let mut sender = cable.a.sender("va");
        let packets = advertise_often(&password(), A, 200);
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &packets[0]).await;
        // The peer's link address is known before the queue is full.
        let mut unicast = cable.a.unicast(None, Family::Ipv4);
        let to_b: Vec<_> = packets.iter().map(|packet| to_peer(B, packet.clone())).collect();
        ears.until_heard(|| drop(unicast.send(&to_b[..1]))).await;
        if !cable.a.throttle("va") {
            return;
        }
        let failures = sender.send(&packets);
        assert!(!failures.is_empty() && failures.len() < packets.len());
        let queue_full = Some(libc::ENOBUFS);
        assert!(failures.iter().all(|failure| failure.error.raw_os_error() == queue_full));
        assert_eq!(failures.last().unwrap().position, packets.len() - 1);

        let failures = unicast.send(&to_b);
        assert!(!failures.is_empty());
        assert!(failures.iter().all(|failure| failure.error.raw_os_error() == queue_full));
    });
}

#[test]
fn announcements_arrive_as_they_were_made_and_in_order() {
    with_cable(async |cable| {
        let mut sender = cable.a.sender("va");
        let mut ears = cable.b.receiver("vb", Family::Ipv4, &[51]);
        ears.link_is_up(&mut sender, &advertise(&password(), A)).await;

        let mut announcer = cable.a.announcer("va");
        let mac = [0x02, 0, 0, 0, 0, 0x0a];
        let wire = cable.b.capture("vb", libc::ETH_P_ALL);
        let arp = |last| gratuitous_arp(format!("10.51.0.{last}").parse().unwrap(), mac);
        let mut frames: Vec<Vec<u8>> = (1..=99).map(arp).collect();
        frames.push(neighbour_advertisement("fe80::51:1".parse().unwrap(), mac, true));
        assert!(announcer.send_all(&frames).is_empty());
        for frame in &frames {
            assert_eq!(wire.next(|seen| seen[6..12] == mac).await, *frame);
        }

        let too_long = vec![vec![0; 60], vec![0; 2000], vec![0; 60]];
        let failures = announcer.send_all(&too_long);
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].position, 1);
        assert_eq!(failures[0].error.raw_os_error(), Some(libc::EMSGSIZE));
    });
}
