//! The expectations of a commit: after all flows, because each needs the one that expects.
//!
//! What ends while the commit is under way, or between its end and the active role, is removed: a
//! connection that comes from outside would be let in for it. What the old router tells to have
//! ended after that may live on here, as with flows.

use std::time::Instant;

use lockstep_ctnetlink::Expectation;

use super::{Commit, CommitPart, EEXIST, ENOENT, EOPNOTSUPP};
use crate::event::Role;
use crate::expectations::RemoteExpectations;
use crate::replicator::Replicator;
use crate::table::Slot;

/// What is to be done with an expectation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PlannedExpectation {
    /// It is to be created, and its timeout set by an update then: the kernel gives a new one as
    /// long as its helper says, whatever is asked for.
    Create(Expectation),
    /// It has ended, and is to be removed where it is there.
    Remove(Expectation),
}

impl Commit {
    /// What is to be done with the next expectation, once there is no flow left; `None` when all
    /// have been handed out.
    pub fn next_expectation(
        &mut self,
        replicator: &Replicator,
        now: Instant,
    ) -> Option<PlannedExpectation> {
        if self.part == CommitPart::Flows || self.is_over(now) {
            return None;
        }
        let expectations = &replicator.external().expectations;
        if self.part == CommitPart::All
            && let Some(ended) = self.next_ended(expectations)
        {
            return Some(PlannedExpectation::Remove(ended));
        }
        while let Some(slot) = self.next_place(expectations) {
            let Some(entry) = expectations.table.get(slot) else { continue };
            // Where the flows were committed before, the kernel knows which it has.
            let with_flows = self.part == CommitPart::All && replicator.role() == Role::Backup;
            if with_flows && !replicator.has_external_master(&entry.expectation) {
                self.progress.done += 1;
                self.report.refuse_expectation(&entry.expectation, ENOENT, "its flow is not known");
                continue;
            }
            let age_s = replicator.seconds(now).saturating_sub(entry.heard_s);
            let left = |told: u32| told.saturating_sub(age_s).max(1);
            let timeout_s = entry.expectation.timeout_s.map(left);
            self.progress.done += 1;
            let created = Expectation { timeout_s, id: None, ..entry.expectation.clone() };
            return Some(PlannedExpectation::Create(created));
        }
        None
    }

    /// Every place once, then those of which the peer has told since the commit began: the table
    /// reuses places behind the walk.
    fn next_place(&mut self, expectations: &RemoteExpectations) -> Option<Slot> {
        if self.next_expected < expectations.table.slots() {
            self.next_expected += 1;
            return Some(self.next_expected - 1);
        }
        let slot = expectations.meanwhile().get(self.expected_meanwhile).copied()?;
        self.expected_meanwhile += 1;
        Some(slot)
    }

    /// Those that have ended since the commit began and have not been told again. One that the walk
    /// has not come to, or that the kernel has dropped itself, is not there.
    fn next_ended(&mut self, expectations: &RemoteExpectations) -> Option<Expectation> {
        while let Some(ended) = expectations.ended().get(self.expected_ended) {
            self.expected_ended += 1;
            self.progress.done += 1;
            if !expectations.has(ended) {
                return Some(ended.clone());
            }
        }
        None
    }

    /// The kernel did what was planned.
    pub fn expectation_done(&mut self, planned: &PlannedExpectation) {
        match planned {
            PlannedExpectation::Create(_) => self.report.expectations += 1,
            PlannedExpectation::Remove(_) => self.report.deleted += 1,
        }
    }

    /// The kernel refused what was planned; returns what to create instead.
    pub fn expectation_refused(
        &mut self,
        planned: PlannedExpectation,
        errno: i32,
        reason: &str,
    ) -> Option<Expectation> {
        let mut expectation = match planned {
            PlannedExpectation::Create(expectation) => expectation,
            PlannedExpectation::Remove(_) if errno == ENOENT => return None,
            PlannedExpectation::Remove(expectation) => {
                self.report.refuse_expectation(&expectation, errno, reason);
                return None;
            }
        };
        match errno {
            EEXIST => self.report.expectations += 1,
            // The helper of the flow itself will do, if it has one.
            EOPNOTSUPP if expectation.helper.is_some() => {
                expectation.helper = None;
                self.report.expectations_without_helper += 1;
                return Some(expectation);
            }
            _ => self.report.refuse_expectation(&expectation, errno, reason),
        }
        None
    }
}
