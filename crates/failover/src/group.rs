//! One failover group: what was observed of it, the state that follows, and the plan under way.
//!
//! ```text
//!            all members usable,              every member elected
//!            every check has run once             (Elected)
//!   init ─────────────────────────▶ backup ─────────────────────────▶ master
//!    │                               │  ▲ ◀───────────────────────────  │
//!    │ a check or an interface fails │  │ fit again       Superseded    │
//!    └──────────▶ fault ◀────────────┘──┘                               │
//!                   ▲───────────────────────────────────────────────────┘
//!   any ── Stop ──▶ stopped
//! ```
//!
//! Entering a state begins its plan; a newer state cuts a plan that is still under way. The actors
//! carry steps out in the order they were given, so that what a cut plan left behind is undone or
//! completed by the plan that cut it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::journal::Journal;
use crate::plan::{self, Doing, Plan};
use crate::tracking::Verdict;
use crate::{Action, Outcome, State, Step, StepId, VirtualRouterEvent, config};

/// How long a group whose vital step or whose sending failed stays in fault before it tries again.
pub(crate) const FAULT_HOLD: Duration = Duration::from_secs(5);

/// A failover group at work.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    replicated: bool,
    state: State,
    since: Instant,
    reason: String,
    members: Vec<Member>,
    checks: BTreeMap<String, (Verdict, String)>,
    in_sync: bool,
    stopping: bool,
    /// What failed that made this a fault, and when to try again.
    held: Option<(String, Instant)>,
    plan: Option<Plan>,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    /// `None` before the interface has been looked at.
    usable: Option<Result<(), String>>,
    /// Why this member would be master, while it would.
    elected: Option<String>,
}

/// Whether a group can serve.
enum Fitness {
    Fit,
    /// Something has not been looked at yet.
    Unknown,
    Unfit(String),
}

/// What a group needs of its surroundings while it acts.
pub(crate) struct Context<'a> {
    pub(crate) journal: &'a mut Journal,
    pub(crate) next_step: &'a mut u64,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) now: Instant,
}

impl Group {
    pub(crate) fn new(config: &config::Group, now: Instant) -> Self {
        let member = |member: &config::VirtualRouter| Member {
            name: member.name.clone(),
            usable: None,
            elected: None,
        };
        Self {
            name: config.name.clone(),
            replicated: config.replicated,
            state: State::Init,
            since: now,
            reason: "starting".to_owned(),
            members: config.virtual_routers.iter().map(member).collect(),
            checks: config.checks.iter().map(|name| (name.clone(), Default::default())).collect(),
            in_sync: false,
            stopping: false,
            held: None,
            plan: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// When it entered that state.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Why it entered that state, in a sentence; in `init`, what is being waited for.
    pub fn reason(&self) -> String {
        if self.state == State::Init { self.waiting_for() } else { self.reason.clone() }
    }

    /// The step of a transition under way.
    pub fn step(&self) -> Option<Step> {
        self.plan.as_ref().and_then(Plan::step)
    }

    /// Whether a member may take mastership from a working master: only with the peer's state.
    pub fn preempt_allowed(&self) -> bool {
        !self.replicated || self.in_sync
    }

    /// Whether a transition is under way.
    pub fn is_settled(&self) -> bool {
        self.plan.is_none()
    }

    pub(crate) fn has_member(&self, virtual_router: &str) -> bool {
        self.members.iter().any(|member| member.name == virtual_router)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    pub(crate) fn start(&mut self, context: &mut Context<'_>) {
        self.tell_preemption(context);
        self.decide(context);
    }

    pub(crate) fn virtual_router(
        &mut self,
        name: &str,
        event: VirtualRouterEvent,
        context: &mut Context<'_>,
    ) {
        let Some(member) = self.members.iter_mut().find(|member| member.name == name) else {
            return;
        };
        match event {
            VirtualRouterEvent::Elected { reason } => member.elected = Some(reason),
            VirtualRouterEvent::Deferred => member.elected = None,
            VirtualRouterEvent::Superseded { reason } => {
                member.elected = None;
                if self.state == State::Master {
                    self.enter(State::Backup, reason, context);
                }
            }
            VirtualRouterEvent::Failing { reason } => {
                if self.state == State::Master {
                    self.held = Some((reason, context.now + FAULT_HOLD));
                }
            }
        }
        self.decide(context);
    }

    pub(crate) fn interface(
        &mut self,
        name: &str,
        usable: Result<(), String>,
        context: &mut Context<'_>,
    ) {
        if let Some(member) = self.members.iter_mut().find(|member| member.name == name) {
            member.usable = Some(usable);
            self.decide(context);
        }
    }

    pub(crate) fn check(
        &mut self,
        name: &str,
        verdict: Verdict,
        detail: &str,
        context: &mut Context<'_>,
    ) {
        if let Some(check) = self.checks.get_mut(name) {
            *check = (verdict, detail.to_owned());
            self.decide(context);
        }
    }

    pub(crate) fn in_sync(&mut self, in_sync: bool, context: &mut Context<'_>) {
        if self.replicated && self.in_sync != in_sync {
            self.in_sync = in_sync;
            self.tell_preemption(context);
        }
    }

    pub(crate) fn stop(&mut self, context: &mut Context<'_>) {
        self.stopping = true;
        self.decide(context);
    }

    pub(crate) fn stepped(&mut self, id: StepId, outcome: Outcome, context: &mut Context<'_>) {
        let Some(plan) = &mut self.plan else { return };
        let Doing::Step { id: expected, step, attempt, .. } = plan.doing else { return };
        if id != expected {
            return;
        }
        context.journal.step_ends(plan.number, outcome.clone(), context.now);
        plan.doing = Doing::Nothing;
        match outcome {
            Outcome::Done(_) | Outcome::Pending(_) => self.go_on(context),
            Outcome::Failed(_) if attempt < plan::ATTEMPTS => {
                let at = context.now + plan::RETRY_AFTER;
                plan.doing = Doing::Waiting { step, attempt: attempt + 1, at };
            }
            Outcome::Failed(why) => self.give_up(step, &why, context),
        }
    }

    pub(crate) fn timeout(&mut self, context: &mut Context<'_>) {
        if self.held.as_ref().is_some_and(|(_, until)| context.now >= *until) {
            self.held = None;
            self.decide(context);
        }
        let Some(plan) = &mut self.plan else { return };
        match plan.doing {
            Doing::Step { step, until, .. } if context.now >= until => {
                let why = format!("no answer within {} s", plan::limit(step).as_secs());
                let outcome = Outcome::Failed(why.clone());
                context.journal.step_ends(plan.number, outcome, context.now);
                plan.doing = Doing::Nothing;
                self.give_up(step, &why, context);
            }
            Doing::Waiting { step, attempt, at } if context.now >= at => {
                self.begin(step, attempt, context);
            }
            Doing::Nothing | Doing::Step { .. } | Doing::Waiting { .. } => {}
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let plan = self.plan.as_ref().and_then(Plan::deadline);
        let held = self.held.as_ref().map(|(_, until)| *until);
        plan.into_iter().chain(held).min()
    }

    /// Compares what was observed with the state, and leaves the state if it does not follow.
    fn decide(&mut self, context: &mut Context<'_>) {
        if self.state == State::Stopped {
            return;
        }
        if self.stopping {
            return self.enter(State::Stopped, "stopped on request".to_owned(), context);
        }
        match (self.state, self.fitness()) {
            (State::Fault, Fitness::Unfit(reason)) => self.reason = reason,
            (State::Init | State::Backup | State::Master, Fitness::Unfit(reason)) => {
                self.enter(State::Fault, reason, context);
            }
            (State::Init, Fitness::Fit) => self.start_members("started".to_owned(), context),
            (State::Fault, Fitness::Fit) => {
                self.start_members(format!("recovered from: {}", self.reason), context);
            }
            (State::Backup, Fitness::Fit) => {
                if let Some(reason) = self.all_elected() {
                    self.enter(State::Master, reason, context);
                }
            }
            (State::Master, Fitness::Fit)
            | (State::Init | State::Backup | State::Master | State::Fault, Fitness::Unknown)
            | (State::Stopped, _) => {}
        }
    }

    fn fitness(&self) -> Fitness {
        let mut unknown = false;
        for member in &self.members {
            match &member.usable {
                Some(Ok(())) => {}
                Some(Err(problem)) => return Fitness::Unfit(problem.clone()),
                None => unknown = true,
            }
        }
        for (name, (verdict, detail)) in &self.checks {
            match verdict {
                Verdict::Good => {}
                Verdict::Bad => return Fitness::Unfit(format!("check {name} failed: {detail}")),
                Verdict::Unknown => unknown = true,
            }
        }
        match &self.held {
            Some((reason, _)) => Fitness::Unfit(reason.clone()),
            None if unknown => Fitness::Unknown,
            None => Fitness::Fit,
        }
    }

    fn waiting_for(&self) -> String {
        let interface = self.members.iter().find(|member| member.usable.is_none());
        let check = self.checks.iter().find(|(_, (verdict, _))| *verdict == Verdict::Unknown);
        match (interface, check) {
            (Some(member), _) => format!("waiting for the interface of {}", member.name),
            (None, Some((name, _))) => format!("waiting for the first run of check {name}"),
            (None, None) => self.reason.clone(),
        }
    }

    /// The first member's reason once every member would be master.
    fn all_elected(&self) -> Option<String> {
        let mut reasons = self.members.iter().map(|member| member.elected.as_ref());
        let first = reasons.next()??;
        reasons.all(|reason| reason.is_some()).then(|| first.clone())
    }

    fn start_members(&mut self, reason: String, context: &mut Context<'_>) {
        self.enter(State::Backup, reason, context);
        let startups = self
            .members
            .iter()
            .map(|member| Action::Startup { virtual_router: member.name.clone() });
        context.actions.extend(startups);
    }

    fn enter(&mut self, to: State, reason: String, context: &mut Context<'_>) {
        if let Some(plan) = self.plan.take() {
            let cut = Outcome::Failed(format!("cut short: {reason}"));
            context.journal.step_ends(plan.number, cut, context.now);
        }
        for member in &mut self.members {
            member.elected = None;
        }
        let number = context.journal.begin(&self.name, self.state, to, &reason, context.now);
        self.plan = Some(Plan::new(self.state, to, number, self.replicated));
        self.state = to;
        self.since = context.now;
        self.reason = reason;
        self.go_on(context);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let Some(plan) = &mut self.plan else { return };
        if let Some(step) = plan.next() {
            return self.begin(step, 1, context);
        }
        self.plan = None;
        if self.state == State::Stopped {
            context.actions.push(Action::Stopped { group: self.name.clone() });
        }
    }

    fn begin(&mut self, step: Step, attempt: u32, context: &mut Context<'_>) {
        let Some(plan) = &mut self.plan else { return };
        *context.next_step += 1;
        let id = StepId(*context.next_step);
        plan.doing = Doing::Step { id, step, attempt, until: context.now + plan::limit(step) };
        context.journal.step_begins(plan.number, step, context.now);
        context.actions.push(Action::Step {
            id,
            group: self.name.clone(),
            step,
            from: plan.from,
            to: plan.to,
            reason: self.reason.clone(),
        });
    }

    /// A group that cannot be a whole master goes to fault; anything else is noted and passed over.
    fn give_up(&mut self, step: Step, why: &str, context: &mut Context<'_>) {
        let to = self.plan.as_ref().map(|plan| plan.to);
        if to == Some(State::Master) && plan::is_vital(step) {
            let reason = format!("{} failed: {why}", step.as_str());
            self.held = Some((reason, context.now + FAULT_HOLD));
            self.decide(context);
        } else {
            self.go_on(context);
        }
    }

    fn tell_preemption(&self, context: &mut Context<'_>) {
        let allowed = self.preempt_allowed();
        let tell = |member: &Member| Action::PreemptAllowed {
            virtual_router: member.name.clone(),
            allowed,
        };
        context.actions.extend(self.members.iter().map(tell));
    }
}
