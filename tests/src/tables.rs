//! Flows in the kernels of routers, put there over netlink: as many as wanted, of every kind, and without packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockstep_ctnetlink::{
    Batch, Family, Flow, Kind, L4, Messages, ProtocolState, SequenceAdjustment, Status, Synproxy,
    TcpState, Tuple,
};
use lockstep_kernel::conntrack::{Failure, TableSocket};
use lockstep_lab::Node;

/// Flow number `number` of side `side`: one after the other TCP (four times of ten, translated and not, both families), UDP,
/// ICMP, `ICMPv6` and SCTP.
///
/// Numbers below 200 000 and sides below 4 give different flows.
pub fn flow(side: u8, number: u32) -> Flow {
    let v6 = matches!(number % 10, 1 | 6 | 8);
    let port = (1024 + number % 60_000) as u16;
    let round = (number / 60_000) as u8;
    let ports = L4::Ports { source: port, destination: 443 };
    let (protocol, l4) = match number % 10 {
        4 | 6 => (UDP, ports),
        5 => (SCTP, ports),
        7 => (ICMP, L4::Icmp { kind: 8, code: 0, id: port }),
        8 => (ICMPV6, L4::Icmp { kind: 128, code: 0, id: port }),
        _ => (TCP, ports),
    };
    let host = |net: u8, host: u8| -> IpAddr {
        if v6 {
            Ipv6Addr::new(0xfd00, u16::from(net), u16::from(side), 0, 0, 0, 0, host.into()).into()
        } else {
            Ipv4Addr::new(10, 100 + side, net, host).into()
        }
    };
    let orig = Tuple { source: host(1, 10 + round), destination: host(2, 20), protocol, l4 };
    let mut reply = orig.inverse();
    match number % 10 {
        0 | 4 => reply.destination = host(3, 1),
        2 => reply.source = host(4, 1),
        _ => {}
    }
    let mut flow = Flow::new(orig, reply);
    flow.status = Status(Status::SEEN_REPLY | Status::ASSURED);
    flow.timeout_s = Some(3600);
    flow.protocol_state = match protocol {
        TCP => ProtocolState::Tcp(TcpState { state: ESTABLISHED, ..TcpState::default() }),
        SCTP => ProtocolState::Sctp { state: 4, vtag_orig: number + 1, vtag_reply: !number },
        _ => ProtocolState::None,
    };
    flow
}

/// A flow that has all that a peer can be told: numbers differ in zone, mark, shift of sequence numbers and SYNPROXY.
pub fn rich_flow(side: u8, number: u32) -> Flow {
    let mut flow = flow(side, number);
    flow.zone = [0, 0, 7, 65_535][number as usize % 4];
    flow.mark = Some(number);
    flow.timeout_s = Some(1000 + number);
    let is_tcp = flow.orig.protocol == TCP;
    if is_tcp && number.is_multiple_of(3) {
        let shift = |by| SequenceAdjustment {
            correction_position: number,
            offset_before: by,
            offset_after: by.wrapping_mul(2),
        };
        flow.sequence_adjustment = Some([shift(1), shift(u32::MAX)]);
    }
    if is_tcp && number.is_multiple_of(5) {
        flow.synproxy = Some(Synproxy { its: number, isn: !number, tsoff: 3 });
    }
    flow
}

/// What of a flow in one router's table has to be the same in another's.
#[must_use]
pub fn lasting(flow: &Flow) -> Flow {
    const STATUS: u32 = Status::SEEN_REPLY
        | Status::ASSURED
        | Status::SRC_NAT
        | Status::DST_NAT
        | Status::SRC_NAT_DONE
        | Status::DST_NAT_DONE;
    let mut flow = Flow { id: None, timeout_s: None, ..flow.clone() };
    flow.status.0 &= STATUS;
    flow.mark.get_or_insert_default();
    flow.synproxy.get_or_insert_default();
    if let ProtocolState::Tcp(tcp) = &mut flow.protocol_state {
        (tcp.window_scale, tcp.flags) = (None, None);
    }
    flow
}

/// Puts flows into a router's table.
///
/// # Panics
/// When the kernel refuses one.
#[track_caller]
pub fn create(router: &Node, flows: impl Iterator<Item = Flow> + Send) {
    let failures = change(router, flows, Batch::create);
    assert_eq!(failures, [], "the kernel takes every flow");
}

/// Gives flows that are in a router's table a mark and, TCP, another state.
///
/// # Panics
/// When the kernel refuses one.
#[track_caller]
pub fn update(router: &Node, flows: impl Iterator<Item = Flow> + Send, mark: u32) {
    let changed = flows.map(|mut flow| {
        flow.mark = Some(mark);
        if let ProtocolState::Tcp(tcp) = &mut flow.protocol_state {
            tcp.state = FIN_WAIT;
        }
        flow
    });
    let failures = change(router, changed, Batch::update);
    assert_eq!(failures, [], "the kernel changes every flow");
}

/// Takes flows out of a router's table.
///
/// # Panics
/// When one is not there.
#[track_caller]
pub fn delete(router: &Node, flows: impl Iterator<Item = Flow> + Send) {
    let failures = change(router, flows, |batch, flow| batch.delete(&flow.key(), None));
    assert_eq!(failures, [], "every flow is there to be deleted");
}

/// All flows of a router's table, in order of their keys.
///
/// # Panics
/// When the table cannot be read.
#[track_caller]
pub fn read(router: &Node) -> Vec<Flow> {
    let mut flows = router
        .run(|| {
            let mut table = TableSocket::open().expect("a socket towards the table");
            let mut dump = table.dump(Family::Any).expect("the table can be read");
            let (mut flows, mut buffer) = (Vec::new(), Vec::new());
            while dump.read(&mut buffer).expect("the table can be read") {
                for message in Messages::new(&buffer).map(|message| message.expect("a message")) {
                    if message.kind() == Ok(Kind::Entry) {
                        flows.push(message.flow().expect("a flow"));
                    }
                }
            }
            flows
        })
        .expect("the router can be entered");
    flows.sort_by_key(Flow::key);
    flows.dedup_by_key(|flow| flow.key());
    flows
}

fn change(
    router: &Node,
    flows: impl Iterator<Item = Flow> + Send,
    add: impl Fn(&mut Batch, &Flow) -> bool + Send + Sync,
) -> Vec<Failure> {
    router
        .run(|| {
            let mut table = TableSocket::open().expect("a socket towards the table");
            let mut batch = Batch::new();
            let mut failures = Vec::new();
            let mut flows = flows.peekable();
            while let Some(flow) = flows.next() {
                assert!(add(&mut batch, &flow), "there is room in the batch");
                if batch.is_full() || flows.peek().is_none() {
                    failures.extend(table.execute(&mut batch).expect("the kernel answers"));
                    batch.clear();
                }
            }
            failures
        })
        .expect("the router can be entered")
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const ESTABLISHED: u8 = 3;
const FIN_WAIT: u8 = 4;
