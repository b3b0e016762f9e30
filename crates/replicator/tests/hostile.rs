//! What anybody may send: nothing panics, everything is counted, nothing grows.

#![allow(clippy::unwrap_used, reason = "test")]

mod capture;
mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use capture::captures;
use common::{A, B, FAIR, World};
use lockstep_ctnetlink::{
    Flow, HelperName, L4, ProtocolState, SequenceAdjustment, Status, Synproxy, TcpState, Tuple,
};
use lockstep_replicator::wire::{
    Flags, Malformed, Messages, PayloadError, Unsendable, decode_expectation, decode_flow,
    encode_expectation, encode_flow, encode_flow_message,
};
use lockstep_replicator::{Change, LinkState, Origin};
use proptest::prelude::*;

/// A world whose node A has heard its peer.
fn world() -> World {
    let mut world = World::new(1, FAIR);
    world.run(Duration::from_millis(10));
    world.activate(A);
    world.activate(B);
    world
}

#[track_caller]
fn assert_counted(datagram: &[u8], names: &[(&str, u64)]) {
    let mut world = world();
    let before = world.nodes[A].statistics();
    world.nodes[A].handle_datagram(Origin::group(0, World::address(B)), datagram, world.now);
    world.run(Duration::from_millis(20));
    let after = world.nodes[A].statistics();
    let malformed: u64 = names.iter().map(|(_, count)| count).sum();
    assert_eq!(after["malformed-messages"] - before["malformed-messages"], malformed);
    for (name, count) in names {
        assert_eq!(after[name] - before[name], *count, "{name}");
    }
}

#[test]
fn broken_frames_are_counted_as_conntrackd_counts_them() {
    assert_counted(&[0x1a, 0x10, 0], &[("malformed-truncated", 1)]);
    assert_counted(&[0x1a, 0x10, 0, 0, 0, 0, 0, 1], &[("malformed-size", 1)]);
    assert_counted(&[0x1a, 0x10, 0, 7, 0, 0, 0, 1], &[("malformed-size", 1)]);
    assert_counted(&[0x1a, 0x10, 0, 9, 0, 0, 0, 1], &[("malformed-size", 1)]);
    assert_counted(&[0x1a, 0x08, 0, 8, 0, 0, 0, 1], &[("malformed-truncated", 1)]);
    assert_counted(
        &[0x1a, 0x08, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[("malformed-size", 1)],
    );
    let other_version_then_alive = [0x2a, 0x10, 0, 8, 0, 0, 0, 1, 0x1a, 0x30, 0, 8, 0, 0x3d, 9, 0];
    assert_counted(&other_version_then_alive, &[("malformed-version", 1)]);
    for first in [0x16, 0x19, 0x1b, 0x1f] {
        assert_counted(&[first, 0, 0, 8, 0, 0, 0, 1], &[("malformed-header", 1)]);
    }
    assert_counted(&[0x1a, 0x00, 0, 8, 0, 0, 0, 1], &[("malformed-header", 1)]);
    assert_counted(&[0x10, 0x80, 0, 8, 0, 0, 0, 1], &[("malformed-header", 1)]);
    let backwards = [0x1a, 0x08, 0, 16, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 8];
    assert_counted(&backwards, &[("malformed-header", 1)]);
    // An acceptable header around attributes that say nothing: conntrackd stores an empty entry
    // and crashes when it is shown.
    assert_counted(&[0x10, 0x20, 0, 8, 0, 0, 0, 1], &[("malformed-payload", 1)]);
}

#[test]
fn attributes_are_refused_for_a_reason() {
    assert_eq!(decode_flow(&[]), Err(PayloadError::NoAddresses));
    let addresses = [0, 12, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    assert_eq!(decode_flow(&addresses), Err(PayloadError::NoProtocol));
    let protocol = [&addresses[..], &[0, 5, 0, 2, 6, 0, 0, 0]].concat();
    assert!(decode_flow(&protocol).is_ok());
    let with = |more: &[u8]| decode_flow(&[&protocol[..], more].concat());
    assert_eq!(with(&[0, 8, 0, 33, 0, 0, 0, 0]), Err(PayloadError::Unknown(33)));
    assert_eq!(with(&[0, 3, 0, 6, 0, 0, 0, 0]), Err(PayloadError::Length(3)));
    assert_eq!(with(&[0, 9, 0, 6, 0, 0, 0, 0]), Err(PayloadError::Length(9)));
    assert_eq!(with(&[0, 6, 0, 6, 0, 0, 0, 0]), Err(PayloadError::Size { number: 6, size: 2 }));
    let six = [&[0, 20, 0, 29][..], &[0; 16]].concat();
    assert_eq!(with(&six), Err(PayloadError::MixedFamilies));
    assert!(with(&[0, 4, 0, 6]).is_ok(), "up to four bytes at the end are tolerated");
    let unterminated = [&[0, 16, 0, 27][..], b"abcdefghijkl"].concat();
    assert_eq!(with(&unterminated).unwrap().helper, HelperName::new(b"abcdefghijkl"));
    let too_long = [&[0, 20, 0, 27][..], b"abcdefghijklmno\0"].concat();
    assert_eq!(with(&too_long), Err(PayloadError::Size { number: 27, size: 16 }));
    assert_eq!(with(&[0, 7, 0, 28, 1, 2, 3, 0]).unwrap().labels, None);
}

#[test]
fn what_the_wire_cannot_carry_is_refused_with_the_reason() {
    let ports = L4::Ports { source: 1, destination: 2 };
    let mut gre = Flow::new(tuple(47, ports), tuple(47, ports).inverse());
    assert_eq!(encode_flow(&gre, &mut Vec::new()), Err(Unsendable::Ports(47)));
    gre.orig.l4 = L4::None;
    gre.zone = 3;
    gre.zone_direction = lockstep_ctnetlink::ZoneDirection::Orig;
    assert_eq!(encode_flow(&gre, &mut Vec::new()), Err(Unsendable::ZoneDirection));

    let mut world = world();
    let gre = Flow::new(tuple(47, ports), tuple(47, ports).inverse());
    world.event(A, Change::New, &gre, false);
    assert_eq!(world.nodes[A].counters().unsendable, 1);
}

#[test]
fn an_icmp_identifier_that_nat_has_changed_is_not_told_as_if_it_had_not() {
    let ping = L4::Icmp { kind: 8, code: 0, id: 0x1234 };
    let mut flow = Flow::new(tuple(1, ping), tuple(1, ping).inverse());
    assert_eq!(encode_flow(&flow, &mut Vec::new()), Ok(()));
    flow.reply.l4 = L4::Icmp { kind: 0, code: 0, id: 0x4321 };
    assert_eq!(encode_flow(&flow, &mut Vec::new()), Err(Unsendable::IcmpTranslation));

    let mut world = world();
    world.run_s(2);
    world.event(A, Change::New, &flow, false);
    world.run_s(1);
    assert_eq!(world.nodes[A].counters().unsendable, 1);
    assert_eq!(world.nodes[common::B].external_len(), 0);
}

#[test]
fn a_long_helper_name_does_not_cost_the_flow() {
    let mut flow = common::flow(1);
    flow.helper = HelperName::new(b"netbios-ns-long");
    let mut body = Vec::new();
    encode_flow(&flow, &mut body).unwrap();
    let received = decode_flow(&body).unwrap();
    assert_eq!((received.helper, received.orig), (None, flow.orig));
}

#[test]
fn a_message_larger_than_a_datagram_is_counted_and_does_not_block_others() {
    let mut world = world();
    let now = world.now;
    world.nodes[A].link_changed(0, LinkState::Up { max_datagram: 64 }, now);
    world.create(A, 1);
    assert_eq!(world.nodes[A].counters().too_large, 1);
    world.run_s(3);
    assert!(world.nodes[B].peer(world.now).unwrap().heard < Duration::from_secs(2));
}

#[test]
fn recorded_messages_with_any_byte_changed_do_no_harm() {
    let mut world = world();
    let mut random = 1_u32;
    let mut number = 0x00f0_0000_u32;
    for (_, datagrams) in captures() {
        for datagram in datagrams {
            let mut payload = datagram.payload;
            for index in 0..payload.len().min(400) {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                number = renumber(&mut payload, number);
                let before = payload[index];
                payload[index] ^= (random >> 24) as u8 | 1;
                world.nodes[A].handle_datagram(
                    Origin::group(0, World::address(B)),
                    &payload,
                    world.now,
                );
                payload[index] = before;
            }
            for end in 0..payload.len().min(200) {
                world.nodes[A].handle_datagram(
                    Origin::group(0, World::address(B)),
                    &payload[..end],
                    world.now,
                );
            }
            world.drain(A);
            world.run(Duration::from_millis(50));
        }
    }
    assert!(number > 0x00f0_4000);
    let statistics = world.nodes[A].statistics();
    assert!(statistics["malformed-payload"] > 100 && statistics["malformed-header"] > 100);
    assert!(statistics["transmit-queue-length"] <= 4096);
    assert!(statistics["resend-queue-length"] <= 131_072);
    // And afterwards it understands its peer again.
    world.create(A, 1);
    world.create(B, 2);
    world.run_s(30);
    world.create(B, 3);
    world.run_s(1);
    let known = common::set(world.nodes[A].external_flows());
    assert!(world.expected(B).is_subset(&known), "{known:?}");
}

/// Numbers the messages from `number` on, so that they are news; returns the next number.
fn renumber(payload: &mut [u8], mut number: u32) -> u32 {
    let mut offset = 0;
    while offset + 8 <= payload.len() {
        payload[offset + 4..offset + 8].copy_from_slice(&number.to_be_bytes());
        offset += usize::from(u16::from_be_bytes([payload[offset + 2], payload[offset + 3]]));
        number += 1;
    }
    number
}

#[test]
fn a_flood_of_requests_does_not_multiply_copies() {
    let mut world = world();
    for number in 0..5000 {
        world.kernels[A].insert(number);
    }
    world.dump(A);
    world.run_s(1);
    let before = world.nodes[A].counters().bytes_sent;
    for sequence in 4_000_000_u32..4_001_000 {
        let mut resync = vec![0x1a, 0x02, 0, 16];
        resync.extend_from_slice(&sequence.to_be_bytes());
        resync.extend_from_slice(&[0; 8]);
        world.nodes[A].handle_datagram(Origin::group(0, World::address(B)), &resync, world.now);
    }
    world.drain(A);
    world.run(Duration::from_millis(100));
    let sent = world.nodes[A].counters().bytes_sent - before;
    assert!(sent < 3 * 5000 * 90, "{sent} bytes for a thousand requests at once");
}

proptest! {
    #[test]
    fn any_bytes_are_survived(datagram in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut ended = false;
        for message in Messages::of(&datagram) {
            prop_assert!(!ended, "messages after the end of the datagram");
            match message {
                Ok(message) => {
                    drop(decode_flow(message.body));
                    drop(decode_expectation(message.body));
                }
                Err(error) => ended = matches!(error, Malformed::Truncated | Malformed::BadSize),
            }
        }
        let mut world = world();
        world.nodes[A].handle_datagram(Origin::group(0, World::address(B)), &datagram, world.now);
        world.run(Duration::from_millis(20));
    }

    #[test]
    fn attributes_in_any_order_and_number_are_survived(
        attributes in proptest::collection::vec(
            (0_u16..35, proptest::collection::vec(any::<u8>(), 0..40)), 0..12),
    ) {
        let mut body = Vec::new();
        for (number, payload) in attributes {
            body.extend_from_slice(&(payload.len() as u16 + 4).to_be_bytes());
            body.extend_from_slice(&number.to_be_bytes());
            body.extend_from_slice(&payload);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        if let Ok(flow) = decode_flow(&body) {
            let mut again = Vec::new();
            // Whatever was understood can be said.
            encode_flow(&flow, &mut again).unwrap();
            let mut expected = flow.clone();
            // Names of twelve characters are understood and not sent.
            expected.helper = flow.helper.filter(|name| name.as_str().len() < 12);
            prop_assert_eq!(decode_flow(&again).unwrap(), expected);
        }
        let mut again = Vec::new();
        if let Ok(expectation) = decode_expectation(&body)
            && encode_expectation(&expectation, &mut again).is_ok()
        {
            let mut same = Vec::new();
            encode_expectation(&decode_expectation(&again).unwrap(), &mut same).unwrap();
            prop_assert_eq!(same, again);
        }
    }

    #[test]
    fn a_flow_arrives_as_it_was_sent(flow in any_flow()) {
        let mut message = Vec::new();
        encode_flow_message(Change::New, Flags(0), 7, &flow, &mut message).unwrap();
        prop_assert_eq!(message.len() % 4, 0);
        let split = Messages::of(&message).next().unwrap().unwrap();
        prop_assert_eq!(split.sequence, 7);
        prop_assert_eq!(decode_flow(split.body).unwrap(), flow);
    }
}

fn tuple(protocol: u8, l4: L4) -> Tuple {
    Tuple {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
        protocol,
        l4,
    }
}

fn any_flow() -> impl Strategy<Value = Flow> {
    let ports = (any::<u16>(), any::<u16>())
        .prop_map(|(source, destination)| L4::Ports { source, destination });
    let transport = prop_oneof![
        (prop_oneof![Just(6_u8), Just(17), Just(132), Just(33)], ports),
        (Just(1_u8), any::<u16>().prop_map(|id| L4::Icmp { kind: 8, code: 0, id })),
        (Just(50_u8), Just(L4::None)),
    ];
    let optional = (
        any::<Option<u32>>(),
        any::<Option<u32>>(),
        any::<Option<[u32; 4]>>(),
        any::<Option<[u32; 6]>>(),
        any::<Option<[u32; 3]>>(),
        proptest::option::of("[a-z0-9-]{1,11}"),
        any::<u16>(),
        any::<bool>(),
    );
    (transport, any::<bool>(), any::<[u128; 4]>(), any::<[u16; 2]>(), any::<u32>(), optional)
        .prop_map(|((protocol, l4), six, addresses, new_ports, status, optional)| {
            let address = |bits: u128| {
                if six {
                    IpAddr::V6(Ipv6Addr::from_bits(bits))
                } else {
                    IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
                }
            };
            let [source, destination, to, from] = addresses.map(address);
            let orig = Tuple { source, destination, protocol, l4 };
            let mut reply = orig.inverse();
            (reply.destination, reply.source) = (to, from);
            if let L4::Ports { source, destination } = &mut reply.l4 {
                [*source, *destination] = new_ports;
            }
            let mut flow = Flow::new(orig, reply);
            let (timeout, mark, labels, adjustment, synproxy, helper, zone, scaled) = optional;
            flow.status = Status(status);
            flow.timeout_s = timeout;
            flow.mark = mark;
            flow.labels = labels;
            flow.zone = zone;
            flow.helper = helper.and_then(|name| HelperName::new(name.as_bytes()));
            flow.master = scaled.then_some(orig).filter(|_| matches!(l4, L4::Ports { .. }));
            flow.synproxy = synproxy.map(|[its, isn, tsoff]| Synproxy { its, isn, tsoff });
            flow.sequence_adjustment =
                adjustment.map(|[a, b, c, d, e, f]| {
                    let one = |correction_position, offset_before, offset_after| {
                        SequenceAdjustment { correction_position, offset_before, offset_after }
                    };
                    [one(a, b, c), one(d, e, f)]
                });
            flow.protocol_state = match protocol {
                6 => ProtocolState::Tcp(TcpState {
                    state: (status % 10) as u8,
                    window_scale: scaled.then_some([7, 9]),
                    flags: None,
                }),
                132 => ProtocolState::Sctp { state: 4, vtag_orig: status, vtag_reply: !status },
                33 => ProtocolState::Dccp { state: 4, role: 1, handshake_sequence: 0 },
                _ => ProtocolState::None,
            };
            flow
        })
}
