//! How long a takeover takes, and how often one happens for nothing, by interval and loss.
//!
//! The routers have priorities 200, 150, 100, 75 and 50, so that the second one takes over, after
//! three intervals and a skew of 0.41; preemption brings the first one back between two trials.
//! Packets take 20 to 200 µs. A takeover is measured from the moment of the fault to the moment when
//! another router claims mastership.

use std::time::{Duration, Instant};

use fastrand::Rng;
use lockstep_vrrp::{ChecksumDialect, Family, Version, WhenMisunderstood};

use super::faults::{Common, Fault, Kind, Own, Plan};
use super::router::Router;
use super::world::Elections;
use crate::Violation;
use crate::lan::Lan;

/// How the master goes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// Its daemon is killed.
    Kill,
    /// It is stopped and says priority 0.
    Stop,
    /// Its interface goes down.
    LinkDown,
    /// It is not scheduled for twenty intervals.
    Stall,
}

impl Loss {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Stop, Self::LinkDown, Self::Stall];
}

/// A LAN to measure on.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// How many routers, 2 to 5.
    pub routers: usize,
    /// The advertisement interval.
    pub interval: Duration,
    /// Packets lost of a hundred.
    pub loss_percent: u8,
}

/// Takeover times of one setting and one way to lose the master.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Half of the takeovers were faster.
    pub median: Duration,
    /// 99 of 100 were as fast.
    pub hundredth: Duration,
    /// The slowest.
    pub worst: Duration,
}

impl Setting {
    /// Loses the master `trials` times, in a world of this seed.
    ///
    /// # Errors
    /// When the world breaks a promise meanwhile.
    pub fn takeover_times(
        self,
        loss: Loss,
        trials: usize,
        seed: u64,
        start: Instant,
    ) -> Result<Times, Violation> {
        let mut rng = Rng::with_seed(seed);
        let mut world = self.world(rng.fork(), start)?;
        let away = self.interval * 20;
        let mut times = Vec::with_capacity(trials);
        while times.len() < trials {
            world.run_until(|world| world.only_master() == Some(0))?;
            let until = world.now + self.interval.mul_f64(1.0 + rng.f64());
            world.run_to(until)?;
            if world.only_master() != Some(0) {
                continue;
            }
            let lost_at = world.now;
            world.strike(match loss {
                Loss::Kill => Fault::Kill(0, away),
                Loss::Stop => Fault::Stop(0, away),
                Loss::LinkDown => Fault::LinkDown(0, away),
                Loss::Stall => Fault::Stall(0, away),
            })?;
            world.run_until(|world| world.routers[1..].iter().any(Router::is_master))?;
            times.push(world.now - lost_at);
            world.run_to(lost_at + away + self.interval)?;
        }
        times.sort();
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        Ok(Times { median: at(50), hundredth: at(99), worst: at(100) })
    }

    /// How often another router becomes master although the first one is well, per hour.
    ///
    /// # Errors
    /// When the world breaks a promise meanwhile.
    pub fn false_takeovers(
        self,
        time: Duration,
        seed: u64,
        start: Instant,
    ) -> Result<f64, Violation> {
        let mut world = self.world(Rng::with_seed(seed), start)?;
        world.run_until(|world| world.only_master() == Some(0))?;
        let transitions = |world: &Elections| -> u64 {
            world.routers[1..].iter().map(|router| router.transitions).sum()
        };
        let before = transitions(&world);
        let until = world.now + time;
        world.run_to(until)?;
        let takeovers = (transitions(&world) - before).div_ceil(2);
        Ok(takeovers as f64 * 3600.0 / time.as_secs_f64())
    }

    fn world(self, rng: Rng, start: Instant) -> Result<Elections, Violation> {
        let own =
            |priority| Own { priority, preempt: true, preempt_delay: Duration::ZERO, weight: 0 };
        let plan = Plan {
            common: Common {
                version: Version::V3,
                family: Family::Ipv4,
                interval: self.interval,
                authentication: Kind::None,
                password: 0,
                unicast: false,
                checksum: ChecksumDialect::PseudoHeader,
                misunderstood: WhenMisunderstood::TakeOver,
                startup_limit: Duration::ZERO,
                addresses: 1,
            },
            routers: [200, 150, 100, 75, 50][..self.routers].iter().copied().map(own).collect(),
            lan: Lan { loss: f64::from(self.loss_percent) / 100.0, ..Lan::calm() },
            rough: Duration::ZERO,
            fault_every: Duration::ZERO,
        };
        let mut world = Elections::of_plan(plan, rng, start, false);
        for number in 0..self.routers {
            world.start(number)?;
        }
        Ok(world)
    }
}

impl Elections {
    /// The master, when there is exactly one.
    fn only_master(&self) -> Option<usize> {
        let mut masters = self.routers.iter().filter(|router| router.is_master());
        let first = masters.next()?;
        masters.next().is_none().then_some(first.number)
    }

    fn run_until(&mut self, reached: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        while !reached(self) {
            self.step()?;
        }
        Ok(())
    }
}
