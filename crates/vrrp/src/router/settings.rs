//! Other settings and another priority while the election goes on.

use std::time::{Duration, Instant};

use super::VirtualRouter;
use super::replay::Sequence;
use crate::config::{Config, Priority, Version};
use crate::event::{Action, State};

/// The highest priority of a router that does not own the addresses.
const HIGHEST_NOT_OWNER: u8 = 254;

impl VirtualRouter {
    /// Takes the priority in force from tracking. An address owner keeps 255, and nobody else
    /// gets it (RFC 9568 §5.2.4).
    pub(super) fn prioritise(&mut self, priority: Priority, now: Instant) -> Vec<Action> {
        let priority = tracked(self.config.priority, i16::from(priority.value()));
        let (before, was) = (self.silence_awaited(), self.priority);
        self.priority = priority;
        self.shift_timer(before, now);
        let falls = priority < was;
        if falls { self.tell_the_others(now) } else { Vec::new() }
    }

    /// Takes other settings. A state is kept unless what follows on the wire changes it; whatever
    /// the others see of a master changes at once.
    pub(super) fn configure(&mut self, config: Config, now: Instant) -> Vec<Action> {
        let config = Config { vrid: self.config.vrid, family: self.config.family, ..config };
        if config == self.config {
            return Vec::new();
        }
        let due = self.next_deadline();
        let before = self.silence_awaited();
        let old = std::mem::replace(&mut self.config, config);
        let was = self.priority;
        self.priority = match (old.priority, self.config.priority) {
            (Priority::OWNER, base) | (_, base @ Priority::OWNER) => base,
            (old, base) => {
                let tracking = i16::from(was.value()) - i16::from(old.value());
                tracked(base, i16::from(base.value()) + tracking)
            }
        };
        self.follow_own_interval();
        self.shift_timer(before, now);
        if old.preempt && !self.config.preempt {
            self.let_the_master_be();
        }
        if due.is_some_and(|due| due > now) {
            self.not_overdue(now);
        }
        self.differences.clear();
        self.compared = None;
        self.heeded = None;
        if !self.uses_header() {
            self.sequence = Sequence::default();
        }
        let seen_by_others = self.wire_differs(&old) || self.priority < was;
        if seen_by_others { self.tell_the_others(now) } else { Vec::new() }
    }

    /// Whether anything that an advertisement shows is another than in `old`, its priority apart.
    fn wire_differs(&self, old: &Config) -> bool {
        let Config { priority, preempt, preempt_delay, misunderstood, startup_limit, .. } =
            self.config;
        let local = Config {
            priority,
            preempt,
            preempt_delay,
            misunderstood,
            startup_limit,
            ..old.clone()
        };
        local != self.config
    }

    /// A master that speaks, speaks now.
    fn tell_the_others(&mut self, now: Instant) -> Vec<Action> {
        match self.state {
            State::Master { silent_for: None, .. } => self.advertise_now(now),
            State::Initialize | State::Backup { .. } | State::Master { .. } => Vec::new(),
        }
    }

    /// A backup waits by its own interval where it has learned none: in version 2, and before a
    /// master was heard.
    fn follow_own_interval(&mut self) {
        let own = self.config.version == Version::V2 || self.heard.is_none();
        if let State::Backup { master_adver_interval, .. } = &mut self.state
            && own
        {
            *master_adver_interval = self.config.advertisement_interval;
        }
    }

    /// The silence that the running timer measures.
    fn silence_awaited(&self) -> Duration {
        if self.heard.is_some_and(|heard| heard.resigned) {
            self.skew_time()
        } else {
            self.master_down_interval()
        }
    }

    /// Shifts the running timer by how much the silence it measures has changed from `before`; a
    /// restart would let a dead master live longer with every change.
    fn shift_timer(&mut self, before: Duration, now: Instant) {
        let after = self.silence_awaited();
        // One that is due stays as late as it is: lateness must not be lost.
        if let State::Backup { master_down_at, .. } = &mut self.state
            && *master_down_at > now
        {
            let (longer, shorter) = (after.saturating_sub(before), before.saturating_sub(after));
            let shifted = (*master_down_at + longer).checked_sub(shorter);
            *master_down_at = shifted.map_or(now, |shifted| shifted.max(now));
        }
    }

    /// A timer that was not due before the change is not late by it.
    fn not_overdue(&mut self, now: Instant) {
        if self.next_deadline().is_some_and(|due| due < now) {
            self.set_master_down_at(now);
        }
    }
}

/// A priority after tracking: that of an owner stands, others stay between 1 and 254.
fn tracked(base: Priority, priority: i16) -> Priority {
    if base == Priority::OWNER {
        return base;
    }
    let within = priority.clamp(1, i16::from(HIGHEST_NOT_OWNER)) as u8;
    Priority::new(within).unwrap_or(base)
}
