//! The external cache: what the peer has told.

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Tuple, ZoneDirection};

use crate::statistics::Counters;
use crate::stored::Stored;
use crate::table::{Entry, Slot, Table};
use crate::wire::Change;

/// Most changes during one commit that the commit still heeds. They bound its time, too.
const MAX_MEANWHILE: usize = 262_144;

pub(crate) struct External {
    pub(crate) table: Table<Remote>,
    /// Grows with every resync; an entry carries the value of its last confirmation.
    generation: u32,
    /// What the peer has told since the commit under way began; `None` when there is none.
    meanwhile: Option<Vec<Told>>,
}

/// The peer has spoken of a flow while a commit was under way. What it said is in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) orig: Tuple,
    pub(crate) zone: u16,
    pub(crate) zone_direction: ZoneDirection,
    /// For a flow that has ended: seconds since the start when the peer had spoken of it before.
    pub(crate) ended: Option<u32>,
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
        Self { table: Table::new(limit, secret), generation: 0, meanwhile: None }
    }

    /// A resync begins: what is not spoken of from now on is not confirmed.
    pub(crate) fn begin_generation(&mut self) -> u32 {
        self.generation = self.generation.wrapping_add(1);
        self.generation
    }

    /// A commit begins, or begins again: what is told from now on comes after it.
    pub(crate) fn begin_commit(&mut self) {
        self.meanwhile = Some(Vec::new());
    }

    pub(crate) fn end_commit(&mut self) {
        self.meanwhile = None;
    }

    /// What has been told since the commit began, in order; grows until its end.
    pub(crate) fn meanwhile(&self) -> &[Told] {
        self.meanwhile.as_deref().unwrap_or_default()
    }

    fn note(&mut self, flow: &Flow, ended: Option<u32>, counters: &mut Counters) {
        let Some(meanwhile) = &mut self.meanwhile else { return };
        if meanwhile.len() >= MAX_MEANWHILE {
            counters.commit_too_late += 1;
            return;
        }
        let Flow { orig, zone, zone_direction, .. } = *flow;
        meanwhile.push(Told { orig, zone, zone_direction, ended });
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
                let heard_s = self.table.remove(slot).map(|entry| entry.heard_s);
                counters.external_destroyed += 1;
                self.note(flow, heard_s, counters);
            }
            (Change::Delete, None) => {}
            (Change::New | Change::Update, Some(slot)) => {
                self.change(change, slot, flow, now_s);
                counters.external_updated += 1;
                self.note(flow, None, counters);
            }
            (Change::New | Change::Update, None) => {
                let generation = self.generation;
                let entry = Remote { stored: Stored::from(flow), heard_s: now_s, generation };
                if self.table.insert(entry).is_err() {
                    counters.external_full += 1;
                    return;
                }
                counters.external_created += 1;
                self.note(flow, None, counters);
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
