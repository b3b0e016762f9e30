//! The dedicated links: which of them is used to speak to whom.
//!
//! Numbers go on from one link to the other. A peer is spoken to on one link at a time: on the one
//! where it was last heard, unless that is down or the peer has fallen silent there.

use std::net::IpAddr;
use std::time::Instant;

use super::Replicator;
use super::peer::{MAX_LINKS, Peer, Reach};
use crate::config::{Link, Transport};
use crate::event::{Event, LinkState, LinkView, Origin, Transmit};

/// The links and what has passed over them.
pub(super) struct Links {
    all: Vec<OneLink>,
}

struct OneLink {
    members: Members,
    state: LinkState,
    sent: (u64, u64),
    received: (u64, u64),
}

/// Who is on a link.
enum Members {
    Anybody,
    /// In the order of the configuration, by which a peer is the same on all links.
    These(Vec<IpAddr>),
}

impl Links {
    /// A link is taken to be up until something else is said.
    pub(super) fn new(links: &[Link], max_datagram: usize) -> Self {
        let one = |link: &Link| OneLink {
            members: match &link.transport {
                Transport::Multicast { .. } => Members::Anybody,
                Transport::Udp { peers, .. } | Transport::Tcp { peers, .. } => {
                    Members::These(peers.iter().map(IpAddr::to_canonical).collect())
                }
            },
            state: LinkState::Up { max_datagram },
            sent: (0, 0),
            received: (0, 0),
        };
        Self { all: links.iter().take(MAX_LINKS).map(one).collect() }
    }

    /// The peers of the configuration by their addresses on every link; empty for a group.
    pub(super) fn configured(&self) -> Vec<[Option<IpAddr>; MAX_LINKS]> {
        let mut peers = Vec::new();
        for (number, link) in self.all.iter().enumerate() {
            let Members::These(addresses) = &link.members else { continue };
            for (place, address) in addresses.iter().enumerate() {
                if place == peers.len() {
                    peers.push([None; MAX_LINKS]);
                }
                peers[place][number] = Some(*address);
            }
        }
        peers
    }

    /// Whether strangers may be heard on the link; `None` when there is no such link.
    pub(super) fn is_open(&self, link: usize) -> Option<bool> {
        self.all.get(link).map(|link| matches!(link.members, Members::Anybody))
    }

    fn max_datagram(&self, link: usize) -> Option<usize> {
        match self.all.get(link)?.state {
            LinkState::Up { max_datagram } => Some(max_datagram),
            LinkState::Down { .. } => None,
        }
    }

    pub(super) fn is_up(&self, link: usize) -> bool {
        self.max_datagram(link).is_some()
    }

    pub(super) fn count_received(&mut self, link: usize, bytes: usize) {
        if let Some(link) = self.all.get_mut(link) {
            link.received.0 += 1;
            link.received.1 += bytes as u64;
        }
    }

    /// The next link after this one that is up; none but this one itself when no other is.
    pub(super) fn next_up(&self, from: usize) -> Option<usize> {
        let count = self.all.len();
        (1..=count).map(|step| (from + step) % count).find(|link| self.is_up(*link))
    }

    /// The next link after the peer's that is up and on which it can be spoken to.
    fn another(&self, peer: &Peer) -> Option<usize> {
        let count = self.all.len();
        (1..count).map(|step| (peer.link + step) % count).find(|link| {
            let known = peer.reach == Reach::Group || peer.addresses[*link].is_some();
            self.is_up(*link) && known
        })
    }
}

impl Replicator {
    /// A link has come up, has changed its size, or has gone down. Whoever was spoken to on a link
    /// that is down is spoken to on the next one that is up.
    pub fn link_changed(&mut self, link: usize, state: LinkState, now: Instant) {
        let Some(known) = self.links.all.get_mut(link) else { return };
        known.state = state;
        for place in 0..self.peers.len() {
            if !self.links.is_up(self.peers[place].link) {
                self.use_another_link(place);
            }
        }
        self.place_greeting(now);
        self.settle(now);
    }

    /// The links, in the order of the configuration.
    pub fn links(&self) -> Vec<LinkView> {
        let nobody = !self.peers.iter().any(Peer::present);
        let counts = |peer: &&Peer| nobody || peer.present();
        let used = |link| self.peers.iter().filter(counts).any(|peer| peer.link == link);
        let view = |(number, link): (usize, &OneLink)| LinkView {
            state: link.state.clone(),
            active: self.links.is_up(number) && used(number),
            sent: link.sent,
            received: link.received,
        };
        self.links.all.iter().enumerate().map(view).collect()
    }

    pub(super) fn use_another_link(&mut self, place: usize) {
        if !self.greets_beside(place)
            && let Some(link) = self.links.another(&self.peers[place])
        {
            self.use_link(place, link);
        }
    }

    /// News of the peer came in by this link, so it can be spoken to there.
    pub(super) fn follow(&mut self, place: usize, origin: Origin) {
        if self.peers[place].link != origin.link && self.links.is_up(origin.link) {
            self.use_link(place, origin.link);
        }
    }

    fn use_link(&mut self, place: usize, link: usize) {
        let peer = &mut self.peers[place];
        let from = std::mem::replace(&mut peer.link, link);
        let address = peer.address();
        // A search for a silent one goes round and round.
        if peer.present() {
            self.counters.link_changes += 1;
            self.push(Event::LinkChanged { address, from, to: link });
        }
    }

    /// Puts the next datagram into `buffer`, which is cleared first; `None` when there is nothing
    /// to send now. To be called again until then after every other call.
    pub fn poll_transmit(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<Transmit> {
        self.poll_transmit_where(now, buffer, |_, _| true)
    }

    /// [`Replicator::poll_transmit`] for whoever the caller has room for, asked by link and
    /// address as in [`Transmit`]. The others are passed over, and hold up nobody: what they are to
    /// be told goes on waiting, of each flow its newest state.
    pub fn poll_transmit_where(
        &mut self,
        now: Instant,
        buffer: &mut Vec<u8>,
        mut has_room: impl FnMut(usize, Option<IpAddr>) -> bool,
    ) -> Option<Transmit> {
        buffer.clear();
        for _ in 0..self.peers.len() {
            let place = self.turn % self.peers.len();
            let peer = &mut self.peers[place];
            if let Some(limit) = self.links.max_datagram(peer.link)
                && peer.reach != Reach::Overheard
                && has_room(peer.link, destination(peer))
            {
                let (internal, counters) = (&mut self.internal, &mut self.counters);
                let messages = peer.conversation.fill(limit, internal, counters, now, buffer);
                if messages > 0 {
                    return Some(self.sent(place, messages, buffer.len()));
                }
                peer.plan_provocation(now);
            }
            self.turn = (place + 1) % self.peers.len();
        }
        None
    }

    fn sent(&mut self, place: usize, messages: u32, bytes: usize) -> Transmit {
        let peer = &self.peers[place];
        let (link, to) = (peer.link, destination(peer));
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += bytes as u64;
        self.links.all[link].sent.0 += 1;
        self.links.all[link].sent.1 += bytes as u64;
        self.turn = (place + 1) % self.peers.len();
        Transmit { link, to, messages }
    }
}

/// Where on its link the peer is told; `None` is the group.
fn destination(peer: &Peer) -> Option<IpAddr> {
    match peer.reach {
        Reach::Group | Reach::Overheard => None,
        Reach::Alone { .. } | Reach::Configured => peer.addresses[peer.link],
    }
}
