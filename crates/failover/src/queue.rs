//! Who is next, without asking everybody: the deadlines of all groups in order, and which group
//! waits for which step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::StepId;

/// The deadlines of all groups; each group has at most one.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    queue: BTreeSet<(Instant, usize)>,
    of_group: Vec<Option<Instant>>,
}

impl Deadlines {
    /// None for any of `groups` groups.
    pub(crate) fn new(groups: usize) -> Self {
        Self { queue: BTreeSet::new(), of_group: vec![None; groups] }
    }

    /// Takes the deadline that `group` has now.
    pub(crate) fn set(&mut self, group: usize, deadline: Option<Instant>) {
        let before = std::mem::replace(&mut self.of_group[group], deadline);
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, group));
        }
        self.queue.extend(deadline.map(|deadline| (deadline, group)));
    }

    /// The first of them.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.first().map(|(deadline, _)| *deadline)
    }

    /// The groups whose deadline has passed, the longest overdue first.
    pub(crate) fn due(&self, now: Instant) -> Vec<usize> {
        self.queue.range(..=(now, usize::MAX)).map(|(_, group)| *group).collect()
    }
}

/// The steps given out and not answered; a group waits for at most one.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenSteps {
    last: u64,
    group_of: BTreeMap<StepId, usize>,
    /// Those that were given up, with their transition.
    late: BTreeMap<StepId, u64>,
}

/// Most steps that were given up and whose answer may still come.
const LATE_LIMIT: usize = 256;

impl OpenSteps {
    /// Numbers a step that is given to `group`.
    pub(crate) fn open(&mut self, group: usize) -> StepId {
        self.last += 1;
        let id = StepId(self.last);
        self.group_of.insert(id, group);
        id
    }

    /// Nobody waits for this step any more.
    pub(crate) fn close(&mut self, id: StepId) {
        self.group_of.remove(&id);
    }

    /// Groups have other places now, each given by its place before; nobody waits for the steps of
    /// those that are gone.
    pub(crate) fn move_groups(&mut self, moved: &[Option<usize>]) {
        self.group_of.retain(|_, group| match moved.get(*group).copied().flatten() {
            Some(place) => {
                *group = place;
                true
            }
            None => false,
        });
    }

    /// The step was not answered in time; an answer that comes after all is noted for `transition`.
    pub(crate) fn give_up(&mut self, id: StepId, transition: u64) {
        self.close(id);
        if self.late.len() == LATE_LIMIT {
            self.late.pop_first();
        }
        self.late.insert(id, transition);
    }

    /// The transition of a step that was given up; it is answered now.
    pub(crate) fn take_late(&mut self, id: StepId) -> Option<u64> {
        self.late.remove(&id)
    }

    /// The group that waits for this step; none when it was cut or has been answered.
    pub(crate) fn group_of(&self, id: StepId) -> Option<usize> {
        self.group_of.get(&id).copied()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test has a clock")]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_is_next_and_a_group_has_one() {
        let start = Instant::now();
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        let mut deadlines = Deadlines::new(3);
        assert_eq!(deadlines.next(), None);
        deadlines.set(0, at(5));
        deadlines.set(1, at(3));
        deadlines.set(2, at(3));
        assert_eq!(deadlines.next(), at(3));
        assert_eq!(deadlines.due(start + Duration::from_secs(4)), [1, 2]);
        deadlines.set(1, at(9));
        deadlines.set(2, None);
        assert_eq!(deadlines.next(), at(5));
        assert_eq!(deadlines.due(start + Duration::from_secs(4)), Vec::<usize>::new());
        assert_eq!(deadlines.due(start + Duration::from_secs(5)), [0]);
    }

    #[test]
    fn a_closed_step_belongs_to_nobody() {
        let mut steps = OpenSteps::default();
        let (first, second) = (steps.open(7), steps.open(8));
        assert_ne!(first, second);
        steps.close(first);
        assert_eq!((steps.group_of(first), steps.group_of(second)), (None, Some(8)));
    }
}
