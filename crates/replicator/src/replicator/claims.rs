//! What routers of ours say of their role, and what follows from it: see [`Claim`].
//!
//! A peer that stands by answers with nothing, or with what is left to tell of the time before. That
//! is no copy of what is served, and shows nothing. Once it says that it serves it is asked. So it
//! need not tell its table unasked: who stands by would ask for it all the same, since what comes
//! unasked does not say what has ended.

use std::time::{Duration, Instant};

use super::Replicator;
use super::peer::{Peer, due};
use crate::claim::Claim;
use crate::config::Mode;
use crate::event::Role;
use crate::resync::{Cause, Resync};
use crate::wire::{Kind, Message};

/// Who stands by asks a new active router for its flows as soon as it hears of it. After this long
/// it is told them unasked.
const OFFER: Duration = Duration::from_secs(1);

impl Replicator {
    /// The role has changed, and with it what is said of it.
    pub(super) fn change_claim(&mut self) {
        self.internal.set_served(self.role == Role::Active);
        for peer in &mut self.peers {
            peer.offer_at = None;
            peer.conversation.begin_role();
        }
    }

    /// Heeds what a message that has been taken says of the peer's role.
    pub(super) fn note_claim(&mut self, place: usize, message: &Message<'_>, now: Instant) {
        if message.kind != Some(Kind::Control) {
            return;
        }
        let ftfw = self.config.mode == Mode::Ftfw;
        let peer = &mut self.peers[place];
        let before = std::mem::replace(&mut peer.claim, Claim::of(message.flags));
        let stands_by = peer.claim == Some(Claim::StandsBy);
        peer.stood_by |= stands_by;
        peer.rise.hear(peer.claim, now);
        let stood_by = before == Some(Claim::StandsBy) && !stands_by;
        let serves = matches!(peer.claim, Some(Claim::Serves | Claim::ToldAll));
        if self.role == Role::Backup && serves {
            self.tells_until = None;
            self.bequeath_to(place);
        }
        let peer = &mut self.peers[place];
        if self.role == Role::Active && stands_by && before != peer.claim {
            let told = self.external.has_told(peer.index);
            self.uptake.look_through(told && self.config.shares());
            let served = matches!(before, Some(Claim::Serves | Claim::ToldAll));
            if served && !self.config.shares() {
                self.note_who_gave_way(place, now);
            }
            return;
        }
        if self.role == Role::Active && ftfw && stood_by && !peer.conversation.has_told_all() {
            // Who serves does not ask.
            peer.conversation.want_copy();
        }
    }

    /// The kernel's table has been read for the role that has begun: the peers are to have it.
    pub(super) fn offer_everything(&mut self, now: Instant) {
        self.send_everything();
        if self.config.mode != Mode::Ftfw {
            return;
        }
        for peer in &mut self.peers {
            if peer.claim == Some(Claim::StandsBy) && !peer.conversation.is_asked() {
                peer.conversation.want_no_copy();
                peer.conversation.answer_soon();
                peer.offer_at = Some(now + OFFER);
            }
        }
    }

    /// Tells those everything that have not asked.
    pub(super) fn make_due_offers(&mut self, now: Instant) {
        for peer in self.peers.iter_mut().filter(|peer| due(peer.offer_at, now)) {
            peer.offer_at = None;
            if !peer.conversation.has_told_all() {
                peer.conversation.want_copy();
            }
        }
    }

    /// Whether a peer whose last copy showed nothing of what is served serves since, and has not
    /// been asked.
    pub(super) fn begins_to_tell(&self, peer: &Peer) -> bool {
        match peer.claim {
            _ if self.config.mode == Mode::Alarm => false,
            Some(Claim::StandsBy) => false,
            Some(Claim::Serves) => true,
            Some(Claim::ToldAll) => peer.stood_by,
            None => peer.told_nothing && self.external.confirmed(peer.index) > 0,
        }
    }

    /// Whether it serves, and what has arrived of it is all that it served when it was asked.
    pub(super) fn is_served_by(&self, peer: &Peer) -> bool {
        let told = self.external.confirmed(peer.index) > 0;
        !peer.unproven && (told || peer.claim == Some(Claim::ToldAll))
    }

    /// What is told unasked has no end and does not say what has ended: it is asked for.
    pub(super) fn ask_who_begins_to_tell(&mut self) {
        for place in 0..self.peers.len() {
            let peer = &self.peers[place];
            if self.hears()
                && peer.present()
                && peer.resync == Resync::Complete
                && self.begins_to_tell(peer)
            {
                self.want_resync(place, Cause::Succession);
            }
        }
    }
}
