//! Whether what a virtual router has to say leaves this machine.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

/// Why an advertisement did not leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Trouble {
    /// For people.
    pub(super) words: String,
    /// For the counter.
    errno: Errno,
}

impl Trouble {
    pub(super) fn new(words: impl Into<String>, errno: Errno) -> Self {
        Self { words: words.into(), errno }
    }

    pub(super) fn of(error: &io::Error) -> Self {
        let errno = match error.raw_os_error() {
            Some(number) => Errno::from_raw(number),
            None if error.kind() == io::ErrorKind::WouldBlock => Errno::EAGAIN,
            None => Errno::EINVAL,
        };
        Self { words: errno.desc().to_lowercase(), errno }
    }
}

/// How sending goes for one virtual router.
#[derive(Clone, Debug, Default)]
pub(super) struct Sending {
    /// Since when every advertisement has failed, and why the last one did.
    failing: Option<(Instant, Trouble)>,
    /// Whether the group was told of the present failing.
    told: bool,
    /// Whether the last one has not left, be it in another mastership.
    doubtful: bool,
    /// By the kernel's number of the error.
    counts: BTreeMap<i32, u64>,
}

impl Sending {
    /// One has left. Returns whether none had before.
    pub(super) fn left(&mut self) -> bool {
        self.told = false;
        self.doubtful = false;
        self.failing.take().is_some()
    }

    /// One has not left. Returns whether the one before had, so that it is news.
    pub(super) fn failed(&mut self, trouble: Trouble, now: Instant) -> bool {
        *self.counts.entry(trouble.errno as i32).or_default() += 1;
        self.doubtful = true;
        let since = self.failing.as_ref().map(|(since, _)| *since);
        self.failing = Some((since.unwrap_or(now), trouble));
        since.is_none()
    }

    /// Nothing is held against what is sent from now on: it is another mastership.
    pub(super) fn begin_anew(&mut self) {
        self.failing = None;
        self.told = false;
    }

    /// Whether the last one has not left, be it in another mastership: the next may not either.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    /// Why the last advertisement did not leave; `None` when it did.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.failing.as_ref().map(|(_, trouble)| trouble.words.as_str())
    }

    /// Once when none has left for `limit`: why.
    pub(super) fn is_lost(&mut self, limit: Duration, now: Instant) -> Option<String> {
        let (since, trouble) = self.failing.as_ref()?;
        let silent = now.saturating_duration_since(*since);
        if self.told || silent < limit {
            return None;
        }
        self.told = true;
        Some(trouble.words.clone())
    }

    /// Counters for `status`: all, and by the kernel's name of the error.
    pub(super) fn counters(&self) -> impl Iterator<Item = (String, u64)> {
        let by_error = self.counts.iter().map(|(number, count)| {
            let name = format!("send-errors-{:?}", Errno::from_raw(*number));
            (name.to_lowercase(), *count)
        });
        std::iter::once(("send-errors".to_owned(), self.counts.values().sum())).chain(by_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(number: Errno) -> Trouble {
        Trouble::of(&io::Error::from_raw_os_error(number as i32))
    }

    #[test]
    fn a_master_is_lost_when_nothing_has_left_for_its_limit_and_that_is_said_once() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let limit = Duration::from_secs(3);
        let mut sending = Sending::default();
        assert!(sending.failed(refused(Errno::EPERM), at(0)));
        assert_eq!(sending.is_lost(limit, at(0)), None);
        assert!(!sending.failed(refused(Errno::ENOBUFS), at(2_999)));
        assert_eq!(sending.is_lost(limit, at(2_999)), None);
        assert!(!sending.failed(refused(Errno::EPERM), at(3_000)));
        let why = Some("operation not permitted".to_owned());
        assert_eq!(sending.is_lost(limit, at(3_000)), why);
        assert_eq!(sending.is_lost(limit, at(9_000)), None);
        sending.begin_anew();
        assert_eq!(sending.trouble(), None);
    }

    #[test]
    fn one_that_leaves_in_between_ends_the_failing() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let limit = Duration::from_secs(3);
        let mut sending = Sending::default();
        sending.failed(refused(Errno::ENOBUFS), at(0));
        assert!(sending.left() && !sending.left());
        sending.failed(refused(Errno::ENOBUFS), at(2_000));
        assert_eq!(sending.is_lost(limit, at(4_000)), None);
        assert!(sending.is_lost(limit, at(5_000)).is_some());
    }

    #[test]
    fn failures_are_counted_by_their_names() {
        let mut sending = Sending::default();
        let now = Instant::now();
        for errno in [Errno::EPERM, Errno::ENOBUFS, Errno::EPERM] {
            sending.failed(refused(errno), now);
        }
        sending.left();
        let counters: Vec<_> = sending.counters().collect();
        let named = |name: &str, count| (name.to_owned(), count);
        assert_eq!(counters[0], named("send-errors", 3));
        assert!(counters.contains(&named("send-errors-eperm", 2)));
        assert!(counters.contains(&named("send-errors-enobufs", 1)));
    }
}
