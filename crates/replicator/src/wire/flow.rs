//! The attributes of a flow message ⇄ [`Flow`].
//!
//! An attribute is length (2, including these four bytes, without padding), number (2), payload,
//! zero padding to a multiple of four. The length stands first: it is not netlink.
//!
//! The reply tuple is not on the wire. It is the inverse of the original tuple, changed by the
//! translation attributes. Translated ports and ICMP identifiers are little-endian, because a
//! little-endian conntrackd swaps them once too often; see [`decode_flow`] for mixed pairs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockstep_ctnetlink::{
    Flow, HelperName, L4, ProtocolState, SequenceAdjustment, Status, Synproxy, TcpState, Tuple,
    ZoneDirection,
};

/// Why the attributes of a message were refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PayloadError {
    /// A length that leaves the message or is smaller than an attribute's header.
    #[error("attribute length {0} does not fit")]
    Length(u16),
    /// A number above the highest known; the format gives no way to skip it safely.
    #[error("unknown attribute {0}")]
    Unknown(u16),
    /// A payload of another size than this attribute has.
    #[error("attribute {number} has {size} bytes")]
    Size {
        /// The attribute.
        number: u16,
        /// Its payload.
        size: usize,
    },
    /// No original address pair.
    #[error("no addresses")]
    NoAddresses,
    /// No protocol number.
    #[error("no protocol")]
    NoProtocol,
    /// A translated or master address of the other family.
    #[error("addresses of both families")]
    MixedFamilies,
}

/// Why a flow cannot be said on this wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unsendable {
    /// Ports or keys of a protocol (GRE, UDP-Lite, …) for which the wire has no attribute.
    #[error("ports of protocol {0} are not carried")]
    Ports(u8),
    /// A zone that applies to one direction only.
    #[error("the zone of one direction is not carried")]
    ZoneDirection,
    /// Source and destination of different families.
    #[error("addresses of both families")]
    MixedFamilies,
    /// There is nothing to say about it any more.
    #[error("it is gone")]
    Gone,
}

/// Reads the attributes of a flow message, in whatever order they come.
///
/// Translated ports and ICMP identifiers are taken as little-endian. A big-endian conntrackd would
/// write them the other way round, and nothing on the wire tells the two apart.
///
/// # Errors
/// See [`PayloadError`]; the message is then to be counted as malformed and skipped.
pub fn decode_flow(body: &[u8]) -> Result<Flow, PayloadError> {
    let mut read = Attributes::default();
    let mut rest = body;
    // One to four bytes at the end are tolerated, as conntrackd does.
    while let Some((&[l0, l1, n0, n1], _)) = rest.split_first_chunk().filter(|_| rest.len() > 4) {
        let length = u16::from_be_bytes([l0, l1]);
        let number = u16::from_be_bytes([n0, n1]);
        let end = usize::from(length);
        if end < 4 || end > rest.len() {
            return Err(PayloadError::Length(length));
        }
        read.take(number, &rest[4..end])?;
        rest = &rest[end.next_multiple_of(4).min(rest.len())..];
    }
    read.flow()
}

/// Appends the attributes of `flow`, in conntrackd's order.
///
/// # Errors
/// When the wire has no way to say this flow; `out` may then hold a part of it.
pub fn encode_flow(flow: &Flow, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    if flow.zone != 0 && flow.zone_direction != ZoneDirection::Both {
        return Err(Unsendable::ZoneDirection);
    }
    addresses(IPV4, IPV6, &flow.orig, out)?;
    put(STATUS, &flow.status.0.to_be_bytes(), out);
    put(L4PROTO, &[flow.orig.protocol], out);
    encode_l4(flow, out)?;
    put_word(TIMEOUT, flow.timeout_s, out);
    put_word(MARK, flow.mark, out);
    if let Some(master) = &flow.master {
        encode_master(master, out)?;
    }
    encode_translation(flow, out);
    if let Some([orig, reply]) = flow.sequence_adjustment {
        let words = [
            orig.correction_position,
            orig.offset_before,
            orig.offset_after,
            reply.correction_position,
            reply.offset_before,
            reply.offset_after,
        ];
        put_words(SEQUENCE_ADJUSTMENT, &words, out);
    }
    if let Some(name) = flow.helper.as_ref().map(HelperName::as_str) {
        // Longer names make the whole entry unreadable for conntrackd; without it the flow lives.
        if name.len() < HELPER_NAME_MAX {
            let mut bytes = [0; HELPER_NAME_MAX];
            bytes[..name.len()].copy_from_slice(name.as_bytes());
            put(HELPER_NAME, &bytes[..=name.len()], out);
        }
    }
    if let Some(labels) = flow.labels {
        put_words(LABELS, &labels, out);
    }
    if let Some(synproxy) = flow.synproxy {
        put_words(SYNPROXY, &[synproxy.its, synproxy.isn, synproxy.tsoff], out);
    }
    if flow.zone != 0 {
        put(ZONE, &flow.zone.to_be_bytes(), out);
    }
    Ok(())
}

/// What has been read so far. The last of repeated attributes wins.
#[derive(Default)]
struct Attributes {
    orig: Option<(IpAddr, IpAddr)>,
    protocol: Option<u8>,
    ports: Option<(u16, u16)>,
    icmp_type: Option<u8>,
    icmp_code: u8,
    icmp_id: u16,
    tcp_state: Option<u8>,
    window_scale: [Option<u8>; 2],
    sctp_state: Option<u8>,
    vtags: [u32; 2],
    dccp_state: Option<u8>,
    dccp_role: u8,
    status: u32,
    timeout_s: Option<u32>,
    mark: Option<u32>,
    master: Option<(IpAddr, IpAddr)>,
    master_protocol: u8,
    master_ports: Option<(u16, u16)>,
    source_address: Option<IpAddr>,
    destination_address: Option<IpAddr>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    sequence_adjustment: Option<[SequenceAdjustment; 2]>,
    helper: Option<HelperName>,
    labels: Option<[u32; 4]>,
    synproxy: Option<Synproxy>,
    zone: u16,
}

impl Attributes {
    fn take(&mut self, number: u16, payload: &[u8]) -> Result<(), PayloadError> {
        let wrong = PayloadError::Size { number, size: payload.len() };
        match number {
            IPV4 => self.orig = Some(pair4(payload).ok_or(wrong)?),
            IPV6 => self.orig = Some(pair6(payload).ok_or(wrong)?),
            L4PROTO => self.protocol = Some(byte(payload).ok_or(wrong)?),
            PORT => self.ports = Some(ports(payload).ok_or(wrong)?),
            TCP_STATE => self.tcp_state = Some(byte(payload).ok_or(wrong)?),
            STATUS => self.status = word(payload).ok_or(wrong)?,
            TIMEOUT => self.timeout_s = Some(word(payload).ok_or(wrong)?),
            MARK => self.mark = Some(word(payload).ok_or(wrong)?),
            MASTER_IPV4 => self.master = Some(pair4(payload).ok_or(wrong)?),
            MASTER_IPV6 => self.master = Some(pair6(payload).ok_or(wrong)?),
            MASTER_L4PROTO => self.master_protocol = byte(payload).ok_or(wrong)?,
            MASTER_PORT => self.master_ports = Some(ports(payload).ok_or(wrong)?),
            SNAT_IPV4 => self.source_address = Some(address4(payload).ok_or(wrong)?),
            DNAT_IPV4 => self.destination_address = Some(address4(payload).ok_or(wrong)?),
            SNAT_IPV6 => self.source_address = Some(address6(payload).ok_or(wrong)?),
            DNAT_IPV6 => self.destination_address = Some(address6(payload).ok_or(wrong)?),
            SPAT_PORT => self.source_port = Some(swapped(payload).ok_or(wrong)?),
            DPAT_PORT => self.destination_port = Some(swapped(payload).ok_or(wrong)?),
            SEQUENCE_ADJUSTMENT => {
                let both: [u32; 6] = words(payload).ok_or(wrong)?;
                self.sequence_adjustment = Some([adjustment(&both[..3]), adjustment(&both[3..])]);
            }
            SCTP_STATE => self.sctp_state = Some(byte(payload).ok_or(wrong)?),
            SCTP_VTAG_ORIG => self.vtags[0] = word(payload).ok_or(wrong)?,
            SCTP_VTAG_REPLY => self.vtags[1] = word(payload).ok_or(wrong)?,
            DCCP_STATE => self.dccp_state = Some(byte(payload).ok_or(wrong)?),
            DCCP_ROLE => self.dccp_role = byte(payload).ok_or(wrong)?,
            ICMP_TYPE => self.icmp_type = Some(byte(payload).ok_or(wrong)?),
            ICMP_CODE => self.icmp_code = byte(payload).ok_or(wrong)?,
            ICMP_ID => self.icmp_id = swapped(payload).ok_or(wrong)?,
            TCP_WINDOW_SCALE_ORIG => self.window_scale[0] = Some(byte(payload).ok_or(wrong)?),
            TCP_WINDOW_SCALE_REPLY => self.window_scale[1] = Some(byte(payload).ok_or(wrong)?),
            HELPER_NAME => self.helper = helper(payload).ok_or(wrong)?,
            LABELS => self.labels = labels(payload).ok_or(wrong)?.or(self.labels),
            SYNPROXY => {
                let [its, isn, tsoff] = words(payload).ok_or(wrong)?;
                self.synproxy = Some(Synproxy { its, isn, tsoff });
            }
            ZONE => {
                self.zone = payload.try_into().map(u16::from_be_bytes).map_err(|_| wrong)?;
            }
            _ => return Err(PayloadError::Unknown(number)),
        }
        Ok(())
    }

    fn flow(self) -> Result<Flow, PayloadError> {
        let (source, destination) = self.orig.ok_or(PayloadError::NoAddresses)?;
        let protocol = self.protocol.ok_or(PayloadError::NoProtocol)?;
        let orig = Tuple { source, destination, protocol, l4: self.l4(protocol) };
        let mut flow = Flow::new(orig, self.reply(&orig)?);
        flow.zone = self.zone;
        flow.status = Status(self.status);
        flow.timeout_s = self.timeout_s;
        flow.mark = self.mark;
        flow.protocol_state = self.protocol_state(protocol);
        flow.master = self.master.map(|(source, destination)| Tuple {
            source,
            destination,
            protocol: self.master_protocol,
            l4: self.master_ports.map_or(L4::None, as_l4),
        });
        flow.helper = self.helper;
        flow.labels = self.labels;
        flow.sequence_adjustment = self.sequence_adjustment;
        flow.synproxy = self.synproxy;
        Ok(flow)
    }

    fn l4(&self, protocol: u8) -> L4 {
        match (protocol, self.icmp_type) {
            (ICMP | ICMPV6, Some(kind)) => {
                L4::Icmp { kind, code: self.icmp_code, id: self.icmp_id }
            }
            _ if has_ports(protocol) => self.ports.map_or(L4::None, as_l4),
            _ => L4::None,
        }
    }

    /// The inverse of `orig` with the translation applied. ICMP messages carry translated "ports"
    /// that mean nothing: they lie over type, code and identifier.
    fn reply(&self, orig: &Tuple) -> Result<Tuple, PayloadError> {
        let mut reply = orig.inverse();
        for (translated, place) in [
            (self.source_address, &mut reply.destination),
            (self.destination_address, &mut reply.source),
        ] {
            let Some(address) = translated else { continue };
            if address.is_ipv4() != place.is_ipv4() {
                return Err(PayloadError::MixedFamilies);
            }
            *place = address;
        }
        if let L4::Ports { source, destination } = &mut reply.l4 {
            *destination = self.source_port.unwrap_or(*destination);
            *source = self.destination_port.unwrap_or(*source);
        }
        Ok(reply)
    }

    fn protocol_state(&self, protocol: u8) -> ProtocolState {
        match (protocol, self.tcp_state, self.sctp_state, self.dccp_state) {
            (TCP, Some(state), _, _) => {
                let [orig, reply] = self.window_scale;
                let told = orig.is_some() || reply.is_some();
                let scale = [orig.unwrap_or(0), reply.unwrap_or(0)];
                ProtocolState::Tcp(TcpState {
                    state,
                    window_scale: told.then_some(scale),
                    flags: None,
                })
            }
            (SCTP, _, Some(state), _) => {
                let [vtag_orig, vtag_reply] = self.vtags;
                ProtocolState::Sctp { state, vtag_orig, vtag_reply }
            }
            (DCCP, _, _, Some(state)) => {
                ProtocolState::Dccp { state, role: self.dccp_role, handshake_sequence: 0 }
            }
            _ => ProtocolState::None,
        }
    }
}

fn encode_l4(flow: &Flow, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    let protocol = flow.orig.protocol;
    match flow.orig.l4 {
        L4::None => {}
        L4::Ports { source, destination } if has_ports(protocol) => {
            put_ports(PORT, source, destination, out);
        }
        L4::Ports { .. } => return Err(Unsendable::Ports(protocol)),
        L4::Icmp { kind, code, id } => {
            put(ICMP_TYPE, &[kind], out);
            put(ICMP_CODE, &[code], out);
            put(ICMP_ID, &id.to_le_bytes(), out);
        }
    }
    match flow.protocol_state {
        ProtocolState::None => {}
        ProtocolState::Tcp(tcp) => {
            put(TCP_STATE, &[tcp.state], out);
            if let Some([orig, reply]) = tcp.window_scale {
                put(TCP_WINDOW_SCALE_ORIG, &[orig], out);
                put(TCP_WINDOW_SCALE_REPLY, &[reply], out);
            }
        }
        ProtocolState::Sctp { state, vtag_orig, vtag_reply } => {
            put(SCTP_STATE, &[state], out);
            put(SCTP_VTAG_ORIG, &vtag_orig.to_be_bytes(), out);
            put(SCTP_VTAG_REPLY, &vtag_reply.to_be_bytes(), out);
        }
        ProtocolState::Dccp { state, role, .. } => {
            put(DCCP_STATE, &[state], out);
            put(DCCP_ROLE, &[role], out);
        }
    }
    Ok(())
}

fn encode_master(master: &Tuple, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    addresses(MASTER_IPV4, MASTER_IPV6, master, out)?;
    put(MASTER_L4PROTO, &[master.protocol], out);
    if let L4::Ports { source, destination } = master.l4 {
        put_ports(MASTER_PORT, source, destination, out);
    }
    Ok(())
}

fn encode_translation(flow: &Flow, out: &mut Vec<u8>) {
    let direct = flow.orig.inverse();
    if flow.reply.destination != direct.destination {
        match flow.reply.destination {
            IpAddr::V4(address) => put(SNAT_IPV4, &address.octets(), out),
            IpAddr::V6(address) => put(SNAT_IPV6, &address.octets(), out),
        }
    }
    if flow.reply.source != direct.source {
        match flow.reply.source {
            IpAddr::V4(address) => put(DNAT_IPV4, &address.octets(), out),
            IpAddr::V6(address) => put(DNAT_IPV6, &address.octets(), out),
        }
    }
    if let (L4::Ports { source, destination }, L4::Ports { source: from, destination: to }) =
        (flow.reply.l4, direct.l4)
    {
        if destination != to {
            put(SPAT_PORT, &destination.to_le_bytes(), out);
        }
        if source != from {
            put(DPAT_PORT, &source.to_le_bytes(), out);
        }
    }
}

fn addresses(v4: u16, v6: u16, tuple: &Tuple, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    match (tuple.source, tuple.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put_words(v4, &[source.to_bits(), destination.to_bits()], out);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut bytes = [0; 32];
            bytes[..16].copy_from_slice(&source.octets());
            bytes[16..].copy_from_slice(&destination.octets());
            put(v6, &bytes, out);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(Unsendable::MixedFamilies);
        }
    }
    Ok(())
}

/// Whether the wire carries ports of this protocol.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | DCCP)
}

fn put(number: u16, payload: &[u8], out: &mut Vec<u8>) {
    let length = 4 + payload.len() as u16;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(payload);
    let padding = payload.len().next_multiple_of(4) - payload.len();
    out.extend_from_slice(&[0; 3][..padding]);
}

fn put_word(number: u16, value: Option<u32>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        put(number, &value.to_be_bytes(), out);
    }
}

fn put_words(number: u16, values: &[u32], out: &mut Vec<u8>) {
    let length = 4 + 4 * values.len() as u16;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

fn put_ports(number: u16, source: u16, destination: u16, out: &mut Vec<u8>) {
    put(number, &(u32::from(source) << 16 | u32::from(destination)).to_be_bytes(), out);
}

fn byte(payload: &[u8]) -> Option<u8> {
    match payload {
        [byte] => Some(*byte),
        _ => None,
    }
}

fn word(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

fn words<const N: usize>(payload: &[u8]) -> Option<[u32; N]> {
    if payload.len() != 4 * N {
        return None;
    }
    let mut values = [0; N];
    for (value, chunk) in values.iter_mut().zip(payload.chunks_exact(4)) {
        *value = word(chunk)?;
    }
    Some(values)
}

fn swapped(payload: &[u8]) -> Option<u16> {
    payload.try_into().ok().map(u16::from_le_bytes)
}

fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    word(payload).map(|both| ((both >> 16) as u16, both as u16))
}

fn as_l4((source, destination): (u16, u16)) -> L4 {
    L4::Ports { source, destination }
}

fn address4(payload: &[u8]) -> Option<IpAddr> {
    word(payload).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

fn address6(payload: &[u8]) -> Option<IpAddr> {
    payload.try_into().ok().map(|octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets)))
}

fn pair4(payload: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (source, destination) = payload.split_at_checked(4)?;
    Some((address4(source)?, address4(destination)?))
}

fn pair6(payload: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (source, destination) = payload.split_at_checked(16)?;
    Some((address6(source)?, address6(destination)?))
}

fn adjustment(words: &[u32]) -> SequenceAdjustment {
    SequenceAdjustment {
        correction_position: words[0],
        offset_before: words[1],
        offset_after: words[2],
    }
}

/// The name up to its NUL, or to the end when there is none. An empty or unprintable name means
/// no helper.
#[expect(clippy::option_option, reason = "outer: the size is wrong; inner: there is no name")]
fn helper(payload: &[u8]) -> Option<Option<HelperName>> {
    if payload.is_empty() || payload.len() > HELPER_NAME_MAX {
        return None;
    }
    let name = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(HelperName::new(name))
}

/// The first four words, the rest of a kernel's label mask being always empty. Sizes that are no
/// whole words are skipped without harm, as conntrackd does.
#[expect(clippy::option_option, reason = "outer: the size is wrong; inner: nothing to take")]
fn labels(payload: &[u8]) -> Option<Option<[u32; 4]>> {
    if payload.is_empty() || payload.len() > LABELS_MAX {
        return None;
    }
    if !payload.len().is_multiple_of(4) {
        return Some(None);
    }
    let mut values = [0; 4];
    for (value, chunk) in values.iter_mut().zip(payload.chunks_exact(4)) {
        *value = word(chunk)?;
    }
    Some(Some(values))
}

const HELPER_NAME_MAX: usize = 12;
const LABELS_MAX: usize = 1024;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

const IPV4: u16 = 0;
const IPV6: u16 = 1;
const L4PROTO: u16 = 2;
const PORT: u16 = 3;
const TCP_STATE: u16 = 4;
const STATUS: u16 = 5;
const TIMEOUT: u16 = 6;
const MARK: u16 = 7;
const MASTER_IPV4: u16 = 8;
const MASTER_IPV6: u16 = 9;
const MASTER_L4PROTO: u16 = 10;
const MASTER_PORT: u16 = 11;
const SNAT_IPV4: u16 = 12;
const DNAT_IPV4: u16 = 13;
const SPAT_PORT: u16 = 14;
const DPAT_PORT: u16 = 15;
const SEQUENCE_ADJUSTMENT: u16 = 16;
const SCTP_STATE: u16 = 17;
const SCTP_VTAG_ORIG: u16 = 18;
const SCTP_VTAG_REPLY: u16 = 19;
const DCCP_STATE: u16 = 20;
const DCCP_ROLE: u16 = 21;
const ICMP_TYPE: u16 = 22;
const ICMP_CODE: u16 = 23;
const ICMP_ID: u16 = 24;
const TCP_WINDOW_SCALE_ORIG: u16 = 25;
const TCP_WINDOW_SCALE_REPLY: u16 = 26;
const HELPER_NAME: u16 = 27;
const LABELS: u16 = 28;
const SNAT_IPV6: u16 = 29;
const DNAT_IPV6: u16 = 30;
const SYNPROXY: u16 = 31;
const ZONE: u16 = 32;
