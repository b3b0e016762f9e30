//! What recorded messages of a real kernel mean.

mod common;

use common::{only, ports, recorded};
use lockstep_ctnetlink::{
    Answer, Counters, Flow, HelperName, Kind, L4, Messages, ProtocolState, Status, TcpState, Tuple,
    ZoneDirection,
};

#[test]
fn a_new_flow_with_source_nat() {
    let bytes = recorded("event-new-tcp-snat");
    let message = only(&bytes);
    assert_eq!(message.kind(), Ok(Kind::New));
    assert_ne!(message.header().port_id, 0);
    let flow = message.flow().unwrap();
    assert_eq!(flow.orig, ports(6, "10.1.0.1", "10.2.0.1", 1000, 80));
    assert_eq!(flow.reply, ports(6, "10.2.0.1", "192.0.2.1", 80, 4444));
    assert!(flow.source_translated() && !flow.destination_translated());
    let nat = Status::SRC_NAT | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let seen = Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED;
    assert_eq!(flow.status, Status(nat | seen));
    assert_eq!((flow.timeout_s, flow.mark), (Some(1000), Some(7)));
    let ProtocolState::Tcp(tcp) = flow.protocol_state else { panic!("{flow:?}") };
    assert_eq!((tcp.state, tcp.window_scale), (3, Some([0, 0])));
    assert!(flow.id.is_some());
}

#[test]
fn a_flow_of_ipv6_in_a_zone() {
    let bytes = recorded("event-new-udp6-zone");
    let flow = only(&bytes).flow().unwrap();
    assert_eq!(flow.orig, ports(17, "fd00::1", "fd00::2", 1000, 53));
    assert_eq!(flow.reply, flow.orig.inverse());
    assert_eq!((flow.zone, flow.zone_direction), (5, ZoneDirection::Both));
    assert_eq!(flow.protocol_state, ProtocolState::None);
}

#[test]
fn a_zone_of_the_original_direction() {
    let bytes = recorded("event-new-gre-orig-zone");
    let flow = only(&bytes).flow().unwrap();
    assert_eq!(flow.orig, ports(47, "10.1.0.1", "10.2.0.1", 1, 2));
    assert_eq!((flow.zone, flow.zone_direction), (7, ZoneDirection::Orig));
}

#[test]
fn sctp_with_its_tags_comes_and_goes() {
    // The tool that made the flow was given 17 and 34, and handed them over in its own byte order.
    // Of a flow that ends the kernel tells the state alone.
    let told = ProtocolState::Sctp { state: 4, vtag_orig: 17 << 24, vtag_reply: 34 << 24 };
    let ended = ProtocolState::Sctp { state: 4, vtag_orig: 0, vtag_reply: 0 };
    for (name, kind, state) in
        [("event-new-sctp", Kind::New, told), ("event-destroy-sctp", Kind::Destroy, ended)]
    {
        let bytes = recorded(name);
        let message = only(&bytes);
        assert_eq!(message.kind(), Ok(kind));
        let flow = message.flow().unwrap();
        assert_eq!(flow.orig, ports(132, "10.1.0.1", "10.2.0.1", 1000, 80));
        assert_eq!(flow.protocol_state, state);
    }
}

#[test]
fn a_query_of_icmpv6() {
    let bytes = recorded("event-new-icmpv6");
    let flow = only(&bytes).flow().unwrap();
    assert_eq!(flow.orig.protocol, 58);
    assert_eq!(flow.orig.l4, L4::Icmp { kind: 128, code: 0, id: 77 });
    assert_eq!(flow.reply.l4, L4::Icmp { kind: 129, code: 0, id: 77 });
}

#[test]
fn a_changed_mark() {
    let bytes = recorded("event-update-mark");
    let message = only(&bytes);
    assert_eq!(message.kind(), Ok(Kind::Update));
    assert_eq!(message.flow().unwrap().mark, Some(99));
}

#[test]
fn helper_labels_and_mark_of_real_traffic() {
    let bytes = recorded("event-new-tcp-real-helper-labels");
    let message = only(&bytes);
    assert_eq!((message.kind(), message.header().port_id), (Ok(Kind::New), 0));
    let flow = message.flow().unwrap();
    assert_eq!(flow.helper, HelperName::new(b"ftp"));
    assert_eq!(flow.labels, Some([0, 0, 2, 0]));
    assert_eq!(flow.mark, Some(5));
    assert!(!flow.status.contains(Status::SEEN_REPLY));
    assert!(flow.status.contains(Status::CONFIRMED | Status::HELPER));
}

#[test]
fn window_scale_and_flags_of_real_traffic() {
    let bytes = recorded("event-update-tcp-real-established");
    let flow = only(&bytes).flow().unwrap();
    let ProtocolState::Tcp(tcp) = flow.protocol_state else { panic!("{flow:?}") };
    assert_eq!(tcp.state, 3);
    let carried = TcpState::WINDOW_SCALE | TcpState::SACK_PERMITTED;
    assert_eq!(tcp.flags.unwrap().map(|flags| flags & carried), [carried; 2]);
    assert!(tcp.window_scale.unwrap().iter().all(|scale| *scale > 0));
}

#[test]
fn a_dump_tells_entries_with_use_count_and_then_its_end() {
    let bytes = recorded("dump");
    let messages: Vec<_> = Messages::new(&bytes).map(Result::unwrap).collect();
    assert!(messages.len() > 2);
    let mut counted = 0;
    for message in &messages {
        assert_eq!(message.kind(), Ok(Kind::Entry));
        assert!(!message.interrupted());
        assert!(message.flow().unwrap().orig.source.is_ipv4());
        let details = message.details().unwrap();
        assert!(details.use_count.is_some());
        if details.counters.is_some_and(|both| both[0] != Counters::default()) {
            counted += 1;
        }
    }
    assert!(counted > 0);
    assert_eq!(only(&recorded("dump-done")).kind(), Ok(Kind::Done(0)));
}

#[test]
fn the_kernels_words_are_found_behind_whole_and_capped_requests() {
    const ERANGE: i32 = 34;
    for name in ["answer-refused-with-text", "answer-refused-with-text-capped"] {
        let bytes = recorded(name);
        let text = Some("Attribute failed policy validation");
        assert_eq!(only(&bytes).kind(), Ok(Kind::Answer(Answer { errno: ERANGE, text })));
    }
}

#[test]
fn the_inverse_of_the_inverse_is_the_tuple() {
    let echo = |protocol, kind| {
        Flow::new(
            Tuple {
                l4: L4::Icmp { kind, code: 0, id: 1 },
                ..ports(protocol, "10.0.0.1", "10.0.0.2", 0, 0)
            },
            ports(protocol, "10.0.0.2", "10.0.0.1", 0, 0),
        )
        .orig
    };
    for protocol in [1, 58] {
        for kind in 0..=255 {
            let tuple = echo(protocol, kind);
            assert_eq!(tuple.inverse().inverse(), tuple);
        }
    }
    let answer = echo(1, 8).inverse();
    assert_eq!(answer.l4, L4::Icmp { kind: 0, code: 0, id: 1 });
}
