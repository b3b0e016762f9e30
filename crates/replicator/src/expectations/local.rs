//! What this router's kernel expects.

use lockstep_ctnetlink::Expectation;
use siphasher::sip::SipHasher13;

use super::{Expected, Identity, MAX_EXPECTATIONS, hash};
use crate::internal::{Doubt, Lasting, LastingTable, Learned, Reading, Stage};
use crate::statistics::Counters;
use crate::table::Slot;
use crate::wire::Change;

pub(crate) struct LocalExpectations {
    pub(crate) table: LastingTable<LocalExpectation>,
    /// Of the kernel's list, with the hashes of those that ended meanwhile, no more than the cache
    /// has room for; what a reading did not touch is gone.
    reading: Reading<u64>,
    /// Something was refused for want of room, or forgotten, and has not been read since.
    lack: Doubt,
    keyed: SipHasher13,
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

impl Lasting for LocalExpectation {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    fn held(&mut self) -> &mut u8 {
        &mut self.held
    }
}

impl LocalExpectations {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            table: LastingTable::new(MAX_EXPECTATIONS, secret),
            reading: Reading::new(MAX_EXPECTATIONS),
            lack: Doubt::No,
            keyed: SipHasher13::new_with_keys(secret, secret.rotate_left(31)),
        }
    }

    /// Those that are alive.
    pub(crate) fn len(&self) -> usize {
        self.table.alive()
    }

    /// The kernel has made an expectation, or changed it. Changes we made ourselves (`own`) are
    /// not told.
    pub(crate) fn put(
        &mut self,
        expectation: &Expectation,
        own: bool,
        counters: &mut Counters,
    ) -> Learned {
        self.reading.made(|| hash(expectation, &self.keyed));
        let Some(slot) = self.table.find(&Identity::of(expectation)) else {
            return self.create(expectation, own, counters);
        };
        let reading = self.reading.number();
        self.table.revive(slot);
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
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
            reading: self.reading.number(),
        };
        let Ok(slot) = self.table.insert(entry) else {
            counters.internal_expectations_full += 1;
            self.lack = Doubt::Lost;
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
        self.reading.ended(|| hash(expectation, &self.keyed));
        match self.table.find(&Identity::of(expectation)) {
            Some(slot) => self.bury(slot, own, counters),
            None => Learned::Nothing,
        }
    }

    /// The entry's expectation is gone.
    pub(crate) fn bury(&mut self, slot: Slot, silently: bool, counters: &mut Counters) -> Learned {
        self.table.bury(slot, silently, &mut counters.internal_expectations_destroyed)
    }

    /// The kernel's list is about to be read.
    pub(crate) fn begin_reading(&mut self) {
        self.reading.begin();
        self.lack.begin_reading();
    }

    /// Whether some were refused for want of room, or forgotten, and the list has not been read
    /// whole since.
    pub(crate) fn are_lacking(&self) -> bool {
        self.lack != Doubt::No
    }

    /// One of the list. Peers are told only what they do not know.
    pub(crate) fn read(&mut self, expectation: &Expectation, counters: &mut Counters) -> Learned {
        if self.reading.has_ended(&hash(expectation, &self.keyed)) {
            return Learned::Nothing;
        }
        let Some(slot) = self.table.find(&Identity::of(expectation)) else {
            return self.create(expectation, false, counters);
        };
        let reading = self.reading.number();
        let revived = self.table.revive(slot);
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        entry.reading = reading;
        entry.expectation = expectation.clone();
        if revived { Learned::Tell(slot) } else { Learned::Nothing }
    }

    /// The whole list has been read. Returns whether the reading is to be trusted; what was not
    /// seen is then found by [`LocalExpectations::stale`] and to be buried.
    pub(crate) fn end_reading(&mut self) -> bool {
        let trusted = self.reading.end();
        self.lack.end_reading(trusted);
        trusted
    }

    /// Those that the last reading has not seen.
    pub(crate) fn stale(&self) -> Vec<Slot> {
        self.slots(|entry| entry.reading != self.reading.number())
    }

    /// The slots of those that live and for which this holds.
    pub(crate) fn slots(&self, holds: impl Fn(&LocalExpectation) -> bool) -> Vec<Slot> {
        let holds = |slot: &Slot| {
            self.table.get(*slot).is_some_and(|entry| entry.stage.is_alive() && holds(entry))
        };
        (0..self.table.slots()).filter(holds).collect()
    }

    /// What there is to say about it now, and about what; `None` when nothing is.
    pub(crate) fn change(&self, slot: Slot) -> Option<(Change, &Expectation)> {
        let entry = self.table.get(slot)?;
        Some((entry.stage.change()?, &entry.expectation))
    }

    /// Forgets everything; no conversation may refer to anything any more.
    pub(crate) fn clear(&mut self) {
        if self.len() > 0 {
            self.lack = Doubt::Lost;
        }
        self.table.clear();
        self.reading.clear();
    }
}
