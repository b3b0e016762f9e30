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
//! A master that hands over stays master until another one serves (`handover.rs`); in maintenance
//! a group is backup, whatever else is observed (`maintenance.rs`).
//!
//! Entering a state begins its plan; a newer state cuts a plan that is still under way. The actors
//! carry steps out in the order they were given, so that what a cut plan left behind is undone or
//! completed by the plan that cut it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::fitness::{Conditions, Fitness, Tracker};
use crate::handover::Handover;
use crate::hold::{Hold, Holds};
use crate::journal::Journal;
use crate::machine::Watched;
use crate::plan::{self, Doing, Plan, Without};
use crate::preemption::Preemption;
use crate::queue::OpenSteps;
use crate::tracking::Seen;
use crate::{Action, Limits, Outcome, State, Step, StepId, Subject, VirtualRouterEvent, config};

/// A failover group at work.
#[derive(Clone, Debug)]
pub struct Group {
    name: String,
    pub(crate) replicated: bool,
    without: Without,
    hand_over_limit: Duration,
    pub(crate) state: State,
    since: Instant,
    pub(crate) reason: String,
    pub(crate) members: Vec<Member>,
    /// How many members would be master.
    pub(crate) elected: usize,
    conditions: Conditions,
    pub(crate) preemption: Preemption,
    limits: Limits,
    stopping: bool,
    /// Whether it is to be no more once it has stopped.
    pub(crate) leaves: bool,
    pub(crate) started: bool,
    /// Whether the members take part in their elections.
    pub(crate) takes_part: bool,
    /// Since when it is in maintenance, for people.
    pub(crate) maintenance: Option<String>,
    pub(crate) handover: Option<Handover>,
    /// What failed that made this a fault, and when to try again.
    held: Option<Hold>,
    holds: Holds,
    /// The step that asked for hooks which may still wait. They are gone when the daemon is killed.
    pub(crate) hooks_wait: Option<StepId>,
    pub(crate) plan: Option<Plan>,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Why this member would be master, while it would.
    pub(crate) elected: Option<String>,
    /// It has come while the others take part in their elections, and waits for its interface.
    pub(crate) is_new: bool,
}

impl Member {
    pub(crate) fn of(config: &config::VirtualRouter) -> Self {
        Self { name: config.name.clone(), elected: None, is_new: false }
    }
}

/// What a group needs of its surroundings while it acts.
pub(crate) struct Context<'a> {
    pub(crate) journal: &'a mut Journal,
    pub(crate) steps: &'a mut OpenSteps,
    /// The place of the group among all.
    pub(crate) group: usize,
    pub(crate) actions: &'a mut Vec<Action>,
    pub(crate) now: Instant,
}

impl Group {
    pub(crate) fn new(config: &config::Group, now: Instant) -> Self {
        Self {
            name: config.name.clone(),
            replicated: config.replicated,
            without: Without::of(config),
            hand_over_limit: config.hand_over_limit,
            state: State::Init,
            since: now,
            reason: "starting".to_owned(),
            members: config.virtual_routers.iter().map(Member::of).collect(),
            elected: 0,
            conditions: Conditions::new(config),
            preemption: Preemption::new(config.replicated, config.limits.preempt_without_flows),
            limits: config.limits,
            stopping: false,
            leaves: false,
            started: false,
            takes_part: false,
            maintenance: None,
            handover: None,
            held: None,
            holds: Holds::default(),
            hooks_wait: None,
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

    /// Whether a member may take mastership from a working master: only with the peer's flows, or
    /// when [`Limits::preempt_without_flows`] has passed.
    pub fn preempt_allowed(&self) -> bool {
        self.preemption.allowed()
    }

    /// Whether its flows are replicated.
    pub fn is_replicated(&self) -> bool {
        self.preemption.is_replicated()
    }

    /// Since when a backup has been without all of the peer's flows and therefore lets any working
    /// master be.
    pub fn waits_for_flows_since(&self) -> Option<Instant> {
        self.preemption.waiting_since()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// What a backup waits for before it replaces a working master, in a sentence, while it does.
    pub fn waits_for(&self, now: Instant) -> Option<String> {
        let since = self.waits_for_flows_since().filter(|_| self.state == State::Backup)?;
        let waited = now.saturating_duration_since(since).as_secs();
        let most = self.preemption.deadline().map(|until| {
            let rest = until.saturating_duration_since(now).as_secs_f64();
            format!(" for {rest:.0} s more")
        });
        Some(format!(
            "the peer's flows have not all arrived for {waited} s: no working master is replaced{}",
            most.unwrap_or_default()
        ))
    }

    /// Whether a transition is under way.
    pub fn is_settled(&self) -> bool {
        self.plan.is_none()
    }

    /// Everything that speaks against serving, in sentences.
    pub(crate) fn complaints(&self, now: Instant) -> Vec<String> {
        let held = self.held.as_ref().map(|held| held.rest(now));
        self.conditions.complaints().chain(held).collect()
    }

    /// What it cannot serve without.
    pub(crate) fn needs(&self) -> impl Iterator<Item = String> {
        self.conditions.needs()
    }

    /// The members that are not elected, when others are.
    pub(crate) fn unelected(&self) -> Option<Vec<&str>> {
        let is_split = (1..self.members.len()).contains(&self.elected);
        let missing = self.members.iter().filter(|member| member.elected.is_none());
        is_split.then(|| missing.map(|member| member.name.as_str()).collect())
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// What is tracked for it and its members.
    pub(crate) fn trackers(&self) -> &[Tracker] {
        self.conditions.trackers()
    }

    /// The priority in force of a member.
    pub(crate) fn priority(&self, member: usize) -> Option<u8> {
        self.conditions.priority(member)
    }

    pub(crate) fn start(&mut self, context: &mut Context<'_>) {
        self.started = true;
        self.tell_preemption(context);
        prioritise(self.conditions.start(), context);
        self.decide(context);
    }

    /// An earlier run has left this group master, and it still is; or why it is no more.
    pub(crate) fn resume(&mut self, resumed: Result<String, String>, context: &mut Context<'_>) {
        if self.state != State::Init {
            return;
        }
        match resumed {
            Ok(reason) => {
                self.start_elections(context);
                self.enter_by(Plan::resumed, State::Master, reason, context);
            }
            Err(reason) => self.enter(State::Init, reason, context),
        }
        self.decide(context);
    }

    pub(crate) fn virtual_router(
        &mut self,
        member: usize,
        event: VirtualRouterEvent,
        context: &mut Context<'_>,
    ) {
        match event {
            VirtualRouterEvent::Elected { reason } => {
                self.set_elected(member, Some(reason.clone()));
                self.unclaimed(member, &reason, context);
                self.claim_what_came(context);
            }
            VirtualRouterEvent::Succeeded { by } => self.succeeded(member, by, context),
            VirtualRouterEvent::Deferred => self.set_elected(member, None),
            VirtualRouterEvent::Superseded { reason } => {
                self.set_elected(member, None);
                if self.state == State::Master {
                    self.enter(State::Backup, reason, context);
                }
            }
            VirtualRouterEvent::Failing { reason } => {
                if self.state == State::Master {
                    self.held = Some(self.holds.begin(reason, context.now));
                }
            }
        }
        self.decide(context);
    }

    pub(crate) fn interface(
        &mut self,
        member: usize,
        usable: Result<(), String>,
        context: &mut Context<'_>,
    ) {
        let is_usable = usable.is_ok();
        self.conditions.interface(member, usable);
        if is_usable {
            self.begins(member, context);
        }
        self.decide(context);
    }

    /// Takes what was seen of the tracked thing at this place.
    pub(crate) fn track(
        &mut self,
        tracker: usize,
        seen: Seen,
        detail: &str,
        context: &mut Context<'_>,
    ) {
        prioritise(self.conditions.track(tracker, seen, detail), context);
        self.decide(context);
    }

    /// Takes other members, other limits, which count from when they counted before, other
    /// priorities, and other things to track, of which `known` tells what was seen last.
    pub(crate) fn configure(
        &mut self,
        config: &config::Group,
        known: &BTreeMap<Subject, Watched>,
        context: &mut Context<'_>,
    ) {
        let limits = std::mem::replace(&mut self.limits, config.limits);
        if let Some(plan) = &mut self.plan {
            plan.limit_commit(limits.commit, config.limits.commit);
        }
        self.hand_over_limit = config.hand_over_limit;
        let limit = config.limits.preempt_without_flows;
        self.change_preemption(context, |preemption, _| preemption.limit(limit));
        let has_others = self.change_members(config, context);
        prioritise(self.conditions.configure(config, known), context);
        if has_others {
            self.tell_preemption(context);
            self.tell_service(context);
        }
        self.decide(context);
    }

    pub(crate) fn in_sync(&mut self, in_sync: bool, context: &mut Context<'_>) {
        let is_backup = self.state == State::Backup;
        self.change_preemption(context, |it, now| it.in_sync(in_sync, is_backup, now));
    }

    /// Takes that a hook for `state` failed. What it was to arrange is missing, so that the mastership
    /// it belongs to was none that lasted.
    pub(crate) fn hook_failed(&mut self, state: State, why: String, context: &mut Context<'_>) {
        if state == self.state && matches!(state, State::Backup | State::Master) {
            self.holds.in_vain();
            self.held = Some(self.holds.begin(why, context.now));
            self.decide(context);
        }
    }

    pub(crate) fn hooks_begun(&mut self, id: StepId, context: &mut Context<'_>) {
        if self.hooks_wait.take_if(|waits| *waits == id).is_some() {
            self.tell_service(context);
        }
    }

    /// Says that the group serves, once nothing of its takeover would be lost with the daemon.
    fn tell_service(&self, context: &mut Context<'_>) {
        if self.state == State::Master && self.is_settled() && self.hooks_wait.is_none() {
            context.actions.push(Action::Serves { group: self.name.clone() });
        }
    }

    pub(crate) fn stop(&mut self, context: &mut Context<'_>) {
        let again = std::mem::replace(&mut self.stopping, true);
        if again && self.is_handing_over() {
            self.enter(State::Stopped, self.why_stopped().to_owned(), context);
        } else if again || !self.stops_by_handing_over(context) {
            self.decide(context);
        }
    }

    pub(crate) fn stepped(&mut self, id: StepId, outcome: Outcome, context: &mut Context<'_>) {
        let Some(plan) = &mut self.plan else { return };
        let Doing::Step { id: expected, step, attempt, .. } = plan.doing else { return };
        if id != expected {
            return;
        }
        context.steps.close(id);
        context.journal.step_ends(plan.number, outcome.clone(), context.now);
        plan.doing = Doing::Nothing;
        let has_failed = matches!(outcome, Outcome::Failed(_));
        if has_failed && attempt < plan::ATTEMPTS && plan::is_tried_again(step) {
            let at = context.now + plan::RETRY_AFTER;
            plan.doing = Doing::Waiting { step, attempt: attempt + 1, at };
            return;
        }
        self.note_handover_step(step, &outcome, context.now);
        match outcome {
            Outcome::Done(_) | Outcome::Pending(_) => self.go_on(context),
            Outcome::Failed(why) => self.give_up(step, &why, context),
        }
    }

    pub(crate) fn timeout(&mut self, context: &mut Context<'_>) {
        self.change_preemption(context, Preemption::timeout);
        if let Some(held) = self.held.take_if(|held| context.now >= held.until) {
            if self.state == State::Fault {
                self.reason = held.reason;
            }
            self.decide(context);
        }
        let Some(plan) = &mut self.plan else { return };
        match plan.doing {
            Doing::Step { id, step, until, .. } if context.now >= until => {
                let number = plan.number;
                context.steps.give_up(id, number);
                plan.doing = Doing::Nothing;
                let why = format!("no answer within {:?}", self.limit(step));
                let outcome = plan::unanswered(step, &why);
                self.note_handover_step(step, &outcome, context.now);
                context.journal.step_ends(number, outcome, context.now);
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
        let held = self.held.as_ref().map(|held| held.until);
        plan.into_iter().chain(held).chain(self.preemption.deadline()).min()
    }

    /// Compares what was observed with the state, and leaves the state if it does not follow.
    pub(crate) fn decide(&mut self, context: &mut Context<'_>) {
        if self.state == State::Stopped {
            return;
        }
        if self.stopping {
            if self.is_handing_over() && !matches!(self.fitness(), Fitness::Unfit(_)) {
                return;
            }
            return self.enter(State::Stopped, self.why_stopped().to_owned(), context);
        }
        if self.maintenance.is_some() {
            return self.keep_out(context);
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
            (State::Backup, Fitness::Fit) if !self.takes_part => self.take_part_again(context),
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

    pub(crate) fn fitness(&self) -> Fitness {
        match (self.conditions.fitness(), &self.held) {
            (unfit @ Fitness::Unfit(_), _) => unfit,
            (_, Some(held)) => Fitness::Unfit(held.sentence()),
            (fitness, None) => fitness,
        }
    }

    fn waiting_for(&self) -> String {
        self.conditions.waiting_for().unwrap_or_else(|| self.reason.clone())
    }

    pub(crate) fn set_elected(&mut self, member: usize, reason: Option<String>) {
        let Some(member) = self.members.get_mut(member) else { return };
        self.elected -= usize::from(member.elected.is_some());
        self.elected += usize::from(reason.is_some());
        member.elected = reason;
    }

    pub(crate) fn forget_elections(&mut self) {
        for member in &mut self.members {
            member.elected = None;
        }
        self.elected = 0;
    }

    /// The first member's reason once every member would be master.
    fn all_elected(&self) -> Option<String> {
        let first = self.members.first()?.elected.clone();
        first.filter(|_| self.elected == self.members.len())
    }

    fn start_members(&mut self, reason: String, context: &mut Context<'_>) {
        self.enter(State::Backup, reason, context);
        self.start_elections(context);
    }

    pub(crate) fn start_elections(&mut self, context: &mut Context<'_>) {
        self.takes_part = true;
        for member in &mut self.members {
            member.is_new = false;
        }
        let startups = self
            .members
            .iter()
            .map(|member| Action::Startup { virtual_router: member.name.clone() });
        context.actions.extend(startups);
    }

    pub(crate) fn enter(&mut self, to: State, reason: String, context: &mut Context<'_>) {
        let from = self.state;
        let plan = |number, without| Plan::new(from, to, number, without);
        self.enter_by(plan, to, reason, context);
    }

    fn enter_by(
        &mut self,
        plan: impl FnOnce(u64, Without) -> Plan,
        to: State,
        reason: String,
        context: &mut Context<'_>,
    ) {
        self.cut_plan(&reason, context);
        self.end_handover(&reason, context);
        let number = context.journal.begin(&self.name, self.state, to, &reason, context.now);
        let plan = plan(number, self.without);
        self.enter_with(plan, to, reason, context);
    }

    /// Nothing of the plan under way is done any more.
    pub(crate) fn cut_plan(&mut self, reason: &str, context: &mut Context<'_>) {
        if let Some(plan) = self.plan.take() {
            if let Doing::Step { id, .. } = plan.doing {
                context.steps.close(id);
            }
            let cut = Outcome::Failed(format!("cut short: {reason}"));
            context.journal.step_ends(plan.number, cut, context.now);
            context.journal.is_over(plan.number);
        }
    }

    /// Enters a state in the entry of the journal with this number.
    pub(crate) fn enter_in(
        &mut self,
        number: u64,
        to: State,
        reason: String,
        context: &mut Context<'_>,
    ) {
        let plan = Plan::new(self.state, to, number, self.without);
        self.enter_with(plan, to, reason, context);
    }

    fn enter_with(&mut self, plan: Plan, to: State, reason: String, context: &mut Context<'_>) {
        self.forget_elections();
        self.hooks_wait = None;
        self.holds.serves_no_more(context.now);
        self.takes_part &= matches!(to, State::Backup | State::Master);
        self.plan = Some(plan);
        self.state = to;
        self.since = context.now;
        self.reason = reason;
        self.change_preemption(context, |preemption, now| {
            preemption.no_backup();
            if to == State::Backup {
                preemption.backup(now);
            }
        });
        self.go_on(context);
    }

    pub(crate) fn go_on(&mut self, context: &mut Context<'_>) {
        let Some(plan) = &mut self.plan else { return };
        if let Some(step) = plan.next() {
            return self.begin(step, 1, context);
        }
        if self.goes_on_after_handover(context) {
            return;
        }
        if let Some(plan) = self.plan.take() {
            context.journal.is_over(plan.number);
        }
        match self.state {
            State::Master => {
                self.holds.serves(context.now);
                self.tell_service(context);
                self.claim_what_came(context);
            }
            State::Stopped => context.actions.push(Action::Stopped { group: self.name.clone() }),
            State::Init | State::Backup | State::Fault => {}
        }
    }

    fn begin(&mut self, step: Step, attempt: u32, context: &mut Context<'_>) {
        let limit = self.limit(step);
        let Some(plan) = &mut self.plan else { return };
        let id = context.steps.open(context.group);
        plan.doing = Doing::Step { id, step, attempt, until: context.now + limit };
        if step == Step::Hooks {
            self.hooks_wait = Some(id);
        }
        context.journal.step_begins(plan.number, step, id, context.now);
        context.actions.push(Action::Step {
            id,
            group: self.name.clone(),
            step,
            from: plan.from,
            to: plan.to,
            reason: self.reason.clone(),
        });
        self.begins_handover_step(step, context);
    }

    /// The longest wait for an answer to `step`.
    fn limit(&self, step: Step) -> Duration {
        let of_handover = self.handover.as_ref();
        of_handover
            .and_then(|handover| handover.limit(step, self.hand_over_limit))
            .unwrap_or_else(|| plan::limit(step, &self.limits))
    }

    /// A group that cannot be a whole master goes to fault; anything else is noted and passed over.
    fn give_up(&mut self, step: Step, why: &str, context: &mut Context<'_>) {
        if self.gives_handover_up(step, why, context) {
            return;
        }
        let to = self.plan.as_ref().map(|plan| plan.to);
        if to == Some(State::Master) && plan::is_vital(step) {
            let reason = format!("{} failed: {why}", step.as_str());
            self.held = Some(self.holds.begin(reason, context.now));
            self.decide(context);
        } else {
            self.go_on(context);
        }
    }

    /// Tells the members when what `change` does lets them preempt, or forbids it.
    fn change_preemption(
        &mut self,
        context: &mut Context<'_>,
        change: impl FnOnce(&mut Preemption, Instant),
    ) {
        let before = self.preemption.allowed();
        change(&mut self.preemption, context.now);
        if self.preemption.allowed() != before {
            self.tell_preemption(context);
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

fn prioritise(changed: Vec<(&str, u8)>, context: &mut Context<'_>) {
    context.actions.extend(
        changed
            .into_iter()
            .map(|(name, priority)| Action::Priority { virtual_router: name.to_owned(), priority }),
    );
}
