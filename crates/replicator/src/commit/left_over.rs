//! What only this router's kernel still has from before: a takeover removes it.
//!
//! A router that comes back finds the flows of its earlier life in its kernel. Those that have
//! ended meanwhile at the router that served are not in its copy of that router's flows. Were they
//! kept, the takeover would tell everybody that they live.

use super::{Action, Commit, CommitPart, Planned};
use crate::key::Key;
use crate::replicator::Replicator;
use crate::table::Slot;

/// Flows that are to be looked at once everything else has been committed.
#[derive(Debug, Default)]
pub(super) struct LeftOvers {
    /// `None` before the first look.
    slots: Option<Vec<Slot>>,
    next: usize,
}

impl LeftOvers {
    /// How many there are, as far as is known.
    pub(super) fn len(&self) -> usize {
        self.slots.as_ref().map_or(0, Vec::len)
    }
}

impl Commit {
    pub(super) fn find_left_over(&mut self, replicator: &Replicator) -> Option<Planned> {
        if self.part == CommitPart::Expectations {
            return None;
        }
        if self.left_overs.slots.is_none() {
            let known = replicator.knows_what_lives();
            let slots = if known { replicator.left_overs() } else { Vec::new() };
            self.left_overs.slots = Some(slots);
            self.progress.total += self.left_overs.len() as u64;
        }
        // The peer may have told of it since the first look.
        while let Some(slot) = self.left_overs.slots.as_ref()?.get(self.left_overs.next).copied() {
            self.left_overs.next += 1;
            if replicator.is_left_over_at(slot) {
                return replicator.internal().table.get(slot).map(|entry| {
                    // By its identifier, so that a newer one of the same tuple is left alone.
                    Planned::new(Action::Delete, entry.stored.flow(), None).left_over()
                });
            }
            self.progress.done += 1;
        }
        None
    }
}

impl Replicator {
    /// The flows of the internal cache that a takeover removes if
    /// [`Replicator::knows_what_lives`].
    pub(crate) fn left_overs(&self) -> Vec<Slot> {
        (0..self.internal().table.slots()).filter(|slot| self.is_left_over_at(*slot)).collect()
    }

    /// Whether nothing but the kernel's table says that this flow lives, though the peers would have
    /// told it if it did.
    pub(crate) fn is_left_over_at(&self, slot: Slot) -> bool {
        let Some(entry) = self.internal().table.get(slot) else { return false };
        if !entry.stage.is_alive() || !self.outlived(entry.past) {
            return false;
        }
        let flow = entry.stored.flow();
        self.external().table.find(&Key::of(&flow)).is_none() && self.would_be_told(&flow)
    }
}
