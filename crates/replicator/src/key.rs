//! What tells flows apart, packed: the original tuple, the zone, and the direction the zone
//! applies to.
//!
//! The same tuple in another zone, or in the same zone for another direction, is another flow.
//! The kernel would say so as well: it compares the zone of each direction.

use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockstep_ctnetlink::{Flow, L4, Tuple, ZoneDirection};
use siphasher::sip::SipHasher13;

/// A flow's identity, of the same size for both families.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    /// Source and destination: words 0 and 1 for IPv4, 0 to 7 for IPv6. Unused words are 0.
    pub(crate) addresses: [u32; 8],
    pub(crate) l4: u32,
    pub(crate) zone: u16,
    pub(crate) protocol: u8,
    pub(crate) shape: Shape,
}

impl Key {
    pub(crate) fn of(flow: &Flow) -> Self {
        Self::new(&flow.orig, flow.zone, flow.zone_direction)
    }

    /// Addresses of two families do not make a tuple: see [`is_sound`].
    pub(crate) fn new(orig: &Tuple, zone: u16, direction: ZoneDirection) -> Self {
        let mut addresses = [0; 8];
        let six = !write_v4(orig, &mut addresses);
        if six {
            write_v6(orig.source, &mut addresses[..4]);
            write_v6(orig.destination, &mut addresses[4..]);
        }
        let (kind, l4) = pack_l4(orig.l4);
        let shape = Shape::new(six, kind, direction);
        Self { addresses, l4, zone, protocol: orig.protocol, shape }
    }

    pub(crate) fn orig(&self) -> Tuple {
        let words = &self.addresses;
        let (source, destination) = if self.shape.is_v6() {
            (read_v6(&words[..4]), read_v6(&words[4..]))
        } else {
            (read_v4(words[0]), read_v4(words[1]))
        };
        Tuple {
            source,
            destination,
            protocol: self.protocol,
            l4: unpack_l4(self.shape.kind(), self.l4),
        }
    }

    pub(crate) fn direction(&self) -> ZoneDirection {
        self.shape.direction()
    }

    /// Strangers choose what is hashed, hence a keyed hash of which no collisions can be found
    /// without the key.
    pub(crate) fn hash(&self, keyed: &SipHasher13) -> u64 {
        let mut hasher = *keyed;
        let [protocol, shape] = [self.protocol, self.shape.0].map(u64::from);
        hasher.write_u64(
            u64::from(self.l4) << 32 | u64::from(self.zone) << 16 | protocol << 8 | shape,
        );
        let words = if self.shape.is_v6() { 8 } else { 2 };
        for pair in self.addresses[..words].chunks_exact(2) {
            hasher.write_u64(u64::from(pair[0]) << 32 | u64::from(pair[1]));
        }
        hasher.finish()
    }
}

/// Whether both addresses are of one family, without which there is no tuple.
pub(crate) fn is_sound(tuple: &Tuple) -> bool {
    tuple.source.is_ipv4() == tuple.destination.is_ipv4()
}

/// Family (bit 0), kind of the transport part (bits 1, 2), direction of the zone (bits 3, 4).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Shape(u8);

impl Shape {
    fn new(six: bool, kind: u8, direction: ZoneDirection) -> Self {
        let direction = match direction {
            ZoneDirection::Both => 0,
            ZoneDirection::Orig => 1,
            ZoneDirection::Reply => 2,
        };
        Self(u8::from(six) | kind << 1 | direction << 3)
    }

    pub(crate) fn is_v6(self) -> bool {
        self.0 & 1 != 0
    }

    pub(crate) fn kind(self) -> u8 {
        self.0 >> 1 & 3
    }

    fn direction(self) -> ZoneDirection {
        match self.0 >> 3 {
            1 => ZoneDirection::Orig,
            2 => ZoneDirection::Reply,
            _ => ZoneDirection::Both,
        }
    }
}

/// The kind of a transport part, and its content.
pub(crate) fn pack_l4(l4: L4) -> (u8, u32) {
    match l4 {
        L4::None => (NONE, 0),
        L4::Ports { source, destination } => {
            (PORTS, u32::from(source) << 16 | u32::from(destination))
        }
        L4::Icmp { kind, code, id } => {
            (ICMP, u32::from(kind) << 24 | u32::from(code) << 16 | u32::from(id))
        }
    }
}

pub(crate) fn unpack_l4(kind: u8, l4: u32) -> L4 {
    match kind {
        PORTS => L4::Ports { source: (l4 >> 16) as u16, destination: l4 as u16 },
        ICMP => L4::Icmp { kind: (l4 >> 24) as u8, code: (l4 >> 16) as u8, id: l4 as u16 },
        _ => L4::None,
    }
}

/// Writes the addresses of an IPv4 tuple into two words; `false` for any other.
pub(crate) fn write_v4(tuple: &Tuple, words: &mut [u32]) -> bool {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (tuple.source, tuple.destination) else {
        return false;
    };
    words[0] = source.to_bits();
    words[1] = destination.to_bits();
    true
}

pub(crate) fn read_v4(word: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(word))
}

fn write_v6(address: IpAddr, words: &mut [u32]) {
    let address = match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    };
    for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

fn read_v6(words: &[u32]) -> IpAddr {
    let bits = words.iter().fold(0, |bits, word| bits << 32 | u128::from(*word));
    IpAddr::V6(Ipv6Addr::from_bits(bits))
}

const NONE: u8 = 0;
const PORTS: u8 = 1;
const ICMP: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: &str, destination: &str, l4: L4) -> Tuple {
        Tuple {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 17,
            l4,
        }
    }

    #[test]
    fn a_tuple_comes_back_as_it_was() {
        let ports = L4::Ports { source: 0xfffe, destination: 1 };
        let icmp = L4::Icmp { kind: 128, code: 255, id: 0xff00 };
        for l4 in [L4::None, ports, icmp] {
            for orig in [
                tuple("192.0.2.255", "198.51.100.1", l4),
                tuple("2001:db8::ffff:1", "fe80::1:2:3:4", l4),
            ] {
                for direction in [ZoneDirection::Both, ZoneDirection::Orig, ZoneDirection::Reply] {
                    let key = Key::new(&orig, 65_535, direction);
                    assert_eq!((key.orig(), key.direction()), (orig, direction));
                }
            }
        }
    }

    #[test]
    fn zone_and_its_direction_and_the_kind_of_ports_tell_flows_apart() {
        let orig = tuple("192.0.2.1", "192.0.2.2", L4::Ports { source: 0x0801, destination: 7 });
        let icmp = tuple("192.0.2.1", "192.0.2.2", L4::Icmp { kind: 8, code: 1, id: 7 });
        let keyed = SipHasher13::new_with_keys(1, 2);
        let mut keys = vec![
            Key::new(&orig, 0, ZoneDirection::Both),
            Key::new(&orig, 7, ZoneDirection::Both),
            Key::new(&orig, 7, ZoneDirection::Orig),
            Key::new(&orig, 7, ZoneDirection::Reply),
            Key::new(&icmp, 0, ZoneDirection::Both),
        ];
        let mut hashes: Vec<_> = keys.iter().map(|key| key.hash(&keyed)).collect();
        keys.sort_unstable();
        keys.dedup();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!((keys.len(), hashes.len()), (5, 5));
    }
}
