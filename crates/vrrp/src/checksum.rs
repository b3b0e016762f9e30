//! The checksum of an advertisement, in its three readings.
//!
//! Version 2 sums the message alone (RFC 3768 §5.3.8). Version 3 over IPv6 adds the pseudo
//! header. Over IPv4, RFC 5798 was read as with the pseudo header by some and without it by
//! others, and RFC 9568 §5.2.8 settled on without: both readings are in use.

use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::util;

use crate::config::{ChecksumDialect, Version};
use crate::packet::Endpoints;

/// Fills in the checksum to send. `message` is all that it covers.
pub(crate) fn fill_in(
    version: Version,
    dialect: ChecksumDialect,
    message: &mut [u8],
    endpoints: &Endpoints,
) {
    let checksum = match (dialect, endpoints) {
        (ChecksumDialect::MessageAlone, Endpoints::Ipv4 { .. }) => of_message_alone(message),
        (ChecksumDialect::PseudoHeader, _) | (_, Endpoints::Ipv6 { .. }) => {
            of(version, message, endpoints)
        }
    };
    message[2 * FIELD..2 * FIELD + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The checksum with all that the version and family may add; the field itself counts as zero.
fn of(version: Version, message: &[u8], endpoints: &Endpoints) -> u16 {
    match (version, endpoints) {
        (Version::V2, _) => of_message_alone(message),
        (Version::V3, Endpoints::Ipv4 { source, destination }) => util::ipv4_checksum(
            message,
            FIELD,
            &[],
            &source.octets().into(),
            &destination.octets().into(),
            IpNextHeaderProtocols::Vrrp,
        ),
        (Version::V3, Endpoints::Ipv6 { source, destination }) => util::ipv6_checksum(
            message,
            FIELD,
            &[],
            &source.octets().into(),
            &destination.octets().into(),
            IpNextHeaderProtocols::Vrrp,
        ),
    }
}

/// Accepts every reading that is in use for this version and family; returns which it is where
/// there are two that differ. `payload` is `message` and what follows it in the IP packet.
///
/// # Errors
/// The checksum received and the one that would have been sent.
pub(crate) fn verify(
    version: Version,
    message: &[u8],
    payload: &[u8],
    endpoints: &Endpoints,
) -> Result<Option<ChecksumDialect>, (u16, u16)> {
    let received = u16::from_be_bytes([message[2 * FIELD], message[2 * FIELD + 1]]);
    let expected = of(version, message, endpoints);
    let with_all = same(received, expected);
    match (version, endpoints) {
        (Version::V3, Endpoints::Ipv4 { .. }) => {
            match (with_all, same(received, of_message_alone(message))) {
                (true, true) => Ok(None),
                (true, false) => Ok(Some(ChecksumDialect::PseudoHeader)),
                (false, true) => Ok(Some(ChecksumDialect::MessageAlone)),
                (false, false) => Err((received, expected)),
            }
        }
        // A kernel that fills it in covers what follows the advertisement too (RFC 8200 §8.1).
        (Version::V3, Endpoints::Ipv6 { .. })
            if !with_all && same(received, of(version, payload, endpoints)) =>
        {
            Ok(None)
        }
        (Version::V2, _) | (Version::V3, Endpoints::Ipv6 { .. }) => {
            if with_all {
                Ok(None)
            } else {
                Err((received, expected))
            }
        }
    }
}

fn of_message_alone(message: &[u8]) -> u16 {
    util::checksum(message, FIELD)
}

/// In one's complement, 0x0000 and 0xffff are the same number.
fn same(received: u16, computed: u16) -> bool {
    received == computed || received == 0xffff && computed == 0
}

/// The checksum field, counted in 16-bit words.
const FIELD: usize = 3;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{Endpoints, Version, of, verify};

    #[test]
    fn both_zeros_of_ones_complement_are_the_same_checksum() {
        let endpoints = Endpoints::Ipv4 {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(224, 0, 0, 18),
        };
        let mut message = [0x21, 51, 100, 1, 0, 1, 0, 0, 0x7a, 0xca];
        assert_eq!(of(Version::V2, &message, &endpoints), 0);
        assert_eq!(verify(Version::V2, &message, &message, &endpoints), Ok(None));
        message[6..8].fill(0xff);
        assert_eq!(verify(Version::V2, &message, &message, &endpoints), Ok(None));
        message[6..8].fill(0xfe);
        assert_eq!(verify(Version::V2, &message, &message, &endpoints), Err((0xfefe, 0)));
    }
}
