//! What the core tells of itself: groups, virtual routers, the journal.

use std::time::{Instant, SystemTime};

use lockstep_failover::{Outcome, StepRecord, Tracked, Transition};

use super::Core;
use crate::status;

/// The date of a moment as the wall clock has it now, which may have been set since: RFC 3339 in UTC
/// with milliseconds.
fn date(moment: Instant) -> String {
    status::timestamp(SystemTime::now() - Instant::now().saturating_duration_since(moment))
}

impl Core {
    pub(super) fn status(&self) -> status::Core {
        let now = Instant::now();
        let groups = self.failover.groups().iter().map(|group| status::Group {
            name: group.name().to_owned(),
            state: group.state().as_str().to_owned(),
            since: date(group.since()),
            reason: group.reason(),
            step: group.step().map(|step| step.as_str().to_owned()),
            tracked: self.failover.tracked(group.name()).map(|one| tracked(&one)).collect(),
        });
        status::Core {
            groups: groups.collect(),
            virtual_routers: self.elections.status(now),
            scheduling: status::Scheduling {
                worst_late_us: microseconds(self.lateness.worst()),
                worst_late_last_minute_us: microseconds(self.lateness.last_minute(now)),
                shortest_interval_us: self.elections.shortest_interval().map(microseconds),
                overslept: self.elections.overslept(),
                receive_drops: self.elections.missed(),
            },
        }
    }

    pub(super) fn journal(&self) -> Vec<status::Transition> {
        self.failover.journal().transitions().map(transition).collect()
    }
}

fn tracked(one: &Tracked<'_>) -> status::Tracked {
    status::Tracked {
        object: one.subject.to_string(),
        virtual_router: one.virtual_router.map(str::to_owned),
        state: one.verdict.as_str().to_owned(),
        detail: one.detail.to_owned(),
        weight: one.weight,
        effect: one.effect,
    }
}

fn transition(entry: &Transition) -> status::Transition {
    status::Transition {
        number: entry.number,
        at: date(entry.at),
        group: entry.group.clone(),
        from: entry.from.as_str().to_owned(),
        to: entry.to.as_str().to_owned(),
        reason: entry.reason.clone(),
        steps: entry.steps.iter().map(|record| step(record, entry.at)).collect(),
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
