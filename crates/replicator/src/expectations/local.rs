//! What this router's kernel expects.

use std::collections::BTreeSet;

use lockstep_ctnetlink::Expectation;
use siphasher::sip::SipHasher13;

use super::{Expected, Identity, MAX_EXPECTATIONS, hash};
use crate::internal::{Learned, Stage};
use crate::statistics::Counters;
use crate::table::{Slot, Table};
use crate::wire::Change;

pub(crate) struct LocalExpectations {
    pub(crate) table: Table<LocalExpectation>,
    /// Counts readings of the kernel's list; what a reading did not touch is gone.
    reading: u8,
    under_way: bool,
    /// Hashes of those that ended during a reading, which may still stand in the part yet to be
    /// seen. No more than the cache has room for; beyond that the reading has to be repeated.
    ended: BTreeSet<u64>,
    keyed: SipHasher13,
    dead: usize,
}

/// An expectation of our kernel, and how many conversations are about it.
pub(crate) struct LocalExpectation {
    pub(crate) expectation: Expectation,
    pub(crate) stage: Stage,
    held: u8,
    reading: u8,
}

impl Expected for LocalExpectation {
    fn expectation(&self) -> &Expectation {
        &self.expectation
    }
}

impl LocalExpectations {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            table: Table::new(MAX_EXPECTATIONS, secret),
            reading: 0,
            under_way: false,
            ended: BTreeSet::new(),
            keyed: SipHasher13::new_with_keys(secret, secret.rotate_left(31)),
            dead: 0,
        }
    }

    /// Those that are alive.
    pub(crate) fn len(&self) -> usize {
        self.table.len() - self.dead
    }

    /// The kernel has made an expectation, or changed it. Changes we made ourselves (`own`) are
    /// not told.
    pub(crate) fn put(
        &mut self,
        expectation: &Expectation,
        own: bool,
        counters: &mut Counters,
    ) -> Learned {
        if self.under_way {
            self.ended.remove(&hash(expectation, &self.keyed));
        }
        let Some(slot) = self.table.find(&Identity::of(expectation)) else {
            return self.create(expectation, own, counters);
        };
        let reading = self.reading;
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        if !entry.stage.is_alive() {
            self.dead -= 1;
        }
        entry.expectation = expectation.clone();
        entry.stage = Stage::New;
        entry.reading = reading;
        if own { Learned::Nothing } else { Learned::Tell(slot) }
    }

    fn create(&mut self, expectation: &Expectation, own: bool, counters: &mut Counters) -> Learned {
        let entry = LocalExpectation {
            expectation: expectation.clone(),
            stage: Stage::New,
            held: 0,
            reading: self.reading,
        };
        let Ok(slot) = self.table.insert(entry) else {
            counters.internal_expectations_full += 1;
            return Learned::Nothing;
        };
        counters.internal_expectations_created += 1;
        if own { Learned::Nothing } else { Learned::Tell(slot) }
    }

    /// The kernel has removed an expectation: its time is over, or it has come true.
    pub(crate) fn destroy(
        &mut self,
        expectation: &Expectation,
        own: bool,
        counters: &mut Counters,
    ) -> Learned {
        if self.under_way && self.ended.len() < MAX_EXPECTATIONS {
            self.ended.insert(hash(expectation, &self.keyed));
        }
        match self.table.find(&Identity::of(expectation)) {
            Some(slot) => self.bury(slot, own, counters),
            None => Learned::Nothing,
        }
    }

    /// The entry's expectation is gone.
    pub(crate) fn bury(&mut self, slot: Slot, silently: bool, counters: &mut Counters) -> Learned {
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        if entry.stage.is_alive() {
            self.dead += 1;
            counters.internal_expectations_destroyed += 1;
        }
        if silently {
            entry.stage = Stage::Forgotten;
            return Learned::Forget(slot);
        }
        entry.stage = Stage::Dead;
        Learned::Tell(slot)
    }

    /// The kernel's list is about to be read.
    pub(crate) fn begin_reading(&mut self) {
        self.reading = self.reading.wrapping_add(1);
        self.under_way = true;
        self.ended.clear();
    }

    /// One of the list. Peers are told only what they do not know.
    pub(crate) fn read(&mut self, expectation: &Expectation, counters: &mut Counters) -> Learned {
        if self.ended.contains(&hash(expectation, &self.keyed)) {
            return Learned::Nothing;
        }
        let Some(slot) = self.table.find(&Identity::of(expectation)) else {
            return self.create(expectation, false, counters);
        };
        let reading = self.reading;
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        entry.reading = reading;
        entry.expectation = expectation.clone();
        if entry.stage.is_alive() {
            return Learned::Nothing;
        }
        entry.stage = Stage::New;
        self.dead -= 1;
        Learned::Tell(slot)
    }

    /// The whole list has been read. Returns whether the reading is to be trusted; what was not
    /// seen is then found by [`LocalExpectations::stale`] and to be buried.
    pub(crate) fn end_reading(&mut self) -> bool {
        self.under_way = false;
        std::mem::take(&mut self.ended).len() < MAX_EXPECTATIONS
    }

    /// Those that the last reading has not seen.
    pub(crate) fn stale(&self) -> Vec<Slot> {
        self.slots(|entry| entry.reading != self.reading)
    }

    /// The slots of those that live and for which this holds.
    pub(crate) fn slots(&self, holds: impl Fn(&LocalExpectation) -> bool) -> Vec<Slot> {
        let holds = |slot: &Slot| {
            self.table.get(*slot).is_some_and(|entry| entry.stage.is_alive() && holds(entry))
        };
        (0..self.table.slots()).filter(holds).collect()
    }

    /// A conversation refers to it from now on.
    pub(crate) fn hold(&mut self, slot: Slot) {
        if let Some(entry) = self.table.get_mut(slot) {
            entry.held += 1;
        }
    }

    /// A conversation refers to it no more.
    pub(crate) fn let_go(&mut self, slot: Slot) {
        if let Some(entry) = self.table.get_mut(slot) {
            entry.held = entry.held.saturating_sub(1);
        }
        self.release(slot);
    }

    /// Gives the slot of a dead entry back, once no conversation refers to it.
    pub(crate) fn release(&mut self, slot: Slot) {
        let Some(entry) = self.table.get(slot) else { return };
        if !entry.stage.is_alive() && entry.held == 0 {
            self.table.remove(slot);
            self.dead -= 1;
        }
    }

    /// What there is to say about it now, and about what; `None` when nothing is.
    pub(crate) fn change(&self, slot: Slot) -> Option<(Change, &Expectation)> {
        let entry = self.table.get(slot)?;
        Some((entry.stage.change()?, &entry.expectation))
    }

    /// Forgets everything; no conversation may refer to anything any more.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.dead = 0;
        self.ended.clear();
    }
}
