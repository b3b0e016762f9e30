//! From attributes to a flow.

use std::net::IpAddr;

use crate::attribute::{Attribute, Attributes, kind};
use crate::{
    DecodeError, Flow, HelperName, L4, ProtocolState, SequenceAdjustment, Status, Synproxy,
    TcpState, Tuple, ZoneDirection,
};

/// What a message tells besides the flow; it is not replicated.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Details {
    /// Who holds the entry.
    pub use_count: Option<u32>,
    /// What has passed in the original and the reply direction, when the kernel counts.
    pub counters: Option<[Counters; 2]>,
}

/// What has passed in one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

pub(crate) fn flow(attributes: Attributes<'_>) -> Result<Flow, DecodeError> {
    let mut orig = None;
    let mut reply = None;
    let mut rest = Rest::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::TUPLE_ORIG => orig = Some(tuple(attribute.nest())?),
            kind::TUPLE_REPLY => reply = Some(tuple(attribute.nest())?),
            _ => rest.take(attribute)?,
        }
    }
    let (orig, zone_orig) = orig.ok_or(DecodeError::Missing("original tuple"))?;
    let (reply, zone_reply) = reply.ok_or(DecodeError::Missing("reply tuple"))?;
    let (zone, zone_direction) = match (rest.zone, zone_orig, zone_reply) {
        (Some(zone), _, _) => (zone, ZoneDirection::Both),
        (None, Some(zone), _) => (zone, ZoneDirection::Orig),
        (None, None, Some(zone)) => (zone, ZoneDirection::Reply),
        (None, None, None) => (0, ZoneDirection::Both),
    };
    let sequence_adjustment = match rest.sequence_adjustment {
        [None, None] => None,
        [orig, reply] => Some([orig.unwrap_or_default(), reply.unwrap_or_default()]),
    };
    Ok(Flow {
        orig,
        reply,
        zone,
        zone_direction,
        status: rest.status,
        timeout_s: rest.timeout_s,
        mark: rest.mark,
        protocol_state: rest.protocol_state,
        master: rest.master,
        helper: rest.helper,
        labels: rest.labels,
        sequence_adjustment,
        synproxy: rest.synproxy,
        id: rest.id,
    })
}

/// What is known of a flow besides its two tuples, while its attributes are walked.
#[derive(Default)]
struct Rest {
    zone: Option<u16>,
    status: Status,
    timeout_s: Option<u32>,
    mark: Option<u32>,
    protocol_state: ProtocolState,
    master: Option<Tuple>,
    helper: Option<HelperName>,
    labels: Option<[u32; 4]>,
    sequence_adjustment: [Option<SequenceAdjustment>; 2],
    synproxy: Option<Synproxy>,
    id: Option<u32>,
}

impl Rest {
    fn take(&mut self, attribute: Attribute<'_>) -> Result<(), DecodeError> {
        match attribute.kind {
            kind::STATUS => self.status = Status(attribute.be32()?),
            kind::TIMEOUT => self.timeout_s = Some(attribute.be32()?),
            kind::MARK => self.mark = Some(attribute.be32()?),
            kind::ID => self.id = Some(attribute.be32()?),
            kind::ZONE => self.zone = Some(attribute.be16()?),
            kind::PROTOINFO => self.protocol_state = protocol_state(attribute.nest())?,
            kind::TUPLE_MASTER => self.master = Some(tuple(attribute.nest())?.0),
            kind::HELP => self.helper = helper(attribute.nest())?,
            kind::LABELS => self.labels = labels(attribute.value),
            kind::SEQ_ADJ_ORIG => {
                self.sequence_adjustment[0] = Some(sequence_adjustment(attribute.nest())?);
            }
            kind::SEQ_ADJ_REPLY => {
                self.sequence_adjustment[1] = Some(sequence_adjustment(attribute.nest())?);
            }
            kind::SYNPROXY => self.synproxy = Some(synproxy(attribute.nest())?),
            _ => {}
        }
        Ok(())
    }
}

pub(crate) fn details(attributes: Attributes<'_>) -> Result<Details, DecodeError> {
    let mut details = Details::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::USE => details.use_count = Some(attribute.be32()?),
            kind::COUNTERS_ORIG => {
                details.counters.get_or_insert_default()[0] = counters(attribute.nest())?;
            }
            kind::COUNTERS_REPLY => {
                details.counters.get_or_insert_default()[1] = counters(attribute.nest())?;
            }
            _ => {}
        }
    }
    Ok(details)
}

fn counters(attributes: Attributes<'_>) -> Result<Counters, DecodeError> {
    let mut counters = Counters::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::counters::PACKETS => counters.packets = attribute.be64()?,
            kind::counters::BYTES => counters.bytes = attribute.be64()?,
            _ => {}
        }
    }
    Ok(counters)
}

/// A tuple, and its zone when that applies to its direction alone.
pub(crate) fn tuple(attributes: Attributes<'_>) -> Result<(Tuple, Option<u16>), DecodeError> {
    let mut hosts = None;
    let mut transport = None;
    let mut zone = None;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::tuple::IP => hosts = Some(addresses(attribute.nest())?),
            kind::tuple::PROTO => transport = Some(protocol(attribute.nest())?),
            kind::tuple::ZONE => zone = Some(attribute.be16()?),
            _ => {}
        }
    }
    let (source, destination) = hosts.ok_or(DecodeError::Missing("addresses in a tuple"))?;
    let (protocol, l4) = transport.ok_or(DecodeError::Missing("protocol in a tuple"))?;
    Ok((Tuple { source, destination, protocol, l4 }, zone))
}

fn addresses(attributes: Attributes<'_>) -> Result<(IpAddr, IpAddr), DecodeError> {
    let mut v4 = (None, None);
    let mut v6 = (None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::ip::V4_SRC => v4.0 = Some(attribute.array::<4>()?),
            kind::ip::V4_DST => v4.1 = Some(attribute.array::<4>()?),
            kind::ip::V6_SRC => v6.0 = Some(attribute.array::<16>()?),
            kind::ip::V6_DST => v6.1 = Some(attribute.array::<16>()?),
            _ => {}
        }
    }
    match (v4, v6) {
        ((Some(source), Some(destination)), _) => Ok((source.into(), destination.into())),
        (_, (Some(source), Some(destination))) => Ok((source.into(), destination.into())),
        _ => Err(DecodeError::Missing("pair of addresses")),
    }
}

fn protocol(attributes: Attributes<'_>) -> Result<(u8, L4), DecodeError> {
    let mut number = None;
    let (mut source, mut destination) = (None, None);
    let (mut icmp_kind, mut icmp_code, mut icmp_id) = (None, None, None);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::proto::NUM => number = Some(attribute.u8()?),
            kind::proto::SRC_PORT => source = Some(attribute.be16()?),
            kind::proto::DST_PORT => destination = Some(attribute.be16()?),
            kind::proto::ICMP_ID | kind::proto::ICMPV6_ID => icmp_id = Some(attribute.be16()?),
            kind::proto::ICMP_TYPE | kind::proto::ICMPV6_TYPE => icmp_kind = Some(attribute.u8()?),
            kind::proto::ICMP_CODE | kind::proto::ICMPV6_CODE => icmp_code = Some(attribute.u8()?),
            _ => {}
        }
    }
    let l4 = match (source, destination, icmp_kind, icmp_code, icmp_id) {
        (Some(source), Some(destination), ..) => L4::Ports { source, destination },
        (.., Some(kind), Some(code), Some(id)) => L4::Icmp { kind, code, id },
        _ => L4::None,
    };
    Ok((number.ok_or(DecodeError::Missing("protocol number"))?, l4))
}

fn protocol_state(attributes: Attributes<'_>) -> Result<ProtocolState, DecodeError> {
    let mut state = ProtocolState::None;
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::protoinfo::TCP => state = ProtocolState::Tcp(tcp_state(attribute.nest())?),
            kind::protoinfo::SCTP => state = sctp_state(attribute.nest())?,
            kind::protoinfo::DCCP => state = dccp_state(attribute.nest())?,
            _ => {}
        }
    }
    Ok(state)
}

fn tcp_state(attributes: Attributes<'_>) -> Result<TcpState, DecodeError> {
    let mut tcp = TcpState::default();
    let mut scale = [None; 2];
    let mut flags = [None; 2];
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::protoinfo::TCP_STATE => tcp.state = attribute.u8()?,
            kind::protoinfo::TCP_WSCALE_ORIG => scale[0] = Some(attribute.u8()?),
            kind::protoinfo::TCP_WSCALE_REPLY => scale[1] = Some(attribute.u8()?),
            // Flags, and a mask that only matters in requests.
            kind::protoinfo::TCP_FLAGS_ORIG => flags[0] = Some(attribute.array::<2>()?[0]),
            kind::protoinfo::TCP_FLAGS_REPLY => flags[1] = Some(attribute.array::<2>()?[0]),
            _ => {}
        }
    }
    if let [Some(orig), Some(reply)] = scale {
        tcp.window_scale = Some([orig, reply]);
    }
    if let [Some(orig), Some(reply)] = flags {
        tcp.flags = Some([orig, reply]);
    }
    Ok(tcp)
}

fn sctp_state(attributes: Attributes<'_>) -> Result<ProtocolState, DecodeError> {
    let (mut state, mut vtag_orig, mut vtag_reply) = (0, 0, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::protoinfo::SCTP_STATE => state = attribute.u8()?,
            kind::protoinfo::SCTP_VTAG_ORIG => vtag_orig = attribute.be32()?,
            kind::protoinfo::SCTP_VTAG_REPLY => vtag_reply = attribute.be32()?,
            _ => {}
        }
    }
    Ok(ProtocolState::Sctp { state, vtag_orig, vtag_reply })
}

fn dccp_state(attributes: Attributes<'_>) -> Result<ProtocolState, DecodeError> {
    let (mut state, mut role, mut handshake_sequence) = (0, 0, 0);
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::protoinfo::DCCP_STATE => state = attribute.u8()?,
            kind::protoinfo::DCCP_ROLE => role = attribute.u8()?,
            kind::protoinfo::DCCP_HANDSHAKE_SEQ => handshake_sequence = attribute.be64()?,
            _ => {}
        }
    }
    Ok(ProtocolState::Dccp { state, role, handshake_sequence })
}

fn helper(attributes: Attributes<'_>) -> Result<Option<HelperName>, DecodeError> {
    let mut name = None;
    for attribute in attributes {
        let attribute = attribute?;
        if attribute.kind == kind::help::NAME {
            name = HelperName::new(attribute.text());
        }
    }
    Ok(name)
}

/// The kernel's words are in its own byte order; fewer than four are filled up with zeros.
fn labels(value: &[u8]) -> Option<[u32; 4]> {
    let mut labels = [0; 4];
    if value.is_empty() || value.len() > size_of_val(&labels) || !value.len().is_multiple_of(4) {
        return None;
    }
    for (label, bytes) in labels.iter_mut().zip(value.as_chunks::<4>().0) {
        *label = u32::from_ne_bytes(*bytes);
    }
    Some(labels)
}

fn sequence_adjustment(attributes: Attributes<'_>) -> Result<SequenceAdjustment, DecodeError> {
    let mut adjustment = SequenceAdjustment::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::seqadj::CORRECTION_POS => adjustment.correction_position = attribute.be32()?,
            kind::seqadj::OFFSET_BEFORE => adjustment.offset_before = attribute.be32()?,
            kind::seqadj::OFFSET_AFTER => adjustment.offset_after = attribute.be32()?,
            _ => {}
        }
    }
    Ok(adjustment)
}

fn synproxy(attributes: Attributes<'_>) -> Result<Synproxy, DecodeError> {
    let mut synproxy = Synproxy::default();
    for attribute in attributes {
        let attribute = attribute?;
        match attribute.kind {
            kind::synproxy::ISN => synproxy.isn = attribute.be32()?,
            kind::synproxy::ITS => synproxy.its = attribute.be32()?,
            kind::synproxy::TSOFF => synproxy.tsoff = attribute.be32()?,
            _ => {}
        }
    }
    Ok(synproxy)
}
