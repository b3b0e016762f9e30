//! What peers' kernels expect.
//!
//! Whether the master is known is not asked here: in some modes an expectation may overtake it.
//! What is committed needs a master that is known then.

use lockstep_ctnetlink::Expectation;

use super::{Expected, Identity, MAX_EXPECTATIONS};
use crate::external::is_older;
use crate::statistics::Counters;
use crate::table::{Slot, Table};
use crate::wire::Change;

pub(crate) struct RemoteExpectations {
    pub(crate) table: Table<RemoteExpectation>,
    /// What the peers have told since a commit began, or since it ended; `None` when nobody asks.
    meanwhile: Option<Meanwhile>,
}

/// What has been told for a while, no more than [`MAX_EXPECTATIONS`] of either.
#[derive(Default)]
struct Meanwhile {
    /// Where it is, in order; something else may have taken the place.
    told: Vec<Slot>,
    /// What has ended; it may have been told again since.
    ended: Vec<Expectation>,
}

/// An expectation of a peer's kernel.
pub(crate) struct RemoteExpectation {
    pub(crate) expectation: Expectation,
    /// Seconds since the start when the peer last spoke of it.
    pub(crate) heard_s: u32,
    generation: u16,
    /// Who last spoke of it.
    pub(crate) peer: u8,
}

impl Expected for RemoteExpectation {
    fn expectation(&self) -> &Expectation {
        &self.expectation
    }
}

impl RemoteExpectations {
    pub(crate) fn new(secret: u64) -> Self {
        Self { table: Table::new(MAX_EXPECTATIONS, secret), meanwhile: None }
    }

    /// What is told from now on is remembered, and nothing of before.
    pub(crate) fn begin_noting(&mut self) {
        self.meanwhile = Some(Meanwhile::default());
    }

    /// A commit of what has been kept begins: what has ended is part of it.
    pub(crate) fn begin_noting_late(&mut self) {
        self.meanwhile.get_or_insert_default().told.clear();
    }

    /// What is told is remembered no more.
    pub(crate) fn end_noting(&mut self) {
        self.meanwhile = None;
    }

    /// Where is what has been told since, in order; something else may have taken the place.
    pub(crate) fn meanwhile(&self) -> &[Slot] {
        self.meanwhile.as_ref().map_or(&[], |meanwhile| &meanwhile.told)
    }

    /// What has ended since, in order.
    pub(crate) fn ended(&self) -> &[Expectation] {
        self.meanwhile.as_ref().map_or(&[], |meanwhile| &meanwhile.ended)
    }

    /// How much has been told since.
    pub(crate) fn noted(&self) -> usize {
        self.meanwhile().len() + self.ended().len()
    }

    /// Whether a peer expects it now.
    pub(crate) fn has(&self, expectation: &Expectation) -> bool {
        self.table.find(&Identity::of(expectation)).is_some()
    }

    /// Forgets everything but what has been told since.
    pub(crate) fn keep_noted(&mut self) {
        let Some(Meanwhile { told: mut slots, ended }) = self.meanwhile.take() else {
            return self.table.clear();
        };
        slots.sort_unstable();
        slots.dedup();
        let kept: Vec<_> = slots.into_iter().filter_map(|slot| self.table.remove(slot)).collect();
        self.table.clear();
        let inserted = kept.into_iter().filter_map(|entry| self.table.insert(entry).ok());
        self.meanwhile = Some(Meanwhile { told: inserted.collect(), ended });
    }

    fn note(&mut self, slot: Slot, counters: &mut Counters) {
        match &mut self.meanwhile {
            Some(Meanwhile { told, .. }) if told.len() < MAX_EXPECTATIONS => told.push(slot),
            Some(_) => counters.commit_too_late += 1,
            None => {}
        }
    }

    fn note_end(&mut self, expectation: Expectation, counters: &mut Counters) {
        match &mut self.meanwhile {
            Some(Meanwhile { ended, .. }) if ended.len() < MAX_EXPECTATIONS => {
                ended.push(expectation);
            }
            Some(_) => counters.commit_too_late += 1,
            None => {}
        }
    }

    /// The peer speaks of an expectation, while its flows carry this generation. Only the peer that
    /// told one last can end it. Returns `false` when there was no room.
    pub(crate) fn apply(
        &mut self,
        (peer, generation): (u8, u16),
        change: Change,
        expectation: &Expectation,
        now_s: u32,
        counters: &mut Counters,
    ) -> bool {
        match (change, self.table.find(&Identity::of(expectation))) {
            (Change::Delete, None) => {}
            (Change::Delete, Some(slot)) => {
                if self.table.get(slot).is_some_and(|entry| entry.peer != peer) {
                    counters.external_foreign_destroyed += 1;
                    return true;
                }
                counters.external_expectations_destroyed += 1;
                if let Some(entry) = self.table.remove(slot) {
                    self.note_end(entry.expectation, counters);
                }
            }
            (Change::New | Change::Update, Some(slot)) => {
                let Some(entry) = self.table.get_mut(slot) else { return true };
                entry.expectation.timeout_s = expectation.timeout_s;
                entry.heard_s = now_s;
                entry.generation = generation;
                entry.peer = peer;
                self.note(slot, counters);
            }
            (Change::New | Change::Update, None) => {
                let expectation = Expectation { id: None, ..expectation.clone() };
                let entry = RemoteExpectation { expectation, heard_s: now_s, generation, peer };
                let Ok(slot) = self.table.insert(entry) else {
                    counters.external_expectations_full += 1;
                    return false;
                };
                counters.external_expectations_created += 1;
                self.note(slot, counters);
            }
        }
        true
    }

    /// Drops the peer's entries that it has not spoken of since `generation` began; returns how many.
    pub(crate) fn sweep(&mut self, peer: u8, generation: u16) -> usize {
        self.drop_where(|entry| entry.peer == peer && is_older(entry.generation, generation))
    }

    /// Drops those of which nobody has spoken since `since_s`; returns how many.
    pub(crate) fn drop_unheard(&mut self, since_s: u32) -> usize {
        self.drop_where(|entry| entry.heard_s < since_s)
    }

    fn drop_where(&mut self, gone: impl Fn(&RemoteExpectation) -> bool) -> usize {
        let mut dropped = 0;
        for slot in 0..self.table.slots() as Slot {
            if self.table.get(slot).is_some_and(&gone) {
                self.table.remove(slot);
                dropped += 1;
            }
        }
        dropped
    }
}
