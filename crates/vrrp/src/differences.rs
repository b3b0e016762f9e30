//! Neighbours that are heard and heeded although they are set up otherwise: told, never a reason to
//! drop (RFC 9568 §7.1 leaves the list of addresses to us, and version 3 learns the interval).

use std::fmt;
use std::mem::discriminant;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address_list::AddressListDifference;
use crate::config::ChecksumDialect;
use crate::neighbours::{Familiarity, News};

/// Most differences remembered, of all neighbours together; a neighbour has at most four. Those
/// that were seen once make room, those that keep being seen stay.
pub const MAX_DIFFERENCES: usize = 64;

/// A neighbour that is heeded although it differs.
///
/// `Display` is a sentence for people: "10.1.1.2 is heeded, but sends …".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The neighbour's address.
    pub source: IpAddr,
    /// In what it differs, with both values.
    pub differing: Differing,
    /// Since when, with these values.
    pub since: Instant,
    /// When it was last seen.
    pub last: Instant,
    familiarity: Familiarity,
    told: bool,
}

/// In what a heeded neighbour differs from this router, with both values.
///
/// `Display` completes a sentence that begins with the sender, "10.1.1.2 is heeded, but sends …".
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Differing {
    /// The other reading of the version 3 checksum over IPv4. A neighbour that accepts only its
    /// own reading refuses what this router sends.
    Checksum {
        /// Their reading.
        theirs: ChecksumDialect,
        /// Our reading.
        ours: ChecksumDialect,
    },
    /// Version 3: another interval, which is learned. Some implementations refuse it.
    Interval {
        /// Their interval.
        theirs: Duration,
        /// Our interval.
        ours: Duration,
    },
    /// Another list of virtual addresses. keepalived before 2.3.3 refuses it.
    Addresses(AddressListDifference),
    /// Priority 255, as this router does: there can be only one owner of the addresses.
    Owner,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is heeded, but sends {}", self.source, self.differing)
    }
}

impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { theirs, ours } => {
                write!(f, "checksums {}, ours are {}", reading(*theirs), reading(*ours))
            }
            Self::Interval { theirs, ours } => {
                write!(f, "an advertisement interval of {theirs:?}, ours is {ours:?}")
            }
            Self::Addresses(difference) => difference.lists().fmt(f),
            Self::Owner => f.write_str("priority 255 (address owner), as we do"),
        }
    }
}

fn reading(dialect: ChecksumDialect) -> &'static str {
    match dialect {
        ChecksumDialect::PseudoHeader => "with a pseudo header (RFC 5798)",
        ChecksumDialect::MessageAlone => "without a pseudo header (RFC 9568)",
    }
}

/// The differences of all neighbours.
#[derive(Clone, Debug, Default)]
pub(crate) struct Differences {
    /// Few and seldom: a list is searched faster than a tree.
    all: Vec<Difference>,
    news: News,
}

impl Differences {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Everything held against anybody is void, because our settings are other ones.
    pub(crate) fn clear(&mut self) {
        self.all.clear();
    }

    /// In the order in which they were first seen.
    pub(crate) fn list(&self) -> &[Difference] {
        &self.all
    }

    /// Remembers that `source` differs. Returns whether an operator should hear of it: once until
    /// it changes, and no more often than [`News`] lets it, whatever is sent.
    pub(crate) fn remember(
        &mut self,
        source: IpAddr,
        differing: &Differing,
        patience: Duration,
        now: Instant,
    ) -> bool {
        let position = self.position(source, differing).or_else(|| {
            self.make_room(patience, now).then(|| {
                self.all.push(Difference {
                    source,
                    differing: differing.clone(),
                    since: now,
                    last: now,
                    familiarity: Familiarity::default(),
                    told: false,
                });
                self.all.len() - 1
            })
        });
        let Some(entry) = position.and_then(|position| self.all.get_mut(position)) else {
            return false;
        };
        if entry.differing != *differing {
            entry.differing = differing.clone();
            entry.since = now;
            entry.told = false;
        }
        entry.last = now;
        entry.familiarity.heard(now);
        self.news.tell(&mut entry.told, now)
    }

    /// Sees again what was remembered of `source` and has not changed since.
    pub(crate) fn touch_addresses(&mut self, source: IpAddr, now: Instant) {
        let same = |entry: &&mut Difference| {
            entry.source == source && matches!(entry.differing, Differing::Addresses(_))
        };
        if let Some(entry) = self.all.iter_mut().find(same) {
            entry.last = now;
            entry.familiarity.heard(now);
        }
    }

    /// `source` does not differ in that any more.
    pub(crate) fn forget(&mut self, source: IpAddr, of: impl Fn(&Differing) -> bool) {
        self.all.retain(|entry| entry.source != source || !of(&entry.differing));
    }

    /// Forgets neighbours that have been unheard for `age`.
    pub(crate) fn age(&mut self, age: Duration, now: Instant) {
        self.all.retain(|entry| now.saturating_duration_since(entry.last) < age);
    }

    fn position(&self, source: IpAddr, differing: &Differing) -> Option<usize> {
        self.all.iter().position(|entry| {
            entry.source == source && discriminant(&entry.differing) == discriminant(differing)
        })
    }

    /// Whether there is room for one more, made if need be.
    fn make_room(&mut self, patience: Duration, now: Instant) -> bool {
        if self.all.len() < MAX_DIFFERENCES {
            return true;
        }
        let least = Familiarity::least(
            self.all.iter().map(|entry| entry.familiarity).enumerate(),
            patience,
            now,
        );
        if let Some(position) = least {
            self.all.remove(position);
        }
        least.is_some()
    }
}
