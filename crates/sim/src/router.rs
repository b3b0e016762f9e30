//! One router of the world: a model kernel and, while it runs, a daemon made of the real machines.
//!
//! The daemon here does what `lockstep-daemon`'s threads do: it ties election, group and replicator
//! together, and plays the network and replicator actors, which carry steps out in order and take
//! their time for it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_failover::{
    self as failover, Failover, Group, Notify, Outcome, State, Step, StepId, VirtualRouterEvent,
};
use lockstep_replicator::{
    Commit, Config as ReplicatorConfig, Event as ReplicatorEvent, KernelEvent, Link, Origin,
    Replicator, Role, Start,
};
use lockstep_vrrp::{
    self as vrrp, Datagram, Encoder, Family, Priority, StateName, Version, VirtualRouter, Vrid,
};

use crate::kernel::{Kernel, KernelChange};

/// The virtual router's advertisement interval.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Flows committed in one turn of the replicator.
const COMMIT_BATCH: usize = 16;
/// Chance that the kernel refuses a network step.
const REFUSAL: f64 = 0.01;

/// A router.
pub(crate) struct Router {
    pub(crate) number: usize,
    pub(crate) kernel: Kernel,
    pub(crate) daemon: Option<Daemon>,
    /// Not scheduled until then; what arrives meanwhile waits in its sockets.
    pub(crate) stalled_until: Option<Instant>,
    pub(crate) waiting: VecDeque<Packet>,
    preempt: bool,
    starts: u32,
}

/// What travels between the routers.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// A VRRP advertisement as an IP packet.
    Vrrp(Vec<u8>),
    /// A datagram of the replicator.
    Replication(Vec<u8>),
    /// Gratuitous ARP for the virtual address.
    Announcement,
}

/// What a router did that the world has to carry on.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// A packet leaves.
    Send(Packet),
    /// The kernel's table has changed.
    Kernel(Box<KernelChange>),
    /// The virtual address has gone up; `committed` says whether a commit for this claim had ended.
    AddressUp {
        /// Whether it had.
        committed: bool,
    },
    /// The group has entered a state.
    Entered {
        /// Which.
        state: State,
        /// Why.
        reason: String,
    },
    /// What was this router's has been purged from its kernel.
    Purged,
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) election: VirtualRouter,
    pub(crate) failover: Failover,
    pub(crate) replicator: Replicator,
    encoder: Encoder,
    network: VecDeque<Pending>,
    storage: VecDeque<Pending>,
    commit: Option<(StepId, Commit, Instant)>,
    committed: bool,
    /// The step that waits for the other router's announcement.
    serves: Option<StepId>,
    /// That was heard since this router has retired.
    announced: bool,
    rng: Rng,
    shown: State,
}

/// A step given to an actor.
struct Pending {
    id: StepId,
    step: Step,
    due: Instant,
    /// Whether the commit of the same claim had ended when the step was given out.
    committed: bool,
}

impl Router {
    pub(crate) fn new(number: usize, preempt: bool) -> Self {
        Self {
            number,
            kernel: Kernel::default(),
            daemon: None,
            stalled_until: None,
            waiting: VecDeque::new(),
            preempt,
            starts: 0,
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.daemon.as_ref().is_some_and(Daemon::is_master)
    }

    pub(crate) fn start(&mut self, rng: &mut Rng, now: Instant, effects: &mut Vec<Effect>) {
        self.starts += 1;
        let priority = if self.number == 0 { 150 } else { 100 };
        let sequence = 1_700_000_000 + self.starts * 1_000 + rng.u32(..500);
        let settings = virtual_router(priority, self.preempt);
        let mut daemon = Daemon {
            encoder: Encoder::new(&settings),
            election: VirtualRouter::new(settings),
            failover: Failover::new(&group(), now),
            replicator: Replicator::new(
                replication(),
                Start { first_sequence: sequence, secret: rng.u64(..), max_datagram: 1472 },
                now,
            ),
            network: VecDeque::new(),
            storage: VecDeque::new(),
            commit: None,
            committed: false,
            serves: None,
            announced: false,
            rng: rng.fork(),
            shown: State::Init,
        };
        daemon.read_kernel(&self.kernel, now);
        daemon.feed(self.number, failover::Event::Start, now, effects);
        daemon.feed(self.number, interface(Ok(())), now, effects);
        self.daemon = Some(daemon);
        self.waiting.clear();
        self.stalled_until = None;
        self.settle(now, effects);
    }

    /// The daemon is gone from one moment to the next; its kernel stays as it is.
    pub(crate) fn kill(&mut self) {
        self.daemon = None;
        self.waiting.clear();
        self.stalled_until = None;
    }

    /// The whole router is gone.
    pub(crate) fn cut_power(&mut self) {
        self.kill();
        self.kernel = Kernel::default();
    }

    pub(crate) fn stop(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.with(now, effects, |daemon, number, effects| {
            daemon.feed(number, failover::Event::Stop, now, effects);
        });
    }

    pub(crate) fn usable(
        &mut self,
        usable: Result<(), String>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.with(now, effects, |daemon, number, effects| {
            daemon.feed(number, interface(usable), now, effects);
        });
    }

    pub(crate) fn receive(&mut self, packet: Packet, now: Instant, effects: &mut Vec<Effect>) {
        if self.daemon.is_none() {
            return;
        }
        if self.stalled_until.is_some() {
            return self.waiting.push_back(packet);
        }
        self.with(now, effects, |daemon, number, effects| {
            daemon.receive(number, packet, now, effects);
        });
    }

    pub(crate) fn kernel_event(
        &mut self,
        change: &KernelChange,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.with(now, effects, |daemon, _, _| {
            let KernelChange { change, flow, own } = change;
            let event = KernelEvent { change: *change, flow, own: *own };
            daemon.replicator.handle_kernel_event(event, now);
        });
    }

    /// When this router has something to do although nothing arrives.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let daemon = self.daemon.as_ref()?;
        self.stalled_until.or_else(|| daemon.next_deadline())
    }

    /// Listens to what waits in its sockets before it acts on a timer, as the core thread does.
    pub(crate) fn timeout(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.stalled_until.take_if(|until| *until <= now).is_some() {
            for packet in std::mem::take(&mut self.waiting) {
                self.receive(packet, now, effects);
            }
        }
        if self.stalled_until.is_some() {
            return;
        }
        let Some(daemon) = &mut self.daemon else { return };
        daemon.run_network(self.number, &mut self.kernel, now, effects);
        daemon.run_storage(self.number, &mut self.kernel, now, effects);
        self.with(now, effects, |daemon, number, effects| {
            let actions = daemon.election.handle(vrrp::Event::Timeout, now);
            daemon.carry_out(number, actions, now, effects);
            daemon.feed(number, failover::Event::Timeout, now, effects);
            daemon.replicator.handle_timeout(now);
        });
    }

    fn with(
        &mut self,
        now: Instant,
        effects: &mut Vec<Effect>,
        work: impl FnOnce(&mut Daemon, usize, &mut Vec<Effect>),
    ) {
        let number = self.number;
        if let Some(daemon) = &mut self.daemon {
            work(daemon, number, effects);
        }
        self.settle(now, effects);
    }

    /// Takes from the replicator what it wants to say, and notes the group's state.
    fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(daemon) = &mut self.daemon else { return };
        while let Some(event) = daemon.replicator.poll_event() {
            match event {
                ReplicatorEvent::Sync(sync) => {
                    let event = failover::Event::InSync(sync.in_sync);
                    daemon.feed(self.number, event, now, effects);
                }
                ReplicatorEvent::PurgeDue => daemon.purge(&mut self.kernel, effects),
                ReplicatorEvent::PeerAppeared { .. }
                | ReplicatorEvent::PeerRestarted { .. }
                | ReplicatorEvent::PeerSilent { .. }
                | ReplicatorEvent::LinkChanged { .. }
                | ReplicatorEvent::ResyncCompleted { .. }
                | ReplicatorEvent::CacheFull { .. }
                | ReplicatorEvent::CacheHasRoom { .. } => {}
            }
        }
        let mut buffer = Vec::new();
        while daemon.replicator.poll_transmit(now, &mut buffer).is_some() {
            effects.push(Effect::Send(Packet::Replication(buffer.clone())));
        }
        if daemon.state() != daemon.shown {
            daemon.shown = daemon.state();
            let reason = daemon.failover.groups()[0].reason();
            effects.push(Effect::Entered { state: daemon.shown, reason });
        }
        if daemon.state() == State::Stopped && daemon.failover.groups()[0].is_settled() {
            self.kill();
        }
    }
}

impl Daemon {
    pub(crate) fn state(&self) -> State {
        self.failover.groups()[0].state()
    }

    pub(crate) fn is_master(&self) -> bool {
        self.election.state().name() == StateName::Master
    }

    /// Whether everything this router knows has been acknowledged by the other.
    pub(crate) fn has_told_all(&self, now: Instant) -> bool {
        self.replicator.role() == Role::Active
            && self
                .replicator
                .peer(now)
                .is_some_and(|peer| !peer.silent && peer.unacknowledged + peer.waiting == 0)
    }

    /// Whether this router, standing by, holds all it was told.
    pub(crate) fn holds_all(&self) -> bool {
        self.replicator.role() == Role::Backup && self.replicator.sync_state().in_sync
    }

    fn next_deadline(&self) -> Option<Instant> {
        [
            self.election.next_deadline(),
            self.failover.next_deadline(),
            self.replicator.next_deadline(),
            self.network.front().map(|pending| pending.due),
            self.storage.front().map(|pending| pending.due),
            self.commit.as_ref().map(|(_, _, due)| *due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn receive(&mut self, number: usize, packet: Packet, now: Instant, effects: &mut Vec<Effect>) {
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

    fn carry_out(
        &mut self,
        number: usize,
        actions: Vec<vrrp::Action>,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        for action in actions {
            let event = match action {
                vrrp::Action::Send(advertisement) => {
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

    fn feed(
        &mut self,
        number: usize,
        event: failover::Event,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        for action in self.failover.handle(event, now) {
            self.perform(number, &action, now, effects);
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
            failover::Action::HandoverEnded { .. }
            | failover::Action::Serves { .. }
            | failover::Action::Stopped { .. } => {}
            failover::Action::Step { id, step, to, .. } => {
                let election = match (step, to) {
                    (Step::Claim, _) => Some(vrrp::Event::Claim),
                    (Step::StopClaiming, State::Backup) => Some(vrrp::Event::Relinquish),
                    (Step::StopClaiming, _) => Some(vrrp::Event::Shutdown),
                    (Step::Retire, _) => Some(vrrp::Event::Retire),
                    _ => None,
                };
                if let Some(event) = election {
                    self.committed = false;
                    self.announced = false;
                    self.serves = None;
                    let actions = self.election.handle(event, now);
                    self.carry_out(number, actions, now, effects);
                    return self.done(number, id, now, effects);
                }
                let committed = self.committed;
                let delay = Duration::from_micros(self.rng.u64(50..3_000));
                match step {
                    Step::CommitFlows | Step::ReplicateActive | Step::ReplicateBackup => {
                        let due = self.storage.back().map_or(now, |last| last.due).max(now) + delay;
                        self.storage.push_back(Pending { id, step, due, committed });
                    }
                    Step::Announce => {
                        effects.push(Effect::Send(Packet::Announcement));
                        self.done(number, id, now, effects);
                    }
                    Step::Hooks => self.done(number, id, now, effects),
                    Step::Barrier if self.has_told_all(now) => self.done(number, id, now, effects),
                    Step::Barrier => {
                        let outcome = Outcome::Failed("the other lacks flows".to_owned());
                        self.stepped(number, id, outcome, now, effects);
                    }
                    // The election tells it.
                    Step::PeerClaims => {}
                    Step::PeerServes if self.announced => self.done(number, id, now, effects),
                    Step::PeerServes => self.serves = Some(id),
                    _ => {
                        let due = self.network.back().map_or(now, |last| last.due).max(now) + delay;
                        self.network.push_back(Pending { id, step, due, committed });
                    }
                }
            }
        }
    }

    fn done(&mut self, number: usize, id: StepId, now: Instant, effects: &mut Vec<Effect>) {
        self.stepped(number, id, Outcome::Done(String::new()), now, effects);
    }

    fn stepped(
        &mut self,
        number: usize,
        id: StepId,
        outcome: Outcome,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        self.feed(number, failover::Event::Stepped { id, outcome }, now, effects);
    }

    fn run_network(
        &mut self,
        number: usize,
        kernel: &mut Kernel,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        while let Some(pending) = self.network.pop_front_if(|pending| pending.due <= now) {
            if self.rng.f64() < REFUSAL {
                let outcome = Outcome::Failed("refused by the kernel".to_owned());
                self.stepped(number, pending.id, outcome, now, effects);
                continue;
            }
            match pending.step {
                Step::AddressesUp => {
                    kernel.address = true;
                    effects.push(Effect::AddressUp { committed: pending.committed });
                }
                Step::AddressesDown => kernel.address = false,
                _ => {}
            }
            self.done(number, pending.id, now, effects);
        }
    }

    fn run_storage(
        &mut self,
        number: usize,
        kernel: &mut Kernel,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) {
        let cut = self.storage.front().is_some_and(|newer| newer.due <= now);
        if let Some((id, mut commit, due)) = self.commit.take_if(|(_, _, due)| cut || *due <= now) {
            let more = !cut && self.commit_batch(kernel, &mut commit, now, effects);
            if more {
                self.commit = Some((id, commit, due + Duration::from_millis(1)));
            } else {
                self.replicator.end_commit(commit.report());
                self.committed = !cut;
                let outcome = if cut {
                    Outcome::Failed("cut short".to_owned())
                } else {
                    Outcome::Done(commit.report().to_string())
                };
                self.stepped(number, id, outcome, now, effects);
            }
        }
        while self.commit.is_none() {
            let Some(Pending { id, step, .. }) =
                self.storage.pop_front_if(|pending| pending.due <= now)
            else {
                return;
            };
            match step {
                Step::CommitFlows => {
                    self.commit = Some((id, self.replicator.begin_commit(), now));
                    continue;
                }
                Step::ReplicateActive => {
                    self.replicator.activate(now);
                    self.read_kernel(kernel, now);
                }
                _ => self.replicator.deactivate(now),
            }
            self.done(number, id, now, effects);
        }
    }

    /// Commits one batch; whether more is left.
    fn commit_batch(
        &mut self,
        kernel: &mut Kernel,
        commit: &mut Commit,
        now: Instant,
        effects: &mut Vec<Effect>,
    ) -> bool {
        for _ in 0..COMMIT_BATCH {
            let Some(planned) = commit.next(&self.replicator, now) else { return false };
            let changes = kernel.carry_out(commit, planned);
            effects.extend(changes.into_iter().map(|change| Effect::Kernel(Box::new(change))));
        }
        true
    }

    fn purge(&mut self, kernel: &mut Kernel, effects: &mut Vec<Effect>) {
        let Some(mut purge) = self.replicator.begin_purge() else { return };
        let mut removed = 0;
        while let Some(flow) = purge.next(&self.replicator) {
            if let Some(flow) = kernel.remove(&flow.orig) {
                let change = lockstep_replicator::Change::Delete;
                let change = KernelChange { change, flow, own: true };
                effects.push(Effect::Kernel(Box::new(change)));
                removed += 1;
            }
        }
        self.replicator.end_purge(removed);
        effects.push(Effect::Purged);
    }

    fn read_kernel(&mut self, kernel: &Kernel, now: Instant) {
        loop {
            self.replicator.begin_dump();
            for flow in kernel.flows.values() {
                self.replicator.dumped(flow, now);
            }
            if self.replicator.end_dump(now) {
                return;
            }
        }
    }
}

/// The routers' addresses; the second wins ties.
pub(crate) fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 1, 1, if number == 0 { 2 } else { 3 }).into()
}

const NAME: &str = "inside";

fn interface(usable: Result<(), String>) -> failover::Event {
    failover::Event::Interface { virtual_router: NAME.to_owned(), usable }
}

fn virtual_router(priority: u8, preempt: bool) -> vrrp::Config {
    vrrp::Config {
        priority: Priority::new(priority).expect("not 0"),
        preempt,
        advertisement_interval: INTERVAL,
        addresses: vec![Ipv4Addr::new(10, 1, 1, 1).into()],
        ..vrrp::Config::new(Vrid::new(51).expect("not 0"), Version::V3, Family::Ipv4)
    }
}

fn group() -> failover::Config {
    failover::Config {
        groups: vec![Group {
            name: "gateway".to_owned(),
            virtual_routers: vec![failover::VirtualRouter::new(NAME, "eth0")],
            notify: Notify::default(),
            replicated: true,
            ..Group::default()
        }],
        checks: Vec::new(),
    }
}

fn replication() -> ReplicatorConfig {
    let group = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 50));
    let mut config = ReplicatorConfig::new("gateway", vec![Link::multicast("eth0", group)]);
    config.cache_limit = 100_000;
    config
}
