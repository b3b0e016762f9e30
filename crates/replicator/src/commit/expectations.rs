//! The expectations of a commit: after all flows, because each needs the one that expects.

use std::time::Instant;

use lockstep_ctnetlink::Expectation;

use super::{Commit, CommitPart, EEXIST, ENOENT, EOPNOTSUPP};
use crate::event::Role;
use crate::expectations::RemoteExpectations;
use crate::replicator::Replicator;
use crate::table::Slot;

impl Commit {
    /// The next expectation, once there is no flow left; `None` when all have been handed out.
    ///
    /// It is to be created, and its timeout set by an update then: the kernel gives a new one as
    /// long as its helper says, whatever is asked for.
    pub fn next_expectation(
        &mut self,
        replicator: &Replicator,
        now: Instant,
    ) -> Option<Expectation> {
        if self.part == CommitPart::Flows || self.is_over(now) {
            return None;
        }
        let expectations = &replicator.external().expectations;
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
            return Some(Expectation { timeout_s, id: None, ..entry.expectation.clone() });
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

    /// The kernel has it.
    pub fn expectation_done(&mut self, _expectation: &Expectation) {
        self.report.expectations += 1;
    }

    /// The kernel refused to create it; returns what to try instead.
    pub fn expectation_refused(
        &mut self,
        mut expectation: Expectation,
        errno: i32,
        reason: &str,
    ) -> Option<Expectation> {
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
