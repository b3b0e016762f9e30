//! A table of flows (or expectations): found by key, walked in the order of its slots.
//!
//! Entries lie in pieces of [`CHUNK`] places that never move; a place that is given back is reused
//! first, so the walk does not depend on a hasher and the steady state allocates nothing. The index
//! holds eight bytes for each entry, a hash beside the slot, so that growing it touches no entry.
//! The hash is keyed with a secret of the caller, because strangers choose the tuples.

use hashbrown::HashTable;
use siphasher::sip::SipHasher13;

use crate::key::Key;
use crate::stored::Stored;

/// A place in a [`Table`], valid until its entry is removed.
pub(crate) type Slot = u32;

/// A flow that a table holds.
pub(crate) trait Entry {
    fn stored(&self) -> &Stored;
}

/// What a table holds.
pub(crate) trait Keyed {
    type Key;

    fn hash_key(key: &Self::Key, keyed: &SipHasher13) -> u64;

    /// The hash of its key.
    fn hash(&self, keyed: &SipHasher13) -> u64;

    fn is(&self, key: &Self::Key) -> bool;
}

impl<T: Entry> Keyed for T {
    type Key = Key;

    fn hash_key(key: &Key, keyed: &SipHasher13) -> u64 {
        key.hash(keyed)
    }

    fn hash(&self, keyed: &SipHasher13) -> u64 {
        self.stored().key().hash(keyed)
    }

    fn is(&self, key: &Key) -> bool {
        self.stored().is(key)
    }
}

/// The table has reached its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// What a table has to say about its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Notice {
    /// It has begun to refuse entries.
    Full,
    /// There is room again, not only for one entry.
    HasRoom,
}

pub(crate) struct Table<T> {
    /// In pieces, so that growing never copies the whole.
    chunks: Vec<Vec<Place<T>>>,
    slots: Slot,
    /// The place given back last; each free place knows the one before.
    free: Option<Slot>,
    index: HashTable<Indexed>,
    keyed: SipHasher13,
    limit: usize,
    refusing: bool,
    /// An entry was refused since the last notice.
    refused: bool,
    /// What the last notice said of `refusing`.
    noticed: bool,
}

enum Place<T> {
    Used(T),
    Free { before: Option<Slot> },
}

#[derive(Clone, Copy)]
struct Indexed {
    hash: u32,
    slot: Slot,
}

impl Indexed {
    /// Half a hash is plenty to choose among four thousand million places.
    fn spread(self) -> u64 {
        u64::from(self.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl<T> Place<T> {
    fn used(&self) -> Option<&T> {
        match self {
            Self::Used(entry) => Some(entry),
            Self::Free { .. } => None,
        }
    }
}

impl<T: Keyed> Table<T> {
    /// An empty table of at most `limit` entries.
    pub(crate) fn new(limit: usize, secret: u64) -> Self {
        let other_half = secret.rotate_left(23) ^ 0x6a09_e667_f3bc_c908;
        Self {
            chunks: Vec::new(),
            slots: 0,
            free: None,
            index: HashTable::new(),
            keyed: SipHasher13::new_with_keys(secret, other_half),
            limit: limit.min(Slot::MAX as usize),
            refusing: false,
            refused: false,
            noticed: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One more than the highest slot in use; walk `0..slots()` with [`Table::get`].
    pub(crate) fn slots(&self) -> Slot {
        self.slots
    }

    /// What is over a lowered limit stays until it ends.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(Slot::MAX as usize);
        self.look_for_room();
    }

    pub(crate) fn find(&self, key: &T::Key) -> Option<Slot> {
        let hash = T::hash_key(key, &self.keyed) as u32;
        let same = |found: &Indexed| {
            found.hash == hash && self.get(found.slot).is_some_and(|entry| entry.is(key))
        };
        let found = self.index.find(Indexed { hash, slot: 0 }.spread(), same);
        found.map(|found| found.slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.used()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?;
        match chunk.get_mut(slot as usize % CHUNK)? {
            Place::Used(entry) => Some(entry),
            Place::Free { .. } => None,
        }
    }

    /// Whether an entry was refused, and there has been no room since.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing
    }

    /// Adds an entry whose key is not in the table yet.
    pub(crate) fn insert(&mut self, entry: T) -> Result<Slot, Full> {
        if self.len() >= self.limit {
            self.refusing = true;
            self.refused = true;
            return Err(Full);
        }
        let hash = entry.hash(&self.keyed) as u32;
        let slot = self.place(entry);
        let indexed = Indexed { hash, slot };
        self.index.insert_unique(indexed.spread(), indexed, |indexed| indexed.spread());
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let hash = self.get(slot)?.hash(&self.keyed) as u32;
        let spread = Indexed { hash, slot }.spread();
        if let Ok(found) = self.index.find_entry(spread, |candidate| candidate.slot == slot) {
            found.remove();
        }
        let free = Place::Free { before: self.free.replace(slot) };
        let place = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
        let Place::Used(entry) = std::mem::replace(place, free) else { return None };
        self.look_for_room();
        Some(entry)
    }

    /// Removes everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.chunks = Vec::new();
        self.slots = 0;
        self.free = None;
        self.index = HashTable::new();
        self.look_for_room();
    }

    /// Takes the entries out; what is left is empty and has the same limit.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self {
            chunks: Vec::new(),
            slots: 0,
            free: None,
            index: HashTable::new(),
            keyed: self.keyed,
            limit: self.limit,
            refusing: false,
            refused: false,
            noticed: self.noticed,
        };
        std::mem::replace(self, empty)
    }

    /// Gives a part of the memory of a table that nobody needs any more back; `false` when there was
    /// none left. Nothing is found in it from then on.
    pub(crate) fn dismantle(&mut self) -> bool {
        self.index = HashTable::new();
        self.chunks.pop().is_some()
    }

    /// The entries in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().filter_map(Place::used)
    }

    /// Says once that entries are refused, and again only after there was room for a sixteenth of
    /// the limit. What was refused and had room again since is said in two notices.
    pub(crate) fn take_notice(&mut self) -> Option<Notice> {
        let full = std::mem::take(&mut self.refused) || self.refusing;
        if !self.noticed && full {
            self.noticed = true;
            return Some(Notice::Full);
        }
        if self.noticed && !self.refusing {
            self.noticed = false;
            return Some(Notice::HasRoom);
        }
        None
    }

    fn look_for_room(&mut self) {
        let room = self.limit.saturating_sub(self.len());
        self.refusing &= room < (self.limit / 16).max(1);
    }

    fn place(&mut self, entry: T) -> Slot {
        if let Some(slot) = self.free {
            let place = &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK];
            if let Place::Free { before } = std::mem::replace(place, Place::Used(entry)) {
                self.free = before;
            }
            return slot;
        }
        let slot = self.slots;
        if slot as usize / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[slot as usize / CHUNK].push(Place::Used(entry));
        self.slots += 1;
        slot
    }
}

/// Places allocated at a time.
const CHUNK: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use lockstep_ctnetlink::{Flow, L4, Tuple};

    use super::*;

    impl Entry for Stored {
        fn stored(&self) -> &Stored {
            self
        }
    }

    fn flow(number: u16, zone: u16) -> Stored {
        let orig = Tuple {
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            destination: IpAddr::V4(Ipv4Addr::LOCALHOST),
            protocol: 6,
            l4: L4::Ports { source: number, destination: 80 },
        };
        let mut flow = Flow::new(orig, orig.inverse());
        flow.zone = zone;
        Stored::from(&flow)
    }

    #[test]
    fn the_same_tuple_lives_in_two_zones() {
        let mut table = Table::new(10, 1);
        let first = table.insert(flow(1, 0)).unwrap();
        let second = table.insert(flow(1, 7)).unwrap();
        assert_eq!(table.find(&flow(1, 0).key()), Some(first));
        assert_eq!(table.find(&flow(1, 7).key()), Some(second));
        table.remove(first);
        assert_eq!(table.find(&flow(1, 0).key()), None);
        assert_eq!(table.find(&flow(1, 7).key()), Some(second));
    }

    #[test]
    fn a_full_table_refuses_and_a_removed_entry_makes_room() {
        let mut table = Table::new(3000, 1);
        for number in 0..3000 {
            table.insert(flow(number, 0)).unwrap();
        }
        assert_eq!(table.insert(flow(3000, 0)), Err(Full));
        table.remove(1500).unwrap();
        assert_eq!(table.insert(flow(3000, 0)), Ok(1500));
        assert_eq!((table.len(), table.slots()), (3000, 3000));
        let walked: Vec<_> = table.iter().map(|entry| entry.orig().l4).collect();
        assert_eq!(walked[1500], L4::Ports { source: 3000, destination: 80 });
        assert_eq!(walked.len(), 3000);
    }

    #[test]
    fn places_given_back_are_used_before_new_ones() {
        let mut table = Table::new(100, 1);
        for number in 0..50 {
            table.insert(flow(number, 0)).unwrap();
        }
        for slot in [7, 30, 11] {
            table.remove(slot).unwrap();
        }
        assert_eq!(table.remove(30).map(|entry| entry.orig()), None, "it is gone already");
        let reused: Vec<_> = (50..54).map(|n| table.insert(flow(n, 0)).unwrap()).collect();
        assert_eq!(reused, [11, 30, 7, 50]);
    }

    #[test]
    fn a_full_table_says_so_once_until_it_had_room_for_more_than_one() {
        let mut table = Table::new(160, 1);
        for number in 0..160 {
            table.insert(flow(number, 0)).unwrap();
        }
        assert_eq!(table.take_notice(), None, "nothing has been refused yet");
        assert_eq!(table.insert(flow(1000, 0)), Err(Full));
        assert_eq!((table.take_notice(), table.take_notice()), (Some(Notice::Full), None));
        for slot in 0..9 {
            table.remove(slot).unwrap();
            table.insert(flow(2000 + slot as u16, 0)).unwrap();
            assert_eq!(table.insert(flow(3000, 0)), Err(Full));
        }
        assert_eq!(table.take_notice(), None, "one place is not room");
        for slot in 0..10 {
            table.remove(slot).unwrap();
        }
        assert_eq!((table.take_notice(), table.take_notice()), (Some(Notice::HasRoom), None));
    }

    #[test]
    fn a_table_that_had_room_again_before_anybody_looked_says_both() {
        let mut table = Table::new(16, 1);
        for number in 0..16 {
            table.insert(flow(number, 0)).unwrap();
        }
        assert_eq!(table.insert(flow(1000, 0)), Err(Full));
        table.remove(3).unwrap();
        assert!(!table.is_refusing());
        assert_eq!(table.take_notice(), Some(Notice::Full));
        assert_eq!((table.take_notice(), table.take_notice()), (Some(Notice::HasRoom), None));
    }

    #[test]
    fn a_lowered_limit_refuses_and_keeps_what_is_there() {
        let mut table = Table::new(100, 1);
        for number in 0..50 {
            table.insert(flow(number, 0)).unwrap();
        }
        table.set_limit(20);
        assert_eq!((table.insert(flow(99, 0)), table.len()), (Err(Full), 50));
        table.set_limit(100);
        assert!(table.insert(flow(99, 0)).is_ok());
    }
}
