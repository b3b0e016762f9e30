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

mod queue;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::internal::Internal;
use crate::statistics::Counters;
use crate::table::Slot;
use crate::wire::{Change, Flags, Kind, Malformed, Message};

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
    /// Requests to resend that have not been acknowledged: the first number asked for, and since
    /// when, the oldest first.
    open_nacks: VecDeque<(u32, Instant)>,
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
            open_nacks: VecDeque::new(),
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
        self.open_nacks.len()
    }

    /// Since when the oldest gap is open.
    pub(crate) fn oldest_gap(&self) -> Option<Instant> {
        self.open_nacks.front().map(|(_, since)| *since)
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
        !self.open_nacks.is_empty()
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
                self.ask_again(last.wrapping_add(1), number.wrapping_sub(1), counters, now);
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
        self.open_nacks.clear();
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
                    self.close_gap(first);
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
