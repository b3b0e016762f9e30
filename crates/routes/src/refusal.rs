//! Objects the kernel has refused, and when to try them again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Object;

/// Wait after the first refusal; doubled by each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Longest wait when something has changed meanwhile that may have been the reason.
const CHANGED_WAIT: Duration = Duration::from_secs(1);

/// One object's refusals in a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The kernel's words.
    pub words: String,
    /// How often in a row.
    pub attempts: u32,
    /// When the last one was.
    pub at: Instant,
    /// When to try again.
    pub next_try: Instant,
}

/// Every object whose last change was refused. Holds at most one entry for each object that a
/// plan has named.
#[derive(Clone, Debug, Default)]
pub struct Refusals(BTreeMap<Object, Refusal>);

impl Refusals {
    /// Notes a refusal and puts the next try off.
    pub fn refused(&mut self, object: Object, words: String, now: Instant) {
        let attempts = self.0.get(&object).map_or(1, |earlier| earlier.attempts.saturating_add(1));
        let wait = FIRST_WAIT.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST_WAIT);
        self.0.insert(object, Refusal { words, attempts, at: now, next_try: now + wait });
    }

    /// A link, an address or a rule has changed, and what was refused may be taken now: nothing
    /// waits longer than a second from its last refusal.
    pub fn hurry(&mut self) {
        for refusal in self.0.values_mut() {
            refusal.next_try = refusal.next_try.min(refusal.at + CHANGED_WAIT);
        }
    }

    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the object's refusals.
    pub fn accepted(&mut self, object: &Object) {
        self.0.remove(object);
    }

    /// Forgets objects that are no longer asked for.
    pub fn retain(&mut self, wanted: impl Fn(&Object) -> bool) {
        self.0.retain(|object, _| wanted(object));
    }

    /// The object's refusal, if its last change was refused.
    pub fn of(&self, object: &Object) -> Option<&Refusal> {
        self.0.get(object)
    }

    /// Whether it may be tried now.
    pub fn is_due(&self, object: &Object, now: Instant) -> bool {
        self.0.get(object).is_none_or(|refusal| refusal.next_try <= now)
    }

    /// When the next object may be tried again.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.next_try).min()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "a test has a clock")]

    use super::*;

    #[test]
    fn what_was_refused_often_waits_no_longer_than_a_second_when_something_has_changed() {
        let start = Instant::now();
        let object = || Object::Link("eth0".to_owned());
        let mut refusals = Refusals::default();
        for _ in 0..12 {
            refusals.refused(object(), "no".to_owned(), start);
        }
        assert_eq!(refusals.next_deadline(), Some(start + LONGEST_WAIT));
        refusals.hurry();
        assert_eq!(refusals.next_deadline(), Some(start + CHANGED_WAIT));
        assert!(!refusals.is_due(&object(), start));
        // One that waits a shorter time is not put off.
        let mut refusals = Refusals::default();
        refusals.refused(object(), "no".to_owned(), start);
        refusals.hurry();
        assert_eq!(refusals.next_deadline(), Some(start + FIRST_WAIT));
    }
}
