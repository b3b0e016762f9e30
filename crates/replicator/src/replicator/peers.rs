//! Who is a peer, and how it is spoken to.
//!
//! With addresses in the configuration its routers are the peers and nobody else is heard. In a
//! group whoever speaks is heard: the first router is the peer, and everything goes to the group,
//! as conntrackd does it. conntrackd's numbers allow for one listener only. So a further router is
//! greeted alone, and once it has answered alone every peer is: each has a conversation of its own
//! then, and what it says to the group shows only that it is there and does not know us yet. A
//! router that cannot answer alone (conntrackd) waits until the first peer has fallen silent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Replicator;
use super::peer::{MAX_LINKS, MAX_PEERS, Peer, Reach, due};
use super::succession::Rise;
use crate::config::Mode;
use crate::conversation::Conversation;
use crate::event::{Event, Origin, Role};
use crate::resync::{Cause, Resync};
use crate::wire::Messages;

/// A router that never answered is given up after this long, when it is not heard any more.
const UNANSWERED: Duration = Duration::from_secs(10);

/// A router heard by way of the group is given up when it has been silent for this long.
const FORGOTTEN: Duration = Duration::from_mins(5);

/// Time between two links on which a silent peer is looked for.
const SEARCH_INTERVAL: Duration = Duration::from_millis(2500);

/// On another link a peer is known again by a number that goes on from its last one, or comes a
/// little before: less and more than this.
const GOES_ON: (i32, i32) = (-1_000, 100_000);

/// A router that has left a link may be heard on another one a little before the last word of it on
/// the first has arrived.
const MEANWHILE: Duration = Duration::from_secs(1);

/// No link.
const NOWHERE: usize = MAX_LINKS;

/// Whose a datagram is.
pub(super) enum Whose {
    /// Of the peer at this place.
    Peer(usize),
    /// Nobody's yet, and none that makes sense.
    Nonsense,
    /// Nobody's to whom we listen.
    Stranger,
}

impl Replicator {
    /// The peers to begin with.
    pub(super) fn first_peers(&mut self, now: Instant) {
        for addresses in self.links.configured() {
            let Some(mut peer) = self.new_peer(Reach::Configured, now) else { break };
            peer.addresses = addresses;
            peer.link = addresses.iter().position(Option::is_some).unwrap_or(0);
            self.peers.push(peer);
        }
        if self.peers.is_empty() {
            self.greet_the_group(now);
        }
    }

    fn new_peer(&mut self, reach: Reach, now: Instant) -> Option<Peer> {
        let taken = |index: &u8| self.peers.iter().any(|peer| peer.index == *index);
        let Some(index) = (0..MAX_PEERS as u8).find(|index| !taken(index)) else {
            self.counters.peers_refused += 1;
            return None;
        };
        let mut peer = Peer::new(index, reach, &self.config, self.first_sequence, now);
        if !self.hears() {
            peer.resync = Resync::Unneeded;
        }
        Some(peer)
    }

    fn greet_the_group(&mut self, now: Instant) {
        if let Some(mut peer) = self.new_peer(Reach::Group, now) {
            peer.link =
                (0..).take(self.peers.len() + 4).find(|l| self.links.is_up(*l)).unwrap_or(0);
            self.peers.push(peer);
        }
    }

    /// Whose a datagram is; may make its sender a peer.
    pub(super) fn recognise(&mut self, origin: Origin, datagram: &[u8], now: Instant) -> Whose {
        let source = origin.source.to_canonical();
        let Some(open) = self.links.is_open(origin.link) else { return Whose::Stranger };
        // Other programs of this router can send to the group too.
        if self.selection.is_own(source) {
            return Whose::Stranger;
        }
        let known = |peer: &Peer| peer.addresses[origin.link] == Some(source);
        let place = self.peers.iter().position(known);
        if !open {
            let Some(place) = place else { return Whose::Stranger };
            self.heard(place, now);
            return Whose::Peer(place);
        }
        let first = Messages::of(datagram).next().and_then(Result::ok);
        // Bytes by chance begin like a message now and then, but not to their end.
        let Some(first) = first.filter(|_| place.is_some() || makes_sense(datagram)) else {
            return match place {
                Some(place) => Whose::Peer(place),
                None if self.nobody_heard() => Whose::Nonsense,
                None => Whose::Stranger,
            };
        };
        let place = match (place, origin.to_group) {
            (Some(place), true) => self.known_to_group(place, now),
            (Some(place), false) => Some(self.known_alone(place, now)),
            (None, true) => self.unknown_to_group(origin.link, source, first.sequence, now),
            (None, false) => self.unknown_alone(origin.link, source, now),
        };
        let Some(place) = place else { return Whose::Stranger };
        self.heard(place, now);
        Whose::Peer(place)
    }

    fn nobody_heard(&self) -> bool {
        self.peers.iter().all(|peer| peer.heard_at.is_none())
    }

    /// The peer that is spoken to by way of the group.
    pub(super) fn group_peer(&self) -> Option<usize> {
        self.peers.iter().position(|peer| peer.reach == Reach::Group)
    }

    fn known_to_group(&mut self, place: usize, now: Instant) -> Option<usize> {
        let Reach::Alone { answered } = self.peers[place].reach else { return Some(place) };
        self.peers[place].conversation.answer_soon();
        let alone = |peer: &Peer| peer.present() && peer.reach == Reach::Alone { answered: true };
        if !answered
            && !self.peers.iter().any(alone)
            && let Some(group) = self.group_peer().filter(|group| self.peers[*group].silent)
        {
            // It takes the place of the one that is gone.
            self.remove(group, now);
            let place = if group < place { place - 1 } else { place };
            self.peers[place].reach = Reach::Group;
            self.start_over(place);
            return Some(place);
        }
        let peer = &mut self.peers[place];
        if peer.silent && answered {
            // It may have started again, and does not know us.
            peer.heard_at = Some(now);
        }
        None
    }

    fn known_alone(&mut self, place: usize, now: Instant) -> usize {
        match self.peers[place].reach {
            Reach::Group if self.config.mode == Mode::Ftfw => self.speak_alone(place),
            Reach::Alone { answered: false } => {
                self.peers[place].reach = Reach::Alone { answered: true };
                self.split_group(place, now);
            }
            Reach::Group
            | Reach::Overheard
            | Reach::Alone { answered: true }
            | Reach::Configured => {}
        }
        place
    }

    /// There is more than one peer now: nobody is spoken to by way of the group any more.
    fn split_group(&mut self, but: usize, now: Instant) {
        let Some(group) = self.group_peer().filter(|group| *group != but) else { return };
        if self.peers[group].address().is_some() {
            self.speak_alone(group);
            self.settle(now);
        }
    }

    fn speak_alone(&mut self, place: usize) {
        self.peers[place].reach = Reach::Alone { answered: true };
        self.start_over(place);
    }

    fn start_over(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        peer.start_over(&mut self.internal);
        if peer.present() {
            self.greet(place);
        }
    }

    fn unknown_to_group(
        &mut self,
        link: usize,
        source: IpAddr,
        number: u32,
        now: Instant,
    ) -> Option<usize> {
        let others = self.peers.len() > 1 && self.config.mode == Mode::Ftfw;
        if let Some(place) = self.group_peer() {
            let peer = &mut self.peers[place];
            // Beside those spoken to alone nobody is spoken to by way of the group.
            let nobody = peer.address().is_none() && !others;
            let elsewhere = peer.addresses[link].is_none();
            let goes_on = peer.conversation.last().is_some_and(|last| {
                let distance = number.wrapping_sub(last) as i32;
                (GOES_ON.0..GOES_ON.1).contains(&distance)
            });
            if nobody || (elsewhere && goes_on) {
                peer.addresses[link] = Some(source);
                return Some(place);
            }
            if peer.silent && !(others && peer.address().is_none()) {
                peer.addresses = Default::default();
                peer.addresses[link] = Some(source);
                self.start_over(place);
                return Some(place);
            }
        }
        if self.config.mode != Mode::Ftfw {
            return self.add(Reach::Overheard, link, source, now);
        }
        self.add(Reach::Alone { answered: false }, link, source, now);
        None
    }

    fn unknown_alone(&mut self, link: usize, source: IpAddr, now: Instant) -> Option<usize> {
        if let Some(place) =
            self.group_peer().filter(|place| self.peers[*place].address().is_none())
        {
            let peer = &mut self.peers[place];
            peer.addresses[link] = Some(source);
            (peer.link, peer.since) = (link, now);
            self.speak_alone(place);
            return Some(place);
        }
        let place = self.add(Reach::Alone { answered: true }, link, source, now)?;
        self.split_group(place, now);
        Some(place)
    }

    fn add(&mut self, reach: Reach, link: usize, source: IpAddr, now: Instant) -> Option<usize> {
        let mut peer = self.new_peer(reach, now)?;
        peer.addresses[link] = Some(source);
        peer.link = link;
        self.peers.push(peer);
        Some(self.peers.len() - 1)
    }

    pub(super) fn heard(&mut self, place: usize, now: Instant) {
        let peer = &mut self.peers[place];
        peer.heard_at = Some(now);
        peer.search_at = None;
        if std::mem::take(&mut peer.silent) {
            self.counters.peer_appeared += 1;
            if let Some(address) = peer.address() {
                self.push(Event::PeerAppeared { address });
            }
            self.make_up_for_silence(place);
            self.greet(place);
        }
    }

    /// A peer that was not heard may have heard us all the time. It has to ask for everything now,
    /// because a copy that it did not ask for does not tell what has ended.
    fn make_up_for_silence(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        if !std::mem::take(&mut peer.forgot) || peer.reach == Reach::Overheard {
            return;
        }
        match self.config.mode {
            Mode::Ftfw => peer.start_over(&mut self.internal),
            Mode::Notrack => peer.conversation.skip_number(),
            Mode::Alarm => {}
        }
    }

    /// The peer is new, or may have missed something.
    fn greet(&mut self, place: usize) {
        self.want_resync(place, Cause::Appeared);
        if self.role == Role::Active {
            self.speaker(place).want_copy();
        }
    }

    /// The conversation by which the peer is told something.
    pub(super) fn speaker(&mut self, place: usize) -> &mut Conversation {
        let place = match self.peers[place].reach {
            Reach::Overheard => self.group_peer().unwrap_or(place),
            Reach::Group | Reach::Alone { .. } | Reach::Configured => place,
        };
        &mut self.peers[place].conversation
    }

    pub(super) fn restarted(&mut self, place: usize) {
        let peer = &mut self.peers[place];
        // What it knew of others it knows no more.
        peer.rise = Rise::default();
        peer.knew_all_at = None;
        // The very first greeting comes with the peer's appearance.
        if std::mem::replace(&mut peer.greeted_before, true) {
            self.counters.peer_restarted += 1;
            if let Some(address) = self.peers[place].address() {
                self.push(Event::PeerRestarted { address });
            }
        }
        self.want_resync(place, Cause::Restarted);
        if self.role == Role::Active {
            self.speaker(place).want_copy();
        }
    }

    pub(super) fn look_for_silence(&mut self, now: Instant) {
        for place in 0..self.peers.len() {
            let bequeathed = self.peers[place].conversation.bequeaths();
            if self.peers[place].falls_silent(now) {
                self.counters.peer_silent += 1;
                let heard = self.peers.iter().any(Peer::overhears);
                let peer = &mut self.peers[place];
                if peer.reach != Reach::Group || !heard {
                    peer.forgot |= peer.conversation.tells();
                    peer.conversation.peer_is_gone(&mut self.internal);
                }
                if let Some(address) = peer.address() {
                    self.push(Event::PeerSilent { address });
                }
                self.want_resync(place, Cause::Appeared);
                let peer = &mut self.peers[place];
                peer.search_at = Some(now);
                peer.heir |= bequeathed;
                if self.role == Role::Active {
                    self.forget_what_was_taken(place, now);
                }
            }
        }
        let goes = |all: &Self| all.peers.iter().position(|peer| due(all.going_at(peer), now));
        while let Some(place) = goes(self) {
            self.remove(place, now);
        }
        // Routers that are all spoken to alone would not hear of each other.
        let met = |peer: &Peer| matches!(peer.reach, Reach::Group | Reach::Configured);
        if !self.peers.iter().any(met)
            && (self.peers.is_empty() || self.config.mode == Mode::Ftfw)
            && self.peers.len() < MAX_PEERS
        {
            self.greet_the_group(now);
        }
        for place in 0..self.peers.len() {
            if due(self.peers[place].search_at, now) && !self.greets_beside(place) {
                self.peers[place].search_at = Some(now + SEARCH_INTERVAL);
                self.use_another_link(place);
            }
        }
        self.place_greeting(now);
    }

    /// Where a group is greeted whose known members are spoken to alone: on the link on which all of
    /// these are, since elsewhere they would take this router for another one. Whom no link reaches
    /// any more is looked for, on one link after the other.
    pub(super) fn place_greeting(&mut self, now: Instant) {
        let Some(place) = self.group_peer().filter(|place| self.greets_beside(*place)) else {
            return;
        };
        let reached = |peer: &&Peer| peer.present() && self.links.is_up(peer.link);
        let mut links = self.peers.iter().filter(reached).map(|peer| peer.link);
        let from = self.peers[place].link;
        let (link, search_at) = match links.next() {
            Some(first) if links.all(|link| link == first) => (first, None),
            Some(_) => (NOWHERE, None),
            None => {
                let at = self.peers[place].search_at;
                // The one that has gone down is left at once; where all were, nobody is now.
                if at.is_some_and(|at| now < at) && self.links.is_up(from) {
                    return;
                }
                let next = self.links.next_up(from).unwrap_or(from);
                (next, Some(now + SEARCH_INTERVAL))
            }
        };
        let peer = &mut self.peers[place];
        (peer.link, peer.search_at) = (link, search_at);
        if link != from {
            // Nobody there has heard the last greeting.
            peer.conversation.answer_soon();
        }
    }

    /// Whether this peer is nobody yet, and there are others.
    pub(super) fn greets_beside(&self, place: usize) -> bool {
        let peer = &self.peers[place];
        peer.reach == Reach::Group && peer.address().is_none() && self.peers.len() > 1
    }

    /// When a peer may be given up.
    pub(super) fn forgetting_at(&self) -> Option<Instant> {
        self.peers.iter().filter_map(|peer| self.going_at(peer)).min()
    }

    fn going_at(&self, peer: &Peer) -> Option<Instant> {
        let since = peer.heard_at.unwrap_or(peer.since);
        match peer.reach {
            _ if !peer.silent => None,
            Reach::Alone { answered: false } => Some(since + UNANSWERED),
            Reach::Alone { answered: true } if self.has_moved(peer) => Some(since + UNANSWERED),
            Reach::Alone { answered: true } | Reach::Overheard => Some(since + FORGOTTEN),
            Reach::Group | Reach::Configured => None,
        }
    }

    /// Whether the silent peer seems to be there again on another link, where nobody could know it
    /// by its address: somebody has come there since, and what this one told is known from there.
    fn has_moved(&self, peer: &Peer) -> bool {
        let serves = |other: &Peer| self.external.confirmed(other.index) > 0;
        let knows = |other: &Peer| {
            !self.hears()
                || (other.resync.has_arrived()
                    && (serves(other) || !self.external.has_told(peer.index)))
        };
        self.peers.iter().any(|other| {
            other.present()
                && other.reach == Reach::Alone { answered: true }
                && peer.addresses[other.link].is_none()
                && peer.heard_at.is_some_and(|heard| other.since + MEANWHILE >= heard)
                && knows(other)
        })
    }

    /// What it has told stays until another peer's flows are complete, being the only copy.
    fn remove(&mut self, place: usize, now: Instant) {
        let mut peer = self.peers.remove(place);
        peer.conversation.peer_is_gone(&mut self.internal);
        let others = self
            .peers
            .iter()
            .any(|peer| peer.resync.has_arrived() && self.external.confirmed(peer.index) > 0);
        if others && self.hears() {
            let generation = self.external.begin_generation(peer.index) as u16;
            self.sweep(peer.index, generation, now);
        }
    }

    /// Another peer serves, and has told everything: what peers had told that were given up before
    /// is not the only copy any more.
    pub(super) fn forget_who_is_gone(&mut self, now: Instant) {
        // One that has never been heard only keeps the number of one that is gone.
        let heard = |peer: &Peer| peer.heard_at.is_some();
        let known = |index: &u8| self.peers.iter().any(|peer| peer.index == *index && heard(peer));
        let told = |index: &u8| self.external.has_told(*index);
        let gone = (0..MAX_PEERS as u8).filter(|index| !known(index) && told(index));
        for index in gone.collect::<Vec<_>>() {
            let generation = self.external.begin_generation(index) as u16;
            self.sweep(index, generation, now);
        }
    }
}

/// Whether a datagram of somebody unknown has nothing but messages of known kinds, from its first
/// byte to its last.
fn makes_sense(datagram: &[u8]) -> bool {
    Messages::of(datagram).all(|message| message.is_ok_and(|message| message.kind.is_some()))
}
