//! When a number was sent, to a tenth of a second: for how long the peer has owed an
//! acknowledgement, without a clock for every message.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time between two milestones.
const APART: Duration = Duration::from_millis(100);

/// Most milestones; beyond it every other one is given up.
const MOST: usize = 128;

#[derive(Default)]
pub(super) struct Milestones {
    /// The first number after, and the time.
    passed: VecDeque<(u64, Instant)>,
}

impl Milestones {
    /// Numbers before `next` have been sent by `now`; those before `oldest` are acknowledged.
    pub(super) fn pass(&mut self, next: u64, oldest: Option<u64>, now: Instant) {
        let oldest = oldest.unwrap_or(next);
        while self.passed.front().is_some_and(|(number, _)| *number <= oldest) {
            self.passed.pop_front();
        }
        if let Some((number, at)) = self.passed.back_mut()
            && now.saturating_duration_since(*at) < APART
        {
            *number = next;
            return;
        }
        if self.passed.len() >= MOST {
            let mut place = 0_usize;
            self.passed.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.passed.push_back((next, now));
    }

    /// When the number was sent, as far as is known; not earlier than it was.
    pub(super) fn sent_at(&self, number: u64) -> Option<Instant> {
        self.passed.iter().find(|(after, _)| *after > number).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_number_is_known_to_a_tenth_of_a_second() {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let begin = Instant::now();
        let at = |tenths: u32| begin + tenths * APART;
        let mut milestones = Milestones::default();
        for tenth in 0..10 {
            milestones.pass(u64::from(tenth) * 10 + 10, Some(0), at(tenth));
        }
        assert_eq!(milestones.sent_at(35), Some(at(3)));
        milestones.pass(110, Some(50), at(10));
        assert_eq!(milestones.sent_at(35), Some(at(5)), "what is acknowledged is forgotten");
        assert_eq!(milestones.sent_at(109), Some(at(10)));
        for tenth in 11..10_000 {
            milestones.pass(u64::from(tenth) * 10 + 10, Some(50), at(tenth));
        }
        assert!(milestones.passed.len() <= MOST);
        assert_eq!(milestones.sent_at(50), Some(at(5)), "the oldest is kept");
    }
}
