//! How often a worker that dies is started again, and how soon.

use std::time::Duration;

/// A worker that lived for so long did not die of its start.
pub(super) const LONG_LIFE: Duration = Duration::from_secs(5);
/// Deaths in a row after which a new worker begins at once.
const AT_ONCE: u32 = 2;
/// Deaths in a row after which no new worker begins.
const LAST: u32 = 6;
/// The wait after the first death that is too many; it doubles with each.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What to do about a worker that has died.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Start a new one, which may find everything still in time.
    AtOnce,
    /// Take away what is left, because nobody serves with it, and start a new one after this time.
    After(Duration),
    /// Take away what is left, and end.
    Never,
}

/// Counts the deaths in a row.
#[derive(Debug, Default)]
pub(super) struct Patience {
    deaths: u32,
}

impl Patience {
    /// A worker has died that has lived for this time.
    pub(super) fn died(&mut self, lived: Duration) -> Next {
        self.deaths = if lived >= LONG_LIFE { 1 } else { self.deaths + 1 };
        match self.deaths {
            0..=AT_ONCE => Next::AtOnce,
            LAST.. => Next::Never,
            many => Next::After(FIRST_WAIT * 2_u32.pow(many - AT_ONCE - 1)),
        }
    }

    /// For people.
    pub(super) fn deaths(&self) -> u32 {
        self.deaths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_dies_now_and_then_is_always_started_again_at_once() {
        let mut patience = Patience::default();
        for _ in 0..1_000 {
            assert_eq!(patience.died(LONG_LIFE), Next::AtOnce);
        }
    }

    #[test]
    fn one_that_dies_of_its_start_waits_longer_each_time_and_ends_at_last() {
        let mut patience = Patience::default();
        let nexts: Vec<Next> = (0..6).map(|_| patience.died(Duration::from_millis(50))).collect();
        let after = |seconds| Next::After(Duration::from_secs(seconds));
        assert_eq!(nexts, [Next::AtOnce, Next::AtOnce, after(1), after(2), after(4), Next::Never]);
        assert_eq!(patience.died(Duration::ZERO), Next::Never);
    }

    #[test]
    fn a_long_life_ends_the_counting() {
        let mut patience = Patience::default();
        for _ in 0..5 {
            patience.died(Duration::ZERO);
        }
        assert_eq!(patience.died(LONG_LIFE), Next::AtOnce);
        assert_eq!(patience.died(Duration::ZERO), Next::AtOnce);
        assert_eq!(patience.died(Duration::ZERO), Next::After(FIRST_WAIT));
    }
}
