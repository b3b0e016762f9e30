//! TCP: messages out of a stream of bytes, and what a lost connection means.
//!
//! A router opens a connection for what it says itself, so a pair has two. The only frame is each
//! message's length.

use std::time::Instant;

use super::Replicator;
use crate::config::Mode;
use crate::event::{Direction, Origin, Role};
use crate::resync::Resync;
use crate::wire::{HEADER, Malformed, Messages};

/// What has come of a message whose rest is still to come: less than the largest length there is.
#[derive(Default)]
pub(super) struct Stream {
    begun: Vec<u8>,
    /// A length made no sense, so nobody knows where the next message begins.
    broken: bool,
}

/// What stands at the beginning of some bytes.
enum Front {
    /// A message of this many bytes.
    Whole(usize),
    /// Less than a message.
    Part,
    /// Nothing that could be one.
    Broken,
}

impl Replicator {
    /// Takes a piece of a stream; messages may begin and end anywhere in it. Returns `false` when
    /// the stream cannot be understood any more: its connection is to be closed.
    #[must_use = "a stream that cannot be understood has to be closed"]
    pub fn handle_stream(&mut self, origin: Origin, bytes: &[u8], now: Instant) -> bool {
        let Some(place) = self.known_on_link(origin) else {
            self.counters.datagrams_foreign += 1;
            return false;
        };
        self.heard(place, now);
        self.counters.datagrams_received += 1;
        self.counters.bytes_received += bytes.len() as u64;
        self.links.count_received(origin.link, bytes.len());
        let stream = &mut self.peers[place].stream;
        if stream.broken {
            return false;
        }
        let mut begun = std::mem::take(&mut stream.begun);
        if begun.is_empty() {
            let used = self.take_messages(place, origin, bytes, now);
            begun.extend_from_slice(&bytes[used..]);
        } else {
            begun.extend_from_slice(bytes);
            let used = self.take_messages(place, origin, &begun, now);
            begun.drain(..used);
        }
        let stream = &mut self.peers[place].stream;
        if stream.broken {
            begun = Vec::new();
        }
        stream.begun = begun;
        let sound = !stream.broken;
        self.settle(now);
        sound
    }

    /// Takes the whole messages; returns how many bytes they were.
    fn take_messages(&mut self, place: usize, origin: Origin, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        loop {
            match front(&bytes[used..]) {
                Front::Whole(length) => {
                    for message in Messages::of(&bytes[used..used + length]) {
                        match message {
                            Ok(message) => self.sort(place, origin, &message, now),
                            Err(malformed) => self.count_malformed(malformed),
                        }
                    }
                    used += length;
                }
                Front::Part => return used,
                Front::Broken => {
                    self.count_malformed(Malformed::BadSize);
                    self.peers[place].stream.broken = true;
                    return used;
                }
            }
        }
    }

    /// A connection stands. Over a new one of ours everything is said again that the peer has not
    /// acknowledged, since it may have been lost with the one before.
    pub fn connection_began(&mut self, origin: Origin, direction: Direction, now: Instant) {
        let Some(place) = self.known_on_link(origin) else { return };
        self.peers[place].stream = Stream::default();
        if direction == Direction::Outgoing {
            let peer = &mut self.peers[place];
            peer.conversation.say_again();
            if self.config.mode == Mode::Notrack {
                // Nothing is acknowledged.
                if let Resync::Asked { cause, attempts, .. } = peer.resync {
                    peer.resync = Resync::Wanted { at: None, cause, attempts };
                }
                if self.role == Role::Active {
                    peer.conversation.want_copy();
                }
            }
        }
        self.settle(now);
    }

    /// A connection has ended: what half of a message has come of it will not be completed.
    pub fn connection_ended(&mut self, origin: Origin, direction: Direction, now: Instant) {
        if let Some(place) = self.known_on_link(origin)
            && direction == Direction::Incoming
        {
            self.peers[place].stream = Stream::default();
        }
        self.settle(now);
    }

    /// The configured peer with this address.
    fn known_on_link(&self, origin: Origin) -> Option<usize> {
        let source = origin.source.to_canonical();
        if self.links.is_open(origin.link)? {
            return None;
        }
        self.peers.iter().position(|peer| peer.addresses[origin.link] == Some(source))
    }
}

fn front(bytes: &[u8]) -> Front {
    let Some(&[_, _, high, low]) = bytes.first_chunk() else { return Front::Part };
    let length = usize::from(u16::from_be_bytes([high, low]));
    match length {
        0..HEADER => Front::Broken,
        _ if length > bytes.len() => Front::Part,
        _ => Front::Whole(length),
    }
}
