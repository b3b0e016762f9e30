//! One router of the world: a model kernel and, while it runs, a daemon made of the real machines.
//!
//! The daemon here does what `lockstep-daemon`'s threads do: it ties election, group and replicator
//! together, and plays the network and replicator actors, which carry steps out in order and take
//! their time for it.

mod actors;
mod daemon;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_failover::{self as failover, Failover, Group, Limits, Notify, State, Step, StepId};
use lockstep_replicator::{
    Commit, Config as ReplicatorConfig, Event as ReplicatorEvent, KernelEvent, Link, Replicator,
    Start,
};
use lockstep_vrrp::{self as vrrp, Encoder, Family, Priority, Version, VirtualRouter, Vrid};

use crate::faults::Weather;
use crate::kernel::{Kernel, KernelChange};

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
const STOP_LIMIT: Duration = Duration::from_secs(8);
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
    weather: Weather,
    /// Whether the check passes.
    pub(crate) healthy: bool,
    /// The kernel refuses changes of the network until then.
    pub(crate) refuses_until: Option<Instant>,
    /// Until when each part of the daemon answers nothing.
    pub(crate) hangs_until: [Option<Instant>; 3],
    /// How long a batch of a commit takes, and until when.
    pub(crate) slow_until: Option<(Duration, Instant)>,
    /// How many more steps are given out before the daemon is killed.
    pub(crate) kill_after: Option<u32>,
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
    /// The replicator serves, with all that the other has told.
    Activated,
    /// What was this router's has been purged from its kernel.
    Purged,
    /// The daemon was killed between two steps.
    Died,
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
    /// Whether the network thread was told last to have the address, and sees to it: then what had
    /// become of the commit.
    wants_address: Option<Committed>,
    /// When it compares that with the kernel.
    look_at: Instant,
    commit: Option<Committing>,
    /// When the kernel's table is read because nobody listened to it during a commit.
    read_at: Option<Instant>,
    committed: Committed,
    /// When the commit of this claim was asked for.
    commit_since: Option<Instant>,
    commit_limit: Duration,
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
            weather: weather.clone(),
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

    pub(crate) fn start(&mut self, rng: &mut Rng, now: Instant, effects: &mut Vec<Effect>) {
        self.starts += 1;
        let priority = if self.number == 0 { 150 } else { 100 };
        let sequence = 1_700_000_000 + self.starts * 1_000 + rng.u32(..500);
        let settings = virtual_router(priority, self.weather.preempt);
        let mut daemon = Daemon {
            encoder: Encoder::new(&settings),
            election: VirtualRouter::new(settings),
            failover: Failover::new(&group(&self.weather), now),
            replicator: Replicator::new(
                replication(),
                Start { first_sequence: sequence, secret: rng.u64(..), max_datagram: 1472 },
                now,
            ),
            network: VecDeque::new(),
            storage: VecDeque::new(),
            control: VecDeque::new(),
            wants_address: None,
            look_at: now + LOOK_EVERY,
            commit: None,
            read_at: None,
            committed: Committed::No,
            commit_since: None,
            commit_limit: self.weather.commit_limit,
            serves: None,
            announced: false,
            given: 0,
            rng: rng.fork(),
            shown: State::Init,
        };
        daemon.read_kernel(&self.kernel, now);
        daemon.feed(self.number, failover::Event::Start, now, effects);
        daemon.feed(self.number, interface(Ok(())), now, effects);
        daemon.feed(self.number, check(self.healthy), now, effects);
        self.daemon = Some(daemon);
        self.waiting.clear();
        self.stalled_until = None;
        self.hangs_until = [None; 3];
        self.kill_after = None;
        self.stops_at = None;
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

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&mut self) {
        (self.refuses_until, self.slow_until, self.kill_after) = (None, None, None);
        self.hangs_until = [None; 3];
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
        self.with(now, effects, |daemon, number, effects| {
            daemon.feed(number, interface(usable), now, effects);
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
        self.weather.commit_limit
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
        let due = daemon.next_deadline(self.hangs_until).into_iter().chain(self.stops_at).min();
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
            return self.kill();
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
            daemon.run_control(self.number, now, effects);
        }
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
        if self.kill_after.take_if(|steps| daemon.given >= *steps).is_some() {
            effects.push(Effect::Died);
            return self.kill();
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
const CHECK: &str = "alive";

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

fn check(success: bool) -> failover::Event {
    let detail = if success { "exit status 0" } else { "exit status 1" };
    failover::Event::Check { name: CHECK.to_owned(), success, detail: detail.to_owned() }
}

fn group(weather: &Weather) -> failover::Config {
    failover::Config {
        groups: vec![Group {
            name: "gateway".to_owned(),
            virtual_routers: vec![failover::VirtualRouter::new(NAME, "eth0")],
            notify: Notify::default(),
            replicated: true,
            checks: vec![CHECK.to_owned()],
            limits: Limits {
                commit: weather.commit_limit,
                preempt_without_flows: weather.preempt_limit,
            },
            ..Group::default()
        }],
        checks: vec![failover::Check {
            name: CHECK.to_owned(),
            command: vec!["/bin/true".to_owned()],
            user: None,
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
        }],
    }
}

fn replication() -> ReplicatorConfig {
    let group = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 50));
    let mut config = ReplicatorConfig::new("gateway", vec![Link::multicast("eth0", group)]);
    config.cache_limit = 100_000;
    config
}
