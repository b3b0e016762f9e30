//! When the thread looks at what the kernel has.

use std::time::{Duration, Instant};

/// Announcements within this time are looked after together.
pub(super) const COALESCE: Duration = Duration::from_millis(3);
/// Longest time between two looks at links, addresses and rules; and at routes, if that is cheap.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);
/// Where nothing is announced, a look at everything follows after this many times what the last one
/// took: a quarter of a percent of a processor.
pub(super) const IDLE: u32 = 400;
/// Longest time between two looks at everything.
pub(super) const LONGEST_INTERVAL: Duration = Duration::from_mins(10);
/// A dump that takes longer is not made for those who are content with what is known.
pub(super) const DEAR: Duration = Duration::from_millis(50);
/// Wait after a look that failed.
pub(super) const FAILED_LOOK: Duration = Duration::from_secs(1);
/// A look that took long is followed by this many times its duration without another, so that
/// somebody else's restless table does not take the whole processor.
pub(super) const REST: u32 = 4;
/// The same after a change of a link or an address, by which the kernel may have dropped routes.
pub(super) const SHORT_REST: u32 = 1;

/// When to look. Links and addresses have a rest of their own: a long dump of routes puts off
/// only the next one.
pub(super) struct Schedule {
    /// When to look again although nothing was announced.
    pub(super) latest: Instant,
    /// When something has changed that the last look may not have seen.
    pub(super) changed: Option<Instant>,
    /// No look before that, unless somebody asks.
    pub(super) rest_until: Instant,
    /// The same when links or addresses have changed.
    pub(super) short_rest_until: Instant,
    /// They have, since the last look.
    pub(super) is_urgent: bool,
    /// The same for the look at links and addresses alone.
    pub(super) links_changed: Option<Instant>,
    pub(super) links_rest_until: Instant,
    /// When to have a glance although nothing was announced.
    pub(super) glance: Instant,
    /// What the last look at everything took.
    pub(super) cost: Duration,
}

impl Schedule {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            latest: now,
            changed: None,
            rest_until: now,
            short_rest_until: now,
            is_urgent: false,
            links_changed: None,
            links_rest_until: now,
            glance: now + INTERVAL,
            cost: Duration::ZERO,
        }
    }

    /// It could not be read.
    pub(super) fn fails(&mut self, now: Instant) {
        self.rest_until = now + FAILED_LOOK;
        self.short_rest_until = self.rest_until;
        self.latest = self.rest_until;
    }

    /// A look at everything has ended, and took so long; when the next one is due in any case.
    pub(super) fn looked(&mut self, now: Instant, retry: Option<Instant>) {
        let idle = (self.cost * IDLE).clamp(INTERVAL, LONGEST_INTERVAL);
        let retry = retry.map(|retry| retry.max(now + self.cost * REST));
        self.latest = retry.map_or(now + idle, |retry| retry.min(now + idle));
        self.glance = now + INTERVAL;
    }

    /// When to have a glance.
    pub(super) fn glance_at(&self) -> Option<Instant> {
        (self.glance < self.latest).then_some(self.glance)
    }

    /// Whether nothing was announced since the last look at everything, and another would be dear.
    pub(super) fn is_known(&self) -> bool {
        self.cost > DEAR && self.changed.is_none() && self.links_changed.is_none()
    }

    /// When to look at everything.
    pub(super) fn look_at(&self) -> Instant {
        let rest_until = if self.is_urgent { self.short_rest_until } else { self.rest_until };
        self.changed
            .map_or(self.latest, |since| self.latest.min((since + COALESCE).max(rest_until)))
    }

    /// What the kernel has is about to be read.
    pub(super) fn looks(&mut self) {
        self.changed = None;
        self.is_urgent = false;
    }

    /// It has been read, and that took so long.
    pub(super) fn rests(&mut self, now: Instant, took: Duration) {
        self.cost = took;
        self.rest_until = now + took * REST;
        self.short_rest_until = now + took * SHORT_REST;
    }

    /// When to look at links and addresses.
    pub(super) fn links_at(&self) -> Option<Instant> {
        self.links_changed.map(|since| (since + COALESCE).max(self.links_rest_until))
    }

    /// Routes or rules may have changed.
    pub(super) fn routes_changed(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// Links or addresses may have changed, and by that routes.
    pub(super) fn links_changed(&mut self, now: Instant) {
        self.links_changed.get_or_insert(now);
        self.routes_changed(now);
    }
}
