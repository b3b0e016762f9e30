//! Neighbours that are heard but not understood: a refused advertisement is not silence.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::advertisement::DecodeError;
use crate::verdict::Rejection;

/// Most neighbours remembered. Beyond that, one that was heard once or has fallen silent makes
/// room; when there is none, the newcomer is counted and not remembered, so that no flood from
/// made-up addresses pushes a steady neighbour out.
pub const MAX_NEIGHBOURS: usize = 16;

/// Least time between two pieces of news about neighbours, whatever is sent.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

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
    familiarity: Familiarity,
    told: bool,
}

impl fmt::Display for Misunderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sends {}", self.source, self.rejection)
    }
}

/// How well a neighbour is known: what a flood of one-off senders cannot have.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Familiarity {
    times: u64,
    last: Option<Instant>,
}

impl Familiarity {
    pub(crate) fn heard(&mut self, now: Instant) {
        self.times = self.times.saturating_add(1);
        self.last = Some(now);
    }

    /// Which of many makes room: the one heard least, and of those the one silent for longest.
    /// One that was heard more than once and within `patience` never does.
    pub(crate) fn least<Key>(
        all: impl Iterator<Item = (Key, Self)>,
        patience: Duration,
        now: Instant,
    ) -> Option<Key> {
        let silent = |known: &Self| {
            known.last.is_none_or(|last| now.saturating_duration_since(last) >= patience)
        };
        all.filter(|(_, known)| known.times <= 1 || silent(known))
            .min_by_key(|(_, known)| (known.times, known.last))
            .map(|(key, _)| key)
    }
}

/// What an operator is told, and how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    told_at: Option<Instant>,
}

impl News {
    /// Whether something is to be told now: once, as `told` remembers, and with
    /// [`TELL_INTERVAL`] after what was told before it.
    pub(crate) fn tell(&mut self, told: &mut bool, now: Instant) -> bool {
        let paused =
            self.told_at.is_some_and(|at| now.saturating_duration_since(at) < TELL_INTERVAL);
        if *told || paused {
            return false;
        }
        *told = true;
        self.told_at = Some(now);
        true
    }
}

/// The newest refusal of each neighbour.
#[derive(Clone, Debug, Default)]
pub(crate) struct Neighbours {
    by_address: BTreeMap<IpAddr, Misunderstood>,
    news: News,
    present: Option<Present>,
}

/// A neighbour that takes part in our virtual router, though it is not understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Present {
    pub(crate) source: IpAddr,
    pub(crate) rejection: Rejection,
    /// When it is missed.
    pub(crate) until: Instant,
}

impl Neighbours {
    /// Remembers a refusal. Returns whether an operator should hear of it: once for each new
    /// reason of a neighbour, and at most once in [`TELL_INTERVAL`], whatever is sent.
    pub(crate) fn remember(
        &mut self,
        source: IpAddr,
        rejection: Rejection,
        patience: Duration,
        now: Instant,
    ) -> bool {
        if !self.make_room_for(source, patience, now) {
            return false;
        }
        let fresh = Misunderstood {
            source,
            rejection,
            since: now,
            last: now,
            count: 0,
            familiarity: Familiarity::default(),
            told: false,
        };
        let entry = self.by_address.entry(source).or_insert(fresh);
        if !entry.rejection.is_like(&rejection) {
            *entry = Misunderstood { familiarity: entry.familiarity, ..fresh };
        }
        entry.rejection = rejection;
        entry.last = now;
        entry.count += 1;
        entry.familiarity.heard(now);
        self.news.tell(&mut entry.told, now)
    }

    /// Notes that somebody that [`takes_part`] is there. Of several, the one that is there for
    /// longest stays noted; of one, the newest word counts.
    pub(crate) fn note_presence(&mut self, newest: Present) {
        let longer = |noted: &Present| noted.source != newest.source && noted.until > newest.until;
        if !self.present.as_ref().is_some_and(longer) {
            self.present = Some(newest);
        }
    }

    /// It says that it stops. Returns whether it was the one noted.
    pub(crate) fn end_presence(&mut self, source: IpAddr) -> bool {
        self.present.take_if(|present| present.source == source).is_some()
    }

    /// The refused neighbour that takes part and is there for longest, if one is there.
    pub(crate) fn present(&self, now: Instant) -> Option<Present> {
        self.present.filter(|present| present.until > now)
    }

    /// A neighbour that is understood again has nothing held against it.
    pub(crate) fn forget(&mut self, source: IpAddr) {
        self.end_presence(source);
        if !self.by_address.is_empty() {
            self.by_address.remove(&source);
        }
    }

    /// Whether nobody is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }

    /// Forgets neighbours that have been unheard for `age`.
    pub(crate) fn age(&mut self, age: Duration, now: Instant) {
        self.by_address.retain(|_, entry| now.saturating_duration_since(entry.last) < age);
    }

    /// Newest last.
    pub(crate) fn newest_last(&self) -> Vec<Misunderstood> {
        let mut all: Vec<_> = self.by_address.values().copied().collect();
        all.sort_by_key(|entry| entry.last);
        all
    }

    /// Whether there is room for `source`, made if need be.
    fn make_room_for(&mut self, source: IpAddr, patience: Duration, now: Instant) -> bool {
        if self.by_address.len() < MAX_NEIGHBOURS || self.by_address.contains_key(&source) {
            return true;
        }
        let all = self.by_address.values().map(|entry| (entry.source, entry.familiarity));
        let least = Familiarity::least(all, patience, now);
        if let Some(address) = least {
            self.by_address.remove(&address);
        }
        least.is_some()
    }
}

/// Whether whoever sends that takes part in our virtual router as far as can be told. Not those
/// that speak another protocol by the same number (CARP), that may be far away, that speak for
/// another virtual router, or that are ourselves.
pub(crate) fn takes_part(rejection: &Rejection) -> bool {
    !matches!(
        rejection,
        Rejection::Protocol(_)
            | Rejection::Ttl(_)
            | Rejection::Distance { .. }
            | Rejection::NotAPeer
            | Rejection::Vrid { .. }
            | Rejection::OwnAddress
            | Rejection::Malformed(
                DecodeError::Length { .. } | DecodeError::Type(_) | DecodeError::Vrid
            )
    )
}
