//! Which flows the kernel has to be asked about, because it tells no event of what changes.
//!
//! A NAT helper that rewrites addresses inside a TCP stream shifts its sequence numbers. The kernel
//! keeps the shift with the flow and tells nobody. So flows on which that can happen are looked at
//! again and again while this router serves. A second line is for flows that were told late,
//! because their state was not among the replicated ones before: their first event has been left
//! out, and with it what later events do not repeat.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Flow, Status};

use crate::internal::{Internal, Local};
use crate::table::Slot;

/// Time between two looks at a flow.
const INTERVAL: Duration = Duration::from_secs(1);

/// Most flows that are looked at again and again.
const MAX_WATCHED: usize = 4096;

/// Most flows that wait for their one look.
const MAX_LATE: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct Refresh {
    /// In the order in which they fall due.
    line: VecDeque<(Instant, Slot)>,
    watched: BTreeSet<Slot>,
    late: VecDeque<Slot>,
}

impl Refresh {
    /// Looks at this flow from now on; `false` when there are too many.
    pub(crate) fn watch(&mut self, slot: Slot, now: Instant) -> bool {
        if self.watched.contains(&slot) {
            return true;
        }
        if self.watched.len() >= MAX_WATCHED {
            return false;
        }
        self.watched.insert(slot);
        self.line.push_back((now + INTERVAL, slot));
        true
    }

    /// Looks at this flow once, soon; `false` when too many wait.
    pub(crate) fn look_once(&mut self, slot: Slot) -> bool {
        if self.late.len() >= MAX_LATE {
            return false;
        }
        self.late.push_back(slot);
        true
    }

    /// The next flow to look at, which may be a living one only.
    pub(crate) fn next(&mut self, internal: &Internal, now: Instant) -> Option<Slot> {
        while let Some(slot) = self.late.pop_front() {
            if internal.table.get(slot).is_some_and(|entry| entry.stage.is_alive()) {
                return Some(slot);
            }
        }
        loop {
            let (_, slot) = self.line.pop_front_if(|(at, _)| *at <= now)?;
            if internal.table.get(slot).is_some_and(is_watched) {
                self.line.push_back((now + INTERVAL, slot));
                return Some(slot);
            }
            self.watched.remove(&slot);
        }
    }

    /// When [`Refresh::next`] has something to say.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        if !self.late.is_empty() {
            return Some(now);
        }
        self.line.front().map(|(at, _)| *at)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Whether the flow, as the kernel told it, may be one to watch.
pub(crate) fn may_shift(flow: &Flow) -> bool {
    flow.orig.protocol == TCP
        && (flow.helper.is_some() || flow.status.contains(Status::SEQ_ADJUST))
        && is_shifted_or_translated(flow.status)
}

fn is_watched(entry: &Local) -> bool {
    let status = entry.stored.status();
    entry.stage.is_alive()
        && entry.stored.key().protocol == TCP
        && (entry.stored.has_helper() || status.contains(Status::SEQ_ADJUST))
        && is_shifted_or_translated(status)
}

fn is_shifted_or_translated(status: Status) -> bool {
    status.0 & (Status::SRC_NAT | Status::DST_NAT | Status::SEQ_ADJUST) != 0
}

const TCP: u8 = 6;
