//! The external cache goes into the kernel.
//!
//! The kernel is not listened to meanwhile: most of what it tells would be our own doing, telling
//! it would take the kernel nearly as long as doing it, and the table is read afterwards anyway.
//! The peer is served between batches.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use lockstep_failover::Outcome;
use lockstep_kernel::conntrack::{Committer, TableError};
use lockstep_replicator::{Commit, CommitPart, CommitReport, Progress, Role};
use tracing::warn;

use super::commands::done;
use super::{Actor, PIECE, Person, REDUMP};
use crate::messages::{CoreEvent, GroupStep};
use crate::status;

/// A commit under way.
pub(super) struct Committing {
    commit: Commit,
    committer: Committer,
    began: Instant,
    /// The steps that wait for its end.
    pub(super) steps: Vec<GroupStep>,
    /// The people who do.
    pub(super) people: Vec<Person>,
}

impl Committing {
    /// Whether other groups than this one wait for its end.
    pub(super) fn is_of_others(&self, group: &str) -> bool {
        self.steps.iter().any(|step| step.group != group)
    }

    /// Whether what is asked for happens with it.
    pub(super) fn includes(&self, part: CommitPart) -> bool {
        let under_way = self.commit.report().part;
        under_way == CommitPart::All || under_way == part
    }
}

/// How a commit ended.
pub(super) enum Ended {
    /// Every flow was tried.
    Complete,
    /// Something newer came.
    CutShort,
    /// It is not known what has become of some.
    Failed(TableError),
}

impl Actor {
    /// Begins a commit. A purge that is under way or due is called off: what it would remove is
    /// about to be used. Expectations alone are few, and nothing makes room for them.
    pub(super) fn begin_commit(
        &mut self,
        part: CommitPart,
        steps: Vec<GroupStep>,
        people: Vec<Person>,
    ) {
        if part != CommitPart::Expectations {
            self.call_off_purge();
            self.finish_injection();
            self.abandon_reading();
            if let Err(error) = self.events.pause() {
                // Then what we do is told to us as well; the reading afterwards puts it right.
                warn!(%error, "the kernel's events cannot be left during the commit");
            }
        }
        self.commit = Some(Committing {
            commit: self.replicator.begin_commit_of(part),
            committer: Committer::new(),
            began: Instant::now(),
            steps,
            people,
        });
    }

    /// A piece of the commit under way.
    pub(super) async fn do_commit(&mut self) -> anyhow::Result<()> {
        let Some(mut committing) = self.commit.take() else { return Ok(()) };
        let until = Instant::now() + PIECE;
        let ended = loop {
            let now = Instant::now();
            let commit = &mut committing.commit;
            let advanced =
                committing.committer.advance(&mut self.table, commit, &self.replicator, now);
            self.replicator.follow_commit(commit);
            match advanced {
                Ok(false) => break Some(Ended::Complete),
                Err(error) => break Some(Ended::Failed(error)),
                Ok(true) if Instant::now() >= until => break None,
                Ok(true) => {}
            }
        };
        self.commit = Some(committing);
        match ended {
            Some(ended) => self.end_commit(ended).await,
            None => Ok(()),
        }
    }

    /// Ends the commit under way and answers whoever waits for it.
    pub(super) async fn end_commit(&mut self, ended: Ended) -> anyhow::Result<()> {
        let Some(committing) = self.commit.take() else { return Ok(()) };
        let report = committing.commit.report();
        self.replicator.end_commit(report);
        if report.part != CommitPart::Expectations {
            if let Err(error) = self.events.resume() {
                self.reopen_events(error);
            }
            if self.config.shares() && self.replicator.role() == Role::Active {
                // What happened meanwhile to the flows of another group was not heard.
                self.replicator.events_lost(Instant::now());
            }
            // The active role begins with reading the table. If it does not come, it is read all
            // the same, when there is time.
            self.redump_at = Some(Instant::now() + REDUMP);
            self.wished = None;
        }
        if matches!(ended, Ended::Failed(_)) {
            self.reopen_table();
        }
        let complete = matches!(ended, Ended::Complete);
        let result = verdict(ended, report);
        if !report.refused.is_empty() {
            warn!(refused = report.refused(), "the kernel has refused flows: {report}");
        }
        let summary = match &result {
            Ok(summary) | Err(summary) => summary.clone(),
        };
        let shown = shown(report, &committing, complete, summary);
        for person in committing.people {
            let counts = shown.counts.iter().map(|(name, count)| (name.as_str(), *count));
            let answer = result.clone().map(|summary| done(summary, counts));
            // Whoever asked may have given up.
            drop(person.send(answer));
        }
        self.last_commit = Some(shown);
        if committing.steps.is_empty() {
            return Ok(());
        }
        let outcome = result.map_or_else(Outcome::Failed, Outcome::Done);
        let answers = committing.steps.into_iter().map(|step| (step.id, outcome.clone())).collect();
        self.tell(CoreEvent::Stepped(answers)).await;
        Ok(())
    }

    /// The commit under way, for `status`.
    pub(super) fn commit_progress(&self) -> Option<status::replication::Job> {
        self.commit.as_ref().map(|committing| {
            let progress = committing.commit.progress();
            let Progress { done, total } = progress;
            status::replication::Job { name: "commit".to_owned(), done, total: Some(total) }
        })
    }
}

fn verdict(ended: Ended, report: &CommitReport) -> Result<String, String> {
    match ended {
        Ended::Failed(error) => Err(format!("{report}; then {:#}", anyhow::Error::new(error))),
        Ended::CutShort => Err(format!("cut short by something newer: {report}")),
        Ended::Complete
            if report.committed() + report.expectations == 0 && report.refused() > 0 =>
        {
            Err(report.to_string())
        }
        Ended::Complete => Ok(report.to_string()),
    }
}

fn shown(
    report: &CommitReport,
    committing: &Committing,
    complete: bool,
    summary: String,
) -> status::replication::Commit {
    status::replication::Commit {
        at: status::timestamp(SystemTime::now()),
        took_ms: committing.began.elapsed().as_millis() as u64,
        complete,
        summary,
        counts: counts(report).into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        refused: refusals(report),
        samples: report.samples.clone(),
    }
}

/// What has become of entries, by name.
pub(super) fn counts(report: &CommitReport) -> [(&'static str, u64); 15] {
    [
        ("committed", report.committed()),
        ("created", report.created),
        ("updated", report.updated),
        ("replaced", report.replaced),
        ("deleted", report.deleted),
        ("left-over", report.left_over),
        ("unchanged", report.unchanged),
        ("retimed", report.retimed),
        ("without-helper", report.without_helper),
        ("without-master", report.without_master),
        ("expectations", report.expectations),
        ("expectations-without-helper", report.expectations_without_helper),
        ("put-back", report.put_back),
        ("left", report.left),
        ("refused", report.refused()),
    ]
}

/// Refused entries by reason.
pub(super) fn refusals(report: &CommitReport) -> BTreeMap<String, u64> {
    let reason = |errno: i32| std::io::Error::from_raw_os_error(errno).to_string();
    report.refused.iter().map(|(errno, count)| (reason(*errno), *count)).collect()
}
