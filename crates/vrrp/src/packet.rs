//! The IP packet around an advertisement (RFC 9568 §5.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pnet::packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet::packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};
use pnet::packet::ipv6::MutableIpv6Packet;

use crate::authentication_header::{self, Carrier};
use crate::config::{Family, Vrid};

/// The IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// The IP protocol number of the authentication header, which version 2 can be wrapped in.
pub const PROTOCOL_AH: u8 = 51;
/// TTL or hop limit of everything sent to the group, and of everything heeded there: nothing was
/// forwarded.
pub const TTL: u8 = 255;

/// Between whom a packet travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoints {
    /// Over IPv4.
    Ipv4 {
        /// The sender's primary address.
        source: Ipv4Addr,
        /// The group 224.0.0.18, or a peer.
        destination: Ipv4Addr,
    },
    /// Over IPv6.
    Ipv6 {
        /// The sender's link-local address.
        source: Ipv6Addr,
        /// The group `ff02::12`, or a peer.
        destination: Ipv6Addr,
    },
}

impl Endpoints {
    /// From `source` to the group of its family.
    pub fn to_group(source: IpAddr) -> Self {
        match source {
            IpAddr::V4(source) => Self::Ipv4 { source, destination: GROUP_V4 },
            IpAddr::V6(source) => Self::Ipv6 { source, destination: GROUP_V6 },
        }
    }

    /// From one to another; `None` when their families differ.
    pub fn between(source: IpAddr, destination: IpAddr) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Some(Self::Ipv4 { source, destination })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Some(Self::Ipv6 { source, destination })
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    /// The family of both.
    pub fn family(&self) -> Family {
        match self {
            Self::Ipv4 { .. } => Family::Ipv4,
            Self::Ipv6 { .. } => Family::Ipv6,
        }
    }

    /// The sender.
    pub fn source(&self) -> IpAddr {
        match *self {
            Self::Ipv4 { source, .. } => source.into(),
            Self::Ipv6 { source, .. } => source.into(),
        }
    }

    /// The receiver.
    pub fn destination(&self) -> IpAddr {
        match *self {
            Self::Ipv4 { destination, .. } => destination.into(),
            Self::Ipv6 { destination, .. } => destination.into(),
        }
    }
}

impl Family {
    /// The multicast group of the advertisements.
    pub fn group(self) -> IpAddr {
        match self {
            Self::Ipv4 => GROUP_V4.into(),
            Self::Ipv6 => GROUP_V6.into(),
        }
    }

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// A received IP packet, taken apart; the payload is cut to the length its IP header states.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Datagram {
    /// Sender and receiver.
    pub endpoints: Endpoints,
    /// TTL or hop limit on arrival.
    pub ttl: u8,
    /// The IPv4 identification, which an authentication header covers; 0 over IPv6.
    pub identification: u16,
    /// [`PROTOCOL`] or [`PROTOCOL_AH`].
    pub protocol: u8,
    /// What follows the IP header.
    pub payload: Vec<u8>,
    /// When it was received, UTC since 1970; only the freshness of a trailer is judged by it.
    pub received: Duration,
}

/// Some bytes are no whole IPv4 packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{length} bytes are no whole IPv4 packet")]
pub struct InvalidIpv4Packet {
    /// Bytes received.
    pub length: usize,
}

impl Datagram {
    /// Takes apart what a raw or packet socket delivers; what follows the IPv4 total length
    /// (padding of short Ethernet frames) is left out. `received` is the time of day, UTC since 1970.
    ///
    /// # Errors
    /// When the header is cut short or contradicts itself.
    pub fn from_ipv4(bytes: &[u8], received: Duration) -> Result<Self, InvalidIpv4Packet> {
        let invalid = InvalidIpv4Packet { length: bytes.len() };
        let header = Ipv4Packet::new(bytes).ok_or(invalid)?;
        let start = usize::from(header.get_header_length()) * 4;
        let end = usize::from(header.get_total_length());
        if header.get_version() != 4 || start < IPV4_HEADER {
            return Err(invalid);
        }
        Ok(Self {
            endpoints: Endpoints::Ipv4 {
                source: header.get_source().octets().into(),
                destination: header.get_destination().octets().into(),
            },
            ttl: header.get_ttl(),
            identification: header.get_identification(),
            protocol: header.get_next_level_protocol().0,
            payload: bytes.get(start..end).ok_or(invalid)?.to_vec(),
            received,
        })
    }

    /// The VRID, to find the virtual router that should judge this packet; nothing else of it has
    /// been looked at. `None` when it is cut short or states 0.
    pub fn vrid(&self) -> Option<Vrid> {
        let position = match self.protocol {
            PROTOCOL_AH => authentication_header::LENGTH + 1,
            _ => 1,
        };
        self.payload.get(position).copied().and_then(Vrid::new)
    }
}

/// A packet ready for a raw socket that includes the IP header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packet {
    /// Where to.
    pub destination: IpAddr,
    /// IP header and advertisement.
    pub bytes: Vec<u8>,
}

/// An IPv4 packet of class CS6 around `payload`.
pub(crate) fn ipv4_packet(carrier: Carrier, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; IPV4_HEADER + payload.len()];
    bytes[IPV4_HEADER..].copy_from_slice(payload);
    let total_length = bytes.len() as u16;
    let mut header = MutableIpv4Packet::new(&mut bytes).expect("the buffer holds a header");
    header.set_version(4);
    header.set_header_length(5);
    header.set_dscp(CLASS >> 2);
    header.set_total_length(total_length);
    header.set_identification(carrier.identification);
    header.set_ttl(carrier.ttl);
    header.set_next_level_protocol(IpNextHeaderProtocol(protocol));
    header.set_source(carrier.source.octets().into());
    header.set_destination(carrier.destination.octets().into());
    let checksum = ipv4::checksum(&header.to_immutable());
    header.set_checksum(checksum);
    bytes
}

/// Gives an IPv4 packet another identification, and the header checksum that goes with it.
pub(crate) fn renumber(bytes: &mut [u8], identification: u16) {
    let mut header = MutableIpv4Packet::new(bytes).expect("it was made with a header");
    header.set_identification(identification);
    let checksum = ipv4::checksum(&header.to_immutable());
    header.set_checksum(checksum);
}

/// An IPv6 packet of class CS6 around an advertisement.
pub(crate) fn ipv6_packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    message: &[u8],
) -> Vec<u8> {
    let mut bytes = ipv6_header(CLASS, IpNextHeaderProtocols::Vrrp, source, destination, message);
    bytes[IPV6_HOP_LIMIT_AT] = hop_limit;
    bytes
}

/// An IPv6 packet of hop limit 255 around `payload`.
pub(crate) fn ipv6_header(
    traffic_class: u8,
    next_header: IpNextHeaderProtocol,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; IPV6_HEADER + payload.len()];
    bytes[IPV6_HEADER..].copy_from_slice(payload);
    let mut header = MutableIpv6Packet::new(&mut bytes).expect("the buffer holds a header");
    header.set_version(6);
    header.set_traffic_class(traffic_class);
    header.set_payload_length(payload.len() as u16);
    header.set_next_header(next_header);
    header.set_hop_limit(TTL);
    header.set_source(source.octets().into());
    header.set_destination(destination.octets().into());
    bytes
}

const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
pub(crate) const IPV4_HEADER: usize = Ipv4Packet::minimum_packet_size();
pub(crate) const IPV6_HEADER: usize = MutableIpv6Packet::minimum_packet_size();
const IPV6_HOP_LIMIT_AT: usize = 7;
/// Internetwork control, CS6.
const CLASS: u8 = 0xc0;
