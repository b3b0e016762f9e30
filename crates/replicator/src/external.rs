//! The external cache: what the peers have told.
//!
//! An entry knows which peer told it last. Only that peer can end it, and only that peer's full
//! copy can leave it unconfirmed: a router that gave the active role away may still tell the end of
//! a flow that lives on at another.
//!
//! An update clears what it says is clear: a mark of 0, labels of 0, a translation that is no more.
//! What it does not mention stays as it was. So conntrackd's update of a flow whose labels were
//! cleared changes nothing here, since conntrackd leaves out labels of 0, and neither does it say
//! that a helper, a master, a sequence adjustment or SYNPROXY's offsets are gone; they never go
//! while a flow lives. A flow that is told as new, as in every full copy of one that has not changed
//! since, begins without any of them.

mod sweep;
mod tally;

use lockstep_ctnetlink::{Expectation, Flow};

use crate::complete::is_complete_on_the_wire;
use crate::expectations::RemoteExpectations;
use crate::key::Key;
use crate::standby::Injection;
use crate::statistics::Counters;
use crate::stored::Stored;
use crate::table::{Entry, Slot, Table};
use crate::wire::Change;
use sweep::Sweep;
use tally::Tally;

/// Most changes after a commit that are remembered one by one until the role comes.
const MAX_LATE: usize = 16_384;

/// What is known of the changes since the last commit ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Late {
    /// No commit has ended that the role has to follow.
    No,
    /// All of them: they are in `meanwhile`.
    Some,
    /// That there were too many.
    Many,
    /// They are being committed.
    Committing,
}

/// Most changes during one commit that the commit still heeds. They bound its time, too.
const MAX_MEANWHILE: usize = 262_144;

pub(crate) struct External {
    pub(crate) table: Table<Remote>,
    pub(crate) expectations: RemoteExpectations,
    /// By peer, a bit each: something of what it has told since its last generation began was refused
    /// or forgotten.
    lacks: u8,
    /// By peer: entries not told for long, as far as the walk has counted, and of its last round.
    ageing: [u32; 8],
    aged: [u32; 8],
    /// By peer: grows with every resync; an entry carries the value of its last confirmation.
    generations: Vec<u32>,
    tallies: [Tally; 8],
    sweeps: [Option<Sweep>; 8],
    /// What the peers have told since the commit under way began; `None` when there is none.
    meanwhile: Option<Vec<Told>>,
    late: Late,
    /// What of it is in the kernel of a backup that stands by there.
    pub(crate) injection: Injection,
}

/// A peer has spoken of a flow while a commit was under way. What it said is in the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) key: Key,
    /// For a flow that has ended: seconds since the start when the peer had spoken of it before.
    pub(crate) ended: Option<u32>,
}

/// A flow of a peer's kernel.
pub(crate) struct Remote {
    pub(crate) stored: Stored,
    /// Seconds since the start when the peer last spoke of it.
    pub(crate) heard_s: u32,
    generation: u16,
    /// Who last spoke of it.
    pub(crate) peer: u8,
}

impl Entry for Remote {
    fn stored(&self) -> &Stored {
        &self.stored
    }
}

/// What a message has done to the cache.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Applied {
    /// The entry is new or has been told again.
    Put(Slot),
    /// The same, and its peer had told it so before, in the same generation.
    Again(Slot),
    /// The entry is gone.
    Ended(Key),
    /// The cache is as it was.
    Nothing,
}

impl External {
    pub(crate) fn new(limit: usize, secret: u64, in_kernel: bool) -> Self {
        Self {
            table: Table::new(limit, secret),
            expectations: RemoteExpectations::new(secret.rotate_left(11)),
            lacks: 0,
            ageing: [0; 8],
            aged: [0; 8],
            generations: Vec::new(),
            tallies: Default::default(),
            sweeps: [None; 8],
            meanwhile: None,
            late: Late::No,
            injection: Injection::new(in_kernel),
        }
    }

    /// A resync with this peer begins: what it does not speak of from now on is not confirmed.
    pub(crate) fn begin_generation(&mut self, peer: u8) -> u32 {
        let generation = self.continue_row(peer);
        let tally = self.tally(peer);
        tally.row = generation as u16;
        tally.gathered = 0;
        generation
    }

    /// The same, and what the last one has confirmed is remembered: see [`External::gathered`].
    pub(crate) fn continue_row(&mut self, peer: u8) -> u32 {
        self.lacks &= !bit(peer);
        self.tally(peer).confirmed = 0;
        let needed = usize::from(peer) + 1;
        if self.generations.len() < needed {
            self.generations.resize(needed, 0);
        }
        let generation = &mut self.generations[usize::from(peer)];
        *generation = generation.wrapping_add(1);
        *generation
    }

    /// Whether something of what the peer has told since its generation began was refused or
    /// forgotten.
    pub(crate) fn lacks(&self, peer: u8) -> bool {
        self.lacks & bit(peer) != 0
    }

    /// What entries that the peer has confirmed carry.
    pub(crate) fn generation(&self, peer: u8) -> u16 {
        self.generations.get(usize::from(peer)).copied().unwrap_or(0) as u16
    }

    /// A commit begins, or begins again: what is told from now on comes after it.
    pub(crate) fn begin_commit(&mut self) {
        self.meanwhile = Some(Vec::new());
        self.expectations.begin_noting();
        self.late = Late::No;
    }

    /// The commit of what was late begins; what it is, and what is told from now on, is part of it.
    pub(crate) fn begin_late_commit(&mut self) {
        self.meanwhile.get_or_insert_default();
        self.expectations.begin_noting_late();
        self.late = Late::Committing;
    }

    /// A commit has ended. What is told from now on is late, and remembered for the role.
    pub(crate) fn end_commit(&mut self) {
        self.meanwhile = Some(Vec::new());
        self.expectations.begin_noting();
        self.late = Late::Some;
    }

    /// What [`External::keep_late`] has kept.
    pub(crate) fn late(&self) -> usize {
        match self.late {
            Late::No | Late::Committing => 0,
            Late::Some => self.meanwhile().len() + self.expectations.noted(),
            Late::Many => self.table.len(),
        }
    }

    /// Whether the commit under way is of what was late.
    pub(crate) fn commits_late(&self) -> bool {
        self.late == Late::Committing
    }

    /// The role has not come, or has come with what was late.
    pub(crate) fn forget_late(&mut self) {
        self.meanwhile = None;
        self.expectations.end_noting();
        self.late = Late::No;
    }

    /// Forgets everything but what was told since the last commit ended, for another commit.
    pub(crate) fn keep_late(&mut self) {
        let told = match self.late {
            Late::No | Late::Committing => Vec::new(),
            Late::Some => self.meanwhile.take().unwrap_or_default(),
            // Nobody knows which: all of it.
            Late::Many => return,
        };
        let find = |told: &Told| self.table.find(&told.key);
        let mut slots: Vec<_> = told.iter().filter_map(find).collect();
        slots.sort_unstable();
        slots.dedup();
        let kept: Vec<_> = slots.into_iter().filter_map(|slot| self.remove(slot)).collect();
        self.clear_flows();
        if self.late == Late::Some {
            self.expectations.keep_noted();
        } else {
            self.expectations.table.clear();
            self.expectations.end_noting();
        }
        let some = !told.is_empty() || self.expectations.noted() > 0;
        for entry in kept {
            let inserted = self.insert(entry);
            debug_assert!(inserted.is_ok(), "there was room for more");
        }
        self.late = if some { Late::Some } else { Late::No };
        self.meanwhile = some.then_some(told);
    }

    /// Forgets everything but what was told of expectations since the last commit ended: what was
    /// told of flows is in the kernel of a router that stands by there.
    pub(crate) fn keep_late_expectations(&mut self) {
        self.meanwhile = None;
        if self.late == Late::No {
            self.expectations.table.clear();
            self.expectations.end_noting();
        } else {
            self.expectations.keep_noted();
        }
        self.late = if self.expectations.noted() > 0 { Late::Some } else { Late::No };
    }

    /// What has been told since the commit began, in order; grows until its end.
    pub(crate) fn meanwhile(&self) -> &[Told] {
        self.meanwhile.as_deref().unwrap_or_default()
    }

    fn note(&mut self, key: Key, ended: Option<u32>, counters: &mut Counters) {
        let Some(meanwhile) = &mut self.meanwhile else { return };
        if self.late == Late::Some && meanwhile.len() >= MAX_LATE {
            self.meanwhile = None;
            self.late = Late::Many;
            return;
        }
        if meanwhile.len() >= MAX_MEANWHILE {
            counters.commit_too_late += 1;
            return;
        }
        meanwhile.push(Told { key, ended });
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.lacks = u8::MAX;
        self.clear_flows();
        self.expectations.table.clear();
    }

    fn clear_flows(&mut self) {
        if self.injection.enabled() {
            self.drop_where(0..self.table.slots(), |_| true);
        }
        self.table.clear();
        self.forget_tallies();
    }

    /// Takes all flows out; what of them is in the kernel stays there.
    pub(crate) fn take(&mut self) -> Table<Remote> {
        self.injection = self.injection.begin_again();
        self.forget_tallies();
        self.table.take()
    }

    /// The peer speaks of a flow.
    pub(crate) fn apply(
        &mut self,
        peer: u8,
        change: Change,
        flow: &Flow,
        now_s: u32,
        counters: &mut Counters,
    ) -> Applied {
        if !is_complete_on_the_wire(flow) {
            counters.external_incomplete += 1;
            return Applied::Nothing;
        }
        let key = Key::of(flow);
        match (change, self.table.find(&key)) {
            (Change::Delete, Some(slot)) => self.end(peer, slot, key, counters),
            (Change::Delete, None) => Applied::Nothing,
            (Change::New | Change::Update, Some(slot)) => {
                let (moved, again) = self.change(peer, change, slot, flow, now_s);
                self.injection.put(slot, moved, counters);
                counters.external_updated += 1;
                self.note(key, None, counters);
                if again { Applied::Again(slot) } else { Applied::Put(slot) }
            }
            (Change::New | Change::Update, None) => {
                let generation = self.generation(peer);
                let entry = Remote { stored: Stored::from(flow), heard_s: now_s, generation, peer };
                let Ok(slot) = self.insert(entry) else {
                    counters.external_full += 1;
                    self.lacks |= bit(peer);
                    return Applied::Nothing;
                };
                counters.external_created += 1;
                self.injection.put(slot, false, counters);
                self.note(key, None, counters);
                Applied::Put(slot)
            }
        }
    }

    fn end(&mut self, peer: u8, slot: Slot, key: Key, counters: &mut Counters) -> Applied {
        if self.table.get(slot).is_some_and(|entry| entry.peer != peer) {
            counters.external_foreign_destroyed += 1;
            return Applied::Nothing;
        }
        let heard_s = self.remove(slot).map(|entry| entry.heard_s);
        self.injection.end(slot, key, heard_s.unwrap_or_default());
        counters.external_destroyed += 1;
        self.note(key, heard_s, counters);
        Applied::Ended(key)
    }

    /// Returns whether the translation is another than before, and whether the same was told before.
    fn change(
        &mut self,
        peer: u8,
        change: Change,
        slot: Slot,
        flow: &Flow,
        now_s: u32,
    ) -> (bool, bool) {
        let generation = self.generation(peer);
        let Some(entry) = self.table.get_mut(slot) else { return (false, false) };
        let moved = entry.stored.reply() != flow.reply;
        let known = entry.peer == peer && entry.generation == generation;
        let changed = if change == Change::New {
            let before = std::mem::replace(&mut entry.stored, Stored::from(flow));
            !before.says_the_same_as(&entry.stored)
        } else {
            entry.stored.merge(flow)
        };
        let before = (entry.peer, entry.generation);
        entry.heard_s = now_s;
        entry.generation = generation;
        entry.peer = peer;
        self.uncount(before);
        self.count((peer, generation));
        (moved, known && !changed)
    }

    /// The peer speaks of an expectation.
    pub(crate) fn apply_expectation(
        &mut self,
        peer: u8,
        change: Change,
        expectation: &Expectation,
        now_s: u32,
        counters: &mut Counters,
    ) {
        let teller = (peer, self.generation(peer));
        if !self.expectations.apply(teller, change, expectation, now_s, counters) {
            self.lacks |= bit(peer);
        }
    }

    /// Drops, among the next `steps` slots from `cursor` on, the entries of which nobody has
    /// spoken since `since_s`, and counts those of which nobody has since `aged_s`. The cursor goes
    /// round. Returns how many were dropped.
    pub(crate) fn drop_unheard(
        &mut self,
        cursor: &mut Slot,
        steps: Slot,
        (since_s, aged_s): (u32, u32),
    ) -> usize {
        let slots = self.table.slots();
        if *cursor >= slots {
            *cursor = 0;
            self.aged = std::mem::take(&mut self.ageing);
            self.expectations.drop_unheard(since_s);
        }
        let walk = *cursor..slots.min(cursor.saturating_add(steps));
        *cursor = walk.end;
        for entry in walk.clone().filter_map(|slot| self.table.get(slot)) {
            if let Some(count) = self.ageing.get_mut(usize::from(entry.peer)) {
                *count += u32::from(entry.heard_s < aged_s);
            }
        }
        self.drop_where(walk, |entry| entry.heard_s < since_s)
    }

    /// Entries of the peer of which it has not spoken for long, in the walk's last round.
    pub(crate) fn aged(&self, peer: u8) -> u32 {
        self.aged.get(usize::from(peer)).copied().unwrap_or(0)
    }

    fn drop_where(&mut self, walk: std::ops::Range<Slot>, gone: impl Fn(&Remote) -> bool) -> usize {
        let mut dropped = 0;
        for slot in walk {
            if self.table.get(slot).is_some_and(&gone) {
                if let Some(entry) = self.remove(slot) {
                    self.injection.end(slot, entry.stored.key(), entry.heard_s);
                }
                dropped += 1;
            }
        }
        dropped
    }
}

/// Peers are few: see `MAX_PEERS`.
fn bit(peer: u8) -> u8 {
    1_u8.checked_shl(peer.into()).unwrap_or(0)
}

/// Whether `generation` began before `than`; they wrap.
pub(crate) fn is_older(generation: u16, than: u16) -> bool {
    (generation.wrapping_sub(than) as i16) < 0
}

#[cfg(test)]
mod tests;
