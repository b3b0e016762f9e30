//! The order of the steps of a transition, and how long each may take.

use std::time::{Duration, Instant};

use crate::{Limits, Outcome, State, Step, StepId};

/// Attempts at one step before it counts as failed.
pub(crate) const ATTEMPTS: u32 = 3;
/// From a failed attempt to the next.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(100);
/// The longest a step may go unanswered, unless it reads or writes whole tables.
pub(crate) const STEP_LIMIT: Duration = Duration::from_secs(2);
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

impl Plan {
    /// The steps that lead from `from` to `to`.
    pub(crate) fn new(from: State, to: State, number: u64, replicated: bool) -> Self {
        let steps = steps(to, replicated);
        Self { to, from, number, steps, next: 0, doing: Doing::Nothing }
    }

    /// The steps that make a group master that has never ceased to be: everything is in place, but
    /// this run has to know it, and say so.
    pub(crate) fn resumed(number: u64, replicated: bool) -> Self {
        let steps = if replicated { RESUMED_REPLICATED } else { RESUMED };
        let (from, to) = (State::Init, State::Master);
        Self { to, from, number, steps, next: 0, doing: Doing::Nothing }
    }

    /// Other steps in the same entry of the journal.
    pub(crate) fn of(steps: &'static [Step], from: State, to: State, number: u64) -> Self {
        Self { to, from, number, steps, next: 0, doing: Doing::Nothing }
    }

    /// The next step of the order, which is then gone from it.
    pub(crate) fn next(&mut self) -> Option<Step> {
        let step = self.steps.get(self.next).copied();
        self.next += 1;
        step
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
        Step::Claim
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

/// Whether a group that cannot do `step` cannot serve.
pub(crate) fn is_vital(step: Step) -> bool {
    matches!(step, Step::Claim | Step::AddressesUp)
}

/// Without a commit, since the kernel has the flows, and without hooks, since nothing has changed.
const RESUMED_REPLICATED: &[Step] = &[
    Step::Claim,
    Step::LinksUp,
    Step::AddressesUp,
    Step::RoutesUp,
    Step::Announce,
    Step::ReplicateActive,
];
const RESUMED: &[Step] =
    &[Step::Claim, Step::LinksUp, Step::AddressesUp, Step::RoutesUp, Step::Announce];

fn steps(to: State, replicated: bool) -> &'static [Step] {
    match (to, replicated) {
        (State::Master, true) => &[
            Step::Claim,
            Step::CommitFlows,
            Step::LinksUp,
            Step::AddressesUp,
            Step::RoutesUp,
            Step::Announce,
            Step::ReplicateActive,
            Step::Hooks,
        ],
        (State::Master, false) => &[
            Step::Claim,
            Step::LinksUp,
            Step::AddressesUp,
            Step::RoutesUp,
            Step::Announce,
            Step::Hooks,
        ],
        (State::Init | State::Backup | State::Fault | State::Stopped, true) => &[
            Step::StopClaiming,
            Step::AddressesDown,
            Step::RoutesDown,
            Step::LinksDown,
            Step::ReplicateBackup,
            Step::Hooks,
        ],
        (State::Init | State::Backup | State::Fault | State::Stopped, false) => &[
            Step::StopClaiming,
            Step::AddressesDown,
            Step::RoutesDown,
            Step::LinksDown,
            Step::Hooks,
        ],
    }
}
