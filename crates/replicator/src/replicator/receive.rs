//! What the peers say.

use std::time::{Duration, Instant};

use super::Replicator;
use super::peers::Whose;
use crate::claim::Claim;
use crate::config::Mode;
use crate::conversation::Content;
use crate::event::{Origin, Role};
use crate::external::Applied;
use crate::resync::{Cause, Resync};
use crate::wire::{Malformed, Message, Messages, decode_flow};

/// How long late messages may come, and no others, before the peer's numbers are taken anew.
const STUCK: Duration = Duration::from_secs(3);

impl Replicator {
    /// Takes a datagram.
    pub fn handle_datagram(&mut self, origin: Origin, datagram: &[u8], now: Instant) {
        let place = match self.recognise(origin, datagram, now) {
            Whose::Peer(place) => Some(place),
            Whose::Nonsense => None,
            Whose::Stranger => {
                self.counters.datagrams_foreign += 1;
                return self.settle(now);
            }
        };
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += datagram.len() as u64;
        self.links.count_received(origin.link, datagram.len());
        for message in Messages::of(datagram) {
            match (message, place) {
                (Ok(message), Some(place)) => self.sort(place, origin, &message, now),
                (Ok(message), None) if message.kind.is_none() => {
                    self.count_malformed(Malformed::BadHeader);
                }
                (Ok(_), None) => self.counters.messages_received += 1,
                (Err(malformed), _) => self.count_malformed(malformed),
            }
        }
        self.settle(now);
    }

    /// Processes a message when its turn has come, and those that waited for it.
    pub(super) fn sort(
        &mut self,
        place: usize,
        origin: Origin,
        message: &Message<'_>,
        now: Instant,
    ) {
        self.counters.messages_received += 1;
        let peer = &mut self.peers[place];
        let early = peer.conversation.is_early(message);
        if early && peer.early.hold(message, now) {
            return;
        }
        if early {
            self.give_up_waiting(place, now);
        }
        if self.process(place, message, now) {
            self.follow(place, origin);
        }
        loop {
            let peer = &mut self.peers[place];
            let Some(held) = peer.early.next_after(peer.conversation.last()) else { break };
            self.process(place, &held.message(), now);
        }
    }

    /// What is missing before the kept messages counts as lost.
    pub(super) fn give_up_waiting(&mut self, place: usize, now: Instant) {
        while let Some(held) = self.peers[place].early.pop() {
            self.process(place, &held.message(), now);
        }
    }

    /// Returns whether the message was news.
    fn process(&mut self, place: usize, message: &Message<'_>, now: Instant) -> bool {
        let peer = &mut self.peers[place];
        let lost = self.counters.lost;
        let received =
            peer.conversation.receive(message, &mut self.internal, &mut self.counters, now);
        peer.lost += self.counters.lost - lost;
        let outcome = received.and_then(|received| {
            if received.restarted {
                self.peers[place].early.clear();
                self.restarted(place);
            }
            self.heed(place, received.content, message, now)?;
            if received.content.is_some() {
                self.note_claim(place, message, now);
            }
            Ok(received.content.is_some())
        });
        outcome.unwrap_or_else(|malformed| {
            self.count_malformed(malformed);
            false
        })
    }

    fn heed(
        &mut self,
        place: usize,
        content: Option<Content>,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<(), Malformed> {
        let body = message.body;
        let peer = &mut self.peers[place];
        let Some(content) = content else {
            // The numbers of a peer in ALARM stand still, and mean nothing.
            let mode = self.config.mode;
            let differs = mode == Mode::Notrack && peer.conversation.suspicion(now).is_some();
            if mode == Mode::Alarm || differs {
                return Ok(());
            }
            let since = *peer.stuck_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= STUCK {
                peer.stuck_since = None;
                peer.conversation.rearm();
                self.want_resync(place, Cause::Appeared);
                if self.role == Role::Active {
                    // What it has asked for meanwhile was not heard.
                    self.speaker(place).want_copy();
                }
            }
            return Ok(());
        };
        peer.stuck_since = None;
        if let Resync::Asked { progress_at, .. } = &mut peer.resync
            && matches!(content, Content::Flow(_) | Content::Expectation(_))
        {
            *progress_at = now;
        }
        match content {
            Content::Flow(change) => {
                let index = peer.index;
                let flow = decode_flow(body).map_err(|_| Malformed::BadPayload)?;
                self.consider_inheritance(place, (change, &flow), body, now);
                let now_s = self.seconds(now);
                let applied = self.external.apply(index, change, &flow, now_s, &mut self.counters);
                if matches!(applied, Applied::Again(_)) {
                    self.peers[place].conversation.told_again(now);
                }
                if let Applied::Put(slot) | Applied::Again(slot) = applied {
                    self.consider_uptake(place, slot);
                }
            }
            Content::Expectation(change) => {
                let index = peer.index;
                self.heed_expectation(index, change, body, now)?;
            }
            Content::Resync => {
                // One that serves another group asks as well.
                if !matches!(Claim::of(message.flags), Some(Claim::Serves | Claim::ToldAll)) {
                    self.note_backup(place, now);
                }
                self.speaker(place).want_copy();
            }
            Content::Ack(..) | Content::Nack(..) | Content::Alive => {}
        }
        Ok(())
    }

    pub(super) fn count_malformed(&mut self, malformed: Malformed) {
        self.counters.malformed += 1;
        *match malformed {
            Malformed::Truncated => &mut self.counters.malformed_truncated,
            Malformed::BadSize => &mut self.counters.malformed_size,
            Malformed::WrongVersion => &mut self.counters.malformed_version,
            Malformed::BadHeader => &mut self.counters.malformed_header,
            Malformed::BadPayload => &mut self.counters.malformed_payload,
        } += 1;
    }
}
