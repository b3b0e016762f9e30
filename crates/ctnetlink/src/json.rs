//! Flows as programs read them.

use std::net::IpAddr;

use serde::Serialize;

use crate::text::{event_name, protocol_name, state_name};
use crate::{Details, Flow, Kind, L4, ProtocolState, Status, Synproxy, Tuple, ZoneDirection};

/// A flow as JSON: what is not known is left out.
pub fn list_value(flow: &Flow, details: &Details) -> impl Serialize {
    Value::of(flow, details)
}

/// An event as JSON: the flow, with `event` and, when a process asked for it, `port-id`.
pub fn event_value(
    kind: &Kind<'_>,
    flow: &Flow,
    details: &Details,
    port_id: u32,
) -> impl Serialize {
    Happened::of(kind, Value::of(flow, details), port_id)
}

/// What has happened to an object, and the process that has asked for it.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Happened<T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'static str>,
    #[serde(flatten)]
    object: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    port_id: Option<u32>,
}

impl<T> Happened<T> {
    /// `port_id` is 0 when nobody has asked.
    pub(crate) fn of(kind: &Kind<'_>, object: T, port_id: u32) -> Self {
        Self { event: event_name(kind), object, port_id: (port_id != 0).then_some(port_id) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Value {
    family: &'static str,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    orig: Direction,
    reply: Direction,
    status: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mark: Option<u32>,
    #[serde(skip_serializing_if = "is_zero")]
    zone: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone_direction: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
    /// The numbers of the bits that are set.
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<usize>>,
    /// Of the original and the reply direction; so are the next two.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_scale: Option<[u8; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_tags: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence_adjustment: Option<[Adjustment; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    synproxy: Option<Offsets>,
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<Direction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#use: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Adjustment {
    correction_position: u32,
    offset_before: u32,
    offset_after: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Offsets {
    initial_sequence: u32,
    initial_timestamp: u32,
    timestamp_offset: u32,
}

/// A tuple as JSON.
#[derive(Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Direction {
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_code: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_id: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packets: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn is_zero(zone: &u16) -> bool {
    *zone == 0
}

impl Value {
    fn of(flow: &Flow, details: &Details) -> Self {
        let mut orig = Direction::of(&flow.orig);
        let mut reply = Direction::of(&flow.reply);
        if let Some(counters) = details.counters {
            for (direction, counters) in [&mut orig, &mut reply].into_iter().zip(counters) {
                direction.packets = Some(counters.packets);
                direction.bytes = Some(counters.bytes);
            }
        }
        Self {
            family: if flow.orig.source.is_ipv4() { "ipv4" } else { "ipv6" },
            protocol: flow.orig.protocol,
            protocol_name: protocol_name(flow.orig.protocol),
            timeout_seconds: flow.timeout_s,
            state: state_name(&flow.protocol_state),
            orig,
            reply,
            status: status_names(flow.status),
            mark: flow.mark,
            zone: flow.zone,
            zone_direction: match flow.zone_direction {
                ZoneDirection::Both => None,
                ZoneDirection::Orig => Some("orig"),
                ZoneDirection::Reply => Some("reply"),
            },
            helper: flow.helper.map(|helper| helper.as_str().to_owned()),
            labels: flow.labels.map(|words| {
                (0..128).filter(|bit| words[bit / 32] >> (bit % 32) & 1 == 1).collect()
            }),
            window_scale: match flow.protocol_state {
                ProtocolState::Tcp(tcp) => tcp.window_scale,
                ProtocolState::None | ProtocolState::Sctp { .. } | ProtocolState::Dccp { .. } => {
                    None
                }
            },
            verification_tags: match flow.protocol_state {
                ProtocolState::Sctp { vtag_orig, vtag_reply, .. } => Some([vtag_orig, vtag_reply]),
                ProtocolState::None | ProtocolState::Tcp(_) | ProtocolState::Dccp { .. } => None,
            },
            sequence_adjustment: flow.sequence_adjustment.map(|both| {
                both.map(|adjustment| Adjustment {
                    correction_position: adjustment.correction_position,
                    offset_before: adjustment.offset_before,
                    offset_after: adjustment.offset_after,
                })
            }),
            // The kernel tells zeros of every flow that was made over netlink.
            synproxy: flow.synproxy.filter(|offsets| *offsets != Synproxy::default()).map(
                |offsets| Offsets {
                    initial_sequence: offsets.isn,
                    initial_timestamp: offsets.its,
                    timestamp_offset: offsets.tsoff,
                },
            ),
            master: flow.master.as_ref().map(Direction::of),
            id: flow.id,
            r#use: details.use_count,
        }
    }
}

impl Direction {
    pub(crate) fn of(tuple: &Tuple) -> Self {
        let hosts = Self {
            source: Some(tuple.source),
            destination: Some(tuple.destination),
            ..Self::default()
        };
        match tuple.l4 {
            L4::None => hosts,
            L4::Ports { source, destination } => {
                Self { source_port: Some(source), destination_port: Some(destination), ..hosts }
            }
            L4::Icmp { kind, code, id } => {
                Self { icmp_type: Some(kind), icmp_code: Some(code), icmp_id: Some(id), ..hosts }
            }
        }
    }
}

fn status_names(status: Status) -> Vec<&'static str> {
    const NAMES: [(u32, &str); 14] = [
        (Status::EXPECTED, "expected"),
        (Status::SEEN_REPLY, "seen-reply"),
        (Status::ASSURED, "assured"),
        (Status::CONFIRMED, "confirmed"),
        (Status::SRC_NAT, "src-nat"),
        (Status::DST_NAT, "dst-nat"),
        (Status::SEQ_ADJUST, "seq-adjust"),
        (Status::SRC_NAT_DONE, "src-nat-done"),
        (Status::DST_NAT_DONE, "dst-nat-done"),
        (Status::DYING, "dying"),
        (Status::FIXED_TIMEOUT, "fixed-timeout"),
        (Status::HELPER, "helper"),
        (Status::OFFLOAD, "offload"),
        (Status::HW_OFFLOAD, "hw-offload"),
    ];
    NAMES.iter().filter(|(bit, _)| status.contains(*bit)).map(|(_, name)| *name).collect()
}
