//! Neighbours that are heard but not understood: a refused advertisement is not silence.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::verdict::Rejection;

/// Most neighbours remembered; beyond that, the one unheard for longest is forgotten.
pub const MAX_NEIGHBOURS: usize = 16;

/// A neighbour whose advertisements are refused.
///
/// `Display` is a sentence for people: "10.1.1.2 sends a password that differs from ours".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Misunderstood {
    /// The neighbour's address.
    pub source: IpAddr,
    /// Why the newest one was refused.
    pub rejection: Rejection,
    /// Since when for that reason without a break.
    pub since: Instant,
    /// When it was last heard.
    pub last: Instant,
    /// How many were refused for that reason without a break.
    pub count: u64,
    told: bool,
}

impl fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sends {}", self.source, self.rejection)
    }
}

/// The newest refusal of each neighbour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    by_address: BTreeMap<IpAddr, Misunderstood>,
    told_at: Option<Instant>,
}

impl Neighbours {
    /// Remembers a refusal. Returns whether an operator should hear of it: once for each new
    /// reason of a neighbour, and at most once in [`TELL_INTERVAL`], whatever is sent.
    pub(crate) fn remember(&mut self, source: IpAddr, rejection: Rejection, now: Instant) -> bool {
        self.make_room_for(source);
        let fresh =
            Misunderstood { source, rejection, since: now, last: now, count: 0, told: false };
        let entry = self.by_address.entry(source).or_insert(fresh);
        if !entry.rejection.is_like(&rejection) {
            *entry = fresh;
        }
        entry.rejection = rejection;
        entry.last = now;
        entry.count += 1;
        let paused =
            self.told_at.is_some_and(|at| now.saturating_duration_since(at) < TELL_INTERVAL);
        if entry.told || paused {
            return false;
        }
        entry.told = true;
        self.told_at = Some(now);
        true
    }

    /// A neighbour that is understood again has nothing held against it.
    pub(crate) fn forget(&mut self, source: IpAddr) {
        self.by_address.remove(&source);
    }

    /// Newest last.
    pub(crate) fn newest_last(&self) -> Vec<Misunderstood> {
        let mut all: Vec<_> = self.by_address.values().copied().collect();
        all.sort_by_key(|entry| entry.last);
        all
    }

    fn make_room_for(&mut self, source: IpAddr) {
        if self.by_address.len() < MAX_NEIGHBOURS || self.by_address.contains_key(&source) {
            return;
        }
        let oldest = self.by_address.values().min_by_key(|entry| entry.last);
        if let Some(address) = oldest.map(|entry| entry.source) {
            self.by_address.remove(&address);
        }
    }
}

const TELL_INTERVAL: Duration = Duration::from_secs(1);
