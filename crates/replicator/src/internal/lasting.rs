//! A table whose entries outlast what they are about, until every peer knows that it has gone.

use std::ops::Deref;

use crate::table::{Full, Keyed, Notice, Slot, Table};
use crate::wire::Change;

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

/// What a change of a cache means for the peer.
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

/// An entry of such a table.
pub(crate) trait Lasting: Keyed {
    fn stage(&self) -> Stage;

    fn set_stage(&mut self, stage: Stage);

    /// How many conversations it waits in to be sent or acknowledged.
    fn held(&mut self) -> &mut u8;
}

/// The table. What changes how many of its entries are alive goes through it.
pub(crate) struct LastingTable<T> {
    table: Table<T>,
    dead: usize,
}

impl<T> Deref for LastingTable<T> {
    type Target = Table<T>;

    fn deref(&self) -> &Table<T> {
        &self.table
    }
}

impl<T: Lasting> LastingTable<T> {
    pub(crate) fn new(limit: usize, secret: u64) -> Self {
        Self { table: Table::new(limit, secret), dead: 0 }
    }

    /// The entries that are alive.
    pub(crate) fn alive(&self) -> usize {
        self.table.len() - self.dead
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.table.get_mut(slot)
    }

    /// Adds an entry that is alive.
    pub(crate) fn insert(&mut self, entry: T) -> Result<Slot, Full> {
        self.table.insert(entry)
    }

    /// See [`Table::set_limit`].
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.table.set_limit(limit);
    }

    /// See [`Table::take_notice`].
    pub(crate) fn take_notice(&mut self) -> Option<Notice> {
        self.table.take_notice()
    }

    /// What the entry is about is gone; `destroyed` counts those that were alive.
    pub(crate) fn bury(&mut self, slot: Slot, silently: bool, destroyed: &mut u64) -> Learned {
        let Some(entry) = self.table.get_mut(slot) else { return Learned::Nothing };
        if entry.stage().is_alive() {
            self.dead += 1;
            *destroyed += 1;
        }
        if silently {
            entry.set_stage(Stage::Forgotten);
            return Learned::Forget(slot);
        }
        entry.set_stage(Stage::Dead);
        Learned::Tell(slot)
    }

    /// What the entry is about is there; whether it had been gone. The entry is new then.
    pub(crate) fn revive(&mut self, slot: Slot) -> bool {
        let Some(entry) = self.table.get_mut(slot) else { return false };
        if entry.stage().is_alive() {
            return false;
        }
        entry.set_stage(Stage::New);
        self.dead -= 1;
        true
    }

    /// A conversation refers to the entry from now on.
    pub(crate) fn hold(&mut self, slot: Slot) {
        if let Some(entry) = self.table.get_mut(slot) {
            *entry.held() += 1;
        }
    }

    /// A conversation refers to the entry no more.
    pub(crate) fn let_go(&mut self, slot: Slot) {
        if let Some(entry) = self.table.get_mut(slot) {
            *entry.held() = entry.held().saturating_sub(1);
        }
        self.release(slot);
    }

    /// Gives the slot of a dead entry back, once no conversation refers to it.
    pub(crate) fn release(&mut self, slot: Slot) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        if !entry.stage().is_alive() && *entry.held() == 0 {
            self.table.remove(slot);
            self.dead -= 1;
        }
    }

    /// The first entry at or after `cursor` that is alive, and the cursor behind it.
    pub(crate) fn next_alive(&self, cursor: &mut Slot) -> Option<Slot> {
        while *cursor < self.table.slots() {
            let slot = *cursor;
            *cursor += 1;
            if self.table.get(slot).is_some_and(|entry| entry.stage().is_alive()) {
                return Some(slot);
            }
        }
        None
    }

    /// Forgets everything; no conversation may refer to anything any more.
    pub(crate) fn clear(&mut self) {
        self.table.clear();
        self.dead = 0;
    }
}
