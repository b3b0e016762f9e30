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
        let fault = match rng.u8(..9) {
            0 | 1 => Fault::Kill(router),
            2 | 3 => Fault::PowerCut(router),
            4 => Fault::Stop(router),
            5 => Fault::Stall(router, short),
            6 => Fault::Deaf(router, short),
            7 => Fault::Partition(short),
            _ => Fault::InterfaceDown(router, short),
        };
        (after, fault)
    }
}
