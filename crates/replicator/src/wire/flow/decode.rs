//! Bytes to meaning.

use std::net::IpAddr;

use lockstep_ctnetlink::{
    Flow, HelperName, L4, ProtocolState, SequenceAdjustment, Status, Synproxy, TcpState, Tuple,
};

#[allow(clippy::wildcard_imports, reason = "the frame and the numbers of this format")]
use super::{super::attribute::*, *};

/// Reads the attributes of a flow message, in whatever order they come.
///
/// Translated ports and ICMP identifiers are taken as little-endian. A big-endian conntrackd would
/// write them the other way round, and nothing on the wire tells the two apart.
///
/// # Errors
/// See [`PayloadError`]; the message is then to be counted as malformed and skipped.
pub fn decode_flow(body: &[u8]) -> Result<Flow, PayloadError> {
    let mut read = Attributes::default();
    walk(body, |number, payload| read.take(number, payload))?;
    read.flow()
}

/// How many seconds ago a flow began that its sender leaves to who serves now; `None` of any other
/// message.
pub fn bequest_age_s(body: &[u8]) -> Option<u32> {
    let mut age_s = None;
    let read = walk(body, |number, payload| {
        if number == BEGAN {
            age_s = word(payload);
        }
        Ok(())
    });
    age_s.filter(|_| read.is_ok())
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
            // See `bequest_age_s`.
            BEGAN => drop(word(payload).ok_or(wrong)?),
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

fn adjustment(words: &[u32]) -> SequenceAdjustment {
    SequenceAdjustment {
        correction_position: words[0],
        offset_before: words[1],
        offset_after: words[2],
    }
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

const LABELS_MAX: usize = 1024;
