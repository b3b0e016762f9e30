//! One queue for the timers of all virtual routers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::time::Instant;

/// Entries that the queue may have for each timer, on average, before those that are void are
/// thrown out.
const MOST_PER_TIMER: usize = 2;

/// When each virtual router, named by its place, wants to be served next.
///
/// A backup puts its timer off at every advertisement and hardly ever lets it fire. So a timer that
/// is put off keeps its place in the queue, and only when that place is reached it is queued again:
/// once in several advertisements.
#[derive(Debug)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    timers: Vec<Timer>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Timer {
    set: Option<Instant>,
    /// Its earliest entry in the queue, no later than `set`. Any other entry is void.
    queued: Option<Instant>,
}

impl Timers {
    /// `count` timers, none of them running.
    pub(super) fn new(count: usize) -> Self {
        Self { queue: BinaryHeap::new(), timers: vec![Timer::default(); count] }
    }

    /// Sets or stops a timer, whatever it was set to before.
    pub(super) fn set(&mut self, place: usize, deadline: Option<Instant>) {
        let Some(timer) = self.timers.get_mut(place) else { return };
        timer.set = deadline;
        let Some(deadline) = deadline else { return };
        if timer.queued.is_none_or(|queued| deadline < queued) {
            timer.queued = Some(deadline);
            self.queue.push(Reverse((deadline, place)));
            if self.queue.len() > MOST_PER_TIMER * self.timers.len() {
                self.tidy();
            }
        }
    }

    /// When to look again: the earliest deadline, or before it. It may be past.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// The earliest deadline, if it is reached.
    pub(super) fn due_since(&mut self, now: Instant) -> Option<Instant> {
        while let Some(mut first) = self.queue.peek_mut() {
            let Reverse((at, place)) = *first;
            if at > now {
                return None;
            }
            let timer = &mut self.timers[place];
            if timer.queued != Some(at) {
                PeekMut::pop(first);
                continue;
            }
            timer.queued = timer.set;
            match timer.set {
                Some(deadline) if deadline == at => return Some(at),
                Some(deadline) => *first = Reverse((deadline, place)),
                None => drop(PeekMut::pop(first)),
            }
        }
        None
    }

    /// Takes the places whose timers are due out of the queue, the earliest first. Each is to be
    /// set again, or put back.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<usize> {
        let mut due = Vec::new();
        while self.due_since(now).is_some() {
            if let Some(Reverse((_, place))) = self.queue.pop() {
                self.timers[place].queued = None;
                due.push(place);
            }
        }
        due
    }

    /// Puts back what was taken out and not served.
    pub(super) fn put_back(&mut self, places: &[usize]) {
        for place in places {
            let deadline = self.timers.get(*place).and_then(|timer| timer.set);
            self.set(*place, deadline);
        }
    }

    /// Throws out what is void.
    fn tidy(&mut self) {
        let timers = &self.timers;
        self.queue.retain(|Reverse((at, place))| timers[*place].queued == Some(*at));
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
        assert!(timers.take_due(now).is_empty());
        let later = now + Duration::from_millis(20);
        assert_eq!(timers.due_since(later), at(10));
        assert_eq!(timers.take_due(later), [1, 3, 2]);
        assert_eq!(timers.due_since(later), None);
        timers.put_back(&[2, 3, 1]);
        assert_eq!(timers.take_due(later), [1, 3, 2]);
        assert_eq!(timers.next(), at(30));
    }

    #[test]
    fn what_was_taken_out_runs_again_once_it_is_set() {
        let now = Instant::now();
        let mut timers = Timers::new(1);
        timers.set(0, Some(now));
        assert_eq!(timers.take_due(now), [0]);
        timers.set(0, Some(now));
        assert_eq!(timers.take_due(now), [0], "set to the same as before");
    }

    #[test]
    fn a_timer_that_is_put_off_fires_at_its_last_deadline_alone() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut timers = Timers::new(2);
        timers.set(1, Some(at(950)));
        for ms in 1..=1_000 {
            timers.set(0, Some(at(ms)));
        }
        assert_eq!(timers.queue.len(), 2);
        assert_eq!(timers.due_since(at(900)), None);
        assert_eq!(timers.next(), Some(at(950)));
        assert_eq!(timers.take_due(at(999)), [1]);
        assert_eq!(timers.take_due(at(1_000)), [0]);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn a_timer_that_is_brought_forward_fires_once_and_leaves_nothing_behind() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut timers = Timers::new(4);
        for ms in (1..=1_000).rev() {
            timers.set(0, Some(at(ms)));
            assert!(timers.queue.len() <= MOST_PER_TIMER * 4);
        }
        assert_eq!(timers.next(), Some(at(1)));
        assert_eq!(timers.take_due(at(2_000)), [0]);
        assert!(timers.queue.is_empty());
    }

    #[test]
    fn a_timer_that_is_stopped_does_not_fire() {
        let now = Instant::now();
        let mut timers = Timers::new(1);
        timers.set(0, Some(now));
        timers.set(0, None);
        timers.set(7, Some(now));
        assert_eq!(timers.due_since(now), None);
        assert_eq!(timers.next(), None);
    }
}
