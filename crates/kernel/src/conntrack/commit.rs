//! A commit's flows go into the table.

use std::time::Instant;

use lockstep_ctnetlink::Flow;
use lockstep_replicator::{Commit, Planned, Replicator, Retry};

use super::execute::{Executor, Work};
use super::{TableError, TableSocket};

/// Carries out a [`Commit`], one batch at a time, so that the caller can attend to others between
/// two batches, or leave it at that.
#[derive(Debug, Default)]
pub struct Committer {
    executor: Executor,
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
        self.executor.advance(table, &mut CommitWork { commit, replicator, now })
    }
}

struct CommitWork<'a> {
    commit: &'a mut Commit,
    replicator: &'a Replicator,
    now: Instant,
}

impl Work for CommitWork<'_> {
    fn next(&mut self) -> Option<Planned> {
        self.commit.next(self.replicator, self.now)
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
