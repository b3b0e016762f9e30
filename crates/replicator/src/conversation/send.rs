//! What is said, and when.

use std::time::Instant;

use super::places::Place;
use super::plain::{COPY_INTERVAL, Refresh};
use super::{
    ALIVE_INTERVAL, ANSWER_INTERVAL, COPY_IN_FLIGHT, Control, Conversation, Copy, Doubt, Sent,
};
use crate::claim::Claim;
use crate::config::Mode;
use crate::internal::Internal;
use crate::statistics::Counters;
use crate::wire::{self, Change, Flags};

impl Conversation {
    /// When something has to be said although nothing has happened.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let answer = self.answered_at.filter(|_| self.answer_wanted);
        // With something in line already, the clock can add nothing until the caller takes it.
        let last_sent = self.last_sent.filter(|_| self.controls.is_empty());
        let alive = last_sent.map(|at| at + ALIVE_INTERVAL);
        [
            answer.map(|at| at + ANSWER_INTERVAL),
            alive,
            self.copy_goes_on_at(),
            self.refresh.as_ref().and_then(Refresh::next_deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// When a copy that the clock holds up may go on.
    fn copy_goes_on_at(&self) -> Option<Instant> {
        if self.mode == Mode::Ftfw {
            return None;
        }
        if self.copy.is_some() {
            return self.pacing.next_deadline();
        }
        self.copied_at.filter(|_| self.copy_wanted && self.held_up).map(|at| at + COPY_INTERVAL)
    }

    /// Puts in line what the clock asks for.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        internal: &mut Internal,
        counters: &mut Counters,
    ) {
        self.pacing.refill(now);
        self.held_up = false;
        self.step_refresh(internal, now);
        self.repeat_overdue(now);
        if self.last_sent.is_none_or(|at| now >= at + ALIVE_INTERVAL) {
            self.say_something(counters);
        }
    }

    /// Answers the peer's greeting at once, and not at the next second as conntrackd does.
    pub(crate) fn handle_answer(&mut self, now: Instant, counters: &mut Counters) {
        let may = self.answered_at.is_none_or(|at| now >= at + ANSWER_INTERVAL);
        if self.answer_wanted && may {
            self.answer_wanted = false;
            self.answered_at = Some(now);
            self.say_something(counters);
        }
    }

    /// Says something as soon as an answer to a greeting may be given.
    pub(crate) fn answer_soon(&mut self) {
        self.answer_wanted = true;
    }

    pub(super) fn say_something(&mut self, counters: &mut Counters) {
        if !self.controls.is_empty() {
            return;
        }
        if self.ack_from.is_some() {
            self.acknowledge(counters);
        } else {
            self.push(Control::Alive, counters);
        }
    }

    /// Fills `datagram` with whole messages, fewer than `limit` bytes; returns how many.
    pub(crate) fn fill(
        &mut self,
        limit: usize,
        internal: &mut Internal,
        counters: &mut Counters,
        now: Instant,
        datagram: &mut Vec<u8>,
    ) -> u32 {
        let mut messages = 0;
        self.pacing.refill(now);
        while let Some(item) = self.pick(internal, counters, now) {
            let start = datagram.len();
            let written = self.write(item, internal, now, datagram);
            if written && datagram.len() < limit {
                self.sent(item, internal, counters);
                messages += 1;
                continue;
            }
            let too_long = written && start > 0;
            datagram.truncate(start);
            if too_long {
                self.put_back(item);
                break;
            }
            if written {
                counters.too_large += 1;
            } else {
                counters.unsendable += 1;
            }
            if let Sent::Object(object) = item {
                internal.let_go(object);
            }
        }
        self.note_caught_up();
        if messages > 0 {
            self.last_sent = Some(now);
            self.milestones.pass(self.next, self.resend.first(), now);
        }
        messages
    }

    /// What waits now makes up for what was missed, and counts as being copied until it has arrived.
    pub(crate) fn catch_up(&mut self) {
        let told = |number| matches!(self.resend.get(number), Some(Sent::Object(_)));
        let waits = !self.objects.is_empty() || self.resend.within(0, u64::MAX).any(told);
        self.catches_up |= waits;
        self.note_caught_up();
    }

    fn note_caught_up(&mut self) {
        if self.catches_up && self.objects.is_empty() {
            self.catches_up = false;
            self.copied_until = self.next;
        }
    }

    /// The next thing to say, taken out of its queue.
    pub(super) fn pick(
        &mut self,
        internal: &mut Internal,
        counters: &mut Counters,
        now: Instant,
    ) -> Option<Sent> {
        let open = self.established();
        loop {
            let open = open && self.resend.len() < self.flow_window();
            let control = self.controls.front().map(|(ticket, _)| *ticket);
            let object = self.objects.front().filter(|_| open).map(|(ticket, _)| *ticket);
            match (control, object) {
                (Some(control), Some(object)) if is_before(object, control) => {}
                (None, Some(_)) => {}
                (None, None) => {
                    if open && self.step_copy(internal, counters, now) {
                        continue;
                    }
                    return None;
                }
                (Some(_), _) => {
                    let (_, control) = self.controls.pop_front()?;
                    if control == Control::Alive && open && self.copy_begins(internal, now) {
                        continue;
                    }
                    return Some(Sent::Control(control));
                }
            }
            let (_, object) = self.objects.pop_front()?;
            self.places.set(object, Place::Nowhere);
            if internal.change(object).is_some() {
                return Some(Sent::Object(object));
            }
            internal.let_go(object);
        }
    }

    /// Puts the next flow of the full copy in line, or ends the copy. Returns whether there is
    /// something in line now.
    pub(super) fn step_copy(
        &mut self,
        internal: &mut Internal,
        counters: &mut Counters,
        now: Instant,
    ) -> bool {
        if self.copy.is_none() && self.copy_wanted && self.may_begin_copy(internal, now) {
            self.copy_wanted = false;
            self.copied_at = Some(now);
            let answers = std::mem::take(&mut self.waiting);
            self.copy = Some(Copy { cursor: 0, began: self.next, answers });
        }
        let window = self.copy_window();
        let Some(copy) = &mut self.copy else { return false };
        if self.resend.len() >= window || self.pacing.allowance == 0 {
            return false;
        }
        let began = copy.began;
        let heir = self.bequeaths;
        let bequest = self.bequest;
        let next = |copy: &mut Copy| internal.next_alive(&mut copy.cursor, heir);
        while let Some(object) = self.copy.as_mut().and_then(next) {
            if bequest.is_some_and(|bequest| bequest.age_s(object, internal, now).is_none()) {
                continue;
            }
            let told = match self.places.get(object) {
                Place::Sent(low) => self.resend.expand31(low) >= began,
                Place::InLine | Place::Nowhere => false,
            };
            if !told {
                self.queue(object, internal);
                if self.mode != Mode::Ftfw {
                    self.pacing.allowance -= 1;
                }
                return true;
            }
        }
        counters.bulks_sent += 1;
        self.bequeaths &= self.copy_wanted;
        self.told_all |= internal.is_whole();
        self.copied_until = self.next;
        let answers = self.copy.take().map(|copy| copy.answers).unwrap_or_default();
        for number in &answers {
            self.push(Control::Ack(*number, *number), counters);
        }
        self.say_copy_is_over(counters);
        !self.controls.is_empty() || (self.copy_wanted && self.may_begin_copy(internal, now))
    }

    /// Whether a copy in NOTRACK begins now, of which an ALIVE before it would seem to be the end.
    fn copy_begins(&mut self, internal: &Internal, now: Instant) -> bool {
        self.mode == Mode::Notrack
            && self.copy.is_none()
            && self.copy_wanted
            && self.pacing.allowance > 0
            && self.may_begin_copy(internal, now)
    }

    /// Copies that nobody acknowledges follow each other at a distance.
    /// A copy made in the middle of the role's first reading would pass for all there is.
    fn may_begin_copy(&mut self, internal: &Internal, now: Instant) -> bool {
        // What has ended unheard is not left to another router.
        if internal.is_partial() || (self.bequest.is_some() && internal.is_in_doubt()) {
            return false;
        }
        let may = self.mode == Mode::Ftfw
            || self.copied_at.is_none_or(|at| now.saturating_duration_since(at) >= COPY_INTERVAL);
        self.held_up |= !may;
        may
    }

    /// Changes may run further ahead of the peer than a copy: they are fewer and more urgent.
    pub(super) fn flow_window(&self) -> usize {
        (2 * COPY_IN_FLIGHT).min(self.resend_limit)
    }

    pub(super) fn copy_window(&self) -> usize {
        COPY_IN_FLIGHT.min(self.resend_limit.div_ceil(2))
    }

    /// Appends the message; `false` when the wire cannot carry it.
    pub(super) fn write(
        &self,
        item: Sent,
        internal: &Internal,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> bool {
        let mut flags = 0;
        if !self.greeted && self.mode == Mode::Ftfw {
            flags |= Flags::HELLO;
        }
        if self.say_back && self.mode == Mode::Ftfw {
            flags |= Flags::HELLO_BACK;
        }
        if matches!(item, Sent::Control(_)) {
            flags |= self.claim(internal).flags();
        }
        let number = self.next as u32;
        match item {
            // What has a flag is not for conntrackd in this mode. The number tells ours from others.
            Sent::Control(Control::Alive) if self.mode == Mode::Alarm => {
                let flags = Flags(flags | Flags::ALIVE);
                wire::encode_control(flags, number.wrapping_sub(1), out);
            }
            Sent::Object(object) => {
                let bequest = self.bequest.filter(|_| !internal.is_in_doubt());
                let age_s = bequest.and_then(|bequest| bequest.age_s(object, internal, now));
                return internal.write(object, age_s, (Flags(flags), number), out).is_ok();
            }
            Sent::Control(Control::Alive) => {
                wire::encode_control(Flags(flags | Flags::ALIVE), number, out);
            }
            Sent::Control(Control::Resync(_)) => {
                wire::encode_ranged(Flags(flags | Flags::RESYNC), number, (0, 0), out);
            }
            Sent::Control(Control::Ack(from, to)) => {
                wire::encode_ranged(Flags(flags | Flags::ACK), number, (from, to), out);
            }
            Sent::Control(Control::Nack(from, to)) => {
                wire::encode_ranged(Flags(flags | Flags::NACK), number, (from, to), out);
            }
        }
        true
    }

    fn claim(&self, internal: &Internal) -> Claim {
        match (internal.is_served(), self.told_all) {
            (false, _) => Claim::StandsBy,
            (true, false) => Claim::Serves,
            (true, true) => Claim::ToldAll,
        }
    }

    pub(super) fn sent(&mut self, item: Sent, internal: &mut Internal, counters: &mut Counters) {
        let number = self.next;
        let counts = self.mode != Mode::Alarm || matches!(item, Sent::Object(_));
        self.next += u64::from(counts);
        self.say_back = false;
        counters.messages_sent += 1;
        if self.mode != Mode::Ftfw {
            // Nobody will acknowledge it.
            if let Sent::Object(object) = item {
                internal.let_go(object);
            }
            return;
        }
        let repeats = match item {
            Sent::Control(Control::Alive) => false,
            // What a lost acknowledgement leaves open the peer says again in the end. They must not
            // push out what nobody else would say.
            Sent::Control(Control::Ack(..)) => self.resend.len() < self.resend_limit.div_ceil(2),
            Sent::Control(_) | Sent::Object(_) => true,
        };
        if !repeats {
            return;
        }
        if let Sent::Object(object) = item {
            self.places.set(object, Place::Sent(number as u32));
        }
        self.resend.put(number, item);
        while self.resend.len() > self.resend_limit || self.resend.span() > self.span_limit() {
            self.drop_oldest(internal, counters);
        }
    }

    /// Unlike conntrackd, what falls out of the queue is made up for by a full copy.
    pub(super) fn drop_oldest(&mut self, internal: &mut Internal, counters: &mut Counters) {
        let Some(oldest) = self.resend.pop_first() else { return };
        counters.resend_overflow += 1;
        match oldest {
            // No copy tells that something has ended.
            Sent::Object(object) if internal.change(object) == Some(Change::Delete) => {
                self.line_up(object);
            }
            Sent::Object(object) => {
                self.places.set(object, Place::Nowhere);
                internal.let_go(object);
                self.copy_wanted = true;
            }
            Sent::Control(Control::Nack(first, _)) => {
                self.close_gap(first);
                self.doubt = Doubt::Unbounded;
            }
            Sent::Control(Control::Resync(_)) => {
                self.open_resync = None;
                self.doubt = Doubt::Unbounded;
            }
            Sent::Control(Control::Ack(..) | Control::Alive) => {}
        }
    }

    /// Most numbers between the oldest and the newest message that are kept.
    fn span_limit(&self) -> usize {
        self.resend_limit.saturating_mul(2).max(LEAST_SPAN)
    }

    pub(super) fn put_back(&mut self, item: Sent) {
        // Before everything that waits already.
        match item {
            Sent::Object(object) => {
                self.places.set(object, Place::InLine);
                let first = self.first_ticket();
                self.objects.push_front((first, object));
            }
            Sent::Control(control) => {
                let first = self.first_ticket();
                self.controls.push_front((first, control));
            }
        }
    }

    fn first_ticket(&self) -> u32 {
        let control = self.controls.front().map(|(ticket, _)| *ticket);
        let object = self.objects.front().map(|(ticket, _)| *ticket);
        let first = match (control, object) {
            (Some(control), Some(object)) if is_before(object, control) => object,
            (Some(control), _) => control,
            (None, Some(object)) => object,
            (None, None) => self.ticket,
        };
        first.wrapping_sub(1)
    }
}

/// Whether ticket `a` was drawn before `b`.
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// A resend queue of this many numbers is never too long.
const LEAST_SPAN: usize = 16_384;
