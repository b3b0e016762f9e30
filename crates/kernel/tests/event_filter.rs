//! What the kernel leaves out of its events when it is asked to, and what it never leaves out.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
mod conntrack_support;

use std::collections::BTreeSet;
use std::net::IpAddr;

use conntrack_support::*;
use ipnet::IpNet;
use lockstep_ctnetlink::{
    Batch, Expectation, Flow, HelperName, Key, Kind, L4, ProtocolState, TcpState, Tuple,
};
use lockstep_kernel::conntrack::{EventSocket, Filtering, TableSocket, Taken, Unwanted};
use lockstep_replicator::Filter;

const TCP: u8 = 6;
const UDP: u8 = 17;

#[test]
fn only_flows_the_filter_takes_are_told_at_their_beginning_change_and_end() {
    in_namespace_async(async || {
        let flows = spread();
        for filter in filters() {
            let mut events = EventSocket::open(1 << 22).unwrap();
            let filtering = leave_out(&mut events, &filter, &[], &[]);
            assert!(matches!(filtering, Filtering::Kernel { .. }), "{filtering:?}");
            let mut table = TableSocket::open().unwrap();
            assert_eq!(create(&mut table, &flows), []);
            change(&mut table, &flows);
            remove_all(&mut table);
            let wanted: BTreeSet<Key> =
                flows.iter().filter(|flow| takes(&filter, flow)).map(Flow::key).collect();
            assert!(!wanted.is_empty() && wanted.len() < flows.len(), "{filter:?}");
            let told = told(&mut events);
            for what in ["new", "update", "destroy"] {
                let keys: BTreeSet<Key> =
                    told.iter().filter(|it| it.0 == what).map(|it| it.1).collect();
                assert_eq!(keys, wanted, "{what} {filter:?}");
            }
        }
    });
}

#[test]
fn the_routers_own_flows_are_left_out_unless_they_are_included() {
    in_namespace_async(async || {
        let flows = spread();
        let local: Vec<IpAddr> = vec![flows[0].orig.source, "fd00:2::1".parse().unwrap()];
        let own = |flow: &Flow| ends(flow).iter().any(|end| local.contains(end));
        assert!(flows.iter().any(own) && !flows.iter().all(own));
        for include_local in [false, true] {
            let filter = Filter { include_local, ..Filter::default() };
            let mut events = EventSocket::open(1 << 22).unwrap();
            leave_out(&mut events, &filter, &local, &[]);
            let mut table = TableSocket::open().unwrap();
            assert_eq!(create(&mut table, &flows), []);
            let keys: BTreeSet<Key> = told(&mut events).iter().map(|it| it.1).collect();
            let wanted: BTreeSet<Key> =
                flows.iter().filter(|flow| include_local || !own(flow)).map(Flow::key).collect();
            assert_eq!(keys, wanted);
            remove_all(&mut table);
        }
    });
}

#[test]
fn what_our_own_requests_cause_is_left_out_when_asked() {
    in_namespace_async(async || {
        let (mut ours, mut other) = (TableSocket::open().unwrap(), TableSocket::open().unwrap());
        let mut events = EventSocket::open(1 << 20).unwrap();
        leave_out(&mut events, &Filter::default(), &[], &[ours.port_id()]);
        assert_eq!(create(&mut ours, &[tcp(1, Nat::None)]), []);
        assert_eq!(create(&mut other, &[tcp(2, Nat::None)]), []);
        remove_all(&mut ours);
        assert_eq!(create(&mut other, &[tcp(1, Nat::None)]), []);
        remove_all(&mut other);
        let heard = told(&mut events);
        let (one, two) = (tcp(1, Nat::None).key(), tcp(2, Nat::None).key());
        assert_eq!(heard, [("new", two), ("new", one), ("destroy", one)]);
    });
}

#[test]
fn the_end_of_a_flow_is_told_in_whatever_state() {
    in_namespace_async(async || {
        let filter = Filter { tcp_states: vec![3], protocols: vec![TCP], ..Filter::default() };
        let mut events = EventSocket::open(1 << 20).unwrap();
        leave_out(&mut events, &filter, &[], &[]);
        let mut table = TableSocket::open().unwrap();
        let mut flow = tcp(1, Nat::None);
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        // TIME_WAIT, which is not one of the states.
        flow.protocol_state = ProtocolState::Tcp(TcpState { state: 7, ..TcpState::default() });
        let mut batch = Batch::new();
        assert!(batch.update(&flow));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        remove_all(&mut table);
        let whats: Vec<_> = told(&mut events).into_iter().map(|it| it.0).collect();
        assert_eq!(whats, ["new", "update", "destroy"]);
    });
}

#[test]
fn a_filter_that_changes_loses_no_event_that_is_wanted_before_and_after() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(1 << 23).unwrap();
        let mut table = TableSocket::open().unwrap();
        let filters = [
            Filter { protocols: vec![UDP], ..Filter::default() },
            Filter { ignore_protocols: vec![TCP], ..Filter::default() },
            Filter { addresses: vec!["10.1.0.0/16".parse().unwrap()], ..Filter::default() },
            Filter::default(),
        ];
        let flows: Vec<Flow> = (1..=1000).map(|port| udp(port, Nat::None)).collect();
        let mut kinds = Vec::new();
        for (flow, filter) in flows.iter().zip(filters.iter().cycle()) {
            kinds.push(leave_out(&mut events, filter, &[], &[]));
            assert_eq!(create(&mut table, std::slice::from_ref(flow)), []);
        }
        assert!(kinds.contains(&Filtering::Nothing));
        assert_eq!(told(&mut events).len(), flows.len());
        // The last one leaves nothing out any more.
        assert_eq!(create(&mut table, &[tcp(1, Nat::None)]), []);
        assert_eq!(told(&mut events).len(), 1);
    });
}

#[test]
fn a_filter_too_long_for_the_kernel_is_said_and_leaves_nothing_out() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(1 << 20).unwrap();
        let mut table = TableSocket::open().unwrap();
        let only_tcp = Filter { protocols: vec![TCP], ..Filter::default() };
        leave_out(&mut events, &only_tcp, &[], &[]);
        let network = |number: u32| -> IpNet {
            IpNet::new(IpAddr::from(((0xfd00_u128 << 112) | u128::from(number)).to_be_bytes()), 128)
                .unwrap()
        };
        let addresses = (0..2000).map(network).collect();
        let long = Filter { addresses, ..Filter::default() };
        let filtering = leave_out(&mut events, &long, &[], &[]);
        let Filtering::Unfiltered { reason } = filtering else { panic!("{filtering:?}") };
        assert!(reason.contains("instructions, more than the kernel allows"), "{reason}");
        assert_eq!(create(&mut table, &[udp(1, Nat::None)]), []);
        assert_eq!(told(&mut events).len(), 1, "not even what the earlier one left out");
    });
}

#[test]
fn a_hundred_networks_of_each_family_still_fit() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(1 << 22).unwrap();
        let mut table = TableSocket::open().unwrap();
        let mut addresses: Vec<IpNet> = Vec::new();
        for number in 0..100 {
            addresses.push(format!("172.16.{number}.0/24").parse().unwrap());
            addresses.push(format!("fd99:{number}::/48").parse().unwrap());
        }
        addresses.push("fd00:1::/64".parse().unwrap());
        let filter = Filter { addresses, ..Filter::default() };
        let filtering = leave_out(&mut events, &filter, &[], &[]);
        assert!(matches!(filtering, Filtering::Kernel { .. }), "{filtering:?}");
        let flows = spread();
        assert_eq!(create(&mut table, &flows), []);
        let keys: BTreeSet<Key> = told(&mut events).iter().map(|it| it.1).collect();
        let wanted: BTreeSet<Key> =
            flows.iter().filter(|flow| takes(&filter, flow)).map(Flow::key).collect();
        assert_eq!(keys, wanted);
    });
}

#[test]
fn what_is_left_out_takes_no_room_in_the_receive_buffer() {
    in_namespace_async(async || {
        let mut events = EventSocket::open(4096).unwrap();
        let only_tcp = Filter { protocols: vec![TCP], ..Filter::default() };
        leave_out(&mut events, &only_tcp, &[], &[]);
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> = (1..2000).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        assert_eq!(create(&mut table, &[tcp(1, Nat::None)]), []);
        assert_eq!(told(&mut events), [("new", tcp(1, Nat::None).key())]);
        assert_eq!(events.overruns(), 0);
    });
}

#[test]
fn the_buffer_doubles_when_events_are_lost_up_to_its_limit() {
    in_namespace_async(async || {
        let mut events = EventSocket::open_growing(8192, 20_000).unwrap();
        assert_eq!((events.buffer(), events.overruns()), (8192, 0));
        let mut table = TableSocket::open().unwrap();
        let mut sizes = Vec::new();
        for round in 0..4_u64 {
            let flows: Vec<Flow> = (1..1000).map(|port| udp(port, Nat::None)).collect();
            assert_eq!(create(&mut table, &flows), []);
            let mut overrun = false;
            loop {
                let taken = events.take(|_| {}).unwrap();
                overrun |= taken.overrun;
                if !taken.overrun && taken.messages == 0 {
                    break;
                }
            }
            assert!(overrun);
            assert_eq!(events.overruns(), round + 1);
            sizes.push(events.buffer());
            events.pause().unwrap();
            remove_all(&mut table);
            events.resume().unwrap();
        }
        assert_eq!(sizes, [16_384, 20_000, 20_000, 20_000]);
    });
}

#[test]
fn another_buffer_leaves_what_waits_and_grows_from_there() {
    in_namespace_async(async || {
        let mut events = EventSocket::open_growing(65_536, 65_536).unwrap();
        let mut table = TableSocket::open().unwrap();
        let flows: Vec<Flow> = (1..10).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        events.set_buffer(8_192);
        events.set_buffer_limit(12_000);
        assert_eq!(events.buffer(), 8_192);
        assert_eq!(told(&mut events).len(), 9);
        let flows: Vec<Flow> = (10..1000).map(|port| udp(port, Nat::None)).collect();
        assert_eq!(create(&mut table, &flows), []);
        while events.overruns() == 0 {
            assert_ne!(events.take(|_| {}).unwrap(), Taken::default(), "events are lost");
        }
        assert_eq!(events.buffer(), 12_000);
    });
}

#[test]
fn expectations_are_heard_when_asked_for_and_pass_every_filter() {
    in_namespace_async(async || {
        // Nothing is told of what a flow expects that was made while nobody listened.
        let mut events = EventSocket::open(1 << 20).unwrap();
        let filter = Filter { protocols: vec![UDP], ..Filter::default() };
        leave_out(&mut events, &filter, &[], &[]);
        let mut table = TableSocket::open().unwrap();
        let mut master = tcp(21_000, Nat::None);
        master.helper = HelperName::new(b"ftp");
        assert_eq!(create(&mut table, std::slice::from_ref(&master)), []);
        let expectation = expected(&master);
        for wanted in [false, true, false] {
            events.hear_expectations(wanted).unwrap();
            let mut batch = Batch::new();
            assert!(batch.create_expectation(&expectation));
            assert!(batch.delete_expectation(&expectation.key(), None));
            assert_eq!(table.execute(&mut batch).unwrap(), []);
            let mut heard = Vec::new();
            while events
                .take(|message| {
                    let it = message.expectation().unwrap();
                    heard.push((message.kind() == Ok(Kind::ExpectationNew), it.master, it.tuple));
                })
                .unwrap()
                .messages
                > 0
            {}
            let (master, tuple) = (expectation.master, expectation.tuple);
            let both = [(true, master, tuple), (false, master, tuple)];
            assert_eq!(heard, if wanted { both.to_vec() } else { Vec::new() });
        }
        // A pause is for expectations too, and a filter that changes does not end it.
        events.hear_expectations(true).unwrap();
        events.pause().unwrap();
        let mut batch = Batch::new();
        assert!(batch.create_expectation(&expectation));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        assert_eq!(events.take(|_| {}).unwrap().messages, 0);
        events.resume().unwrap();
        let mut batch = Batch::new();
        assert!(batch.delete_expectation(&expectation.key(), None));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        assert_eq!(events.take(|_| {}).unwrap().messages, 1);
    });
}

/// What an FTP server opens back to its client.
fn expected(master: &Flow) -> Expectation {
    let all = IpAddr::from([0xff; 4]);
    let tuple = |source, destination, port| Tuple {
        source,
        destination,
        protocol: TCP,
        l4: L4::Ports { source: 0, destination: port },
    };
    let opened = tuple(master.orig.destination, master.orig.source, 40_000);
    Expectation {
        helper: master.helper,
        timeout_s: Some(300),
        ..Expectation::new(master.orig, opened, tuple(all, all, 0xffff))
    }
}

/// Flows of both families, several protocols, networks and translations.
fn spread() -> Vec<Flow> {
    let mut flows = kinds();
    let mut more = Vec::new();
    for (number, flow) in (2..).zip(flows.iter().filter(|flow| flow.orig == flow.reply.inverse())) {
        let mut flow = flow.clone();
        flow.orig.source = match flow.orig.source {
            IpAddr::V4(_) => IpAddr::from([10, 77, number, 1]),
            IpAddr::V6(_) => IpAddr::from([0xfd77, u16::from(number), 0, 0, 0, 0, 0, 1]),
        };
        flow.reply = flow.orig.inverse();
        more.push(flow);
    }
    flows.extend(more);
    flows
}

fn filters() -> Vec<Filter> {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let none = Filter::default;
    vec![
        Filter { protocols: vec![TCP], ..none() },
        Filter { protocols: vec![UDP, 132, 58], ..none() },
        Filter { ignore_protocols: vec![1, 58, 47, 255, 0], ..none() },
        Filter { protocols: vec![TCP, UDP], ignore_protocols: vec![UDP], ..none() },
        Filter { addresses: networks(&["10.77.0.0/16"]), ..none() },
        Filter { addresses: networks(&["10.3.0.1/32", "fd00:3::1/128"]), ..none() },
        Filter { addresses: networks(&["0.0.0.0/0"]), ..none() },
        Filter { ignore_addresses: networks(&["::/0"]), ..none() },
        Filter { ignore_addresses: networks(&["10.77.4.0/22", "fd77:4::/30"]), ..none() },
        Filter { ignore_addresses: networks(&["10.2.0.1/32", "fd00:2::/33"]), ..none() },
        Filter {
            addresses: networks(&["10.77.0.0/16", "fd77::/17"]),
            ignore_addresses: networks(&["10.77.3.0/24", "fd77:3::/65"]),
            ..none()
        },
        Filter {
            protocols: vec![TCP, UDP],
            addresses: networks(&["10.1.0.0/15", "fd00::/16"]),
            ignore_addresses: networks(&["10.3.0.0/16"]),
            ..none()
        },
    ]
}

/// What a filter means, said once more and plainly.
fn takes(filter: &Filter, flow: &Flow) -> bool {
    let protocol = flow.orig.protocol;
    let in_one =
        |nets: &[IpNet]| ends(flow).iter().any(|end| nets.iter().any(|it| it.contains(end)));
    (filter.protocols.is_empty() || filter.protocols.contains(&protocol))
        && !filter.ignore_protocols.contains(&protocol)
        && (filter.addresses.is_empty() || in_one(&filter.addresses))
        && !in_one(&filter.ignore_addresses)
}

fn ends(flow: &Flow) -> [IpAddr; 2] {
    [flow.orig.source, flow.reply.source]
}

fn leave_out(
    events: &mut EventSocket,
    filter: &Filter,
    local: &[IpAddr],
    ports: &[u32],
) -> Filtering {
    events.leave_out(&Unwanted { filter, local, ports }).unwrap()
}

fn change(table: &mut TableSocket, flows: &[Flow]) {
    for part in flows.chunks(Batch::CAPACITY) {
        let mut batch = Batch::new();
        for flow in part {
            let mut flow = flow.clone();
            flow.mark = Some(0x7777);
            assert!(batch.update(&flow));
        }
        assert_eq!(table.execute(&mut batch).unwrap(), []);
    }
}

/// All that waits: what happened, and to which flow.
fn told(events: &mut EventSocket) -> Vec<(&'static str, Key)> {
    let mut told = Vec::new();
    loop {
        let taken = events
            .take(|message| {
                let what = match message.kind().unwrap() {
                    Kind::New => "new",
                    Kind::Update => "update",
                    Kind::Destroy => "destroy",
                    other => panic!("{other:?}"),
                };
                told.push((what, message.flow().unwrap().key()));
            })
            .unwrap();
        assert!(!taken.overrun);
        if taken.messages == 0 {
            return told;
        }
    }
}
