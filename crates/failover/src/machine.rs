//! All groups of one router: events in, actions out, a deadline on request.

use std::time::Instant;

use crate::group::{Context, Group};
use crate::journal::Journal;
use crate::tracking::{Tracker, Verdict};
use crate::{Config, Outcome, State, Step, StepId, config};

/// The failover groups of one router.
///
/// Sans-IO: the caller brings time and events and carries out the actions, in order.
#[derive(Clone, Debug)]
pub struct Failover {
    groups: Vec<Group>,
    checks: Vec<CheckStatus>,
    journal: Journal,
    next_step: u64,
}

/// What was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The actors are there; begin.
    Start,
    /// A virtual router's election has news.
    VirtualRouter {
        /// Its name.
        name: String,
        /// The news.
        event: VirtualRouterEvent,
    },
    /// The interface of a virtual router can be used, or why not.
    Interface {
        /// The virtual router's name.
        virtual_router: String,
        /// Why not, in a sentence.
        usable: Result<(), String>,
    },
    /// A check has run.
    Check {
        /// Its name.
        name: String,
        /// Whether it succeeded.
        success: bool,
        /// How it ended, for people.
        detail: String,
    },
    /// A step has ended.
    Stepped {
        /// Which.
        id: StepId,
        /// How.
        outcome: Outcome,
    },
    /// Whether the peer's flows have all arrived.
    InSync(bool),
    /// The deadline has passed. Spurious ones are harmless.
    Timeout,
    /// Hand everything over and end.
    Stop,
}

/// What the election of one virtual router says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VirtualRouterEvent {
    /// It would be master now.
    Elected {
        /// Why, in a sentence.
        reason: String,
    },
    /// It was elected and has heard a master after all.
    Deferred,
    /// It is master and its advertisements have not left for too long: the others will take over,
    /// so that it must not go on serving. The group falls into fault and tries again after a while.
    Failing {
        /// What sending ends with, in a sentence.
        reason: String,
    },
    /// It was master and has heard a better one; it has stopped claiming.
    Superseded {
        /// By whom, in a sentence.
        reason: String,
    },
}

/// A check as its runs have left it.
#[derive(Clone, Debug)]
pub struct CheckStatus {
    /// Its name.
    pub name: String,
    /// How its last run ended; empty before the first.
    pub detail: String,
    tracker: Tracker,
}

impl CheckStatus {
    /// What the runs so far say.
    pub fn verdict(&self) -> Verdict {
        self.tracker.verdict()
    }
}

/// What to do, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Let a virtual router take part in its election, as backup.
    Startup {
        /// Its name.
        virtual_router: String,
    },
    /// Whether a virtual router may take mastership from a working master.
    PreemptAllowed {
        /// Its name.
        virtual_router: String,
        /// Whether it may.
        allowed: bool,
    },
    /// The priority of a virtual router from now on: the configured one with what tracking adds
    /// and takes away, 1 to 254, or 255 for an address owner.
    Priority {
        /// Its name.
        virtual_router: String,
        /// The priority in force.
        priority: u8,
    },
    /// Carry out a step and answer with [`Event::Stepped`]. `StopClaiming` towards `backup` says
    /// nothing on the wire; towards `fault` and `stopped` it sends priority 0.
    Step {
        /// To be answered with.
        id: StepId,
        /// The group.
        group: String,
        /// What.
        step: Step,
        /// The state that is left.
        from: State,
        /// The state that is entered.
        to: State,
        /// Why, in a sentence.
        reason: String,
    },
    /// The group has ended; the daemon may when all have.
    Stopped {
        /// The group.
        group: String,
    },
}

impl Failover {
    /// All groups in `init`.
    pub fn new(config: &Config, now: Instant) -> Self {
        let check = |check: &config::Check| CheckStatus {
            name: check.name.clone(),
            detail: String::new(),
            tracker: Tracker::new(check.rise, check.fall),
        };
        Self {
            groups: config.groups.iter().map(|group| Group::new(group, now)).collect(),
            checks: config.checks.iter().map(check).collect(),
            journal: Journal::default(),
            next_step: 0,
        }
    }

    /// Feeds one event; returns what to do about it, in order.
    #[must_use = "actions must be carried out"]
    #[expect(clippy::needless_pass_by_value, reason = "an event happens once")]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let verdict = match &event {
            Event::Check { name, success, detail } => self.record(name, *success, detail),
            _ => None,
        };
        let mut actions = Vec::new();
        let mut context = Context {
            journal: &mut self.journal,
            next_step: &mut self.next_step,
            actions: &mut actions,
            now,
        };
        for group in &mut self.groups {
            match &event {
                Event::Start => group.start(&mut context),
                Event::VirtualRouter { name, event } => {
                    group.virtual_router(name, event.clone(), &mut context);
                }
                Event::Interface { virtual_router, usable } => {
                    group.interface(virtual_router, usable.clone(), &mut context);
                }
                Event::Check { name, .. } => {
                    if let Some((verdict, detail)) = &verdict {
                        group.check(name, *verdict, detail, &mut context);
                    }
                }
                Event::Stepped { id, outcome } => group.stepped(*id, outcome.clone(), &mut context),
                Event::InSync(in_sync) => group.in_sync(*in_sync, &mut context),
                Event::Timeout => group.timeout(&mut context),
                Event::Stop => group.stop(&mut context),
            }
        }
        actions
    }

    /// Takes one run of a check; returns the verdict and its reason when this run has changed it.
    fn record(&mut self, name: &str, success: bool, detail: &str) -> Option<(Verdict, String)> {
        let check = self.checks.iter_mut().find(|check| check.name == name)?;
        detail.clone_into(&mut check.detail);
        check.tracker.record(success).map(|verdict| (verdict, detail.to_owned()))
    }

    /// The checks, in the order of the configuration.
    pub fn checks(&self) -> &[CheckStatus] {
        &self.checks
    }

    /// When to send [`Event::Timeout`]; valid until the next [`Failover::handle`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.groups.iter().filter_map(Group::deadline).min()
    }

    /// The groups, in the order of the configuration.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name() == name)
    }

    /// The virtual routers of a group.
    pub fn members<'a>(&'a self, group: &str) -> impl Iterator<Item = &'a str> {
        self.group(group).into_iter().flat_map(Group::members)
    }

    /// The group of a virtual router.
    pub fn group_of(&self, virtual_router: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.has_member(virtual_router))
    }

    /// What every group did and why.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}
