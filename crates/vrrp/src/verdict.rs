//! Whether a received packet is heeded (RFC 9568 §7.1, RFC 3768 §7.1), and if not, why not.

use std::mem::discriminant;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::advertisement::{Advertisement, AuthenticationData, DecodeError, Decoded, Format};
use crate::authentication_header;
use crate::config::{Authentication, ChecksumDialect, Config, Password, Transport, Version};
use crate::packet::{Datagram, PROTOCOL, PROTOCOL_AH, TTL};
use crate::trailer;

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
    /// To somebody else than the group: to one router, where we use multicast, or to another group.
    #[error("to {theirs} ({}), ours is {ours} (multicast)", way(.theirs))]
    Destination {
        /// The destination in the packet.
        theirs: IpAddr,
        /// The group.
        ours: IpAddr,
    },
    /// To a group or to everybody, where we use unicast.
    #[error("to {theirs} ({}), ours is unicast", way(.theirs))]
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
/// What needs memory is left to the virtual router: whether the authentication header's number
/// ([`crate::AuthenticationData::sequence`]) and the trailer's stamp ([`Judged::stamp`]) have grown.
///
/// # Errors
/// The first reason not to, in the order in which a person would look for it.
pub fn judge(config: &Config, datagram: &Datagram) -> Result<Judged, Rejection> {
    let header = match datagram.protocol {
        PROTOCOL => None,
        PROTOCOL_AH => Some(header_password(config, datagram)?),
        other => return Err(Rejection::Protocol(other)),
    };
    check_path(config, datagram)?;
    let (sequence, payload) = match header {
        Some(password) => authentication_header::open(password, datagram)?,
        None => (0, datagram.payload.as_slice()),
    };
    let Decoded { mut advertisement, dialect, message, rest } =
        Decoded::read(payload, &datagram.endpoints).map_err(|error| match error {
            DecodeError::Version(theirs) => {
                Rejection::Version { theirs, ours: config.version.number() }
            }
            DecodeError::Length { .. }
            | DecodeError::Type(_)
            | DecodeError::Checksum { .. }
            | DecodeError::Vrid
            | DecodeError::Interval => Rejection::Malformed(error),
        })?;
    if let Format::V2(authentication) = &mut advertisement.format {
        authentication.sequence = sequence;
    }
    compare(config, &advertisement, header.is_some())?;
    let stamp = match &config.trailer {
        Some(trailer) => {
            let freshness = trailer.freshness(config.advertisement_interval);
            let source = datagram.endpoints.source();
            trailer::verify(trailer, source, message, rest, datagram.received, freshness)?
        }
        None => None,
    };
    let (theirs, ours) = (advertisement.interval, config.advertisement_interval);
    if config.version == Version::V2 && theirs != ours {
        return Err(Rejection::Interval { theirs, ours });
    }
    Ok(Judged { advertisement, dialect, stamp })
}

/// The password of the authentication header, when we use one.
fn header_password<'a>(config: &'a Config, datagram: &Datagram) -> Result<&'a Password, Rejection> {
    match (config.version, &config.authentication) {
        (Version::V2, Authentication::Header(password)) => Ok(password),
        (Version::V2, Authentication::None | Authentication::Pass(_)) => {
            Err(Rejection::AuthenticationHeader { ours: config.authentication.kind() })
        }
        (Version::V3, _) => {
            let inner = datagram.payload.get(authentication_header::LENGTH);
            let (theirs, ours) = (inner.map_or(2, |byte| byte >> 4), Version::V3.number());
            if theirs == ours {
                return Err(Rejection::AuthenticationHeader { ours: 0 });
            }
            Err(Rejection::Version { theirs, ours })
        }
    }
}

/// Whether it came on a way that we listen to: RFC 9568 §5.1.1.3 to the group; to a peer as
/// keepalived has it.
fn check_path(config: &Config, datagram: &Datagram) -> Result<(), Rejection> {
    let destination = datagram.endpoints.destination();
    match &config.transport {
        Transport::Multicast => {
            let group = config.family.group();
            if destination != group {
                return Err(Rejection::Destination { theirs: destination, ours: group });
            }
            if datagram.ttl != TTL {
                return Err(Rejection::Ttl(datagram.ttl));
            }
        }
        Transport::Unicast { peers, minimum_ttl, .. } => {
            if destination.is_multicast() || destination == IpAddr::V4(Ipv4Addr::BROADCAST) {
                return Err(Rejection::Multicast { theirs: destination });
            }
            if !peers.contains(&datagram.endpoints.source()) {
                return Err(Rejection::NotAPeer);
            }
            let (theirs, least) = (datagram.ttl, *minimum_ttl);
            if theirs < least {
                return Err(Rejection::Distance { theirs, least });
            }
        }
    }
    Ok(())
}

fn compare(
    config: &Config,
    advertisement: &Advertisement,
    in_header: bool,
) -> Result<(), Rejection> {
    if advertisement.vrid != config.vrid {
        let (theirs, ours) = (advertisement.vrid.value(), config.vrid.value());
        return Err(Rejection::Vrid { theirs, ours });
    }
    match (config.version, advertisement.format) {
        (Version::V3, Format::V3) => Ok(()),
        (Version::V2, Format::V2(theirs)) => {
            compare_authentication(&config.authentication, &theirs, in_header)
        }
        (Version::V2, Format::V3) | (Version::V3, Format::V2(_)) => Err(Rejection::Version {
            theirs: advertisement.version().number(),
            ours: config.version.number(),
        }),
    }
}

/// Only type 1 has data to compare: RFC 3768 §5.3.10 has receivers ignore it.
fn compare_authentication(
    ours: &Authentication,
    theirs: &AuthenticationData,
    in_header: bool,
) -> Result<(), Rejection> {
    match ours {
        Authentication::Header(_) if !in_header => {
            Err(Rejection::HeaderMissing { theirs: theirs.kind })
        }
        _ if ours.kind() != theirs.kind => {
            Err(Rejection::AuthenticationType { theirs: theirs.kind, ours: ours.kind() })
        }
        Authentication::None | Authentication::Header(_) => Ok(()),
        Authentication::Pass(password) => {
            if password.is(theirs.data) {
                Ok(())
            } else {
                Err(Rejection::Password)
            }
        }
    }
}

fn way(destination: &IpAddr) -> &'static str {
    match destination {
        IpAddr::V4(address) if address.is_broadcast() => "broadcast",
        address if address.is_multicast() => "multicast",
        _ => "unicast",
    }
}

fn authentication_name(kind: u8) -> &'static str {
    match kind {
        0 => "0 (none)",
        1 => "1 (password)",
        2 => "2 (AH)",
        _ => "unknown",
    }
}
