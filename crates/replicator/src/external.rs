//! The external cache: what the peer has told.

use lockstep_ctnetlink::{Flow, L4, ProtocolState};

use crate::statistics::Counters;
use crate::stored::Stored;
use crate::table::{Entry, Slot, Table};
use crate::wire::Change;

pub(crate) struct External {
    pub(crate) table: Table<Remote>,
    /// Grows with every resync; an entry carries the value of its last confirmation.
    generation: u32,
}

/// A flow of the peer's kernel.
pub(crate) struct Remote {
    pub(crate) stored: Stored,
    /// Seconds since the start when the peer last spoke of it.
    pub(crate) heard_s: u32,
    generation: u32,
}

impl Entry for Remote {
    fn stored(&self) -> &Stored {
        &self.stored
    }
}

impl External {
    pub(crate) fn new(limit: usize, secret: u64) -> Self {
        Self { table: Table::new(limit, secret), generation: 0 }
    }

    /// A resync begins: what is not spoken of from now on is not confirmed.
    pub(crate) fn begin_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    pub(crate) fn apply(
        &mut self,
        change: Change,
        flow: &Flow,
        now_s: u32,
        counters: &mut Counters,
    ) {
        if !is_complete(flow) {
            counters.external_incomplete += 1;
            return;
        }
        let found = self.table.find(&flow.orig, flow.zone);
        match (change, found) {
            (Change::Delete, Some(slot)) => {
                self.table.remove(slot);
                counters.external_destroyed += 1;
            }
            (Change::Delete, None) => {}
            (Change::New | Change::Update, Some(slot)) => {
                self.change(change, slot, flow, now_s);
                counters.external_updated += 1;
            }
            (Change::New | Change::Update, None) => {
                let generation = self.generation;
                let entry = Remote { stored: Stored::from(flow), heard_s: now_s, generation };
                match self.table.insert(entry) {
                    Ok(_) => counters.external_created += 1,
                    Err(_) => counters.external_full += 1,
                }
            }
        }
    }

    fn change(&mut self, change: Change, slot: Slot, flow: &Flow, now_s: u32) {
        let generation = self.generation;
        let Some(entry) = self.table.get_mut(slot) else { return };
        if change == Change::New {
            entry.stored = Stored::from(flow);
        } else {
            entry.stored.merge(flow);
        }
        entry.heard_s = now_s;
        entry.generation = generation;
    }

    /// Entries confirmed in the current generation.
    pub(crate) fn confirmed(&self) -> usize {
        self.table.iter().filter(|entry| entry.generation == self.generation).count()
    }

    /// Drops what the current generation has not confirmed; returns how many.
    pub(crate) fn sweep(&mut self) -> usize {
        let mut swept = 0;
        for slot in 0..self.table.slots() {
            if self.table.get(slot).is_some_and(|entry| entry.generation != self.generation) {
                self.table.remove(slot);
                swept += 1;
            }
        }
        swept
    }
}

/// Whether the flow has all that the kernel needs to tell it from others. conntrackd sends no
/// GRE keys and no UDP-Lite ports, and arbitrary bytes for the ports of a DCCP flow without state.
fn is_complete(flow: &Flow) -> bool {
    const ICMP: u8 = 1;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const DCCP: u8 = 33;
    const GRE: u8 = 47;
    const ICMPV6: u8 = 58;
    const SCTP: u8 = 132;
    const UDP_LITE: u8 = 136;
    match flow.orig.protocol {
        TCP | UDP | SCTP | GRE | UDP_LITE => matches!(flow.orig.l4, L4::Ports { .. }),
        DCCP => flow.protocol_state != ProtocolState::None,
        ICMP | ICMPV6 => matches!(flow.orig.l4, L4::Icmp { .. }),
        _ => true,
    }
}
