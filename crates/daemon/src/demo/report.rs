//! What the demo has measured; with `--json`, all that it prints.

use std::time::Duration;

use lockstep_lab::RouterId;
use lockstep_lab::traffic::{Outage, Verdict};
use serde::Serialize;

use super::daemon::Since;
use super::failure::Failure;
use super::options::{FirewallKind, Options};
use crate::status::{Transition, TransitionStep};

/// The whole demo.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Report {
    /// The routers' firewall.
    pub firewall: FirewallKind,
    /// How router A failed.
    pub failure: Failure,
    /// Milliseconds between advertisements.
    pub advertisement_interval_ms: u64,
    /// TCP connections with traffic.
    pub connections: usize,
    /// Flows without.
    pub flows: u32,
    /// The changes of mastership, in order.
    pub events: Vec<Event>,
}

/// Which way mastership went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    /// From the router that failed.
    Failover,
    /// Back to it.
    Failback,
}

/// One change of mastership.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Event {
    /// Which.
    pub change: Change,
    /// The router in charge afterwards: `A` or `B`.
    pub master: &'static str,
    /// Why it took charge, in its own words.
    pub reason: String,
    /// Milliseconds from the failure (or repair) to the beginning of the transition.
    pub noticed_ms: u64,
    /// Microseconds from the beginning of the transition to its end.
    pub transition_us: u64,
    /// The steps of the transition.
    pub steps: Vec<TransitionStep>,
    /// Without service, by the probe.
    pub outage: Outage,
    /// The longest time in which a surviving connection delivered nothing, in milliseconds.
    pub longest_stall_ms: u64,
    /// What became of the TCP connections.
    pub connections: Counts,
    /// How connections ended that did not survive, one line each.
    pub losses: Vec<String>,
    /// Flows without traffic in the new master's kernel, of all that were made.
    pub flows_carried: u32,
    /// All that were made.
    pub flows_expected: u32,
}

/// Connections by what became of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Counts {
    /// They transfer both ways.
    pub alive: usize,
    /// They were ended.
    pub reset: usize,
    /// Nothing arrives any more.
    pub stalled: usize,
    /// Something arrived that was never sent.
    pub corrupted: usize,
}

impl Report {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            firewall: options.firewall,
            failure: options.failure,
            advertisement_interval_ms: options.advertisement_interval.as_millis() as u64,
            connections: options.connections,
            flows: options.flows,
            events: Vec::new(),
        }
    }

    /// Whether every connection and every flow has survived every change.
    pub(super) fn survived(&self) -> bool {
        self.events.iter().all(Event::survived)
    }
}

impl Event {
    pub(super) fn new(
        change: Change,
        successor: RouterId,
        since: &Since,
        transition: Transition,
        outage: Outage,
        verdict: &Verdict,
    ) -> Self {
        let end = |step: &TransitionStep| step.started_us + step.took_us.unwrap_or(0);
        Self {
            change,
            master: successor.name(),
            noticed_ms: noticed(since, &transition.at).as_millis() as u64,
            transition_us: transition.steps.iter().map(end).max().unwrap_or(0),
            reason: transition.reason,
            steps: transition.steps,
            outage,
            longest_stall_ms: verdict.longest_gap_ms,
            connections: Counts {
                alive: verdict.alive,
                reset: verdict.reset,
                stalled: verdict.stalled,
                corrupted: verdict.corrupted,
            },
            losses: verdict.connections.iter().filter_map(|report| report.detail.clone()).collect(),
            flows_carried: 0,
            flows_expected: 0,
        }
    }

    pub(super) fn with_flows(mut self, carried: u32, expected: u32) -> Self {
        (self.flows_carried, self.flows_expected) = (carried, expected);
        self
    }

    /// Whether every connection and every flow has survived.
    pub(super) fn survived(&self) -> bool {
        let Counts { alive: _, reset, stalled, corrupted } = self.connections;
        reset + stalled + corrupted == 0 && self.flows_carried >= self.flows_expected
    }
}

/// From the moment of the failure to a moment of the journal; nothing when the clock was set back
/// in between.
fn noticed(since: &Since, at: &str) -> Duration {
    let at = humantime::parse_rfc3339(at).ok();
    at.and_then(|at| at.duration_since(since.at).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, UNIX_EPOCH};

    use lockstep_lab::traffic::{ConnectionReport, Fate};

    use super::*;

    fn event(fates: &[Fate], carried: u32) -> Event {
        let count = |fate| fates.iter().filter(|other| **other == fate).count();
        let verdict = Verdict {
            alive: count(Fate::Alive),
            reset: count(Fate::Reset),
            stalled: count(Fate::Stalled),
            corrupted: count(Fate::Corrupted),
            longest_gap_ms: 0,
            connections: fates.iter().map(|fate| connection(*fate)).collect(),
        };
        let since = Since { number: 0, instant: Instant::now(), at: UNIX_EPOCH };
        let transition = Transition {
            view: Vec::new(),
            is_over: true,
            number: 1,
            at: "1970-01-01T00:00:00.312Z".to_owned(),
            group: "routers".to_owned(),
            from: "backup".to_owned(),
            to: "master".to_owned(),
            reason: "silence".to_owned(),
            steps: vec![TransitionStep {
                step: "claim".to_owned(),
                started_us: 100,
                took_us: Some(50),
                outcome: "done".to_owned(),
                detail: String::new(),
            }],
        };
        Event::new(Change::Failover, RouterId::B, &since, transition, Outage::default(), &verdict)
            .with_flows(carried, 10)
    }

    fn connection(fate: Fate) -> ConnectionReport {
        ConnectionReport { fate, longest_gap_ms: 0, delivered: [1, 1], detail: None }
    }

    #[test]
    fn the_time_to_notice_and_the_length_of_the_transition_are_read_from_the_journal() {
        let event = event(&[Fate::Alive], 10);
        assert_eq!((event.noticed_ms, event.transition_us), (312, 150));
    }

    #[test]
    fn only_a_failover_that_loses_nothing_is_survived() {
        assert!(event(&[Fate::Alive; 3], 10).survived());
        assert!(!event(&[Fate::Alive; 3], 9).survived());
        for loss in [Fate::Reset, Fate::Stalled, Fate::Corrupted] {
            assert!(!event(&[Fate::Alive, loss], 10).survived(), "{loss:?}");
        }
    }
}
