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

use super::{Action, Commit, CommitPart, CommitReport, Planned};
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
    /// Where the internal cache has it.
    slot: Slot,
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

/// The walk over the internal cache once everything else has been committed.
#[derive(Debug, Default)]
pub(super) struct LeftOvers {
    next: Slot,
    /// Handed out.
    found: u64,
}

impl LeftOvers {
    #[cfg(test)]
    pub(super) fn looked_at(&self) -> u64 {
        self.next.into()
    }

    /// How many there are, as far as is known.
    pub(super) fn len(&self) -> u64 {
        self.found
    }
}

impl Commit {
    pub(super) fn find_left_over(
        &mut self,
        replicator: &Replicator,
        now: Instant,
    ) -> Option<Planned> {
        // What is known may change during the walk.
        if self.part == CommitPart::Expectations || !replicator.knows_what_lives() {
            return None;
        }
        while self.left_overs.next < replicator.internal().table.slots() {
            self.looks.take()?;
            let slot = self.left_overs.next;
            self.left_overs.next += 1;
            if let Some(planned) = plan_removal(replicator, slot, now) {
                self.left_overs.found += 1;
                self.progress.total += 1;
                return Some(planned);
            }
        }
        None
    }
}

/// `None` when the flow is not left over.
fn plan_removal(replicator: &Replicator, slot: Slot, now: Instant) -> Option<Planned> {
    let internal = replicator.internal();
    let entry = internal.table.get(slot)?;
    if !entry.stage.is_alive() || !replicator.outlived(entry.past) {
        return None;
    }
    let flow = entry.stored.flow();
    if replicator.external().knows(&Key::of(&flow)) || !replicator.would_be_told(&flow) {
        return None;
    }
    let found = entry.past == Past::Found;
    let read_with_s = entry.stored.timeout_s().filter(|_| found);
    let age_s = replicator.seconds(now).saturating_sub(internal.read_at_s(entry));
    // By its identifier, so that a newer one of the same tuple is left alone.
    let mut planned = Planned::new(Action::Delete, flow, None);
    planned.left_over = Some(LeftOver { slot, read_with_s, age_s });
    Some(planned)
}

impl CommitReport {
    /// A flow is not in the kernel any more.
    pub(super) fn note_removed(&mut self, planned: &Planned) {
        if let Some(LeftOver { slot, .. }) = planned.left_over {
            self.removed.push((slot, Key::of(&planned.flow)));
        }
    }
}
