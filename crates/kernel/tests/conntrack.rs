//! The connection tracking table of the real kernel, in namespaces of the tests' own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conntrack_support;

use std::io::Read;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};

use conntrack_support::*;
use lockstep_ctnetlink::{
    Batch, Family, Flow, HelperName, L4, Messages, ProtocolState, SequenceAdjustment, Status,
    Synproxy, TcpState, Tuple, ZoneDirection, event_line, list_line,
};
use lockstep_kernel::conntrack::{
    EventSocket, Events, TableSocket, Tracking, keep_events, tracking,
};
use lockstep_kernel::sysctl;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

#[test]
fn every_kind_of_flow_and_nat_comes_back_as_it_was_created() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows = kinds();
        assert!(flows.len() > 80, "{}", flows.len());
        assert_eq!(create(&mut table, &flows), []);
        let found = dump(&mut table, Family::Any);
        assert_eq!(found.len(), flows.len());
        for flow in &flows {
            let twin = found.iter().find(|found| found.key() == flow.key()).unwrap();
            assert_same(twin, flow);
        }
    });
}

#[test]
fn a_dump_of_one_family_tells_no_flow_of_the_other() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows = kinds();
        assert_eq!(create(&mut table, &flows), []);
        let of_v4 = flows.iter().filter(|flow| flow.orig.source.is_ipv4()).count();
        let v4 = dump(&mut table, Family::Ipv4);
        assert!(v4.iter().all(|flow| flow.orig.source.is_ipv4()));
        assert_eq!(v4.len(), of_v4);
        let v6 = dump(&mut table, Family::Ipv6);
        assert!(v6.iter().all(|flow| flow.orig.source.is_ipv6()));
        assert_eq!(v6.len(), flows.len() - of_v4);
    });
}

#[test]
fn a_dump_larger_than_one_buffer_tells_every_flow_once() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> = (0..5000).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        let mut keys: Vec<_> = dump(&mut table, Family::Any).iter().map(Flow::key).collect();
        keys.sort();
        let mut expected: Vec<_> = flows.iter().map(Flow::key).collect();
        expected.sort();
        assert_eq!(keys, expected);
    });
}

#[test]
fn a_dump_given_up_does_not_disturb_the_next_request() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> = (0..2000).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        let mut buffer = Vec::new();
        assert!(table.dump(Family::Any).unwrap().read(&mut buffer).unwrap());
        assert_eq!(create(&mut table, &[tcp(1, Nat::None)]), []);
        assert_eq!(dump(&mut table, Family::Any).len(), 2001);
    });
}

#[test]
fn a_flow_that_exists_is_refused_and_the_rest_of_the_batch_is_carried_out() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, &[udp(2, Nat::None)]), []);
        let failures = create(&mut table, &[1, 2, 3].map(|port| udp(port, Nat::None)));
        assert_eq!(refusals(&failures), [(1, libc::EEXIST)]);
        assert_eq!(dump(&mut table, Family::Any).len(), 3);
    });
}

#[test]
fn a_translation_that_is_taken_is_refused_and_not_replaced_by_another() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        for nat in [Nat::SourcePort, Nat::BothPorts, Nat::Destination] {
            let first = tcp(1000, nat);
            let mut second = tcp(1000, nat);
            // Another client behind the same translated address and port.
            second.orig.source = "10.1.0.99".parse().unwrap();
            if nat == Nat::Destination {
                second.orig.source = first.orig.source;
                second.orig.destination = "10.2.0.99".parse().unwrap();
            }
            assert_eq!(create(&mut table, &[first]), []);
            let failures = create(&mut table, &[second]);
            assert_eq!(refusals(&failures), [(0, libc::EEXIST)], "{nat:?}");
            remove_all(&mut table);
        }
    });
}

#[test]
fn a_batch_in_which_everything_fails_reports_every_request() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> =
            (0..Batch::CAPACITY as u16).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        let failures = create(&mut table, &flows);
        let expected: Vec<_> = (0..Batch::CAPACITY).map(|index| (index, libc::EEXIST)).collect();
        assert_eq!(refusals(&failures), expected);
    });
}

#[test]
fn an_update_changes_what_may_change_and_leaves_nat_alone() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut flow = tcp(1, Nat::SourcePort);
        flow.status = Status(Status::CONFIRMED);
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        flow.status = Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED);
        flow.timeout_s = Some(4000);
        flow.mark = Some(77);
        flow.protocol_state =
            ProtocolState::Tcp(TcpState { state: 4, window_scale: Some([3, 9]), flags: None });
        let mut batch = Batch::new();
        assert!(batch.update(&flow));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        // The flags nobody told stay as they were: the scale is agreed on, and selective
        // acknowledgement permitted.
        let told = TcpState { state: 4, window_scale: Some([3, 9]), flags: Some([0x23, 0x23]) };
        flow.protocol_state = ProtocolState::Tcp(told);
        assert_same(&table.get(&flow.key()).unwrap().unwrap(), &flow);
    });
}

#[test]
fn an_update_that_takes_assurance_away_is_refused() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut flow = tcp(1, Nat::None);
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        flow.status = Status(Status::CONFIRMED);
        let mut batch = Batch::new();
        assert!(batch.update(&flow));
        assert_eq!(refusals(&table.execute(&mut batch).unwrap()), [(0, libc::EBUSY)]);
    });
}

#[test]
fn deleting_takes_the_flow_and_no_other() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut in_zone = udp(1, Nat::None);
        in_zone.zone = 7;
        let flows = [udp(1, Nat::None), in_zone, udp(2, Nat::None)];
        assert_eq!(create(&mut table, &flows), []);
        let id = table.get(&flows[1].key()).unwrap().unwrap().id.unwrap();
        let mut batch = Batch::new();
        assert!(batch.delete(&flows[1].key(), Some(id.wrapping_add(1))));
        assert!(batch.delete(&flows[1].key(), Some(id)));
        assert!(batch.delete(&flows[2].key(), None));
        assert!(batch.delete(&flows[2].key(), None));
        let failures = table.execute(&mut batch).unwrap();
        assert_eq!(refusals(&failures), [(0, libc::ENOENT), (3, libc::ENOENT)]);
        let left: Vec<_> = dump(&mut table, Family::Any).iter().map(Flow::key).collect();
        assert_eq!(left, [flows[0].key()]);
    });
}

#[test]
fn a_zone_of_one_direction_comes_back() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        for (port, direction) in [(1, ZoneDirection::Orig), (2, ZoneDirection::Reply)] {
            let mut flow = udp(port, Nat::SourcePort);
            flow.zone = 9;
            flow.zone_direction = direction;
            assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
            assert_same(&table.get(&flow.key()).unwrap().unwrap(), &flow);
            let mut batch = Batch::new();
            assert!(batch.delete(&flow.key(), None));
            assert_eq!(table.execute(&mut batch).unwrap(), [], "{direction:?}");
        }
    });
}

#[test]
fn helper_master_labels_adjustment_and_synproxy_come_back() {
    in_namespace(|| {
        // Labels are kept only while a rule speaks of them.
        nft("table ip t { chain c { type filter hook input priority 0; ct label 5 counter; }; }");
        let mut table = TableSocket::open().unwrap();
        let mut master = tcp(1, Nat::SourcePort);
        master.helper = HelperName::new(b"ftp");
        master.labels = Some([0x20, 0, 0, 0x8000_0000]);
        master.sequence_adjustment = Some([
            SequenceAdjustment { correction_position: 1, offset_before: 2, offset_after: 3 },
            SequenceAdjustment { correction_position: 4, offset_before: 5, offset_after: u32::MAX },
        ]);
        master.synproxy = Some(Synproxy { its: 1, isn: 2, tsoff: 3 });
        let mut expected = tcp(2, Nat::Destination);
        expected.master = Some(master.orig);
        expected.status.0 |= Status::EXPECTED;
        let flows = [master, expected];
        assert_eq!(create(&mut table, &flows), []);
        for flow in &flows {
            assert_same(&table.get(&flow.key()).unwrap().unwrap(), flow);
        }
        let mut cleared = flows[0].clone();
        cleared.labels = Some([0; 4]);
        let mut batch = Batch::new();
        assert!(batch.update(&cleared));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        let found = table.get(&cleared.key()).unwrap().unwrap();
        assert_eq!(found.labels.unwrap_or_default(), [0; 4]);
    });
}

#[test]
fn what_the_kernel_cannot_do_is_reported_per_flow() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut orphan = tcp(1, Nat::None);
        orphan.master = Some(tcp(99, Nat::None).orig);
        let mut unhelped = tcp(2, Nat::None);
        unhelped.helper = HelperName::new(b"no-such");
        let failures = create(&mut table, &[orphan, unhelped, tcp(3, Nat::None)]);
        assert_eq!(refusals(&failures), [(0, libc::ENOENT), (1, libc::EOPNOTSUPP)]);
        assert_eq!(dump(&mut table, Family::Any).len(), 1);
    });
}

#[test]
fn a_created_flow_translates_real_packets() {
    in_namespace(|| {
        run("ip", "link set lo up");
        run("ip", "address add 192.0.2.1/32 dev lo");
        // A rule that never matches: NAT is on, and only the flow itself can say what to do.
        nft("table ip t { chain o { type nat hook postrouting priority 100;
                 ip saddr 203.0.113.1 snat to 203.0.113.2; };
             chain i { type nat hook input priority 100; };
             chain p { type nat hook prerouting priority -100; };
             chain q { type nat hook output priority -100; }; }");
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let from = client.local_addr().unwrap();
        let orig = Tuple {
            source: from.ip(),
            destination: to.ip(),
            protocol: 17,
            l4: L4::Ports { source: from.port(), destination: to.port() },
        };
        let mut flow = Flow::new(orig, orig.inverse());
        flow.reply.destination = Ipv4Addr::new(192, 0, 2, 1).into();
        flow.reply.l4 = L4::Ports { source: to.port(), destination: 44_444 };
        flow.timeout_s = Some(100);
        flow.status = Status(Status::SEEN_REPLY);
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
        }
        client.send_to(b"there", to).unwrap();
        let mut bytes = [0; 16];
        let (length, seen) = server.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], seen), (&b"there"[..], "192.0.2.1:44444".parse().unwrap()));
        server.send_to(b"back", seen).unwrap();
        let (length, seen) = client.recv_from(&mut bytes).unwrap();
        assert_eq!((&bytes[..length], seen), (&b"back"[..], to));
    });
}

#[test]
fn a_live_connection_goes_on_after_its_flow_was_made_anew() {
    for told in [true, false] {
        in_namespace(|| {
            run("ip", "link set lo up");
            sysctl::write("net/netfilter/nf_conntrack_tcp_loose", "0").unwrap();
            nft("table ip t { chain c { type filter hook input priority 0; policy drop;
                ct state established accept; tcp flags syn ct state new accept; }; }");
            let mut table = TableSocket::open().unwrap();
            let (mut client, mut server) = connection(DEADLINE);
            exchange(&mut client, &mut server);
            let mut flow = dump(&mut table, Family::Any).pop().unwrap();
            if !told {
                // As from a peer that knows no window scale.
                flow.protocol_state =
                    ProtocolState::Tcp(TcpState { state: 3, window_scale: None, flags: None });
            }
            remove_all(&mut table);
            assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
            let made = table.get(&flow.key()).unwrap().unwrap();
            assert_same(&made, &flow);
            for _ in 0..3 {
                exchange(&mut client, &mut server);
                exchange(&mut server, &mut client);
            }
            drop(client);
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
        });
    }
}

#[test]
fn answers_that_the_kernel_did_not_send_are_not_believed() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut liar = Socket::new(NETLINK_NETFILTER).unwrap();
        liar.bind_auto().unwrap();
        for sequence in 0..10_u32 {
            const ERROR: u32 = 2;
            let words = [36, ERROR, sequence, 0, -1_i32 as u32, 16, 0, 0, 0];
            let lie: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            liar.send_to(&lie, &SocketAddr::new(table.port_id(), 0), 0).unwrap();
        }
        assert_eq!(create(&mut table, &[udp(1, Nat::None), udp(2, Nat::None)]), []);
        assert_eq!(dump(&mut table, Family::Any).len(), 2);
    });
}

#[test]
fn events_tell_what_happened_and_who_asked_for_it() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(1 << 20).unwrap();
        let mut table = TableSocket::open().unwrap();
        let mut flow = tcp(1, Nat::SourcePort);
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        flow.mark = Some(9);
        let mut batch = Batch::new();
        assert!(batch.update(&flow));
        assert!(batch.delete(&flow.key(), None));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        let heard = hear(&mut events, 3).await;
        let told: Vec<_> =
            heard.iter().map(|(what, flow, port)| (*what, flow.key(), *port)).collect();
        let mine = table.port_id();
        assert_ne!(mine, 0);
        let key = flow.key();
        assert_eq!(told, [("new", key, mine), ("update", key, mine), ("destroy", key, mine)]);
        assert_same(&heard[1].1, &flow);
    });
}

#[test]
fn events_of_real_traffic_carry_no_port_and_end_with_destroy() {
    in_namespace_async(async || {
        run("ip", "link set lo up");
        nft("table ip t { chain c { type filter hook input priority 0; ct state new counter; }; }");
        let mut events = EventSocket::open(1 << 20).unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"x", server.local_addr().unwrap()).unwrap();
        let heard = hear(&mut events, 1).await;
        let (what, flow, port) = &heard[0];
        assert_eq!((*what, *port), ("new", 0));
        let L4::Ports { source, destination } = flow.orig.l4 else { panic!("{flow:?}") };
        assert_eq!(source, client.local_addr().unwrap().port());
        assert_eq!(destination, server.local_addr().unwrap().port());
        let mut table = TableSocket::open().unwrap();
        remove_all(&mut table);
        assert_eq!(hear(&mut events, 1).await[0].0, "destroy");
    });
}

#[test]
fn an_overrun_is_told_and_later_events_arrive() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(4096).unwrap();
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> = (0..1000).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        let mut buffer = Vec::new();
        let mut overruns = 0;
        let mut messages = 0;
        while let Some(received) = events.try_receive(&mut buffer).unwrap() {
            match received {
                Events::Overrun => overruns += 1,
                Events::Messages => messages += Messages::new(&buffer).count(),
            }
        }
        assert!(overruns > 0);
        assert!(messages < flows.len(), "{messages}");
        let late = tcp(1, Nat::None);
        assert_eq!(create(&mut table, std::slice::from_ref(&late)), []);
        let heard = hear(&mut events, 1).await;
        assert_eq!((heard[0].0, heard[0].1.key()), ("new", late.key()));
    });
}

#[test]
fn many_events_are_taken_with_one_call() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(1 << 22).unwrap();
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> = (0..200).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        let mut buffer = Vec::new();
        let mut calls = Vec::new();
        while events.try_receive(&mut buffer).unwrap().is_some() {
            calls.push(Messages::new(&buffer).map(Result::unwrap).count());
        }
        assert_eq!(calls, [64, 64, 64, 8]);
    });
}

#[test]
fn opening_the_event_socket_has_every_flow_tell_for_life() {
    in_namespace_async(async || {
        for before in ["0", "2", "1"] {
            sysctl::write("net/netfilter/nf_conntrack_events", before).unwrap();
            drop(EventSocket::open(1 << 16).unwrap());
            assert_eq!(sysctl::read("net/netfilter/nf_conntrack_events").unwrap(), "1");
        }
        // A flow that was made while nobody listened is heard of when it goes.
        keep_events().unwrap();
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, &[udp(1, Nat::None)]), []);
        let mut events = EventSocket::open(1 << 16).unwrap();
        remove_all(&mut table);
        assert_eq!(hear(&mut events, 1).await[0].0, "destroy");
    });
}

#[test]
fn tracking_is_idle_until_a_rule_asks_for_it() {
    in_namespace(|| {
        run("ip", "link set lo up");
        let mut table = TableSocket::open().unwrap();
        assert_eq!(tracking(&mut table).unwrap(), Tracking::Idle);
        nft("table ip t { chain c { type filter hook input priority 0; ct state new counter; }; }");
        assert_eq!(tracking(&mut table).unwrap(), Tracking::Active);
        assert_eq!(dump(&mut table, Family::Any), []);
    });
}

#[test]
fn list_lines_are_those_of_conntrack() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut flows = kinds();
        for (port, state) in (1..10).enumerate() {
            let mut flow = tcp(30_000 + port as u16, Nat::None);
            flow.protocol_state = ProtocolState::Tcp(TcpState { state, ..TcpState::default() });
            flows.push(flow);
        }
        let mut special = tcp(40_000, Nat::BothPorts);
        special.helper = HelperName::new(b"ftp");
        special.mark = Some(0x1234_5678);
        special.zone = 12;
        let mut halves = udp(40_001, Nat::None);
        halves.zone = 3;
        halves.zone_direction = ZoneDirection::Reply;
        flows.extend([special, halves]);
        assert_eq!(create(&mut table, &flows), []);
        let mut ours = Vec::new();
        each(&mut table, |flow, details| ours.push(list_line(&flow, &details)));
        let mut theirs = Vec::new();
        for family in ["ipv4", "ipv6"] {
            let output = Command::new("conntrack").args(["-L", "-f", family]).output().unwrap();
            theirs.extend(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
        }
        compare_lines(ours, theirs);
    });
}

#[test]
fn event_lines_are_those_of_conntrack() {
    in_namespace_async(async || {
        let mut tool = Command::new("conntrack")
            .args(["-E", "-o", "id", "-b", "4194304"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_listener();
        let mut events = EventSocket::open(1 << 22).unwrap();
        let mut table = TableSocket::open().unwrap();
        let flows = kinds();
        assert_eq!(create(&mut table, &flows), []);
        let mut changed = flows[0].clone();
        changed.mark = Some(5);
        let mut batch = Batch::new();
        assert!(batch.update(&changed));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        remove_all(&mut table);
        let expected = flows.len() * 2 + 1;
        let mut ours = Vec::new();
        let mut buffer = Vec::new();
        while ours.len() < expected {
            assert_eq!(receive(&mut events, &mut buffer).await, Events::Messages);
            for message in Messages::new(&buffer) {
                let message = message.unwrap();
                let (flow, details) = (message.flow().unwrap(), message.details().unwrap());
                let port_id = message.header().port_id;
                ours.push(event_line(&message.kind().unwrap(), &flow, &details, port_id));
            }
        }
        let output = tool.stdout.take().unwrap();
        let theirs = read_lines(output, expected, DEADLINE);
        tool.kill().unwrap();
        tool.wait().unwrap();
        compare_lines(ours, theirs);
    });
}
