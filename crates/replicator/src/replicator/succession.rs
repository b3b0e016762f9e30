//! What a peer has told and serves no more, where there are more than two routers.
//!
//! A router that stands by tells nothing about flows, so nobody says which of those it had told
//! live on at the new active router. But it asks its peers for theirs, which an active one never
//! does. Whoever hears that has its peers tell everything anew, a purge's time later, and then
//! drops what nobody has told. By then the old one tells nothing any more: half that time after it
//! left the role it gives up what it could not tell. Until then its flows may come behind its
//! request, and to a router that was active when it heard that; so every request counts, whatever
//! has been told before it.
//!
//! A router that is gone asks nobody. But one of ours says when it begins to serve: if it stood by
//! until the other one was heard for the last time, it has taken that one's place, and knew what that
//! one served. Once its copy is complete, what the other one told and it does not is over. One that
//! is heard on, or was cut off from its successor before it was from this router, may serve beside
//! it: what it told stays.

use std::time::{Duration, Instant};

use super::Replicator;
use super::peer::{Peer, due};
use crate::claim::Claim;
use crate::config::Mode;
use crate::event::Role;
use crate::resync::{Cause, Resync};

/// Time between two looks at whether the others have told everything.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The last word of a router that has died may arrive this much later than the first of who has
/// taken its place.
const LAST_WORD: Duration = Duration::from_secs(1);

/// When a router of ours began to serve, and since when it had stood by before, as it said itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Rise {
    stands_by_since: Option<Instant>,
    serves_since: Option<Instant>,
}

impl Rise {
    /// It says this of itself.
    pub(super) fn hear(&mut self, claim: Option<Claim>, now: Instant) {
        match claim {
            None => *self = Self::default(),
            Some(Claim::StandsBy) => {
                if self.serves_since.take().is_some() {
                    self.stands_by_since = None;
                }
                self.stands_by_since.get_or_insert(now);
            }
            Some(Claim::Serves | Claim::ToldAll) => {
                self.serves_since.get_or_insert(now);
            }
        }
    }

    /// Whether it stood by while the other was there, and began to serve when that was gone.
    fn follows(&self, other: &Peer) -> bool {
        let (Some(heard_at), Some(since), Some(until)) =
            (other.heard_at, self.stands_by_since, self.serves_since)
        else {
            return false;
        };
        since < heard_at && heard_at <= until + LAST_WORD
    }

    /// Whether the other has not been heard since.
    fn is_younger_than(&self, other: &Peer) -> bool {
        self.follows(other) && self.serves_since > other.heard_at
    }
}

/// Where the succession of one peer stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Succession {
    /// It serves, as far as is known, or has told nothing.
    #[default]
    None,
    /// It stands by. The others are asked at this time.
    Begins(Instant),
    /// The others have been asked, and are telling everything. What the peer has spoken of since
    /// this generation of its entries is not old.
    Asked { since: Instant, generation: u16, look_at: Instant },
}

impl Succession {
    /// It stands by: the others are asked then, if not before.
    pub(super) fn begin(&mut self, at: Instant) {
        if *self == Self::None {
            *self = Self::Begins(at);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::Begins(at) | Self::Asked { look_at: at, .. } => Some(*at),
        }
    }
}

impl Replicator {
    /// The role was left half a purge's time ago: what has not been told by now is old, and whoever
    /// serves tells it better.
    pub(super) fn fall_quiet(&mut self) {
        self.quiet_at = None;
        for peer in self.peers.iter_mut().filter(|peer| !peer.conversation.bequeaths()) {
            peer.conversation.drop_objects(&mut self.internal);
        }
    }

    /// The peer has asked for everything, so it stands by.
    pub(super) fn note_backup(&mut self, place: usize, now: Instant) {
        self.peers[place].stood_by_at = Some(now);
        self.expect_succession(place);
    }

    /// This router stands by from now on, and so do peers of which it has heard that before.
    pub(super) fn expect_successions(&mut self, now: Instant) {
        for place in 0..self.peers.len() {
            if self.quiet_after(place).is_some_and(|at| now < at) {
                self.expect_succession(place);
            }
        }
    }

    fn expect_succession(&mut self, place: usize) {
        if self.role == Role::Backup
            && self.config.mode != Mode::Alarm
            && let Some(at) = self.quiet_after(place)
        {
            self.peers[place].succession.begin(at);
        }
    }

    /// When a peer that stood by has told all that it had to tell of the time before.
    fn quiet_after(&self, place: usize) -> Option<Instant> {
        self.peers[place].stood_by_at.map(|at| at + self.config.purge_timeout)
    }

    /// Whether another peer than this one is there.
    pub(super) fn others_present(&self, but: usize) -> bool {
        self.others(but).next().is_some()
    }

    fn others(&self, but: usize) -> impl Iterator<Item = usize> + use<'_> {
        (0..self.peers.len()).filter(move |place| *place != but && self.peers[*place].present())
    }

    pub(super) fn step_successions(&mut self, now: Instant) {
        for place in 0..self.peers.len() {
            if !due(self.peers[place].succession.next_deadline(), now) {
                continue;
            }
            let next = match self.peers[place].succession {
                Succession::Begins(_) => self.begin_succession(place, now),
                asked @ Succession::Asked { .. } => self.end_succession(place, asked, now),
                Succession::None => Succession::None,
            };
            self.peers[place].succession = next;
        }
    }

    fn begin_succession(&mut self, place: usize, now: Instant) -> Succession {
        if self.peers.len() == 1 || !self.external.has_told(self.peers[place].index) {
            return Succession::None;
        }
        let later = now + LOOK_AGAIN;
        if !self.peers[place].resync.has_arrived() || !self.others_present(place) {
            return Succession::Begins(later);
        }
        // The peer itself too: should it serve (again), it tells what is to be kept.
        for place in 0..self.peers.len() {
            let peer = &self.peers[place];
            if peer.present() && peer.resync.has_arrived() {
                self.want_resync(place, Cause::Succession);
            }
        }
        let index = self.peers[place].index;
        // A peer that is there begins it when it is asked.
        let generation = self.external.generation(index).wrapping_add(1);
        if !self.peers[place].present() {
            self.external.begin_generation(index);
        }
        Succession::Asked { since: now, generation, look_at: later }
    }

    fn end_succession(&mut self, place: usize, asked: Succession, now: Instant) -> Succession {
        let Succession::Asked { since, generation, .. } = asked else { return asked };
        let index = self.peers[place].index;
        let complete =
            self.peers.iter().all(|peer| !peer.present() || peer.resync == Resync::Complete);
        let told =
            self.others(place).any(|other| self.external.confirmed(self.peers[other].index) > 0);
        if !complete || !told {
            // As long as nobody else serves, what this one told is the best that is known, until it
            // serves again itself. The copy that it tells then unasked does not say what has ended.
            let confirmed = self.external.confirmed(index);
            if complete && confirmed > 0 && confirmed < self.external.told(index) {
                self.want_resync(place, Cause::Succession);
            }
            return Succession::Asked { since, generation, look_at: now + LOOK_AGAIN };
        }
        self.sweep(index, generation, now);
        // It has served again since: of what it told late some may live on, and the others have
        // told that before it.
        let again = self.quiet_after(place).filter(|at| *at > since);
        again.map_or(Succession::None, |at| Succession::Begins(at.max(now + LOOK_AGAIN)))
    }

    /// What peers that are gone had told, and who has taken their place has not, is dropped.
    pub(super) fn drop_what_is_over(&mut self, now: Instant) {
        for place in 0..self.peers.len() {
            let gone = &self.peers[place];
            let index = gone.index;
            if gone.silent
                && self.external.has_told(index)
                && !self.external.is_sweeping_of(index)
                && self.has_successor(place, Rise::follows)
            {
                let generation = self.external.begin_generation(index) as u16;
                self.sweep(index, generation, now);
            }
        }
    }

    /// Whether it is not known yet if this peer serves on, although another has told all that is
    /// served in its place; or what it had told is being dropped.
    pub(super) fn is_being_succeeded(&self, place: usize) -> bool {
        let peer = &self.peers[place];
        if peer.silent {
            return self.external.is_sweeping_of(peer.index);
        }
        peer.claim != Some(Claim::StandsBy)
            && self.external.has_told(peer.index)
            && self.has_successor(place, Rise::is_younger_than)
    }

    /// Whether a peer that has taken this one's place has told all that it serves.
    fn has_successor(&self, place: usize, took_over: fn(&Rise, &Peer) -> bool) -> bool {
        let gone = &self.peers[place];
        let has_told_all = |peer: &Peer| {
            peer.claim == Some(Claim::ToldAll)
                && !peer.stood_by
                && peer.resync == Resync::Complete
                && !peer.gap_stays
                && !self.external.lacks(peer.index)
                && self.external.confirmed(peer.index) > 0
        };
        self.role == Role::Backup
            && self.config.mode != Mode::Alarm
            && self
                .others(place)
                .map(|other| &self.peers[other])
                .any(|other| took_over(&other.rise, gone) && has_told_all(other))
    }
}
