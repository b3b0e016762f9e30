//! The advertisement: bytes ⇄ meaning (RFC 3768 §5, RFC 9568 §5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |Version| Type 1|      VRID     |   Priority    | Address count |
//! +-------+-------+---------------+---------------+---------------+
//! | v2: auth type | v2: seconds   |            Checksum           |
//! | v3: reserved (4) and centis.  |                               |
//! +---------------+---------------+-------------------------------+
//! |                  Addresses (4 or 16 bytes each)               |
//! +---------------------------------------------------------------+
//! |                v2 only: authentication data (8)               |
//! +---------------------------------------------------------------+
//! ```

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::checksum;
use crate::config::{Authentication, ChecksumDialect, Config, Family, Version, Vrid};
use crate::packet::Endpoints;

/// Most addresses in one advertisement: the count has 8 bits.
pub const MAX_ADDRESSES: usize = 255;

/// What a router says of itself on the link.
///
/// Holds whatever the wire can carry, sensible or not; [`crate::judge`] says whether it is heeded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertisement {
    /// Which virtual router it speaks for, with the family of the packet.
    pub vrid: Vrid,
    /// 0 (the master stops) to 255 (address owner).
    pub priority: u8,
    /// Time between advertisements, whole seconds in version 2, 10 ms steps in version 3; never
    /// zero.
    pub interval: Duration,
    /// The version, with what only that version has.
    pub format: Format,
    /// The virtual addresses, in the order of the wire.
    pub addresses: Vec<IpAddr>,
}

/// The version of an advertisement, with what only that version has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// RFC 3768.
    V2(AuthenticationData),
    /// RFC 9568: no authentication.
    V3,
}

/// Authentication type and data of version 2; both are always on the wire.
///
/// The data is a password when the type is 1, so `Debug` does not show it.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct AuthenticationData {
    /// 0 none, 1 simple password, 2 IP authentication header; others kept as they came.
    pub kind: u8,
    /// The 8 bytes after the addresses, zero unless the type is 1.
    pub data: [u8; 8],
    /// The number in the authentication header; 0 without one.
    pub sequence: u32,
}

/// Why some bytes are no advertisement.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Not even the fixed part is there, or not all that the address count promises.
    #[error("{length} bytes, an address count of {count} needs {expected}")]
    Length {
        /// Bytes received.
        length: usize,
        /// Bytes needed.
        expected: usize,
        /// The address count received, 0 when it was not reached.
        count: u8,
    },
    /// Neither 2 nor 3, or 2 over IPv6, which has no such version.
    #[error("version {0}")]
    Version(u8),
    /// The only type is 1.
    #[error("type {0}, only 1 (advertisement) is defined")]
    Type(u8),
    /// Damaged, or summed by other rules.
    #[error("checksum {received:#06x}, it should be {expected:#06x}")]
    Checksum {
        /// In the packet.
        received: u16,
        /// As computed; over IPv4 in version 3, with a pseudo header.
        expected: u16,
    },
    /// VRIDs begin with 1.
    #[error("VRID 0")]
    Vrid,
    /// An interval of zero would make every backup elect itself at once, for ever.
    #[error("an advertisement interval of 0")]
    Interval,
}

impl Advertisement {
    /// The version number it is sent with.
    pub fn version(&self) -> Version {
        match self.format {
            Format::V2(_) => Version::V2,
            Format::V3 => Version::V3,
        }
    }

    /// What `config` makes a router advertise, with `priority` (0: the master stops).
    pub fn of(config: &Config, priority: u8) -> Self {
        Self {
            vrid: config.vrid,
            priority,
            interval: config.advertisement_interval,
            format: match config.version {
                Version::V2 => Format::V2(AuthenticationData::of(&config.authentication)),
                Version::V3 => Format::V3,
            },
            addresses: config.addresses.clone(),
        }
    }

    /// Reads the payload of an IP packet; `endpoints` are part of the checksum in version 3.
    ///
    /// Bytes after the last field are ignored: Ethernet padding, or a trailer of a newer peer.
    /// In version 3 over IPv4 the checksum may include the pseudo header (RFC 5798) or leave it
    /// out (RFC 9568 §5.2.8): both are in the field.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order version, type, length, checksum, VRID, interval.
    pub fn decode(payload: &[u8], endpoints: &Endpoints) -> Result<Self, DecodeError> {
        Ok(Decoded::read(payload, endpoints)?.advertisement)
    }

    /// The payload of an IP packet between `endpoints`, with its checksum.
    ///
    /// In version 3 over IPv4 the checksum includes the pseudo header, which is what keepalived
    /// accepts; [`Advertisement::encode_in`] has the choice. An interval the version cannot express
    /// becomes the nearest it can. Addresses of the other family, and those after the first 255,
    /// are left out.
    pub fn encode(&self, endpoints: &Endpoints) -> Vec<u8> {
        self.encode_in(ChecksumDialect::PseudoHeader, endpoints)
    }

    /// As [`Advertisement::encode`], with either reading of the checksum.
    pub fn encode_in(&self, dialect: ChecksumDialect, endpoints: &Endpoints) -> Vec<u8> {
        let mut message = self.unsummed(endpoints.family(), MAX_ADDRESSES);
        checksum::fill_in(self.version(), dialect, &mut message, endpoints);
        message
    }

    /// As sent, with a checksum of 0 and at most `most` addresses, which is at most 255; the count
    /// says how many.
    pub(crate) fn unsummed(&self, family: Family, most: usize) -> Vec<u8> {
        let fitting = |address: &&IpAddr| Family::of(**address) == family;
        let count = self.addresses.iter().filter(fitting).take(most).count();
        let (byte_4, byte_5) = self.interval_bytes();
        let mut message = Vec::with_capacity(encoded_length(self.version(), family, count));
        message.extend([
            self.version().number() << 4 | TYPE,
            self.vrid.value(),
            self.priority,
            count as u8,
            byte_4,
            byte_5,
            0,
            0,
        ]);
        for address in self.addresses.iter().filter(fitting).take(most) {
            match address {
                IpAddr::V4(address) => message.extend(address.octets()),
                IpAddr::V6(address) => message.extend(address.octets()),
            }
        }
        if let Format::V2(authentication) = self.format {
            message.extend(authentication.data);
        }
        message
    }

    /// Bytes 4 and 5, which mean different things in the two versions.
    fn interval_bytes(&self) -> (u8, u8) {
        match self.format {
            Format::V2(authentication) => {
                (authentication.kind, self.interval.as_secs().clamp(1, 255) as u8)
            }
            Format::V3 => {
                let centiseconds = (self.interval.as_millis() / 10).clamp(1, 0x0fff) as u16;
                let [high, low] = centiseconds.to_be_bytes();
                (high, low)
            }
        }
    }
}

/// An advertisement with what surrounds it in its packet.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<'a> {
    pub(crate) advertisement: Advertisement,
    /// The reading of the checksum, where there are two that differ.
    pub(crate) dialect: Option<ChecksumDialect>,
    /// Its bytes.
    pub(crate) message: &'a [u8],
    /// What follows it.
    pub(crate) rest: &'a [u8],
}

impl<'a> Decoded<'a> {
    /// See [`Advertisement::decode`].
    pub(crate) fn read(payload: &'a [u8], endpoints: &Endpoints) -> Result<Self, DecodeError> {
        let Some(&[version_and_type, vrid, priority, count, byte_4, byte_5, ..]) =
            payload.first_chunk::<FIXED>()
        else {
            let length = payload.len();
            return Err(DecodeError::Length { length, expected: FIXED, count: 0 });
        };
        let version = match (version_and_type >> 4, endpoints.family()) {
            (2, Family::Ipv4) => Version::V2,
            (3, _) => Version::V3,
            (other, _) => return Err(DecodeError::Version(other)),
        };
        if version_and_type & 0xf != TYPE {
            return Err(DecodeError::Type(version_and_type & 0xf));
        }
        let expected = encoded_length(version, endpoints.family(), usize::from(count));
        let Some((message, after)) = payload.split_at_checked(expected) else {
            return Err(DecodeError::Length { length: payload.len(), expected, count });
        };
        let dialect = checksum::verify(version, message, payload, endpoints)
            .map_err(|(received, expected)| DecodeError::Checksum { received, expected })?;
        let vrid = Vrid::new(vrid).ok_or(DecodeError::Vrid)?;
        let (addresses, rest) =
            message[FIXED..].split_at(usize::from(count) * address_length(endpoints.family()));
        let (interval, format) = match version {
            Version::V2 => {
                let data = rest.first_chunk().copied().unwrap_or_default();
                let authentication = AuthenticationData { kind: byte_4, data, sequence: 0 };
                (Duration::from_secs(byte_5.into()), Format::V2(authentication))
            }
            Version::V3 => {
                let centiseconds = u16::from_be_bytes([byte_4, byte_5]) & 0x0fff;
                (Duration::from_millis(u64::from(centiseconds) * 10), Format::V3)
            }
        };
        if interval.is_zero() {
            return Err(DecodeError::Interval);
        }
        let addresses = read_addresses(addresses, endpoints);
        let advertisement = Advertisement { vrid, priority, interval, format, addresses };
        Ok(Self { advertisement, dialect, message, rest: after })
    }
}

impl AuthenticationData {
    /// What goes on the wire for `authentication`.
    pub fn of(authentication: &Authentication) -> Self {
        match authentication {
            Authentication::None | Authentication::Header(_) => {
                Self { kind: authentication.kind(), data: [0; 8], sequence: 0 }
            }
            Authentication::Pass(password) => {
                Self { kind: authentication.kind(), data: password.bytes(), sequence: 0 }
            }
        }
    }
}

impl fmt::Debug for AuthenticationData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationData").field("kind", &self.kind).finish_non_exhaustive()
    }
}

fn read_addresses(bytes: &[u8], endpoints: &Endpoints) -> Vec<IpAddr> {
    match endpoints.family() {
        Family::Ipv4 => {
            let (addresses, _) = bytes.as_chunks::<4>();
            addresses.iter().map(|&octets| IpAddr::V4(Ipv4Addr::from(octets))).collect()
        }
        Family::Ipv6 => {
            let (addresses, _) = bytes.as_chunks::<16>();
            addresses.iter().map(|&octets| IpAddr::V6(Ipv6Addr::from(octets))).collect()
        }
    }
}

/// Bytes of an advertisement with that many addresses.
pub(crate) fn encoded_length(version: Version, family: Family, count: usize) -> usize {
    let authentication = match version {
        Version::V2 => AUTHENTICATION,
        Version::V3 => 0,
    };
    FIXED + count * address_length(family) + authentication
}

fn address_length(family: Family) -> usize {
    match family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 16,
    }
}

/// Bytes before the addresses.
const FIXED: usize = 8;
/// Bytes of authentication data in version 2.
const AUTHENTICATION: usize = 8;
/// The only type there is.
const TYPE: u8 = 1;
