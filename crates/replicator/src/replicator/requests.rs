//! What people ask for besides what a role brings: parts of the caches to look at, and the removal
//! of flows from the kernel.

use std::time::Instant;

use lockstep_ctnetlink::Flow;

use super::Replicator;
use crate::commit::Purge;
use crate::event::Role;
use crate::table::Slot;

/// Places of a cache looked at for one part, so that an empty stretch takes no longer than a full one.
const LOOKED_AT: usize = 16_384;

impl Replicator {
    /// Has what our kernel tells now be removed from it when the purge timeout has passed, unless
    /// this router commits or serves before (`conntrackd -t`), whoever serves then. Returns `false`
    /// and does nothing when the time of a purge has not come yet: it may be one that waits until a
    /// peer serves, and scripts ask for it as the role is left.
    pub fn request_purge(&mut self, now: Instant) -> bool {
        if self.purge_asked || self.purge_wanted {
            return true;
        }
        if self.purge_at.is_some() && !self.purge_put_off {
            return false;
        }
        self.purge_asked = true;
        self.purge_put_off = false;
        self.internal.mark_ours(self.seconds(now));
        self.purge_at = Some(now + self.config.purge_timeout);
        true
    }

    /// Begins to remove what our kernel tells from it, whoever serves (`conntrackd -F`). Ends with
    /// [`Replicator::end_purge`]. The peers are told of it by the active router alone: they would
    /// serve with these flows.
    pub fn begin_kernel_flush(&mut self) -> Purge {
        self.internal.mark_ours(0);
        self.tells_removals = self.role == Role::Active;
        Purge::default()
    }

    /// At most `limit` of the flows our kernel has told, each with the seconds since it last
    /// changed, and where the next part begins; the first begins at 0. What changes meanwhile may be
    /// shown or not; the rest is shown once.
    pub fn internal_part(
        &self,
        from: usize,
        limit: usize,
        now: Instant,
    ) -> (Vec<(Flow, u32)>, Option<usize>) {
        let table = &self.internal.table;
        let now_s = self.seconds(now);
        part(table.slots() as usize, from, limit, |slot| {
            let entry = table.get(slot).filter(|entry| entry.stage.is_alive())?;
            Some((entry.stored.flow(), now_s.saturating_sub(entry.changed_s)))
        })
    }

    /// The same of the flows the peers have told.
    pub fn external_part(
        &self,
        from: usize,
        limit: usize,
        now: Instant,
    ) -> (Vec<(Flow, u32)>, Option<usize>) {
        let table = &self.external.table;
        let now_s = self.seconds(now);
        part(table.slots() as usize, from, limit, |slot| {
            let entry = table.get(slot)?;
            Some((entry.stored.flow(), now_s.saturating_sub(entry.heard_s)))
        })
    }
}

fn part<T>(
    slots: usize,
    from: usize,
    limit: usize,
    entry: impl Fn(Slot) -> Option<T>,
) -> (Vec<T>, Option<usize>) {
    let mut found = Vec::new();
    let end = slots.min(from.saturating_add(LOOKED_AT));
    for slot in from..end {
        if found.len() == limit {
            return (found, Some(slot));
        }
        found.extend(entry(slot as Slot));
    }
    (found, (end < slots).then_some(end))
}
