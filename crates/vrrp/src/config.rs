//! What one virtual router is told: identity, priority, timers, addresses.

use std::collections::BTreeMap;
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
    /// How long a working master of lower priority is let be before it is replaced, counted from
    /// its first advertisement heard; 0 to 1000 s. A dead master is replaced at once.
    pub preempt_delay: Duration,
    /// Time between advertisements: whole seconds 1 to 255 in version 2, 10 ms to 40.95 s in
    /// steps of 10 ms in version 3.
    pub advertisement_interval: Duration,
    /// How advertisements are authenticated; version 3 has none.
    pub authentication: Authentication,
    /// A signature after every advertisement, of either version; `None` neither signs nor looks.
    pub trailer: Option<Trailer>,
    /// Which checksum version 3 sends over IPv4; either is accepted.
    pub checksum: ChecksumDialect,
    /// To whom advertisements go and from whom they are heeded.
    pub transport: Transport,
    /// What to do instead of taking over while a neighbour is heard and not understood.
    pub misunderstood: WhenMisunderstood,
    /// How long after its start a router that has heard nothing for its VRID elects itself at the
    /// earliest; 0 for as soon as the master down interval has passed. An address owner does not
    /// wait.
    pub startup_limit: Duration,
    /// The virtual addresses that are advertised, at most 255, in the order of the configuration.
    pub addresses: Vec<IpAddr>,
}

impl Config {
    /// The defaults of RFC 9568 §6.1: priority 100, preempting, an advertisement each second to the
    /// group, no authentication, no addresses yet.
    pub fn new(vrid: Vrid, version: Version, family: Family) -> Self {
        Self {
            vrid,
            version,
            family,
            priority: Priority::DEFAULT,
            preempt: true,
            preempt_delay: Duration::ZERO,
            advertisement_interval: Duration::from_secs(1),
            authentication: Authentication::None,
            trailer: None,
            checksum: ChecksumDialect::PseudoHeader,
            transport: Transport::Multicast,
            misunderstood: WhenMisunderstood::TakeOver,
            startup_limit: Duration::ZERO,
            addresses: Vec::new(),
        }
    }
}

/// Which reading of the version 3 checksum over IPv4 is sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ChecksumDialect {
    /// Over the pseudo header and the message: RFC 5798 as keepalived, FRR and wireshark read it.
    #[default]
    PseudoHeader,
    /// Over the message alone: RFC 9568 §5.2.8.
    MessageAlone,
}

/// To whom advertisements go and from whom they are heeded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Transport {
    /// The family's group on the link; TTL 255 both ways (RFC 9568 §5.1.1.3).
    #[default]
    Multicast,
    /// Each peer by itself, for networks without multicast. No RFC describes it; keepalived's
    /// habits are followed.
    Unicast {
        /// The other routers, none twice, of the family of the virtual router.
        peers: Vec<IpAddr>,
        /// TTL or hop limit sent, 1 to 255.
        ttl: u8,
        /// Least TTL or hop limit heeded; 0 for any, because a peer may be some hops away and
        /// keepalived sends 64 over IPv6.
        minimum_ttl: u8,
    },
}

/// What a backup does when its master down timer fires and a neighbour has been heard for our VRID
/// whose advertisements it had to refuse.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WhenMisunderstood {
    /// Takes over all the same, as the RFC has it: two masters are possible.
    #[default]
    TakeOver,
    /// Stays backup and says so. Whoever can send to the link can then keep this router from
    /// taking over.
    StayBackup,
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
    /// Type 2: an IP authentication header around the advertisement, HMAC-MD5-96 keyed with the
    /// password and numbered against replay (RFC 2402, RFC 2403).
    Header(Password),
}

impl Authentication {
    /// The authentication type on the wire.
    pub fn kind(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Pass(_) => 1,
            Self::Header(_) => 2,
        }
    }
}

/// A password of type 1 or the key of type 2, cut to 8 bytes and padded with zeros as keepalived does.
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

    pub(crate) fn is(&self, bytes: [u8; 8]) -> bool {
        self.0.iter().zip(bytes).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    /// The 8 bytes on the wire.
    pub fn bytes(&self) -> [u8; 8] {
        self.0
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0)
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// How advertisements are signed and what is asked of the neighbours' signatures: keepalived 2.4's
/// `auth_hmac`. All routers of a VRID share the keys, and the time of day.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trailer {
    /// Which of the keys signs.
    pub key_id: KeyId,
    /// What it signs with.
    pub key: TrailerKey,
    /// Keys that are heeded too, so that a new one can be rolled out router by router.
    pub other_keys: BTreeMap<KeyId, TrailerKey>,
    /// What is sent and what is heeded.
    pub mode: TrailerMode,
    /// How far the stamp may be from our time of day, in whole seconds, 1 s to 300 s; `None` for
    /// three advertisement intervals, at least 5 s.
    pub freshness: Option<Duration>,
}

impl Trailer {
    /// Signs and insists on signatures, with one key.
    pub fn new(key_id: KeyId, key: TrailerKey) -> Self {
        let other_keys = BTreeMap::new();
        Self { key_id, key, other_keys, mode: TrailerMode::Enforce, freshness: None }
    }

    /// The freshness in force at this interval.
    pub fn freshness(&self, advertisement_interval: Duration) -> Duration {
        self.freshness.unwrap_or((advertisement_interval * 3).max(LEAST_DEFAULT_FRESHNESS))
    }

    /// The key of that number.
    pub(crate) fn key_of(&self, id: u8) -> Option<&TrailerKey> {
        let id = KeyId::new(id)?;
        if id == self.key_id { Some(&self.key) } else { self.other_keys.get(&id) }
    }
}

/// The steps in which signatures are introduced without losing an advertisement.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TrailerMode {
    /// Signs nothing; a signature that is there has to be right.
    ReceiveOnly,
    /// Signs; a signature that is there has to be right.
    Permissive,
    /// Signs, and heeds nothing without a right signature.
    #[default]
    Enforce,
}

/// The number of a signing key on the wire, 1 to 255.
pub type KeyId = NonZeroU8;

/// A signing key of 32 to 64 bytes.
///
/// Compared in constant time and never shown by `Debug`.
#[derive(Clone)]
pub struct TrailerKey(Vec<u8>);

/// A signing key is too short or too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a key of {length} bytes, it must have 32 to 64")]
pub struct InvalidTrailerKey {
    /// Its bytes.
    pub length: usize,
}

impl TrailerKey {
    /// Takes the bytes as they are.
    ///
    /// # Errors
    /// When there are fewer than 32 or more than 64.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidTrailerKey> {
        match bytes.len() {
            32..=64 => Ok(Self(bytes.to_vec())),
            length => Err(InvalidTrailerKey { length }),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for TrailerKey {
    fn eq(&self, other: &Self) -> bool {
        let differing = self.0.iter().zip(&other.0).fold(0, |all, (a, b)| all | (a ^ b));
        self.0.len() == other.0.len() && differing == 0
    }
}

impl Eq for TrailerKey {}

impl fmt::Debug for TrailerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrailerKey(…)")
    }
}

/// The least freshness where none is configured.
const LEAST_DEFAULT_FRESHNESS: Duration = Duration::from_secs(5);
