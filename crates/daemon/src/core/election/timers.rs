//! One queue for the timers of all virtual routers.

use std::collections::BTreeSet;
use std::time::Instant;

/// When each virtual router, named by its place, wants to be served next. Setting a timer costs the
/// same however many there are, and looking for the next one looks at no other.
#[derive(Debug)]
pub(super) struct Timers {
    queue: BTreeSet<(Instant, usize)>,
    set: Vec<Option<Instant>>,
}

impl Timers {
    /// `count` timers, none of them running.
    pub(super) fn new(count: usize) -> Self {
        Self { queue: BTreeSet::new(), set: vec![None; count] }
    }

    /// Sets or stops a timer, whatever it was set to before.
    pub(super) fn set(&mut self, place: usize, deadline: Option<Instant>) {
        let Some(before) = self.set.get_mut(place) else { return };
        if *before == deadline {
            return;
        }
        if let Some(before) = std::mem::replace(before, deadline) {
            self.queue.remove(&(before, place));
        }
        if let Some(deadline) = deadline {
            self.queue.insert((deadline, place));
        }
    }

    /// The earliest deadline; it may be past.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// The places whose timers are due, the earliest first. They stay set.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        self.queue.iter().take_while(|(at, _)| *at <= now).map(|(_, place)| *place).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_due_comes_out_in_order_and_the_rest_stays() {
        let now = Instant::now();
        let at = |ms| Some(now + Duration::from_millis(ms));
        let mut timers = Timers::new(4);
        assert_eq!(timers.next(), None);
        for (place, ms) in [(0, 30), (1, 10), (2, 20), (3, 10)] {
            timers.set(place, at(ms));
        }
        assert_eq!(timers.next(), at(10));
        assert!(timers.due(now).is_empty());
        assert_eq!(timers.due(now + Duration::from_millis(20)), [1, 3, 2]);
        assert_eq!(timers.due(now + Duration::from_millis(20)), [1, 3, 2], "until they are set");
    }

    #[test]
    fn a_timer_that_is_set_again_has_no_second_deadline() {
        let now = Instant::now();
        let mut timers = Timers::new(1);
        for ms in 1..=1_000 {
            timers.set(0, Some(now + Duration::from_millis(ms)));
        }
        assert_eq!(timers.queue.len(), 1);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
        timers.set(0, None);
        timers.set(7, Some(now));
        assert_eq!(timers.next(), None);
    }
}
