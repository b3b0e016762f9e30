//! The order of the steps of a transition, and how long each may take.

use std::time::{Duration, Instant};

use crate::handover::is_of_handover;
use crate::{Limits, Outcome, State, Step, StepId, config};

/// Attempts at one step before it counts as failed.
pub(crate) const ATTEMPTS: u32 = 3;
/// From a failed attempt to the next.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The longest a step may go unanswered, unless it reads or writes whole tables.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(2);
/// The longest that the claim, which a dead master's group waits for, waits for the packet filter.
pub(crate) const HOLD_LIMIT: Duration = Duration::from_millis(100);
/// The longest for steps that go through whole routing or flow tables without holding addresses
/// back.
pub(crate) const TABLE_LIMIT: Duration = Duration::from_secs(20);

/// The longest for the active role, which waits for the end of a commit that has taken too long to
/// hold addresses back any longer: that of the replicator, and then a table.
pub(crate) const ROLE_LIMIT: Duration = Duration::from_secs(30).saturating_add(TABLE_LIMIT);

/// A transition under way.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The state it leads to.
    pub(crate) to: State,
    /// The state it came from, for the hooks.
    pub(crate) from: State,
    /// Its entry in the journal.
    pub(crate) number: u64,
    steps: &'static [Step],
    /// Steps that are left out, as the group has no use for them.
    without: Without,
    next: usize,
    /// What is under way now.
    pub(crate) doing: Doing,
}

/// Where a plan stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Doing {
    /// Between two steps.
    Nothing,
    /// A step has been given out; its answer is due at `until`.
    Step { id: StepId, step: Step, attempt: u32, until: Instant },
    /// A step failed and is given out again at `at`.
    Waiting { step: Step, attempt: u32, at: Instant },
}

/// Steps that a group has no use for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Without {
    /// Those of the replicator.
    pub(crate) replication: bool,
    /// Those that hold back what would begin a flow while flows are committed.
    pub(crate) gate: bool,
}

impl Without {
    pub(crate) fn of(group: &config::Group) -> Self {
        Self { replication: !group.replicated, gate: !(group.replicated && group.holds_forwarding) }
    }

    const NOTHING: Self = Self { replication: false, gate: false };

    fn leaves_out(self, step: Step) -> bool {
        match step {
            Step::CommitFlows | Step::ReplicateActive | Step::ReplicateBackup => self.replication,
            Step::HoldForwarding | Step::PassForwarding => self.gate,
            _ => false,
        }
    }
}

impl Plan {
    /// The steps that lead from `from` to `to`.
    pub(crate) fn new(from: State, to: State, number: u64, without: Without) -> Self {
        let steps = if to == State::Master { MASTER } else { NO_MASTER };
        Self { to, from, number, steps, without, next: 0, doing: Doing::Nothing }
    }

    /// The steps that make a group master that has never ceased to be: everything is in place, but
    /// this run has to know it, and say so.
    pub(crate) fn resumed(number: u64, without: Without) -> Self {
        let (from, to) = (State::Init, State::Master);
        Self { to, from, number, steps: RESUMED, without, next: 0, doing: Doing::Nothing }
    }

    /// Other steps in the same entry of the journal.
    pub(crate) fn of(steps: &'static [Step], from: State, to: State, number: u64) -> Self {
        let without = Without::NOTHING;
        Self { to, from, number, steps, without, next: 0, doing: Doing::Nothing }
    }

    /// The next step of the order, which is then gone from it.
    pub(crate) fn next(&mut self) -> Option<Step> {
        loop {
            let step = self.steps.get(self.next).copied()?;
            self.next += 1;
            if !self.without.leaves_out(step) {
                return Some(step);
            }
        }
    }

    /// A commit may take another time than it might before, both from its beginning.
    pub(crate) fn limit_commit(&mut self, before: Duration, limit: Duration) {
        if let Doing::Step { step: Step::CommitFlows, until, .. } = &mut self.doing
            && let Some(began) = until.checked_sub(before)
        {
            *until = began + limit;
        }
    }

    /// When something has to happen although nobody spoke.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.doing {
            Doing::Nothing => None,
            Doing::Step { until, .. } => Some(until),
            Doing::Waiting { at, .. } => Some(at),
        }
    }

    /// The step under way, for `status`.
    pub(crate) fn step(&self) -> Option<Step> {
        match self.doing {
            Doing::Nothing => None,
            Doing::Step { step, .. } | Doing::Waiting { step, .. } => Some(step),
        }
    }
}

/// The longest wait for an answer to `step`.
pub(crate) fn limit(step: Step, limits: &Limits) -> Duration {
    match step {
        Step::CommitFlows => limits.commit,
        Step::RoutesUp | Step::RoutesDown => TABLE_LIMIT,
        Step::ReplicateActive => ROLE_LIMIT,
        Step::HoldForwarding => HOLD_LIMIT,
        Step::Claim
        | Step::PassForwarding
        | Step::LinksUp
        | Step::AddressesUp
        | Step::Announce
        | Step::StopClaiming
        | Step::AddressesDown
        | Step::LinksDown
        | Step::ReplicateBackup
        | Step::Hooks
        | Step::Barrier
        | Step::Retire
        | Step::PeerClaims
        | Step::PeerServes => STEP_LIMIT,
    }
}

/// What becomes of a step whose answer has not come in time. A commit that is slow goes on beside
/// the rest.
pub(crate) fn unanswered(step: Step, why: &str) -> Outcome {
    match step {
        Step::CommitFlows => {
            Outcome::Pending(format!("{why}: flows are still put into the kernel"))
        }
        _ => Outcome::Failed(why.to_owned()),
    }
}

/// Whether a step that has failed is tried again: nothing may wait long for one that is a courtesy,
/// or part of a hand-over, which is called off instead.
pub(crate) fn is_tried_again(step: Step) -> bool {
    step != Step::HoldForwarding && !is_of_handover(step)
}

/// Whether a group that cannot do `step` cannot serve.
pub(crate) fn is_vital(step: Step) -> bool {
    matches!(step, Step::Claim | Step::AddressesUp)
}

/// To serve. Nothing that would begin a flow is passed on between the claim, which draws traffic
/// here, and the end of the commit.
const MASTER: &[Step] = &[
    Step::HoldForwarding,
    Step::Claim,
    Step::CommitFlows,
    Step::PassForwarding,
    Step::LinksUp,
    Step::AddressesUp,
    Step::RoutesUp,
    Step::Announce,
    Step::ReplicateActive,
    Step::Hooks,
];

/// Not to serve, whatever came before: what a plan that was cut short held back passes again.
const NO_MASTER: &[Step] = &[
    Step::StopClaiming,
    Step::AddressesDown,
    Step::RoutesDown,
    Step::LinksDown,
    Step::PassForwarding,
    Step::ReplicateBackup,
    Step::Hooks,
];

/// Without a commit, since the kernel has the flows, and without hooks, since nothing has changed.
const RESUMED: &[Step] = &[
    Step::Claim,
    Step::LinksUp,
    Step::AddressesUp,
    Step::RoutesUp,
    Step::Announce,
    Step::ReplicateActive,
];
