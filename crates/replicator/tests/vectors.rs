//! Recorded conversations of two real conntrackd 1.4.7: every message decodes, and encodes to
//! the same bytes again.

#![allow(clippy::unwrap_used, reason = "test")]

mod capture;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Status};
use lockstep_replicator::wire::{
    Kind, Message, Messages, decode_expectation, decode_flow, encode_control,
    encode_expectation_message, encode_flow_message, encode_ranged,
};

use capture::{Datagram, captures, datagrams};

#[test]
fn every_recorded_message_decodes_and_encodes_to_the_same_bytes() {
    let mut flows = 0;
    let mut controls = 0;
    let mut expectations = 0;
    for (name, datagrams) in captures() {
        for Datagram { payload, .. } in &datagrams {
            let mut offset = 0;
            for message in Messages::of(payload) {
                let message = message.unwrap_or_else(|error| panic!("{name}: {error}"));
                let length =
                    usize::from(u16::from_be_bytes([payload[offset + 2], payload[offset + 3]]));
                let bytes = &payload[offset..offset + length];
                offset += length;
                match message.kind.unwrap() {
                    Kind::Flow(change) => {
                        let flow = decode_flow(message.body)
                            .unwrap_or_else(|error| panic!("{name}: {error}: {bytes:02x?}"));
                        let mut again = Vec::new();
                        encode_flow_message(
                            change,
                            message.flags,
                            message.sequence,
                            &flow,
                            &mut again,
                        )
                        .unwrap();
                        assert_eq!(again, comparable(bytes, &flow), "{name}: {flow:?}");
                        flows += 1;
                    }
                    Kind::Expectation(change) => {
                        let expectation = decode_expectation(message.body)
                            .unwrap_or_else(|error| panic!("{name}: {error}: {bytes:02x?}"));
                        let (flags, number) = (message.flags, message.sequence);
                        let mut again = Vec::new();
                        encode_expectation_message(change, flags, number, &expectation, &mut again)
                            .unwrap();
                        assert_eq!(again, bytes, "{name}: {expectation:?}");
                        expectations += 1;
                    }
                    Kind::Control => {
                        assert!(message.body.is_empty() && length == control_length(&message));
                        let mut again = Vec::new();
                        if length == 16 {
                            encode_ranged(
                                message.flags,
                                message.sequence,
                                message.range,
                                &mut again,
                            );
                        } else {
                            encode_control(message.flags, message.sequence, &mut again);
                        }
                        assert_eq!(again, bytes, "{name}");
                        controls += 1;
                    }
                }
            }
            assert_eq!(offset, payload.len(), "{name}: bytes left over");
        }
    }
    // As many as an independent reading of the captures counts.
    assert_eq!((flows, expectations, controls), (263, 3, 217));
}

fn control_length(message: &Message<'_>) -> usize {
    if message.flags.0 & 0x0e == 0 { 8 } else { 16 }
}

/// conntrackd adds "translated ports" to protocols that have none on this wire; they mean nothing,
/// are ignored, and are not sent by us.
fn comparable(bytes: &[u8], flow: &Flow) -> Vec<u8> {
    const SPAT: [u8; 4] = [0, 6, 0, 14];
    const DPAT: [u8; 4] = [0, 6, 0, 15];
    if matches!(flow.orig.l4, L4::Ports { .. }) {
        return bytes.to_vec();
    }
    let (header, mut attributes) = bytes.split_at(8);
    let mut kept = header.to_vec();
    while let Some(length) = attributes.first_chunk().map(|length| u16::from_be_bytes(*length)) {
        let (attribute, rest) = attributes.split_at(usize::from(length).next_multiple_of(4));
        attributes = rest;
        if !attribute.starts_with(&SPAT) && !attribute.starts_with(&DPAT) {
            kept.extend_from_slice(attribute);
        }
    }
    let length = (kept.len() as u16).to_be_bytes();
    kept[2..4].copy_from_slice(&length);
    kept
}

#[test]
fn an_ftp_expectation_through_translation_is_read_whole() {
    let found: Vec<_> = datagrams("08-ftfw-real-traffic-snat-dnat-ftp-expect")
        .iter()
        .flat_map(|datagram| {
            Messages::of(&datagram.payload)
                .map(Result::unwrap)
                .collect::<Vec<_>>()
                .into_iter()
                .filter(|m| matches!(m.kind, Some(Kind::Expectation(_))))
                .map(|m| decode_expectation(m.body).unwrap())
                .collect::<Vec<_>>()
        })
        .collect();
    let expected = &found[0];
    assert_eq!(expected.master.source, address("192.0.2.1"));
    assert_eq!(expected.master.l4, L4::Ports { source: 40021, destination: 21 });
    assert_eq!(expected.tuple.l4, L4::Ports { source: 0, destination: 33333 });
    assert_eq!(expected.mask.l4, L4::Ports { source: 0, destination: 0xffff });
    assert_eq!(expected.timeout_s, Some(300));
    assert_eq!(expected.helper.as_ref().unwrap().as_str(), "ftp");
    assert_eq!(expected.function.as_ref().unwrap().as_str(), "nat-follow-master");
    let translation = expected.translation.unwrap();
    assert_eq!(translation.direction, 1);
    assert_eq!(translation.tuple.l4, L4::Ports { source: 33333, destination: 0 });
}

#[test]
fn source_translation_with_a_port_rebuilds_the_reply_tuple() {
    let flow = flows("05-ftfw-ipv4-nat")
        .into_iter()
        .find(|flow| flow.orig.source == address("192.0.2.2"))
        .unwrap();
    assert_eq!(flow.orig.destination, address("198.51.100.1"));
    assert_eq!(flow.reply.source, address("198.51.100.1"));
    assert_eq!(flow.reply.destination, address("203.0.113.9"));
    assert_eq!(flow.reply.l4, L4::Ports { source: 80, destination: 40000 });
    assert_eq!(flow.status, Status(0x19e));
    assert_eq!(flow.timeout_s, Some(600));
    assert!(matches!(flow.protocol_state, ProtocolState::Tcp(tcp) if tcp.state == 3));
}

#[test]
fn icmp_identifiers_are_little_endian_and_their_ports_are_ignored() {
    let ping = flows("03-ftfw-ipv4-other-protocols")
        .into_iter()
        .find(|flow| flow.orig.protocol == 1)
        .unwrap();
    assert_eq!(ping.orig.l4, L4::Icmp { kind: 8, code: 0, id: 0x1234 });
    assert_eq!(ping.reply.l4, L4::Icmp { kind: 0, code: 0, id: 0x1234 });
    for ping in flows("33-ftfw-real-sctp-icmp-nat") {
        if let (L4::Icmp { id, .. }, L4::Icmp { id: answer, .. }) = (ping.orig.l4, ping.reply.l4) {
            assert_eq!(id, answer);
        }
    }
}

#[test]
fn zones_marks_labels_helpers_and_masters_are_carried() {
    let flows = flows("07-ftfw-mark-zone-label-helper-seqadj-synproxy");
    let has = |what: &dyn Fn(&Flow) -> bool| flows.iter().any(what);
    assert!(has(&|flow| flow.mark.is_some_and(|mark| mark != 0)));
    assert!(has(&|flow| flow.zone != 0));
    assert!(has(&|flow| flow.labels.is_some()));
    assert!(has(&|flow| flow.helper.is_some_and(|name| name.as_str() == "ftp")));
    assert!(has(&|flow| flow.sequence_adjustment.is_some()));
    assert!(has(&|flow| flow.synproxy.is_some_and(|synproxy| synproxy.isn != 0)));
    assert!(has(&|flow| flow.master.is_some()));
    let mut zones = BTreeMap::new();
    for flow in &flows {
        zones.entry(flow.orig).or_insert_with(Vec::new).push(flow.zone);
    }
    assert!(zones.values().any(|zones| zones.iter().any(|zone| *zone != zones[0])));
}

#[test]
fn window_scales_are_carried_when_the_peer_tells_them() {
    let told = flows("28-ftfw-tcp-window-tracking");
    let scale = |flow: &Flow| match flow.protocol_state {
        ProtocolState::Tcp(tcp) => tcp.window_scale,
        _ => None,
    };
    assert!(told.iter().any(|flow| scale(flow).is_some()));
    assert!(flows("02-ftfw-ipv4-tcp-states").iter().all(|flow| scale(flow).is_none()));
}

fn flows(name: &str) -> Vec<Flow> {
    let datagrams = datagrams(name);
    let messages = datagrams.iter().flat_map(|datagram| Messages::of(&datagram.payload));
    messages
        .map(Result::unwrap)
        .filter(|message| matches!(message.kind, Some(Kind::Flow(_))))
        .map(|message| decode_flow(message.body).unwrap())
        .collect()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
