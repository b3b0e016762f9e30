//! Every default, in one place; `docs/reference/configuration.md` names each.

use std::time::Duration;

use lockstep_replicator::Mode;
use lockstep_vrrp::{Priority, Version};

/// The router's name when it is not told one and the host has none.
pub(crate) const ROUTER_ID: &str = "localhost";

/// Time between advertisements (RFC 9568 §6.1).
pub(crate) const ADVERTISEMENT_INTERVAL: Duration = Duration::from_secs(1);
/// Priority in the election (RFC 9568 §6.1).
pub(crate) const PRIORITY: Priority = Priority::DEFAULT;
/// Whether a higher priority takes over from a working master (RFC 9568 §6.1).
pub(crate) const PREEMPT: bool = true;
/// Protocol version: the current one, for both families.
pub(crate) const VERSION: Version = Version::V3;

/// Time from start to start of a check; also its timeout unless one is set.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Successes in a row that end a failure.
pub(crate) const RISE: u32 = 1;
/// Failures in a row that make one.
pub(crate) const FALL: u32 = 1;

/// conntrackd's reliable mode.
pub(crate) const MODE: Mode = Mode::Ftfw;
/// conntrackd's `ACKWindowSize`.
pub(crate) const ACK_WINDOW: u32 = 300;
/// conntrackd's `ResendQueueSize`.
pub(crate) const RESEND_QUEUE: usize = 131_072;
/// Flows in each cache.
pub(crate) const CACHE_LIMIT: usize = 1_000_000;
/// conntrackd's `PurgeTimeout`.
pub(crate) const PURGE_TIMEOUT: Duration = Duration::from_mins(1);
/// Receive buffer of the kernel's events, in bytes.
pub(crate) const EVENT_BUFFER: usize = 8 * 1024 * 1024;
/// conntrackd's usual UDP port.
pub(crate) const REPLICATION_PORT: u16 = 3780;
/// Whether datagrams to the peer carry a checksum.
pub(crate) const CHECKSUM: bool = true;
