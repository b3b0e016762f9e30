//! Entries of the external cache that a peer speaks of no more are dropped, a piece at a time, so
//! that nobody waits for a large cache.

use std::time::{Duration, Instant};

use super::Replicator;
use crate::table::Slot;

/// Places of the cache that one piece looks at.
pub(super) const PIECE: Slot = 2_048;

/// Time between two pieces.
const PAUSE: Duration = Duration::from_millis(1);

impl Replicator {
    /// Drops the peer's entries that it has not spoken of since `generation` began: those of a small
    /// cache at once.
    pub(super) fn sweep(&mut self, index: u8, generation: u16, now: Instant) {
        self.external.begin_sweep(index, generation);
        if self.sweeps_on_at.is_none() {
            self.sweep_on(now);
        }
    }

    /// Another piece.
    pub(super) fn sweep_on(&mut self, now: Instant) {
        self.counters.external_swept += self.external.sweep_on(PIECE) as u64;
        self.sweeps_on_at = self.external.is_sweeping().then(|| now + PAUSE);
    }

    /// All of it. What the kernel of a router that stands by there has of what is swept is known
    /// only afterwards.
    pub(super) fn finish_sweeps(&mut self) {
        while self.external.is_sweeping() {
            self.counters.external_swept += self.external.sweep_on(PIECE) as u64;
        }
    }
}
