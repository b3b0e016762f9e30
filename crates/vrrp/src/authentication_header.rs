//! The IP authentication header around a version 2 advertisement (authentication type 2): RFC 2402
//! with HMAC-MD5-96 (RFC 2403), as keepalived fills it in.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! | Next hdr. 112 |   Length 4    |            Reserved           |
//! +---------------+---------------+-------------------------------+
//! |          Security parameters index: the source address       |
//! +---------------------------------------------------------------+
//! |                        Sequence number                        |
//! +---------------------------------------------------------------+
//! |                  Integrity check value (12)                   |
//! +---------------------------------------------------------------+
//! ```
//!
//! The value covers the IPv4 header, this header and the advertisement. What may change on the way
//! counts as zero: type of service, fragmentation and header checksum. The TTL counts as zero only
//! in unicast; RFC 2402 §3.3.3.1.1.1 has it so always, keepalived leaves it in for the group.

use std::net::Ipv4Addr;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;

use crate::config::Password;
use crate::packet::{Datagram, Endpoints, PROTOCOL, PROTOCOL_AH};
use crate::verdict::Rejection;

/// Bytes of the header.
pub(crate) const LENGTH: usize = 24;

/// What the value covers of the IPv4 header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    pub(crate) source: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) identification: u16,
    pub(crate) ttl: u8,
}

/// The header and `message` behind it.
pub(crate) fn wrap(
    password: &Password,
    carrier: Carrier,
    sequence: u32,
    message: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LENGTH + message.len());
    bytes.extend([PROTOCOL, LENGTH_FIELD, 0, 0]);
    bytes.extend(carrier.source.octets());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0; VALUE_LENGTH]);
    bytes.extend(message);
    let value = covering(password, carrier, &bytes).finalize().into_bytes();
    bytes[VALUE_AT..LENGTH].copy_from_slice(&value[..VALUE_LENGTH]);
    bytes
}

/// Verifies the header; returns its sequence number and what is behind it.
///
/// # Errors
/// The first that is wrong: what it carries, its length, the value, the SPI.
pub(crate) fn open<'a>(
    password: &Password,
    datagram: &'a Datagram,
) -> Result<(u32, &'a [u8]), Rejection> {
    let Endpoints::Ipv4 { source, destination } = datagram.endpoints else {
        return Err(Rejection::Protocol(PROTOCOL_AH));
    };
    let Datagram { identification, ttl, ref payload, .. } = *datagram;
    let Some((header, message)) = payload.split_first_chunk::<LENGTH>() else {
        return Err(Rejection::HeaderLength { length: payload.len() });
    };
    if header[0] != PROTOCOL {
        return Err(Rejection::Protocol(header[0]));
    }
    if header[1] != LENGTH_FIELD {
        return Err(Rejection::HeaderLength { length: (usize::from(header[1]) + 2) * 4 });
    }
    let carrier = Carrier { source, destination, identification, ttl };
    covering(password, carrier, payload)
        .verify_truncated_left(&header[VALUE_AT..])
        .map_err(|_| Rejection::IntegrityValue)?;
    let index = word(header, INDEX_AT);
    if index != source.to_bits() {
        return Err(Rejection::Spi { theirs: Ipv4Addr::from_bits(index) });
    }
    Ok((word(header, SEQUENCE_AT), message))
}

/// `bytes` begin with a whole header; its value counts as zero.
fn covering(password: &Password, carrier: Carrier, bytes: &[u8]) -> Hmac<Md5> {
    let Carrier { source, destination, identification, ttl } = carrier;
    let ttl = if destination.is_multicast() { ttl } else { 0 };
    let total_length = (IPV4_HEADER + bytes.len()) as u16;
    let mut code =
        Hmac::<Md5>::new_from_slice(&password.bytes()).expect("a key of any length will do");
    code.update(&[VERSION_AND_LENGTH, 0]);
    code.update(&total_length.to_be_bytes());
    code.update(&identification.to_be_bytes());
    code.update(&[0, 0, ttl, PROTOCOL_AH, 0, 0]);
    code.update(&source.octets());
    code.update(&destination.octets());
    code.update(&bytes[..VALUE_AT]);
    code.update(&[0; VALUE_LENGTH]);
    code.update(&bytes[LENGTH..]);
    code
}

fn word(header: &[u8; LENGTH], at: usize) -> u32 {
    header[at..].first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// The length in 32-bit words, less 2 (RFC 2402 §2.2).
const LENGTH_FIELD: u8 = 4;
const INDEX_AT: usize = 4;
const SEQUENCE_AT: usize = 8;
const VALUE_AT: usize = 12;
const VALUE_LENGTH: usize = LENGTH - VALUE_AT;
const IPV4_HEADER: usize = 20;
/// IPv4, no options: a packet with options has another value and is refused.
const VERSION_AND_LENGTH: u8 = 0x45;
