//! What one virtual router is told: identity, priority, timers, addresses.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::time::Duration;

/// The settings of one virtual router on one interface (RFC 9568 §6.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Identity on the link, with [`Config::family`].
    pub vrid: Vrid,
    /// Protocol version sent and expected.
    pub version: Version,
    /// Address family of the advertisements and of [`Config::addresses`].
    pub family: Family,
    /// Priority in the election.
    pub priority: Priority,
    /// Whether a router of higher priority takes mastership from a working master.
    pub preempt: bool,
    /// Time between advertisements: whole seconds 1 to 255 in version 2, 10 ms to 40.95 s in
    /// steps of 10 ms in version 3.
    pub advertisement_interval: Duration,
    /// How advertisements are authenticated; version 3 has none.
    pub authentication: Authentication,
    /// The virtual addresses that are advertised, at most 255, in the order of the configuration.
    pub addresses: Vec<IpAddr>,
}

/// A virtual router identifier, 1 to 255.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Vrid(pub NonZeroU8);

impl Vrid {
    /// `None` for 0.
    pub fn new(value: u8) -> Option<Self> {
        NonZeroU8::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn value(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A configured priority, 1 to 255; 255 is the address owner (RFC 9568 §5.2.4). Priority 0 exists
/// only on the wire and means that the master has stopped.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Priority(pub NonZeroU8);

impl Priority {
    /// The priority of a router that is not told any (RFC 9568 §6.1).
    pub const DEFAULT: Self = Self(NonZeroU8::new(100).unwrap());
    /// The priority of the router that owns the addresses.
    pub const OWNER: Self = Self(NonZeroU8::MAX);

    /// `None` for 0.
    pub fn new(value: u8) -> Option<Self> {
        NonZeroU8::new(value).map(Self)
    }

    /// The number on the wire.
    pub fn value(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The protocol version.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// RFC 3768: IPv4, whole seconds.
    V2,
    /// RFC 9568: IPv4 and IPv6, centiseconds.
    V3,
}

impl Version {
    /// The version number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// The address family of a virtual router.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// IPv4, group 224.0.0.18.
    Ipv4,
    /// IPv6, group `ff02::12`.
    Ipv6,
}

/// How advertisements are authenticated (RFC 2338 §5.3.6).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authentication {
    /// Type 0.
    None,
    /// Type 1: a password in clear. It stops accidents, not attackers.
    Pass(Password),
}

impl Authentication {
    /// The authentication type on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Pass(_) => 1,
        }
    }
}

/// A password of type 1, cut to 8 bytes and padded with zeros as keepalived does.
///
/// Compared in constant time and never shown by `Debug`.
#[derive(Clone)]
pub struct Password([u8; 8]);

/// The password is empty.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the password is empty")]
pub struct InvalidPassword;

impl Password {
    /// Takes the first 8 bytes of `text`.
    ///
    /// # Errors
    /// When `text` is empty.
    pub fn new(text: &str) -> Result<Self, InvalidPassword> {
        if text.is_empty() {
            return Err(InvalidPassword);
        }
        let mut bytes = [0; 8];
        let used = text.len().min(8);
        bytes[..used].copy_from_slice(&text.as_bytes()[..used]);
        Ok(Self(bytes))
    }

    /// The 8 bytes on the wire.
    pub fn bytes(&self) -> [u8; 8] {
        self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}
