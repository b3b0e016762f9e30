//! Every default, in one place; `docs/reference/configuration.md` names each.

use std::time::Duration;

use lockstep_vrrp::{ChecksumDialect, Priority, Version, WhenMisunderstood};

/// The router's name when it is not told one and the host has none.
pub(crate) const ROUTER_ID: &str = "localhost";

/// Where the daemon keeps what has to outlive it, when neither the file nor the
/// service manager names a directory.
pub const STATE_DIRECTORY: &str = "/var/lib/lockstep";

/// Time between advertisements (RFC 9568 §6.1).
pub(crate) const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Priority in the election (RFC 9568 §6.1).
pub(crate) const PRIORITY: Priority = Priority::DEFAULT;
/// Whether a higher priority takes over from a working master (RFC 9568 §6.1).
pub(crate) const PREEMPT: bool = true;
/// Protocol version: the current one, for both families.
pub(crate) const VERSION: Version = Version::V3;

/// How long a router that has heard nothing since its start waits before it elects itself: a switch
/// port, and the other router's, need about that long until they let anything through.
pub(crate) const STARTUP_LIMIT: Duration = Duration::from_secs(2);
/// A neighbour that is not understood does not keep this router from taking over (RFC 9568).
pub(crate) const WHEN_MISUNDERSTOOD: WhenMisunderstood = WhenMisunderstood::TakeOver;
/// The checksum that keepalived sends unless told otherwise.
pub(crate) const VRRP_CHECKSUM: ChecksumDialect = ChecksumDialect::PseudoHeader;
/// Virtual addresses answer: RFC 9568 §6.1 has it the other way round, which makes a gateway that
/// cannot be pinged and a name server on it that is never heard.
pub(crate) const ACCEPT: bool = true;
/// TTL or hop limit of advertisements to peers.
pub(crate) const UNICAST_TTL: u8 = 255;
/// Least TTL or hop limit heeded from peers: any.
pub(crate) const UNICAST_MINIMUM_TTL: u8 = 0;
/// Processes that must run at least.
pub(crate) const QUORUM: u32 = 1;

/// Time from start to start of a check; also its timeout unless one is set.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Successes in a row that end a failure.
pub(crate) const RISE: u32 = 1;
/// Failures in a row that make one.
pub(crate) const FALL: u32 = 1;

// Those of replication are in `lockstep_replicator::Config::new`.
