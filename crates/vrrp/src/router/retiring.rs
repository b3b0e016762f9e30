//! Retiring: a master that is well hands over, and lets its successor be.
//!
//! ```text
//!   Master ──Retire──▶ Backup, awaits a claim ──another master heard──▶ Backup, yields to it
//!                        │ nobody in time: Elected, as ever               │ it stops or falls silent
//!                        ▼                                                ▼
//!                      Master (Claim)                                   Backup, as any other
//! ```

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::VirtualRouter;
use crate::advertisement::{Advertisement, Format};
use crate::config::Version;
use crate::event::{Action, State};

/// Whom a router that has handed over does not preempt. Survives [`crate::Event::Shutdown`]: a
/// fault of who has retired does not end the mastership of the successor.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Yields {
    /// Nobody.
    No,
    /// Whoever claims first.
    Whoever,
    /// The successor, heard last at this time with this interval.
    To { address: IpAddr, at: Instant, interval: Duration },
}

impl VirtualRouter {
    /// The router to which this one has handed over, while that is master.
    pub fn yields_to(&self) -> Option<IpAddr> {
        match self.yields {
            Yields::No | Yields::Whoever => None,
            Yields::To { address, .. } => Some(address),
        }
    }

    /// In version 3 a backup's skew time is a part of the master's interval (RFC 9568 §6.1): the
    /// shortest is told first, so that priority 0 is followed by a claim within that.
    pub(super) fn retire(&mut self, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        // One that overslept does not say that it is master: another one may be.
        let speaks = matches!(self.state, State::Master { silent_for: None, .. });
        let interval = match self.config.version {
            Version::V2 => self.config.advertisement_interval,
            Version::V3 => SHORTEST_INTERVAL,
        };
        if speaks && self.config.version == Version::V3 {
            actions.push(self.advertise_every(interval, self.priority.value()));
        }
        actions.push(self.advertise_every(interval, 0));
        self.heard = None;
        self.yields = Yields::Whoever;
        let backup = State::Backup {
            master_down_at: now + self.longest_skew() + CLAIM_MARGIN,
            master_adver_interval: self.config.advertisement_interval,
            since: now,
            elected: false,
        };
        actions.extend(self.enter(backup));
        actions
    }

    /// Whether it has retired and nobody has claimed.
    pub(super) fn awaits_claim(&self) -> bool {
        self.yields == Yields::Whoever
    }

    /// Another router is heard as master: the successor, or somebody after it.
    pub(super) fn consider_successor(
        &mut self,
        priority: u8,
        source: IpAddr,
        interval: Duration,
        now: Instant,
    ) -> Option<Action> {
        let heard = Yields::To { address: source, at: now, interval };
        match self.yields {
            Yields::No => None,
            Yields::Whoever => {
                self.yields = heard;
                Some(Action::Succeeded { by: source, priority })
            }
            Yields::To { address, at, interval } => {
                // Several claim at the same time, and the best of them stays.
                let lives = now < at + MISSED_ADVERTISEMENTS * interval;
                self.yields = if address == source || lives { heard } else { Yields::No };
                None
            }
        }
    }

    /// This router says that it stops.
    pub(super) fn yields_no_more_to(&mut self, source: IpAddr) {
        if self.yields_to() == Some(source) {
            self.yields = Yields::No;
        }
    }

    /// Whether the interval of a neighbour's advertisement is another one because it retires: that
    /// is no mistake of its settings.
    pub(super) fn hurries(&self, advertisement: &Advertisement, source: IpAddr) -> bool {
        let known = |interval| {
            self.heard.is_some_and(|heard| heard.address == source && heard.interval == interval)
        };
        advertisement.format == Format::V3
            && advertisement.interval == SHORTEST_INTERVAL
            && (advertisement.priority == 0 || known(self.config.advertisement_interval))
    }

    /// The skew time of the slowest backup, should the shortest interval not have reached it.
    fn longest_skew(&self) -> Duration {
        match self.config.version {
            Version::V2 => Duration::from_secs(1),
            Version::V3 => self.config.advertisement_interval,
        }
    }
}

/// The shortest Max Advertise Interval that version 3 can state.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// What a backup that is not scheduled at once may take beyond its skew time.
const CLAIM_MARGIN: Duration = Duration::from_secs(1);
/// So many that are missed end a mastership (RFC 9568 §6.1).
const MISSED_ADVERTISEMENTS: u32 = 3;
