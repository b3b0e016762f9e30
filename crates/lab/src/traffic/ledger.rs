//! The record of every connection, written by both ends, and the verdict read from it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What became of a connection.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It transfers both ways.
    Alive,
    /// An end was told that it is over: reset, closed, or never opened.
    Reset,
    /// Nothing arrives any more in at least one direction.
    Stalled,
    /// It delivered bytes that were never sent.
    Corrupted,
}

/// What became of all connections.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verdict {
    /// Connections that transfer both ways.
    pub alive: usize,
    /// Connections that ended.
    pub reset: usize,
    /// Connections in which nothing arrives.
    pub stalled: usize,
    /// Connections with wrong content.
    pub corrupted: usize,
    /// The longest time in which a living connection delivered nothing, in milliseconds.
    pub longest_gap_ms: u64,
    /// Each connection.
    pub connections: Vec<ConnectionReport>,
}

/// One connection of a [`Verdict`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConnectionReport {
    /// What became of it.
    pub fate: Fate,
    /// The longest time in which one of its directions delivered nothing, in milliseconds.
    pub longest_gap_ms: u64,
    /// Bytes delivered from the client to the server, and back.
    pub delivered: [u64; 2],
    /// How it ended, when it did.
    pub detail: Option<String>,
}

impl Verdict {
    /// Whether every connection is alive.
    pub fn all_survived(&self) -> bool {
        self.alive == self.connections.len()
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    ToServer,
    ToClient,
}

/// Every connection's record.
#[derive(Debug)]
pub(super) struct Ledger {
    entries: Vec<Mutex<Entry>>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Entry {
    delivered: [u64; 2],
    last: [Instant; 2],
    longest_gap: Duration,
    failure: Option<(Fate, String)>,
}

impl Ledger {
    pub(super) fn new(connections: usize, now: Instant) -> Self {
        let entry = || {
            Mutex::new(Entry {
                delivered: [0; 2],
                last: [now; 2],
                longest_gap: Duration::ZERO,
                failure: None,
            })
        };
        let entries = std::iter::repeat_with(entry).take(connections).collect();
        Self { entries, closed: AtomicBool::new(false) }
    }

    /// Notes an arrival; an id that does not exist is nobody's.
    pub(super) fn delivered(&self, id: usize, way: Way, bytes: usize, now: Instant) {
        let Some(mut entry) = self.entry(id) else { return };
        let gap = now.saturating_duration_since(entry.last[way as usize]);
        entry.longest_gap = entry.longest_gap.max(gap);
        entry.last[way as usize] = now;
        entry.delivered[way as usize] += bytes as u64;
    }

    /// Notes a connection's end; the first reason counts, and none after [`Ledger::close`].
    pub(super) fn failed(&self, id: usize, fate: Fate, detail: String) {
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        if let Some(mut entry) = self.entry(id) {
            entry.failure.get_or_insert((fate, detail));
        }
    }

    /// From here on connections end because they are meant to.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Begins to look for the longest gap anew; one that lasts is counted from its beginning.
    pub(super) fn forget_gaps(&self) {
        for id in 0..self.entries.len() {
            if let Some(mut entry) = self.entry(id) {
                entry.longest_gap = Duration::ZERO;
            }
        }
    }

    /// Judges each connection by whether it delivered both ways after `resumed`.
    pub(super) fn verdict(&self, resumed: Instant, now: Instant) -> Verdict {
        let connections: Vec<_> = (0..self.entries.len())
            .filter_map(|id| self.entry(id))
            .map(|entry| entry.report(resumed, now))
            .collect();
        let count = |fate| connections.iter().filter(|report| report.fate == fate).count();
        Verdict {
            alive: count(Fate::Alive),
            reset: count(Fate::Reset),
            stalled: count(Fate::Stalled),
            corrupted: count(Fate::Corrupted),
            longest_gap_ms: connections
                .iter()
                .filter(|report| report.fate == Fate::Alive)
                .map(|report| report.longest_gap_ms)
                .max()
                .unwrap_or(0),
            connections,
        }
    }

    fn entry(&self, id: usize) -> Option<MutexGuard<'_, Entry>> {
        self.entries.get(id).map(|entry| entry.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entry {
    fn report(&self, resumed: Instant, now: Instant) -> ConnectionReport {
        let waiting = self.last.iter().map(|last| now.saturating_duration_since(*last)).max();
        let gap = self.longest_gap.max(waiting.unwrap_or_default());
        let moves = self.last.iter().all(|last| *last > resumed)
            && self.delivered.iter().all(|bytes| *bytes > 0);
        let (fate, detail) = match &self.failure {
            Some((fate, detail)) => (*fate, Some(detail.clone())),
            None if moves => (Fate::Alive, None),
            None => (Fate::Stalled, None),
        };
        ConnectionReport {
            fate,
            longest_gap_ms: gap.as_millis() as u64,
            delivered: self.delivered,
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    #[test]
    fn a_connection_is_alive_only_when_both_ways_deliver_after_the_failover() {
        let start = Instant::now();
        let ledger = Ledger::new(2, start);
        let resumed = start + MOMENT;
        for id in 0..2 {
            ledger.delivered(id, Way::ToServer, 10, resumed + MOMENT);
        }
        ledger.delivered(0, Way::ToClient, 10, resumed + MOMENT);
        ledger.delivered(1, Way::ToClient, 10, start);

        let verdict = ledger.verdict(resumed, resumed + MOMENT);
        assert_eq!((verdict.alive, verdict.stalled), (1, 1));
        assert!(!verdict.all_survived());
    }

    #[test]
    fn the_first_reason_of_an_end_counts_and_none_after_the_close() {
        let start = Instant::now();
        let ledger = Ledger::new(2, start);
        ledger.failed(0, Fate::Reset, "first".into());
        ledger.failed(0, Fate::Corrupted, "second".into());
        ledger.close();
        ledger.failed(1, Fate::Reset, "shutdown".into());

        let verdict = ledger.verdict(start, start);
        assert_eq!((verdict.reset, verdict.stalled, verdict.corrupted), (1, 1, 0));
        assert_eq!(verdict.connections[0].detail.as_deref(), Some("first"));
    }

    #[test]
    fn a_gap_that_still_lasts_is_counted() {
        let start = Instant::now();
        let ledger = Ledger::new(1, start);
        ledger.delivered(0, Way::ToServer, 1, start + MOMENT);
        ledger.delivered(0, Way::ToClient, 1, start + MOMENT * 2);
        let verdict = ledger.verdict(start, start + MOMENT * 10);
        assert_eq!(verdict.longest_gap_ms, 180);
    }
}
