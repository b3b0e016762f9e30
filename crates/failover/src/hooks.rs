//! Which hook runs next: one at a time in the whole daemon, in the order of the transitions, and
//! at the end one for the real state.
//!
//! Two hooks of one router at the same time undo each other's work, and a slow hook of an old state
//! that ends after the hook of the newest leaves the router arranged for the wrong state. So a
//! transition that comes while a hook runs waits, a newer one of the same group takes its place, and
//! one that leads back to the state whose hook has just succeeded is not run again.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::State;

/// How long a hook may run when the configuration does not say.
///
/// Hooks that restart services take tens of seconds; one that never returns holds up all others.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(2);

/// A transition whose hook is to be run, and what the hook is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transition {
    /// The group.
    pub group: String,
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why, for people.
    pub reason: String,
    /// The group's priority.
    pub priority: u8,
}

/// No such group was named when the queue was made; its hooks are not run.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there is no failover group {0}")]
pub struct UnknownGroup(pub String);

/// The order of hooks.
///
/// At most one transition runs and at most one per group waits, so what is held is bounded by the
/// number of groups.
#[derive(Clone, Debug)]
pub struct HookQueue {
    /// The state for which each group's last hook succeeded; `None` before the first and after a
    /// failure, which establishes nothing.
    established: BTreeMap<String, Option<State>>,
    running: Option<Transition>,
    waiting: VecDeque<Transition>,
}

impl HookQueue {
    /// A queue for these groups.
    pub fn new(groups: impl IntoIterator<Item = String>) -> Self {
        Self {
            established: groups.into_iter().map(|group| (group, None)).collect(),
            running: None,
            waiting: VecDeque::new(),
        }
    }

    /// Takes a transition; the answer, if any, is to be run now. An older transition of the group
    /// that waits is forgotten: the new one is last in line, which is its place in time.
    pub fn push(&mut self, transition: Transition) -> Result<Option<Transition>, UnknownGroup> {
        if !self.established.contains_key(&transition.group) {
            return Err(UnknownGroup(transition.group));
        }
        self.waiting.retain(|waiting| waiting.group != transition.group);
        self.waiting.push_back(transition);
        Ok(self.next())
    }

    /// The running hook has ended; the answer, if any, is to be run now. A transition without a
    /// command ends at once and with success. Does nothing when none runs.
    pub fn ended(&mut self, success: bool) -> Option<Transition> {
        let ended = self.running.take()?;
        self.established.insert(ended.group, success.then_some(ended.to));
        self.next()
    }

    /// The transition whose hook runs.
    pub fn running(&self) -> Option<&Transition> {
        self.running.as_ref()
    }

    /// The transitions that wait, in the order in which they will run.
    pub fn waiting(&self) -> impl Iterator<Item = &Transition> {
        self.waiting.iter()
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }

    fn next(&mut self) -> Option<Transition> {
        if self.running.is_some() {
            return None;
        }
        while let Some(transition) = self.waiting.pop_front() {
            let established = self.established.get(&transition.group).copied().flatten();
            if established != Some(transition.to) {
                self.running = Some(transition.clone());
                return Some(transition);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> HookQueue {
        HookQueue::new(["a".to_owned(), "b".to_owned(), "c".to_owned()])
    }

    fn to(group: &str, to: State) -> Transition {
        Transition {
            group: group.to_owned(),
            from: State::Init,
            to,
            reason: "a test".to_owned(),
            priority: 100,
        }
    }

    #[test]
    fn a_hook_starts_at_once_when_none_runs() {
        let mut queue = queue();
        assert_eq!(queue.push(to("a", State::Backup)), Ok(Some(to("a", State::Backup))));
        assert_eq!(queue.running(), Some(&to("a", State::Backup)));
    }

    #[test]
    fn hooks_of_all_groups_run_one_at_a_time_in_the_order_of_the_transitions() {
        let mut queue = queue();
        queue.push(to("b", State::Master)).unwrap();
        assert_eq!(queue.push(to("c", State::Master)), Ok(None));
        assert_eq!(queue.push(to("a", State::Master)), Ok(None));
        assert_eq!(queue.ended(true), Some(to("c", State::Master)));
        assert_eq!(queue.ended(true), Some(to("a", State::Master)));
        assert_eq!(queue.ended(true), None);
        assert!(queue.is_idle());
    }

    #[test]
    fn only_the_newest_waiting_state_of_a_group_runs() {
        let mut queue = queue();
        queue.push(to("a", State::Backup)).unwrap();
        queue.push(to("a", State::Master)).unwrap();
        queue.push(to("a", State::Fault)).unwrap();
        assert_eq!(queue.ended(true), Some(to("a", State::Fault)));
        assert_eq!(queue.ended(true), None);
    }

    #[test]
    fn a_state_that_the_last_run_established_is_not_run_again() {
        let mut queue = queue();
        queue.push(to("a", State::Master)).unwrap();
        queue.push(to("a", State::Fault)).unwrap();
        queue.push(to("a", State::Master)).unwrap();
        assert_eq!(queue.ended(true), None);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_failed_run_establishes_nothing_so_its_state_runs_again_when_it_waits() {
        let mut queue = queue();
        queue.push(to("a", State::Master)).unwrap();
        queue.push(to("a", State::Fault)).unwrap();
        queue.push(to("a", State::Master)).unwrap();
        assert_eq!(queue.ended(false), Some(to("a", State::Master)));
    }

    #[test]
    fn a_failed_run_alone_is_not_repeated() {
        let mut queue = queue();
        queue.push(to("a", State::Master)).unwrap();
        assert_eq!(queue.ended(false), None);
        assert!(queue.is_idle());
    }

    #[test]
    fn a_transition_without_a_command_counts_as_run() {
        let mut queue = queue();
        queue.push(to("a", State::Backup)).unwrap();
        queue.ended(true);
        queue.push(to("a", State::Fault)).unwrap();
        queue.ended(true);
        assert_eq!(queue.push(to("a", State::Backup)), Ok(Some(to("a", State::Backup))));
    }

    #[test]
    fn a_group_that_was_not_declared_is_refused() {
        let mut queue = queue();
        assert_eq!(queue.push(to("x", State::Master)), Err(UnknownGroup("x".to_owned())));
        assert!(queue.is_idle());
    }

    #[test]
    fn an_end_without_a_running_hook_does_nothing() {
        assert_eq!(queue().ended(true), None);
    }

    mod properties {
        use super::*;
        use proptest::prelude::*;

        #[derive(Clone, Debug)]
        enum Event {
            Push(&'static str, State),
            Ended(bool),
        }

        fn event() -> impl Strategy<Value = Event> {
            let states = prop::sample::select(vec![State::Backup, State::Master, State::Fault]);
            let groups = prop::sample::select(vec!["a", "b", "c"]);
            prop_oneof![
                (groups, states).prop_map(|(group, state)| Event::Push(group, state)),
                any::<bool>().prop_map(Event::Ended),
            ]
        }

        proptest! {
            #[test]
            fn hooks_never_overlap_and_the_last_one_is_for_the_real_state(
                events in prop::collection::vec(event(), 0..80)
            ) {
                let mut queue = queue();
                let mut running: Option<Transition> = None;
                // Per group: the newest state, and what the last hook was run for with its success.
                let mut newest = BTreeMap::new();
                let mut last_run = BTreeMap::new();
                let mut step = |queue: &mut HookQueue, event: Event| -> Result<bool, TestCaseError> {
                    let started = match event {
                        Event::Push(group, state) => {
                            newest.insert(group.to_owned(), state);
                            queue.push(to(group, state)).unwrap()
                        }
                        Event::Ended(success) => {
                            if let Some(ended) = running.take() {
                                last_run.insert(ended.group, (ended.to, success));
                            }
                            queue.ended(success)
                        }
                    };
                    if let Some(started) = started {
                        prop_assert!(running.is_none(), "a hook started beside another");
                        prop_assert_ne!(last_run.get(&started.group), Some(&(started.to, true)));
                        running = Some(started);
                    }
                    prop_assert_eq!(queue.running(), running.as_ref());
                    prop_assert!(queue.waiting().count() <= 3, "more waiting than groups");
                    if running.is_none() {
                        prop_assert!(queue.is_idle());
                        for (group, state) in &newest {
                            prop_assert_eq!(last_run.get(group).map(|run| run.0), Some(*state));
                        }
                    }
                    Ok(running.is_some())
                };
                for event in events {
                    step(&mut queue, event)?;
                }
                for _ in 0..=3 {
                    step(&mut queue, Event::Ended(true))?;
                }
                prop_assert!(queue.is_idle(), "ending every hook empties the queue");
            }
        }
    }
}
