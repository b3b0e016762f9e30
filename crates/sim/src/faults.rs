//! What goes wrong, and when: all of it decided by the seed.

use std::time::Duration;

use fastrand::Rng;
use lockstep_failover::Limits;

use crate::lan::{Cut, Lan};
use crate::router::settings::{Change, limits};

/// How rough a run is; drawn from the seed.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Chance that a packet is lost.
    pub loss: f64,
    /// Chance that a packet arrives twice.
    pub duplication: f64,
    /// Longest delay of a packet.
    pub delay: Duration,
    /// Mean time between two faults.
    pub fault_every: Duration,
    /// Whether the better router takes mastership back.
    pub preempt: bool,
    /// How long a group waits for a commit, and for the flows of a master that it is to replace.
    pub limits: Limits,
    /// Whether a hook that fails is a fault of the group.
    pub hooks_matter: bool,
    /// Whether what would begin a flow is held back while flows are committed.
    pub holds_forwarding: bool,
}

/// One thing that goes wrong, or that an operator does at the wrong moment.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The daemon is killed, with its guard.
    Kill(usize),
    /// The daemon is killed, and its guard starts another.
    KillGuarded(usize),
    /// The router loses power: daemon, table and addresses are gone.
    PowerCut(usize),
    /// The daemon is told to stop.
    Stop(usize),
    /// The router is not scheduled for a while.
    Stall(usize, Duration),
    /// Nothing arrives from this router for a while.
    Deaf(usize, Duration),
    /// Nothing arrives in either direction for a while.
    Partition(Duration),
    /// The interface goes down for a while.
    InterfaceDown(usize, Duration),
    /// The check fails for a while.
    CheckFails(usize, Duration),
    /// The kernel refuses every change of links, addresses, routes and rules for a while.
    Refuses(usize, Duration),
    /// A part of the daemon answers nothing for a while.
    Hangs(usize, Actor, Duration),
    /// Each batch of a commit takes that long, for a while.
    SlowCommit(usize, Duration, Duration),
    /// The daemon is killed when it has given out so many more steps, with its guard or without.
    KillAfterSteps(usize, u32, Guarded),
    /// Hooks fail for a while.
    HooksFail(usize, Duration),
    /// Hooks do not return for a while.
    HooksHang(usize, Duration),
    /// The configuration is changed on this router, and so much later on the other.
    Reload(usize, Change, Duration),
    /// The router is to hand over, with force or without.
    Switchover(usize, bool),
    /// The router is in maintenance for a while.
    Maintenance(usize, Duration),
}

/// Whether the guard outlives its daemon.
pub(crate) type Guarded = bool;

/// A part of the daemon that carries out steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Actor {
    /// Links, addresses, routes, rules.
    Network,
    /// The replicator.
    Storage,
    /// Hooks.
    Control,
}

impl Weather {
    /// The weather of a seed.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let calm = rng.u8(..4) == 0;
        Self {
            loss: if calm { 0.0 } else { 0.3 * rng.f64() },
            duplication: if calm { 0.0 } else { 0.1 * rng.f64() },
            delay: Duration::from_micros(if calm { 300 } else { rng.u64(300..20_000) }),
            fault_every: Duration::from_millis(rng.u64(1_000..8_000)),
            preempt: rng.bool(),
            limits: limits(rng),
            hooks_matter: rng.bool(),
            holds_forwarding: rng.bool(),
        }
    }

    pub(crate) fn lan(&self) -> Lan {
        Lan {
            loss: self.loss,
            duplication: self.duplication,
            delay: self.delay,
            cut: Cut::default(),
        }
    }

    pub(crate) fn next_fault(&self, rng: &mut Rng) -> (Duration, Fault) {
        let after = self.fault_every.mul_f64(0.1 + 1.8 * rng.f64());
        let router = rng.usize(..2);
        let short = Duration::from_millis(rng.u64(20..3_000));
        let actor = [Actor::Network, Actor::Storage, Actor::Control][rng.usize(..3)];
        let fault = match rng.u8(..26) {
            0 | 1 => Fault::Kill(router),
            2 | 3 => Fault::PowerCut(router),
            4 | 5 => Fault::Stop(router),
            6 => Fault::Stall(router, short),
            7 => Fault::Deaf(router, short),
            8 => Fault::Partition(short),
            9 => Fault::CheckFails(router, short),
            10 => Fault::Refuses(router, short),
            11 => Fault::Hangs(router, actor, 10 * short),
            12 => Fault::SlowCommit(router, short / 20, short),
            13 => Fault::KillAfterSteps(router, rng.u32(1..16), rng.bool()),
            14 => Fault::InterfaceDown(router, short),
            15..=17 => Fault::KillGuarded(router),
            18 => Fault::HooksFail(router, short),
            19 => Fault::HooksHang(router, short),
            20..=22 => Fault::Reload(router, Change::draw(rng), short),
            23 | 24 => Fault::Switchover(router, rng.bool()),
            _ => Fault::Maintenance(router, 5 * short),
        };
        (after, fault)
    }
}
