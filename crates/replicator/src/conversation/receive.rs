//! What is heard.

use std::time::Instant;

use super::places::Place;
use super::{Content, Control, Conversation, Doubt, LATE_GREETING, MAX_ANSWERS, Received, Sent};
use crate::config::Mode;
use crate::internal::Internal;
use crate::statistics::Counters;
use crate::wire::{Flags, Kind, Malformed, Message};

/// Acknowledgements without anything else that count as one message of the window.
const ACKS_TOGETHER: u32 = 32;

impl Conversation {
    /// The peer's last accepted number.
    pub(crate) fn last(&self) -> Option<u32> {
        self.last
    }

    /// Whether messages before this one are missing.
    pub(crate) fn is_early(&self, message: &Message<'_>) -> bool {
        match self.mode {
            Mode::Ftfw => {}
            Mode::Notrack => return self.is_early_numbered(message),
            Mode::Alarm => return false,
        }
        !message.flags.has(Flags::HELLO)
            && self.last.is_some_and(|last| message.sequence.wrapping_sub(last) as i32 > 1)
    }

    /// Takes one message. Acknowledgements and requests are dealt with here, the rest is returned.
    pub(crate) fn receive(
        &mut self,
        message: &Message<'_>,
        internal: &mut Internal,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<Received, Malformed> {
        self.hints.take(message, now);
        match self.mode {
            Mode::Ftfw => {}
            Mode::Notrack => return self.receive_numbered(message, counters, now),
            Mode::Alarm => return Self::receive_unnumbered(message, counters),
        }
        let content = content(message)?;
        let number = message.sequence;
        let greets = message.flags.has(Flags::HELLO);
        if greets && !self.note_greeting(number, now) {
            counters.before += 1;
            return Ok(Received { content: None, restarted: false });
        }
        let restarted = greets && !self.peer_greets;
        if greets {
            self.greeting(number, restarted);
        }
        if message.flags.has(Flags::HELLO_BACK) && !self.greeted {
            self.greeted = true;
            // The peer sends no flows until it hears us without a greeting.
            self.answer_wanted = true;
            self.answered_at = None;
        }
        let distance = match self.last {
            Some(last) if !greets => number.wrapping_sub(last) as i32,
            Some(_) | None => 1,
        };
        if distance < 1 {
            counters.before += 1;
            return Ok(Received { content: None, restarted });
        }
        if self.peer_greets && !greets {
            // What the peer has not seen of the time of its greeting it will never ask for.
            self.resend.discard(|sent| matches!(sent, Sent::Control(Control::Ack(..))));
        }
        self.peer_greets = greets;
        self.heed(content, internal, counters);
        if let (Some(last), 2..) = (self.last, distance) {
            counters.lost += distance as u64 - 1;
            if let Some(from) = self.ack_from {
                self.push(Control::Ack(from, last), counters);
            }
            // Before our greeting is over the peer would acknowledge a NACK that it never got;
            // what is lost until then comes with the resync after it.
            if self.greeted {
                self.ask_again(last.wrapping_add(1), number.wrapping_sub(1), counters, now);
            }
            self.window = self.ack_window;
            self.ack_from = None;
        }
        self.ack_from.get_or_insert(number);
        self.last = Some(number);
        // If each acknowledgement made another necessary, it would never end.
        let counts = !matches!(content, Content::Ack(..)) || self.acks_heard >= ACKS_TOGETHER;
        self.acks_heard = if counts { 0 } else { self.acks_heard + 1 };
        self.window = self.window.saturating_sub(u32::from(counts));
        match content {
            Content::Resync => self.hold_back(number, counters),
            Content::Nack(..) => self.acknowledge(counters),
            _ if counts && self.window == 0 => self.acknowledge(counters),
            _ => {}
        }
        Ok(Received { content: Some(content), restarted })
    }

    /// Forgets the peer's number, so that the next message is taken whatever it is. For a peer
    /// that seems to count from somewhere else.
    pub(crate) fn rearm(&mut self) {
        self.last = None;
        self.ack_from = None;
    }

    /// Whether a greeting is news. Its number is not to be compared with the last one, since a
    /// restarted peer may count from less; but one from among the greetings of just before is a
    /// late or repeated datagram and no restart.
    fn note_greeting(&mut self, number: u32, now: Instant) -> bool {
        match &mut self.greetings {
            Some((first, last, at)) if now.saturating_duration_since(*at) < LATE_GREETING => {
                let after_first = number.wrapping_sub(*first) as i32 >= 0;
                // What has come after the greetings is of the same row.
                let newest = self.last.filter(|heard| heard.wrapping_sub(*last) as i32 > 0);
                let after_last = number.wrapping_sub(newest.unwrap_or(*last)) as i32 > 0;
                if after_first && !after_last {
                    return false;
                }
                if !after_first {
                    *first = number;
                }
                (*last, *at) = (number, now);
            }
            greetings => *greetings = Some((number, number, now)),
        }
        true
    }

    fn greeting(&mut self, number: u32, restarted: bool) {
        self.say_back = true;
        self.answer_wanted = true;
        if self.ack_from.is_some_and(|from| (number.wrapping_sub(from) as i32) < 0) {
            self.ack_from = None;
        }
        if restarted {
            self.ack_from = None;
            self.window = self.ack_window;
            self.waiting.clear();
            self.copy = None;
            self.told_all = false;
        }
        // The peer knows none of these numbers. Flows are said again under new ones.
        self.controls.clear();
        // What was asked for and is forgotten with them has not come.
        if self.open_resync.take().is_some() || !self.open_nacks.is_empty() {
            self.doubt = Doubt::Unbounded;
        }
        self.open_nacks.clear();
        self.repeat(false);
    }

    fn heed(&mut self, content: Content, internal: &mut Internal, counters: &mut Counters) {
        match content {
            Content::Ack(from, to) => {
                counters.acks_received += 1;
                self.acknowledged(from, to, internal);
            }
            Content::Nack(from, to) => {
                counters.nacks_received += 1;
                for number in self.range(from, to) {
                    let Some(sent) = self.resend.take(number) else { continue };
                    counters.resent += 1;
                    match sent {
                        Sent::Object(object) => self.line_up(object),
                        Sent::Control(control) => self.enqueue(control),
                    }
                }
            }
            Content::Resync => {
                counters.resyncs_received += 1;
                self.copy_wanted = true;
            }
            Content::Flow(_) | Content::Expectation(_) | Content::Alive => {}
        }
    }

    fn acknowledged(&mut self, from: u32, to: u32, internal: &mut Internal) {
        for number in self.range(from, to) {
            let Some(sent) = self.resend.take(number) else { continue };
            match sent {
                Sent::Object(object) => {
                    self.places.set(object, Place::Nowhere);
                    internal.let_go(object);
                }
                Sent::Control(Control::Nack(first, _)) => {
                    self.close_gap(first);
                    // The peer's resend queue cannot have held on to it that long.
                    let since = self.last.map_or(0, |last| last.wrapping_sub(first));
                    if since as usize >= self.resend_limit {
                        self.doubt = Doubt::Unbounded;
                    }
                }
                Sent::Control(Control::Resync(generation)) => {
                    if self.open_resync == Some(generation) {
                        self.open_resync = None;
                    }
                }
                Sent::Control(Control::Ack(..) | Control::Alive) => {}
            }
        }
    }

    /// Those of our numbers `from..=to` that may wait for acknowledgement.
    fn range(&self, from: u32, to: u32) -> std::ops::Range<u64> {
        self.resend.within(self.expand(from), self.expand(to))
    }

    /// The long form of one of our own numbers.
    fn expand(&self, number: u32) -> u64 {
        let distance = number.wrapping_sub(self.next as u32) as i32;
        self.next.wrapping_add_signed(i64::from(distance))
    }

    /// Acknowledges what came before the request `number`, and keeps the request for later.
    fn hold_back(&mut self, number: u32, counters: &mut Counters) {
        if let Some(from) = self.ack_from.take().filter(|from| *from != number) {
            self.push(Control::Ack(from, number.wrapping_sub(1)), counters);
        }
        self.window = self.ack_window;
        if self.waiting.len() == MAX_ANSWERS {
            self.waiting.remove(0);
        }
        self.waiting.push(number);
    }

    pub(super) fn acknowledge(&mut self, counters: &mut Counters) {
        if let (Some(from), Some(last)) = (self.ack_from.take(), self.last) {
            self.push(Control::Ack(from, last), counters);
        }
        self.window = self.ack_window;
    }
}

/// What a message says, if type, flags and range are acceptable.
pub(super) fn content(message: &Message<'_>) -> Result<Content, Malformed> {
    const GREETING: u8 = Flags::HELLO | Flags::HELLO_BACK;
    let flags = message.flags;
    let (from, to) = message.range;
    let in_order = to.wrapping_sub(from) as i32 >= 0;
    match message.kind {
        Some(Kind::Flow(change)) if flags.0 & !GREETING == 0 => Ok(Content::Flow(change)),
        Some(Kind::Expectation(change)) if flags.0 & !GREETING == 0 => {
            Ok(Content::Expectation(change))
        }
        Some(Kind::Control) if flags.has(Flags::ACK) && in_order => Ok(Content::Ack(from, to)),
        Some(Kind::Control) if flags.has(Flags::ACK) => Err(Malformed::BadHeader),
        Some(Kind::Control) if flags.has(Flags::NACK) && in_order => Ok(Content::Nack(from, to)),
        Some(Kind::Control) if flags.has(Flags::NACK) => Err(Malformed::BadHeader),
        Some(Kind::Control) if flags.has(Flags::RESYNC) => Ok(Content::Resync),
        Some(Kind::Control) if flags.has(Flags::ALIVE) => Ok(Content::Alive),
        Some(Kind::Flow(_) | Kind::Expectation(_) | Kind::Control) | None => {
            Err(Malformed::BadHeader)
        }
    }
}
