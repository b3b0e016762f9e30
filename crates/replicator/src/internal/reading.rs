//! A reading of what the kernel has, while events go on.

use std::collections::BTreeSet;

/// Counts readings, and remembers what ended during one: it may still stand in the part yet to be
/// seen. Remembers no more than a limit; beyond it the reading has to be repeated.
pub(crate) struct Reading<Key> {
    number: u8,
    under_way: bool,
    ended: BTreeSet<Key>,
    limit: usize,
}

impl<Key: Ord> Reading<Key> {
    /// None has begun.
    pub(crate) fn new(limit: usize) -> Self {
        Self { number: 0, under_way: false, ended: BTreeSet::new(), limit }
    }

    /// That of the newest one: what it did not touch is gone.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way
    }

    pub(crate) fn begin(&mut self) {
        self.number = self.number.wrapping_add(1);
        self.under_way = true;
        self.ended.clear();
    }

    /// The kernel has made or changed something.
    pub(crate) fn made(&mut self, key: impl FnOnce() -> Key) {
        if self.under_way {
            self.ended.remove(&key());
        }
    }

    /// Something has ended.
    pub(crate) fn ended(&mut self, key: impl FnOnce() -> Key) {
        if self.under_way && self.ended.len() < self.limit {
            self.ended.insert(key());
        }
    }

    /// Whether it has ended since the reading began, so that the kernel's word is an old one.
    pub(crate) fn has_ended(&self, key: &Key) -> bool {
        self.ended.contains(key)
    }

    /// All has been read. Returns whether the reading is to be trusted.
    pub(crate) fn end(&mut self) -> bool {
        self.under_way = false;
        std::mem::take(&mut self.ended).len() < self.limit
    }

    /// Forgets what has ended.
    pub(crate) fn clear(&mut self) {
        self.ended.clear();
    }
}
