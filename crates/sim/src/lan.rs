//! The network between the routers: loss, delay, duplication, partitions.

use std::time::Duration;

use fastrand::Rng;

/// What the LAN does to packets now. Two routers; each direction is cut by itself.
#[derive(Clone, Debug)]
pub(crate) struct Lan {
    /// Chance that a packet is lost, 0 to 1.
    pub(crate) loss: f64,
    /// Chance that a packet arrives twice.
    pub(crate) duplication: f64,
    /// Longest way; the shortest is a tenth of it, so that packets overtake each other.
    pub(crate) delay: Duration,
    /// `cut[from]`: nothing from this router arrives at the other.
    pub(crate) cut: [bool; 2],
}

impl Lan {
    /// A LAN that does nothing to packets but carry them.
    pub(crate) fn calm() -> Self {
        Self { loss: 0.0, duplication: 0.0, delay: Duration::from_micros(200), cut: [false; 2] }
    }

    /// After which delays a packet from `from` arrives at the other router: never, once or twice.
    pub(crate) fn carry(&self, from: usize, rng: &mut Rng) -> Vec<Duration> {
        if self.cut[from] || rng.f64() < self.loss {
            return Vec::new();
        }
        let copies = if rng.f64() < self.duplication { 2 } else { 1 };
        (0..copies).map(|_| self.delay.mul_f64(0.1 + 0.9 * rng.f64())).collect()
    }

    /// Whether everything sent from `from` arrives.
    pub(crate) fn is_reliable(&self, from: usize) -> bool {
        !self.cut[from] && self.loss == 0.0
    }
}
