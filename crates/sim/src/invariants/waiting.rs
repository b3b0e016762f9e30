//! How long a group waits: for a commit no longer than its limit, and for the flows of a working master
//! no shorter.

use std::time::{Duration, Instant};

use lockstep_failover::{State, Step};

use super::Invariants;
use crate::router::Router;

/// What the checks of waiting remember of one router.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Since when a commit holds the rest of a takeover back, and the longest limit since.
    commits: Option<(Instant, Duration)>,
    /// Since when it stands by without the other's flows, and the shortest limit since.
    lacks: Option<(Instant, Option<Duration>)>,
    was_backup: bool,
}

/// What is in the reason of a takeover from a working master.
const PREEMPTS: &str = "lower than our";
/// Timers are served late by less than this.
const LATE: Duration = Duration::from_millis(1);

impl Invariants {
    /// A slow commit delays the addresses by no more than its limit.
    pub(crate) fn check_commit(
        &mut self,
        routers: &[Router; 2],
        now: Instant,
    ) -> Result<(), String> {
        for (router, waiting) in routers.iter().zip(&mut self.waiting) {
            let commits = router.daemon.as_ref().is_some_and(|daemon| {
                daemon.failover.groups()[0].step() == Some(Step::CommitFlows)
            });
            if !commits || router.stalled_until.is_some() {
                waiting.commits = None;
                continue;
            }
            let limit = router.commit_limit();
            let (since, longest) = waiting.commits.get_or_insert((now, limit));
            *longest = limit.max(*longest);
            if now - *since > *longest + LATE {
                let (number, time) = (router.number, now - *since);
                return Err(format!("router {number} has waited {time:?} for a commit"));
            }
        }
        Ok(())
    }

    /// A working master is not replaced by a router without its flows, unless that has waited for them
    /// as long as it is to.
    pub(crate) fn check_preemption(
        &mut self,
        routers: &[Router; 2],
        now: Instant,
    ) -> Result<(), String> {
        for (router, waiting) in routers.iter().zip(&mut self.waiting) {
            let Some(daemon) = &router.daemon else {
                *waiting = Waiting::default();
                continue;
            };
            let state = daemon.state();
            // Its election has not claimed yet, and does not say why it will.
            let preempts = daemon.failover.groups()[0].reason().contains(PREEMPTS);
            let takes_over = std::mem::replace(&mut waiting.was_backup, state == State::Backup)
                && state == State::Master;
            // What is known of the flows changes with the takeover itself.
            if takes_over
                && preempts
                && let Some((since, limit)) = waiting.lacks
                && limit.is_none_or(|limit| now < since + limit)
            {
                let (number, time) = (router.number, now - since);
                return Err(format!(
                    "router {number} preempts without the other's flows after {time:?} of {limit:?}"
                ));
            }
            let limit = router.settings.limits.preempt_without_flows;
            if state == State::Backup && !daemon.replicator.sync_state().in_sync {
                let (_, shortest) = waiting.lacks.get_or_insert((now, limit));
                *shortest = (*shortest).into_iter().chain(limit).min();
            } else {
                waiting.lacks = None;
            }
        }
        Ok(())
    }
}
