//! The external cache goes into the kernel, many flows in one system call.
//!
//! The kernel's events are not read meanwhile: most of them tell of our own doing, and the table
//! is read afterwards anyway. The peer is served between batches.

use std::io;
use std::time::Instant;

use lockstep_ctnetlink::Batch;
use lockstep_failover::Outcome;
use lockstep_kernel::conntrack::{Failure, TableError};
use lockstep_replicator::{Action, Commit, Planned, Retry};

use super::Actor;

/// Batches between two looks at the link and the requests: some 5 ms.
const BATCHES_IN_A_ROW: usize = 8;

/// What is in the batch, and for whom each request is.
#[derive(Default)]
struct Work {
    batch: Batch,
    planned: Vec<Planned>,
    /// For each request the index of its flow, and whether it is only the removal before it.
    owners: Vec<(usize, bool)>,
    retries: Vec<Planned>,
}

impl Actor {
    /// Carries out a commit.
    pub(super) fn commit(&mut self) -> Outcome {
        let mut commit = self.replicator.begin_commit();
        let result = self.commit_all(&mut commit);
        let report = commit.report();
        self.replicator.end_commit(report);
        match result {
            Err(error) => {
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
        let mut work = Work::default();
        let mut batches = 0;
        loop {
            let now = Instant::now();
            while work.has_room() {
                let next = work.retries.pop().or_else(|| commit.next(&self.replicator, now));
                let Some(planned) = next else { break };
                work.add(planned);
            }
            if work.batch.is_empty() {
                return Ok(true);
            }
            let failures = self.table.execute(&mut work.batch)?;
            self.settle(commit, &mut work, failures)?;
            batches += 1;
            if batches % BATCHES_IN_A_ROW == 0 {
                self.serve_peer();
                if self.interrupted() {
                    return Ok(false);
                }
            }
        }
    }

    /// Learns what became of each flow of the batch.
    fn settle(
        &mut self,
        commit: &mut Commit,
        work: &mut Work,
        failures: Vec<Failure>,
    ) -> Result<(), TableError> {
        let mut refused: Vec<Option<Failure>> = Vec::new();
        if !failures.is_empty() {
            refused.resize_with(work.planned.len(), || None);
        }
        for failure in failures {
            // A removal that fails shows in the creation after it.
            if let Some((index, false)) = work.owners.get(failure.index).copied() {
                refused[index] = Some(failure);
            }
        }
        for (index, planned) in work.planned.drain(..).enumerate() {
            let Some(failure) = refused.get_mut(index).and_then(Option::take) else {
                commit.done(&planned);
                continue;
            };
            let words = failure
                .text
                .unwrap_or_else(|| io::Error::from_raw_os_error(failure.errno).to_string());
            match commit.refused(planned, failure.errno, &words) {
                Retry::With(planned) => work.retries.push(planned),
                Retry::Look(planned) => {
                    let existing = self.table.get(&planned.flow.key())?;
                    work.retries.extend(commit.compare(planned, existing.as_ref()));
                }
                Retry::GiveUp => {}
            }
        }
        work.owners.clear();
        work.batch.clear();
        Ok(())
    }
}

impl Work {
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
            Action::Replace => {
                self.owners.push((index, true));
                self.batch.delete(&flow.key(), None) && self.batch.create(flow)
            }
        };
        debug_assert!(added, "there was room");
        self.owners.push((index, false));
        self.planned.push(planned);
    }
}
