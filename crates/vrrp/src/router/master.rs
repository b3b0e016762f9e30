//! Master: advertising, answering those that have to give way, and giving way (RFC 9568 §6.4.3).

use std::net::IpAddr;
use std::time::Instant;

use super::{MOST_LISTENED, VirtualRouter, seconds};
use crate::advertisement::Advertisement;
use crate::event::{Action, OtherMaster, State};
use crate::reason::LastEvent;

/// An answer to another master is held back until the last one is this part of an interval old,
/// so that a flood of advertisements is not answered by another.
pub(super) const ANSWER_FRACTION: u32 = 16;

/// A master whose advertisement is late by so many intervals may have been replaced.
const OVERSLEPT_AFTER: u32 = 3;

impl VirtualRouter {
    /// Before anything else a master looks at how late it is: one that was not scheduled for
    /// three intervals has been taken for dead. It says nothing for one interval, and steps down
    /// when it hears who has taken over.
    pub(super) fn wake(&mut self, now: Instant) -> Vec<Action> {
        let State::Master { adver_at, .. } = self.state else { return Vec::new() };
        let late = now.saturating_duration_since(adver_at);
        let interval = self.config.advertisement_interval;
        if late < OVERSLEPT_AFTER * interval || self.listened >= MOST_LISTENED {
            return Vec::new();
        }
        self.listened += 1;
        self.statistics.overslept += 1;
        if let State::Master { adver_at, answering, silent_for, .. } = &mut self.state {
            *adver_at = now + interval;
            *answering = None;
            *silent_for = Some(late);
        }
        vec![Action::Overslept { late }]
    }

    /// Keeps the rhythm when the call comes a little late, and does not catch up on what a
    /// stall has missed.
    pub(super) fn advertise_on_schedule(&mut self, now: Instant) -> Vec<Action> {
        self.forget_the_gone(now);
        let State::Master { adver_at, answering, .. } = self.state else { return Vec::new() };
        if let Some(with) = answering {
            return self.answer_now(with, now);
        }
        let next = adver_at + self.config.advertisement_interval;
        let late = now + self.config.advertisement_interval;
        self.advertise_until(if next > now { next } else { late })
    }

    pub(super) fn advertise_now(&mut self, now: Instant) -> Vec<Action> {
        self.advertise_until(now + self.config.advertisement_interval)
    }

    /// Advertises, and again at `next`.
    fn advertise_until(&mut self, next: Instant) -> Vec<Action> {
        if let State::Master { adver_at, silent_for, .. } = &mut self.state {
            *adver_at = next;
            *silent_for = None;
        }
        self.listened = 0;
        vec![self.advertise(self.priority.value())]
    }

    /// Not conformant to RFC 9568 in two points, on purpose: an address owner that hears another owner
    /// is subject to the tie-break too, instead of ignoring it for ever (§7.1), and a master that yields
    /// says so in a last advertisement (§6.4.3), as keepalived does with `higher_prio_send_advert`.
    /// Whoever has been master as well, unheard, learns from it that the link may look in the wrong
    /// place, and announces the addresses again.
    pub(super) fn heed_as_master(
        &mut self,
        advertisement: &Advertisement,
        source: IpAddr,
        now: Instant,
    ) -> Vec<Action> {
        let State::Master { silent_for, .. } = self.state else { return Vec::new() };
        let (theirs, ours) = (advertisement.priority, self.priority.value());
        let wins_tie = theirs == ours && self.primary.is_none_or(|primary| source > primary);
        // One that overslept says nothing: what it hears may be as old.
        let speaks = silent_for.is_none() && (theirs > ours || self.primary.is_some());
        let reason = if let Some(late) = silent_for {
            // Whoever has stopped is no master; another may be.
            if theirs == 0 {
                return Vec::new();
            }
            let late = seconds(late);
            format!("{source} is master (priority {theirs}) since this router slept for {late} s")
        } else if theirs > ours {
            format!("{source} advertises priority {theirs}, higher than our {ours}")
        } else if wins_tie {
            format!("{source} advertises our priority {ours} too and has the higher address")
        } else {
            self.follow(advertisement);
            return self.answer(source, theirs, now);
        };
        self.last_event = LastEvent::HigherPriorityBackup;
        let last_word = speaks.then(|| self.advertise(ours));
        let backup = self.listening(self.interval_of(advertisement), now);
        let mut actions: Vec<Action> = last_word.into_iter().collect();
        actions.extend(self.enter(backup));
        actions.push(Action::Superseded { by: source, priority: theirs, reason });
        actions
    }

    /// Tells a router that has to give way who is master (RFC 9568 §6.4.3): at once, or as soon
    /// as [`ANSWER_FRACTION`] of an interval has passed since the last answer.
    fn answer(&mut self, source: IpAddr, priority: u8, now: Instant) -> Vec<Action> {
        if !self.has_just_preempted(source, now) {
            self.statistics.conflicts += 1;
            // Whoever has stopped is none.
            if priority > 0 {
                self.note_other_master(source, priority, now);
            }
        }
        let least = self.config.advertisement_interval / ANSWER_FRACTION;
        if let State::Master { adver_at, answered_at: Some(last), answering, .. } = &mut self.state
        {
            let allowed = *last + least;
            if now < allowed {
                *adver_at = allowed.min(*adver_at);
                *answering = Some(source);
                return Vec::new();
            }
        }
        self.answer_now(source, now)
    }

    /// The addresses are announced again after the advertisement, never before it.
    fn answer_now(&mut self, with: IpAddr, now: Instant) -> Vec<Action> {
        let mut actions = self.advertise_now(now);
        if let State::Master { answered_at, answering, .. } = &mut self.state {
            *answered_at = Some(now);
            *answering = None;
        }
        if !self.has_just_preempted(with, now) {
            actions.push(Action::Conflict { with });
        }
        actions
    }

    fn note_other_master(&mut self, address: IpAddr, priority: u8, now: Instant) {
        let known = self.other_master(now).filter(|other| other.address == address);
        let (since, count) = known.map_or((now, 0), |other| (other.since, other.count));
        self.other_master =
            Some(OtherMaster { address, priority, since, at: now, count: count + 1 });
    }

    /// Whether it is a master that was heard until this one took over. For an interval that is no second
    /// one: what comes from it was on its way, or is its last word.
    fn has_just_preempted(&self, source: IpAddr, now: Instant) -> bool {
        self.preempted.is_some_and(|(preempted, until)| preempted == source && now < until)
    }
}
