//! Why a group is what it is now, and what would change that, as far as it is not the elections'.

use std::time::Instant;

use crate::State;
use crate::group::Group;

/// Why a group is what it is, and what would change that, in sentences for people.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Explanation {
    /// Why, in sentences.
    pub because: Vec<String>,
    /// What would make it something else, in sentences.
    pub would_change: Vec<String>,
    /// Whether the elections of its members have a say now.
    pub asks_elections: bool,
}

impl Group {
    /// Why it is what it is at `now`.
    pub fn explain(&self, now: Instant) -> Explanation {
        let mut explanation = Explanation::default();
        let Explanation { because, would_change, asks_elections } = &mut explanation;
        match self.state() {
            State::Init => {
                because.push(self.reason());
                would_change.push("everything it cannot serve without has been looked at".into());
            }
            State::Stopped => because.push(self.reason()),
            State::Fault => {
                because.extend(self.complaints(now));
                would_change.push("none of this holds any more: it becomes backup then".into());
            }
            State::Backup if self.in_maintenance_since().is_some() => {
                because.push(self.reason());
                would_change.push("`lockstep maintenance off`".into());
            }
            State::Backup | State::Master => {
                because.push(self.reason());
                *asks_elections = true;
            }
        }
        if let Some(step) = self.step() {
            let (step, state) = (step.as_str(), self.state().as_str());
            because.push(format!("the transition to {state} is under way: {step}"));
        }
        if self.state() == State::Backup {
            because.extend(self.waiting_members());
            if let Some(waits) = self.waits_for(now) {
                because.push(waits);
                would_change.push("replication says in sync".into());
                if self.preemption.deadline().is_some() {
                    would_change.push("`preempt-limit` ends the wait".into());
                }
            }
        }
        if self.state() == State::Master {
            would_change.extend(self.needs().map(|thing| format!("{thing} fails")));
        }
        explanation
    }

    /// Those members that are not elected while others are.
    fn waiting_members(&self) -> Option<String> {
        let missing = self.unelected()?;
        let names = missing.join(", ");
        Some(format!("other members are elected, and {names} not: they become master together"))
    }
}
