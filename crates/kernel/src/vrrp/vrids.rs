//! Which VRIDs are ours on an interface.

use std::fmt;

use lockstep_vrrp::Vrid;

/// A set of VRIDs: those that a [`super::Receiver`] lets in.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct VridSet {
    /// Bit `vrid % 32` of word `vrid / 32`. Bit 0 of word 0 is never set.
    words: [u32; 8],
}

impl VridSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { words: [0; 8] }
    }

    /// Adds one; whether it is new.
    pub fn insert(&mut self, vrid: Vrid) -> bool {
        let (word, bit) = position(vrid);
        let before = self.words[word];
        self.words[word] |= bit;
        before & bit == 0
    }

    /// Takes one out; whether it was there.
    pub fn remove(&mut self, vrid: Vrid) -> bool {
        let (word, bit) = position(vrid);
        let before = self.words[word];
        self.words[word] &= !bit;
        before & bit != 0
    }

    /// Whether it is there.
    pub fn contains(&self, vrid: Vrid) -> bool {
        let (word, bit) = position(vrid);
        self.words[word] & bit != 0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words == [0; 8]
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Vrid> + '_ {
        (1..=u8::MAX).filter_map(Vrid::new).filter(|vrid| self.contains(*vrid))
    }

    pub(super) fn words(&self) -> &[u32; 8] {
        &self.words
    }
}

impl FromIterator<Vrid> for VridSet {
    fn from_iter<T: IntoIterator<Item = Vrid>>(vrids: T) -> Self {
        let mut set = Self::new();
        set.extend(vrids);
        set
    }
}

impl Extend<Vrid> for VridSet {
    fn extend<T: IntoIterator<Item = Vrid>>(&mut self, vrids: T) {
        for vrid in vrids {
            self.insert(vrid);
        }
    }
}

impl fmt::Debug for VridSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Vrid::value)).finish()
    }
}

fn position(vrid: Vrid) -> (usize, u32) {
    (usize::from(vrid.value() / 32), 1 << (vrid.value() % 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_and_nothing_else() {
        let vrid = |value| Vrid::new(value).unwrap();
        let mut set: VridSet = [1, 31, 32, 255].into_iter().map(vrid).collect();
        assert!(!set.insert(vrid(255)) && set.insert(vrid(64)));
        assert!(set.remove(vrid(32)) && !set.remove(vrid(33)));
        assert_eq!(set.iter().map(Vrid::value).collect::<Vec<_>>(), [1, 31, 64, 255]);
        assert_eq!(format!("{set:?}"), "{1, 31, 64, 255}");
        assert!(!set.is_empty() && VridSet::new().is_empty());
    }
}
