//! The network between the routers: loss, delay, duplication, partitions.

use std::time::Duration;

use fastrand::Rng;

/// Most routers on one LAN.
pub(crate) const MAX_ROUTERS: usize = 5;

/// What the LAN does to packets now. Each direction between two routers is cut by itself.
#[derive(Clone, Debug)]
pub(crate) struct Lan {
    /// Chance that a packet is lost, 0 to 1.
    pub(crate) loss: f64,
    /// Chance that a packet arrives twice.
    pub(crate) duplication: f64,
    /// Longest way; the shortest is a tenth of it, so that packets overtake each other.
    pub(crate) delay: Duration,
    /// `cut[from][to]`: nothing from this router arrives at that one.
    pub(crate) cut: Cut,
}

/// Which directions do not work: `[from][to]`.
pub(crate) type Cut = [[bool; MAX_ROUTERS]; MAX_ROUTERS];

impl Lan {
    /// A LAN that does nothing to packets but carry them.
    pub(crate) fn calm() -> Self {
        Self { loss: 0.0, duplication: 0.0, delay: Duration::from_micros(200), cut: Cut::default() }
    }

    /// After which delays a packet of one router arrives at another: never, once or twice.
    pub(crate) fn carry(
        &self,
        from: usize,
        to: usize,
        rng: &mut Rng,
    ) -> impl Iterator<Item = Duration> + use<> {
        let copies = if self.cut[from][to] || rng.f64() < self.loss {
            0
        } else if rng.f64() < self.duplication {
            2
        } else {
            1
        };
        let mut way = || self.delay.mul_f64(0.1 + 0.9 * rng.f64());
        let ways = [(copies > 0).then(&mut way), (copies > 1).then(&mut way)];
        ways.into_iter().flatten()
    }

    /// Whether everything sent from `from` arrives at `to`.
    pub(crate) fn is_reliable(&self, from: usize, to: usize) -> bool {
        !self.cut[from][to] && self.loss == 0.0
    }

    /// Cuts these directions.
    pub(crate) fn part(&mut self, directions: &Cut) {
        self.each(directions, |cut| *cut = true);
    }

    /// Joins these directions again.
    pub(crate) fn join(&mut self, directions: &Cut) {
        self.each(directions, |cut| *cut = false);
    }

    fn each(&mut self, directions: &Cut, change: impl Fn(&mut bool)) {
        let cuts = self.cut.iter_mut().flatten();
        let meant = cuts.zip(directions.iter().flatten()).filter(|(_, meant)| **meant);
        meant.for_each(|(cut, _)| change(cut));
    }
}
