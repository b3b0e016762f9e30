//! What only this router's kernel still has from before: a takeover removes it.
//!
//! A router that comes back finds the flows of its earlier life in its kernel. Those that have
//! ended meanwhile at the router that served are not in its copy of that router's flows. Were they
//! kept, the takeover would tell everybody that they live.
//!
//! A flow that passes this router although it stands by, as in asymmetric routing, is not in that
//! copy either. Its packets show that it lives: they set its timeout again, or change it. What no
//! packet has touched since the table was read cannot be told from what has ended elsewhere.

use std::time::Instant;

use lockstep_ctnetlink::Flow;

use super::{Action, Commit, CommitPart, Planned};
use crate::internal::Past;
use crate::key::Key;
use crate::replicator::Replicator;
use crate::table::Slot;
use crate::timeout::is_parked;

/// Seconds that a timeout may seem to be longer because parts of seconds are not counted.
const ROUNDING_S: u32 = 2;

/// How a flow that is taken to be left over would stand in the kernel if no packet had passed since
/// the table was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LeftOver {
    /// The timeout that it was read with, `None` where that is not known: of what passed this
    /// router while it served.
    read_with_s: Option<u32>,
    /// Seconds since then, at least.
    age_s: u32,
}

impl LeftOver {
    /// Whether what the kernel has now shows that the flow lives, or is another one of the same
    /// tuple.
    pub(super) fn lives(self, flow: &Flow, existing: &Flow) -> bool {
        let another = existing.orig != flow.orig || (flow.id.is_some() && existing.id != flow.id);
        another || is_refreshed(self.read_with_s, existing.timeout_s, self.age_s)
    }
}

/// Whether a timeout `now_s`, `age_s` seconds after it was `before_s`, is one that a packet has set
/// since. A parked one was set by this daemon.
pub(crate) fn is_refreshed(before_s: Option<u32>, now_s: Option<u32>, age_s: u32) -> bool {
    let (Some(before_s), Some(now_s)) = (before_s, now_s) else { return false };
    !is_parked(now_s) && now_s > before_s.saturating_sub(age_s) + ROUNDING_S
}

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
    pub(super) fn find_left_over(
        &mut self,
        replicator: &Replicator,
        now: Instant,
    ) -> Option<Planned> {
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
                let internal = replicator.internal();
                return internal.table.get(slot).map(|entry| {
                    let found = entry.past == Past::Found;
                    let read_with_s = entry.stored.timeout_s().filter(|_| found);
                    let age_s = replicator.seconds(now).saturating_sub(internal.read_at_s(entry));
                    let left_over = Some(LeftOver { read_with_s, age_s });
                    // By its identifier, so that a newer one of the same tuple is left alone.
                    let mut planned = Planned::new(Action::Delete, entry.stored.flow(), None);
                    planned.left_over = left_over;
                    planned
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
