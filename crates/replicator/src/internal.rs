//! The internal cache: what this router's kernel has told.

use std::collections::BTreeSet;

use lockstep_ctnetlink::Flow;

use crate::commit::is_refreshed;
use crate::complete::is_complete;
use crate::expectations::LocalExpectations;
use crate::key::Key;
use crate::statistics::Counters;
use crate::stored::Stored;
use crate::table::{Entry, Slot, Table};
use crate::wire::{self, Change, Flags, Unsendable};

/// Most flows whose end is remembered while the kernel's table is being read. Beyond it the
/// reading has to be repeated.
const MAX_TOMBSTONES: usize = 262_144;

/// Where a walk over everything goes on with expectations.
const EXPECTATIONS: u64 = 1 << 32;

pub(crate) struct Internal {
    pub(crate) table: Table<Local>,
    pub(crate) expectations: LocalExpectations,
    /// Nothing of it is told to anybody.
    silent: bool,
    partial: Partial,
    /// Counts readings of the kernel's table; what a reading did not touch is gone.
    reading: u8,
    /// Seconds since the start when the last part of it was read, and of the readings before.
    read_s: (u32, u32),
    under_way: bool,
    /// Whether the kernel has told less than all, so that the cache may be wrong.
    doubt: Doubt,
    /// Whether flows of the kernel were refused or forgotten.
    lack: Doubt,
    /// Flows that ended during a reading, which may still stand in the part yet to be seen.
    tombstones: BTreeSet<Key>,
    dead: usize,
}

/// Whether the role has begun and the kernel's table has not been read to its end since. A copy of
/// what is known would pass for all there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Partial {
    No,
    /// The reading is to begin.
    Expected,
    Yes,
}

/// Whether what is known of the kernel's table may be wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Doubt {
    No,
    /// Something was lost, and no reading has begun since.
    Lost,
    /// The reading under way makes good for it.
    Read,
}

/// Something in the internal caches of which peers are told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Object {
    /// A flow.
    Flow(Slot),
    /// An expectation, which has slots of its own.
    Expectation(Slot),
}

/// A flow of our kernel, and how many conversations are about it.
pub(crate) struct Local {
    pub(crate) stored: Stored,
    pub(crate) stage: Stage,
    /// Conversations in which it waits to be sent or acknowledged.
    held: u8,
    /// Seconds since the start when the kernel last changed it, and not we: what a commit has done
    /// must not outrank what the peer says next.
    pub(crate) changed_s: u32,
    /// From when it is.
    pub(crate) past: Past,
    reading: u8,
}

/// What a flow of our kernel has to do with an earlier time of this router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Past {
    /// Nothing: the kernel has made or changed it since.
    None,
    /// Found by reading the table and not seen to change: it may be what an earlier life has left.
    Found,
    /// In the table when this router left the active role, or put there by a commit after which
    /// the role did not come: to be purged.
    Ours,
    /// The same, but the kernel has changed it since.
    OursChanged,
}

impl Past {
    /// Whether a purge is about it.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursChanged)
    }

    /// Where nothing but the kernel's table says that it lives.
    pub(crate) fn is_untouched(self) -> bool {
        matches!(self, Self::Found | Self::Ours)
    }

    fn changed(self) -> Self {
        if self.is_ours() { Self::OursChanged } else { Self::None }
    }

    fn made(by_us: bool) -> Self {
        if by_us { Self::Ours } else { Self::None }
    }
}

/// What is to be said of an entry when its turn comes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stage {
    /// New and unchanged since.
    New,
    /// Changed since it was new.
    Updated,
    /// Gone from the kernel; kept until the peer has acknowledged that.
    Dead,
    /// Gone, and nothing to be said about it.
    Forgotten,
}

impl Stage {
    pub(crate) fn is_alive(self) -> bool {
        matches!(self, Self::New | Self::Updated)
    }

    /// What a message about the entry says; `None` when there is nothing to say.
    pub(crate) fn change(self) -> Option<Change> {
        match self {
            Self::New => Some(Change::New),
            Self::Updated => Some(Change::Update),
            Self::Dead => Some(Change::Delete),
            Self::Forgotten => None,
        }
    }
}

impl Entry for Local {
    fn stored(&self) -> &Stored {
        &self.stored
    }
}

/// What a change of the cache means for the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Learned {
    /// The peer is to be told about this entry.
    Tell(Slot),
    /// The entry is gone and the peer is not to be told: drop what is waiting.
    Forget(Slot),
    /// Nothing follows.
    Nothing,
}

impl Learned {
    /// The same where nobody is told.
    pub(crate) fn untold(self) -> Self {
        match self {
            Self::Tell(object) => Self::Forget(object),
            learned => learned,
        }
    }
}

impl Internal {
    pub(crate) fn new(limit: usize, secret: u64) -> Self {
        Self {
            table: Table::new(limit, secret),
            expectations: LocalExpectations::new(secret.rotate_left(11)),
            silent: false,
            partial: Partial::No,
            reading: 0,
            read_s: (0, 0),
            under_way: false,
            doubt: Doubt::No,
            lack: Doubt::No,
            tombstones: BTreeSet::new(),
            dead: 0,
        }
    }

    /// Events of the kernel were lost.
    pub(crate) fn doubt(&mut self) {
        self.doubt = Doubt::Lost;
    }

    /// Whether events were lost, and the table has not been read to its end since.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.doubt != Doubt::No
    }

    /// Whether flows were refused for want of room or forgotten, and the table has not been read
    /// whole since.
    pub(crate) fn lacks_flows(&self) -> bool {
        self.lack != Doubt::No
    }

    /// Flows that are alive.
    pub(crate) fn len(&self) -> usize {
        self.table.len() - self.dead
    }

    /// The kernel has made or changed a flow. Changes we made ourselves (`own`) are not told.
    pub(crate) fn put(
        &mut self,
        change: Change,
        flow: &Flow,
        own: bool,
        now_s: u32,
        counters: &mut Counters,
    ) -> Learned {
        if self.under_way {
            self.tombstones.remove(&Key::of(flow));
        }
        let Some(slot) = self.table.find(&Key::of(flow)) else {
            return self.create(flow, own, Past::made(own), now_s, counters);
        };
        let reading = self.reading;
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        let is_another = entry.stored.is_another_than(flow);
        let made_now = change == Change::New || !entry.stage.is_alive() || is_another;
        if !entry.stage.is_alive() {
            self.dead -= 1;
            entry.stage = Stage::New;
            entry.stored = Stored::from(flow);
            counters.internal_created += 1;
        } else if made_now {
            entry.stage = Stage::New;
            entry.stored = Stored::from(flow);
            counters.internal_updated += 1;
        } else {
            entry.stage = Stage::Updated;
            entry.stored.merge(flow);
            counters.internal_updated += 1;
        }
        if !own {
            entry.changed_s = now_s;
            entry.past = entry.past.changed();
        }
        entry.reading = reading;
        if made_now {
            entry.past = Past::made(own);
        }
        if own { Learned::Nothing } else { Learned::Tell(slot) }
    }

    fn create(
        &mut self,
        flow: &Flow,
        own: bool,
        past: Past,
        now_s: u32,
        counters: &mut Counters,
    ) -> Learned {
        if !is_complete(flow) {
            counters.internal_incomplete += 1;
            return Learned::Nothing;
        }
        let entry = Local {
            stored: Stored::from(flow),
            stage: Stage::New,
            held: 0,
            changed_s: if own { 0 } else { now_s },
            past,
            reading: self.reading,
        };
        let Ok(slot) = self.table.insert(entry) else {
            counters.internal_full += 1;
            self.lack = Doubt::Lost;
            return Learned::Nothing;
        };
        counters.internal_created += 1;
        if own { Learned::Nothing } else { Learned::Tell(slot) }
    }

    /// The kernel has removed a flow.
    pub(crate) fn destroy(&mut self, flow: &Flow, own: bool, counters: &mut Counters) -> Learned {
        if self.under_way && self.tombstones.len() < MAX_TOMBSTONES {
            self.tombstones.insert(Key::of(flow));
        }
        match self.table.find(&Key::of(flow)) {
            Some(slot) => self.bury(slot, own, counters),
            None => Learned::Nothing,
        }
    }

    /// The entry's flow is gone.
    pub(crate) fn bury(&mut self, slot: Slot, silently: bool, counters: &mut Counters) -> Learned {
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        if entry.stage.is_alive() {
            self.dead += 1;
            counters.internal_destroyed += 1;
        }
        if silently {
            entry.stage = Stage::Forgotten;
            return Learned::Forget(slot);
        }
        entry.stage = Stage::Dead;
        Learned::Tell(slot)
    }

    /// A conversation refers to the object from now on.
    pub(crate) fn hold(&mut self, object: Object) {
        let slot = match object {
            Object::Flow(slot) => slot,
            Object::Expectation(slot) => return self.expectations.hold(slot),
        };
        if let Some(entry) = self.table.get_mut(slot) {
            entry.held += 1;
        }
    }

    /// A conversation refers to the object no more.
    pub(crate) fn let_go(&mut self, object: Object) {
        let slot = match object {
            Object::Flow(slot) => slot,
            Object::Expectation(slot) => return self.expectations.let_go(slot),
        };
        if let Some(entry) = self.table.get_mut(slot) {
            entry.held = entry.held.saturating_sub(1);
        }
        self.release(object);
    }

    /// Gives the slot of a dead entry back, once no conversation refers to it.
    pub(crate) fn release(&mut self, object: Object) {
        let slot = match object {
            Object::Flow(slot) => slot,
            Object::Expectation(slot) => return self.expectations.release(slot),
        };
        let Some(entry) = self.table.get(slot) else { return };
        if !entry.stage.is_alive() && entry.held == 0 {
            self.table.remove(slot);
            self.dead -= 1;
        }
    }

    /// What there is to say about the object now; `None` when nothing is.
    pub(crate) fn change(&self, object: Object) -> Option<Change> {
        match object {
            Object::Flow(slot) => self.table.get(slot)?.stage.change(),
            Object::Expectation(slot) => self.expectations.change(slot).map(|(change, _)| change),
        }
    }

    /// Appends a message about the object as it is now.
    pub(crate) fn write(
        &self,
        object: Object,
        flags: Flags,
        number: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsendable> {
        let slot = match object {
            Object::Flow(slot) => slot,
            Object::Expectation(slot) => {
                let (change, it) = self.expectations.change(slot).ok_or(Unsendable::Gone)?;
                return wire::encode_expectation_message(change, flags, number, it, out);
            }
        };
        let Some(entry) = self.table.get(slot) else { return Err(Unsendable::Gone) };
        let Some(change) = entry.stage.change() else { return Err(Unsendable::Gone) };
        wire::encode_flow_message(change, flags, number, &entry.stored.flow(), out)
    }

    /// The first object at or after `cursor` that lives, and the cursor behind it: a walk over all
    /// of them.
    pub(crate) fn next_alive(&self, cursor: &mut u64) -> Option<Object> {
        if self.silent {
            return None;
        }
        while *cursor < u64::from(self.table.slots()) {
            let slot = *cursor as Slot;
            *cursor += 1;
            if self.table.get(slot).is_some_and(|entry| entry.stage.is_alive()) {
                return Some(Object::Flow(slot));
            }
        }
        // Expectations come after the flows that expect them.
        *cursor = (*cursor).max(EXPECTATIONS);
        while *cursor - EXPECTATIONS < u64::from(self.expectations.table.slots()) {
            let slot = (*cursor - EXPECTATIONS) as Slot;
            *cursor += 1;
            if self.expectations.table.get(slot).is_some_and(|entry| entry.stage.is_alive()) {
                return Some(Object::Expectation(slot));
            }
        }
        None
    }

    /// Whether nothing of it is told to anybody.
    /// Whether a full copy has to wait for a reading to end.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial == Partial::Yes
    }

    pub(crate) fn set_partial(&mut self, partial: Partial) {
        self.partial = partial;
    }

    pub(crate) fn set_silent(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// Steps of a walk over everything.
    pub(crate) fn steps(&self) -> u64 {
        u64::from(self.table.slots()) + u64::from(self.expectations.table.slots())
    }

    /// The kernel's table is about to be read.
    pub(crate) fn begin_reading(&mut self) {
        if self.partial == Partial::Expected {
            self.partial = Partial::Yes;
        }
        self.reading = self.reading.wrapping_add(1);
        self.read_s.1 = self.read_s.0;
        self.under_way = true;
        for doubt in [&mut self.doubt, &mut self.lack] {
            if *doubt == Doubt::Lost {
                *doubt = Doubt::Read;
            }
        }
        self.tombstones.clear();
    }

    /// Seconds since the start when an entry that no event has touched was read, at the latest.
    pub(crate) fn read_at_s(&self, entry: &Local) -> u32 {
        if entry.reading == self.reading { self.read_s.0 } else { self.read_s.1 }
    }

    /// One flow of the table that is being read. The kernel has a part of it ready before it is
    /// asked for, so what an event has told since the reading began is newer; but an event tells only
    /// what has changed, and the table the rest.
    pub(crate) fn read_part(
        &mut self,
        flow: &Flow,
        committed: bool,
        now_s: u32,
        counters: &mut Counters,
    ) -> Learned {
        let (under_way, reading) = (self.under_way, self.reading);
        self.read_s.0 = now_s;
        let slot = self.table.find(&Key::of(flow));
        let told = slot
            .and_then(|slot| Some((slot, self.table.get_mut(slot)?)))
            .filter(|(_, entry)| under_way && entry.stage.is_alive() && entry.reading == reading);
        let Some((slot, entry)) = told else {
            return self.read(flow, committed, now_s, counters);
        };
        if entry.stored.is_another_than(flow) {
            return Learned::Nothing;
        }
        let mut whole = Stored::from(flow);
        whole.merge(&entry.stored.flow());
        if !entry.stored.merge_whole(&whole.flow()) {
            return Learned::Nothing;
        }
        entry.stage = Stage::Updated;
        counters.internal_updated += 1;
        Learned::Tell(slot)
    }

    /// One flow as the kernel has it now. The peer is told only what it does not know. What is not
    /// known of it is because of a commit if `committed`.
    pub(crate) fn read(
        &mut self,
        flow: &Flow,
        committed: bool,
        now_s: u32,
        counters: &mut Counters,
    ) -> Learned {
        if self.tombstones.contains(&Key::of(flow)) {
            return Learned::Nothing;
        }
        let Some(slot) = self.table.find(&Key::of(flow)) else {
            // Found, not seen to change: it may be what an earlier life of this router left, and
            // must not outrank what the peer tells of it.
            let past = if committed { Past::Ours } else { Past::Found };
            return self.create(flow, false, past, 0, counters);
        };
        let reading = self.reading;
        let read_at_s = self.table.get(slot).map_or(now_s, |entry| self.read_at_s(entry));
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        let age_s = now_s.saturating_sub(read_at_s);
        if entry.past == Past::Found
            && is_refreshed(entry.stored.timeout_s(), flow.timeout_s, age_s)
        {
            entry.past = entry.past.changed();
        }
        entry.reading = reading;
        // Its end and its making may both be among the lost events.
        let revived = !entry.stage.is_alive();
        if revived || entry.stored.is_another_than(flow) {
            entry.stored = Stored::from(flow);
            entry.stage = Stage::New;
            entry.past = Past::made(committed);
        } else if entry.stored.merge_whole(flow) {
            entry.stage = Stage::Updated;
            if !committed {
                entry.past = entry.past.changed();
            }
        } else {
            return Learned::Nothing;
        }
        if !committed {
            entry.changed_s = now_s;
        }
        counters.internal_updated += 1;
        if revived {
            self.dead -= 1;
        }
        Learned::Tell(slot)
    }

    /// The whole table has been read: what was not seen is gone. Returns whether the reading is
    /// to be trusted; otherwise it must be repeated.
    pub(crate) fn end_reading(
        &mut self,
        counters: &mut Counters,
        mut learned: impl FnMut(&mut Self, Learned),
    ) -> bool {
        self.under_way = false;
        let trusted = self.tombstones.len() < MAX_TOMBSTONES;
        for doubt in [&mut self.doubt, &mut self.lack] {
            if *doubt == Doubt::Read {
                *doubt = if trusted { Doubt::No } else { Doubt::Lost };
            }
        }
        self.tombstones = BTreeSet::new();
        for slot in 0..self.table.slots() {
            let stale = self
                .table
                .get(slot)
                .is_some_and(|e| e.stage.is_alive() && e.reading != self.reading);
            if stale {
                let effect = self.bury(slot, false, counters);
                learned(self, effect);
            }
        }
        trusted
    }

    /// Remembers what is there now as ours, for the purge.
    pub(crate) fn mark_ours(&mut self) {
        for slot in 0..self.table.slots() {
            if let Some(entry) = self.table.get_mut(slot) {
                entry.past = Past::made(entry.stage.is_alive());
            }
        }
    }

    /// Forgets everything; no conversation may refer to anything any more.
    pub(crate) fn clear(&mut self) {
        self.lack = Doubt::Lost;
        self.table.clear();
        self.expectations.clear();
        self.dead = 0;
        self.tombstones.clear();
    }
}
