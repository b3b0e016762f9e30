//! What requests say, seen by the decoder and in bytes.

mod common;

use common::{any_flow, only, ports};
use lockstep_ctnetlink::{
    Batch, DEFAULT_TIMEOUT_S, Flow, Header, Kind, Messages, ProtocolState, Status, TcpState,
    create, delete, update,
};
use proptest::prelude::*;

proptest! {
    /// A request is not an event, but it has the same attributes.
    #[test]
    fn an_update_says_what_the_flow_is(flow in any_flow()) {
        let mut bytes = Vec::new();
        update(&mut bytes, &flow, 7);
        let said = only(&bytes).flow().unwrap();
        let mut expected = as_requested(&flow, Status::EXPECTED);
        expected.master = None;
        expected.helper = None;
        if flow.status.contains(Status::FIXED_TIMEOUT) {
            expected.timeout_s = None;
        }
        prop_assert_eq!(said, expected);
    }

    #[test]
    fn a_creation_without_nat_says_what_the_flow_is(flow in any_flow()) {
        let flow = Flow { reply: flow.orig.inverse(), ..flow };
        let mut bytes = Vec::new();
        create(&mut bytes, &flow, 7);
        let said = only(&bytes).flow().unwrap();
        let timeout_s = Some(flow.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S));
        prop_assert_eq!(said, Flow { timeout_s, ..as_requested(&flow, 0) });
    }

    #[test]
    fn a_creation_with_nat_leaves_the_reply_to_the_kernel(flow in any_flow()) {
        let mut bytes = Vec::new();
        create(&mut bytes, &flow, 7);
        let said = only(&bytes).flow().unwrap();
        prop_assert_eq!(said.orig, flow.orig);
        prop_assert_eq!(said.reply, flow.orig.inverse());
    }

    #[test]
    fn every_request_is_a_multiple_of_four_bytes(flows in prop::collection::vec(any_flow(), 1..20)) {
        let mut bytes = Vec::new();
        for flow in &flows {
            create(&mut bytes, flow, 0);
            update(&mut bytes, flow, 0);
            delete(&mut bytes, &flow.key(), None, 0);
        }
        prop_assert_eq!(Messages::new(&bytes).map(Result::unwrap).count(), flows.len() * 3);
        prop_assert!(bytes.len().is_multiple_of(4));
    }
}

/// The flow as requests say it: without the status bits and flags that are the kernel's own.
fn as_requested(flow: &Flow, more_status: u32) -> Flow {
    let settable = Status::SEEN_REPLY | Status::ASSURED | Status::FIXED_TIMEOUT | more_status;
    let mut flow = flow.clone();
    flow.status.0 = flow.status.0 & settable | Status::CONFIRMED;
    if let ProtocolState::Tcp(tcp) = &mut flow.protocol_state {
        let agreed = if tcp.window_scale.is_some() { TcpState::WINDOW_SCALE } else { 0 };
        tcp.flags = Some(tcp.flags.unwrap_or([agreed; 2]).map(|flags| flags & 7 | 8));
    }
    flow
}

#[test]
fn a_translated_flow_is_asked_for_with_exact_ranges() {
    let orig = ports(17, "10.1.0.1", "10.2.0.1", 1000, 53);
    let reply = ports(17, "10.3.0.1", "192.0.2.1", 53, 4444);
    let mut flow = Flow::new(orig, reply);
    flow.timeout_s = Some(30);
    let mut bytes = Vec::new();
    create(&mut bytes, &flow, 0x0102_0304);
    let tuple = |kind: u16, source: [u8; 4], destination: [u8; 4], ports: [u16; 2]| {
        let address = |kind, octets: [u8; 4]| attribute(kind, &octets);
        let port = |kind, port: u16| attribute(kind, &port.to_be_bytes());
        let hosts = nest(1, &[address(1, source), address(2, destination)]);
        let proto = nest(2, &[attribute(1, &[17]), port(2, ports[0]), port(3, ports[1])]);
        nest(kind, &[hosts, proto])
    };
    let nat = |kind: u16, address: [u8; 4], port: u16| {
        let port = port.to_be_bytes();
        let range = nest(3, &[attribute(1, &port), attribute(2, &port)]);
        nest(kind, &[attribute(1, &address), attribute(2, &address), range])
    };
    let content = [
        vec![2, 0, 0, 0],
        tuple(1, [10, 1, 0, 1], [10, 2, 0, 1], [1000, 53]),
        tuple(2, [10, 2, 0, 1], [10, 1, 0, 1], [53, 1000]),
        nat(6, [192, 0, 2, 1], 4444),
        nat(13, [10, 3, 0, 1], 53),
        attribute(7, &30_u32.to_be_bytes()),
        attribute(3, &Status::CONFIRMED.to_be_bytes()),
    ]
    .concat();
    let length = (content.len() + Header::LENGTH) as u32;
    let request_create_exclusive = 0x601_u16;
    let header = [
        &length.to_ne_bytes()[..],
        &0x100_u16.to_ne_bytes(),
        &request_create_exclusive.to_ne_bytes(),
        &0x0102_0304_u32.to_ne_bytes(),
        &[0; 4],
    ]
    .concat();
    assert_eq!(bytes, [header, content].concat());
}

#[test]
fn a_deletion_always_names_a_flow() {
    // One that names none would empty the table.
    let flow =
        Flow::new(ports(6, "10.0.0.1", "10.0.0.2", 1, 2), ports(6, "10.0.0.2", "10.0.0.1", 2, 1));
    let mut bytes = Vec::new();
    delete(&mut bytes, &flow.key(), Some(9), 1);
    let message = only(&bytes);
    assert_eq!(message.kind(), Ok(Kind::Destroy));
    let tuple_orig = [attribute(1, &[10, 0, 0, 1]), attribute(2, &[10, 0, 0, 2])].concat();
    assert!(bytes.windows(tuple_orig.len()).any(|window| window == tuple_orig));
}

#[test]
fn window_scale_is_said_with_its_flag_and_windows_are_not_checked() {
    let mut flow =
        Flow::new(ports(6, "10.0.0.1", "10.0.0.2", 1, 2), ports(6, "10.0.0.2", "10.0.0.1", 2, 1));
    let tcp = TcpState { state: 3, window_scale: Some([7, 8]), flags: None };
    flow.protocol_state = ProtocolState::Tcp(tcp);
    let mut bytes = Vec::new();
    create(&mut bytes, &flow, 1);
    let said = only(&bytes).flow().unwrap().protocol_state;
    let flags = TcpState::WINDOW_SCALE | TcpState::BE_LIBERAL;
    assert_eq!(said, ProtocolState::Tcp(TcpState { flags: Some([flags; 2]), ..tcp }));
    let mut sctp = flow.clone();
    sctp.protocol_state = ProtocolState::None;
    bytes.clear();
    create(&mut bytes, &sctp, 1);
    assert_eq!(only(&bytes).flow().unwrap().protocol_state, ProtocolState::None);
}

#[test]
fn a_batch_is_numbered_and_only_its_last_request_is_answered() {
    const ACK: u16 = 4;
    let flow =
        Flow::new(ports(6, "10.0.0.1", "10.0.0.2", 1, 2), ports(6, "10.0.0.2", "10.0.0.1", 2, 1));
    let mut batch = Batch::new();
    assert!(batch.create(&flow) && batch.update(&flow));
    let numbered = |bytes: &[u8]| -> Vec<(u32, bool)> {
        Messages::new(bytes)
            .map(|message| message.unwrap().header())
            .map(|header| (header.sequence, header.flags & ACK != 0))
            .collect()
    };
    assert_eq!(numbered(batch.seal(u32::MAX)), [(u32::MAX, false), (0, true)]);
    assert!(batch.delete(&flow.key(), None));
    assert_eq!(numbered(batch.seal(5)), [(5, false), (6, false), (7, true)]);
    batch.clear();
    assert!(batch.is_empty());
    assert_eq!(batch.seal(1), []);
}

#[test]
fn a_full_batch_takes_nothing() {
    let flow =
        Flow::new(ports(6, "10.0.0.1", "10.0.0.2", 1, 2), ports(6, "10.0.0.2", "10.0.0.1", 2, 1));
    let mut batch = Batch::new();
    for _ in 0..Batch::CAPACITY {
        assert!(!batch.is_full());
        assert!(batch.create(&flow));
    }
    assert!(batch.is_full());
    assert!(!batch.update(&flow));
    assert_eq!(batch.len(), Batch::CAPACITY);
    assert_eq!(Messages::new(batch.seal(1)).count(), Batch::CAPACITY);
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (value.len() + 4) as u16;
    let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn nest(kind: u16, inside: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &inside.concat())
}
