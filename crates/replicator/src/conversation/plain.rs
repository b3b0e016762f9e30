//! Conversations without acknowledgements: NOTRACK, where messages are numbered and a copy can be
//! asked for, and ALARM, where there is nothing but objects, each told again and again.
//!
//! Nothing repeats what was lost. In NOTRACK a hole in the numbers is noticed and made up for by a
//! copy of everything. Nothing tells that a receiver is overrun either, so a copy is paced by the
//! clock; behind its last message ours says ALIVE, which conntrackd says when it has nothing more to
//! send. So ALIVE means that the copy is over.

use std::time::{Duration, Instant};

use super::places::Place;
use super::{Content, Control, Conversation, Doubt, Received};
use crate::claim;
use crate::config::Mode;
use crate::internal::Internal;
use crate::statistics::Counters;
use crate::wire::{Flags, Kind, Malformed, Message};

/// Messages of a copy within one [`PACE`]: about 90 KB, 60 datagrams, which fits the receive buffer
/// that Linux gives when nobody asks for more.
pub(super) const BURST: usize = 1024;

/// See [`BURST`].
const PACE: Duration = Duration::from_millis(10);

/// Least time between the beginnings of two copies.
pub(super) const COPY_INTERVAL: Duration = Duration::from_secs(1);

/// Least time between two copies because a request for one may have been lost.
const REQUEST_LOST: Duration = Duration::from_secs(10);

/// An ALIVE sooner after the request for a copy, and before anything else was told, may have been
/// sent before the request arrived.
const CROSSING: Duration = Duration::from_millis(50);

/// Between two messages of a copy lies less.
const STILL_TELLS: Duration = Duration::from_millis(100);

/// A number that is further behind or ahead is not of the same row: the peer has started again.
const SAME_ROW: std::ops::Range<i32> = -4096..1_000_000;

/// On a dedicated link nothing is overtaken by what was sent this much later.
const OVERTAKEN: Duration = Duration::from_millis(500);

/// Who says ALIVE once a second and lets this much pass may have started again in between.
pub(super) const HESITATION: Duration = Duration::from_millis(1250);

/// Least time between two copies because of that: a busy machine hesitates, too.
const HESITATES_AGAIN: Duration = Duration::from_mins(1);

/// Time between two steps of the refreshing walk.
const STEP: Duration = Duration::from_millis(50);

/// Most objects lined up by one step of the walk.
const STEP_OBJECTS: usize = 4096;

/// How far the paced copy is.
#[derive(Default)]
pub(super) struct Pacing {
    /// Messages of a copy that may be sent now.
    pub(super) allowance: usize,
    refill_at: Option<Instant>,
}

/// Where the walk that tells everything again is.
pub(super) struct Refresh {
    interval: Duration,
    cursor: u64,
    began: Option<Instant>,
    step_at: Option<Instant>,
}

impl Pacing {
    pub(super) fn refill(&mut self, now: Instant) {
        if self.refill_at.is_none_or(|at| now >= at) {
            self.allowance = BURST;
            self.refill_at = Some(now + PACE);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.refill_at.filter(|_| self.allowance == 0)
    }
}

impl Refresh {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval: interval.max(STEP), cursor: 0, began: None, step_at: None }
    }

    /// The walk goes on from where it is.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval.max(STEP);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.step_at
    }
}

impl Conversation {
    /// A message in NOTRACK.
    pub(super) fn receive_numbered(
        &mut self,
        message: &Message<'_>,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<Received, Malformed> {
        let content = super::receive::content(message)?;
        if matches!(content, Content::Ack(..) | Content::Nack(..)) {
            return Err(Malformed::BadHeader);
        }
        let number = message.sequence;
        let distance = self.last.map_or(1, |last| number.wrapping_sub(last) as i32);
        let restarted = !SAME_ROW.contains(&distance) || self.begins_anew(distance, now);
        if distance < 1 && !restarted {
            counters.before += 1;
            // To answer a request twice costs little; one more is not made for long.
            let content = Some(content).filter(|content| *content == Content::Resync);
            return Ok(Received { content, restarted: false });
        }
        if distance > 1 && !restarted {
            let missing = distance as u64 - 1;
            counters.lost += missing;
            self.doubt.missing(missing);
        }
        self.last = Some(number);
        self.accepted_at = Some(now);
        match content {
            // Who answers depends on how the peer is spoken to.
            Content::Resync => counters.resyncs_received += 1,
            Content::Alive => {
                let late = self.asked_at.is_some_and(|at| now >= at + CROSSING);
                if late || self.told_since {
                    self.open_resync = None;
                }
            }
            Content::Flow(_) | Content::Expectation(_) => {
                self.told_since = true;
                self.told_at = Some(now);
            }
            Content::Ack(..) | Content::Nack(..) => {}
        }
        Ok(Received { content: Some(content), restarted })
    }

    /// Until when a copy may be under way, by what the peer has told.
    pub(crate) fn tells_until(&self) -> Option<Instant> {
        self.told_at.map(|at| at + STILL_TELLS)
    }

    /// Whether a number that is not ahead of the last one is the first of a new row. conntrackd counts
    /// from the Unix time on, which one that has sent little more than a message a second has hardly
    /// passed when it starts again. What was overtaken on the way comes much sooner.
    fn begins_anew(&self, distance: i32, now: Instant) -> bool {
        let pause = self.accepted_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        distance < 1 && pause >= OVERTAKEN && !self.hints.stands_still()
    }

    /// A message in ALARM: what has a flag is not for this mode. ALIVE shows that the peer is there,
    /// and nothing else.
    pub(super) fn receive_unnumbered(
        message: &Message<'_>,
        counters: &mut Counters,
    ) -> Result<Received, Malformed> {
        if message.kind == Some(Kind::Control) && message.flags.0 & !claim::BITS == Flags::ALIVE {
            return Ok(Received { content: Some(Content::Alive), restarted: false });
        }
        if message.flags.0 != 0 || message.kind == Some(Kind::Control) {
            counters.other_mode += 1;
            return Ok(Received { content: None, restarted: false });
        }
        let content = super::receive::content(message)?;
        Ok(Received { content: Some(content), restarted: false })
    }

    /// Whether a message that is early may be waited for.
    pub(super) fn is_early_numbered(&self, message: &Message<'_>) -> bool {
        self.last.is_some_and(|last| {
            let distance = message.sequence.wrapping_sub(last) as i32;
            distance > 1 && SAME_ROW.contains(&distance)
        })
    }

    /// Lines up the objects whose turn to be told again has come: within each interval every one.
    pub(super) fn step_refresh(&mut self, internal: &mut Internal, now: Instant) {
        let Some(refresh) = &mut self.refresh else { return };
        if refresh.step_at.is_some_and(|at| now < at) {
            return;
        }
        refresh.step_at = Some(now + STEP);
        let began = *refresh.began.get_or_insert(now);
        let passed = now.saturating_duration_since(began);
        let part = (passed.as_secs_f64() / refresh.interval.as_secs_f64()).min(1.0);
        let until = (internal.steps() as f64 * part) as u64;
        for _ in 0..STEP_OBJECTS {
            let Some(refresh) = &mut self.refresh else { return };
            if refresh.cursor >= until {
                break;
            }
            let Some(object) = internal.next_alive(&mut refresh.cursor, false) else { break };
            if self.places.get(object) == Place::Nowhere {
                self.queue(object, internal);
            }
        }
        if let Some(refresh) = &mut self.refresh
            && passed >= refresh.interval
            && refresh.cursor >= until
        {
            refresh.cursor = 0;
            refresh.began = Some(now);
        }
    }

    /// What was lost for good since this was last asked, or since everything was; a peer that may have
    /// started again unnoticed may have said anything.
    pub(crate) fn take_doubt(&mut self, now: Instant) -> Doubt {
        self.heed_hesitation(now);
        self.doubt.take()
    }

    /// Numbers that happen to go on say nothing when the peer was busy with starting.
    fn heed_hesitation(&mut self, now: Instant) {
        let pause = self.hesitated_at.is_some_and(|at| now < at + HESITATES_AGAIN);
        if self.mode == Mode::Notrack && !pause && std::mem::take(&mut self.hints.hesitated) {
            self.hesitated_at = Some(now);
            self.doubt = Doubt::Unbounded;
        }
    }

    /// Whether something was lost since this was last answered with yes; at most once in
    /// [`REQUEST_LOST`].
    pub(crate) fn doubts_for_long(&mut self, now: Instant) -> bool {
        self.heed_hesitation(now);
        let pause = self.doubted_at.is_some_and(|at| now < at + REQUEST_LOST);
        if self.mode != Mode::Notrack || pause || self.doubt.take().is_none() {
            return false;
        }
        self.doubted_at = Some(now);
        true
    }

    /// Leaves a hole in the numbers, so that the peer asks for everything.
    pub(crate) fn skip_number(&mut self) {
        self.next += 1;
    }

    /// A copy of everything is over.
    pub(super) fn say_copy_is_over(&mut self, counters: &mut Counters) {
        if self.mode == Mode::Notrack {
            self.push(Control::Alive, counters);
        }
    }
}
