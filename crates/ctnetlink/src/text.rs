//! Flows as people read them: the lines of `conntrack(8)`.

use std::fmt::{self, Display, Write};

use crate::{Details, Flow, Kind, L4, ProtocolState, Status, TcpState, Tuple, ZoneDirection};

/// The line that `conntrack -L` shows of a flow.
pub fn list_line(flow: &Flow, details: &Details) -> String {
    let mut line = body(flow, details);
    if let Some(use_count) = details.use_count {
        put(&mut line, "use", use_count);
    }
    line.truncate(line.trim_end().len());
    line
}

/// The line that `conntrack -E -o id` shows of an event. `port_id` is the message's: not 0 when a
/// process asked for what happened.
pub fn event_line(kind: &Kind<'_>, flow: &Flow, details: &Details, port_id: u32) -> String {
    let name = event_name(kind).map_or(String::new(), |name| format!("[{}]", name.to_uppercase()));
    let mut line = format!("{name:>9} {}", body(flow, details));
    if let Some(id) = flow.id {
        put(&mut line, "id", id);
    }
    if port_id != 0 {
        line.push_str("[USERSPACE] ");
        put(&mut line, "portid", port_id);
    }
    line.truncate(line.trim_end().len());
    line
}

/// What is the same in both lines, with a space after each field.
fn body(flow: &Flow, details: &Details) -> String {
    let number = flow.orig.protocol;
    let mut line = format!("{:<8} {number} ", protocol_name(number).unwrap_or("unknown"));
    if let Some(timeout_s) = flow.timeout_s {
        append(&mut line, format_args!("{timeout_s} "));
    }
    if let Some(state) = state_name(&flow.protocol_state) {
        append(&mut line, format_args!("{state} "));
    }
    let [orig_counters, reply_counters] = details.counters.map_or([None; 2], |both| both.map(Some));
    put_tuple(&mut line, &flow.orig);
    if flow.zone_direction == ZoneDirection::Orig {
        put(&mut line, "zone-orig", flow.zone);
    }
    if let Some(counters) = orig_counters {
        put(&mut line, "packets", counters.packets);
        put(&mut line, "bytes", counters.bytes);
    }
    if !flow.status.contains(Status::SEEN_REPLY) {
        line.push_str("[UNREPLIED] ");
    }
    put_tuple(&mut line, &flow.reply);
    if flow.zone_direction == ZoneDirection::Reply {
        put(&mut line, "zone-reply", flow.zone);
    }
    if let Some(counters) = reply_counters {
        put(&mut line, "packets", counters.packets);
        put(&mut line, "bytes", counters.bytes);
    }
    if flow.status.contains(Status::HW_OFFLOAD) {
        line.push_str("[HW_OFFLOAD] ");
    } else if flow.status.contains(Status::OFFLOAD) {
        line.push_str("[OFFLOAD] ");
    } else if flow.status.contains(Status::ASSURED) {
        line.push_str("[ASSURED] ");
    }
    if let Some(mark) = flow.mark {
        put(&mut line, "mark", mark);
    }
    if flow.zone_direction == ZoneDirection::Both && flow.zone != 0 {
        put(&mut line, "zone", flow.zone);
    }
    if let Some(helper) = &flow.helper {
        put(&mut line, "helper", helper.as_str());
    }
    line
}

fn put_tuple(line: &mut String, tuple: &Tuple) {
    put(line, "src", tuple.source);
    put(line, "dst", tuple.destination);
    put_l4(line, tuple);
}

/// The ports, keys or query of a tuple.
pub(crate) fn put_l4(line: &mut String, tuple: &Tuple) {
    const GRE: u8 = 47;
    match tuple.l4 {
        L4::None => {}
        L4::Ports { source, destination } if tuple.protocol == GRE => {
            put(line, "srckey", format_args!("{source:#x}"));
            put(line, "dstkey", format_args!("{destination:#x}"));
        }
        L4::Ports { source, destination } => {
            put(line, "sport", source);
            put(line, "dport", destination);
        }
        L4::Icmp { kind, code, id } => {
            put(line, "type", kind);
            put(line, "code", code);
            put(line, "id", id);
        }
    }
}

pub(crate) fn put(line: &mut String, name: &str, value: impl Display) {
    append(line, format_args!("{name}={value} "));
}

pub(crate) fn append(line: &mut String, text: fmt::Arguments<'_>) {
    line.write_fmt(text).expect("writing into memory cannot fail");
}

/// `new`, `update` or `destroy`, when that is what it is.
pub(crate) fn event_name(kind: &Kind<'_>) -> Option<&'static str> {
    match kind {
        Kind::New | Kind::ExpectationNew => Some("new"),
        Kind::Update | Kind::ExpectationUpdate => Some("update"),
        Kind::Destroy | Kind::ExpectationDestroy => Some("destroy"),
        Kind::Entry
        | Kind::ExpectationEntry
        | Kind::Answer(_)
        | Kind::Done(_)
        | Kind::Overrun
        | Kind::Noop
        | Kind::Unknown => None,
    }
}

/// The name of an IP protocol that the kernel has a tracker of its own for.
pub fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// The name of a protocol's state, or `None` when there is no state or no name for it.
pub fn state_name(state: &ProtocolState) -> Option<&'static str> {
    let (names, state): (&[&str], u8) = match state {
        ProtocolState::None => return None,
        ProtocolState::Tcp(tcp) => (&TcpState::NAMES, tcp.state),
        ProtocolState::Sctp { state, .. } => (&SCTP_STATES, *state),
        ProtocolState::Dccp { state, .. } => (&DCCP_STATES, *state),
    };
    names.get(usize::from(state)).copied()
}

const SCTP_STATES: [&str; 9] = [
    "NONE",
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTABLISHED",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECD",
    "SHUTDOWN_ACK_SENT",
    "HEARTBEAT_SENT",
];

const DCCP_STATES: [&str; 8] =
    ["NONE", "REQUEST", "RESPOND", "PARTOPEN", "OPEN", "CLOSEREQ", "CLOSING", "TIMEWAIT"];
