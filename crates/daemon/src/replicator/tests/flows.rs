//! Flows that somebody else makes, changes and removes, through a socket of its own in the namespace
//! of the calling thread.

use std::net::{IpAddr, Ipv4Addr};

use lockstep_ctnetlink::{
    Batch, Family, Flow, Kind, L4, Messages, ProtocolState, Status, TcpState, Tuple,
};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_lab::Node;

/// An established TCP flow between two hosts that are not the router.
pub(super) fn flow(number: u32) -> Flow {
    let address = |first: u32| IpAddr::V4(Ipv4Addr::from(first + number / 50_000));
    let orig = Tuple {
        source: address(0x0a01_0001),
        destination: address(0xc633_6401),
        protocol: 6,
        l4: L4::Ports { source: (1024 + number % 50_000) as u16, destination: 443 },
    };
    let mut flow = Flow::new(orig, orig.inverse());
    flow.status = Status(Status::SEEN_REPLY | Status::ASSURED);
    flow.timeout_s = Some(100_000);
    flow.protocol_state = ProtocolState::Tcp(TcpState { state: 3, ..TcpState::default() });
    flow
}

/// Returns how many the kernel refused.
pub(super) fn make(flows: impl IntoIterator<Item = Flow>) -> usize {
    execute(flows, Batch::create)
}

/// Returns how many the kernel refused.
pub(super) fn change(flows: impl IntoIterator<Item = Flow>) -> usize {
    execute(flows, Batch::update)
}

/// Returns how many the kernel refused.
pub(super) fn remove(flows: impl IntoIterator<Item = Flow>) -> usize {
    execute(flows, |batch, flow| batch.delete(&flow.key(), None))
}

fn execute(
    flows: impl IntoIterator<Item = Flow>,
    add: impl Fn(&mut Batch, &Flow) -> bool,
) -> usize {
    let mut socket = TableSocket::open().unwrap();
    let mut batch = Batch::new();
    let mut refused = 0;
    let mut flows = flows.into_iter().peekable();
    while let Some(flow) = flows.next() {
        assert!(add(&mut batch, &flow));
        if batch.is_full() || flows.peek().is_none() {
            refused += socket.execute(&mut batch).unwrap().len();
            batch.clear();
        }
    }
    refused
}

/// Every flow of a router's kernel, in the order of the keys.
pub(super) fn table(node: &Node) -> Vec<Flow> {
    let mut flows = node.run(read).unwrap();
    flows.sort_by_key(Flow::key);
    flows
}

fn read() -> Vec<Flow> {
    let mut socket = TableSocket::open().unwrap();
    let mut dump = socket.dump(Family::Any).unwrap();
    let mut flows = Vec::new();
    let mut buffer = Vec::new();
    while dump.read(&mut buffer).unwrap() {
        let messages = Messages::new(&buffer).map(Result::unwrap);
        let entries = messages.filter(|message| message.kind() == Ok(Kind::Entry));
        flows.extend(entries.map(|entry| entry.flow().unwrap()));
    }
    assert!(!dump.interrupted());
    flows
}
