//! What a peer has told and serves no more, where there are more than two routers.
//!
//! A router that stands by tells nothing about flows, so nobody says which of those it had told
//! live on at the new active router. But it asks its peers for theirs, which an active one never
//! does. Whoever hears that has its peers tell everything anew, a purge's time later, and then
//! drops what nobody has told. By then the old one tells nothing any more: half that time after it
//! left the role it gives up what it could not tell.

use std::time::{Duration, Instant};

use super::Replicator;
use super::peer::due;
use crate::config::Mode;
use crate::event::Role;
use crate::resync::{Cause, Resync};

/// Time between two looks at whether the others have told everything.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Where the succession of one peer stands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Succession {
    /// It serves, as far as is known, or has told nothing.
    #[default]
    None,
    /// It stands by. The others are asked at this time.
    Begins(Instant),
    /// The others are telling everything. To be looked at again at this time.
    Asked(Instant),
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
            Self::Begins(at) | Self::Asked(at) => Some(*at),
        }
    }
}

impl Replicator {
    /// The role was left half a purge's time ago: what has not been told by now is old, and whoever
    /// serves tells it better.
    pub(super) fn fall_quiet(&mut self) {
        self.quiet_at = None;
        for peer in &mut self.peers {
            peer.conversation.drop_objects(&mut self.internal);
        }
    }

    /// The peer has asked for everything, so it stands by.
    pub(super) fn note_backup(&mut self, place: usize, now: Instant) {
        let has_told = |index| self.external.table.iter().any(|entry| entry.peer == index);
        let peer = &self.peers[place];
        let matters = self.role == Role::Backup && self.config.mode != Mode::Alarm;
        if matters
            && peer.succession == Succession::None
            && self.peers.len() > 1
            && has_told(peer.index)
        {
            let at = now + self.config.purge_timeout;
            self.peers[place].succession.begin(at);
        }
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
                Succession::Asked(_) => self.end_succession(place, now),
                Succession::None => Succession::None,
            };
            self.peers[place].succession = next;
        }
    }

    fn begin_succession(&mut self, place: usize, now: Instant) -> Succession {
        let later = now + LOOK_AGAIN;
        if self.peers[place].resync != Resync::Complete || !self.others_present(place) {
            return Succession::Begins(later);
        }
        // The peer itself too: should it serve (again), it tells what is to be kept.
        for place in 0..self.peers.len() {
            let peer = &self.peers[place];
            if peer.present() && peer.resync == Resync::Complete {
                self.want_resync(place, Cause::Succession);
            }
        }
        if !self.peers[place].present() {
            self.external.begin_generation(self.peers[place].index);
        }
        Succession::Asked(later)
    }

    fn end_succession(&mut self, place: usize, now: Instant) -> Succession {
        let index = self.peers[place].index;
        let complete =
            self.peers.iter().all(|peer| !peer.present() || peer.resync == Resync::Complete);
        let told =
            self.others(place).any(|other| self.external.confirmed(self.peers[other].index) > 0);
        if !complete || !told {
            // As long as nobody else serves, what this one told is the best that is known.
            return Succession::Asked(now + LOOK_AGAIN);
        }
        self.counters.external_swept += self.external.sweep(index) as u64;
        Succession::None
    }
}
