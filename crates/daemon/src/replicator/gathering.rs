//! When to let news gather before it is taken.
//!
//! Waking up costs more than taking an event in, so under load every event taken by itself would
//! multiply what replication costs. Whoever is woken again and again in short order waits a little,
//! and finds many at once. A single event, or one after a pause, is taken and told at once.

use std::time::{Duration, Instant};

/// Wake-ups closer together than this, not counting what was waited on purpose, follow each other.
const CLOSE: Duration = Duration::from_micros(1500);
/// Wake-ups that follow each other before it is worth waiting.
const ENOUGH: u32 = 8;
/// How long news gathers at most and at least. Flows are told this much later, and so are steps and
/// commands begun that come meanwhile.
const GATHER: (Duration, Duration) = (Duration::from_millis(3), Duration::from_micros(200));
/// With more news than this at a wake-up it need not gather so long, with less it may longer: what
/// a wake-up costs has been spread over enough.
const PLENTY: usize = 128;
const FEW: usize = 48;

/// Counts wake-ups and what they bring.
#[derive(Debug)]
pub(super) struct Gathering {
    last: Option<Instant>,
    close: u32,
    pause: Duration,
    /// How much of the time since the last wake-up was a pause.
    waited: Duration,
    news: usize,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { last: None, close: 0, pause: GATHER.1, waited: Duration::ZERO, news: 0 }
    }
}

impl Gathering {
    /// News has come and been taken at `now`.
    pub(super) fn woken(&mut self, now: Instant) {
        let close = CLOSE + std::mem::take(&mut self.waited);
        let close = self.last.is_some_and(|last| now.saturating_duration_since(last) < close);
        self.close = if close { self.close.saturating_add(1) } else { 0 };
        self.last = Some(now);
    }

    /// So many pieces of news were taken.
    pub(super) fn took(&mut self, news: usize) {
        self.news += news;
    }

    /// How long the next news is to gather before it is taken, if at all.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        match std::mem::take(&mut self.news) {
            0 => {}
            news if news > PLENTY => self.pause = (self.pause / 2).max(GATHER.1),
            news if news < FEW => self.pause = (self.pause * 2).min(GATHER.0),
            _ => {}
        }
        let pause = (self.close >= ENOUGH).then_some(self.pause)?;
        self.waited += pause;
        Some(pause)
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
    fn news_that_comes_thick_is_let_gather_and_goes_on_so_although_each_wake_up_is_later_for_it() {
        let mut now = Instant::now();
        let mut gathering = woken_every(Duration::from_micros(50), 100);
        gathering.last = Some(now);
        for _ in 0..100 {
            gathering.took(1);
            now += gathering.pause().unwrap() + Duration::from_micros(400);
            gathering.woken(now);
        }
        assert_eq!(gathering.pause, GATHER.0);
    }

    #[test]
    fn the_more_comes_the_shorter_it_waits_and_the_other_way_round() {
        let mut gathering = woken_every(Duration::from_micros(50), 100);
        let mut pause = |news| {
            gathering.took(news);
            gathering.pause().unwrap()
        };
        assert_eq!(pause(PLENTY), GATHER.1);
        assert_eq!(pause(1), GATHER.1 * 2);
        assert_eq!(pause(FEW), GATHER.1 * 2);
        assert_eq!(pause(PLENTY + 1), GATHER.1);
        assert_eq!(pause(1_000), GATHER.1);
        for _ in 0..10 {
            assert!(pause(1) <= GATHER.0);
        }
        assert_eq!(pause(1), GATHER.0);
    }

    #[test]
    fn news_after_a_quiet_moment_is_taken_at_once() {
        assert_eq!(woken_every(Duration::from_millis(3), 100).pause(), None);
        let mut gathering = woken_every(Duration::from_micros(50), 100);
        let last = gathering.last.unwrap();
        let pause = gathering.pause().unwrap();
        gathering.woken(last + pause + CLOSE);
        assert_eq!(gathering.pause(), None);
    }

    #[test]
    fn a_short_burst_is_not_held_up() {
        assert_eq!(woken_every(Duration::from_micros(10), ENOUGH).pause(), None);
    }
}
