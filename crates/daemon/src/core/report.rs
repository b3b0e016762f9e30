//! What the core tells of itself: groups, virtual routers, the journal.

use std::time::{Instant, SystemTime};

use lockstep_failover::group::Group;
use lockstep_failover::{Explanation, Outcome, StepRecord, Tracked, Transition};

use super::Core;
use crate::{journal, status};

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
            waiting: group.waits_for(now),
            maintenance: group.in_maintenance_since().map(str::to_owned),
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

    pub(super) fn explain(&self) -> Vec<status::Explanation> {
        let now = Instant::now();
        self.failover.groups().iter().map(|group| self.explain_group(group, now)).collect()
    }

    fn explain_group(&self, group: &Group, now: Instant) -> status::Explanation {
        let Explanation { mut because, mut would_change, asks_elections } = group.explain(now);
        if asks_elections {
            for member in self.failover.members(group.name()) {
                let standing = self.elections.standing(member, now);
                let named = |sentence: &String| format!("{member}: {sentence}");
                because.extend(standing.because.iter().map(named));
                would_change.extend(standing.would_change.iter().map(named));
            }
        }
        for one in self.failover.tracked(group.name()).filter(|one| one.effect != 0) {
            let (subject, effect, detail) = (one.subject, one.effect, one.detail);
            because.push(format!("{subject} changes the priority by {effect:+}: {detail}"));
        }
        status::Explanation {
            group: group.name().to_owned(),
            state: group.state().as_str().to_owned(),
            since: date(group.since()),
            because,
            would_change,
            replicated: group.is_replicated(),
        }
    }

    /// Adds to the transitions that are new what is known of the other routers, and says when there
    /// is something to write down.
    pub(super) fn note_transitions(&mut self) {
        let revision = self.failover.journal().revision();
        if revision == self.outboxes.journal.borrow().revision {
            return;
        }
        let now = Instant::now();
        let Self { failover, elections, in_sync, seen, .. } = self;
        let members: Vec<Vec<String>> = failover
            .journal()
            .transitions()
            .rev()
            .take_while(|transition| transition.number > *seen)
            .map(|transition| failover.members(&transition.group).map(str::to_owned).collect())
            .collect();
        let mut members = members.into_iter();
        *seen = failover.journal_mut().see(*seen, |_| {
            let members = members.next().unwrap_or_default();
            let heard = members.iter().filter_map(|name| elections.last_heard(name, now));
            heard.chain(in_sync.clone()).collect()
        });
        self.outboxes.journal.send_replace(journal::News { revision, last: None });
    }

    /// The last word: nobody can ask any more.
    pub(super) fn leave_the_journal(&mut self) {
        let revision = self.failover.journal().revision();
        let last = Some(self.journal());
        self.outboxes.journal.send_replace(journal::News { revision, last });
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
        view: entry.view.clone(),
        is_over: entry.is_over,
        steps: entry.steps.iter().map(|record| step(record, entry.at)).collect(),
    }
}

fn step(record: &StepRecord, began: Instant) -> status::TransitionStep {
    let (outcome, detail) =
        record.ended.as_ref().map_or(("running", ""), |(_, outcome)| words(outcome));
    let late = record.late.as_ref().map(|(at, outcome)| {
        let (word, detail) = words(outcome);
        let after = at.saturating_duration_since(record.started).as_millis();
        format!("; {word} after {after} ms: {detail}")
    });
    status::TransitionStep {
        step: record.step.as_str().to_owned(),
        started_us: microseconds(record.started - began),
        took_us: record.ended.as_ref().map(|(ended, _)| microseconds(*ended - record.started)),
        outcome: outcome.to_owned(),
        detail: format!("{detail}{}", late.unwrap_or_default()),
    }
}

fn words(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Done(detail) => ("done", detail),
        Outcome::Pending(detail) => ("pending", detail),
        Outcome::Failed(detail) => ("failed", detail),
    }
}

fn microseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
