//! One router of the world: a model kernel and, while it runs, a daemon made of the real machines.
//!
//! The daemon here does what `lockstep-daemon`'s threads do: it ties election, group and replicator
//! together, and plays the network and replicator actors, which carry steps out in order and take
//! their time for it.

mod actors;
mod barrier;
mod daemon;
mod guard;
mod hooks;
mod orders;
pub(crate) mod settings;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_failover::hooks::HookQueue;
use lockstep_failover::{self as failover, Failover, State, Step, StepId};
use lockstep_replicator::{Commit, Event as ReplicatorEvent, KernelEvent, Replicator, Start};
use lockstep_vrrp::{self as vrrp, Encoder, VirtualRouter};

use crate::faults::{Actor, Guarded, Weather};
use crate::kernel::{Kernel, KernelChange, own_address};
use barrier::Barrier;
use guard::{Guard, Record, Resuming};
use hooks::Hooks;
use settings::{Settings, replication};

pub(crate) use guard::{Next, RESUMED};

/// The virtual router's advertisement interval.
pub(crate) const INTERVAL: Duration = Duration::from_millis(100);
/// Flows committed in one turn of the replicator.
const COMMIT_BATCH: usize = 16;
/// How long such a turn takes.
const COMMIT_PACE: Duration = Duration::from_millis(1);
/// After a commit the table is read so much later, unless the active role comes first.
const READ_AFTER: Duration = Duration::from_secs(1);
/// How often the network thread compares what is wanted with what is there.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A daemon that stops takes no longer.
const STOP_LIMIT: Duration = Duration::from_secs(14);
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
    /// What its configuration file says.
    pub(crate) settings: Settings,
    /// Since when an operator keeps it from being master; on its disk.
    pub(crate) maintenance: Option<String>,
    pub(crate) hooks: Hooks,
    guard: Guard,
    /// Whether its interface can be used.
    usable: Result<(), String>,
    /// Whether the check passes.
    pub(crate) healthy: bool,
    /// The kernel refuses changes of the network until then.
    pub(crate) refuses_until: Option<Instant>,
    /// Until when each part of the daemon answers nothing.
    pub(crate) hangs_until: [Option<Instant>; 3],
    /// How long a batch of a commit takes, and until when.
    pub(crate) slow_until: Option<(Duration, Instant)>,
    /// How many more steps are given out before the daemon is killed, and whether its guard stays.
    pub(crate) kill_after: Option<(u32, Guarded)>,
    /// When a daemon that was told to stop ends, whatever still hangs.
    stops_at: Option<Instant>,
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
    /// The virtual address has gone up.
    AddressUp {
        /// What had become of the commit for this claim.
        committed: Committed,
    },
    /// The group has entered a state.
    Entered {
        /// Which.
        state: State,
        /// Why.
        reason: String,
    },
    /// What the other has told until now is in the kernel.
    Committed,
    /// The replicator serves, with all that the other has told.
    Activated,
    /// What was this router's has been purged from its kernel.
    Purged,
    /// The daemon was killed between two steps, with its guard or without.
    Died(Guarded),
}

/// A running daemon.
pub(crate) struct Daemon {
    pub(crate) election: VirtualRouter,
    pub(crate) failover: Failover,
    pub(crate) replicator: Replicator,
    encoder: Encoder,
    network: VecDeque<Pending>,
    storage: VecDeque<Pending>,
    control: VecDeque<Pending>,
    hooks: HookQueue,
    /// The step that asked last for hooks, until none of them waits any more.
    hooks_asked: Option<StepId>,
    hooks_matter: bool,
    /// The virtual addresses that the network thread knows of.
    pub(crate) declared: BTreeSet<u8>,
    /// Whether the network thread was told last to have the address, and sees to it: then what had
    /// become of the commit.
    wants_address: Option<Committed>,
    /// Whether forwarding is to be held.
    wants_to_hold: bool,
    /// When it compares that with the kernel.
    look_at: Instant,
    commit: Option<Committing>,
    /// When the kernel's table is read because nobody listened to it during a commit.
    read_at: Option<Instant>,
    committed: Committed,
    /// Until when the commit of this claim holds back the addresses.
    commit_until: Option<Instant>,
    commit_limit: Duration,
    barrier: Option<Barrier>,
    /// What it leaves when it is killed.
    record: Record,
    /// Whether it goes on as master is not decided yet.
    resuming: Option<Resuming>,
    /// Whether its mastership is the one of the daemon before.
    resumed: bool,
    usable: Result<(), String>,
    /// Which of the router's daemons it is.
    life: u32,
    /// The step that waits for the other router's announcement.
    serves: Option<StepId>,
    /// That was heard since this router has retired.
    announced: bool,
    /// How many steps were given out since a kill was planned.
    pub(crate) given: u32,
    rng: Rng,
    shown: State,
}

/// A commit under way.
struct Committing {
    /// The step that waits for its end, which a commit of what was late has none of.
    step: Option<StepId>,
    commit: Commit,
    /// When the next batch has its turn.
    due: Instant,
}

/// A step given to an actor.
struct Pending {
    id: StepId,
    step: Step,
    /// The state that is left, and the one that is entered.
    between: (State, State),
    due: Instant,
    /// Whether the commit of the same claim had ended when the step was given out.
    committed: Committed,
}

/// What has become of the commit of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Committed {
    /// Nothing yet.
    No,
    /// All flows are in the kernel.
    Yes,
    /// It has taken longer than it may hold back addresses.
    OverLimit,
}

impl Router {
    pub(crate) fn new(number: usize, weather: &Weather) -> Self {
        Self {
            number,
            kernel: Kernel::default(),
            daemon: None,
            stalled_until: None,
            waiting: VecDeque::new(),
            settings: Settings::first(number, weather),
            maintenance: None,
            hooks: Hooks::default(),
            guard: Guard::default(),
            usable: Ok(()),
            healthy: true,
            refuses_until: None,
            hangs_until: [None; 3],
            slow_until: None,
            kill_after: None,
            stops_at: None,
            starts: 0,
        }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.daemon.as_ref().is_some_and(Daemon::is_master)
    }

    /// A daemon begins. What the one before it was master of it may be still; otherwise that goes
    /// before anything else.
    pub(crate) fn start(&mut self, rng: &mut Rng, now: Instant, effects: &mut Vec<Effect>) {
        self.starts += 1;
        self.guard.started = Some(now);
        let until = self.guard.record.until().filter(|until| now < *until);
        let resuming = until
            .map(|until| Resuming { looks_at: now + Duration::from_millis(rng.u64(1..60)), until });
        if resuming.is_none() {
            self.guard.record = Record::default();
            if self.refuses_until.is_none() {
                self.kernel.addresses.clear();
            }
        }
        let mut daemon = self.daemon(resuming, rng, now);
        daemon.read_kernel(&self.kernel, now);
        if let Some(since) = self.maintenance.clone() {
            daemon.maintain(self.number, Some(since), now, effects);
        }
        daemon.feed(self.number, failover::Event::Start, now, effects);
        if resuming.is_none() {
            daemon.feed(self.number, interface(self.usable.clone()), now, effects);
        }
        daemon.feed(self.number, check(self.healthy), now, effects);
        self.daemon = Some(daemon);
        self.waiting.clear();
        self.stalled_until = None;
        self.hangs_until = [None; 3];
        self.kill_after = None;
        self.stops_at = None;
        self.settle(now, effects);
    }

    fn daemon(&mut self, resuming: Option<Resuming>, rng: &mut Rng, now: Instant) -> Daemon {
        let sequence = 1_700_000_000 + self.starts * 1_000 + rng.u32(..500);
        let settings = self.settings.election();
        let start = Start { first_sequence: sequence, secret: rng.u64(..), max_datagram: 1472 };
        let mut replicator = Replicator::new(replication(), start, now);
        replicator.set_local_addresses([own_address(self.number)]);
        Daemon {
            encoder: Encoder::new(&settings),
            election: VirtualRouter::new(settings),
            failover: Failover::new(&self.settings.failover(), now),
            replicator,
            network: VecDeque::new(),
            storage: VecDeque::new(),
            control: VecDeque::new(),
            hooks: hooks::queue(&mut self.hooks, now),
            hooks_asked: None,
            hooks_matter: self.settings.hooks_matter,
            declared: self.settings.addresses.clone(),
            wants_address: resuming.map(|_| Committed::Yes),
            wants_to_hold: false,
            look_at: now + LOOK_EVERY,
            commit: None,
            read_at: None,
            committed: Committed::No,
            commit_until: None,
            commit_limit: self.settings.limits.commit,
            barrier: None,
            record: self.guard.record,
            resuming,
            resumed: false,
            usable: self.usable.clone(),
            life: self.starts,
            serves: None,
            announced: false,
            given: 0,
            rng: rng.fork(),
            shown: State::Init,
        }
    }

    /// The daemon and its guard are gone from one moment to the next; the kernel stays as it is.
    pub(crate) fn kill(&mut self) {
        self.end();
        self.guard = Guard::default();
    }

    /// The daemon is gone, and its guard sees to it.
    pub(crate) fn kill_guarded(&mut self, now: Instant) -> Next {
        self.end();
        let next = self.guard.died(now);
        if !matches!(next, Next::AtOnce) {
            self.release();
        }
        if matches!(next, Next::Never) {
            self.guard = Guard::default();
        }
        next
    }

    fn end(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.guard.record = daemon.record;
        }
        // Its table goes with its owner.
        self.kernel.holds_forwarding = false;
        self.waiting.clear();
        self.stalled_until = None;
    }

    /// What follows a master goes, as far as the kernel lets it.
    fn release(&mut self) {
        self.guard.record = Record::default();
        if self.refuses_until.is_none() {
            self.kernel.addresses.clear();
        }
    }

    /// The whole router is gone.
    pub(crate) fn cut_power(&mut self) {
        self.kill();
        self.kernel = Kernel::default();
        self.hooks = Hooks::default();
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&mut self) {
        (self.refuses_until, self.slow_until, self.kill_after) = (None, None, None);
        self.hangs_until = [None; 3];
        self.hooks.calm();
    }

    /// Whether it was told to stop and is still at it.
    pub(crate) fn is_stopping(&self) -> bool {
        self.daemon.is_some() && self.stops_at.is_some()
    }

    pub(crate) fn stop(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.stops_at.get_or_insert(now + STOP_LIMIT);
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
        self.usable.clone_from(&usable);
        self.with(now, effects, |daemon, number, effects| {
            daemon.usable.clone_from(&usable);
            if daemon.resuming.is_none() {
                daemon.feed(number, interface(usable), now, effects);
            }
        });
    }

    pub(crate) fn check(&mut self, passes: bool, now: Instant, effects: &mut Vec<Effect>) {
        self.healthy = passes;
        self.with(now, effects, |daemon, number, effects| {
            daemon.feed(number, check(passes), now, effects);
        });
    }

    /// The longest a commit holds back the address.
    pub(crate) fn commit_limit(&self) -> Duration {
        self.settings.limits.commit
    }

    /// Whether a daemon or its guard is there.
    pub(crate) fn is_guarded(&self) -> bool {
        self.daemon.is_some() || self.guard.started.is_some()
    }

    /// How it stands, for people.
    pub(crate) fn standing(&self) -> String {
        let Some(daemon) = &self.daemon else { return "does not run".to_owned() };
        let group = &daemon.failover.groups()[0];
        let election = daemon.election.state().name().as_str();
        let step = group.step().map_or("settled", Step::as_str);
        let addresses = &self.kernel.addresses;
        format!("{}, {step}, election {election}, addresses {addresses:?}", group.state().as_str())
    }

    /// The priority by which it compares a better master, while it is one and heeds what it hears.
    pub(crate) fn mastership(&self) -> Option<u8> {
        let daemon = self.daemon.as_ref().filter(|_| self.stalled_until.is_none())?;
        daemon.is_master().then(|| daemon.election.effective_priority().value())
    }

    /// Whether somebody hears what its kernel tells.
    pub(crate) fn listens(&self) -> bool {
        self.daemon.as_ref().is_some_and(|daemon| daemon.commit.is_none())
    }

    /// Whether nothing keeps the network thread from doing what is wanted.
    pub(crate) fn works(&self) -> bool {
        self.stalled_until.is_none()
            && self.refuses_until.is_none()
            && self.hangs_until.iter().all(Option::is_none)
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
        let due = daemon.next_deadline(self.hangs_until, self.hooks.ends_at());
        let due = due.into_iter().chain(self.stops_at).min();
        self.stalled_until.or(due)
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
        if self.stops_at.is_some_and(|at| at <= now) {
            self.kill();
            return self.release();
        }
        let Some(daemon) = &mut self.daemon else { return };
        let over = |until: &mut Option<Instant>| {
            until.take_if(|until| *until <= now);
            until.is_none()
        };
        let refuses = !over(&mut self.refuses_until);
        self.slow_until.take_if(|(_, until)| *until <= now);
        let [network, storage, control] = &mut self.hangs_until;
        if over(network) {
            daemon.run_network(self.number, &mut self.kernel, refuses, now, effects);
        }
        if over(storage) {
            let pace = self.slow_until.map_or(COMMIT_PACE, |(pace, _)| pace);
            daemon.run_storage(self.number, &mut self.kernel, pace, now, effects);
        }
        if over(control) {
            daemon.run_control(self.number, &mut self.hooks, now, effects);
        }
        self.with(now, effects, |daemon, number, effects| {
            daemon.resume(number, now, effects);
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
    pub(crate) fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(daemon) = &mut self.daemon else { return };
        if let Some((_, guarded)) = self.kill_after.take_if(|(steps, _)| daemon.given >= *steps) {
            effects.push(Effect::Died(guarded));
            return;
        }
        if self.hangs_until[Actor::Storage as usize].is_none() {
            daemon.look_at_barrier(self.number, now, effects);
        }
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
                | ReplicatorEvent::GaveWay { .. }
                | ReplicatorEvent::TakenUp { .. }
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

/// The routers' addresses; the second wins ties.
pub(crate) fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(10, 1, 1, if number == 0 { 2 } else { 3 }).into()
}

const NAME: &str = "inside";
const GROUP: &str = "gateway";
const CHECK: &str = "alive";

fn interface(usable: Result<(), String>) -> failover::Event {
    failover::Event::Interface { virtual_router: NAME.to_owned(), usable }
}

fn check(success: bool) -> failover::Event {
    let detail = if success { "exit status 0" } else { "exit status 1" };
    failover::Event::Check { name: CHECK.to_owned(), success, detail: detail.to_owned() }
}
