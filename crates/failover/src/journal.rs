//! The journal of reasons: what every group did, why, and how long each step took.

use std::collections::VecDeque;
use std::time::Instant;

use crate::{Outcome, State, Step};

/// Most transitions that are kept; the oldest is forgotten when another comes.
pub const JOURNAL_LIMIT: usize = 256;

/// The last transitions of all groups, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    transitions: VecDeque<Transition>,
    next_number: u64,
}

/// One change of a group's state, with the timeline of its steps.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Counts from 1.
    pub number: u64,
    /// The group.
    pub group: String,
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why, in a sentence.
    pub reason: String,
    /// When it began.
    pub at: Instant,
    /// Its steps in the order they were begun.
    pub steps: Vec<StepRecord>,
}

/// One step of a transition.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// What.
    pub step: Step,
    /// When it began.
    pub started: Instant,
    /// When and how it ended; `None` while it runs.
    pub ended: Option<(Instant, Outcome)>,
}

impl Journal {
    /// The transitions kept, oldest first.
    pub fn transitions(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.transitions.iter()
    }

    /// Opens an entry and returns its number.
    pub(crate) fn begin(
        &mut self,
        group: &str,
        from: State,
        to: State,
        reason: &str,
        at: Instant,
    ) -> u64 {
        if self.transitions.len() == JOURNAL_LIMIT {
            self.transitions.pop_front();
        }
        self.next_number += 1;
        self.transitions.push_back(Transition {
            number: self.next_number,
            group: group.to_owned(),
            from,
            to,
            reason: reason.to_owned(),
            at,
            steps: Vec::new(),
        });
        self.next_number
    }

    /// Notes that a step of transition `number` has begun.
    pub(crate) fn step_begins(&mut self, number: u64, step: Step, now: Instant) {
        if let Some(transition) = self.find(number) {
            transition.steps.push(StepRecord { step, started: now, ended: None });
        }
    }

    /// Notes how the running step of transition `number` ended.
    pub(crate) fn step_ends(&mut self, number: u64, outcome: Outcome, now: Instant) {
        let record = self.find(number).and_then(|transition| transition.steps.last_mut());
        if let Some(record) = record.filter(|record| record.ended.is_none()) {
            record.ended = Some((now, outcome));
        }
    }

    /// Numbers grow by one, so an entry's place follows from its number.
    fn find(&mut self, number: u64) -> Option<&mut Transition> {
        let first = self.transitions.front()?.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.transitions.get_mut(index)
    }
}
