//! Whether a received packet is heeded (RFC 9568 §7.1, RFC 3768 §7.1), and if not, why not.

use std::mem::discriminant;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::advertisement::{Advertisement, AuthenticationData, DecodeError, Format};
use crate::config::{ChecksumDialect, Config, Version};
use crate::packet::{Datagram, PROTOCOL, PROTOCOL_AH, TTL};

/// Why an advertisement for our VRID is not heeded: the field that is wrong, with both values.
///
/// `Display` completes a sentence that begins with the sender, "10.1.1.2 sends …". Passwords are
/// never part of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// Wrapped in an IP authentication header, which this router does not use.
    #[error("an authentication header (type 2, AH), ours is {}", authentication_name(*.ours))]
    AuthenticationHeader {
        /// Our authentication type.
        ours: u8,
    },
    /// The authentication header has another length than VRRP's.
    #[error("an authentication header of {length} bytes, it must have 24")]
    HeaderLength {
        /// As it states, or as many as there are.
        length: usize,
    },
    /// We use the authentication header, and there is none.
    #[error("no authentication header and type {}, ours is 2 (AH)", authentication_name(*.theirs))]
    HeaderMissing {
        /// Their authentication type.
        theirs: u8,
    },
    /// The value in the authentication header is not made with our password.
    #[error("an authentication header (AH) with another password than ours, or changed on its way")]
    IntegrityValue,
    /// The SPI in the authentication header is not the sender's address.
    #[error("the SPI {theirs} in its authentication header, it must be its own address")]
    Spi {
        /// The SPI as an address.
        theirs: Ipv4Addr,
    },
    /// The number in the authentication header is not greater than the greatest one heard: a
    /// replay, or a neighbour that has begun to count anew. Said by the virtual router.
    #[error("sequence number {theirs} in its authentication header, we have heard {ours}")]
    Sequence {
        /// The number in the packet.
        theirs: u32,
        /// The greatest one heard.
        ours: u32,
    },
    /// We insist on signatures, and there is none.
    #[error("no signature (HMAC trailer)")]
    TrailerMissing,
    /// The trailer is of a kind that nobody has defined yet.
    #[error("a signature (HMAC trailer) of type {0}, only 1 is known")]
    TrailerType(u8),
    /// Signed with a key that we do not have.
    #[error("a signature (HMAC trailer) with key {theirs}, ours is {ours}")]
    TrailerKey {
        /// The key's number in the packet.
        theirs: u8,
        /// The number of the key that we sign with.
        ours: u8,
    },
    /// The signature is not made with our key of that number.
    #[error(
        "a signature (HMAC trailer) with another key {key_id} than ours, or changed on its way"
    )]
    TrailerSignature {
        /// The key's number in the packet.
        key_id: u8,
    },
    /// The stamp is too far from our time of day: one of the clocks is wrong, or it is a replay.
    #[error(
        "a signature {} s {} our clock, {limit} s are allowed",
        .behind.unsigned_abs(),
        if *.behind < 0 { "ahead of" } else { "behind" }
    )]
    TrailerStale {
        /// Seconds that the stamp is behind our clock.
        behind: i32,
        /// Seconds allowed, either way.
        limit: u32,
    },
    /// The stamp is not greater than the last one heeded from this sender: a replay. Said by the
    /// virtual router.
    #[error("a signature that was already heard, or an older one")]
    TrailerReplay,
    /// Of another IP protocol than VRRP.
    #[error("IP protocol {0}, VRRP is 112")]
    Protocol(u8),
    /// To somebody else than the group: to one router, where we use multicast.
    #[error("to {theirs} (unicast), ours is {ours} (multicast)")]
    Destination {
        /// The destination in the packet.
        theirs: IpAddr,
        /// The group.
        ours: IpAddr,
    },
    /// To a group, where we use unicast.
    #[error("to {theirs} (multicast), ours is unicast")]
    Multicast {
        /// The destination in the packet.
        theirs: IpAddr,
    },
    /// Unicast from somebody who is not configured.
    #[error("without being one of our unicast peers")]
    NotAPeer,
    /// Unicast from further away than is allowed.
    #[error("TTL {theirs}, at least {least} is asked for")]
    Distance {
        /// TTL or hop limit in the packet.
        theirs: u8,
        /// The least that is heeded.
        least: u8,
    },
    /// It may have been forwarded.
    #[error("TTL {0}, it must be 255")]
    Ttl(u8),
    /// The other protocol version.
    #[error("version {theirs}, ours is {ours}")]
    Version {
        /// The version in the packet.
        theirs: u8,
        /// Our version.
        ours: u8,
    },
    /// No advertisement at all.
    #[error(transparent)]
    Malformed(DecodeError),
    /// For another virtual router.
    #[error("VRID {theirs}, ours is {ours}")]
    Vrid {
        /// The VRID in the packet.
        theirs: u8,
        /// Our VRID.
        ours: u8,
    },
    /// Version 2: another authentication type.
    #[error(
        "authentication type {}, ours is {}",
        authentication_name(*.theirs),
        authentication_name(*.ours)
    )]
    AuthenticationType {
        /// The type in the packet.
        theirs: u8,
        /// Our type.
        ours: u8,
    },
    /// Version 2: another password.
    #[error("a password that differs from ours")]
    Password,
    /// Version 2: another advertisement interval. (Version 3 learns the master's.)
    #[error("an advertisement interval of {theirs:?}, ours is {ours:?}")]
    Interval {
        /// The interval in the packet.
        theirs: Duration,
        /// Our interval.
        ours: Duration,
    },
    /// With our own primary address: our own packet come back, or a duplicate address.
    #[error("with our own address as its source")]
    OwnAddress,
}

impl Rejection {
    /// Whether the same field is wrong, whatever its value.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Malformed(a), Self::Malformed(b)) => discriminant(a) == discriminant(b),
            (a, b) => discriminant(a) == discriminant(b),
        }
    }
}

/// An advertisement that is heeded, with what its packet tells of the neighbour's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judged {
    /// What it says.
    pub advertisement: Advertisement,
    /// Which reading of the version 3 checksum over IPv4 the neighbour uses; `None` where there is
    /// only one, or where both give the same sum. A keepalived whose reading differs from
    /// [`Config::checksum`] refuses what we send, and becomes a second master.
    pub dialect: Option<ChecksumDialect>,
    /// The stamp of a verified trailer; `None` without one. It has to be greater than the last one
    /// heeded from the same sender, or the packet is a replay: whoever keeps state per neighbour
    /// compares.
    pub stamp: Option<u64>,
}

/// Reads a packet and says whether a virtual router with `config` heeds it.
///
/// A list of addresses that differs from ours, and in version 3 an interval that differs, are no
/// reason to refuse: refusing makes a second master (RFC 9568 §7.1 leaves the list to us).
///
/// # Errors
/// The first reason not to, in the order in which a person would look for it.
pub fn judge(config: &Config, datagram: &Datagram) -> Result<Judged, Rejection> {
    match datagram.protocol {
        PROTOCOL => (),
        PROTOCOL_AH => {
            return Err(Rejection::AuthenticationHeader { ours: config.authentication.kind() });
        }
        other => return Err(Rejection::Protocol(other)),
    }
    let group = config.family.group();
    if datagram.endpoints.destination() != group {
        let theirs = datagram.endpoints.destination();
        return Err(Rejection::Destination { theirs, ours: group });
    }
    if datagram.ttl != TTL {
        return Err(Rejection::Ttl(datagram.ttl));
    }
    let advertisement = Advertisement::decode(&datagram.payload, &datagram.endpoints).map_err(
        |error| match error {
            DecodeError::Version(theirs) => {
                Rejection::Version { theirs, ours: config.version.number() }
            }
            DecodeError::Length { .. }
            | DecodeError::Type(_)
            | DecodeError::Checksum { .. }
            | DecodeError::Vrid
            | DecodeError::Interval => Rejection::Malformed(error),
        },
    )?;
    compare(config, &advertisement)?;
    Ok(Judged { advertisement, dialect: None, stamp: None })
}

fn compare(config: &Config, advertisement: &Advertisement) -> Result<(), Rejection> {
    if advertisement.vrid != config.vrid {
        let (theirs, ours) = (advertisement.vrid.value(), config.vrid.value());
        return Err(Rejection::Vrid { theirs, ours });
    }
    match (config.version, advertisement.format) {
        (Version::V3, Format::V3) => Ok(()),
        (Version::V2, Format::V2(theirs)) => {
            compare_authentication(&AuthenticationData::of(&config.authentication), &theirs)?;
            let (theirs, ours) = (advertisement.interval, config.advertisement_interval);
            if theirs == ours { Ok(()) } else { Err(Rejection::Interval { theirs, ours }) }
        }
        (Version::V2, Format::V3) | (Version::V3, Format::V2(_)) => Err(Rejection::Version {
            theirs: advertisement.version().number(),
            ours: config.version.number(),
        }),
    }
}

/// Type 0 has no data to compare: RFC 3768 §5.3.10 has receivers ignore it.
fn compare_authentication(
    ours: &AuthenticationData,
    theirs: &AuthenticationData,
) -> Result<(), Rejection> {
    if ours.kind != theirs.kind {
        return Err(Rejection::AuthenticationType { theirs: theirs.kind, ours: ours.kind });
    }
    let difference = ours.data.iter().zip(theirs.data).fold(0, |all, (a, b)| all | (a ^ b));
    if ours.kind == 0 || difference == 0 { Ok(()) } else { Err(Rejection::Password) }
}

fn authentication_name(kind: u8) -> &'static str {
    match kind {
        0 => "0 (none)",
        1 => "1 (password)",
        2 => "2 (AH)",
        _ => "unknown",
    }
}
