//! Flows that somebody else makes, changes and removes, through a socket of its own in the namespace
//! of the calling thread.

use std::net::{IpAddr, Ipv4Addr};

use lockstep_ctnetlink::{
    Batch, Expectation, Family, Flow, HelperName, Kind, L4, Messages, ProtocolState, Status,
    TcpState, Tuple,
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

/// An FTP session, whose helper the kernel has.
pub(super) fn session(number: u32) -> Flow {
    Flow { helper: HelperName::new(b"ftp"), ..flow(number) }
}

/// What the helper expects of a session.
pub(super) fn expected(number: u32) -> Expectation {
    let master = session(number).orig;
    let mut tuple = master.inverse();
    tuple.l4 = L4::Ports { source: 0, destination: 4000 };
    let mask = |address: IpAddr| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::BROADCAST),
        IpAddr::V6(address) => IpAddr::V6(address),
    };
    let (source, destination) = (mask(tuple.source), mask(tuple.destination));
    let l4 = L4::Ports { source: 0, destination: 0xffff };
    let mask = Tuple { source, destination, l4, ..tuple };
    let mut expectation = Expectation::new(master, tuple, mask);
    expectation.timeout_s = Some(250);
    expectation.helper = HelperName::new(b"ftp");
    expectation
}

/// Has the kernel expect something.
pub(super) fn expect(expectation: &Expectation) {
    let mut batch = Batch::new();
    assert!(batch.create_expectation(expectation));
    assert_eq!(TableSocket::open().unwrap().execute(&mut batch).unwrap(), []);
}

/// The flows of whose sessions a router's kernel expects something.
pub(super) fn expecting(node: &Node) -> Vec<Tuple> {
    node.run(|| {
        let mut socket = TableSocket::open().unwrap();
        socket.begin_expectation_dump(Family::Any).unwrap();
        let (mut masters, mut buffer) = (Vec::new(), Vec::new());
        while socket.read_part(&mut buffer).unwrap() {
            let messages = Messages::new(&buffer).map(Result::unwrap);
            let entries = messages.filter(|it| it.kind() == Ok(Kind::ExpectationEntry));
            masters.extend(entries.map(|entry| entry.expectation().unwrap().master));
        }
        masters
    })
    .unwrap()
}
