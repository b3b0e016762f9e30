//! The order of hooks.

use std::collections::{BTreeMap, VecDeque};

use super::Notice;
use crate::State;

/// A command to be run for a notice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hook {
    /// What is told.
    pub notice: Notice,
    /// By which of the two commands.
    pub form: Form,
}

/// Which command tells a notice.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Form {
    /// The one for its state.
    OfState,
    /// The one for every state.
    General,
}

/// No such hook was named when the queue was made; it is not run.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there are no hooks of {0}")]
pub struct Undeclared(pub String);

/// Where a hook stands in the configuration: the name of a virtual router, or of a group, and the
/// form.
type Place = (bool, String, Form);

/// The order of hooks.
///
/// At most one runs and at most one for each place in the configuration waits, so what is held is
/// bounded by the configuration.
#[derive(Clone, Debug)]
pub struct HookQueue {
    /// The state for which the last hook of each place succeeded; `None` before the first and after
    /// a failure, which establishes nothing.
    established: BTreeMap<Place, Option<State>>,
    running: Option<Hook>,
    waiting: VecDeque<Hook>,
    held: bool,
    /// Whether another command stands in the place of the one that runs since it was started.
    outlived: bool,
}

impl Hook {
    fn place(&self) -> Place {
        (self.notice.virtual_router.is_some(), self.notice.name().to_owned(), self.form)
    }
}

impl HookQueue {
    /// A queue for no hooks yet.
    pub fn new() -> Self {
        Self {
            established: BTreeMap::new(),
            running: None,
            waiting: VecDeque::new(),
            held: false,
            outlived: false,
        }
    }

    /// Lets hooks of this form be run for a virtual router.
    pub fn declare_virtual_router(&mut self, name: &str, form: Form) {
        self.established.insert((true, name.to_owned(), form), None);
    }

    /// Lets hooks of this form be run for a group.
    pub fn declare_group(&mut self, name: &str, form: Form) {
        self.established.insert((false, name.to_owned(), form), None);
    }

    /// Takes the places that `declared` has in place of its own. What waits keeps its turn, unless its
    /// place is gone; what runs is not affected. `same` says whether the commands at a place (of a
    /// virtual router or of a group, by name) are those of before: what others did establishes
    /// nothing for new ones.
    pub fn follow(&mut self, declared: &Self, same: impl Fn(bool, &str, Form) -> bool) {
        let is_kept = |place: &Place| same(place.0, &place.1, place.2);
        let state = |place: &Place| {
            self.established.get(place).copied().flatten().filter(|_| is_kept(place))
        };
        let places = declared.established.keys();
        self.established = places.map(|place| (place.clone(), state(place))).collect();
        self.waiting.retain(|hook| self.established.contains_key(&hook.place()));
        self.outlived |= self.running.as_ref().is_some_and(|running| !is_kept(&running.place()));
    }

    /// Lets nothing be run before [`HookQueue::release`]. What runs is not affected.
    pub fn hold(&mut self) {
        self.held = true;
    }

    /// Ends [`HookQueue::hold`]; the answer, if any, is to be run now.
    pub fn release(&mut self) -> Option<Hook> {
        self.held = false;
        self.next()
    }

    /// Takes a hook; the answer, if any, is to be run now. An older one of the same place that waits
    /// is forgotten: the new one is last in line, which is its place in time.
    ///
    /// # Errors
    /// When its place was not declared.
    pub fn push(&mut self, hook: Hook) -> Result<Option<Hook>, Undeclared> {
        let place = hook.place();
        if !self.established.contains_key(&place) {
            return Err(Undeclared(place.1));
        }
        self.waiting.retain(|waiting| waiting.place() != place);
        self.waiting.push_back(hook);
        Ok(self.next())
    }

    /// The running hook has ended; the answer, if any, is to be run now. A hook without a command
    /// ends at once and with success. Does nothing when none runs.
    pub fn ended(&mut self, success: bool) -> Option<Hook> {
        let ended = self.running.take()?;
        let establishes = success && !std::mem::take(&mut self.outlived);
        if let Some(established) = self.established.get_mut(&ended.place()) {
            *established = establishes.then_some(ended.notice.to);
        }
        self.next()
    }

    /// The hook that runs.
    pub fn running(&self) -> Option<&Hook> {
        self.running.as_ref()
    }

    /// The hooks that wait, in the order in which they will run.
    pub fn waiting(&self) -> impl Iterator<Item = &Hook> {
        self.waiting.iter()
    }

    /// Whether a newer hook waits for the place of the one that runs: then how this one ends matters
    /// to nobody.
    pub fn is_outdated(&self) -> bool {
        let running = self.running.as_ref().map(Hook::place);
        self.waiting.iter().any(|waiting| Some(waiting.place()) == running)
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    fn next(&mut self) -> Option<Hook> {
        if self.held || self.running.is_some() {
            return None;
        }
        while let Some(hook) = self.waiting.pop_front() {
            let established = self.established.get(&hook.place()).copied().flatten();
            if established != Some(hook.notice.to) {
                self.running = Some(hook.clone());
                return Some(hook);
            }
        }
        None
    }
}

impl Default for HookQueue {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
