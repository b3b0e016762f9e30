//! Meaning to bytes.

use std::net::IpAddr;

use lockstep_ctnetlink::{Flow, HelperName, L4, ProtocolState, Tuple, ZoneDirection};

#[allow(clippy::wildcard_imports, reason = "the frame and the numbers of this format")]
use super::{super::attribute::*, *};

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
        put_name::<HELPER_NAME_MAX>(HELPER_NAME, name, out);
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

/// The same, with what makes it a bequest: how many seconds ago it began.
///
/// # Errors
/// See [`encode_flow`].
pub fn encode_bequest(flow: &Flow, age_s: u32, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    encode_flow(flow, out)?;
    put_word(BEGAN, Some(age_s), out);
    Ok(())
}

fn encode_l4(flow: &Flow, out: &mut Vec<u8>) -> Result<(), Unsendable> {
    let protocol = flow.orig.protocol;
    match flow.orig.l4 {
        L4::None => {}
        L4::Ports { source, destination } if has_ports(protocol) => {
            put_ports(PORT, source, destination, out);
        }
        L4::Ports { .. } => return Err(Unsendable::Ports(protocol)),
        L4::Icmp { id, .. } if matches!(flow.reply.l4, L4::Icmp { id: to, .. } if to != id) => {
            return Err(Unsendable::IcmpTranslation);
        }
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
