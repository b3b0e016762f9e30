//! Expressions of a rule, and how they are written.

use std::net::IpAddr;

use super::message::Message;

/// One expression of a rule. A rule's expressions are carried out in order until one does not
/// match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expression {
    /// The packet came in by this interface.
    InputInterface(String),
    /// The packet goes out by this interface.
    OutputInterface(String),
    /// The packet came in by one of the interfaces in this set of the table.
    InputInterfaceIn(String),
    /// The packet goes out by one of the interfaces in this set of the table.
    OutputInterfaceIn(String),
    /// The packet is IPv4.
    Ipv4,
    /// The packet comes from this address.
    Source(IpAddr),
    /// The packet is for this address.
    Destination(IpAddr),
    /// The packet is of the set's family and for an address in it.
    DestinationIn(String, AddressFamily),
    /// An `ICMPv6` message of this type.
    Icmpv6(u8),
    /// The IPv4 source address is in this network.
    Ipv4Source(ipnet::Ipv4Net),
    /// The protocol above IP.
    Protocol(u8),
    /// The destination port, of a protocol that has ports (say which one first).
    DestinationPort(u16),
    /// The source port, likewise.
    SourcePort(u16),
    /// One of these connection tracking states, as a set of [`ct_state`] bits.
    TrackingState(u32),
    /// Connection tracking keeps no entry of this packet's flow yet (`IPS_CONFIRMED` is not set);
    /// of packets that are tracked.
    Unconfirmed,
    /// This share of packets, in thousandths, by chance.
    Chance(u32),
    /// Leave the packet out of connection tracking.
    Notrack,
    /// Put this IPv4 address in place of the source.
    SourceNat(std::net::Ipv4Addr),
    /// Let the packet pass this chain.
    Accept,
    /// Drop the packet.
    Drop,
}

/// The family of the addresses in a set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl AddressFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }
}

/// Bits of [`Expression::TrackingState`].
pub mod ct_state {
    /// Belongs to no connection and cannot begin one.
    pub const INVALID: u32 = 1;
    /// Of a known connection.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// Expected by a known connection.
    pub const RELATED: u32 = 1 << 2;
    /// The first of a connection.
    pub const NEW: u32 = 1 << 3;
    /// Left out of tracking.
    pub const UNTRACKED: u32 = 1 << 6;
}

impl Expression {
    pub(super) fn encode(&self, message: &mut Message<'_>) {
        match self {
            Self::InputInterface(name) => {
                load_meta(message, META_INPUT_NAME);
                compare(message, EQUAL, &interface_name(name));
            }
            Self::OutputInterface(name) => {
                load_meta(message, META_OUTPUT_NAME);
                compare(message, EQUAL, &interface_name(name));
            }
            Self::InputInterfaceIn(set) => {
                load_meta(message, META_INPUT_NAME);
                look_up(message, set);
            }
            Self::OutputInterfaceIn(set) => {
                load_meta(message, META_OUTPUT_NAME);
                look_up(message, set);
            }
            Self::Ipv4 => family(message, AddressFamily::Ipv4),
            Self::Source(address) => {
                let (source, _, length) = load_family(message, AddressFamily::of(*address));
                load_payload(message, NETWORK_HEADER, source, length);
                compare(message, EQUAL, &octets(*address));
            }
            Self::Destination(address) => {
                let (_, destination, length) = load_family(message, AddressFamily::of(*address));
                load_payload(message, NETWORK_HEADER, destination, length);
                compare(message, EQUAL, &octets(*address));
            }
            Self::DestinationIn(set, of) => {
                let (_, destination, length) = load_family(message, *of);
                load_payload(message, NETWORK_HEADER, destination, length);
                look_up(message, set);
            }
            Self::Icmpv6(kind) => {
                load_meta(message, META_L4PROTO);
                compare(message, EQUAL, &[ICMPV6]);
                load_payload(message, TRANSPORT_HEADER, 0, 1);
                compare(message, EQUAL, &[*kind]);
            }
            Self::Ipv4Source(network) => {
                load_payload(message, NETWORK_HEADER, 12, 4);
                mask(message, &network.netmask().octets());
                compare(message, EQUAL, &network.network().octets());
            }
            Self::Protocol(number) => {
                load_meta(message, META_L4PROTO);
                compare(message, EQUAL, &[*number]);
            }
            Self::SourcePort(port) => {
                load_payload(message, TRANSPORT_HEADER, 0, 2);
                compare(message, EQUAL, &port.to_be_bytes());
            }
            Self::DestinationPort(port) => {
                load_payload(message, TRANSPORT_HEADER, 2, 2);
                compare(message, EQUAL, &port.to_be_bytes());
            }
            Self::TrackingState(bits) => {
                message.expression("ct", |data| {
                    data.number(1, REGISTER);
                    data.number(2, CT_STATE);
                });
                mask(message, &bits.to_ne_bytes());
                compare(message, NOT_EQUAL, &[0; 4]);
            }
            Self::Unconfirmed => {
                message.expression("ct", |data| {
                    data.number(1, REGISTER);
                    data.number(2, CT_STATUS);
                });
                mask(message, &IPS_CONFIRMED.to_ne_bytes());
                compare(message, EQUAL, &[0; 4]);
            }
            Self::Chance(thousandths) => {
                message.expression("numgen", |data| {
                    data.number(1, REGISTER);
                    data.number(2, 1000);
                    data.number(3, NUMGEN_RANDOM);
                });
                // The register holds a number of this machine's byte order, and comparisons are of bytes.
                message.expression("byteorder", |data| {
                    data.number(1, REGISTER);
                    data.number(2, REGISTER);
                    data.number(3, HOST_TO_NETWORK);
                    data.number(4, 4);
                    data.number(5, 4);
                });
                compare(message, LESS, &thousandths.to_be_bytes());
            }
            Self::Notrack => message.expression("notrack", |_| {}),
            Self::SourceNat(address) => {
                message.expression("immediate", |data| {
                    data.number(1, REGISTER);
                    data.nested(2, |value| value.bytes(1, &address.octets()));
                });
                message.expression("nat", |data| {
                    data.number(1, NAT_SOURCE);
                    data.number(2, u32::from(FAMILY_IPV4));
                    data.number(3, REGISTER);
                });
            }
            Self::Accept => verdict(message, 1),
            Self::Drop => verdict(message, 0),
        }
    }
}

fn load_meta(message: &mut Message<'_>, key: u32) {
    message.expression("meta", |data| {
        data.number(1, REGISTER);
        data.number(2, key);
    });
}

fn family(message: &mut Message<'_>, family: AddressFamily) {
    load_meta(message, META_NFPROTO);
    let number = match family {
        AddressFamily::Ipv4 => FAMILY_IPV4,
        AddressFamily::Ipv6 => FAMILY_IPV6,
    };
    compare(message, EQUAL, &[number]);
}

/// Lets only that family pass, and returns where its addresses are.
fn load_family(message: &mut Message<'_>, of: AddressFamily) -> (u32, u32, u32) {
    family(message, of);
    match of {
        AddressFamily::Ipv4 => IPV4_ADDRESSES,
        AddressFamily::Ipv6 => IPV6_ADDRESSES,
    }
}

fn look_up(message: &mut Message<'_>, set: &str) {
    message.expression("lookup", |data| {
        data.text(1, set);
        data.number(2, REGISTER);
    });
}

/// An address as it stands in a header.
pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn load_payload(message: &mut Message<'_>, base: u32, offset: u32, length: u32) {
    message.expression("payload", |data| {
        data.number(1, REGISTER);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, length);
    });
}

fn compare(message: &mut Message<'_>, operator: u32, value: &[u8]) {
    message.expression("cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, operator);
        data.nested(3, |data| data.bytes(1, value));
    });
}

fn mask(message: &mut Message<'_>, mask: &[u8]) {
    message.expression("bitwise", |data| {
        data.number(1, REGISTER);
        data.number(2, REGISTER);
        data.number(3, mask.len() as u32);
        data.nested(4, |data| data.bytes(1, mask));
        data.nested(5, |data| data.bytes(1, &vec![0; mask.len()]));
    });
}

fn verdict(message: &mut Message<'_>, code: u32) {
    message.expression("immediate", |data| {
        data.number(1, VERDICT_REGISTER);
        data.nested(2, |data| data.nested(2, |verdict| verdict.number(1, code)));
    });
}

/// An interface name as the kernel keeps it: padded to IFNAMSIZ.
pub(super) fn interface_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;
const ICMPV6: u8 = 58;

const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LESS: u32 = 2;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATE: u32 = 0;
const CT_STATUS: u32 = 2;
const IPS_CONFIRMED: u32 = 8;
const NUMGEN_RANDOM: u32 = 1;
const HOST_TO_NETWORK: u32 = 1;
const NAT_SOURCE: u32 = 0;
/// Where the addresses are in the headers: the source and the destination, and how long they are.
const IPV4_ADDRESSES: (u32, u32, u32) = (12, 16, 4);
const IPV6_ADDRESSES: (u32, u32, u32) = (8, 24, 16);
