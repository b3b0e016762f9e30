//! What ties election, group and replicator together, as the daemon's core thread does.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lockstep_failover::{self as failover, Outcome, State, Step, StepId, VirtualRouterEvent};
use lockstep_replicator::{Origin, Role};
use lockstep_vrrp::{self as vrrp, Datagram, Priority, StateName};

use super::barrier::Barrier;
use super::{Committed, Daemon, Effect, NAME, Packet, Pending, address};

impl Daemon {
    pub(crate) fn state(&self) -> State {
        self.failover.groups()[0].state()
    }

    pub(crate) fn is_master(&self) -> bool {
        self.election.state().name() == StateName::Master
    }

    /// Whether everything this router knows has been acknowledged by the other. A peer that has not
    /// answered the greeting is told nothing, and owes nothing.
    pub(crate) fn has_told_all(&self, now: Instant) -> bool {
        self.replicator.role() == Role::Active
            && self.replicator.sync_state().in_sync
            && self
                .replicator
                .peer(now)
                .is_some_and(|peer| !peer.silent && peer.unacknowledged + peer.waiting == 0)
    }

    /// Whether this router, standing by, holds all it was told.
    pub(crate) fn holds_all(&self) -> bool {
        self.replicator.role() == Role::Backup && self.replicator.sync_state().in_sync
    }

    /// A part that hangs has nothing to do before it goes on.
    pub(super) fn next_deadline(
        &self,
        hangs_until: [Option<Instant>; 3],
        hook_ends: Option<Instant>,
    ) -> Option<Instant> {
        let front = |queue: &VecDeque<Pending>| queue.front().map(|pending| pending.due);
        let [network, storage, control] = hangs_until;
        let held = |due: Option<Instant>, until: Option<Instant>| until.or(due);
        let commit = self.commit.as_ref().map(|committing| committing.due);
        let barrier = self.barrier.as_ref().map(Barrier::deadline);
        let storage_due =
            [self.storage_due(), commit, self.read_due(), barrier].into_iter().flatten().min();
        let resuming = self.resuming.map(|it| it.looks_at.min(it.until));
        let look = Some(self.look_at);
        [
            self.election.next_deadline(),
            self.failover.next_deadline(),
            self.replicator.next_deadline(),
            held(front(&self.network).into_iter().chain(look).min(), network),
            held(storage_due, storage),
            held(front(&self.control).into_iter().chain(hook_ends).min(), control),
            resuming,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn receive(
        &mut self,
        number: usize,
        packet: Packet,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match packet {
            Packet::Vrrp(bytes) => {
                let Ok(datagram) = Datagram::from_ipv4(&bytes, Duration::ZERO) else { return };
                let actions = self.election.receive(&datagram, now);
                self.carry_out(number, actions, now, effects);
            }
            Packet::Announcement => {
                self.announced = true;
                if let Some(id) = self.serves.take() {
                    self.done(number, id, now, effects);
                }
            }
            Packet::Replication(bytes) => {
                self.replicator.handle_datagram(Origin::group(0, address(1 - number)), &bytes, now);
            }
        }
    }

    pub(super) fn carry_out(
        &mut self,
        number: usize,
        actions: Vec<vrrp::Action>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        for action in actions {
            let event = match action {
                vrrp::Action::Send(advertisement) => {
                    if advertisement.priority > 0 {
                        self.record.left = Some(now);
                    }
                    let packets =
                        self.encoder.packets(&advertisement, address(number), Duration::ZERO);
                    let sent = packets.into_iter().map(|packet| Packet::Vrrp(packet.bytes));
                    effects.extend(sent.map(Effect::Send));
                    continue;
                }
                vrrp::Action::Elected { reason } => VirtualRouterEvent::Elected { reason },
                vrrp::Action::Deferred => VirtualRouterEvent::Deferred,
                vrrp::Action::Succeeded { by, .. } => VirtualRouterEvent::Succeeded { by },
                vrrp::Action::Superseded { reason, .. } => {
                    VirtualRouterEvent::Superseded { reason }
                }
                vrrp::Action::StateChanged { .. }
                | vrrp::Action::Rejected { .. }
                | vrrp::Action::Differs { .. }
                | vrrp::Action::Withheld { .. }
                | vrrp::Action::Conflict { .. }
                | vrrp::Action::Overslept { .. } => continue,
            };
            let event = failover::Event::VirtualRouter { name: NAME.to_owned(), event };
            self.feed(number, event, now, effects);
        }
    }

    pub(super) fn feed(
        &mut self,
        number: usize,
        event: failover::Event,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let actions = self.failover.handle(event, now);
        self.perform_all(number, &actions, now, effects);
    }

    pub(super) fn perform_all(
        &mut self,
        number: usize,
        actions: &[failover::Action],
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        for action in actions {
            self.perform(number, action, now, effects);
        }
    }

    fn perform(
        &mut self,
        number: usize,
        action: &failover::Action,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match *action {
            failover::Action::Startup { .. } => {
                let event = vrrp::Event::Startup { primary: address(number) };
                let actions = self.election.handle(event, now);
                self.carry_out(number, actions, now, effects);
            }
            failover::Action::Claim { .. } => {
                let actions = self.election.handle(vrrp::Event::Claim, now);
                self.carry_out(number, actions, now, effects);
            }
            failover::Action::PreemptAllowed { allowed, .. } => {
                let actions = self.election.handle(vrrp::Event::PreemptAllowed(allowed), now);
                self.carry_out(number, actions, now, effects);
            }
            failover::Action::Priority { priority, .. } => {
                let priority = Priority::new(priority).expect("not 0");
                let actions = self.election.handle(vrrp::Event::Priority(priority), now);
                self.carry_out(number, actions, now, effects);
            }
            failover::Action::Withdraw { .. } => {
                let actions = self.election.handle(vrrp::Event::Shutdown, now);
                self.carry_out(number, actions, now, effects);
            }
            failover::Action::MayReturn { .. } => {
                let actions = self.election.handle(vrrp::Event::MayReturn, now);
                self.carry_out(number, actions, now, effects);
            }
            failover::Action::Serves { .. } => self.record.serves = true,
            failover::Action::HandoverEnded { .. } | failover::Action::Stopped { .. } => {}
            failover::Action::Step { id, step, from, to, .. } => {
                self.given += 1;
                if matches!(step, Step::StopClaiming | Step::Retire) {
                    // Before a word of it leaves: whoever comes after a kill must not go on.
                    self.record.serves = false;
                    self.resumed = false;
                }
                self.begin(number, (id, step), (from, to), now, effects);
            }
        }
    }

    fn begin(
        &mut self,
        number: usize,
        (id, step): (StepId, Step),
        between: (State, State),
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        match (step, between.1) {
            (Step::Claim, _) => self.elect(number, id, vrrp::Event::Claim, now, effects),
            (Step::StopClaiming, State::Backup) => {
                self.elect(number, id, vrrp::Event::Relinquish, now, effects);
            }
            (Step::StopClaiming, _) => self.elect(number, id, vrrp::Event::Shutdown, now, effects),
            (Step::Retire, _) => self.elect(number, id, vrrp::Event::Retire, now, effects),
            (Step::Announce, _) => {
                effects.push(Effect::Send(Packet::Announcement));
                self.done(number, id, now, effects);
            }
            // The election tells it.
            (Step::PeerClaims, _) => {}
            (Step::PeerServes, _) if self.announced => self.done(number, id, now, effects),
            (Step::PeerServes, _) => self.serves = Some(id),
            _ => self.line_up(id, step, between, now),
        }
    }

    /// A step of the election, which is done at once.
    fn elect(
        &mut self,
        number: usize,
        id: StepId,
        event: vrrp::Event,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        // What was resumed is in the kernel already.
        self.committed = if self.resumed { Committed::Yes } else { Committed::No };
        self.announced = false;
        self.serves = None;
        let actions = self.election.handle(event, now);
        self.carry_out(number, actions, now, effects);
        self.done(number, id, now, effects);
    }

    /// A step of an actor, which takes its time.
    fn line_up(&mut self, id: StepId, step: Step, between: (State, State), now: Instant) {
        if step == Step::CommitFlows {
            self.commit_until = Some(now + self.commit_limit);
        }
        if step == Step::LinksUp
            && self.committed == Committed::No
            && self.commit_until.is_some_and(|until| until <= now)
        {
            self.committed = Committed::OverLimit;
        }
        let committed = self.committed;
        let delay = Duration::from_micros(self.rng.u64(50..3_000));
        let queue = match step {
            Step::CommitFlows | Step::ReplicateActive | Step::ReplicateBackup | Step::Barrier => {
                &mut self.storage
            }
            Step::Hooks => &mut self.control,
            _ => &mut self.network,
        };
        let last = queue.back().map_or(now, |last| last.due);
        let due = last.max(now) + delay;
        queue.push_back(Pending { id, step, between, due, committed });
    }

    pub(super) fn done(
        &mut self,
        number: usize,
        id: StepId,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.stepped(number, id, Outcome::Done(String::new()), now, effects);
    }

    pub(super) fn stepped(
        &mut self,
        number: usize,
        id: StepId,
        outcome: Outcome,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.feed(number, failover::Event::Stepped { id, outcome }, now, effects);
    }
}
