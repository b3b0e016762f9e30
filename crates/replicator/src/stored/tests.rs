//! What a cache keeps of a flow, and what an update changes of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockstep_ctnetlink::{L4, ZoneDirection};
use proptest::prelude::*;

use super::*;

fn flow() -> Flow {
    let orig = Tuple {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 6,
        l4: L4::Ports { source: 2000, destination: 80 },
    };
    Flow::new(orig, orig.inverse())
}

#[test]
fn a_flow_takes_eighty_bytes_in_place() {
    assert_eq!(size_of::<Stored>(), 80);
}

#[test]
fn clearing_labels_is_kept_to_be_told() {
    let mut labelled = flow();
    labelled.labels = Some([1, 0, 0, 0]);
    let mut stored = Stored::from(&labelled);
    let mut cleared = flow();
    cleared.labels = Some([0; 4]);
    assert!(stored.merge(&cleared), "the peer has to be told");
    assert_eq!(stored.flow().labels, Some([0; 4]));
    assert!(!stored.merge(&cleared), "once");
}

#[test]
fn a_mark_of_zero_clears_a_mark() {
    let mut marked = flow();
    marked.mark = Some(7);
    let mut stored = Stored::from(&marked);
    let mut cleared = flow();
    cleared.mark = Some(0);
    assert!(stored.merge(&cleared));
    assert_eq!(stored.flow().mark, Some(0));
}

#[test]
fn an_update_keeps_what_it_does_not_mention() {
    let mut first = flow();
    first.mark = Some(7);
    first.timeout_s = Some(600);
    first.helper = HelperName::new(b"ftp");
    let mut stored = Stored::from(&first);
    let mut second = flow();
    second.timeout_s = Some(30);
    assert!(!stored.merge(&second), "a timeout alone is not told");
    let merged = stored.flow();
    assert_eq!((merged.mark, merged.timeout_s), (Some(7), Some(30)));
    assert_eq!(merged.helper, HelperName::new(b"ftp"));
}

#[test]
fn empty_additions_cost_nothing() {
    let mut plain = flow();
    plain.synproxy = Some(Synproxy::default());
    plain.labels = Some([0; 4]);
    plain.sequence_adjustment = Some([SequenceAdjustment::default(); 2]);
    assert!(Stored::from(&plain).rare.is_none());
}

#[test]
fn translation_of_ipv4_costs_nothing() {
    let mut translated = flow();
    translated.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    translated.reply.l4 = L4::Ports { source: 8080, destination: 40_000 };
    let stored = Stored::from(&translated);
    assert!(stored.rare.is_none());
    assert_eq!(stored.reply(), translated.reply);
}

#[test]
fn a_translation_that_ends_leaves_nothing_behind() {
    let six = |last| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    let l4 = L4::Ports { source: 1, destination: 2 };
    let orig = Tuple { source: six(1), destination: six(2), protocol: 6, l4 };
    let plain = Flow::new(orig, orig.inverse());
    let mut translated = plain.clone();
    translated.reply.destination = six(3);
    let mut stored = Stored::from(&translated);
    assert_eq!(stored.flow(), translated);
    assert!(stored.merge(&plain));
    assert_eq!(stored.flow(), plain);
    assert!(stored.rare.is_none());
}

/// What merging means, on flows as they are written out.
fn merged(known: &Flow, newer: &Flow) -> Flow {
    let mut merged = newer.clone();
    merged.timeout_s = newer.timeout_s.or(known.timeout_s);
    merged.mark = newer.mark.or(known.mark);
    merged.id = newer.id.or(known.id);
    merged.protocol_state = merge_state(known.protocol_state, newer.protocol_state);
    merged.master = newer.master.or(known.master);
    merged.helper = newer.helper.or(known.helper);
    merged.labels = newer.labels.or(known.labels);
    merged.sequence_adjustment = newer.sequence_adjustment.or(known.sequence_adjustment);
    merged.synproxy = newer.synproxy.or(known.synproxy);
    if merged.labels == Some([0; 4]) && known.labels.is_none() {
        merged.labels = None;
    }
    without_nothing(merged)
}

/// All-zero additions are the same as none.
fn without_nothing(mut flow: Flow) -> Flow {
    flow.sequence_adjustment =
        flow.sequence_adjustment.filter(|both| *both != [SequenceAdjustment::default(); 2]);
    flow.synproxy = flow.synproxy.filter(|synproxy| *synproxy != Synproxy::default());
    flow
}

/// What a peer is told of a flow.
fn told(flow: &Flow) -> Flow {
    let mut told = flow.clone();
    told.timeout_s = None;
    told.id = None;
    told.mark = Some(told.mark.unwrap_or(0));
    told
}

fn address(six: bool) -> impl Strategy<Value = IpAddr> {
    (0..4u16).prop_map(move |host| {
        if six {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, host))
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, host as u8))
        }
    })
}

fn l4() -> impl Strategy<Value = L4> {
    prop_oneof![
        Just(L4::None),
        (any::<u16>(), any::<u16>())
            .prop_map(|(source, destination)| L4::Ports { source, destination }),
        (any::<u8>(), any::<u8>(), any::<u16>()).prop_map(|(kind, code, id)| L4::Icmp {
            kind,
            code,
            id
        }),
    ]
}

fn tuple(six: bool) -> impl Strategy<Value = Tuple> {
    (address(six), address(six), 0..4u8, l4())
        .prop_map(|(source, destination, protocol, l4)| Tuple { source, destination, protocol, l4 })
}

fn state() -> impl Strategy<Value = ProtocolState> {
    let pair = || proptest::option::of(any::<[u8; 2]>());
    prop_oneof![
        Just(ProtocolState::None),
        (any::<u8>(), pair(), pair()).prop_map(|(state, window_scale, flags)| {
            ProtocolState::Tcp(TcpState { state, window_scale, flags })
        }),
        (any::<u8>(), any::<u32>(), any::<u32>()).prop_map(|(state, vtag_orig, vtag_reply)| {
            ProtocolState::Sctp { state, vtag_orig, vtag_reply }
        }),
        (any::<u8>(), any::<u8>(), any::<u64>()).prop_map(|(state, role, handshake_sequence)| {
            ProtocolState::Dccp { state, role, handshake_sequence }
        }),
    ]
}

fn small() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(0..3u32)
}

prop_compose! {
    /// What is said of a flow with these two tuples.
    fn said(orig: Tuple, six: bool)(
        reply in prop_oneof![Just(orig.inverse()), tuple(six)],
        status in 0..4u32,
        (timeout_s, mark, id) in (small(), small(), small()),
        protocol_state in state(),
        master in proptest::option::of(tuple(six)),
        helper in prop_oneof![Just(None), Just(HelperName::new(b"ftp")), Just(HelperName::new(b"sip"))],
        labels in small(),
        (adjustment, synproxy) in (small(), small()),
    ) -> Flow {
        let mut flow = Flow::new(orig, reply);
        flow.status = Status(status);
        (flow.timeout_s, flow.mark, flow.id) = (timeout_s, mark, id);
        flow.protocol_state = protocol_state;
        (flow.master, flow.helper) = (master, helper);
        flow.labels = labels.map(|first| [first, 0, 0, 0]);
        flow.sequence_adjustment = adjustment.map(|offset| {
            [SequenceAdjustment { offset_after: offset, ..SequenceAdjustment::default() }; 2]
        });
        flow.synproxy = synproxy.map(|its| Synproxy { its, ..Synproxy::default() });
        flow
    }
}

fn history() -> impl Strategy<Value = Vec<Flow>> {
    any::<bool>().prop_flat_map(|six| {
        tuple(six).prop_flat_map(move |orig| proptest::collection::vec(said(orig, six), 1..6))
    })
}

proptest! {
    #[test]
    fn packing_and_merging_mean_what_they_mean_on_whole_flows(history in history()) {
        let mut model = without_nothing(history[0].clone());
        model.labels = model.labels.filter(|labels| *labels != [0; 4]);
        let mut stored = Stored::from(&history[0]);
        prop_assert_eq!(stored.flow(), model.clone());
        for newer in &history[1..] {
            let next = merged(&model, newer);
            let changed = stored.merge(newer);
            prop_assert_eq!(stored.flow(), next.clone());
            prop_assert_eq!(changed, told(&next) != told(&model));
            model = next;
        }
    }

    #[test]
    fn a_key_is_its_flow_s_and_no_other_s(
        (left, right) in (any::<bool>(), any::<bool>())
            .prop_flat_map(|(a, b)| (tuple(a), tuple(b))),
        zones in (0..2u16, 0..2u16),
    ) {
        let [mut one, mut other] = [left, right].map(|orig| Flow::new(orig, orig.inverse()));
        (one.zone, other.zone) = zones;
        other.zone_direction = if zones.0 == 0 { ZoneDirection::Both } else { ZoneDirection::Orig };
        let stored = Stored::from(&one);
        prop_assert!(stored.is(&Key::of(&one)));
        prop_assert_eq!(stored.key(), Key::of(&one));
        let same = (one.orig, one.zone, one.zone_direction)
            == (other.orig, other.zone, other.zone_direction);
        prop_assert_eq!(stored.is(&Key::of(&other)), same);
    }
}
