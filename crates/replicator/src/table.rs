//! A table of flows: found by original tuple and zone, walked in the order of its slots.
//!
//! Slots are reused last in, first out, so the walk does not depend on a hasher. The hash is
//! keyed with a secret of the caller, because strangers choose the tuples.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use hashbrown::HashTable;
use lockstep_ctnetlink::{L4, Tuple};

use crate::stored::Stored;

/// A place in a [`Table`], valid until its entry is removed.
pub(crate) type Slot = u32;

/// What a table holds.
pub(crate) trait Entry {
    fn stored(&self) -> &Stored;
}

/// The table has reached its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Full;

pub(crate) struct Table<T> {
    /// In pieces, so that growing never copies the whole.
    chunks: Vec<Vec<Option<T>>>,
    slots: Slot,
    free: Vec<Slot>,
    index: HashTable<Slot>,
    hasher: DefaultHasher,
    limit: usize,
}

impl<T: Entry> Table<T> {
    /// An empty table of at most `limit` entries.
    pub(crate) fn new(limit: usize, secret: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        secret.hash(&mut hasher);
        Self {
            chunks: Vec::new(),
            slots: 0,
            free: Vec::new(),
            index: HashTable::new(),
            hasher,
            limit: limit.min(Slot::MAX as usize),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One more than the highest slot in use; walk `0..slots()` with [`Table::get`].
    pub(crate) fn slots(&self) -> Slot {
        self.slots
    }

    pub(crate) fn find(&self, orig: &Tuple, zone: u16) -> Option<Slot> {
        let same = |slot: &Slot| self.get(*slot).is_some_and(|e| e.stored().key() == (orig, zone));
        self.index.find(hash(&self.hasher, orig, zone), same).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&T> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)?.as_mut()
    }

    /// Adds an entry whose key is not in the table yet.
    pub(crate) fn insert(&mut self, entry: T) -> Result<Slot, Full> {
        debug_assert!({
            let (orig, zone) = entry.stored().key();
            self.find(orig, zone).is_none()
        });
        if self.len() >= self.limit {
            return Err(Full);
        }
        let (orig, zone) = entry.stored().key();
        let hashed = hash(&self.hasher, orig, zone);
        let slot = self.place(entry);
        let (chunks, hasher) = (&self.chunks, &self.hasher);
        self.index.insert_unique(hashed, slot, |slot| rehash(chunks, hasher, *slot));
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<T> {
        let (orig, zone) = self.get(slot)?.stored().key();
        let hashed = hash(&self.hasher, orig, zone);
        if let Ok(found) = self.index.find_entry(hashed, |candidate| *candidate == slot) {
            found.remove();
        }
        self.free.push(slot);
        self.chunks[slot as usize / CHUNK][slot as usize % CHUNK].take()
    }

    /// Removes everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.chunks = Vec::new();
        self.slots = 0;
        self.free = Vec::new();
        self.index = HashTable::new();
    }

    /// The entries in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten().flatten()
    }

    fn place(&mut self, entry: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.chunks[slot as usize / CHUNK][slot as usize % CHUNK] = Some(entry);
            return slot;
        }
        let slot = self.slots;
        if slot as usize / CHUNK == self.chunks.len() {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[slot as usize / CHUNK].push(Some(entry));
        self.slots += 1;
        slot
    }
}

fn rehash<T: Entry>(chunks: &[Vec<Option<T>>], hasher: &DefaultHasher, slot: Slot) -> u64 {
    match &chunks[slot as usize / CHUNK][slot as usize % CHUNK] {
        Some(entry) => {
            let (orig, zone) = entry.stored().key();
            hash(hasher, orig, zone)
        }
        None => 0,
    }
}

fn hash(keyed: &DefaultHasher, orig: &Tuple, zone: u16) -> u64 {
    let mut hasher = keyed.clone();
    match (orig.source, orig.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            hasher.write_u64(u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits()));
        }
        (source, destination) => (source, destination).hash(&mut hasher),
    }
    let l4 = match orig.l4 {
        L4::None => 0,
        L4::Ports { source, destination } => u64::from(source) << 16 | u64::from(destination),
        L4::Icmp { kind, code, id } => {
            u64::from(kind) << 24 | u64::from(code) << 16 | u64::from(id)
        }
    };
    hasher.write_u64(u64::from(orig.protocol) << 48 | u64::from(zone) << 32 | l4);
    hasher.finish()
}

const CHUNK: usize = 1024;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use lockstep_ctnetlink::Flow;

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
        let key = flow(1, 0);
        assert_eq!(table.find(key.key().0, 0), Some(first));
        assert_eq!(table.find(key.key().0, 7), Some(second));
        table.remove(first);
        assert_eq!(table.find(key.key().0, 0), None);
        assert_eq!(table.find(key.key().0, 7), Some(second));
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
        let walked: Vec<_> = table.iter().map(|entry| entry.key().0.l4).collect();
        assert_eq!(walked[1500], L4::Ports { source: 3000, destination: 80 });
        assert_eq!(walked.len(), 3000);
    }
}
