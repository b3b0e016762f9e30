//! What goes wrong, and when: all of it decided by the seed.

use std::time::Duration;

use fastrand::Rng;

use crate::lan::{Cut, Lan};

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
    /// The longest a commit holds back the addresses.
    pub commit_limit: Duration,
    /// How long the better router waits for flows; `None` for as long as it takes.
    pub preempt_limit: Option<Duration>,
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The daemon is killed.
    Kill(usize),
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
    /// The daemon is killed when it has given out so many more steps.
    KillAfterSteps(usize, u32),
}

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
            commit_limit: if rng.bool() {
                Duration::from_secs(30)
            } else {
                Duration::from_millis(rng.u64(10..300))
            },
            preempt_limit: rng.bool().then(|| Duration::from_millis(rng.u64(500..10_000))),
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
        let fault = match rng.u8(..14) {
            0 | 1 => Fault::Kill(router),
            2 | 3 => Fault::PowerCut(router),
            4 => Fault::Stop(router),
            5 => Fault::Stall(router, short),
            6 => Fault::Deaf(router, short),
            7 => Fault::Partition(short),
            8 => Fault::CheckFails(router, short),
            9 => Fault::Refuses(router, short),
            10 => Fault::Hangs(router, actor, 10 * short),
            11 => Fault::SlowCommit(router, short / 20, short),
            12 => Fault::KillAfterSteps(router, rng.u32(1..16)),
            _ => Fault::InterfaceDown(router, short),
        };
        (after, fault)
    }
}
