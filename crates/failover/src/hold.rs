//! How long a group stays in fault that could not serve although everything tracked was good.
//!
//! Only by trying can it find out whether it serves again, and each try costs a healthy peer its
//! mastership for a moment. So it waits twice as long after each try that failed, until one was a
//! mastership that lasted.

use std::time::{Duration, Instant};

/// The wait after the first failure.
const FIRST: Duration = Duration::from_secs(5);
/// The longest wait, and so the longest that a cause can be gone without anybody noticing.
const LONGEST: Duration = Duration::from_mins(1);

/// What failed, and when the group tries again.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// What failed, in a sentence.
    pub(crate) reason: String,
    pub(crate) until: Instant,
    length: Duration,
}

/// The holds of one group, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds {
    /// The length of the last; `None` when nothing counts against the group.
    last: Option<Duration>,
    /// Since when all that belongs to the present mastership is done.
    serving_since: Option<Instant>,
}

impl Hold {
    /// What failed and what comes of it, in a sentence.
    pub(crate) fn sentence(&self) -> String {
        format!("{}; tries again after {} s", self.reason, self.length.as_secs())
    }
}

impl Hold {
    /// What failed and how long it is still held against the group, in a sentence.
    pub(crate) fn rest(&self, now: Instant) -> String {
        let rest = self.until.saturating_duration_since(now).as_secs_f64();
        format!("{}; tries again in {rest:.1} s", self.reason)
    }
}

impl Holds {
    /// The group is master, with everything that belongs to it.
    pub(crate) fn serves(&mut self, now: Instant) {
        self.serving_since.get_or_insert(now);
    }

    /// Something was missing in the present mastership from its beginning, as it turns out: however
    /// long it was, it makes up for nothing.
    pub(crate) fn in_vain(&mut self) {
        self.serving_since = None;
    }

    /// Mastership ends. One that lasted as long as the last hold makes up for the failures before.
    pub(crate) fn serves_no_more(&mut self, now: Instant) {
        let Some(since) = self.serving_since.take() else { return };
        if self.last.is_some_and(|last| now.saturating_duration_since(since) >= last) {
            self.last = None;
        }
    }

    /// The hold for a failure that ends mastership.
    pub(crate) fn begin(&mut self, reason: String, now: Instant) -> Hold {
        self.serves_no_more(now);
        let length = self.last.map_or(FIRST, |last| (2 * last).min(LONGEST));
        self.last = Some(length);
        Hold { reason, until: now + length, length }
    }
}
