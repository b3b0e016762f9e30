//! A commit's flows go into the table.

use std::time::Instant;

use lockstep_ctnetlink::{Batch, Expectation, Flow};
use lockstep_replicator::{Commit, Planned, Replicator, Retry};

use super::execute::{Executor, Work};
use super::{Failure, TableError, TableSocket};

/// Carries out a [`Commit`], one batch at a time, so that the caller can attend to others between
/// two batches, or leave it at that.
#[derive(Debug, Default)]
pub struct Committer {
    executor: Executor,
    batch: Batch,
    expectations: Vec<Expectation>,
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
            let Some(expectation) = commit.next_expectation(replicator, now) else { break };
            self.add(expectation);
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

    fn add(&mut self, expectation: Expectation) {
        let added = self.batch.create_expectation(&expectation)
            && self.batch.update_expectation(&expectation);
        debug_assert!(added, "there was room");
        self.expectations.push(expectation);
    }

    fn settle(&mut self, commit: &mut Commit, tried: Vec<Expectation>, failures: Vec<Failure>) {
        let mut failures = failures.into_iter().filter(|it| it.index % 2 == CREATION).peekable();
        for (place, expectation) in tried.into_iter().enumerate() {
            let Some(failure) = failures.next_if(|it| it.index / 2 == place) else {
                commit.expectation_done(&expectation);
                continue;
            };
            let again = commit.expectation_refused(expectation, failure.errno, &failure.words());
            if let Some(expectation) = again {
                self.add(expectation);
            }
        }
    }
}

/// Of the two requests for an expectation. The second sets the timeout: where the first was
/// refused, or where the kernel keeps its own, nothing is lost with it.
const CREATION: usize = 0;

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
