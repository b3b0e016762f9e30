//! The hooks of a router: processes that outlive the daemon, and the daemon's queue for them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_failover::hooks::{Form, Hook, HookQueue, Member, Notice, Transition, notices};
use lockstep_failover::{self as failover, State, StepId};

use super::{Daemon, Effect, GROUP, NAME};

/// How long a hook may run.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What runs on a router beside its daemon, and what it has come to.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    running: Option<Running>,
    /// By what it is about (a virtual router or its group): the state for which the last one ran.
    ran_for: BTreeMap<bool, State>,
    /// Those that begin until then fail.
    fail_until: Option<Instant>,
    /// Those that begin until then end by their timeout.
    hang_until: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    notice: Notice,
    ends_at: Instant,
    succeeds: bool,
    /// Of which life of the daemon it is.
    life: u32,
}

impl Hooks {
    /// For which states the last ones ran, of its virtual router and of its group.
    pub(crate) fn ran_for(&self) -> [Option<State>; 2] {
        [true, false].map(|is_router| self.ran_for.get(&is_router).copied())
    }

    /// When the one that runs ends.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.ends_at)
    }

    /// Those that begin before `until` fail.
    pub(crate) fn fail(&mut self, until: Instant) {
        self.fail_until = Some(until);
    }

    /// Those that begin before `until` do not return.
    pub(crate) fn hang(&mut self, until: Instant) {
        self.hang_until = Some(until);
    }

    pub(super) fn calm(&mut self) {
        (self.fail_until, self.hang_until) = (None, None);
    }

    fn launch(&mut self, notice: Notice, life: u32, rng: &mut Rng, now: Instant) {
        let before = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let hangs = before(self.hang_until);
        let takes = if hangs { TIMEOUT } else { Duration::from_millis(rng.u64(1..200)) };
        let succeeds = !hangs && !before(self.fail_until);
        self.running = Some(Running { notice, ends_at: now + takes, succeeds, life });
    }

    /// The one that has ended.
    fn reap(&mut self, now: Instant) -> Option<Running> {
        let ended = self.running.take_if(|running| running.ends_at <= now)?;
        self.ran_for.insert(ended.notice.virtual_router.is_some(), ended.notice.to);
        Some(ended)
    }
}

/// The queue of a daemon that begins; one that still runs is waited for.
pub(super) fn queue(hooks: &mut Hooks, now: Instant) -> HookQueue {
    let mut queue = HookQueue::new();
    queue.declare_virtual_router(NAME, Form::OfState);
    queue.declare_group(GROUP, Form::OfState);
    hooks.reap(now);
    if hooks.running.is_some() {
        queue.hold();
    }
    queue
}

impl Daemon {
    /// Has the hooks of a transition stand in line.
    pub(super) fn run_hooks(
        &mut self,
        id: StepId,
        (from, to): (State, State),
        hooks: &mut Hooks,
        now: Instant,
    ) {
        self.hooks_asked = Some(id);
        let priority = self.failover.priority(NAME).unwrap_or_default();
        let transition = Transition {
            group: GROUP.to_owned(),
            alone: false,
            members: vec![Member { name: NAME.to_owned(), priority }],
            from,
            to,
            reason: String::new(),
        };
        for notice in notices(&transition) {
            let next = self.hooks.push(Hook { notice, form: Form::OfState });
            self.launch(next.expect("declared"), hooks, now);
        }
    }

    /// Says that none waits any more: what runs, runs on without the daemon.
    pub(super) fn tell_begun(&mut self, number: usize, now: Instant, effects: &mut Vec<Effect>) {
        let waits = self.hooks.waiting().any(|hook| hook.notice.to != State::Init);
        if let Some(id) = self.hooks_asked.take_if(|_| !waits) {
            let event = failover::Event::HooksBegun { group: GROUP.to_owned(), id };
            self.feed(number, event, now, effects);
        }
    }

    /// Runs `next`, passing over those that have no command.
    fn launch(&mut self, mut next: Option<Hook>, hooks: &mut Hooks, now: Instant) {
        while let Some(hook) = next {
            if hook.notice.to != State::Init {
                return hooks.launch(hook.notice, self.life, &mut self.rng, now);
            }
            next = self.hooks.ended(true);
        }
    }

    /// Sees to the hook that has ended.
    pub(super) fn finish_hooks(
        &mut self,
        number: usize,
        hooks: &mut Hooks,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let Some(ended) = hooks.reap(now) else { return };
        if ended.life != self.life {
            let next = self.hooks.release();
            return self.launch(next, hooks, now);
        }
        let matters = self.hooks_matter && !self.hooks.is_outdated();
        let next = self.hooks.ended(ended.succeeds);
        self.launch(next, hooks, now);
        if !ended.succeeds && matters {
            let (group, state) = (GROUP.to_owned(), ended.notice.to);
            let why = "hook failed: exit status 1".to_owned();
            let event = failover::Event::HookFailed { group, state, why };
            self.feed(number, event, now, effects);
        }
    }
}
