//! What a peer does not speak of any more is dropped, piece by piece.
//!
//! Until its turn comes an entry is stale: still there, and known to be none of what the peer has.
//! A peer that speaks of it nevertheless makes it a current one.

use super::{External, Remote, is_older};
use crate::table::Slot;

/// A walk over all slots.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    /// What the peer has not spoken of since this generation began is stale.
    generation: u16,
    next: Slot,
}

impl External {
    /// Begins to drop the peer's entries that it has not spoken of since `generation` began. Its
    /// expectations, which are few, are dropped at once.
    pub(crate) fn begin_sweep(&mut self, peer: u8, generation: u16) {
        self.expectations.sweep(peer, generation);
        let Some(sweep) = self.sweeps.get_mut(usize::from(peer)) else { return };
        // The newer of the two drops what the older would.
        if sweep.is_none_or(|under_way| is_older(under_way.generation, generation)) {
            *sweep = Some(Sweep { generation, next: 0 });
        }
    }

    /// Whether a sweep is under way.
    pub(crate) fn is_sweeping(&self) -> bool {
        self.sweeps.iter().any(Option::is_some)
    }

    /// Whether one of this peer's entries is.
    pub(crate) fn is_sweeping_of(&self, peer: u8) -> bool {
        self.sweeps.get(usize::from(peer)).is_some_and(Option::is_some)
    }

    /// Whether a sweep under way is to drop this entry.
    pub(crate) fn is_stale(&self, entry: &Remote) -> bool {
        let sweep = self.sweeps.get(usize::from(entry.peer)).copied().flatten();
        sweep.is_some_and(|sweep| is_older(entry.generation, sweep.generation))
    }

    /// Goes on with a sweep under way, past this many slots at most; returns how many entries were
    /// dropped.
    pub(crate) fn sweep_on(&mut self, slots: Slot) -> usize {
        let under_way = |peer: &u8| self.is_sweeping_of(*peer);
        let Some(peer) = (0..self.sweeps.len() as u8).find(under_way) else { return 0 };
        let place = usize::from(peer);
        let Some(sweep) = self.sweeps[place] else { return 0 };
        let all = self.table.slots();
        let end = all.min(sweep.next.saturating_add(slots));
        let dropped = self.drop_where(sweep.next..end, |entry| {
            entry.peer == peer && is_older(entry.generation, sweep.generation)
        });
        self.sweeps[place] = (end < all).then_some(Sweep { next: end, ..sweep });
        dropped
    }
}
