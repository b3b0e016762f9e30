//! A commit's flows go into the table, many in one system call.

use std::io;
use std::time::Instant;

use lockstep_ctnetlink::Batch;
use lockstep_replicator::{Action, Commit, Planned, Replicator, Retry};

use super::{Failure, TableError, TableSocket};

/// Carries out a [`Commit`], one batch at a time, so that the caller can attend to others between
/// two batches, or leave it at that.
#[derive(Debug, Default)]
pub struct Committer {
    batch: Batch,
    /// The flows of the batch.
    planned: Vec<Planned>,
    /// For each request the index of its flow, and whether it is only the removal before it.
    owners: Vec<(usize, bool)>,
    retries: Vec<Planned>,
}

impl Committer {
    /// With nothing begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out the next batch of `commit`; `false` when nothing was left to do.
    ///
    /// Takes about half a millisecond for a batch of new flows.
    ///
    /// # Errors
    /// When it is not known what became of the batch.
    pub fn advance(
        &mut self,
        table: &mut TableSocket,
        commit: &mut Commit,
        replicator: &Replicator,
        now: Instant,
    ) -> Result<bool, TableError> {
        while self.has_room() {
            let next = self.retries.pop().or_else(|| commit.next(replicator, now));
            let Some(planned) = next else { break };
            self.add(planned);
        }
        if self.batch.is_empty() {
            return Ok(false);
        }
        let failures = table.execute(&mut self.batch)?;
        self.settle(table, commit, failures)?;
        Ok(true)
    }

    /// Whether another flow fits, which may take two requests.
    fn has_room(&self) -> bool {
        self.batch.len() + 2 <= Batch::CAPACITY
    }

    fn add(&mut self, planned: Planned) {
        let index = self.planned.len();
        let flow = &planned.flow;
        let added = match planned.action {
            Action::Create => self.batch.create(flow),
            Action::Update => self.batch.update(flow),
            Action::Delete => self.batch.delete(&flow.key(), None),
            Action::Replace => {
                self.owners.push((index, true));
                self.batch.delete(&flow.key(), None) && self.batch.create(flow)
            }
        };
        debug_assert!(added, "there was room");
        self.owners.push((index, false));
        self.planned.push(planned);
    }

    /// Learns what became of each flow of the batch.
    fn settle(
        &mut self,
        table: &mut TableSocket,
        commit: &mut Commit,
        failures: Vec<Failure>,
    ) -> Result<(), TableError> {
        let mut refused: Vec<Option<Failure>> = Vec::new();
        if !failures.is_empty() {
            refused.resize_with(self.planned.len(), || None);
        }
        for failure in failures {
            // A removal that fails shows in the creation after it.
            if let Some((index, false)) = self.owners.get(failure.index).copied() {
                refused[index] = Some(failure);
            }
        }
        for (index, planned) in self.planned.drain(..).enumerate() {
            let Some(failure) = refused.get_mut(index).and_then(Option::take) else {
                commit.done(&planned);
                continue;
            };
            let words = failure
                .text
                .unwrap_or_else(|| io::Error::from_raw_os_error(failure.errno).to_string());
            match commit.refused(planned, failure.errno, &words) {
                Retry::With(planned) => self.retries.push(planned),
                Retry::Look(planned) => {
                    let existing = table.get(&planned.flow.key())?;
                    self.retries.extend(commit.compare(planned, existing.as_ref()));
                }
                Retry::GiveUp => {}
            }
        }
        self.owners.clear();
        self.batch.clear();
        Ok(())
    }
}
