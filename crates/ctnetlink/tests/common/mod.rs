//! What the tests of this crate share: recorded messages, and flows at random.

#![allow(dead_code, reason = "no test file uses all of it")]

use std::net::IpAddr;

use lockstep_ctnetlink::{
    Expectation, ExpectedTranslation, Flow, FunctionName, HelperName, L4, Message, Messages,
    ProtocolState, SequenceAdjustment, Status, Synproxy, TcpState, Tuple, ZoneDirection,
};
use proptest::array::{uniform2, uniform4};
use proptest::option;
use proptest::prelude::*;

/// Recorded messages, by the name of their file.
pub(crate) const RECORDED: [(&str, &str); 15] = [
    ("answer-refused-with-text", include_str!("../vectors/answer-refused-with-text.hex")),
    (
        "answer-refused-with-text-capped",
        include_str!("../vectors/answer-refused-with-text-capped.hex"),
    ),
    ("dump", include_str!("../vectors/dump.hex")),
    ("dump-done", include_str!("../vectors/dump-done.hex")),
    ("event-destroy-sctp", include_str!("../vectors/event-destroy-sctp.hex")),
    ("event-new-gre-orig-zone", include_str!("../vectors/event-new-gre-orig-zone.hex")),
    ("event-new-icmpv6", include_str!("../vectors/event-new-icmpv6.hex")),
    ("event-new-sctp", include_str!("../vectors/event-new-sctp.hex")),
    (
        "event-new-tcp-real-helper-labels",
        include_str!("../vectors/event-new-tcp-real-helper-labels.hex"),
    ),
    ("event-new-tcp-snat", include_str!("../vectors/event-new-tcp-snat.hex")),
    ("event-new-udp6-zone", include_str!("../vectors/event-new-udp6-zone.hex")),
    ("event-update-mark", include_str!("../vectors/event-update-mark.hex")),
    (
        "event-update-tcp-real-established",
        include_str!("../vectors/event-update-tcp-real-established.hex"),
    ),
    ("expectation-destroy-ipv6", include_str!("../vectors/expectation-destroy-ipv6.hex")),
    ("expectation-new-ftp-nat", include_str!("../vectors/expectation-new-ftp-nat.hex")),
];

/// The bytes of a recorded message.
pub(crate) fn recorded(name: &str) -> Vec<u8> {
    let (_, text) = RECORDED.iter().find(|(known, _)| *known == name).expect("a known name");
    let digits: Vec<u8> =
        text.chars().filter_map(|char| char.to_digit(16)).map(|digit| digit as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// The only message in `bytes`.
pub(crate) fn only(bytes: &[u8]) -> Message<'_> {
    let mut messages = Messages::new(bytes);
    let message = messages.next().expect("a message").expect("a whole message");
    assert!(messages.next().is_none());
    message
}

/// Ports of one TCP or UDP direction.
pub(crate) fn ports(protocol: u8, from: &str, to: &str, source: u16, destination: u16) -> Tuple {
    Tuple {
        source: from.parse().expect("an address"),
        destination: to.parse().expect("an address"),
        protocol,
        l4: L4::Ports { source, destination },
    }
}

/// Flows as the kernel could describe them, of all protocols and translations.
pub(crate) fn any_flow() -> impl Strategy<Value = Flow> {
    let rest = (
        any::<u32>().prop_map(Status),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        option::of("[!-~]{1,15}").prop_map(|name| HelperName::new(name?.as_bytes())),
        option::of(uniform4(any::<u32>())),
        option::of(uniform2(any::<[u32; 3]>())),
        option::of(any::<[u32; 3]>()),
        (any::<u16>(), 0..3_u8),
    );
    any_pair().prop_flat_map(move |(orig, reply)| {
        let state = any_state(orig.protocol);
        (Just(orig), Just(reply), state, rest.clone(), option::of(any_tuple(orig.source.is_ipv6())))
            .prop_map(|(orig, reply, protocol_state, rest, master)| {
                let (status, timeout_s, mark, helper, labels, adjustments, synproxy, zone) = rest;
                let adjust = |[correction_position, offset_before, offset_after]: [u32; 3]| {
                    SequenceAdjustment { correction_position, offset_before, offset_after }
                };
                let zone_direction = match zone {
                    (0, _) | (_, 0) => ZoneDirection::Both,
                    (_, 1) => ZoneDirection::Orig,
                    _ => ZoneDirection::Reply,
                };
                Flow {
                    zone: zone.0,
                    zone_direction,
                    status,
                    timeout_s,
                    mark,
                    protocol_state,
                    master,
                    helper,
                    labels,
                    sequence_adjustment: adjustments.map(|both| both.map(adjust)),
                    synproxy: synproxy.map(|[its, isn, tsoff]| Synproxy { its, isn, tsoff }),
                    ..Flow::new(orig, reply)
                }
            })
    })
}

fn any_pair() -> impl Strategy<Value = (Tuple, Tuple)> {
    let translation = (any::<bool>(), any::<bool>(), any::<u16>());
    (any::<bool>().prop_flat_map(|v6| (any_tuple(v6), any_tuple(v6))), translation).prop_map(
        |((orig, other), (source, destination, port))| {
            let mut reply = orig.inverse();
            if source {
                reply.destination = other.destination;
            }
            if destination {
                reply.source = other.source;
            }
            match &mut reply.l4 {
                L4::Ports { destination, .. } if source => *destination = port,
                L4::Icmp { id, .. } if source => *id = port,
                L4::None | L4::Ports { .. } | L4::Icmp { .. } => {}
            }
            (orig, reply)
        },
    )
}

pub(crate) fn any_tuple(v6: bool) -> impl Strategy<Value = Tuple> {
    let address = move || {
        any::<([u8; 4], [u8; 16])>().prop_map(move |(four, sixteen)| {
            if v6 { IpAddr::from(sixteen) } else { IpAddr::from(four) }
        })
    };
    let icmp = if v6 { 58 } else { 1 };
    let l4 = prop_oneof![
        (
            prop_oneof![Just(6), Just(17), Just(33), Just(47), Just(132), Just(136)],
            any::<[u16; 2]>()
        )
            .prop_map(|(protocol, [source, destination])| {
                (protocol, L4::Ports { source, destination })
            }),
        any::<(u8, u8, u16)>()
            .prop_map(move |(kind, code, id)| (icmp, L4::Icmp { kind, code, id })),
        Just((89, L4::None)),
    ];
    (address(), address(), l4).prop_map(|(source, destination, (protocol, l4))| Tuple {
        source,
        destination,
        protocol,
        l4,
    })
}

fn any_state(protocol: u8) -> BoxedStrategy<ProtocolState> {
    match protocol {
        6 => (0..10_u8, option::of(any::<[u8; 2]>()), option::of(any::<[u8; 2]>()))
            .prop_map(|(state, window_scale, flags)| {
                ProtocolState::Tcp(TcpState { state, window_scale, flags })
            })
            .boxed(),
        33 => any::<(u8, u8, u64)>()
            .prop_map(|(state, role, handshake_sequence)| ProtocolState::Dccp {
                state,
                role,
                handshake_sequence,
            })
            .boxed(),
        132 => any::<(u8, u32, u32)>()
            .prop_map(|(state, vtag_orig, vtag_reply)| ProtocolState::Sctp {
                state,
                vtag_orig,
                vtag_reply,
            })
            .boxed(),
        _ => Just(ProtocolState::None).boxed(),
    }
}

/// Expectations as a kernel could describe them; the master is of the same family.
pub(crate) fn any_expectation() -> impl Strategy<Value = Expectation> {
    let tuples = any::<bool>().prop_flat_map(|v6| {
        let translation = option::of((any_tuple(v6), 0..2_u32));
        (any_tuple(v6), any_tuple(v6), any_tuple(v6), translation)
    });
    let rest = (
        (
            any::<u16>(),
            option::of(any::<u32>()),
            any::<u32>(),
            any::<u32>(),
            option::of(any::<u32>()),
        ),
        option::of("[!-~]{1,15}").prop_map(|name| HelperName::new(name?.as_bytes())),
        option::of("[!-~]{1,27}").prop_map(|name| FunctionName::new(name?.as_bytes())),
    );
    (tuples, rest).prop_map(|((master, tuple, mask, translation), (numbers, helper, function))| {
        let (zone, timeout_s, flags, class, id) = numbers;
        Expectation {
            zone,
            timeout_s,
            flags,
            class,
            translation: translation
                .map(|(tuple, direction)| ExpectedTranslation { tuple, direction }),
            helper,
            function,
            id,
            ..Expectation::new(master, tuple, mask)
        }
    })
}
