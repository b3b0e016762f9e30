//! One group: what a router that serves no more leaves to the one that does.
//!
//! Two that could not hear each other both serve. A new master commits what it has been told, and
//! the old one goes on for a moment. In each case the one that stops has flows of which the other one
//! does not know, and whose next packets will come there. But most of what it could tell is old: it
//! would set back what the other one has changed since, or revive what has ended there
//! (`docs/decisions/0018-flows-of-two-masters.md`). So
//!
//! - it leaves only flows that its own kernel made while it served and that the other one is not known
//!   to have heard of while it stood by, and says of each how long ago it began;
//! - who serves creates them, never changes what it has, and remembers the flows that have ended in its
//!   own kernel: what ended since it began, or may have, is not made again.
//!
//! With more than two routers a third one may have served meanwhile, and seen ends and changes that
//! neither knows of. Then nothing is left to anybody.

use std::time::{Duration, Instant};

use lockstep_ctnetlink::Flow;

use super::Replicator;
use super::peer::Peer;
use crate::commit::{MAX_LOOKS, Planned, named, to_create};
use crate::conversation::Bequest;
use crate::ends::Ended;
use crate::event::Role;
use crate::key::Key;
use crate::stored::Stored;
use crate::wire::{self, Change};

/// A flow may have begun this much earlier than is said: what a router that is slow hears of its
/// kernel, and what it says of that, may each come late.
const LATE: Duration = Duration::from_secs(20);

/// What an acknowledgement shows may be this much older than it looks: clocks are read in whole
/// seconds, and the sending of a message to a tenth.
const ROUNDING_S: u32 = 2;

/// A flow that is left to this router.
#[derive(Debug)]
pub(super) struct Bequeathed {
    stored: Stored,
    /// Seconds since the start when it began elsewhere at the earliest; `None` when that may have been
    /// before the start.
    began_s: Option<u32>,
    /// And when that was heard.
    heard_s: u32,
}

impl Replicator {
    /// Has a peer be told what this router has served and it does not know, once it serves.
    pub(super) fn note_heir(&mut self, served_since: Option<Instant>) {
        let Some(since) = served_since.filter(|_| self.config.inherits()) else { return };
        for place in 0..self.peers.len() {
            let knew_all_at = self.peers[place].knew_all_at;
            let knew_s = knew_all_at.map_or(0, |at| self.seconds(at).saturating_sub(ROUNDING_S));
            let since_s = self.seconds(since).max(knew_s);
            let peer = &mut self.peers[place];
            (peer.heir, peer.inherits_since_s) = (true, Some(since_s));
        }
    }

    /// The peer says that it serves: it is told what it inherits, and nobody else is.
    pub(super) fn bequeath_to(&mut self, place: usize) {
        let only = self.config.shares() || self.is_only_other(place);
        let started = self.started;
        let peer = &mut self.peers[place];
        if !std::mem::take(&mut peer.heir) || !only {
            return;
        }
        let bequest = peer.inherits_since_s.map(|since_s| Bequest { since_s, started });
        peer.conversation.bequeath(bequest);
        if !self.config.shares() {
            self.peers.iter_mut().for_each(|peer| peer.heir = false);
        }
    }

    /// Whether no third router is known. A peer that was never heard on a link of this one may be this
    /// one: in a group a router is known by its address on each.
    fn is_only_other(&self, place: usize) -> bool {
        let it = &self.peers[place];
        let apart = |other: &Peer| {
            let mut both = other.addresses.iter().zip(&it.addresses);
            both.all(|(one, other)| one.is_none() || other.is_none())
        };
        let is_third =
            |other: &Peer| other.index != it.index && other.heard_at.is_some() && !apart(other);
        !self.peers.iter().any(is_third)
    }

    /// The kernel has ended a flow.
    pub(super) fn note_end(&mut self, key: &Key, now: Instant) {
        let now_s = self.seconds(now);
        if let Some(ends) = &mut self.ends {
            ends.note(key, now_s);
        }
    }

    /// Events of the kernel were lost. What was known and has ended is seen when the table is read, but
    /// not what nobody has heard of.
    pub(super) fn lose_ends(&mut self, now: Instant) {
        let now_s = self.seconds(now);
        if let Some(ends) = &mut self.ends {
            ends.lose(now_s);
        }
    }

    /// The peer has told of a flow: it may be left to this router.
    pub(super) fn consider_inheritance(
        &mut self,
        place: usize,
        (change, flow): (Change, &Flow),
        body: &[u8],
        now: Instant,
    ) {
        if self.role != Role::Active || self.ends.is_none() || !self.is_only_other(place) {
            return;
        }
        if change == Change::Delete {
            // It may not have been put into the kernel yet.
            if !self.uptake.inheritance.is_empty() {
                self.note_end(&Key::of(flow), now);
            }
            return;
        }
        let Some(age_s) = wire::bequest_age_s(body) else { return };
        if self.uptake.serves_for_long(now) {
            self.uptake.strays.look_through(now);
        }
        if self.uptake.inheritance.len() >= self.config.cache_limit {
            self.note_refused(flow, "more flows are left to this router than its cache holds");
            return self.uptake.tell_soon(now);
        }
        let heard_s = self.seconds(now);
        let began_s = heard_s.checked_sub(age_s.saturating_add(LATE.as_secs() as u32));
        let stored = Stored::from(flow);
        self.uptake.inheritance.push_back(Bequeathed { stored, began_s, heard_s });
    }

    /// Whether something may be put into the kernel that was left to this router. What ends while
    /// the kernel's table is being read, or could not be told, is known afterwards.
    pub(super) fn has_inheritance(&self) -> bool {
        let knows_ends = !self.internal.is_in_doubt() && !self.copy_after_dump;
        !self.uptake.inheritance.is_empty() && knows_ends
    }

    /// The next flow that was left to this router; `None` when there is none, or for the moment.
    pub(super) fn next_to_inherit(&mut self, now: Instant) -> Option<Planned> {
        for _ in 0..MAX_LOOKS {
            if !self.has_inheritance() {
                return None;
            }
            let bequeathed = self.uptake.inheritance.pop_front()?;
            let planned = self.plan_inheritance(&bequeathed, now);
            if planned.is_some() {
                self.uptake.tell_soon(now);
                return planned;
            }
        }
        None
    }

    fn plan_inheritance(&mut self, bequeathed: &Bequeathed, now: Instant) -> Option<Planned> {
        let Bequeathed { stored, began_s, heard_s } = bequeathed;
        let key = stored.key();
        let table = &self.internal.table;
        let local = table.find(&key).and_then(|slot| table.get(slot));
        if let Some(local) = local.filter(|local| local.stage.is_alive()) {
            if local.stored.reply() != stored.reply() {
                let reason = format!("{} lives here", named(&local.stored.flow()));
                self.note_refused(&stored.flow(), &reason);
                self.uptake.tell_soon(now);
            }
            return None;
        }
        let ends = self.ends.as_ref()?;
        match began_s.map_or(Ended::Unknown, |began_s| ends.has_ended(&key, began_s)) {
            Ended::No => Some(Planned::only_new(to_create(self, stored, *heard_s, now))),
            Ended::Yes => None,
            Ended::Unknown => {
                self.note_refused(&stored.flow(), UNKNOWN);
                self.uptake.tell_soon(now);
                None
            }
        }
    }
}

/// Why a flow is not taken whose end may have been missed.
const UNKNOWN: &str = "it began before the time of which all ends are known here";
