//! Waiting for a condition with a deadline: what the tests do instead of sleeping.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up on it. Generous, since the machine is shared and
/// nothing here is about speed.
pub const PATIENCE: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `condition` holds.
///
/// # Panics
/// When it still does not after [`PATIENCE`]; `what` says what was waited for.
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    some(what, || condition().then_some(()));
}

/// Waits until `condition` holds, and goes on after [`PATIENCE`] in any case: for who can say better than a sentence what
/// is still wrong then.
pub fn until_or(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        if Instant::now() >= deadline {
            eprintln!("waited {PATIENCE:?} in vain: {what}");
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `look` finds nothing that is still wrong, and goes on when that has been the same for [`PATIENCE`]: for who
/// can say better than a sentence what it is.
pub fn until_or_stuck<T: PartialEq>(what: &str, mut look: impl FnMut() -> Option<T>) {
    let mut wrong = None;
    let mut deadline = Instant::now() + PATIENCE;
    while let Some(now) = look().map(Some) {
        if wrong != now {
            wrong = now;
            deadline = Instant::now() + PATIENCE;
        }
        if Instant::now() >= deadline {
            eprintln!("waited {PATIENCE:?} in vain: {what}");
            return;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it still does not after [`PATIENCE`].
#[track_caller]
pub fn some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(LOOK_EVERY);
    }
}

/// Looks at `condition` again and again for `time`, and fails at the first look at which it does not
/// hold: for what must *not* happen.
///
/// # Panics
/// When `condition` is false once.
#[track_caller]
pub fn throughout(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        assert!(condition(), "does not hold any more: {what}");
        thread::sleep(LOOK_EVERY);
    }
}
