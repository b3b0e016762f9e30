//! Which flows have ended here a while ago: what another router tells of them is old.
//!
//! Two generations of fingerprints. When the younger is full, the older is forgotten and takes its
//! place, so what is known begins at a later time: for what may have ended before that there is no
//! answer.

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::key::Key;

/// Most ends in a generation.
const GENERATION: usize = 131_072;

/// Whether a flow has ended here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ended {
    /// It has not.
    No,
    /// It has.
    Yes,
    /// What is remembered does not go back that far.
    Unknown,
}

/// The ends of flows, as far back as they are remembered.
pub(crate) struct Ends {
    keyed: SipHasher13,
    younger: HashTable<End>,
    older: HashTable<End>,
    /// Seconds since the start from which on every end is known; of the younger generation, and of
    /// both.
    since_s: (u32, u32),
    most: usize,
}

/// The fingerprint of a flow in two halves, and when it ended last in seconds since the start.
#[derive(Clone, Copy)]
struct End {
    fingerprint: [u32; 2],
    at_s: u32,
}

impl End {
    fn hash(&self) -> u64 {
        let [high, low] = self.fingerprint;
        u64::from(high) << 32 | u64::from(low)
    }
}

impl Ends {
    pub(crate) fn new(secret: u64) -> Self {
        Self {
            keyed: SipHasher13::new_with_keys(secret, !secret),
            younger: HashTable::new(),
            older: HashTable::new(),
            since_s: (0, 0),
            most: GENERATION,
        }
    }

    /// The flow has ended.
    pub(crate) fn note(&mut self, key: &Key, now_s: u32) {
        if self.younger.len() >= self.most {
            std::mem::swap(&mut self.younger, &mut self.older);
            self.younger.clear();
            self.since_s = (now_s, self.since_s.0);
        }
        let end = self.fingerprint(key, now_s);
        let same = |known: &End| known.fingerprint == end.fingerprint;
        if let Some(known) = self.younger.find_mut(end.hash(), same) {
            known.at_s = now_s;
        } else {
            self.younger.insert_unique(end.hash(), end, End::hash);
        }
    }

    /// Flows may have ended before now of which nobody will ever hear.
    pub(crate) fn lose(&mut self, now_s: u32) {
        self.since_s = (now_s, now_s);
    }

    /// Whether the flow has ended at `from_s` or later.
    pub(crate) fn has_ended(&self, key: &Key, from_s: u32) -> Ended {
        let looked_for = self.fingerprint(key, 0);
        let same = |known: &End| known.fingerprint == looked_for.fingerprint;
        let find = |ends: &HashTable<End>| ends.find(looked_for.hash(), same).map(|end| end.at_s);
        let last_s = find(&self.younger).max(find(&self.older));
        if last_s.is_some_and(|at_s| at_s >= from_s) {
            Ended::Yes
        } else if from_s < self.since_s.1 {
            Ended::Unknown
        } else {
            Ended::No
        }
    }

    fn fingerprint(&self, key: &Key, at_s: u32) -> End {
        let hash = key.hash(&self.keyed);
        End { fingerprint: [(hash >> 32) as u32, hash as u32], at_s }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use lockstep_ctnetlink::{Flow, L4, Tuple};

    use super::*;

    fn key(number: u16) -> Key {
        let orig = Tuple {
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
            protocol: 17,
            l4: L4::Ports { source: number, destination: 80 },
        };
        Key::of(&Flow::new(orig, orig.inverse()))
    }

    #[test]
    fn an_end_is_known_with_its_time() {
        let mut ends = Ends::new(7);
        ends.note(&key(1), 100);
        assert_eq!(ends.has_ended(&key(1), 100), Ended::Yes);
        assert_eq!(ends.has_ended(&key(1), 101), Ended::No, "it began again after its end");
        assert_eq!(ends.has_ended(&key(2), 0), Ended::No);
        ends.note(&key(1), 200);
        assert_eq!(ends.has_ended(&key(1), 150), Ended::Yes, "the last end counts");
    }

    #[test]
    fn what_may_have_ended_before_anything_is_remembered_is_not_said_to_live() {
        let mut ends = Ends::new(7);
        ends.note(&key(1), 100);
        ends.lose(300);
        assert_eq!(ends.has_ended(&key(2), 299), Ended::Unknown);
        assert_eq!(ends.has_ended(&key(2), 300), Ended::No);
        assert_eq!(ends.has_ended(&key(1), 50), Ended::Yes, "what is known stays known");
    }

    #[test]
    fn the_oldest_ends_are_forgotten_and_nothing_is_said_of_their_time() {
        let mut ends = Ends::new(7);
        ends.most = 100;
        for number in 0..1_000 {
            ends.note(&key(number), u32::from(number));
            assert!(ends.younger.len() + ends.older.len() <= 200);
        }
        assert_eq!(ends.has_ended(&key(950), 900), Ended::Yes);
        assert_eq!(ends.has_ended(&key(850), 800), Ended::Yes);
        assert_eq!(ends.has_ended(&key(100), 50), Ended::Unknown);
        assert_eq!(ends.has_ended(&key(5_000), 800), Ended::No);
        assert_eq!(ends.has_ended(&key(5_000), 799), Ended::Unknown);
    }
}
