//! What the core tells of itself: groups, virtual routers, the journal.

use std::time::{Instant, SystemTime};

use lockstep_failover::{Outcome, StepRecord, Transition};

use super::Core;
use crate::status;

/// Turns the moments of the monotonic clock into dates.
pub(super) struct Clock {
    instant: Instant,
    date: SystemTime,
}

impl Clock {
    /// Ties `now` to the date it has at this moment.
    pub(super) fn new(now: Instant) -> Self {
        Self { instant: now, date: SystemTime::now() }
    }

    /// RFC 3339 in UTC with milliseconds.
    pub(super) fn date(&self, moment: Instant) -> String {
        let date = match moment.checked_duration_since(self.instant) {
            Some(later) => self.date + later,
            None => self.date - self.instant.duration_since(moment),
        };
        status::timestamp(date)
    }
}

impl Core {
    pub(super) fn status(&self) -> (Vec<status::Group>, Vec<status::VirtualRouter>) {
        let groups = self.failover.groups().iter().map(|group| status::Group {
            name: group.name().to_owned(),
            state: group.state().as_str().to_owned(),
            since: self.clock.date(group.since()),
            reason: group.reason(),
            step: group.step().map(|step| step.as_str().to_owned()),
        });
        (groups.collect(), self.elections.status(Instant::now()))
    }

    pub(super) fn journal(&self) -> Vec<status::Transition> {
        self.failover.journal().transitions().map(|entry| self.transition(entry)).collect()
    }

    fn transition(&self, entry: &Transition) -> status::Transition {
        status::Transition {
            number: entry.number,
            at: self.clock.date(entry.at),
            group: entry.group.clone(),
            from: entry.from.as_str().to_owned(),
            to: entry.to.as_str().to_owned(),
            reason: entry.reason.clone(),
            steps: entry.steps.iter().map(|record| step(record, entry.at)).collect(),
        }
    }
}

fn step(record: &StepRecord, began: Instant) -> status::TransitionStep {
    let (outcome, detail) = match &record.ended {
        None => ("running", ""),
        Some((_, Outcome::Done(detail))) => ("done", detail.as_str()),
        Some((_, Outcome::Pending(detail))) => ("pending", detail.as_str()),
        Some((_, Outcome::Failed(detail))) => ("failed", detail.as_str()),
    };
    status::TransitionStep {
        step: record.step.as_str().to_owned(),
        started_us: microseconds(record.started - began),
        took_us: record.ended.as_ref().map(|(ended, _)| microseconds(*ended - record.started)),
        outcome: outcome.to_owned(),
        detail: detail.to_owned(),
    }
}

fn microseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
