//! When to let news gather before it is taken.
//!
//! Waking up costs more than taking an event in, so under load every event taken by itself would
//! multiply what replication costs. Whoever is woken again and again in short order waits a little,
//! and finds many at once. A single event, or one after a pause, is taken and told at once.

use std::time::{Duration, Instant};

/// Wake-ups closer together than this follow each other.
const CLOSE: Duration = Duration::from_micros(1500);
/// Wake-ups that follow each other before it is worth waiting.
const ENOUGH: u32 = 8;
/// How long news gathers. Flows are told this much later at most.
pub(super) const GATHER: Duration = Duration::from_micros(800);

/// Counts wake-ups.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    last: Option<Instant>,
    close: u32,
}

impl Gathering {
    /// News has come and been taken at `now`.
    pub(super) fn woken(&mut self, now: Instant) {
        let close = self.last.is_some_and(|last| now.saturating_duration_since(last) < CLOSE);
        self.close = if close { self.close.saturating_add(1) } else { 0 };
        self.last = Some(now);
    }

    /// Whether the next is to gather before it is taken.
    pub(super) fn wanted(&self) -> bool {
        self.close >= ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn woken_every(interval: Duration, times: u32) -> Gathering {
        let begin = Instant::now();
        let mut gathering = Gathering::default();
        for number in 0..times {
            gathering.woken(begin + interval * number);
        }
        gathering
    }

    #[test]
    fn news_that_comes_thick_is_let_gather() {
        assert!(woken_every(Duration::from_micros(50), 100).wanted());
        // And goes on so while it does, although each wake-up is later for it.
        assert!(woken_every(GATHER + Duration::from_micros(400), 100).wanted());
    }

    #[test]
    fn news_after_a_pause_is_taken_at_once() {
        assert!(!woken_every(Duration::from_millis(3), 100).wanted());
        let mut gathering = woken_every(Duration::from_micros(50), 100);
        let last = gathering.last.unwrap();
        gathering.woken(last + Duration::from_millis(5));
        assert!(!gathering.wanted());
    }

    #[test]
    fn a_short_burst_is_not_held_up() {
        assert!(!woken_every(Duration::from_micros(10), ENOUGH).wanted());
    }
}
