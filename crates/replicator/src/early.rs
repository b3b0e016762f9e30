//! Messages that overtook others: kept for a moment, so that reordering is not taken for loss.
//!
//! conntrackd processes an early message at once and drops the late ones, which then have to be
//! asked for again. Where datagrams overtake each other often, that never ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::{Flags, Kind, Message};

/// How long a missing message may be late before it counts as lost.
const HOLD: Duration = Duration::from_millis(10);

/// Most bytes kept; more are processed as if the time were over.
const MAX_BYTES: usize = 256 * 1024;

/// What a kept message costs beside its body.
const OVERHEAD: usize = size_of::<Held>();

#[derive(Default)]
pub(crate) struct Early {
    /// In the order of their numbers.
    held: VecDeque<Held>,
    bytes: usize,
    /// When the first of those kept came: since then something before it is known to be missing.
    since: Option<Instant>,
    /// Something has been taken out since `since` was worked out.
    taken: bool,
}

pub(crate) struct Held {
    kind: Option<Kind>,
    flags: Flags,
    sequence: u32,
    range: (u32, u32),
    at: Instant,
    body: Box<[u8]>,
}

impl Held {
    pub(crate) fn message(&self) -> Message<'_> {
        Message {
            kind: self.kind,
            flags: self.flags,
            sequence: self.sequence,
            range: self.range,
            body: &self.body,
        }
    }
}

impl Early {
    /// Keeps an early message; `false` when there is no room. A repeated one is dropped.
    pub(crate) fn hold(&mut self, message: &Message<'_>, now: Instant) -> bool {
        if self.bytes + message.body.len() + OVERHEAD > MAX_BYTES {
            return false;
        }
        let later = |held: &Held| (held.sequence.wrapping_sub(message.sequence) as i32) > 0;
        let place = self.held.iter().rposition(|held| !later(held)).map_or(0, |before| before + 1);
        let repeated = place > 0 && self.held[place - 1].sequence == message.sequence;
        if !repeated {
            self.bytes += message.body.len() + OVERHEAD;
            let held = Held {
                kind: message.kind,
                flags: message.flags,
                sequence: message.sequence,
                range: message.range,
                at: now,
                body: message.body.into(),
            };
            self.held.insert(place, held);
            self.since.get_or_insert(now);
        }
        true
    }

    /// The kept message whose turn has come, `last` being the last number processed.
    pub(crate) fn next_after(&mut self, last: Option<u32>) -> Option<Held> {
        let first = self.held.front()?;
        let distance = first.sequence.wrapping_sub(last?) as i32;
        if distance <= 1 {
            return self.pop();
        }
        // A hole behind the one that has been filled is as old as what came after it.
        if std::mem::take(&mut self.taken) {
            self.since = self.held.iter().map(|held| held.at).min();
        }
        None
    }

    /// The first kept message, whatever is missing before it.
    pub(crate) fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.body.len() + OVERHEAD;
        self.taken = true;
        if self.held.is_empty() {
            self.since = None;
        }
        Some(held)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// When what is missing counts as lost.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + HOLD)
    }
}
