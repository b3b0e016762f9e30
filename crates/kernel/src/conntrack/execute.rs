//! Planned changes of the table, many in one system call.

use std::io;

use lockstep_ctnetlink::{Batch, Flow, Key};
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
        let mut looked_for = Vec::new();
        while self.batch.len() + looked_for.len() + 2 <= Batch::CAPACITY {
            let Some(planned) = work.next() else { break };
            if planned.is_looked_for_first() {
                looked_for.push(planned);
            } else {
                self.add(planned);
            }
        }
        let some = !self.batch.is_empty() || !looked_for.is_empty();
        for planned in compare(table, work, looked_for)? {
            self.add(planned);
        }
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
            Action::BeLiberal => self.batch.be_liberal(&flow.key()),
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
        let mut unexpected = Vec::new();
        for (index, planned) in self.planned.drain(..).enumerate() {
            let Some(failure) = refused.get_mut(index).and_then(Option::take) else {
                work.done(&planned);
                continue;
            };
            match work.refused(planned, failure.errno, &failure.words()) {
                Retry::With(planned) => self.retries.push(planned),
                Retry::Look(planned) => unexpected.push(planned),
                Retry::GiveUp => {}
            }
        }
        self.retries.extend(compare(table, work, unexpected)?);
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

/// What is left to do of changes when it is known what the kernel has in their place: under the
/// original tuple, or under the reply tuple.
fn compare(
    table: &mut TableSocket,
    work: &mut impl Work,
    changes: Vec<Planned>,
) -> Result<Vec<Planned>, TableError> {
    let mut found: Vec<Option<Flow>> = vec![None; changes.len()];
    let keys: Vec<Key> = changes.iter().map(|planned| planned.flow.key()).collect();
    table.get_many(&keys, |index, flow| found[index] = flow)?;
    let absent: Vec<usize> = (0..changes.len()).filter(|index| found[*index].is_none()).collect();
    let keys: Vec<Key> = absent.iter().map(|index| changes[*index].reply_key()).collect();
    table.get_many(&keys, |index, flow| found[absent[index]] = flow)?;
    let compared = changes.into_iter().zip(found);
    Ok(compared.filter_map(|(planned, found)| work.compare(planned, found.as_ref())).collect())
}
