//! From flows to requests.
//!
//! What the kernel does with a created flow decides how it is said:
//! - NAT cannot be stated by status bits, they are the kernel's own. It is asked for by
//!   `CTA_NAT_SRC` and `CTA_NAT_DST` on the untranslated tuples, and the kernel derives the reply
//!   tuple and the bits. A range of exactly one address and one port or identifier leaves it no
//!   choice, so the reply tuple is the old one's; and both directions are always given together,
//!   because for one left out the kernel picks a free port by itself.
//! - The windows of a TCP flow are not told over netlink, so a flow made here is marked liberal in
//!   both directions; what the flags say about sequence numbers seen is left out.
//! - An existing flow keeps its NAT, its master and its helper; naming one is `EOPNOTSUPP`.

use std::net::IpAddr;

use zerocopy::IntoBytes;

use crate::attribute::{Writer, kind};
use crate::message::{CT_DELETE, CT_GET, CT_NEW, Netfilter, flags};
use crate::{Flow, Header, L4, ProtocolState, Status, TcpState, Tuple, ZoneDirection};

/// Seconds given to a created flow of which no timeout is known; the kernel takes none without.
pub const DEFAULT_TIMEOUT_S: u32 = 60;

const AF_UNSPEC: u8 = 0;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Which flows a dump tells.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Family {
    /// Both families.
    #[default]
    Any,
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What tells a flow from all others in one kernel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The original tuple.
    pub orig: Tuple,
    /// As in [`Flow::zone`].
    pub zone: u16,
    /// As in [`Flow::zone_direction`].
    pub zone_direction: ZoneDirection,
}

impl Flow {
    /// What tells the flow from all others in one kernel.
    pub fn key(&self) -> Key {
        Key { orig: self.orig, zone: self.zone, zone_direction: self.zone_direction }
    }
}

/// Appends a request for all flows of a family; the answer is a dump.
pub fn dump(buffer: &mut Vec<u8>, family: Family, sequence: u32) {
    message(buffer, CT_GET, flags::DUMP, address_family(family), sequence, |_| {});
}

/// Appends a request for one flow; the answer is of [`Kind::Entry`](crate::Kind::Entry), or
/// `ENOENT`.
pub fn get(buffer: &mut Vec<u8>, key: &Key, sequence: u32) {
    message(buffer, CT_GET, 0, family_of(&key.orig), sequence, |writer| write_key(writer, key));
}

/// Appends the removal of one flow; with `id`, only if the kernel's identifier is that one.
pub fn delete(buffer: &mut Vec<u8>, key: &Key, id: Option<u32>, sequence: u32) {
    message(buffer, CT_DELETE, 0, family_of(&key.orig), sequence, |writer| {
        write_key(writer, key);
        if let Some(id) = id {
            writer.be32(kind::ID, id);
        }
    });
}

/// Appends the making of a flow; `EEXIST` when either of its tuples is taken.
///
/// A flow with a master can only be made after it (`ENOENT`), one with a helper only where the
/// kernel has that helper (`EOPNOTSUPP`).
pub fn create(buffer: &mut Vec<u8>, flow: &Flow, sequence: u32) {
    const FLAGS: u16 = flags::CREATE | flags::EXCLUSIVE;
    message(buffer, CT_NEW, FLAGS, family_of(&flow.orig), sequence, |writer| {
        let source_translated = flow.source_translated();
        let translated = source_translated || flow.destination_translated();
        let reply = if translated { flow.orig.inverse() } else { flow.reply };
        write_tuples(writer, flow, &reply);
        if translated {
            let reply = &flow.reply;
            let (to, from) = match reply.l4 {
                L4::None => (None, None),
                L4::Ports { source, destination } => (Some(destination), Some(source)),
                L4::Icmp { id, .. } => (Some(id), None),
            };
            write_nat(writer, kind::NAT_SRC, reply.destination, to);
            write_nat(writer, kind::NAT_DST, reply.source, from);
        }
        writer.be32(kind::TIMEOUT, flow.timeout_s.unwrap_or(DEFAULT_TIMEOUT_S));
        writer.be32(kind::STATUS, flow.status.0 & SETTABLE | Status::CONFIRMED);
        if let Some(helper) = &flow.helper {
            writer.nest(kind::HELP, |writer| writer.text(kind::help::NAME, helper.as_str()));
        }
        if let Some(master) = &flow.master {
            writer.nest(kind::TUPLE_MASTER, |writer| write_tuple(writer, master, None));
        }
        write_changeable(writer, flow);
    });
}

/// Appends the change of an existing flow; `ENOENT` when there is none.
///
/// Changed are: timeout, status, mark, labels, the protocol's state, sequence adjustment and
/// SYNPROXY. The kernel answers `EBUSY` when it has seen more of the flow than `status` says
/// (replies, assurance) or when the two disagree on whether the flow was expected. A fixed timeout
/// is left out, because naming one would be refused (`EPERM`).
pub fn update(buffer: &mut Vec<u8>, flow: &Flow, sequence: u32) {
    message(buffer, CT_NEW, 0, family_of(&flow.orig), sequence, |writer| {
        write_tuples(writer, flow, &flow.reply);
        let fixed = flow.status.contains(Status::FIXED_TIMEOUT);
        if let Some(timeout_s) = flow.timeout_s.filter(|_| !fixed) {
            writer.be32(kind::TIMEOUT, timeout_s);
        }
        let status = flow.status.0 & (SETTABLE | Status::EXPECTED) | Status::CONFIRMED;
        writer.be32(kind::STATUS, status);
        write_changeable(writer, flow);
    });
}

/// Appends a new timeout for an existing flow and changes nothing else of it; `ENOENT` when there
/// is none, `EPERM` when its timeout is fixed ([`Status::FIXED_TIMEOUT`]).
pub fn set_timeout(buffer: &mut Vec<u8>, key: &Key, timeout_s: u32, sequence: u32) {
    message(buffer, CT_NEW, 0, family_of(&key.orig), sequence, |writer| {
        write_key(writer, key);
        writer.be32(kind::TIMEOUT, timeout_s);
    });
}

/// Has an existing TCP flow accept what its windows do not say, and changes nothing else of it: they
/// may be old. `ENOENT` when there is none; without effect on any other protocol.
pub fn be_liberal(buffer: &mut Vec<u8>, key: &Key, sequence: u32) {
    use kind::protoinfo;
    message(buffer, CT_NEW, 0, family_of(&key.orig), sequence, |writer| {
        write_key(writer, key);
        writer.nest(kind::PROTOINFO, |writer| {
            writer.nest(protoinfo::TCP, |writer| {
                let flags = [TcpState::BE_LIBERAL; 2];
                writer.fixed(protoinfo::TCP_FLAGS_ORIG, flags);
                writer.fixed(protoinfo::TCP_FLAGS_REPLY, flags);
            });
        });
    });
}

/// The status bits that are not the kernel's own.
const SETTABLE: u32 = Status::SEEN_REPLY | Status::ASSURED | Status::FIXED_TIMEOUT;

pub(crate) fn message(
    buffer: &mut Vec<u8>,
    message_type: u16,
    extra_flags: u16,
    family: u8,
    sequence: u32,
    attributes: impl FnOnce(&mut Writer<'_>),
) {
    let start = buffer.len();
    let header = Header {
        length: 0,
        message_type,
        flags: flags::REQUEST | extra_flags,
        sequence,
        port_id: 0,
    };
    buffer.extend_from_slice(header.as_bytes());
    buffer.extend_from_slice(Netfilter { family, version: 0, resource: [0; 2] }.as_bytes());
    attributes(&mut Writer::new(buffer));
    let length = (buffer.len() - start) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

pub(crate) fn address_family(family: Family) -> u8 {
    match family {
        Family::Any => AF_UNSPEC,
        Family::Ipv4 => AF_INET,
        Family::Ipv6 => AF_INET6,
    }
}

pub(crate) fn family_of(tuple: &Tuple) -> u8 {
    match tuple.source {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}

fn write_key(writer: &mut Writer<'_>, key: &Key) {
    let Key { orig, zone, zone_direction } = key;
    match zone_direction {
        ZoneDirection::Both => {
            writer.nest(kind::TUPLE_ORIG, |writer| write_tuple(writer, orig, None));
            if *zone != 0 {
                writer.be16(kind::ZONE, *zone);
            }
        }
        ZoneDirection::Orig => {
            writer.nest(kind::TUPLE_ORIG, |writer| write_tuple(writer, orig, Some(*zone)));
        }
        // The original direction is in zone 0 then.
        ZoneDirection::Reply => {
            writer.nest(kind::TUPLE_ORIG, |writer| write_tuple(writer, orig, None));
        }
    }
}

fn write_tuples(writer: &mut Writer<'_>, flow: &Flow, reply: &Tuple) {
    let in_zone = |direction| (flow.zone_direction == direction).then_some(flow.zone);
    writer.nest(kind::TUPLE_ORIG, |writer| {
        write_tuple(writer, &flow.orig, in_zone(ZoneDirection::Orig));
    });
    writer.nest(kind::TUPLE_REPLY, |writer| {
        write_tuple(writer, reply, in_zone(ZoneDirection::Reply));
    });
    if flow.zone_direction == ZoneDirection::Both && flow.zone != 0 {
        writer.be16(kind::ZONE, flow.zone);
    }
}

pub(crate) fn write_tuple(writer: &mut Writer<'_>, tuple: &Tuple, zone: Option<u16>) {
    writer.nest(kind::tuple::IP, |writer| {
        write_address(writer, tuple.source, kind::ip::V4_SRC, kind::ip::V6_SRC);
        write_address(writer, tuple.destination, kind::ip::V4_DST, kind::ip::V6_DST);
    });
    writer.nest(kind::tuple::PROTO, |writer| {
        writer.u8(kind::proto::NUM, tuple.protocol);
        match tuple.l4 {
            L4::None => {}
            L4::Ports { source, destination } => {
                writer.be16(kind::proto::SRC_PORT, source);
                writer.be16(kind::proto::DST_PORT, destination);
            }
            L4::Icmp { kind, code, id } => {
                use kind::proto;
                let [id_kind, type_kind, code_kind] = if tuple.source.is_ipv4() {
                    [proto::ICMP_ID, proto::ICMP_TYPE, proto::ICMP_CODE]
                } else {
                    [proto::ICMPV6_ID, proto::ICMPV6_TYPE, proto::ICMPV6_CODE]
                };
                writer.be16(id_kind, id);
                writer.u8(type_kind, kind);
                writer.u8(code_kind, code);
            }
        }
    });
    if let Some(zone) = zone {
        writer.be16(kind::tuple::ZONE, zone);
    }
}

fn write_address(writer: &mut Writer<'_>, address: IpAddr, v4: u16, v6: u16) {
    match address {
        IpAddr::V4(address) => writer.fixed(v4, address.octets()),
        IpAddr::V6(address) => writer.fixed(v6, address.octets()),
    }
}

/// A translation to exactly one address, and one port or identifier.
fn write_nat(writer: &mut Writer<'_>, direction: u16, address: IpAddr, port: Option<u16>) {
    writer.nest(direction, |writer| {
        write_address(writer, address, kind::nat::V4_MINIP, kind::nat::V6_MINIP);
        write_address(writer, address, kind::nat::V4_MAXIP, kind::nat::V6_MAXIP);
        if let Some(port) = port {
            writer.nest(kind::nat::PROTO, |writer| {
                writer.be16(kind::nat::PORT_MIN, port);
                writer.be16(kind::nat::PORT_MAX, port);
            });
        }
    });
}

/// What may be said of a new flow and of an existing one alike.
fn write_changeable(writer: &mut Writer<'_>, flow: &Flow) {
    if let Some(mark) = flow.mark {
        writer.be32(kind::MARK, mark);
    }
    write_protocol_state(writer, &flow.protocol_state);
    if let Some([orig, reply]) = &flow.sequence_adjustment {
        for (direction, adjustment) in [(kind::SEQ_ADJ_ORIG, orig), (kind::SEQ_ADJ_REPLY, reply)] {
            writer.nest(direction, |writer| {
                writer.be32(kind::seqadj::CORRECTION_POS, adjustment.correction_position);
                writer.be32(kind::seqadj::OFFSET_BEFORE, adjustment.offset_before);
                writer.be32(kind::seqadj::OFFSET_AFTER, adjustment.offset_after);
            });
        }
    }
    if let Some(labels) = &flow.labels {
        let mut words = [0; 16];
        for (bytes, label) in words.as_chunks_mut::<4>().0.iter_mut().zip(labels) {
            *bytes = label.to_ne_bytes();
        }
        writer.fixed(kind::LABELS, words);
        writer.fixed(kind::LABELS_MASK, [0xff; 16]);
    }
    if let Some(synproxy) = &flow.synproxy {
        writer.nest(kind::SYNPROXY, |writer| {
            writer.be32(kind::synproxy::ISN, synproxy.isn);
            writer.be32(kind::synproxy::ITS, synproxy.its);
            writer.be32(kind::synproxy::TSOFF, synproxy.tsoff);
        });
    }
}

fn write_protocol_state(writer: &mut Writer<'_>, state: &ProtocolState) {
    use kind::protoinfo;
    match *state {
        ProtocolState::None => {}
        ProtocolState::Tcp(tcp) => writer.nest(kind::PROTOINFO, |writer| {
            writer.nest(protoinfo::TCP, |writer| write_tcp_state(writer, tcp));
        }),
        ProtocolState::Sctp { state, vtag_orig, vtag_reply } => {
            writer.nest(kind::PROTOINFO, |writer| {
                writer.nest(protoinfo::SCTP, |writer| {
                    writer.u8(protoinfo::SCTP_STATE, state);
                    writer.be32(protoinfo::SCTP_VTAG_ORIG, vtag_orig);
                    writer.be32(protoinfo::SCTP_VTAG_REPLY, vtag_reply);
                });
            });
        }
        ProtocolState::Dccp { state, role, handshake_sequence } => {
            writer.nest(kind::PROTOINFO, |writer| {
                writer.nest(protoinfo::DCCP, |writer| {
                    writer.u8(protoinfo::DCCP_STATE, state);
                    writer.u8(protoinfo::DCCP_ROLE, role);
                    writer.be64(protoinfo::DCCP_HANDSHAKE_SEQ, handshake_sequence);
                });
            });
        }
    }
}

/// The kernel takes a window scale only with the flag that says one was agreed on.
fn write_tcp_state(writer: &mut Writer<'_>, tcp: TcpState) {
    use kind::protoinfo;
    writer.u8(protoinfo::TCP_STATE, tcp.state);
    let agreed = if tcp.window_scale.is_some() { TcpState::WINDOW_SCALE } else { 0 };
    // What is not known stays as it is in a flow that exists.
    let mask = if tcp.flags.is_some() { CARRIED_TCP_FLAGS } else { agreed } | TcpState::BE_LIBERAL;
    let known = tcp.flags.unwrap_or([agreed; 2]);
    let [orig, reply] = known.map(|flags| flags & CARRIED_TCP_FLAGS | TcpState::BE_LIBERAL);
    writer.fixed(protoinfo::TCP_FLAGS_ORIG, [orig, mask]);
    writer.fixed(protoinfo::TCP_FLAGS_REPLY, [reply, mask]);
    if let Some([orig, reply]) = tcp.window_scale {
        writer.u8(protoinfo::TCP_WSCALE_ORIG, orig);
        writer.u8(protoinfo::TCP_WSCALE_REPLY, reply);
    }
}

/// The flags that hold without the sequence numbers seen.
const CARRIED_TCP_FLAGS: u8 =
    TcpState::WINDOW_SCALE | TcpState::SACK_PERMITTED | TcpState::CLOSE_INIT;
