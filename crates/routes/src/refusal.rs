//! Objects the kernel has refused, and when to try them again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Object;

/// Wait after the first refusal; doubled by each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// One object's refusals in a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The kernel's words.
    pub words: String,
    /// How often in a row.
    pub attempts: u32,
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
        self.0.insert(object, Refusal { words, attempts, next_try: now + wait });
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
