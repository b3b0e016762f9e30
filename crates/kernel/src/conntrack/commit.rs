//! A commit's flows go into the table.

use std::time::Instant;

use lockstep_ctnetlink::{Batch, Flow};
use lockstep_replicator::{Commit, Planned, PlannedExpectation, Replicator, Retry};

use super::execute::{Executor, Work};
use super::{Failure, TableError, TableSocket};

/// Carries out a [`Commit`], one batch at a time, so that the caller can attend to others between
/// two batches, or leave it at that.
#[derive(Debug, Default)]
pub struct Committer {
    executor: Executor,
    batch: Batch,
    /// What the batch is about, with the place of its first request.
    expectations: Vec<(usize, PlannedExpectation)>,
}

impl Committer {
    /// With nothing begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out the next batch of `commit`; `false` when nothing was left to do. Where there is
    /// little to do for many flows a batch may be a small or empty one.
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
        let some = self.executor.advance(table, &mut CommitWork { commit, replicator, now })?;
        Ok(some || commit.has_more() || self.expect(table, commit, replicator, now)?)
    }

    /// A batch of expectations; whether there were any.
    fn expect(
        &mut self,
        table: &mut TableSocket,
        commit: &mut Commit,
        replicator: &Replicator,
        now: Instant,
    ) -> Result<bool, TableError> {
        while self.batch.len() + 2 <= Batch::CAPACITY {
            let Some(planned) = commit.next_expectation(replicator, now) else { break };
            self.add(planned);
        }
        let some = !self.batch.is_empty();
        while !self.batch.is_empty() {
            let result = table.execute(&mut self.batch);
            self.batch.clear();
            let tried = std::mem::take(&mut self.expectations);
            self.settle(commit, tried, result?);
        }
        Ok(some)
    }

    fn add(&mut self, planned: PlannedExpectation) {
        let place = self.batch.len();
        let added = match &planned {
            // The second request sets the timeout: where the first is refused, or where the kernel
            // keeps its own, nothing is lost with it.
            PlannedExpectation::Create(expectation) => {
                self.batch.create_expectation(expectation)
                    && self.batch.update_expectation(expectation)
            }
            PlannedExpectation::Remove(expectation) => {
                self.batch.delete_expectation(&expectation.key(), None)
            }
        };
        debug_assert!(added, "there was room");
        self.expectations.push((place, planned));
    }

    fn settle(
        &mut self,
        commit: &mut Commit,
        tried: Vec<(usize, PlannedExpectation)>,
        failures: Vec<Failure>,
    ) {
        let mut failures = failures.into_iter().peekable();
        for (place, planned) in tried {
            // What a second request failed with is passed over.
            while failures.next_if(|it| it.index < place).is_some() {}
            let Some(failure) = failures.next_if(|it| it.index == place) else {
                commit.expectation_done(&planned);
                continue;
            };
            let again = commit.expectation_refused(planned, failure.errno, &failure.words());
            if let Some(expectation) = again {
                self.add(PlannedExpectation::Create(expectation));
            }
        }
    }
}

struct CommitWork<'a> {
    commit: &'a mut Commit,
    replicator: &'a Replicator,
    now: Instant,
}

impl Work for CommitWork<'_> {
    fn next(&mut self) -> Option<Planned> {
        self.commit.step(self.replicator, self.now)
    }

    fn done(&mut self, planned: &Planned) {
        self.commit.done(planned);
    }

    fn refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry {
        self.commit.refused(planned, errno, reason)
    }

    fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned> {
        self.commit.compare(planned, existing)
    }
}
