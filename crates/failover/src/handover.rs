//! Handing mastership over: the old master serves on until the new one does.
//!
//! ```text
//!   barrier ──▶ retire ──▶ peer claims ──▶ peer serves ──▶ the plan of leaving
//!      │           │            │               │ nobody serves any more
//!      ▼           ▼            ▼               ▼
//!   refused     called off: claim again, announce       (an order: leave all the same)
//! ```
//!
//! The group is `master` until the plan of leaving begins; all of it is one entry of the journal.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::group::{Context, Group};
use crate::plan::{Doing, Plan};
use crate::{Action, Outcome, State, Step};

/// What a hand-over is for, and so what follows when it cannot be done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// Somebody wants the other router to serve; otherwise this one goes on.
    Switchover {
        /// Without knowing whether a peer holds every flow.
        force: bool,
    },
    /// This router is to serve no more, whatever that costs.
    Maintenance,
    /// The daemon ends.
    Stop,
}

/// How far a hand-over has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    /// The members are masters in their elections.
    Master,
    /// They are backups there, and the group still serves.
    Retired,
    /// The plan of leaving is under way.
    Leaving,
    /// The group claims again, because of this.
    CalledOff(String),
}

/// A hand-over under way.
#[derive(Clone, Debug)]
pub(crate) struct Handover {
    pub(crate) cause: Cause,
    pub(crate) phase: Phase,
    began: Instant,
    retired_at: Option<Instant>,
    claimed_at: Option<Instant>,
    served_at: Option<Instant>,
    /// By member, who has claimed.
    successors: Vec<Option<IpAddr>>,
    announced: bool,
    /// Whether the members may take mastership back as soon as they have left.
    pub(crate) may_return: bool,
}

/// A hand-over that was carried out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HandedOver {
    /// Who is master now; `None` when the group had to leave without knowing.
    pub to: Option<IpAddr>,
    /// Whether the new master was heard to serve. Otherwise it has claimed and had
    /// `hand-over-limit` to do so.
    pub announced: bool,
    /// From the request until the peer had acknowledged everything.
    pub prepared_after: Duration,
    /// From priority 0 until the new master had claimed.
    pub claimed_after: Option<Duration>,
    /// From priority 0 until the new master served.
    pub served_after: Option<Duration>,
}

impl Handover {
    pub(crate) fn new(cause: Cause, members: usize, now: Instant) -> Self {
        Self {
            cause,
            phase: Phase::Master,
            began: now,
            retired_at: None,
            claimed_at: None,
            served_at: None,
            successors: vec![None; members],
            announced: false,
            may_return: false,
        }
    }

    /// Somebody wants another thing of it now, unless the daemon ends.
    pub(crate) fn is_ordered(&mut self, cause: Cause) {
        if self.cause != Cause::Stop {
            self.cause = cause;
        }
    }

    /// Where it leads.
    pub(crate) fn target(&self) -> State {
        match self.cause {
            Cause::Switchover { .. } | Cause::Maintenance => State::Backup,
            Cause::Stop => State::Stopped,
        }
    }

    /// Whether it may go on without a peer that holds every flow.
    pub(crate) fn goes_without_barrier(&self) -> bool {
        self.cause == Cause::Switchover { force: true }
    }

    pub(crate) fn retires(&mut self, now: Instant) {
        self.phase = Phase::Retired;
        self.retired_at = Some(now);
    }

    /// Another router is master of this member.
    pub(crate) fn succeeded(&mut self, member: usize, by: IpAddr) {
        if let Some(successor) = self.successors.get_mut(member) {
            *successor = Some(by);
        }
    }

    /// Nobody is master of this member any more.
    pub(crate) fn unclaimed(&mut self, member: usize) {
        if let Some(successor) = self.successors.get_mut(member) {
            *successor = None;
        }
    }

    /// Who has claimed, once every member is claimed.
    pub(crate) fn successor(&self) -> Option<IpAddr> {
        let all = self.successors.iter().copied().collect::<Option<Vec<_>>>()?;
        all.first().copied()
    }

    /// Notes when a step of it has ended, and whether well.
    pub(crate) fn stepped(&mut self, step: Step, well: bool, now: Instant) {
        match step {
            Step::PeerClaims => self.claimed_at = Some(now),
            Step::PeerServes => {
                self.announced = well;
                self.served_at = well.then_some(now);
            }
            _ => {}
        }
    }

    /// How it went, once the group has left.
    pub(crate) fn result(&self) -> Result<HandedOver, String> {
        if let Phase::CalledOff(why) = &self.phase {
            return Err(why.clone());
        }
        let since = |at: Option<Instant>| Some(at?.saturating_duration_since(self.retired_at?));
        let prepared = self.retired_at.map(|at| at.saturating_duration_since(self.began));
        Ok(HandedOver {
            to: self.successor(),
            announced: self.announced,
            prepared_after: prepared.unwrap_or_default(),
            claimed_after: since(self.claimed_at),
            served_after: since(self.served_at),
        })
    }

    /// The longest wait for an answer to a step of it.
    pub(crate) fn limit(&self, step: Step, hand_over: Duration) -> Option<Duration> {
        let stops = self.cause == Cause::Stop;
        match step {
            Step::Barrier if stops => Some(STOP_BARRIER),
            Step::Barrier => Some(BARRIER),
            Step::PeerClaims if stops => Some(STOP_CLAIM),
            // The election says it first.
            Step::PeerClaims => Some(CLAIM),
            Step::PeerServes if stops => Some(hand_over.min(STOP_SERVE)),
            Step::PeerServes => Some(hand_over),
            _ => None,
        }
    }
}

impl Group {
    /// Begins to hand over because somebody asks for it, or says why not.
    pub(crate) fn switchover(
        &mut self,
        force: bool,
        context: &mut Context<'_>,
    ) -> Result<(), String> {
        let name = self.name();
        if self.state != State::Master {
            return Err(format!("{name} is {} here, not master", self.state.as_str()));
        }
        if let Some(step) = self.step() {
            return Err(format!("{name} is in a transition: {}", step.as_str()));
        }
        if !self.replicated && !force {
            return Err(format!(
                "the flows of {name} are not replicated, so that nobody knows whether another \
                 router is there to take over; it takes --force to hand over all the same"
            ));
        }
        let reason = if force { "forced switchover" } else { "switchover on request" };
        self.hand_over(Cause::Switchover { force }, reason, context);
        Ok(())
    }

    /// Begins to hand over; the group is master and settled.
    pub(crate) fn hand_over(&mut self, cause: Cause, reason: &str, context: &mut Context<'_>) {
        let handover = Handover::new(cause, self.members.len(), context.now);
        let to = handover.target();
        let number = context.journal.begin(self.name(), self.state, to, reason, context.now);
        self.handover = Some(handover);
        self.plan = Some(Plan::of(steps(self.replicated), self.state, to, number));
        self.go_on(context);
    }

    /// Whether the group still serves and another one is to.
    pub(crate) fn is_handing_over(&self) -> bool {
        let phase = self.handover.as_ref().map(|handover| &handover.phase);
        matches!(phase, Some(Phase::Master | Phase::Retired))
    }

    /// Whether a group that is to stop hands over first: when it is known that a peer is there.
    pub(crate) fn stops_by_handing_over(&mut self, context: &mut Context<'_>) -> bool {
        if self.is_handing_over() {
            let now = context.now;
            let Some(handover) = &mut self.handover else { return false };
            handover.cause = Cause::Stop;
            if let Some(plan) = &mut self.plan {
                plan.to = State::Stopped;
                context.journal.leads_to(plan.number, State::Stopped);
                if let Doing::Step { step, until, .. } = &mut plan.doing
                    && let Some(limit) = handover.limit(*step, STOP_SERVE)
                {
                    *until = (*until).min(now + limit);
                }
            }
            return true;
        }
        let can = self.state == State::Master && self.is_settled();
        if can && self.replicated && self.preemption.is_in_sync() {
            self.hand_over(Cause::Stop, self.why_stopped(), context);
            return true;
        }
        false
    }

    /// A retired member hears another router as master.
    pub(crate) fn succeeded(&mut self, member: usize, by: IpAddr, context: &mut Context<'_>) {
        let Some(handover) = &mut self.handover else { return };
        handover.succeeded(member, by);
        self.look_for_successor(context);
    }

    /// Ends the wait for a claim when every member is claimed.
    fn look_for_successor(&mut self, context: &mut Context<'_>) {
        let successor = self.handover.as_ref().and_then(Handover::successor);
        let doing = self.plan.as_ref().map(|plan| plan.doing);
        if let (Some(by), Some(Doing::Step { id, step: Step::PeerClaims, .. })) = (successor, doing)
        {
            self.stepped(id, Outcome::Done(format!("{by} is master")), context);
        }
    }

    /// A retired member hears nobody, or nobody any more.
    pub(crate) fn unclaimed(&mut self, member: usize, reason: &str, context: &mut Context<'_>) {
        let Some(handover) = &mut self.handover else { return };
        if handover.phase == Phase::Retired {
            handover.unclaimed(member);
            self.not_handed_over(reason, context);
        }
    }

    /// What begins with a step of a hand-over that was given out.
    pub(crate) fn begins_handover_step(&mut self, step: Step, context: &mut Context<'_>) {
        match (step, &mut self.handover) {
            (Step::Retire, Some(handover)) => handover.retires(context.now),
            // Who has claimed already will not say so again.
            (Step::PeerClaims, Some(_)) => self.look_for_successor(context),
            _ => {}
        }
    }

    pub(crate) fn note_handover_step(&mut self, step: Step, outcome: &Outcome, now: Instant) {
        if let Some(handover) = &mut self.handover {
            handover.stepped(step, !matches!(outcome, Outcome::Failed(_)), now);
        }
    }

    /// A step has failed for good; whether that ends the hand-over.
    pub(crate) fn gives_handover_up(
        &mut self,
        step: Step,
        why: &str,
        context: &mut Context<'_>,
    ) -> bool {
        let Some(handover) = self.handover.as_ref().filter(|_| self.is_handing_over()) else {
            return false;
        };
        let reason = match step {
            Step::Barrier if handover.goes_without_barrier() => return false,
            Step::Barrier => why.to_owned(),
            Step::PeerClaims => format!("no other router has claimed mastership: {why}"),
            // It has claimed, and has had its time.
            Step::PeerServes => return false,
            _ => format!("{} failed: {why}", step.as_str()),
        };
        self.not_handed_over(&reason, context);
        true
    }

    /// Nobody serves in this group's place. An order is followed all the same.
    pub(crate) fn not_handed_over(&mut self, why: &str, context: &mut Context<'_>) {
        let (Some(handover), Some(plan)) = (&mut self.handover, self.plan.take()) else { return };
        let retired = std::mem::replace(&mut handover.phase, Phase::CalledOff(why.to_owned()))
            == Phase::Retired;
        if let Doing::Step { id, .. } = plan.doing {
            context.steps.close(id);
        }
        context.journal.step_ends(plan.number, Outcome::Failed(why.to_owned()), context.now);
        match handover.cause {
            Cause::Maintenance => {
                let reason = self.maintenance_reason();
                self.withdraw(context);
                self.enter_in(plan.number, State::Backup, reason, context);
            }
            Cause::Stop => {
                let reason = self.why_stopped().to_owned();
                self.enter_in(plan.number, State::Stopped, reason, context);
            }
            Cause::Switchover { .. } => {
                context.journal.leads_to(plan.number, State::Master);
                let steps = if retired { RETURN } else { &[] };
                self.forget_elections();
                self.plan = Some(Plan::of(steps, State::Master, State::Master, plan.number));
                self.go_on(context);
            }
        }
    }

    /// Goes on when a plan is done that was part of a hand-over; whether another one has begun.
    pub(crate) fn goes_on_after_handover(&mut self, context: &mut Context<'_>) -> bool {
        let (Some(handover), Some(plan)) = (&mut self.handover, &self.plan) else { return false };
        let number = plan.number;
        if matches!(handover.phase, Phase::Leaving | Phase::CalledOff(_)) {
            self.end_handover("", context);
            return false;
        }
        handover.phase = Phase::Leaving;
        let (cause, to) = (handover.cause, handover.target());
        let may_return = handover.may_return;
        let by = handover.successor().map_or_else(|| "a peer".to_owned(), |by| by.to_string());
        let reason = match cause {
            Cause::Switchover { .. } => format!("handed over to {by} on request"),
            Cause::Maintenance => self.maintenance_reason(),
            Cause::Stop => self.why_stopped().to_owned(),
        };
        if cause == Cause::Maintenance {
            self.withdraw(context);
        }
        if may_return {
            self.let_return(context);
        }
        self.enter_in(number, to, reason, context);
        true
    }

    /// Says how a hand-over went that ends here; `because` something else happened, unless it was
    /// over.
    pub(crate) fn end_handover(&mut self, because: &str, context: &mut Context<'_>) {
        let Some(handover) = self.handover.take() else { return };
        let result = match handover.phase {
            Phase::Master | Phase::Retired => Err(because.to_owned()),
            Phase::Leaving | Phase::CalledOff(_) => handover.result(),
        };
        let group = self.name().to_owned();
        context.actions.push(Action::HandoverEnded { group, result });
    }
}

/// Whether a step is one of handing over: these are not tried again.
pub(crate) fn is_of_handover(step: Step) -> bool {
    matches!(step, Step::Barrier | Step::Retire | Step::PeerClaims | Step::PeerServes)
}

/// The steps before those of leaving.
fn steps(barrier: bool) -> &'static [Step] {
    if barrier {
        &[Step::Barrier, Step::Retire, Step::PeerClaims, Step::PeerServes]
    } else {
        &[Step::Retire, Step::PeerClaims, Step::PeerServes]
    }
}

/// How a hand-over that was called off ends.
const RETURN: &[Step] = &[Step::Claim, Step::Announce];

/// The replicator has a limit of its own, which is shorter and says what is missing.
const BARRIER: Duration = Duration::from_secs(10);
/// Beyond the longest skew time that an election waits for.
const CLAIM: Duration = Duration::from_mins(1);
/// A daemon that ends, ends soon.
const STOP_BARRIER: Duration = Duration::from_secs(2);
const STOP_CLAIM: Duration = Duration::from_secs(3);
const STOP_SERVE: Duration = Duration::from_secs(3);
