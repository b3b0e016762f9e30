//! Whether a working master of lower priority may be replaced: not before its flows are here.
//!
//! A router that comes back and takes over at once cuts every connection whose flow it does not know
//! yet. It waits until the replicator says that all have arrived, or as long as the configuration
//! lets it. A dead master is another matter, and is replaced with what is there.

use std::time::{Duration, Instant};

/// What preemption waits for in one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preemption {
    /// Without replication there is nothing to wait for.
    replicated: bool,
    limit: Option<Duration>,
    in_sync: bool,
    /// Since when the group is a backup whose peer's flows are missing.
    missing_since: Option<Instant>,
    is_over_limit: bool,
}

impl Preemption {
    pub(crate) fn new(replicated: bool, limit: Option<Duration>) -> Self {
        Self { replicated, limit, in_sync: false, missing_since: None, is_over_limit: false }
    }

    pub(crate) fn is_replicated(&self) -> bool {
        self.replicated
    }

    /// Whether a peer holds all flows of the group, or this router all of the peer's.
    pub(crate) fn is_in_sync(&self) -> bool {
        self.in_sync
    }

    pub(crate) fn allowed(&self) -> bool {
        !self.replicated || self.in_sync || self.is_over_limit
    }

    /// When the wait ends although the flows have not arrived.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let since = self.missing_since.filter(|_| !self.is_over_limit)?;
        Some(since + self.limit?)
    }

    /// Since when it has been waiting, while it does.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.missing_since.filter(|_| !self.is_over_limit)
    }

    /// Takes another limit.
    pub(crate) fn limit(&mut self, limit: Option<Duration>) {
        self.limit = limit;
        self.is_over_limit &= limit.is_some();
    }

    /// The group has become backup.
    pub(crate) fn backup(&mut self, now: Instant) {
        if self.replicated && !self.in_sync {
            self.missing_since.get_or_insert(now);
        }
    }

    /// The group is no longer backup: the next time begins anew.
    pub(crate) fn no_backup(&mut self) {
        self.missing_since = None;
        self.is_over_limit = false;
    }

    /// Takes whether all flows have arrived, in a group that is backup or not.
    pub(crate) fn in_sync(&mut self, in_sync: bool, is_backup: bool, now: Instant) {
        if self.in_sync == in_sync {
            return;
        }
        self.in_sync = in_sync;
        self.no_backup();
        if is_backup {
            self.backup(now);
        }
    }

    /// Ends the wait that is over.
    pub(crate) fn timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|at| at <= now) {
            self.is_over_limit = true;
        }
    }
}
