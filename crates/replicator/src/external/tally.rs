//! How many entries of whom there are, known at any time without a walk over all of them.

use super::{External, Remote, is_older};
use crate::key::Key;
use crate::table::{Full, Slot};

/// Of one peer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    /// Entries that it told last.
    pub(super) told: u32,
    /// Of these, entries that its current generation has confirmed.
    pub(super) confirmed: u32,
    /// The generation with which a row of copies began.
    pub(super) row: u16,
    /// Of its entries, those that the row has confirmed.
    pub(super) gathered: u32,
}

/// Peer and generation of an entry.
type Teller = (u8, u16);

impl External {
    /// The peer's entries.
    pub(crate) fn told(&self, peer: u8) -> usize {
        self.tallies.get(usize::from(peer)).map_or(0, |tally| tally.told as usize)
    }

    /// The peer's entries that it has confirmed in its current generation.
    pub(crate) fn confirmed(&self, peer: u8) -> usize {
        self.tallies.get(usize::from(peer)).map_or(0, |tally| tally.confirmed as usize)
    }

    /// The generation with which the row of copies began to which the peer's current one belongs, and the
    /// peer's entries that one of them has confirmed.
    pub(crate) fn gathered(&self, peer: u8) -> (u16, usize) {
        self.tallies
            .get(usize::from(peer))
            .map_or((0, 0), |tally| (tally.row, tally.gathered as usize))
    }

    /// Whether there is anything that the peer has told.
    pub(crate) fn has_told(&self, peer: u8) -> bool {
        self.told(peer) > 0
    }

    pub(super) fn insert(&mut self, entry: Remote) -> Result<Slot, Full> {
        let teller = (entry.peer, entry.generation);
        let slot = self.table.insert(entry)?;
        self.count(teller);
        Ok(slot)
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> Option<Remote> {
        let entry = self.table.remove(slot)?;
        self.uncount((entry.peer, entry.generation));
        Some(entry)
    }

    pub(super) fn count(&mut self, (peer, generation): Teller) {
        let confirmed = u32::from(generation == self.generation(peer));
        let tally = self.tally(peer);
        tally.told += 1;
        tally.confirmed += confirmed;
        tally.gathered += u32::from(!is_older(generation, tally.row));
    }

    pub(super) fn uncount(&mut self, (peer, generation): Teller) {
        let confirmed = u32::from(generation == self.generation(peer));
        let tally = self.tally(peer);
        tally.told = tally.told.saturating_sub(1);
        tally.confirmed = tally.confirmed.saturating_sub(confirmed);
        let gathered = u32::from(!is_older(generation, tally.row));
        tally.gathered = tally.gathered.saturating_sub(gathered);
    }

    /// Nothing is left of which there was anything to count, or to sweep.
    pub(super) fn forget_tallies(&mut self) {
        self.tallies = self.tallies.map(|tally| Tally { row: tally.row, ..Tally::default() });
        self.sweeps = [None; 8];
    }

    /// Whether there is such a flow, and not only one that the sweep under way is to drop.
    pub(crate) fn knows(&self, key: &Key) -> bool {
        let entry = self.table.find(key).and_then(|slot| self.table.get(slot));
        entry.is_some_and(|entry| !self.is_stale(entry))
    }

    /// Peers are few: see `MAX_PEERS`.
    pub(super) fn tally(&mut self, peer: u8) -> &mut Tally {
        &mut self.tallies[usize::from(peer) % 8]
    }
}
