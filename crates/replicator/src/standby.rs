//! What a backup that stands by in its kernel still has to put there, and what it has put.
//!
//! ```text
//!             a peer tells            handed out              the cursor: park again
//!   (nothing) ───────────▶ waiting ───────────────▶ in the kernel ───────────────┐
//!                             ▲  ▲   refused for now     │    ▲                  │
//!                             │  └───────────────────────┘    └──────────────────┘
//!                             └── gone from the kernel, and not by us (paced)
//! ```
//!
//! State is dense by slot of the external cache: a byte for each flow, and four more while it
//! waits. A flow waits once, however often it changes; what is handed out is its newest state. The
//! flows that have ended wait beside, each once in the kernel, and go first: so a tuple that is
//! told again after its end is deleted before it is made anew.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::commit::CommitReport;
use crate::key::Key;
use crate::statistics::Counters;
use crate::table::Slot;

/// Time in which every flow is parked again. A flow is parked for six days.
const PARKING_ROUND: Duration = Duration::from_hours(3);

/// Time between two steps of that round.
const PARKING_STEP: Duration = Duration::from_secs(1);

/// Most flows in a second that are put back after the kernel lost them. A table that is full drops
/// one for each that is put in.
const PUT_BACK_PER_SECOND: u32 = 5_000;

/// Pause after the kernel had no room.
const NO_ROOM: Duration = Duration::from_secs(1);

/// Most flows told during a commit that it still heeds, besides those that waited before.
const MAX_MEANWHILE: usize = 262_144;

/// What is to be done next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// A flow has ended; the peer had last spoken of it then.
    Remove(Key, u32),
    /// The flow of this slot is new or has changed.
    Put(Slot),
    /// The flow of this slot is to be parked again.
    Park(Slot),
}

/// What the kernel has of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Has {
    /// Nothing that was put there here.
    Unknown,
    /// An older state.
    Older,
    /// One with another translation.
    Moved,
}

/// The injection into the kernel of a backup.
#[derive(Debug, Default)]
pub(crate) struct Injection {
    enabled: bool,
    marks: Vec<u8>,
    waiting: VecDeque<Slot>,
    /// Lost by the kernel.
    lost: VecDeque<Slot>,
    /// Ended, with the second in which the peer had last spoken of it before.
    ended: VecDeque<(Key, u32)>,
    in_kernel: usize,
    refused: usize,
    /// A commit walks over what waits; until it is over nothing is handed out here.
    committing: Option<usize>,
    no_room_until: Option<Instant>,
    put_back: (Option<Instant>, u32),
    parking: Parking,
    /// What has become of it since the start.
    pub(crate) report: CommitReport,
}

#[derive(Debug, Default)]
struct Parking {
    cursor: Slot,
    /// Slots of the step under way.
    left: Slot,
    stepped_at: Option<Instant>,
}

/// It is in `waiting` or in `lost`.
const WAITING: u8 = 1;
/// It has been put into the kernel, as far as is known.
const IN_KERNEL: u8 = 2;
/// Found by the reading of the kernel's table under way, or put there since it began.
const SEEN: u8 = 4;
/// What the kernel has has another translation.
const MOVED: u8 = 8;
/// The kernel does not take it.
const REFUSED: u8 = 16;

impl Injection {
    pub(crate) fn new(enabled: bool) -> Self {
        Self { enabled, ..Self::default() }
    }

    /// The same for another cache; what has been counted stays.
    pub(crate) fn begin_again(&mut self) -> Self {
        let report = std::mem::take(&mut self.report);
        Self { report, ..Self::new(self.enabled) }
    }

    /// A peer has spoken of the flow in `slot`; `moved` when its translation is another than before.
    pub(crate) fn put(&mut self, slot: Slot, moved: bool, counters: &mut Counters) {
        if !self.enabled {
            return;
        }
        let index = slot as usize;
        if self.marks.len() <= index {
            self.marks.resize(index + 1, 0);
        }
        if moved && self.marks[index] & IN_KERNEL != 0 {
            self.marks[index] |= MOVED;
        }
        self.unmark(slot, REFUSED);
        // A commit may have been past it already.
        let again =
            self.committing.is_some_and(|before| self.waiting.len() - before < MAX_MEANWHILE);
        if self.marks[index] & WAITING == 0 || again {
            self.marks[index] |= WAITING;
            self.waiting.push_back(slot);
        } else if self.committing.is_some() {
            counters.commit_too_late += 1;
        }
    }

    /// The flow in `slot` has left the cache.
    pub(crate) fn end(&mut self, slot: Slot, key: Key, heard_s: u32) {
        if !self.enabled {
            return;
        }
        // A commit does not say what it has put in.
        if self.is(slot, IN_KERNEL) || self.committing.is_some() {
            self.ended.push_back((key, heard_s));
        }
        // What waits stays in line: the next flow of this slot takes its place.
        self.unmark(slot, IN_KERNEL | SEEN | MOVED | REFUSED);
    }

    /// The kernel has the flow no more, and this daemon did not delete it.
    pub(crate) fn lose(&mut self, slot: Slot) {
        if self.enabled && self.is(slot, IN_KERNEL) {
            self.unmark(slot, IN_KERNEL | MOVED);
            self.report.put_back += 1;
            if !self.is(slot, WAITING) {
                self.marks[slot as usize] |= WAITING;
                self.lost.push_back(slot);
            }
        }
    }

    /// The next thing to do; nothing while a commit is under way.
    pub(crate) fn next(&mut self, slots: Slot, now: Instant) -> Option<Next> {
        if self.committing.is_some() {
            return None;
        }
        if let Some((key, heard_s)) = self.ended.pop_front() {
            return Some(Next::Remove(key, heard_s));
        }
        if self.no_room_until.is_some_and(|until| now < until) {
            return None;
        }
        self.no_room_until = None;
        let waiting = self.next_waiting(slots).or_else(|| self.next_lost(now));
        if let Some(slot) = waiting {
            return Some(Next::Put(slot));
        }
        self.next_to_park(slots, now).map(Next::Park)
    }

    fn next_waiting(&mut self, slots: Slot) -> Option<Slot> {
        while let Some(slot) = self.waiting.pop_front() {
            // Told more than once during a commit.
            let waits = self.is(slot, WAITING);
            self.unmark(slot, WAITING);
            if waits && slot < slots {
                return Some(slot);
            }
        }
        None
    }

    fn next_lost(&mut self, now: Instant) -> Option<Slot> {
        if self.lost.is_empty() {
            return None;
        }
        let (since, done) = self.put_back;
        if since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1))
        {
            self.put_back = (Some(now), 0);
        } else if done >= PUT_BACK_PER_SECOND {
            return None;
        }
        self.put_back.1 += 1;
        let slot = self.lost.pop_front()?;
        self.unmark(slot, WAITING);
        Some(slot)
    }

    fn next_to_park(&mut self, slots: Slot, now: Instant) -> Option<Slot> {
        let parking = &mut self.parking;
        if parking.left == 0 {
            let stepped_at = *parking.stepped_at.get_or_insert(now);
            let since = now.saturating_duration_since(stepped_at);
            if since < PARKING_STEP {
                return None;
            }
            let share = u64::from(slots) * since.as_millis() as u64;
            let share = share / PARKING_ROUND.as_millis() as u64;
            if share == 0 {
                return None;
            }
            parking.stepped_at = Some(now);
            parking.left = share.min(u64::from(slots)) as Slot;
        }
        while self.parking.left > 0 {
            self.parking.left -= 1;
            let slot = self.parking.cursor;
            self.parking.cursor = if slot + 1 >= slots { 0 } else { slot + 1 };
            if self.is(slot, IN_KERNEL) && !self.is(slot, WAITING) {
                return Some(slot);
            }
            // Refused hours ago: its helper may have been loaded, the other flow may have ended.
            if self.is(slot, REFUSED) {
                self.unmark(slot, REFUSED);
                self.marks[slot as usize] |= WAITING;
                self.waiting.push_back(slot);
            }
        }
        None
    }

    /// When there is something to do; `None` when nothing is known of.
    pub(crate) fn next_at(&self, slots: Slot, now: Instant) -> Option<Instant> {
        if self.committing.is_some() {
            return None;
        }
        if !self.ended.is_empty() {
            return Some(now);
        }
        if !self.waiting.is_empty() {
            return Some(self.no_room_until.unwrap_or(now));
        }
        if !self.lost.is_empty() {
            let full = self.put_back.1 >= PUT_BACK_PER_SECOND;
            let again = self.put_back.0.filter(|_| full).map(|at| at + Duration::from_secs(1));
            return Some(again.max(self.no_room_until).unwrap_or(now));
        }
        if slots == 0 || !self.enabled {
            return None;
        }
        let step = PARKING_STEP.max(PARKING_ROUND / slots + Duration::from_millis(1));
        let stepped_at = self.parking.stepped_at.filter(|_| self.parking.left == 0);
        Some(stepped_at.map_or(now, |at| at + step))
    }

    /// What the kernel has of the slot.
    pub(crate) fn has(&self, slot: Slot) -> Has {
        if !self.is(slot, IN_KERNEL) {
            Has::Unknown
        } else if self.is(slot, MOVED) {
            Has::Moved
        } else {
            Has::Older
        }
    }

    /// From now on the kernel has the newest state of the slot.
    pub(crate) fn hand_out(&mut self, slot: Slot) {
        self.unmark(slot, MOVED);
        self.note_in_kernel(slot);
    }

    /// The kernel has the flow of this slot.
    pub(crate) fn note_in_kernel(&mut self, slot: Slot) {
        if let Some(mark) = self.marks.get_mut(slot as usize) {
            self.in_kernel += usize::from(*mark & IN_KERNEL == 0);
            *mark |= IN_KERNEL | SEEN;
        }
    }

    /// The kernel has no room for it now.
    pub(crate) fn later(&mut self, slot: Slot, now: Instant) {
        self.unmark(slot, IN_KERNEL);
        self.no_room_until = Some(now + NO_ROOM);
        if !self.is(slot, WAITING)
            && let Some(mark) = self.marks.get_mut(slot as usize)
        {
            *mark |= WAITING;
            self.waiting.push_back(slot);
        }
    }

    /// The kernel does not take it.
    pub(crate) fn refuse(&mut self, slot: Slot) {
        self.unmark(slot, IN_KERNEL);
        if let Some(mark) = self.marks.get_mut(slot as usize) {
            self.refused += usize::from(*mark & REFUSED == 0);
            *mark |= REFUSED;
        }
    }

    // ---- a reading of the kernel's table ----

    pub(crate) fn begin_reading(&mut self) {
        for mark in &mut self.marks {
            *mark &= !SEEN;
        }
    }

    /// What was not found has been lost without a word.
    pub(crate) fn end_reading(&mut self) {
        for slot in 0..self.marks.len() as Slot {
            if self.is(slot, IN_KERNEL) && !self.is(slot, SEEN) {
                self.lose(slot);
            }
        }
    }

    // ---- a commit ----

    /// A commit walks over what waits from now on, and tries once more what was refused.
    pub(crate) fn begin_commit(&mut self) {
        self.waiting.append(&mut self.lost);
        if self.refused > 0 {
            for slot in 0..self.marks.len() as Slot {
                if self.is(slot, REFUSED) {
                    self.unmark(slot, REFUSED);
                    self.marks[slot as usize] |= WAITING;
                    self.waiting.push_back(slot);
                }
            }
        }
        self.no_room_until = None;
        self.committing = Some(self.waiting.len());
    }

    /// If the role does not come, what it has put in is put in once more, with parked timeouts.
    pub(crate) fn end_commit(&mut self) {
        self.committing = None;
    }

    /// What has ended, by its place in line.
    pub(crate) fn ended(&self, index: usize) -> Option<(Key, u32)> {
        self.ended.get(index).copied()
    }

    /// What waits, by its place in line.
    pub(crate) fn waiting(&self, index: usize) -> Option<Slot> {
        self.waiting.get(index).copied()
    }

    /// Changes that a commit has to carry out, as far as is known.
    pub(crate) fn to_commit(&self) -> usize {
        self.waiting.len() + self.ended.len()
    }

    // ---- what can be seen ----

    /// Whether the router stands by in its kernel at all.
    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    /// What waits to be put in or taken out.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.lost.len() + self.ended.len()
    }

    /// Flows in the kernel.
    pub(crate) fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// Flows that the kernel does not take.
    pub(crate) fn refused(&self) -> usize {
        self.refused
    }

    fn is(&self, slot: Slot, bits: u8) -> bool {
        self.marks.get(slot as usize).is_some_and(|mark| mark & bits != 0)
    }

    fn unmark(&mut self, slot: Slot, bits: u8) {
        let Some(mark) = self.marks.get_mut(slot as usize) else { return };
        let gone = *mark & bits;
        *mark &= !bits;
        self.in_kernel -= usize::from(gone & IN_KERNEL != 0);
        self.refused -= usize::from(gone & REFUSED != 0);
    }
}
