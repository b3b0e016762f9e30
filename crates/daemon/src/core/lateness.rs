//! How late the core serves its timers.

use std::time::{Duration, Instant};

/// Seconds that [`Lateness::last_minute`] looks back, to within one.
const WINDOW: usize = 60;

/// The worst lateness since the start and in the last minute.
#[derive(Debug)]
pub(super) struct Lateness {
    began: Instant,
    worst: Duration,
    /// For each of the last seconds, by its number modulo the window: which it is, and the worst.
    seconds: [(u64, Duration); WINDOW],
}

impl Lateness {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, worst: Duration::ZERO, seconds: [(0, Duration::ZERO); WINDOW] }
    }

    /// A timer was served that late.
    pub(super) fn record(&mut self, late: Duration, now: Instant) {
        self.worst = self.worst.max(late);
        let second = self.second(now);
        let slot = &mut self.seconds[second as usize % WINDOW];
        if slot.0 != second {
            *slot = (second, Duration::ZERO);
        }
        slot.1 = slot.1.max(late);
    }

    /// The worst since the start.
    pub(super) fn worst(&self) -> Duration {
        self.worst
    }

    /// The worst of the last minute.
    pub(super) fn last_minute(&self, now: Instant) -> Duration {
        let second = self.second(now);
        let recent = |slot: &&(u64, Duration)| second - slot.0.min(second) < WINDOW as u64;
        self.seconds.iter().filter(recent).map(|slot| slot.1).max().unwrap_or_default()
    }

    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_kept_and_the_last_minute_forgets() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let ms = Duration::from_millis;
        let mut lateness = Lateness::new(began);
        assert_eq!((lateness.worst(), lateness.last_minute(at(500))), (ms(0), ms(0)));
        lateness.record(ms(300), at(500));
        lateness.record(ms(2), at(500));
        lateness.record(ms(7), at(530));
        assert_eq!((lateness.worst(), lateness.last_minute(at(530))), (ms(300), ms(300)));
        assert_eq!(lateness.last_minute(at(559)), ms(300));
        assert_eq!(lateness.last_minute(at(560)), ms(7));
        assert_eq!(lateness.last_minute(at(590)), ms(0));
        assert_eq!(lateness.worst(), ms(300));
    }

    #[test]
    fn a_second_that_comes_round_again_begins_anew() {
        let began = Instant::now();
        let ms = Duration::from_millis;
        let mut lateness = Lateness::new(began);
        lateness.record(ms(50), began);
        lateness.record(ms(1), began + Duration::from_mins(1));
        assert_eq!(lateness.last_minute(began + Duration::from_mins(1)), ms(1));
    }
}
