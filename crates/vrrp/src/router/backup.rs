//! Backup: when silence, a lower priority or a stop makes this router stand for master
//! (RFC 9568 §6.4.2).

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::retiring::Yields;
use super::{MOST_LISTENED, VirtualRouter, seconds};
use crate::advertisement::{Advertisement, Format};
use crate::config::{Priority, WhenMisunderstood};
use crate::event::{Action, Heard, State};
use crate::neighbours::Present;
use crate::reason::{LastEvent, NewMasterReason};

impl VirtualRouter {
    /// What the master down timer does when it is due.
    ///
    /// Served late by a master's interval or more, it proves nothing: the silence was ours. The
    /// router listens for one more interval, in which a living master is heard.
    pub(super) fn backup_timeout(&mut self, now: Instant) -> Vec<Action> {
        let State::Backup { master_down_at, master_adver_interval, .. } = self.state else {
            return Vec::new();
        };
        self.forget_the_gone(now);
        let Some(late) = now.checked_duration_since(self.election_at(master_down_at)) else {
            return Vec::new();
        };
        if late >= master_adver_interval && self.listened < MOST_LISTENED {
            self.listened += 1;
            self.statistics.overslept += 1;
            self.set_master_down_at(now + master_adver_interval);
            return vec![Action::Overslept { late }];
        }
        match self.withholder(now) {
            Some(present) => self.withhold(present),
            None => self.elect(now),
        }
    }

    /// When the master down timer, set to `master_down_at`, elects at the earliest.
    pub(super) fn election_at(&self, master_down_at: Instant) -> Instant {
        let gate = self.unheard_since.map(|since| since + self.config.startup_limit);
        gate.map_or(master_down_at, |gate| gate.max(master_down_at))
    }

    /// The first thing heard ends the start-up limit. When the timer has run out meanwhile, the
    /// silence it measured may have been that of a port that does not forward yet: it starts anew.
    pub(super) fn open_the_gate(&mut self, now: Instant) {
        let Some(since) = self.unheard_since.take() else { return };
        let State::Backup { master_down_at, master_adver_interval, .. } = self.state else {
            return;
        };
        if master_down_at <= now && now < since + self.config.startup_limit {
            self.set_master_down_at(now + self.master_down_interval_for(master_adver_interval));
        }
    }

    fn elect(&mut self, now: Instant) -> Vec<Action> {
        let State::Backup { master_adver_interval, since, .. } = self.state else {
            return Vec::new();
        };
        let mut reason = self.reason_for_election(since, master_adver_interval, now);
        if let Some(Present { source, rejection, .. }) = self.neighbours.present(now) {
            reason = format!("{reason}; {source} is heard and sends {rejection}");
        }
        let master_down_at = now + self.master_down_interval_for(master_adver_interval);
        self.state = State::Backup { master_down_at, master_adver_interval, since, elected: true };
        self.listened = 0;
        self.withheld = false;
        vec![Action::Elected { reason }]
    }

    /// Says why, and remembers it in the words of RFC 8347.
    fn reason_for_election(&mut self, since: Instant, interval: Duration, now: Instant) -> String {
        (self.elected_for, self.last_event) =
            (NewMasterReason::NoResponse, LastEvent::MasterTimeout);
        let Some(heard) = self.heard else {
            let silence = seconds(now.saturating_duration_since(since));
            let since =
                if self.awaits_claim() { "its own priority 0" } else { "it began to listen" };
            return format!("no advertisement heard for {silence} s since {since}");
        };
        let Heard { address, priority, at, resigned, .. } = heard;
        let silence = now.saturating_duration_since(at);
        if resigned {
            self.elected_for = NewMasterReason::Priority;
            format!("{address} stopped (priority 0)")
        } else if priority < self.priority.value()
            && silence < self.master_down_interval_for(interval)
        {
            self.elected_for = NewMasterReason::Preempted;
            self.last_event = match (self.priority, self.config.preempt_delay) {
                (Priority::OWNER, _) => LastEvent::OwnerPreempt,
                (_, Duration::ZERO) => LastEvent::LowerPriorityMaster,
                _ => LastEvent::PreemptHoldTimeout,
            };
            let ours = self.priority;
            format!("{address} is master with priority {priority}, lower than our {ours}")
        } else {
            let silence = seconds(silence);
            format!("no advertisement from {address} for {silence} s; last priority {priority}")
        }
    }

    /// The neighbour on whose account this router stays backup.
    fn withholder(&self, now: Instant) -> Option<Present> {
        match self.config.misunderstood {
            WhenMisunderstood::TakeOver => None,
            WhenMisunderstood::StayBackup => self.neighbours.present(now),
        }
    }

    /// How long a refused advertisement shows that its sender is there: a master down interval, by
    /// the interval that it states where that is longer than ours.
    ///
    /// Nobody vouches for what is stated, and version 2 could state 255 s, so one packet that is
    /// made up could hold back a takeover for 13 minutes. A stated interval counts up to
    /// [`LONGEST_PRESENCE`], which no neighbour that advertises at least once a minute outlasts.
    pub(super) fn presence(&self, stated: Option<Duration>) -> Duration {
        let theirs = stated.map_or(Duration::ZERO, |it| self.master_down_interval_for(it));
        self.master_down_interval().max(theirs.min(LONGEST_PRESENCE))
    }

    /// The neighbour that may have withheld says that it stops. The timer, set to when it would
    /// have been missed, leaves time for others that are there to be heard.
    pub(super) fn withhold_no_longer(&mut self, now: Instant) {
        let soon = now + self.master_down_interval();
        if self.withheld
            && let State::Backup { master_down_at, .. } = &mut self.state
        {
            *master_down_at = soon.min(*master_down_at);
        }
    }

    fn withhold(&mut self, present: Present) -> Vec<Action> {
        let Present { source, rejection, until } = present;
        let mut actions = Vec::new();
        if let State::Backup { master_down_at, elected, .. } = &mut self.state {
            *master_down_at = until;
            if std::mem::take(elected) {
                actions.push(Action::Deferred);
            }
        }
        if !std::mem::replace(&mut self.withheld, true) {
            self.statistics.withheld += 1;
            let reason = format!("{source} is heard and not understood: it sends {rejection}");
            actions.push(Action::Withheld { reason });
        }
        actions
    }

    /// `stopping` says whether the last that was heard from `source` was that it stops.
    pub(super) fn heed_as_backup(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        stopping: bool,
        now: Instant,
    ) -> Vec<Action> {
        let State::Backup { master_down_at, master_adver_interval, since, elected } = self.state
        else {
            return Vec::new();
        };
        if advertisement.priority == 0 {
            if self.awaits_claim() {
                return Vec::new();
            }
            self.yields_no_more_to(source);
            let skewed = now + self.skew_time_for(master_adver_interval);
            // keepalived says it twice on a fault; the second must not put off the takeover.
            self.set_master_down_at(if stopping { skewed.min(master_down_at) } else { skewed });
            return Vec::new();
        }
        let interval = self.interval_of(advertisement);
        let succeeded = self.consider_successor(advertisement.priority, source, interval, now);
        if self.replaces(advertisement.priority, now) {
            return Vec::new();
        }
        self.listened = 0;
        self.withheld = false;
        self.state = State::Backup {
            master_down_at: now + self.master_down_interval_for(interval),
            master_adver_interval: interval,
            since,
            elected: false,
        };
        elected.then_some(Action::Deferred).into_iter().chain(succeeded).collect()
    }

    /// Whether a working master of that priority is to be replaced, so that its advertisements do
    /// not count. The preempt delay begins with the first one heard, and ends with any master that
    /// is as good as this router.
    fn replaces(&mut self, priority: u8, now: Instant) -> bool {
        if priority >= self.priority.value() {
            self.lower_since = None;
            return false;
        }
        let since = *self.lower_since.get_or_insert(now);
        let owner = self.priority == Priority::OWNER;
        self.preempts() && (owner || now >= since + self.config.preempt_delay)
    }

    /// An address owner preempts whatever its configuration says (RFC 9568 §6.1).
    fn preempts(&self) -> bool {
        let allowed = self.preempt_allowed && self.yields == Yields::No;
        allowed && (self.config.preempt || self.priority == Priority::OWNER)
    }

    /// A working master that was about to be replaced gets its full time again when replacing it
    /// is forbidden: its advertisements had not been counting.
    pub(super) fn let_the_master_be(&mut self) {
        let Some(heard) = self.heard.filter(|heard| !heard.resigned) else { return };
        let granted = heard.at + self.master_down_interval_for(heard.interval);
        if let State::Backup { master_down_at, .. } = &mut self.state {
            *master_down_at = granted.max(*master_down_at);
        }
    }

    pub(super) fn set_master_down_at(&mut self, at: Instant) {
        if let State::Backup { master_down_at, .. } = &mut self.state {
            *master_down_at = at;
        }
    }

    /// Version 3 learns the master's interval; in version 2 it is ours, or the advertisement
    /// would have been refused.
    pub(super) fn interval_of(&self, advertisement: &Advertisement) -> Duration {
        match advertisement.format {
            Format::V3 => advertisement.interval,
            Format::V2(_) => self.config.advertisement_interval,
        }
    }
}

/// Longest time for which one refused advertisement keeps a router backup that has no longer
/// master down interval itself.
const LONGEST_PRESENCE: Duration = Duration::from_mins(1);
