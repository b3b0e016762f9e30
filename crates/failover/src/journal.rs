//! The journal of reasons: what every group did, why, and how long each step took.

use std::collections::VecDeque;
use std::time::Instant;

use crate::{Outcome, State, Step, StepId};

/// Most transitions that are kept; the oldest is forgotten when another comes.
pub const JOURNAL_LIMIT: usize = 256;

/// The last transitions of all groups, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    transitions: VecDeque<Transition>,
    last_number: u64,
    revision: u64,
}

/// One change of a group's state, with the timeline of its steps.
#[derive(Clone, Debug)]
pub struct Transition {
    /// Counts on from the last transition of an earlier run, which `Journal::following` is told.
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
    /// What was known of the other routers then, in sentences.
    pub view: Vec<String>,
    /// Its steps in the order they were begun.
    pub steps: Vec<StepRecord>,
    /// Nothing more is done for it.
    pub is_over: bool,
}

/// One step of a transition.
#[derive(Clone, Debug)]
pub struct StepRecord {
    /// What.
    pub step: Step,
    /// When it began.
    pub started: Instant,
    /// Which run of it.
    pub(crate) id: StepId,
    /// When and how it ended; `None` while it runs.
    pub ended: Option<(Instant, Outcome)>,
    /// The answer of a step that was no longer waited for.
    pub late: Option<(Instant, Outcome)>,
}

impl Journal {
    /// An empty one whose first transition has the number after `last`.
    pub(crate) fn following(last: u64) -> Self {
        Self { last_number: last, ..Self::default() }
    }

    /// Grows with every change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Adds to the transitions since `after` what was known of the other routers when they began;
    /// returns the number of the last.
    pub fn see(&mut self, after: u64, mut view: impl FnMut(&Transition) -> Vec<String>) -> u64 {
        for transition in self.transitions.iter_mut().rev() {
            if transition.number <= after {
                break;
            }
            transition.view = view(transition);
        }
        self.last_number
    }

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
        self.last_number += 1;
        self.revision += 1;
        self.transitions.push_back(Transition {
            number: self.last_number,
            group: group.to_owned(),
            from,
            to,
            reason: reason.to_owned(),
            at,
            view: Vec::new(),
            steps: Vec::new(),
            is_over: false,
        });
        self.last_number
    }

    /// The transition that was to lead elsewhere leads here.
    pub(crate) fn leads_to(&mut self, number: u64, to: State) {
        if let Some(transition) = self.find(number) {
            transition.to = to;
            self.revision += 1;
        }
    }

    /// Notes that a step of transition `number` has begun.
    pub(crate) fn step_begins(&mut self, number: u64, step: Step, id: StepId, now: Instant) {
        if let Some(transition) = self.find(number) {
            transition.steps.push(StepRecord { step, started: now, id, ended: None, late: None });
        }
    }

    /// Notes how the running step of transition `number` ended.
    pub(crate) fn step_ends(&mut self, number: u64, outcome: Outcome, now: Instant) {
        let record = self.find(number).and_then(|transition| transition.steps.last_mut());
        if let Some(record) = record.filter(|record| record.ended.is_none()) {
            record.ended = Some((now, outcome));
            self.revision += 1;
        }
    }

    /// Notes the answer of a step that was given up.
    pub(crate) fn late_answer(&mut self, number: u64, id: StepId, outcome: Outcome, now: Instant) {
        let steps = self.find(number).into_iter().flat_map(|transition| &mut transition.steps);
        if let Some(record) = steps.into_iter().find(|record| record.id == id) {
            record.late = Some((now, outcome));
            self.revision += 1;
        }
    }

    /// Notes that nothing more is done for transition `number`.
    pub(crate) fn is_over(&mut self, number: u64) {
        if let Some(transition) = self.find(number) {
            transition.is_over = true;
            self.revision += 1;
        }
    }

    /// Numbers grow by one, so an entry's place follows from its number.
    fn find(&mut self, number: u64) -> Option<&mut Transition> {
        let first = self.transitions.front()?.number;
        let index = usize::try_from(number.checked_sub(first)?).ok()?;
        self.transitions.get_mut(index)
    }
}
