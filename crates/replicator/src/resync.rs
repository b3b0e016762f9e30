//! Whether the peer's flows have arrived in full, and how that is found out.
//!
//! The wire has no mark for the end of a full copy. It is known nevertheless: the peer
//! acknowledges our request only after the flows that answer it, and every NACK of ours only after
//! what it repeated. So the copy is complete when the request and all NACKs are acknowledged
//! (`docs/decisions/0003-end-of-a-resync.md`).

use std::time::{Duration, Instant};

/// How long a resync may go without a flow, and how long it may take, before it is asked for again.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_mins(2));

/// Least and most time between attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Where the copy of the peer's flows stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Resync {
    /// Not needed: this router is active.
    Unneeded,
    /// To be asked for, not before `at`.
    Wanted { at: Option<Instant>, cause: Cause, attempts: u32 },
    /// Asked for.
    Asked { generation: u32, asked_at: Instant, progress_at: Instant, cause: Cause, attempts: u32 },
    /// Arrived; what was not in it is being dropped.
    Sweeping,
    /// Arrived.
    Complete,
}

/// Time before the next attempt after so many.
pub(crate) fn pause(attempts: u32) -> Duration {
    RETRY.0.saturating_mul(1 << attempts.min(6)).min(RETRY.1)
}

/// What made a resync necessary.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// The peer was heard for the first time or after a silence.
    Appeared,
    /// The peer has started again, so it may know less than it has told.
    Restarted,
    /// This router has become backup.
    Role,
    /// Messages were lost in a mode that does not repeat them.
    Lost,
    /// Another peer stands by, and has told flows that this one may serve now.
    Succession,
    /// Flows were refused for want of room, and there is room again.
    Room,
    /// A person asked.
    Command,
}

impl Resync {
    pub(crate) fn wanted(cause: Cause) -> Self {
        Self::Wanted { at: None, cause, attempts: 0 }
    }

    /// To be asked for at a time.
    pub(crate) fn later(cause: Cause, at: Instant) -> Self {
        Self::Wanted { at: Some(at), cause, attempts: 0 }
    }

    /// Asks again after something was lost for good, waiting longer each time.
    pub(crate) fn again(cause: Cause, attempts: u32, now: Instant) -> Self {
        Self::Wanted { at: Some(now + pause(attempts)), cause, attempts: attempts + 1 }
    }

    /// Whether the peer has told everything.
    pub(crate) fn has_arrived(&self) -> bool {
        matches!(self, Self::Sweeping | Self::Complete)
    }

    /// When to look again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Wanted { at, .. } => *at,
            Self::Asked { asked_at, progress_at, .. } => {
                Some((*progress_at + PATIENCE.0).min(*asked_at + PATIENCE.1))
            }
            Self::Unneeded | Self::Sweeping | Self::Complete => None,
        }
    }
}
