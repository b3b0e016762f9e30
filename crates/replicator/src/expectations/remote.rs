//! What peers' kernels expect.
//!
//! Whether the master is known is not asked here: in some modes an expectation may overtake it.
//! What is committed needs a master that is known then.

use lockstep_ctnetlink::Expectation;

use super::{Expected, Identity, MAX_EXPECTATIONS};
use crate::statistics::Counters;
use crate::table::{Slot, Table};
use crate::wire::Change;

pub(crate) struct RemoteExpectations {
    pub(crate) table: Table<RemoteExpectation>,
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
        Self { table: Table::new(MAX_EXPECTATIONS, secret) }
    }

    /// The peer speaks of an expectation, while its flows carry this generation. Only the peer that
    /// told one last can end it.
    pub(crate) fn apply(
        &mut self,
        (peer, generation): (u8, u16),
        change: Change,
        expectation: &Expectation,
        now_s: u32,
        counters: &mut Counters,
    ) {
        match (change, self.table.find(&Identity::of(expectation))) {
            (Change::Delete, None) => {}
            (Change::Delete, Some(slot)) => {
                if self.table.get(slot).is_some_and(|entry| entry.peer != peer) {
                    counters.external_foreign_destroyed += 1;
                    return;
                }
                self.table.remove(slot);
                counters.external_expectations_destroyed += 1;
            }
            (Change::New | Change::Update, Some(slot)) => {
                let Some(entry) = self.table.get_mut(slot) else { return };
                entry.expectation.timeout_s = expectation.timeout_s;
                entry.heard_s = now_s;
                entry.generation = generation;
                entry.peer = peer;
            }
            (Change::New | Change::Update, None) => {
                let expectation = Expectation { id: None, ..expectation.clone() };
                let entry = RemoteExpectation { expectation, heard_s: now_s, generation, peer };
                match self.table.insert(entry) {
                    Ok(_) => counters.external_expectations_created += 1,
                    Err(_) => counters.external_expectations_full += 1,
                }
            }
        }
    }

    /// Drops the peer's entries that this generation has not confirmed; returns how many.
    pub(crate) fn sweep(&mut self, peer: u8, generation: u16) -> usize {
        self.drop_where(|entry| entry.peer == peer && entry.generation != generation)
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
