//! Finds what is declared twice, when both can be wanted at the same moment.

use std::collections::BTreeMap;
use std::ops::Range;

use lockstep_routes::{Condition, When};

/// Who has each place, of which the kernel has room for one at a time.
#[derive(Debug)]
pub(crate) struct Places<K> {
    /// At most two for each: one while a group is master, one while it is not.
    taken: BTreeMap<K, Vec<(Condition, Range<usize>)>>,
}

impl<K: Ord> Places<K> {
    pub(crate) fn new() -> Self {
        Self { taken: BTreeMap::new() }
    }

    /// Takes `place` for when `condition` holds; if somebody has it then, where that one stands.
    pub(crate) fn take(
        &mut self,
        place: K,
        condition: &Condition,
        span: Range<usize>,
    ) -> Option<Range<usize>> {
        let owners = self.taken.entry(place).or_default();
        let owner = owners.iter().find(|(other, _)| overlap(other, condition));
        if let Some((_, earlier)) = owner {
            return Some(earlier.clone());
        }
        owners.push((condition.clone(), span));
        None
    }
}

/// Whether both can be wanted at the same time.
fn overlap(a: &Condition, b: &Condition) -> bool {
    let opposite =
        matches!((a.when, b.when), (When::Master, When::Backup) | (When::Backup, When::Master));
    !(opposite && a.group == b.group)
}
