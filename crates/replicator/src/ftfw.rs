//! The conversation with the peer: conntrackd's FTFW mode, one direction sending, one receiving.
//!
//! ```text
//!            hello_back heard                     hello heard
//!   Say ────────────────────────▶ Done    peer: ─────────────▶ greeting ──▶ (no hello) ──▶ known
//! ```
//!
//! Every message is numbered, also acknowledgements. What was sent and not acknowledged waits in
//! the resend queue: flows by reference, so that a repetition carries the newest state, and control
//! messages. A gap in the peer's numbers is asked for again at once.
//!
//! Two rules go beyond conntrackd and cost it nothing:
//!
//! - *Flows wait until both hellos are over.* A message that carries HELLO is taken without a look
//!   at its number, so one lost beside it would be acknowledged and never repeated.
//! - *An acknowledgement of a request comes after its answer.* conntrackd sends in the order of its
//!   queue, hence its acknowledgement of a RESYNC (a NACK) follows the flows that answer it. We
//!   promise the same, although our full copy is paced: the number of a RESYNC is left out of
//!   acknowledgements until the copy has been sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::internal::Internal;
use crate::statistics::Counters;
use crate::table::Slot;
use crate::wire::{self, Change, Flags, Kind, Malformed, Message};

/// Longest time without sending anything; conntrackd's is the same and fixed.
pub(crate) const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Most control messages waiting to be sent; more are dropped and counted.
const MAX_CONTROLS: usize = 2048;

/// Most requests for everything that are remembered to be acknowledged after their answer.
const MAX_ANSWERS: usize = 8;

/// A full copy pauses while this many messages are unacknowledged: about 400 KB on the wire, which
/// fits the receive buffers that conntrackd's documentation asks for.
const COPY_IN_FLIGHT: usize = 2048;

/// How long a greeting may be under way.
const LATE_GREETING: Duration = Duration::from_secs(2);

/// Least time between two answers to greetings.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Conversation {
    /// Our greeting has been answered.
    greeted: bool,
    /// The peer's last message carried a greeting: it may not know us yet.
    peer_greets: bool,
    /// First and last number of the peer's greetings, and when the last one came.
    greetings: Option<(u32, u32, Instant)>,
    say_back: bool,
    answer_wanted: bool,
    answered_at: Option<Instant>,
    /// Number of the next message; its low half is on the wire, so ranges never wrap in here.
    next: u64,
    /// The peer's last accepted number.
    last: Option<u32>,
    /// Its first number that is not acknowledged yet.
    ack_from: Option<u32>,
    window: u32,
    ack_window: u32,
    controls: VecDeque<(u64, Control)>,
    flows: VecDeque<(u64, Slot)>,
    /// Orders the two queues against each other.
    ticket: u64,
    resend: BTreeMap<u64, Sent>,
    resend_limit: usize,
    copy: Option<Copy>,
    copy_wanted: bool,
    /// Numbers of requests whose answer has not begun.
    waiting: Vec<u32>,
    last_sent: Option<Instant>,
    /// Requests to resend that have not been acknowledged.
    open_nacks: usize,
    /// The resync that has been asked for and not acknowledged.
    open_resync: Option<u32>,
    /// Something was lost that no repetition will bring.
    doubt: bool,
}

/// A full copy being sent.
struct Copy {
    next: Slot,
    /// Our number when it began: what was sent since need not be sent again.
    began: u64,
    answers: Vec<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Control {
    Ack(u32, u32),
    Nack(u32, u32),
    /// Carries the generation it was asked for.
    Resync(u32),
    Alive,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sent {
    Flow(Slot),
    Control(Control),
}

/// What a message means, after its header has been checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    Flow(Change),
    Expectation,
    Ack(u32, u32),
    Nack(u32, u32),
    Resync,
    Alive,
}

/// What the conversation made of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Received {
    /// What to do with it; `None` for a late or repeated message.
    pub(crate) content: Option<Content>,
    /// The peer has started since its last message.
    pub(crate) restarted: bool,
}

impl Conversation {
    pub(crate) fn new(first: u32, ack_window: u32, resend_limit: usize) -> Self {
        let ack_window = ack_window.max(1);
        Self {
            greeted: false,
            peer_greets: false,
            greetings: None,
            say_back: false,
            answer_wanted: false,
            answered_at: None,
            next: u64::from(first) + (1 << 32),
            last: None,
            ack_from: None,
            window: ack_window,
            ack_window,
            controls: VecDeque::new(),
            flows: VecDeque::new(),
            ticket: 0,
            resend: BTreeMap::new(),
            resend_limit: resend_limit.max(1),
            copy: None,
            copy_wanted: false,
            waiting: Vec::new(),
            last_sent: None,
            open_nacks: 0,
            open_resync: None,
            doubt: false,
        }
    }

    /// Whether both sides know each other, so that flows may be sent and losses are noticed.
    pub(crate) fn established(&self) -> bool {
        self.greeted && !self.peer_greets && self.last.is_some()
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.resend.len()
    }

    pub(crate) fn waiting_to_send(&self) -> usize {
        self.flows.len() + self.controls.len()
    }

    pub(crate) fn gaps(&self) -> usize {
        self.open_nacks
    }

    /// Whether the resync asked for as `generation` is still to be acknowledged.
    pub(crate) fn resync_open(&self, generation: u32) -> bool {
        self.open_resync == Some(generation)
    }

    /// Whether a loss could not be repaired since this was last asked.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// Whether the peer owes us an acknowledgement that something waits for.
    pub(crate) fn waits_for_peer(&self) -> bool {
        let copy_due = self.copy.is_some() || self.copy_wanted || !self.flows.is_empty();
        self.open_nacks > 0
            || self.open_resync.is_some()
            || !self.greeted
            || (copy_due && (self.peer_greets || self.resend.len() >= self.copy_window()))
    }

    // ---- receiving ----

    /// The peer's last accepted number.
    pub(crate) fn last(&self) -> Option<u32> {
        self.last
    }

    /// Whether messages before this one are missing.
    pub(crate) fn is_early(&self, message: &Message<'_>) -> bool {
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
        let content = content(message)?;
        let number = message.sequence;
        let greets = message.flags.has(Flags::HELLO);
        if greets && !self.note_greeting(number, now) {
            counters.before += 1;
            return Ok(Received { content: None, restarted: false });
        }
        let restarted = greets && !self.peer_greets;
        if greets {
            self.greeting(number, restarted, internal);
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
            self.resend.retain(|_, sent| !matches!(sent, Sent::Control(Control::Ack(..))));
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
                self.push(Control::Nack(last.wrapping_add(1), number.wrapping_sub(1)), counters);
            }
            self.window = self.ack_window;
            self.ack_from = None;
        }
        self.ack_from.get_or_insert(number);
        self.last = Some(number);
        self.window = self.window.saturating_sub(1);
        match content {
            Content::Resync => self.hold_back(number, counters),
            Content::Nack(..) => self.acknowledge(counters),
            _ if self.window == 0 => self.acknowledge(counters),
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
                let after_last = number.wrapping_sub(*last) as i32 > 0;
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

    fn greeting(&mut self, number: u32, restarted: bool, internal: &mut Internal) {
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
        }
        // The peer knows none of these numbers. Flows are said again under new ones.
        self.controls.clear();
        self.open_nacks = 0;
        self.open_resync = None;
        for (_, sent) in std::mem::take(&mut self.resend) {
            if let Sent::Flow(slot) = sent {
                self.queue_again(slot, internal);
            }
        }
    }

    fn heed(&mut self, content: Content, internal: &mut Internal, counters: &mut Counters) {
        match content {
            Content::Ack(from, to) => {
                counters.acks_received += 1;
                self.acknowledged(from, to, internal);
            }
            Content::Nack(from, to) => {
                counters.nacks_received += 1;
                for (_, sent) in self.extract(from, to) {
                    counters.resent += 1;
                    match sent {
                        Sent::Flow(slot) => self.queue_again(slot, internal),
                        Sent::Control(control) => self.enqueue(control),
                    }
                }
            }
            Content::Resync => {
                counters.resyncs_received += 1;
                self.copy_wanted = true;
            }
            Content::Flow(_) | Content::Expectation | Content::Alive => {}
        }
    }

    fn acknowledged(&mut self, from: u32, to: u32, internal: &mut Internal) {
        for (_, sent) in self.extract(from, to) {
            match sent {
                Sent::Flow(slot) => {
                    if let Some(entry) = internal.table.get_mut(slot) {
                        entry.sent = 0;
                    }
                    internal.release(slot);
                }
                Sent::Control(Control::Nack(first, _)) => {
                    self.open_nacks = self.open_nacks.saturating_sub(1);
                    // The peer's resend queue cannot have held on to it that long.
                    let since = self.last.map_or(0, |last| last.wrapping_sub(first));
                    if since as usize >= self.resend_limit {
                        self.doubt = true;
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

    /// Takes the range out of the resend queue.
    fn extract(&mut self, from: u32, to: u32) -> BTreeMap<u64, Sent> {
        let (from, to) = (self.expand(from), self.expand(to));
        if from > to || self.resend.is_empty() {
            return BTreeMap::new();
        }
        let mut taken = self.resend.split_off(&from);
        let mut later = taken.split_off(&(to + 1));
        self.resend.append(&mut later);
        taken
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

    fn acknowledge(&mut self, counters: &mut Counters) {
        if let (Some(from), Some(last)) = (self.ack_from.take(), self.last) {
            self.push(Control::Ack(from, last), counters);
        }
        self.window = self.ack_window;
    }

    // ---- queueing ----

    /// Puts a flow in line, unless it is already there; a number under which it is waiting for
    /// acknowledgement is forgotten, because the newer message replaces the older one.
    pub(crate) fn queue_flow(&mut self, slot: Slot, internal: &mut Internal) {
        let Some(entry) = internal.table.get_mut(slot) else { return };
        if entry.sent != 0 {
            self.resend.remove(&entry.sent);
            entry.sent = 0;
        }
        if !entry.queued {
            entry.queued = true;
            self.ticket += 1;
            self.flows.push_back((self.ticket, slot));
        }
    }

    /// Drops what is waiting about a flow of which nothing is to be said any more.
    pub(crate) fn forget_flow(&mut self, slot: Slot, internal: &mut Internal) {
        if let Some(entry) = internal.table.get_mut(slot).filter(|entry| entry.sent != 0) {
            self.resend.remove(&entry.sent);
            entry.sent = 0;
        }
        internal.release(slot);
    }

    /// Asks the peer for everything it has.
    pub(crate) fn ask_for_everything(&mut self, generation: u32, counters: &mut Counters) {
        self.open_resync = Some(generation);
        self.doubt = false;
        counters.resyncs_sent += 1;
        self.push(Control::Resync(generation), counters);
    }

    /// Sends everything we have, as soon as the peer knows us.
    pub(crate) fn want_copy(&mut self) {
        self.copy_wanted = true;
    }

    /// Messages that make the peer's window run full, so that it acknowledges now and not when it
    /// has nothing else to do, which a busy conntrackd never has.
    pub(crate) fn provoke(&mut self, counters: &mut Counters) {
        for _ in 0..self.ack_window.min(PROVOCATION) {
            self.push(Control::Alive, counters);
        }
    }

    /// The peer has been silent for so long that nothing is kept for it.
    pub(crate) fn peer_is_gone(&mut self, internal: &mut Internal) {
        let flows = std::mem::take(&mut self.flows).into_iter().map(|(_, slot)| slot);
        let sent = std::mem::take(&mut self.resend).into_values();
        let sent = sent.filter_map(|sent| match sent {
            Sent::Flow(slot) => Some(slot),
            Sent::Control(_) => None,
        });
        for slot in flows.chain(sent).collect::<Vec<_>>() {
            if let Some(entry) = internal.table.get_mut(slot) {
                entry.queued = false;
                entry.sent = 0;
            }
            internal.release(slot);
        }
        self.controls.clear();
        self.copy = None;
        self.copy_wanted = false;
        self.waiting.clear();
        self.open_nacks = 0;
        self.open_resync = None;
    }

    /// Another router is the peer now: begin from the start, with numbers that go on.
    pub(crate) fn new_peer(&mut self, internal: &mut Internal) {
        self.peer_is_gone(internal);
        self.greeted = false;
        self.peer_greets = false;
        self.greetings = None;
        self.say_back = false;
        self.rearm();
    }

    fn queue_again(&mut self, slot: Slot, internal: &mut Internal) {
        if let Some(entry) = internal.table.get_mut(slot) {
            entry.sent = 0;
        }
        self.queue_flow(slot, internal);
    }

    fn push(&mut self, control: Control, counters: &mut Counters) {
        if self.controls.len() >= MAX_CONTROLS {
            counters.control_overflow += 1;
            self.doubt |= matches!(control, Control::Nack(..));
            return;
        }
        match control {
            Control::Ack(..) => counters.acks_sent += 1,
            Control::Nack(..) => {
                counters.nacks_sent += 1;
                self.open_nacks += 1;
            }
            Control::Resync(_) | Control::Alive => {}
        }
        self.enqueue(control);
    }

    fn enqueue(&mut self, control: Control) {
        self.ticket += 1;
        self.controls.push_back((self.ticket, control));
    }

    // ---- sending ----

    /// When something has to be said although nothing has happened.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let answer = self.answered_at.filter(|_| self.answer_wanted);
        let alive = self.last_sent.map(|at| at + ALIVE_INTERVAL);
        answer.map(|at| at + ANSWER_INTERVAL).into_iter().chain(alive).min()
    }

    /// Puts in line what the clock asks for.
    pub(crate) fn handle_timeout(&mut self, now: Instant, counters: &mut Counters) {
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

    fn say_something(&mut self, counters: &mut Counters) {
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
        while let Some(item) = self.pick(internal, counters) {
            let start = datagram.len();
            let written = self.write(item, internal, datagram);
            if written && datagram.len() < limit {
                self.sent(item, internal, counters);
                messages += 1;
                continue;
            }
            let too_long = written && start > 0;
            datagram.truncate(start);
            if too_long {
                self.put_back(item, internal);
                break;
            }
            if written {
                counters.too_large += 1;
            } else {
                counters.unsendable += 1;
            }
            if let Sent::Flow(slot) = item {
                internal.release(slot);
            }
        }
        if messages > 0 {
            self.last_sent = Some(now);
        }
        messages
    }

    /// The next thing to say, taken out of its queue.
    fn pick(&mut self, internal: &mut Internal, counters: &mut Counters) -> Option<Sent> {
        let open = self.established();
        loop {
            let open = open && self.resend.len() < self.flow_window();
            let control = self.controls.front().map(|(ticket, _)| *ticket);
            let flow = self.flows.front().filter(|_| open).map(|(ticket, _)| *ticket);
            match (control, flow) {
                (Some(control), Some(flow)) if flow < control => {}
                (None, Some(_)) => {}
                (None, None) => {
                    if open && self.step_copy(internal, counters) {
                        continue;
                    }
                    return None;
                }
                (Some(_), _) => {
                    return self.controls.pop_front().map(|(_, control)| Sent::Control(control));
                }
            }
            let (_, slot) = self.flows.pop_front()?;
            let Some(entry) = internal.table.get_mut(slot) else { continue };
            entry.queued = false;
            if entry.stage.change().is_some() {
                return Some(Sent::Flow(slot));
            }
            internal.release(slot);
        }
    }

    /// Puts the next flow of the full copy in line, or ends the copy. Returns whether there is
    /// something in line now.
    fn step_copy(&mut self, internal: &mut Internal, counters: &mut Counters) -> bool {
        if self.copy.is_none() && self.copy_wanted {
            self.copy_wanted = false;
            let answers = std::mem::take(&mut self.waiting);
            self.copy = Some(Copy { next: 0, began: self.next, answers });
        }
        let window = self.copy_window();
        let Some(copy) = &mut self.copy else { return false };
        if self.resend.len() >= window {
            return false;
        }
        while copy.next < internal.table.slots() {
            let slot = copy.next;
            copy.next += 1;
            let due = internal
                .table
                .get(slot)
                .is_some_and(|entry| entry.stage.is_alive() && entry.sent < copy.began);
            if due {
                self.queue_flow(slot, internal);
                return true;
            }
        }
        counters.bulks_sent += 1;
        let answers = self.copy.take().map(|copy| copy.answers).unwrap_or_default();
        for number in &answers {
            self.push(Control::Ack(*number, *number), counters);
        }
        self.copy_wanted || !answers.is_empty()
    }

    /// Changes may run further ahead of the peer than a copy: they are fewer and more urgent.
    fn flow_window(&self) -> usize {
        (2 * COPY_IN_FLIGHT).min(self.resend_limit)
    }

    fn copy_window(&self) -> usize {
        COPY_IN_FLIGHT.min(self.resend_limit.div_ceil(2))
    }

    /// Appends the message; `false` when the wire cannot carry it.
    fn write(&self, item: Sent, internal: &Internal, out: &mut Vec<u8>) -> bool {
        let mut flags = 0;
        if !self.greeted {
            flags |= Flags::HELLO;
        }
        if self.say_back {
            flags |= Flags::HELLO_BACK;
        }
        let number = self.next as u32;
        match item {
            Sent::Flow(slot) => {
                let Some(entry) = internal.table.get(slot) else { return false };
                let Some(change) = entry.stage.change() else { return false };
                let flow = entry.stored.flow();
                return wire::encode_flow_message(change, Flags(flags), number, &flow, out).is_ok();
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

    fn sent(&mut self, item: Sent, internal: &mut Internal, counters: &mut Counters) {
        let number = self.next;
        self.next += 1;
        self.say_back = false;
        counters.messages_sent += 1;
        if item == Sent::Control(Control::Alive) {
            return;
        }
        if let Sent::Flow(slot) = item
            && let Some(entry) = internal.table.get_mut(slot)
        {
            entry.sent = number;
        }
        self.resend.insert(number, item);
        if self.resend.len() > self.resend_limit {
            self.drop_oldest(internal, counters);
        }
    }

    /// Unlike conntrackd, what falls out of the queue is made up for by a full copy.
    fn drop_oldest(&mut self, internal: &mut Internal, counters: &mut Counters) {
        let Some((_, oldest)) = self.resend.pop_first() else { return };
        counters.resend_overflow += 1;
        match oldest {
            Sent::Flow(slot) => {
                if let Some(entry) = internal.table.get_mut(slot) {
                    entry.sent = 0;
                }
                internal.release(slot);
                self.copy_wanted = true;
            }
            Sent::Control(Control::Nack(..)) => {
                self.open_nacks = self.open_nacks.saturating_sub(1);
                self.doubt = true;
            }
            Sent::Control(Control::Resync(_)) => {
                self.open_resync = None;
                self.doubt = true;
            }
            Sent::Control(Control::Ack(..) | Control::Alive) => {}
        }
    }

    fn put_back(&mut self, item: Sent, internal: &mut Internal) {
        match item {
            Sent::Flow(slot) => {
                if let Some(entry) = internal.table.get_mut(slot) {
                    entry.queued = true;
                }
                self.flows.push_front((0, slot));
            }
            Sent::Control(control) => self.controls.push_front((0, control)),
        }
    }
}

/// What a message says, if type, flags and range are acceptable.
fn content(message: &Message<'_>) -> Result<Content, Malformed> {
    const GREETING: u8 = Flags::HELLO | Flags::HELLO_BACK;
    let flags = message.flags;
    let (from, to) = message.range;
    let in_order = to.wrapping_sub(from) as i32 >= 0;
    match message.kind {
        Some(Kind::Flow(change)) if flags.0 & !GREETING == 0 => Ok(Content::Flow(change)),
        Some(Kind::Expectation(_)) if flags.0 & !GREETING == 0 => Ok(Content::Expectation),
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

/// Most messages of one provocation.
const PROVOCATION: u32 = 1024;
