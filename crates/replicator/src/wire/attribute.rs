//! What the attributes of all messages have in common: the frame, and the values in it.
//!
//! An attribute is length (2, including these four bytes, without padding), number (2), payload,
//! zero padding to a multiple of four. The length stands first: it is not netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lockstep_ctnetlink::{HelperName, L4, Tuple};

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
    /// ICMP whose identifier is translated: the answers would belong to another flow.
    #[error("the translation of an ICMP identifier is not carried")]
    IcmpTranslation,
    /// A zone that applies to one direction only.
    #[error("the zone of one direction is not carried")]
    ZoneDirection,
    /// Source and destination of different families.
    #[error("addresses of both families")]
    MixedFamilies,
    /// An expectation in a zone.
    #[error("the zone of an expectation is not carried")]
    ExpectationZone,
    /// An expectation whose IPv6 address or port is translated.
    #[error("the translation of an expected IPv6 flow is not carried")]
    ExpectedTranslation,
    /// An expectation of a helper with a long name.
    #[error("names of helpers with more than 11 characters are not carried")]
    HelperName,
    /// There is nothing to say about it any more.
    #[error("it is gone")]
    Gone,
}

/// Hands every attribute's number and payload to `take`, in the order of the message.
pub(super) fn walk(
    body: &[u8],
    mut take: impl FnMut(u16, &[u8]) -> Result<(), PayloadError>,
) -> Result<(), PayloadError> {
    let mut rest = body;
    // One to four bytes at the end are tolerated, as conntrackd does.
    while let Some((&[l0, l1, n0, n1], _)) = rest.split_first_chunk().filter(|_| rest.len() > 4) {
        let length = u16::from_be_bytes([l0, l1]);
        let number = u16::from_be_bytes([n0, n1]);
        let end = usize::from(length);
        if end < 4 || end > rest.len() {
            return Err(PayloadError::Length(length));
        }
        take(number, &rest[4..end])?;
        rest = &rest[end.next_multiple_of(4).min(rest.len())..];
    }
    Ok(())
}

pub(super) fn addresses(
    v4: u16,
    v6: u16,
    tuple: &Tuple,
    out: &mut Vec<u8>,
) -> Result<(), Unsendable> {
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
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | DCCP)
}

pub(super) fn put(number: u16, payload: &[u8], out: &mut Vec<u8>) {
    let length = 4 + payload.len() as u16;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(payload);
    let padding = payload.len().next_multiple_of(4) - payload.len();
    out.extend_from_slice(&[0; 3][..padding]);
}

pub(super) fn put_word(number: u16, value: Option<u32>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        put(number, &value.to_be_bytes(), out);
    }
}

pub(super) fn put_words(number: u16, values: &[u32], out: &mut Vec<u8>) {
    let length = 4 + 4 * values.len() as u16;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn put_ports(number: u16, source: u16, destination: u16, out: &mut Vec<u8>) {
    put(number, &(u32::from(source) << 16 | u32::from(destination)).to_be_bytes(), out);
}

pub(super) fn byte(payload: &[u8]) -> Option<u8> {
    match payload {
        [byte] => Some(*byte),
        _ => None,
    }
}

pub(super) fn word(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

pub(super) fn words<const N: usize>(payload: &[u8]) -> Option<[u32; N]> {
    if payload.len() != 4 * N {
        return None;
    }
    let mut values = [0; N];
    for (value, chunk) in values.iter_mut().zip(payload.chunks_exact(4)) {
        *value = word(chunk)?;
    }
    Some(values)
}

pub(super) fn swapped(payload: &[u8]) -> Option<u16> {
    payload.try_into().ok().map(u16::from_le_bytes)
}

pub(super) fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    word(payload).map(|both| ((both >> 16) as u16, both as u16))
}

pub(super) fn as_l4((source, destination): (u16, u16)) -> L4 {
    L4::Ports { source, destination }
}

pub(super) fn address4(payload: &[u8]) -> Option<IpAddr> {
    word(payload).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
}

pub(super) fn address6(payload: &[u8]) -> Option<IpAddr> {
    payload.try_into().ok().map(|octets: [u8; 16]| IpAddr::V6(Ipv6Addr::from(octets)))
}

pub(super) fn pair4(payload: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (source, destination) = payload.split_at_checked(4)?;
    Some((address4(source)?, address4(destination)?))
}

pub(super) fn pair6(payload: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (source, destination) = payload.split_at_checked(16)?;
    Some((address6(source)?, address6(destination)?))
}

/// The name up to its NUL, or to the end when there is none. An empty or unprintable name means
/// no helper.
#[expect(clippy::option_option, reason = "outer: the size is wrong; inner: there is no name")]
pub(super) fn helper(payload: &[u8]) -> Option<Option<HelperName>> {
    if payload.is_empty() || payload.len() > HELPER_NAME_MAX {
        return None;
    }
    let name = payload.split(|byte| *byte == 0).next().unwrap_or_default();
    Some(HelperName::new(name))
}

/// A name of less than `N` characters with its NUL, when it fits.
pub(super) fn put_name<const N: usize>(number: u16, name: &str, out: &mut Vec<u8>) -> bool {
    if name.len() >= N {
        return false;
    }
    let mut bytes = [0; N];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    put(number, &bytes[..=name.len()], out);
    true
}

/// Bytes of a helper's name with its NUL, at most.
pub(super) const HELPER_NAME_MAX: usize = 12;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const DCCP: u8 = 33;
pub(super) const ICMPV6: u8 = 58;
pub(super) const SCTP: u8 = 132;
