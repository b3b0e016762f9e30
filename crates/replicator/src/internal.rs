//! The internal cache: what this router's kernel has told.

mod lasting;
mod reading;

use lockstep_ctnetlink::Flow;

use crate::commit::is_refreshed;
use crate::complete::is_complete;
use crate::expectations::LocalExpectations;
use crate::key::Key;
use crate::statistics::Counters;
use crate::stored::Stored;
use crate::table::{Entry, Slot};
use crate::wire::{self, Change, Flags, Unsendable};

pub(crate) use lasting::{Lasting, LastingTable, Learned, Stage};
pub(crate) use reading::Reading;

/// Most flows whose end is remembered while the kernel's table is being read. Beyond it the
/// reading has to be repeated.
const MAX_TOMBSTONES: usize = 262_144;

/// Where a walk over everything goes on with expectations.
const EXPECTATIONS: u64 = 1 << 32;

pub(crate) struct Internal {
    pub(crate) table: LastingTable<Local>,
    pub(crate) expectations: LocalExpectations,
    /// Nothing of it is told to anybody.
    silent: bool,
    /// This router is the active one.
    served: bool,
    partial: Partial,
    /// Of the kernel's table; what a reading did not touch is gone.
    reading: Reading<Key>,
    /// The end of the reading is under way.
    burial: Option<Burial>,
    /// Seconds since the start when the last part of it was read, and of the readings before.
    read_s: (u32, u32),
    /// Whether the kernel has told less than all, so that the cache may be wrong.
    doubt: Doubt,
    /// Seconds since the start when that was last noticed.
    lost_s: u32,
    /// Whether flows of the kernel were refused or forgotten.
    lack: Doubt,
    /// Seconds since the start when all there was became [`Past::Ours`].
    marked_s: u32,
}

/// What a reading that has come to its end did not touch is being buried.
#[derive(Clone, Copy, Debug)]
struct Burial {
    next: Slot,
    /// Whether the reading is.
    trusted: bool,
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

/// Whether what is known of a table of the kernel may be wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Doubt {
    #[default]
    No,
    /// Something was lost, and no reading has begun since.
    Lost,
    /// The reading under way makes good for it.
    Read,
}

impl Doubt {
    pub(crate) fn begin_reading(&mut self) {
        if *self == Self::Lost {
            *self = Self::Read;
        }
    }

    pub(crate) fn end_reading(&mut self, trusted: bool) {
        if *self == Self::Read {
            *self = if trusted { Self::No } else { Self::Lost };
        }
    }
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
    /// Seconds since the start when the kernel made it, and not we; 0 where nobody has seen that.
    pub(crate) began_s: u32,
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

impl Entry for Local {
    fn stored(&self) -> &Stored {
        &self.stored
    }
}

impl Lasting for Local {
    fn stage(&self) -> Stage {
        self.stage
    }

    fn set_stage(&mut self, stage: Stage) {
        self.stage = stage;
    }

    fn held(&mut self) -> &mut u8 {
        &mut self.held
    }
}

impl Internal {
    pub(crate) fn new(limit: usize, secret: u64) -> Self {
        Self {
            table: LastingTable::new(limit, secret),
            expectations: LocalExpectations::new(secret.rotate_left(11)),
            silent: false,
            served: false,
            partial: Partial::No,
            reading: Reading::new(MAX_TOMBSTONES),
            burial: None,
            read_s: (0, 0),
            doubt: Doubt::No,
            lost_s: 0,
            lack: Doubt::No,
            marked_s: 0,
        }
    }

    /// Events of the kernel were lost before `now_s`.
    pub(crate) fn doubt(&mut self, now_s: u32) {
        self.doubt = Doubt::Lost;
        self.lost_s = now_s;
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
        self.table.alive()
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
        self.reading.made(|| Key::of(flow));
        let Some(slot) = self.table.find(&Key::of(flow)) else {
            let learned = self.create(flow, own, Past::made(own), now_s, counters);
            if let (Learned::Tell(slot), Change::New) = (learned, change)
                && let Some(entry) = self.table.get_mut(slot)
            {
                entry.began_s = now_s;
            }
            return learned;
        };
        let reading = self.reading.number();
        let revived = self.table.revive(slot);
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        let is_another = entry.stored.is_another_than(flow);
        let made_now = change == Change::New || revived || is_another;
        if revived {
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
            entry.began_s = if own || change != Change::New { 0 } else { now_s };
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
            began_s: 0,
            stored: Stored::from(flow),
            stage: Stage::New,
            held: 0,
            changed_s: if own { 0 } else { now_s },
            past,
            reading: self.reading.number(),
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
        self.reading.ended(|| Key::of(flow));
        match self.table.find(&Key::of(flow)) {
            Some(slot) => self.bury(slot, own, counters),
            None => Learned::Nothing,
        }
    }

    /// The entry's flow is gone.
    pub(crate) fn bury(&mut self, slot: Slot, silently: bool, counters: &mut Counters) -> Learned {
        self.table.bury(slot, silently, &mut counters.internal_destroyed)
    }

    /// The flow that is gone, if that is what has been learned.
    pub(crate) fn gone(&self, learned: Learned) -> Option<Key> {
        let Learned::Tell(slot) = learned else { return None };
        let entry = self.table.get(slot)?;
        (!entry.stage.is_alive()).then(|| entry.stored.key())
    }

    /// A conversation refers to the object from now on.
    pub(crate) fn hold(&mut self, object: Object) {
        match object {
            Object::Flow(slot) => self.table.hold(slot),
            Object::Expectation(slot) => self.expectations.table.hold(slot),
        }
    }

    /// A conversation refers to the object no more.
    pub(crate) fn let_go(&mut self, object: Object) {
        match object {
            Object::Flow(slot) => self.table.let_go(slot),
            Object::Expectation(slot) => self.expectations.table.let_go(slot),
        }
    }

    /// Gives the slot of a dead entry back, once no conversation refers to it.
    pub(crate) fn release(&mut self, object: Object) {
        match object {
            Object::Flow(slot) => self.table.release(slot),
            Object::Expectation(slot) => self.expectations.table.release(slot),
        }
    }

    /// What there is to say about the object now; `None` when nothing is.
    pub(crate) fn change(&self, object: Object) -> Option<Change> {
        match object {
            Object::Flow(slot) => self.table.get(slot)?.stage.change(),
            Object::Expectation(slot) => self.expectations.change(slot).map(|(change, _)| change),
        }
    }

    /// Seconds since the start when the kernel made the flow, where that was seen and it lives.
    pub(crate) fn began_s(&self, object: Object) -> Option<u32> {
        let Object::Flow(slot) = object else { return None };
        let entry = self.table.get(slot).filter(|entry| entry.stage.is_alive())?;
        Some(entry.began_s).filter(|at_s| *at_s > 0)
    }

    /// Appends a message about the object as it is now; as a bequest, if it is a flow that began
    /// `age_s` seconds ago.
    pub(crate) fn write(
        &self,
        object: Object,
        age_s: Option<u32>,
        (flags, number): (Flags, u32),
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
        let flow = entry.stored.flow();
        match age_s {
            Some(age_s) if change != Change::Delete => {
                wire::encode_bequest_message(change, flags, number, (&flow, age_s), out)
            }
            _ => wire::encode_flow_message(change, flags, number, &flow, out),
        }
    }

    /// The first object at or after `cursor` that lives, and the cursor behind it: a walk over all
    /// of them. Who stands by tells them only to an heir.
    pub(crate) fn next_alive(&self, cursor: &mut u64, heir: bool) -> Option<Object> {
        if self.silent && !heir {
            return None;
        }
        if *cursor < EXPECTATIONS {
            let mut at = *cursor as Slot;
            let found = self.table.next_alive(&mut at);
            *cursor = u64::from(at);
            if found.is_some() {
                return found.map(Object::Flow);
            }
        }
        // Expectations come after the flows that expect them.
        *cursor = (*cursor).max(EXPECTATIONS);
        let mut at = (*cursor - EXPECTATIONS) as Slot;
        let found = self.expectations.table.next_alive(&mut at);
        *cursor = EXPECTATIONS + u64::from(at);
        found.map(Object::Expectation)
    }

    /// Whether a full copy has to wait for a reading to end.
    pub(crate) fn is_partial(&self) -> bool {
        self.partial == Partial::Yes
    }

    pub(crate) fn set_partial(&mut self, partial: Partial) {
        self.partial = partial;
    }

    /// Whether this router serves with it.
    pub(crate) fn is_served(&self) -> bool {
        self.served
    }

    pub(crate) fn set_served(&mut self, served: bool) {
        self.served = served;
    }

    /// Whether a copy of it is all that is served: the role has begun, and the kernel's table has
    /// been read since.
    pub(crate) fn is_whole(&self) -> bool {
        self.served && self.partial == Partial::No
    }

    /// Whether nothing of it is told to anybody.
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
        self.reading.begin();
        self.burial = None;
        self.read_s.1 = self.read_s.0;
        self.doubt.begin_reading();
        self.lack.begin_reading();
    }

    /// Seconds since the start when an entry that no event has touched was read, at the latest.
    pub(crate) fn read_at_s(&self, entry: &Local) -> u32 {
        if entry.reading == self.reading.number() { self.read_s.0 } else { self.read_s.1 }
    }

    /// Seconds since the start from which on nothing is known to have touched an entry.
    pub(crate) fn untouched_since_s(&self, entry: &Local) -> Option<u32> {
        match entry.past {
            Past::Found => Some(self.read_at_s(entry)),
            Past::Ours => Some(self.marked_s),
            Past::None | Past::OursChanged => None,
        }
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
        let (under_way, reading) = (self.reading.is_under_way(), self.reading.number());
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
        if self.reading.has_ended(&Key::of(flow)) {
            return Learned::Nothing;
        }
        let Some(slot) = self.table.find(&Key::of(flow)) else {
            // Found, not seen to change: it may be what an earlier life of this router left, and
            // must not outrank what the peer tells of it.
            let past = if committed { Past::Ours } else { Past::Found };
            return self.create(flow, false, past, 0, counters);
        };
        let reading = self.reading.number();
        // What no event has told was among those that were lost, or its event is yet to come.
        let changed_s = if self.doubt == Doubt::Read { self.lost_s } else { now_s };
        let read_at_s = self.table.get(slot).map_or(now_s, |entry| self.read_at_s(entry));
        // Its end and its making may both be among the lost events.
        let revived = self.table.revive(slot);
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        let age_s = now_s.saturating_sub(read_at_s);
        if entry.past == Past::Found
            && is_refreshed(entry.stored.timeout_s(), flow.timeout_s, age_s)
        {
            entry.past = entry.past.changed();
        }
        entry.reading = reading;
        if revived || entry.stored.is_another_than(flow) {
            entry.stored = Stored::from(flow);
            entry.stage = Stage::New;
            entry.past = Past::made(committed);
            entry.began_s = 0;
        } else if entry.stored.merge_whole(flow) {
            entry.stage = Stage::Updated;
            if !committed {
                entry.past = entry.past.changed();
            }
        } else {
            return Learned::Nothing;
        }
        if !committed {
            entry.changed_s = entry.changed_s.max(changed_s);
        }
        counters.internal_updated += 1;
        Learned::Tell(slot)
    }

    /// The whole table has been read: what was not seen is gone. Looks at this many slots at most.
    /// Returns whether the reading is to be trusted, otherwise it must be repeated; `None` when
    /// there is more to look at. Events that come before that are newer than the reading.
    pub(crate) fn end_reading(
        &mut self,
        slots: Slot,
        counters: &mut Counters,
        mut learned: impl FnMut(&mut Self, Learned),
    ) -> Option<bool> {
        let reading = &mut self.reading;
        let Burial { next, trusted } =
            *self.burial.get_or_insert_with(|| Burial { next: 0, trusted: reading.end() });
        let number = reading.number();
        let all = self.table.slots();
        let end = all.min(next.saturating_add(slots));
        for slot in next..end {
            let stale = |entry: &Local| entry.stage.is_alive() && entry.reading != number;
            if self.table.get(slot).is_some_and(stale) {
                let effect = self.bury(slot, false, counters);
                learned(self, effect);
            }
        }
        if end < all {
            self.burial = Some(Burial { next: end, trusted });
            return None;
        }
        self.burial = None;
        self.doubt.end_reading(trusted);
        self.lack.end_reading(trusted);
        Some(trusted)
    }

    /// Remembers what is there now as ours, for the purge.
    pub(crate) fn mark_ours(&mut self, now_s: u32) {
        self.marked_s = now_s;
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
        self.reading.clear();
        self.burial = None;
    }
}
