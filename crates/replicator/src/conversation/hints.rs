//! What the peer's messages show of its mode: the wire does not name it.
//!
//! | who | says |
//! |---|---|
//! | FTFW | greetings, acknowledgements |
//! | NOTRACK | requests for everything; ALIVE with a number of its own; nothing twice unless asked |
//! | ALARM | everything again in each interval; ours ALIVE, with the number of what came before |

use std::time::{Duration, Instant};

use super::plain::HESITATION;
use crate::config::Mode;
use crate::wire::{Flags, Kind, Message};

/// A peer that is silent about something for longer than this does not mean to say it.
const HINTED: Duration = Duration::from_secs(5);

/// A peer whose mode has been changed does not say any more what it said before.
const LATELY: Duration = Duration::from_secs(30);

/// Longer than a peer that says ALIVE once a second says nothing.
const PAUSE: Duration = Duration::from_secs(3);

/// Flags that only FTFW has.
const NUMBERED: u8 = Flags::ACK | Flags::NACK | Flags::HELLO | Flags::HELLO_BACK;

/// As many messages in a row are not lost by chance on any link that is of use.
const MESSAGES_LOST: u32 = 30;

/// A peer that says something each second and was not heard for as long is gone.
const SILENT: Duration = Duration::from_secs(20);

/// As many ALIVEs in a row that do not count are no accident.
const STANDING_STILL: u8 = 3;

/// As many in a row that count are not what losing everything before each of them looks like.
const COUNTING: u8 = 12;

/// Parts of an interval in which something was heard.
const PARTS: u32 = 12;

/// Told again, without being asked and without ALIVE: as many messages, in as many parts. Copies that
/// nobody has asked for come in fewer.
const TOLD_AGAIN: (u32, u32) = (64, 9);

/// Heard in as many parts, a peer in ALARM has told again a sixteenth of what it has at the least.
const HEARD_ALL_ALONG: u32 = 9;

/// Flows that were not told for two intervals; fewer may have been lost each time. As many told again
/// say the contrary.
const NOT_TOLD_AGAIN: u32 = 16;

/// What the peer's messages have shown of its mode.
pub(super) struct Hints {
    first_at: Option<Instant>,
    /// Its last message: when, its number, and whether it was an ALIVE.
    last: Option<(Instant, u32, bool)>,
    /// When it last greeted or acknowledged.
    numbered_at: Option<Instant>,
    /// When it last asked for everything.
    asked_at: Option<Instant>,
    tells: bool,
    /// It has said ALIVE.
    alive: bool,
    /// ALIVEs in a row with a number of their own, as in NOTRACK.
    counted: u8,
    /// ALIVEs in a row with the number of what came before, as ours in ALARM.
    still: u8,
    /// It has said nothing for longer than a peer that says ALIVE does.
    paused: bool,
    /// It has waited longer than usual between two ALIVEs since this was last heeded.
    pub(super) hesitated: bool,
    interval: Duration,
    began: Option<Instant>,
    current: Retold,
    before: Retold,
    /// It has not told again what it had told for two intervals, and nothing else since.
    tells_nothing_again: bool,
}

/// What a peer has told in an interval without there being anything new.
#[derive(Clone, Copy, Default)]
struct Retold {
    flows: u32,
    /// The parts of the interval in which that was, a bit each.
    parts: u16,
    /// Those in which anything was heard.
    heard: u16,
}

impl Hints {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            first_at: None,
            last: None,
            numbered_at: None,
            asked_at: None,
            tells: false,
            alive: false,
            counted: 0,
            still: 0,
            paused: false,
            hesitated: false,
            interval,
            began: None,
            current: Retold::default(),
            before: Retold::default(),
            tells_nothing_again: false,
        }
    }

    /// Another router is the peer now.
    pub(super) fn forget(&mut self) {
        *self = Self::new(self.interval);
    }

    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    pub(super) fn take(&mut self, message: &Message<'_>, now: Instant) {
        self.first_at.get_or_insert(now);
        self.current.heard |= self.part(now);
        let control = message.kind == Some(Kind::Control);
        let alive = control && message.flags.has(Flags::ALIVE);
        if let Some((at, number, was_alive)) = self.last {
            let passed = now.saturating_duration_since(at);
            self.paused |= passed >= PAUSE;
            let step = message.sequence.wrapping_sub(number) as i32;
            match step {
                // A datagram that was doubled on the way.
                0 if passed < PAUSE / 6 => {}
                0 if alive => {
                    self.still = self.still.saturating_add(1);
                    self.counted = 0;
                }
                1.. if alive => {
                    self.hesitated |= was_alive && step == 1 && passed >= HESITATION;
                    self.counted = self.counted.saturating_add(1);
                    self.still = 0;
                    // What was told until here may have been a copy.
                    self.current = Retold { heard: self.current.heard, ..Retold::default() };
                }
                _ => {}
            }
        }
        self.last = Some((now, message.sequence, alive));
        self.alive |= alive;
        if message.flags.has(NUMBERED) {
            self.numbered_at = Some(now);
        }
        if control && message.flags.has(Flags::RESYNC) {
            self.asked_at = Some(now);
        }
        self.tells |= message.kind.is_some_and(|kind| kind != Kind::Control);
    }

    /// It has told a flow again that has not changed.
    pub(super) fn told_again(&mut self, now: Instant) {
        self.current.flows = self.current.flows.saturating_add(1);
        self.current.parts |= self.part(now);
    }

    /// As many of its flows have not been told for two intervals.
    pub(super) fn note_aged(&mut self, flows: u32) {
        let Retold { flows: retold, heard, .. } = self.before;
        let all_along = heard.count_ones() >= HEARD_ALL_ALONG;
        self.tells_nothing_again |= flows >= NOT_TOLD_AGAIN && all_along && retold < flows / 16;
        self.tells_nothing_again &= retold < NOT_TOLD_AGAIN;
    }

    /// How long a peer in ALARM says nothing as long as it is there, although four in ten messages
    /// are lost: ours says ALIVE each second, conntrackd at least what it has said in the last
    /// interval, once more.
    pub(super) fn longest_silence(&self) -> Duration {
        if self.alive {
            return SILENT;
        }
        let rhythm = self.interval.checked_div(self.before.flows).unwrap_or(Duration::MAX);
        rhythm.saturating_mul(MESSAGES_LOST).max(SILENT)
    }

    pub(super) fn falls_silent(&mut self) {
        self.alive = false;
        self.tells_nothing_again = false;
        self.before = Retold::default();
    }

    /// Whether it says ALIVE and does not count, as ours in ALARM.
    pub(super) fn stands_still(&self) -> bool {
        self.still >= STANDING_STILL
    }

    /// The bit of the part of the interval that has come; begins another interval when one is over.
    fn part(&mut self, now: Instant) -> u16 {
        let began = *self.began.get_or_insert(now);
        let interval = self.interval.max(Duration::from_secs(1));
        let passed = now.saturating_duration_since(began);
        if passed < interval {
            return 1 << (passed.as_millis() * u128::from(PARTS) / interval.as_millis()).min(15);
        }
        self.before = if passed < 2 * interval { self.current } else { Retold::default() };
        self.current = Retold::default();
        self.began = Some(now);
        1
    }

    /// What the peer seems to run, if both are to run in `mode` and it does not.
    pub(super) fn suspicion(
        &self,
        mode: Mode,
        greeted: bool,
        now: Instant,
    ) -> Option<&'static str> {
        let first = self.first_at?;
        let for_long = now.saturating_duration_since(first) >= HINTED;
        let lately = |at: Option<Instant>| at.is_some_and(|at| now < at + LATELY);
        let numbered = lately(self.numbered_at);
        let asks = lately(self.asked_at);
        let seems = match mode {
            Mode::Ftfw if greeted || !for_long || numbered => return None,
            Mode::Ftfw if self.stands_still() => "ALARM: its numbers stand still",
            Mode::Ftfw if self.alive || asks => "NOTRACK: it never answers a greeting",
            Mode::Ftfw => "ALARM: it says nothing but flows",
            Mode::Notrack | Mode::Alarm if numbered => "FTFW: it greets or acknowledges",
            Mode::Alarm if asks => "NOTRACK: it asks for everything",
            Mode::Alarm if self.counted >= COUNTING => "NOTRACK: it counts while it tells nothing",
            Mode::Alarm if self.tells_nothing_again => {
                "NOTRACK: what has not changed it does not tell again"
            }
            Mode::Notrack if self.stands_still() => "ALARM: its numbers stand still",
            Mode::Notrack if for_long && self.tells && self.paused && !self.alive => {
                "ALARM: it never says that it is there"
            }
            Mode::Notrack if self.tells_all_again() => "ALARM: it tells again what has not changed",
            Mode::Notrack | Mode::Alarm => return None,
        };
        Some(seems)
    }

    fn tells_all_again(&self) -> bool {
        [self.current, self.before].iter().any(|interval| {
            interval.flows >= TOLD_AGAIN.0 && interval.parts.count_ones() >= TOLD_AGAIN.1
        })
    }
}
