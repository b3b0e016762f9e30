//! The external cache goes into the kernel.
//!
//! The kernel is not listened to meanwhile: most of what it tells would be our own doing, telling
//! it would take the kernel nearly as long as doing it, and the table is read afterwards anyway.
//! The peer is served between batches.

use std::time::Instant;

use lockstep_failover::Outcome;
use lockstep_kernel::conntrack::{Committer, TableError};
use lockstep_replicator::Commit;
use tracing::warn;

use super::{Actor, REDUMP};

/// Batches between two looks at the link and the requests: some 5 ms.
const BATCHES_IN_A_ROW: usize = 8;

impl Actor {
    /// Carries out a commit.
    pub(super) fn commit(&mut self) -> Outcome {
        if let Err(error) = self.events.pause() {
            // Then what we do is told to us as well; the reading afterwards puts it right.
            warn!(%error, "the kernel's events cannot be left during the commit");
        }
        let mut commit = self.replicator.begin_commit();
        let result = self.commit_all(&mut commit);
        let report = commit.report();
        self.replicator.end_commit(report);
        if let Err(error) = self.events.resume() {
            self.reopen_events(error);
        }
        // The active role begins with reading the table. If it does not come, it is read all the
        // same, when there is time.
        self.redump_at = Some(Instant::now() + REDUMP);
        match result {
            Err(error) => {
                self.reopen_table();
                Outcome::Failed(format!("{report}; then {:#}", anyhow::Error::new(error)))
            }
            Ok(false) => Outcome::Failed(format!("cut short by something newer: {report}")),
            Ok(true) if report.committed() == 0 && report.refused() > 0 => {
                Outcome::Failed(report.to_string())
            }
            Ok(true) => Outcome::Done(report.to_string()),
        }
    }

    /// Whether it came to its end.
    fn commit_all(&mut self, commit: &mut Commit) -> Result<bool, TableError> {
        let mut committer = Committer::new();
        let mut batches = 0;
        while committer.advance(&mut self.table, commit, &self.replicator, Instant::now())? {
            batches += 1;
            if batches % BATCHES_IN_A_ROW == 0 {
                self.serve_peer();
                if self.interrupted() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
