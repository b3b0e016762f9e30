//! The core thread: VRRP elections and the failover state machine.
//!
//! Owns the advertisement sockets and the timers, so that an advertisement is never late because
//! flows are committed, tables dumped or hooks run: those are other threads' work, asked for with
//! messages that never wait. `vrrp` and `failover` decide; here is only the order of things within
//! a turn:
//!
//! ```text
//!   what has come: messages, packets, each up to a bound      ┐
//!   what is due: the timers of elections, then of groups      ├ one turn
//!   advertisements, then announcements, then the other threads┘
//! ```

mod announcing;
mod election;
mod handing_over;
mod lateness;
mod memory;
mod outbox;
mod outboxes;
mod reloading;
mod report;
mod resuming;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::time::{Duration, Instant};

use lockstep_failover::group::Group;
use lockstep_failover::hooks::Member;
use lockstep_failover::{Action, Event, Failover, Outcome, State, Step};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tracing::{debug, error, info, warn};

use crate::messages::{CoreEvent, GroupStep, HookRequest, InterfaceState, MaintenanceChange};
use crate::tracking;
use announcing::Announcing;
use election::{Elections, News, Which};
use handing_over::HandingOver;
use lateness::Lateness;
pub(crate) use memory::Memory;
pub(crate) use outboxes::Actors;
use outboxes::Outboxes;
use resuming::Resuming;
use wire::WireStep;

/// Most messages of other threads taken in one turn: sockets and timers have theirs.
const MESSAGES: usize = 64;
/// An advertisement that is so late goes out before the rest of the turn's work. Shorter than any
/// interval, long enough for many of them to leave together.
const BREATH: Duration = Duration::from_millis(2);
/// A shutdown takes no longer, whatever an actor does.
const STOP_LIMIT: Duration = Duration::from_secs(14);

/// The core at work.
pub(crate) struct Core {
    /// The groups that are in maintenance, and since when: also those that no configuration has now.
    kept_out: BTreeMap<String, String>,
    failover: Failover,
    elections: Elections,
    announcing: Announcing,
    handing_over: HandingOver,
    /// What the interfaces are, to look at them again.
    interfaces: BTreeMap<String, InterfaceState>,
    /// Steps whose outcome is known when the turn's advertisements have left.
    on_the_wire: Vec<WireStep>,
    /// Virtual routers that have come to a group which may be master, and are not claimed: their
    /// addresses are not there.
    arriving: BTreeSet<String>,
    /// Who waits until everything has left that another configuration does not have; and until when for
    /// its hooks, once it has stopped.
    leaving: Option<(oneshot::Sender<()>, Option<Instant>)>,
    outboxes: Outboxes,
    lateness: Lateness,
    /// What replication has said last, in a sentence.
    in_sync: Option<String>,
    /// The last transition whose view of the other routers is noted.
    seen: u64,
    memory: Memory,
    resuming: Resuming,
}

impl Core {
    /// Everything in `init`; nothing is sent before [`Core::run`].
    /// `last_transition` is the number of the last transition of an earlier run, `kept_out` says
    /// which groups are in maintenance, and since when.
    pub(crate) fn new(
        config: &lockstep_config::Config,
        last_transition: u64,
        kept_out: BTreeMap<String, String>,
        actors: Actors,
        memory: Memory,
    ) -> Self {
        let now = Instant::now();
        let (resuming, memory) = memory.split();
        Self {
            kept_out,
            failover: Failover::new(&config.failover, now).after_transition(last_transition),
            elections: Elections::new(&config.virtual_routers),
            announcing: Announcing::new(config),
            handing_over: HandingOver::default(),
            interfaces: BTreeMap::new(),
            on_the_wire: Vec::new(),
            arriving: BTreeSet::new(),
            leaving: None,
            outboxes: Outboxes::new(actors, config),
            lateness: Lateness::new(now),
            in_sync: None,
            seen: last_transition,
            memory,
            resuming,
        }
    }

    /// Runs until every group has handed over after [`CoreEvent::Stop`].
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<CoreEvent>) -> anyhow::Result<()> {
        self.keep_out();
        self.feed(Event::Start);
        let mut stop_by: Option<Instant> = None;
        let mut messages = Vec::with_capacity(MESSAGES);
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        loop {
            self.turn();
            if let Some(limit) = stop_by {
                if self.failover.has_ended() {
                    self.leave_the_journal();
                    return Ok(());
                }
                if Instant::now() >= limit {
                    self.leave_the_journal();
                    anyhow::bail!("not everything could be handed over within {STOP_LIMIT:?}");
                }
            }
            let deadline = self.next_deadline().into_iter().chain(stop_by).min();
            set(sleep.as_mut(), deadline);
            // In no order, so that neither keeps the others from being heard.
            tokio::select! {
                count = inbox.recv_many(&mut messages, MESSAGES) => {
                    if count == 0 {
                        anyhow::bail!("every other thread has ended");
                    }
                    for message in messages.drain(..) {
                        if matches!(message, CoreEvent::Stop) {
                            stop_by.get_or_insert(Instant::now() + STOP_LIMIT);
                        }
                        self.take(message);
                    }
                }
                () = self.elections.readable() => self.elections.hear(Which::Ready),
                () = self.handing_over.readable() => {
                    for (id, outcome) in self.handing_over.hear() {
                        self.feed(Event::Stepped { id, outcome });
                    }
                }
                () = self.outboxes.ready() => {}
                () = &mut sleep, if deadline.is_some() => {}
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.failover
            .next_deadline()
            .into_iter()
            .chain(self.elections.next_timer())
            .chain(self.elections.retry_at())
            .chain(self.announcing.next_deadline())
            .chain(self.resuming.next_deadline())
            .chain(self.memory.beat_due())
            .chain(self.leaving.as_ref().and_then(|(_, hooks_until)| *hooks_until))
            .min()
    }

    /// Does what is due, and lets out what it and what was heard before have brought.
    fn turn(&mut self) {
        let now = Instant::now();
        self.memory.beat(now);
        self.resume(now);
        self.serve_timers(Duration::ZERO);
        if self.failover.next_deadline().is_some_and(|at| at <= now) {
            self.feed(Event::Timeout);
        }
        if self.elections.retry_is_due(now) {
            for state in self.interfaces.clone().into_values() {
                self.interface(&state);
            }
        }
        self.advertise();
        // Behind the advertisements: an old master has to drop the addresses first.
        let now = Instant::now();
        if self.announcing.next_deadline().is_some_and(|at| at <= now) {
            self.announcing.send(now);
        }
        self.admit();
        self.give_out();
        self.note_transitions();
        self.let_go();
    }

    /// Serves the timers of elections when the first is no earlier than `grace`; whether it was.
    fn serve_timers(&mut self, grace: Duration) -> bool {
        if self.elections.next_timer().is_none() {
            return false;
        }
        let now = Instant::now();
        let Some(due) = self.elections.due_since(now) else { return false };
        let Some(late) = now.checked_duration_since(due).filter(|late| *late >= grace) else {
            return false;
        };
        self.lateness.record(late, now);
        self.elections.timeout(now);
        true
    }

    /// In the midst of much work: no advertisement waits for the end of it.
    fn breathe(&mut self) {
        if self.serve_timers(BREATH) {
            self.send();
        }
    }

    /// Tells the groups what the elections have brought and advertises what follows, until nothing
    /// is left to do at once.
    fn advertise(&mut self) {
        loop {
            for news in self.elections.take_news() {
                match news {
                    News::Group { name, event } => self.feed(Event::VirtualRouter { name, event }),
                    News::Conflict { name } => self.announcing.conflict(&name, Instant::now()),
                }
                self.breathe();
            }
            let said = self.send();
            let answered = std::mem::take(&mut self.on_the_wire);
            if !said && answered.is_empty() && !self.elections.has_news() {
                return;
            }
            for step in answered {
                let event = self.answer(step);
                self.feed(event);
                self.breathe();
            }
        }
    }

    /// Sends what the elections have to say; whether there was anything.
    fn send(&mut self) -> bool {
        let said = self.elections.send(Instant::now());
        self.memory.left(self.elections.take_left());
        said
    }

    fn take(&mut self, event: CoreEvent) {
        match event {
            CoreEvent::Stepped(answers) => {
                for (id, outcome) in answers {
                    self.feed(Event::Stepped { id, outcome });
                    self.breathe();
                }
            }
            CoreEvent::Interface(state) => {
                self.interface(&state);
                self.interfaces.insert(state.name.clone(), state);
            }
            CoreEvent::Check { name, success, detail } => {
                self.feed(Event::Check { name, success, detail });
            }
            CoreEvent::Tracked { subject, seen, detail } => {
                info!(%subject, detail, "tracked");
                self.feed(Event::Tracked { subject, seen, detail });
            }
            CoreEvent::InSync { in_sync, reason } => {
                info!(in_sync, reason, "replication");
                let word = if in_sync { "in sync" } else { "not in sync" };
                self.in_sync = Some(format!("replication: {word}: {reason}"));
                self.feed(Event::InSync(in_sync));
            }
            CoreEvent::Merged { reason } => {
                warn!(
                    reason,
                    "another router had served as well; what is served here is announced"
                );
                let groups = self.failover.groups().iter();
                let serves = groups.filter(|it| it.is_replicated() && it.state() == State::Master);
                for group in serves {
                    self.announcing.restart(group.name(), Instant::now());
                }
            }
            CoreEvent::Restored { group } => {
                warn!(group, "an address was gone and has been put back");
                self.announcing.restart(&group, Instant::now());
            }
            CoreEvent::Extended { group } => {
                info!(group, "an address has come");
                if self.failover.group(&group).is_some_and(|it| it.state() == State::Master) {
                    self.announcing.start(&group, Instant::now());
                }
            }
            CoreEvent::HooksBegun { group, id } => self.feed(Event::HooksBegun { group, id }),
            CoreEvent::HookEnded { group, state, result, matters } => {
                debug!(group, ?result, "hook ended");
                if let (Err(why), true) = (result, matters) {
                    self.feed(Event::HookFailed { group, state, why });
                }
            }
            // An asker that no longer waits is no concern of the core.
            CoreEvent::Status(answer) => drop(answer.send(self.status())),
            CoreEvent::Explain(answer) => drop(answer.send(self.explain())),
            CoreEvent::Journal(answer) => drop(answer.send(self.journal())),
            CoreEvent::Leave(leaving, answer) => self.leave(leaving, answer),
            CoreEvent::Configure(config, arriving, answer) => {
                self.configure(&config, arriving);
                // An asker that no longer waits is no concern of the core.
                let _ = answer.send(());
            }
            CoreEvent::Switchover { group, force, asker } => {
                self.switch_over(&group, force, asker);
            }
            CoreEvent::Maintenance(change) => self.maintain(change),
            CoreEvent::Stop => self.feed(Event::Stop),
        }
    }

    fn usable(&mut self, virtual_router: String, usable: Result<(), String>) {
        let event = Event::Interface { virtual_router, usable };
        if let Some(event) = self.resuming.keep_back(event) {
            self.feed(event);
        }
    }

    /// Puts the groups in maintenance that are to be.
    fn keep_out(&mut self) {
        for (group, since) in self.kept_out.clone() {
            let is_in = |group: &Group| group.in_maintenance_since().is_some();
            if self.failover.group(&group).is_some_and(|group| !is_in(group)) {
                self.maintain(MaintenanceChange { group, since: Some(since), asker: None });
            }
        }
    }

    fn interface(&mut self, state: &InterfaceState) {
        let now = Instant::now();
        for (virtual_router, usable) in self.elections.interface(state, now) {
            self.usable(virtual_router, usable);
        }
        self.feed(tracking::interface(state));
        self.announcing.interface(state, now);
    }

    /// Feeds the state machine and carries out what it asks, until nothing is left to do at once.
    fn feed(&mut self, event: Event) {
        let actions = self.failover.handle(event, Instant::now());
        self.carry_out(actions);
    }

    /// Carries out what the state machine asks, and what follows at once.
    fn carry_out(&mut self, actions: Vec<Action>) {
        let mut events: VecDeque<Event> =
            actions.into_iter().filter_map(|action| self.perform(action)).collect();
        while let Some(event) = events.pop_front() {
            for action in self.failover.handle(event, Instant::now()) {
                events.extend(self.perform(action));
            }
        }
    }

    /// Sends what the turn has given out. A thread that has ended fails its steps; what the state
    /// machine makes of that is given out too.
    fn give_out(&mut self) {
        loop {
            let lost = self.outboxes.send();
            if lost.is_empty() {
                return;
            }
            error!(steps = lost.len(), "steps could not be given out: the thread has ended");
            for id in lost {
                let outcome = Outcome::Failed("the thread has ended".to_owned());
                self.feed(Event::Stepped { id, outcome });
            }
            self.advertise();
        }
    }

    /// Does what the state machine asks; returns how it ended when that is known already.
    fn perform(&mut self, action: Action) -> Option<Event> {
        let now = Instant::now();
        match action {
            Action::Startup { virtual_router } => {
                self.elections.startup(&virtual_router, now);
                None
            }
            Action::PreemptAllowed { virtual_router, allowed } => {
                self.elections.preempt_allowed(&virtual_router, allowed, now);
                None
            }
            Action::Claim { virtual_router } => {
                info!(virtual_router, "its group is master already: it becomes so too");
                self.elections.claim(&virtual_router, now);
                None
            }
            Action::Priority { virtual_router, priority } => {
                self.elections.prioritise(&virtual_router, priority, now);
                None
            }
            Action::Serves { group } => {
                self.memory.serves(&group, true);
                None
            }
            Action::Withdraw { virtual_router } => {
                self.elections.shut_down(&virtual_router, now);
                None
            }
            Action::MayReturn { virtual_router } => {
                self.elections.may_return(&virtual_router, now);
                None
            }
            Action::HandoverEnded { group, result } => {
                self.handover_ended(&group, &result);
                None
            }
            // Looked for when a turn ends.
            Action::Stopped { .. } => None,
            Action::Step { id, group, step, from, to, reason } => {
                if matches!(step, Step::StopClaiming | Step::Claim) {
                    self.hears_no_more(&group);
                    narrate(&group, from, to, &reason);
                }
                if matches!(step, Step::StopClaiming | Step::Retire) {
                    // Before a word of it leaves: whoever comes after a kill must not go on.
                    self.memory.serves(&group, false);
                }
                let outcome = match step {
                    Step::Claim => self.claim(id, &group),
                    Step::StopClaiming => self.stop_claiming(id, &group, to),
                    Step::Announce => Some(self.announce(&group, from == State::Init)),
                    Step::Retire => self.retire(id, &group),
                    // The elections tell it.
                    Step::PeerClaims => None,
                    Step::PeerServes => self.await_service(id, &group),
                    Step::HoldForwarding
                    | Step::PassForwarding
                    | Step::LinksUp
                    | Step::AddressesUp
                    | Step::RoutesUp
                    | Step::AddressesDown
                    | Step::RoutesDown
                    | Step::LinksDown => {
                        self.outboxes.network(GroupStep { id, group, step });
                        None
                    }
                    Step::CommitFlows
                    | Step::ReplicateActive
                    | Step::ReplicateBackup
                    | Step::Barrier => self.outboxes.replicator(id, group, step),
                    Step::Hooks => {
                        let members = self.failover.members(&group).map(|name| Member {
                            name: name.to_owned(),
                            priority: self.failover.priority(name).unwrap_or_default(),
                        });
                        let members = members.collect();
                        let request =
                            HookRequest { id, group: group.clone(), from, to, reason, members };
                        let outcome = self.outboxes.hook(request);
                        if outcome.is_some() {
                            // There is none that could wait.
                            let begun = Event::HooksBegun { group, id };
                            let actions = self.failover.handle(begun, now);
                            self.carry_out(actions);
                        }
                        outcome
                    }
                };
                outcome.map(|outcome| Event::Stepped { id, outcome })
            }
        }
    }
}

fn narrate(group: &str, from: State, to: State, reason: &str) {
    let (from, is_fault, to) = (from.as_str(), to == State::Fault, to.as_str());
    if is_fault {
        warn!(group, from, to, reason, "state changed");
    } else {
        info!(group, from, to, reason, "state changed");
    }
}

/// Sets the alarm, unless it is set so already.
fn set(sleep: std::pin::Pin<&mut Sleep>, deadline: Option<Instant>) {
    if let Some(deadline) = deadline.map(tokio::time::Instant::from_std)
        && sleep.deadline() != deadline
    {
        sleep.reset(deadline);
    }
}
