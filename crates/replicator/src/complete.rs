//! Whether a flow is told with all by which the kernel tells it from others.

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Tuple};

use crate::key::is_sound;

/// Whether both tuples are of one family and have the ports, keys or identifiers of their protocol.
/// A cache stores nothing else: flows without them would lie on top of each other.
pub(crate) fn is_complete(flow: &Flow) -> bool {
    is_sound(&flow.orig)
        && is_sound(&flow.reply)
        && flow.orig.source.is_ipv4() == flow.reply.source.is_ipv4()
        && flow.orig.protocol == flow.reply.protocol
        && has_its_ports(&flow.orig)
        && has_its_ports(&flow.reply)
}

/// The same for a flow off the wire. conntrackd sends no GRE keys and no UDP-Lite ports, and
/// arbitrary bytes for the ports of a DCCP flow without state.
pub(crate) fn is_complete_on_the_wire(flow: &Flow) -> bool {
    is_complete(flow) && (flow.orig.protocol != DCCP || flow.protocol_state != ProtocolState::None)
}

fn has_its_ports(tuple: &Tuple) -> bool {
    match tuple.protocol {
        TCP | UDP | SCTP | GRE | UDP_LITE | DCCP => matches!(tuple.l4, L4::Ports { .. }),
        ICMP | ICMPV6 => matches!(tuple.l4, L4::Icmp { .. }),
        _ => true,
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: u8, l4: L4) -> Flow {
        let orig = Tuple {
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            protocol,
            l4,
        };
        Flow::new(orig, orig.inverse())
    }

    #[test]
    fn flows_of_protocols_with_ports_or_keys_have_them() {
        let ports = L4::Ports { source: 1, destination: 2 };
        for protocol in [TCP, UDP, SCTP, GRE, UDP_LITE, DCCP] {
            assert!(is_complete(&flow(protocol, ports)), "{protocol}");
            assert!(!is_complete(&flow(protocol, L4::None)), "{protocol}");
        }
        assert!(!is_complete(&flow(ICMP, ports)) && is_complete(&flow(89, L4::None)));
        let mut no_ports_back = flow(UDP_LITE, ports);
        no_ports_back.reply.l4 = L4::None;
        assert!(!is_complete(&no_ports_back));
    }

    #[test]
    fn addresses_of_two_families_are_no_flow() {
        let mut mixed = flow(89, L4::None);
        mixed.orig.source = "2001:db8::1".parse().unwrap();
        assert!(!is_complete(&mixed));
        let mut translated = flow(89, L4::None);
        translated.reply.source = "2001:db8::1".parse().unwrap();
        translated.reply.destination = "2001:db8::2".parse().unwrap();
        assert!(!is_complete(&translated));
    }

    #[test]
    fn dccp_off_the_wire_needs_its_state() {
        let mut dccp = flow(DCCP, L4::Ports { source: 1, destination: 2 });
        assert!(is_complete(&dccp) && !is_complete_on_the_wire(&dccp));
        dccp.protocol_state = ProtocolState::Dccp { state: 4, role: 0, handshake_sequence: 0 };
        assert!(is_complete_on_the_wire(&dccp));
    }
}
