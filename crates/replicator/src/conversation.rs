//! The conversation with one peer, one direction sending, one receiving. Here conntrackd's FTFW
//! mode; for the two others see [`plain`].
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

mod doubt;
mod hints;
mod milestones;
mod places;
mod plain;
mod queue;
mod receive;
mod ring;
mod send;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::{Config, Mode};
use crate::event::Lag;
use crate::internal::{Internal, Object};
use crate::wire::Change;

pub(crate) use doubt::Doubt;
use hints::Hints;
use milestones::Milestones;
use places::Places;
use plain::{Pacing, Refresh};
use ring::Ring;

/// Longest time without sending anything; conntrackd's is the same and fixed.
pub(crate) const ALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Most control messages waiting to be sent; more are dropped and counted.
const MAX_CONTROLS: usize = 2048;

/// Most requests for everything that are remembered to be acknowledged after their answer.
const MAX_ANSWERS: usize = 8;

/// A full copy pauses while this many messages are unacknowledged: about 400 KB on the wire, which
/// fits the receive buffers that conntrackd's documentation asks for.
const COPY_IN_FLIGHT: usize = 2048;

/// A peer acknowledges a second after the last message at the latest, if nothing is lost. After this
/// long it does not count as knowing what it was told, and after this long it is asked to.
const OVERDUE: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(2500));

/// How long a greeting may be under way.
const LATE_GREETING: Duration = Duration::from_secs(2);

/// Least time between two answers to greetings.
const ANSWER_INTERVAL: Duration = Duration::from_millis(100);

pub(crate) struct Conversation {
    mode: Mode,
    /// What the peer seems to run.
    hints: Hints,
    /// Without acknowledgements: how fast a copy may go.
    pacing: Pacing,
    /// ALARM: the walk that tells everything again.
    refresh: Option<Refresh>,
    /// When a copy was asked for.
    asked_at: Option<Instant>,
    /// Our number when the last copy had been sent.
    copied_until: u64,
    /// Everything has been told since this router began to serve.
    told_all: bool,
    /// The copy under way, or wanted, is of what this router has served.
    bequeaths: bool,
    /// What the peer, which serves now, is told as bequests.
    bequest: Option<Bequest>,
    /// What waits in line counts as if it were part of that copy.
    catches_up: bool,
    /// Something has been told since then.
    told_since: bool,
    /// When a copy began.
    copied_at: Option<Instant>,
    /// A copy waits for the clock.
    held_up: bool,
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
    /// NOTRACK: when that came.
    accepted_at: Option<Instant>,
    /// Its first number that is not acknowledged yet.
    ack_from: Option<u32>,
    window: u32,
    ack_window: u32,
    /// The peer's acknowledgements since its last other message.
    acks_heard: u32,
    controls: VecDeque<(u32, Control)>,
    objects: VecDeque<(u32, Object)>,
    /// Orders the two queues against each other; wraps.
    ticket: u32,
    /// Where each object stands in this conversation.
    places: Places,
    resend: Ring,
    resend_limit: usize,
    copy: Option<Copy>,
    copy_wanted: bool,
    /// Numbers of requests whose answer has not begun.
    waiting: Vec<u32>,
    last_sent: Option<Instant>,
    /// When what is not acknowledged was last looked through.
    looked_back_at: Option<Instant>,
    /// When which number was sent, roughly.
    milestones: Milestones,
    /// Requests to resend that have not been acknowledged, the oldest first.
    open_nacks: VecDeque<Gap>,
    /// The resync that has been asked for and not acknowledged.
    open_resync: Option<u32>,
    /// Something was lost that no repetition will bring.
    doubt: Doubt,
    /// NOTRACK: when the peer last told something.
    told_at: Option<Instant>,
    /// NOTRACK: when a copy was last sent because something was lost.
    doubted_at: Option<Instant>,
    /// NOTRACK: when that was because the peer had hesitated.
    hesitated_at: Option<Instant>,
}

/// What a router that serves no more leaves to the one that does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bequest {
    /// Flows that began since then, in seconds since the start.
    pub(crate) since_s: u32,
    /// The start.
    pub(crate) started: Instant,
}

impl Bequest {
    /// How many seconds ago the object began, if it is one of them.
    fn age_s(&self, object: Object, internal: &Internal, now: Instant) -> Option<u32> {
        let began_s = internal.began_s(object).filter(|at_s| *at_s >= self.since_s)?;
        let now_s = now.saturating_duration_since(self.started).as_secs() as u32;
        Some(now_s.saturating_sub(began_s))
    }
}

/// Messages of the peer that did not arrive.
#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u32,
    messages: u32,
    since: Instant,
}

/// A full copy being sent.
struct Copy {
    cursor: u64,
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
    Object(Object),
    Control(Control),
}

/// What a message means, after its header has been checked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    Flow(Change),
    Expectation(Change),
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
    pub(crate) fn new(first: u32, config: &Config) -> Self {
        let ack_window = config.ack_window.max(1);
        Self {
            mode: config.mode,
            hints: Hints::new(config.refresh_interval),
            pacing: Pacing::default(),
            refresh: (config.mode == Mode::Alarm).then(|| Refresh::new(config.refresh_interval)),
            asked_at: None,
            told_all: false,
            bequeaths: false,
            bequest: None,
            catches_up: false,
            told_since: false,
            copied_until: 0,
            copied_at: None,
            held_up: false,
            greeted: false,
            peer_greets: false,
            greetings: None,
            say_back: false,
            answer_wanted: false,
            answered_at: None,
            next: u64::from(first) + (1 << 32),
            last: None,
            accepted_at: None,
            ack_from: None,
            window: ack_window,
            ack_window,
            acks_heard: 0,
            controls: VecDeque::new(),
            objects: VecDeque::new(),
            ticket: 0,
            places: Places::default(),
            resend: Ring::default(),
            resend_limit: config.resend_queue.max(1),
            copy: None,
            copy_wanted: false,
            waiting: Vec::new(),
            last_sent: None,
            looked_back_at: None,
            milestones: Milestones::default(),
            open_nacks: VecDeque::new(),
            open_resync: None,
            doubt: Doubt::None,
            told_at: None,
            doubted_at: None,
            hesitated_at: None,
        }
    }

    /// Puts what may change of the settings in force.
    pub(crate) fn configure(&mut self, config: &Config) {
        self.ack_window = config.ack_window.max(1);
        self.window = self.window.min(self.ack_window);
        self.resend_limit = config.resend_queue.max(1);
        self.hints.set_interval(config.refresh_interval);
        if let Some(refresh) = &mut self.refresh {
            refresh.set_interval(config.refresh_interval);
        }
    }

    /// Whether both sides know each other, so that flows may be sent and losses are noticed.
    pub(crate) fn established(&self) -> bool {
        self.mode != Mode::Ftfw || (self.greeted && !self.peer_greets && self.last.is_some())
    }

    /// This router begins to serve, or ends it.
    pub(crate) fn begin_role(&mut self) {
        self.told_all = false;
        self.bequeaths = false;
        self.bequest = None;
    }

    /// The peer is told what this router served, although it serves no more: all of it, or that and
    /// no other as bequests.
    pub(crate) fn bequeath(&mut self, bequest: Option<Bequest>) {
        self.bequeaths = true;
        self.bequest = bequest;
        self.copy_wanted = true;
    }

    /// Whether that is not at its end. Bequests have to be acknowledged too.
    pub(crate) fn bequeaths(&self) -> bool {
        let told = |number| matches!(self.resend.get(number), Some(Sent::Object(_)));
        let open = || self.resend.within(0, self.copied_until).any(told);
        self.bequeaths || (self.bequest.is_some() && (self.copy_wanted || open()))
    }

    /// Whether a copy of it was given up in the middle. Then it is to be begun again.
    pub(crate) fn take_interrupted_bequest(&mut self) -> bool {
        let interrupted = self.bequeaths && self.copy.is_none() && !self.copy_wanted;
        if interrupted {
            self.bequeaths = false;
            self.bequest = None;
        }
        interrupted
    }

    /// Until when, at least, everything that there was to tell has been acknowledged.
    pub(crate) fn knew_all_at(&self, now: Instant) -> Option<Instant> {
        let waits = !self.objects.is_empty() || self.copy.is_some() || self.copy_wanted;
        if waits || !self.established() {
            return None;
        }
        match self.resend.first() {
            Some(oldest) => self.milestones.sent_at(oldest),
            None => Some(now),
        }
    }

    /// Whether everything has been told since this router began to serve.
    pub(crate) fn has_told_all(&self) -> bool {
        self.told_all
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.resend.len()
    }

    /// Whether something is being told, or was and is not acknowledged.
    pub(crate) fn tells(&self) -> bool {
        !self.objects.is_empty() || self.resend.len() > 0 || self.copying()
    }

    pub(crate) fn waiting_to_send(&self) -> usize {
        self.objects.len() + self.controls.len()
    }

    pub(crate) fn gaps(&self) -> usize {
        self.open_nacks.len()
    }

    /// Since when the oldest gap is open.
    pub(crate) fn oldest_gap(&self) -> Option<Instant> {
        self.open_nacks.front().map(|nack| nack.since)
    }

    /// The peer's messages that have been asked for again and have not arrived.
    pub(crate) fn missing(&self) -> u64 {
        self.open_nacks.iter().map(|nack| u64::from(nack.messages)).sum()
    }

    /// How far the peer is behind us.
    pub(crate) fn lag(&self, now: Instant) -> Lag {
        let copying = self.copy.is_some() || self.copy_wanted;
        let messages = self.objects.len() + self.resend.len() + usize::from(copying);
        let oldest = self.resend.first().and_then(|number| self.milestones.sent_at(number));
        let time = oldest.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        Lag { messages: messages as u64, time }
    }

    /// Whether a copy of everything is being sent, or was and is not acknowledged yet.
    pub(crate) fn copying(&self) -> bool {
        let open = self.resend.first().is_some_and(|number| number < self.copied_until);
        self.copy.is_some() || self.copy_wanted || self.catches_up || open
    }

    /// When the peer owes an acknowledgement for longer than a healthy one does.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let oldest = self.resend.first().and_then(|number| self.milestones.sent_at(number));
        oldest.map(|at| at + OVERDUE.0)
    }

    /// Whether it owes one for so long that it is worth asking for it.
    pub(crate) fn is_slow(&self, now: Instant) -> bool {
        self.lag(now).time >= OVERDUE.1
    }

    /// The mode that the peer seems to run, which is not ours, and why, in words.
    pub(crate) fn suspicion(&self, now: Instant) -> Option<&'static str> {
        self.hints.suspicion(self.mode, self.greeted, now)
    }

    /// The peer has told a flow that is known so already, and that it has told since it was last
    /// asked for everything.
    pub(crate) fn told_again(&mut self, now: Instant) {
        self.hints.told_again(now);
    }

    /// ALARM: how long the peer says nothing as long as it is there, whatever is lost.
    pub(crate) fn longest_silence(&self) -> Duration {
        self.hints.longest_silence()
    }

    /// The peer says nothing any more. It may be another one that comes back.
    pub(crate) fn falls_silent(&mut self) {
        self.hints.falls_silent();
    }

    /// As many flows of the peer have not been told for two intervals of ALARM.
    pub(crate) fn note_aged(&mut self, flows: u32) {
        self.hints.note_aged(flows);
    }

    /// Whether the resync asked for as `generation` is still to be acknowledged.
    pub(crate) fn resync_open(&self, generation: u32) -> bool {
        self.open_resync == Some(generation)
    }

    /// Whether the peer owes us an acknowledgement that something waits for.
    pub(crate) fn waits_for_peer(&self) -> bool {
        if self.mode != Mode::Ftfw {
            return false;
        }
        let copy_due = self.copy.is_some() || self.copy_wanted || !self.objects.is_empty();
        !self.open_nacks.is_empty()
            || self.open_resync.is_some()
            || !self.greeted
            || (copy_due && (self.peer_greets || self.resend.len() >= self.copy_window()))
    }
}
