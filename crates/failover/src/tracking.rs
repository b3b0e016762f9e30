//! From raw results of a check to its verdict, with hysteresis.
//!
//! A single failed run of a busy script is not an outage, and a single good one is not a recovery:
//! `fall` failures in a row make a check bad, `rise` successes in a row make it good again. Only the
//! first run decides at once, because a router that waits `rise` intervals before it may serve would
//! prolong every start.

/// What the runs so far say about a check.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Verdict {
    /// It has not run yet.
    #[default]
    Unknown,
    /// This router can serve, as far as this check tells.
    Good,
    /// It cannot.
    Bad,
}

impl Verdict {
    /// The word in status output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

/// What was seen of a tracked thing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Seen {
    /// It is as it should be.
    Good,
    /// It is not.
    Bad,
    /// It says a number: 0 is good, anything else is bad.
    Number(i64),
}

impl Seen {
    /// Whether this router can serve, as far as this thing tells.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Good | Self::Number(0) => Verdict::Good,
            Self::Bad | Self::Number(_) => Verdict::Bad,
        }
    }
}

/// The verdict of one check, fed with the result of each of its runs.
///
/// ```text
///             success                fall failures in a row
/// Unknown ──────────────▶ Good ─────────────────────────────▶ Bad
///    │                      ▲                                  │ ▲
///    │ failure              └──── rise successes in a row ─────┘ │
///    └───────────────────────────────────────────────────────────┘
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tracker {
    rise: u32,
    fall: u32,
    verdict: Verdict,
    /// Runs in a row that speak against the verdict.
    contrary: u32,
}

impl Tracker {
    /// A check that has not run. `rise` and `fall` count runs; 0 is taken as 1.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), verdict: Verdict::Unknown, contrary: 0 }
    }

    /// Takes the result of one run; returns the verdict when this run has changed it.
    pub fn record(&mut self, success: bool) -> Option<Verdict> {
        let (next, needed) = match (self.verdict, success) {
            (Verdict::Unknown, true) => (Verdict::Good, 1),
            (Verdict::Unknown, false) => (Verdict::Bad, 1),
            (Verdict::Good, false) => (Verdict::Bad, self.fall),
            (Verdict::Bad, true) => (Verdict::Good, self.rise),
            (Verdict::Good, true) | (Verdict::Bad, false) => {
                self.contrary = 0;
                return None;
            }
        };
        self.contrary += 1;
        if self.contrary < needed {
            return None;
        }
        self.contrary = 0;
        self.verdict = next;
        Some(next)
    }

    /// The verdict of the runs so far.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// How many runs in a row speak against the verdict, and how many would change it.
    pub fn contrary(&self) -> (u32, u32) {
        match self.verdict {
            Verdict::Unknown => (0, 1),
            Verdict::Good => (self.contrary, self.fall),
            Verdict::Bad => (self.contrary, self.rise),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_has_not_run_is_unknown() {
        assert_eq!(Tracker::new(2, 3).verdict(), Verdict::Unknown);
    }

    #[test]
    fn the_first_run_decides_at_once_whatever_rise_and_fall_say() {
        assert_eq!(Tracker::new(5, 5).record(true), Some(Verdict::Good));
        assert_eq!(Tracker::new(5, 5).record(false), Some(Verdict::Bad));
    }

    #[test]
    fn fall_failures_in_a_row_make_a_check_bad() {
        let mut check = Tracker::new(1, 3);
        check.record(true);
        assert_eq!(check.record(false), None);
        assert_eq!(check.record(false), None);
        assert_eq!(check.contrary(), (2, 3));
        assert_eq!(check.record(false), Some(Verdict::Bad));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let mut check = Tracker::new(1, 2);
        check.record(true);
        assert_eq!(check.record(false), None);
        assert_eq!(check.record(true), None);
        assert_eq!(check.record(false), None);
        assert_eq!(check.verdict(), Verdict::Good);
    }

    #[test]
    fn rise_successes_in_a_row_end_a_failure() {
        let mut check = Tracker::new(2, 1);
        check.record(false);
        assert_eq!(check.record(true), None);
        assert_eq!(check.record(true), Some(Verdict::Good));
    }

    #[test]
    fn zero_rise_and_fall_mean_one_run() {
        let mut check = Tracker::new(0, 0);
        check.record(true);
        assert_eq!(check.record(false), Some(Verdict::Bad));
        assert_eq!(check.record(true), Some(Verdict::Good));
    }

    mod properties {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn the_verdict_follows_from_the_longest_row_at_the_end(
                rise in 1_u32..5, fall in 1_u32..5, runs in prop::collection::vec(any::<bool>(), 1..60)
            ) {
                let mut check = Tracker::new(rise, fall);
                let mut changes = 0_usize;
                for (index, success) in runs.iter().enumerate() {
                    let before = check.verdict();
                    let changed = check.record(*success);
                    prop_assert_eq!(changed.is_some(), before != check.verdict());
                    changes += usize::from(changed.is_some());
                    let row = runs[..=index].iter().rev().take_while(|r| *r == success).count() as u32;
                    let enough = if *success { rise } else { fall };
                    let says = if *success { Verdict::Good } else { Verdict::Bad };
                    if row >= enough {
                        prop_assert_eq!(check.verdict(), says);
                    } else if index > 0 {
                        prop_assert_eq!(check.verdict(), before);
                    }
                }
                prop_assert!(changes >= 1, "the first run decides");
            }
        }
    }
}
