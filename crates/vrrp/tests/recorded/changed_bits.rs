//! Every bit of every recorded packet, changed: the packet is refused, or the bit is one of those
//! that nothing in it protects, which are listed here.

use lockstep_vrrp::{
    Authentication, ChecksumDialect, Config, Endpoints, Judged, Transport, Version, judge,
};

use crate::captures::{Capture, captures};
use crate::frames::{Frame, datagram};

/// What a changed bit does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Effect {
    /// The packet is refused.
    Refused,
    /// It means what it meant: the field says nothing to a router.
    None,
    /// It means what it meant, of or to somebody else.
    OtherEndpoint,
}

#[test]
fn a_changed_bit_is_refused_or_in_a_field_that_nothing_covers() {
    for capture in captures() {
        let mut told = Vec::new();
        for (number, frame) in capture.frames.iter().enumerate() {
            let Some(original) = datagram(frame) else { continue };
            let judged = judge(&capture.receiver(), &original).unwrap();
            // One of each is enough.
            let likeness = (original.endpoints, judged.advertisement.clone());
            if told.contains(&likeness) {
                continue;
            }
            told.push(likeness);
            let name = format!("{} frame {}", capture.name, number + 1);
            check(&name, &capture, frame, &original.endpoints, &judged);
        }
        assert!(!told.is_empty(), "{}", capture.name);
    }
}

fn check(name: &str, capture: &Capture, frame: &Frame, endpoints: &Endpoints, judged: &Judged) {
    let config = capture.receiver();
    let dialect = capture.sender(endpoints.source()).checksum;
    let length = packet_length(frame.payload(), endpoints);
    for position in first_byte_seen(endpoints)..length {
        let expected = effect(&config, dialect, endpoints, position);
        for bit in 0..8 {
            let mut bytes = frame.bytes[..14 + length].to_vec();
            bytes[14 + position] ^= 1 << bit;
            let Some(changed) = datagram(&Frame { at: frame.at, bytes }) else {
                assert_eq!(expected, Effect::Refused, "{name} byte {position} bit {bit}");
                continue;
            };
            let found = match judge(&config, &changed) {
                Err(_) => Effect::Refused,
                Ok(other) => {
                    assert_eq!(other, *judged, "{name} byte {position} bit {bit}");
                    if changed.endpoints == *endpoints {
                        Effect::None
                    } else {
                        Effect::OtherEndpoint
                    }
                }
            };
            assert_eq!(found, expected, "{name} byte {position} bit {bit}");
        }
    }
}

/// The whole truth about what is not covered.
///
/// Over IPv4 the kernel has verified the header's checksum before, so none of these comes from
/// damage on the way; they are what somebody who recomputes that checksum is free to choose. Over
/// IPv6 the kernel keeps the first seven bytes to itself.
fn effect(
    config: &Config,
    dialect: ChecksumDialect,
    endpoints: &Endpoints,
    position: usize,
) -> Effect {
    let unicast = matches!(config.transport, Transport::Unicast { .. });
    let in_header = matches!(config.authentication, Authentication::Header(_));
    let pseudo_header = config.version == Version::V3 && dialect == ChecksumDialect::PseudoHeader;
    match (endpoints, position) {
        // Type of service; flags and fragment offset; the header's checksum.
        (Endpoints::Ipv4 { .. }, 1 | 6..8 | 10..12) => Effect::None,
        // Identification.
        (Endpoints::Ipv4 { .. }, 4..6) if !in_header => Effect::None,
        // The number of hops is free in unicast, unless a least TTL is asked for.
        (Endpoints::Ipv4 { .. }, 8) | (Endpoints::Ipv6 { .. }, 7) if unicast => Effect::None,
        // The sender: in unicast it has to be a peer; a trailer covers it.
        (Endpoints::Ipv4 { .. }, 12..16)
            if !unicast && !in_header && !pseudo_header && config.trailer.is_none() =>
        {
            Effect::OtherEndpoint
        }
        // The receiver: the group is the only one, a router by itself has many addresses.
        (Endpoints::Ipv4 { .. }, 16..20) if unicast && !in_header && !pseudo_header => {
            Effect::OtherEndpoint
        }
        (Endpoints::Ipv4 { .. } | Endpoints::Ipv6 { .. }, _) => Effect::Refused,
    }
}

fn packet_length(packet: &[u8], endpoints: &Endpoints) -> usize {
    match endpoints {
        Endpoints::Ipv4 { .. } => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        Endpoints::Ipv6 { .. } => packet.len(),
    }
}

fn first_byte_seen(endpoints: &Endpoints) -> usize {
    match endpoints {
        Endpoints::Ipv4 { .. } => 0,
        Endpoints::Ipv6 { .. } => 7,
    }
}
