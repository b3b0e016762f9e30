//! Planned changes of the table, many in one system call.

use std::io;

use lockstep_ctnetlink::{Batch, Flow};
use lockstep_replicator::{Action, Planned, Retry};

use super::{Failure, TableError, TableSocket};

/// Where planned changes come from, and who learns what became of them.
pub(super) trait Work {
    /// The next change; `None` when there is none for now.
    fn next(&mut self) -> Option<Planned>;

    /// The kernel did it.
    fn done(&mut self, planned: &Planned);

    /// The kernel refused.
    fn refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry;

    /// What the kernel has in its place.
    fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned>;
}

/// Carries out changes, one batch at a time, so that the caller can attend to others between two
/// batches, or leave it at that.
#[derive(Debug, Default)]
pub(super) struct Executor {
    batch: Batch,
    /// The changes of the batch.
    planned: Vec<Planned>,
    /// For each request the index of its change, and whether it is only the removal before it.
    owners: Vec<(usize, bool)>,
    retries: Vec<Planned>,
}

impl Executor {
    /// Carries out the next batch, and what its refusals lead to, so that nothing is under way
    /// when it returns; `false` when nothing was left to do.
    ///
    /// # Errors
    /// When it is not known what became of the batch.
    pub(super) fn advance(
        &mut self,
        table: &mut TableSocket,
        work: &mut impl Work,
    ) -> Result<bool, TableError> {
        while self.has_room() {
            let Some(planned) = work.next() else { break };
            self.add(planned);
        }
        let some = !self.batch.is_empty();
        while !self.batch.is_empty() {
            self.carry_out(table, work)?;
            while self.has_room() {
                let Some(planned) = self.retries.pop() else { break };
                self.add(planned);
            }
        }
        Ok(some)
    }

    fn carry_out(
        &mut self,
        table: &mut TableSocket,
        work: &mut impl Work,
    ) -> Result<(), TableError> {
        let result = table.execute(&mut self.batch);
        let settled = result.and_then(|failures| self.settle(table, work, failures));
        if settled.is_err() {
            self.retries.clear();
        }
        self.planned.clear();
        self.owners.clear();
        self.batch.clear();
        settled
    }

    /// Whether another change fits, which may take two requests.
    fn has_room(&self) -> bool {
        self.batch.len() + 2 <= Batch::CAPACITY
    }

    fn add(&mut self, planned: Planned) {
        let index = self.planned.len();
        let flow = &planned.flow;
        let added = match planned.action {
            Action::Create => self.batch.create(flow),
            Action::Update => self.batch.update(flow),
            Action::Delete => self.batch.delete(&flow.key(), flow.id),
            Action::SetTimeout => {
                self.batch.set_timeout(&flow.key(), flow.timeout_s.unwrap_or_default())
            }
            Action::Replace => {
                self.owners.push((index, true));
                self.batch.delete(&flow.key(), None) && self.batch.create(flow)
            }
        };
        debug_assert!(added, "there was room");
        self.owners.push((index, false));
        self.planned.push(planned);
    }

    /// Learns what became of each change of the batch.
    fn settle(
        &mut self,
        table: &mut TableSocket,
        work: &mut impl Work,
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
                work.done(&planned);
                continue;
            };
            match work.refused(planned, failure.errno, &failure.words()) {
                Retry::With(planned) => self.retries.push(planned),
                Retry::Look(planned) => {
                    let existing = look(table, &planned)?;
                    self.retries.extend(work.compare(planned, existing.as_ref()));
                }
                Retry::GiveUp => {}
            }
        }
        Ok(())
    }
}

impl Failure {
    /// The kernel's own words, or the usual ones for the error number.
    pub(super) fn words(&self) -> String {
        let usual = || io::Error::from_raw_os_error(self.errno).to_string();
        self.text.clone().unwrap_or_else(usual)
    }
}

/// The flow that stands in the way: under the original tuple, or under the reply tuple.
fn look(table: &mut TableSocket, planned: &Planned) -> Result<Option<Flow>, TableError> {
    match table.get(&planned.flow.key())? {
        None => table.get(&planned.reply_key()),
        found => Ok(found),
    }
}
