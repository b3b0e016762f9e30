//! What a backup keeps in its kernel, and what becomes of it at takeover.

use std::time::Instant;

use lockstep_ctnetlink::Flow;
use lockstep_replicator::{Planned, Replicator, Retry};

use super::execute::{Executor, Work};
use super::{TableError, TableSocket};

/// Carries out what [`Replicator::poll_injection`] gives, one batch at a time.
#[derive(Debug, Default)]
pub struct Injector {
    executor: Executor,
}

impl Injector {
    /// With nothing begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out the next batch; `false` when nothing is due: see
    /// [`Replicator::next_injection`].
    ///
    /// Takes about half a millisecond for a batch of new flows.
    ///
    /// # Errors
    /// When it is not known what became of the batch: the table has to be read again.
    pub fn advance(
        &mut self,
        table: &mut TableSocket,
        replicator: &mut Replicator,
        now: Instant,
    ) -> Result<bool, TableError> {
        self.executor.advance(table, &mut Injection { replicator, now, new: true })
    }

    /// Carries out what is begun and nothing new, so that nothing planned for one role is done in
    /// another; `false` when nothing is left of it, which is so after a few batches.
    ///
    /// # Errors
    /// As [`Injector::advance`].
    pub fn finish(
        &mut self,
        table: &mut TableSocket,
        replicator: &mut Replicator,
        now: Instant,
    ) -> Result<bool, TableError> {
        self.executor.advance(table, &mut Injection { replicator, now, new: false })
    }
}

struct Injection<'a> {
    replicator: &'a mut Replicator,
    now: Instant,
    /// Whether something new may be begun.
    new: bool,
}

impl Work for Injection<'_> {
    fn next(&mut self) -> Option<Planned> {
        if self.new { self.replicator.poll_injection(self.now) } else { None }
    }

    fn done(&mut self, planned: &Planned) {
        self.replicator.injected(planned);
    }

    fn refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry {
        self.replicator.injection_refused(planned, errno, reason, self.now)
    }

    fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned> {
        self.replicator.compare_injection(planned, existing)
    }
}
