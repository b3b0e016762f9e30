//! What waits to be said.

use std::time::{Duration, Instant};

use super::places::Place;
use super::{Control, Conversation, Doubt, Gap, MAX_CONTROLS, Sent};
use crate::config::Mode;
use crate::internal::{Internal, Object};
use crate::statistics::Counters;

/// Most messages of one provocation.
const PROVOCATION: u32 = 1024;

/// What is not acknowledged for this long is said again. A peer that has much to say itself may not
/// get round to acknowledging for a while, but has been provoked to by then.
const SAID_AGAIN: Duration = Duration::from_secs(10);

/// Time between two looks for such messages.
const LOOK_BACK: Duration = Duration::from_secs(1);

impl Conversation {
    /// Puts an object in line, unless it is already there; a number under which it is waiting for
    /// acknowledgement is forgotten, because the newer message replaces the older one.
    pub(crate) fn queue(&mut self, object: Object, internal: &mut Internal) {
        match self.places.get(object) {
            Place::InLine => return,
            Place::Sent(low) => drop(self.resend.take(self.resend.expand31(low))),
            Place::Nowhere => internal.hold(object),
        }
        self.line_up(object);
    }

    /// Drops what is waiting about an object of which nothing is to be said any more.
    pub(crate) fn forget(&mut self, object: Object, internal: &mut Internal) {
        if let Place::Sent(low) = self.places.get(object) {
            self.resend.take(self.resend.expand31(low));
            self.places.set(object, Place::Nowhere);
            internal.let_go(object);
        }
    }

    /// What was asked for is not waited for any more.
    pub(crate) fn ask_no_more(&mut self) {
        self.open_resync = None;
    }

    /// Asks the peer for everything it has.
    pub(crate) fn ask_for_everything(
        &mut self,
        generation: u32,
        counters: &mut Counters,
        now: Instant,
    ) {
        self.expect_everything(generation, now);
        self.request(generation, counters);
    }

    /// Puts the request for everything in line.
    pub(crate) fn request(&mut self, generation: u32, counters: &mut Counters) {
        counters.resyncs_sent += 1;
        self.push(Control::Resync(generation), counters);
    }

    /// Everything is asked for, here or by way of the group.
    pub(crate) fn expect_everything(&mut self, generation: u32, now: Instant) {
        self.open_resync = Some(generation);
        self.asked_at = Some(now);
        self.told_since = false;
        self.doubt = Doubt::None;
    }

    /// Sends everything we have, as soon as the peer knows us.
    pub(crate) fn want_copy(&mut self) {
        self.copy_wanted = true;
    }

    /// Whether a copy has been asked for and not begun.
    pub(crate) fn is_asked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What is told unasked is not needed.
    pub(crate) fn want_no_copy(&mut self) {
        self.copy_wanted = false;
    }

    /// Messages that make the peer's window run full, so that it acknowledges now and not when it
    /// has nothing else to do, which a busy conntrackd never has.
    pub(crate) fn provoke(&mut self, counters: &mut Counters) {
        if self.mode != Mode::Ftfw {
            return;
        }
        for _ in 0..self.ack_window.min(PROVOCATION) {
            self.push(Control::Alive, counters);
        }
    }

    /// The peer has been silent for so long that nothing is kept for it.
    pub(crate) fn peer_is_gone(&mut self, internal: &mut Internal) {
        while let Some((_, object)) = self.objects.pop_front() {
            internal.let_go(object);
        }
        while let Some(sent) = self.resend.pop_first() {
            if let Sent::Object(object) = sent {
                internal.let_go(object);
            }
        }
        self.places.clear();
        self.controls.clear();
        self.copy = None;
        self.copy_wanted = false;
        self.catches_up = false;
        self.waiting.clear();
        self.open_nacks.clear();
        self.open_resync = None;
    }

    /// Nothing more is said of any object.
    pub(crate) fn drop_objects(&mut self, internal: &mut Internal) {
        while let Some((_, object)) = self.objects.pop_front() {
            self.places.set(object, Place::Nowhere);
            internal.let_go(object);
        }
        for number in self.resend.within(0, u64::MAX) {
            if let Some(Sent::Object(object)) = self.resend.get(number) {
                self.resend.take(number);
                self.places.set(object, Place::Nowhere);
                internal.let_go(object);
            }
        }
    }

    /// Another router is the peer now: begin from the start, with numbers that go on.
    pub(crate) fn new_peer(&mut self, internal: &mut Internal) {
        self.peer_is_gone(internal);
        self.hints.forget();
        self.greeted = false;
        self.peer_greets = false;
        self.greetings = None;
        self.say_back = false;
        self.told_all = false;
        self.rearm();
    }

    /// Puts an object that this conversation holds at the end of the line.
    pub(super) fn line_up(&mut self, object: Object) {
        self.places.set(object, Place::InLine);
        self.ticket = self.ticket.wrapping_add(1);
        self.objects.push_back((self.ticket, object));
    }

    /// Whatever was not acknowledged may have been lost with a connection.
    pub(crate) fn say_again(&mut self) {
        self.repeat(true);
        self.answer_soon();
    }

    /// Empties the resend queue; the objects in it are said again under new numbers, and the
    /// control messages too if `controls`.
    pub(super) fn repeat(&mut self, controls: bool) {
        while let Some(sent) = self.resend.pop_first() {
            match sent {
                Sent::Object(object) => self.line_up(object),
                Sent::Control(control) if controls => self.enqueue(control),
                Sent::Control(_) => {}
            }
        }
    }

    /// Says again, under new numbers, what the peer has neither acknowledged nor asked for again in
    /// a long time: it may have taken it for something else, or forgotten it with a greeting.
    pub(super) fn repeat_overdue(&mut self, now: Instant) {
        if self.looked_back_at.is_some_and(|at| now < at + LOOK_BACK) {
            return;
        }
        self.looked_back_at = Some(now);
        for number in self.resend.within(0, u64::MAX) {
            let sent_at = self.milestones.sent_at(number);
            if sent_at.is_none_or(|at| now < at + SAID_AGAIN) {
                break;
            }
            match self.resend.get(number) {
                // A request is acknowledged after its answer, and repeated by who waits for that.
                Some(Sent::Control(Control::Resync(open))) if self.open_resync == Some(open) => {}
                Some(Sent::Control(Control::Resync(_))) => drop(self.resend.take(number)),
                Some(Sent::Control(control)) => {
                    self.resend.take(number);
                    self.enqueue(control);
                }
                Some(Sent::Object(object)) => {
                    self.resend.take(number);
                    self.line_up(object);
                }
                None => {}
            }
        }
    }

    /// Asks for the missing messages.
    pub(super) fn ask_again(&mut self, from: u32, to: u32, counters: &mut Counters, now: Instant) {
        if self.push(Control::Nack(from, to), counters) {
            let messages = to.wrapping_sub(from).saturating_add(1);
            self.open_nacks.push_back(Gap { first: from, messages, since: now });
        } else {
            self.doubt = Doubt::Unbounded;
        }
    }

    /// What begins with this number is asked for no more.
    pub(super) fn close_gap(&mut self, from: u32) {
        if let Some(index) = self.open_nacks.iter().position(|gap| gap.first == from) {
            self.open_nacks.remove(index);
        }
    }

    /// Puts a message in line, if there is room; returns whether there was.
    pub(super) fn push(&mut self, control: Control, counters: &mut Counters) -> bool {
        if self.controls.len() >= MAX_CONTROLS {
            counters.control_overflow += 1;
            return false;
        }
        if let Control::Ack(from, to) = control
            && self.extend_ack(from, to)
        {
            return true;
        }
        match control {
            Control::Ack(..) => counters.acks_sent += 1,
            Control::Nack(..) => counters.nacks_sent += 1,
            Control::Resync(_) | Control::Alive => {}
        }
        self.enqueue(control);
        true
    }

    /// One acknowledgement for two, while the first has not been sent. Not past an object: what an
    /// acknowledgement of a request promises is said before it.
    fn extend_ack(&mut self, from: u32, to: u32) -> bool {
        if let Some((_, Control::Ack(_, last))) = self.controls.back_mut()
            && self.objects.is_empty()
            && last.wrapping_add(1) == from
        {
            *last = to;
            return true;
        }
        false
    }

    pub(super) fn enqueue(&mut self, control: Control) {
        self.ticket = self.ticket.wrapping_add(1);
        self.controls.push_back((self.ticket, control));
    }
}
