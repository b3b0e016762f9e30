//! All groups of one router: events in, actions out, a deadline on request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::group::{Context, Group};
use crate::journal::Journal;
use crate::queue::{Deadlines, OpenSteps};
use crate::tracking::{Seen, Tracker, Verdict};
use crate::{Config, HandedOver, Outcome, State, Step, StepId, Subject, config};

/// The failover groups of one router.
///
/// Sans-IO: the caller brings time and events and carries out the actions, in order. An event costs
/// what the groups it is about cost: the others are not looked at.
#[derive(Clone, Debug)]
pub struct Failover {
    pub(crate) groups: Vec<Group>,
    pub(crate) group_places: BTreeMap<String, usize>,
    /// The group of each virtual router, and its place there.
    pub(crate) member_places: BTreeMap<String, (usize, usize)>,
    pub(crate) checks: Vec<CheckStatus>,
    pub(crate) check_places: BTreeMap<String, usize>,
    pub(crate) subjects: BTreeMap<Subject, Watched>,
    journal: Journal,
    pub(crate) steps: OpenSteps,
    pub(crate) deadlines: Deadlines,
    /// What a group that comes later has missed: the beginning, and whether the peer's flows are here.
    pub(crate) started: bool,
    pub(crate) in_sync: bool,
    /// Everything ends: what comes later ends too.
    pub(crate) stops: bool,
}

/// Something that is tracked, as it was seen last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    pub(crate) seen: Option<Seen>,
    pub(crate) detail: String,
    /// Who tracks it: groups, and the places of the trackers there.
    trackers: Vec<(usize, usize)>,
}

/// What was observed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The actors are there; begin.
    Start,
    /// An earlier run that was killed has left a group master, with everything in place. Only
    /// before the group has left `init`.
    Resume {
        /// The group.
        group: String,
        /// It is master still, and why; or why it is no more and what was left has to go.
        resumed: Result<String, String>,
    },
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
    /// A tracked thing that is no check was looked at. What is as before may be told again.
    Tracked {
        /// What.
        subject: Subject,
        /// How it is.
        seen: Seen,
        /// The same for people.
        detail: String,
    },
    /// A step has ended.
    Stepped {
        /// Which.
        id: StepId,
        /// How.
        outcome: Outcome,
    },
    /// The hooks of a transition run, or have run: none of them waits any more.
    HooksBegun {
        /// The group.
        group: String,
        /// The step that asked for them.
        id: StepId,
    },
    /// A hook has failed that its group cannot do without. Means nothing when the group has left the
    /// state that the hook was for.
    HookFailed {
        /// The group.
        group: String,
        /// The state that the hook was for.
        state: State,
        /// Which and why, in a sentence.
        why: String,
    },
    /// Whether the peer's flows have all arrived.
    InSync(bool),
    /// The deadline has passed. Spurious ones are harmless.
    Timeout,
    /// Hand everything over and end; said twice, end without handing over.
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
    /// It has retired, and another router is heard as master.
    Succeeded {
        /// That router.
        by: IpAddr,
    },
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
    pub(crate) settings: config::Check,
    pub(crate) tracker: Tracker,
}

impl CheckStatus {
    pub(crate) fn new(check: &config::Check) -> Self {
        Self {
            name: check.name.clone(),
            detail: String::new(),
            settings: check.clone(),
            tracker: Tracker::new(check.rise, check.fall),
        }
    }

    /// What the runs so far say.
    pub fn verdict(&self) -> Verdict {
        self.tracker.verdict()
    }
}

/// A tracked thing, for status output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tracked<'a> {
    /// What.
    pub subject: &'a Subject,
    /// The member for which it is tracked; every one of the group without.
    pub virtual_router: Option<&'a str>,
    /// How it is.
    pub verdict: Verdict,
    /// The same for people.
    pub detail: &'a str,
    /// What it weighs; `None` when the group cannot serve while it is bad.
    pub weight: Option<i16>,
    /// What it adds to the priority now, before the sum is limited.
    pub effect: i32,
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
    /// Make a virtual router master that has come to a group that is master already. It was elected.
    Claim {
        /// Its name.
        virtual_router: String,
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
    /// The group is master and its takeover is complete, with no hook of it still waiting: whoever
    /// comes after a kill may go on from here. Holds until the group's next `StopClaiming`.
    Serves {
        /// The group.
        group: String,
    },
    /// Let a virtual router take no more part in its election; a master says priority 0.
    Withdraw {
        /// Its name.
        virtual_router: String,
    },
    /// A virtual router that has handed over may preempt its successor as any other may.
    MayReturn {
        /// Its name.
        virtual_router: String,
    },
    /// A hand-over that was begun has ended, and the group is settled or goes on to something else.
    HandoverEnded {
        /// The group.
        group: String,
        /// How it went; when it was called off, why.
        result: Result<HandedOver, String>,
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
        let groups: Vec<Group> = config.groups.iter().map(|group| Group::new(group, now)).collect();
        let checks: Vec<CheckStatus> = config.checks.iter().map(CheckStatus::new).collect();
        Self {
            group_places: places(groups.iter().map(Group::name)),
            member_places: member_places(&groups),
            check_places: places(checks.iter().map(|check| check.name.as_str())),
            subjects: subjects(&groups),
            journal: Journal::default(),
            steps: OpenSteps::default(),
            deadlines: Deadlines::new(groups.len()),
            groups,
            checks,
            started: false,
            in_sync: false,
            stops: false,
        }
    }

    /// Has the journal count on from the last transition of an earlier run.
    #[must_use]
    pub fn after_transition(mut self, number: u64) -> Self {
        self.journal = Journal::following(number);
        self
    }

    /// Feeds one event; returns what to do about it, in order.
    #[must_use = "actions must be carried out"]
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Start => {
                self.started = true;
                self.everyone(now, &mut actions, Group::start);
            }
            Event::Stop => {
                self.stops = true;
                self.everyone(now, &mut actions, Group::stop);
            }
            Event::InSync(in_sync) => {
                self.in_sync = in_sync;
                self.everyone(now, &mut actions, |group, context| group.in_sync(in_sync, context));
            }
            Event::Resume { group, resumed } => {
                if let Some(&place) = self.group_places.get(&group) {
                    self.act(place, now, &mut actions, |group, context| {
                        group.resume(resumed, context);
                    });
                }
            }
            Event::VirtualRouter { name, event } => {
                if let Some(&(place, member)) = self.member_places.get(&name) {
                    self.act(place, now, &mut actions, |group, context| {
                        group.virtual_router(member, event, context);
                    });
                }
            }
            Event::Interface { virtual_router, usable } => {
                if let Some(&(place, member)) = self.member_places.get(&virtual_router) {
                    self.act(place, now, &mut actions, |group, context| {
                        group.interface(member, usable, context);
                    });
                }
            }
            Event::Check { name, success, detail } => {
                self.check(name, success, detail, now, &mut actions);
            }
            Event::Tracked { subject, seen, detail } => {
                self.track(&subject, seen, detail, now, &mut actions);
            }
            Event::Stepped { id, outcome } => {
                if let Some(place) = self.steps.group_of(id) {
                    self.act(place, now, &mut actions, |group, context| {
                        group.stepped(id, outcome, context);
                    });
                } else if let Some(transition) = self.steps.take_late(id) {
                    self.journal.late_answer(transition, id, outcome, now);
                }
            }
            Event::HooksBegun { group, id } => {
                if let Some(&place) = self.group_places.get(&group) {
                    self.act(place, now, &mut actions, |group, context| {
                        group.hooks_begun(id, context);
                    });
                }
            }
            Event::HookFailed { group, state, why } => {
                if let Some(&place) = self.group_places.get(&group) {
                    self.act(place, now, &mut actions, |group, context| {
                        group.hook_failed(state, why, context);
                    });
                }
            }
            Event::Timeout => {
                for place in self.deadlines.due(now) {
                    self.act(place, now, &mut actions, Group::timeout);
                }
            }
        }
        actions
    }

    /// Hands the mastership of a group over to a peer; [`Action::HandoverEnded`] says how it went.
    /// With `force` also when nobody knows whether a peer is there and holds every flow.
    ///
    /// # Errors
    /// Why that cannot begin now, in a sentence.
    pub fn switchover(
        &mut self,
        group: &str,
        force: bool,
        now: Instant,
    ) -> Result<Vec<Action>, String> {
        let Some(&place) = self.group_places.get(group) else { return Err(unknown(group)) };
        let mut actions = Vec::new();
        let mut answer = Ok(());
        self.act(place, now, &mut actions, |group, context| {
            answer = group.switchover(force, context);
        });
        answer.map(|()| actions)
    }

    /// Keeps a group from being master from now on (`since`, for people) or no more. A master is
    /// handed over first; then [`Action::HandoverEnded`] follows.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn maintain(
        &mut self,
        group: &str,
        since: Option<String>,
        now: Instant,
    ) -> Result<Vec<Action>, String> {
        let Some(&place) = self.group_places.get(group) else { return Err(unknown(group)) };
        let mut actions = Vec::new();
        self.act(place, now, &mut actions, |group, context| group.maintain(since, context));
        Ok(actions)
    }

    /// Lets one group act; what it waits for may be something else afterwards.
    pub(crate) fn act(
        &mut self,
        place: usize,
        now: Instant,
        actions: &mut Vec<Action>,
        act: impl FnOnce(&mut Group, &mut Context<'_>),
    ) {
        let Some(group) = self.groups.get_mut(place) else { return };
        let mut context = Context {
            journal: &mut self.journal,
            steps: &mut self.steps,
            group: place,
            actions,
            now,
        };
        act(group, &mut context);
        self.deadlines.set(place, group.deadline());
    }

    fn everyone(
        &mut self,
        now: Instant,
        actions: &mut Vec<Action>,
        act: impl Fn(&mut Group, &mut Context<'_>),
    ) {
        for place in 0..self.groups.len() {
            self.act(place, now, actions, &act);
        }
    }

    /// Takes one run of a check, which is news to the groups when it changes the verdict.
    fn check(
        &mut self,
        name: String,
        success: bool,
        detail: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(&place) = self.check_places.get(&name) else { return };
        let check = &mut self.checks[place];
        check.detail.clone_from(&detail);
        let seen = match check.tracker.record(success) {
            Some(Verdict::Good) => Seen::Good,
            Some(Verdict::Bad) => Seen::Bad,
            Some(Verdict::Unknown) | None => return,
        };
        self.track(&Subject::Check(name), seen, detail, now, actions);
    }

    fn track(
        &mut self,
        subject: &Subject,
        seen: Seen,
        detail: String,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some(watched) = self.subjects.get_mut(subject) else { return };
        let changed = watched.seen.replace(seen) != Some(seen);
        watched.detail = detail;
        if !changed {
            return;
        }
        // Lent out while the groups act, which do not look at it.
        let watched = std::mem::take(watched);
        for &(place, tracker) in &watched.trackers {
            self.act(place, now, actions, |group, context| {
                group.track(tracker, seen, &watched.detail, context);
            });
        }
        self.subjects.insert(subject.clone(), watched);
    }

    /// The checks, in the order of the configuration.
    pub fn checks(&self) -> &[CheckStatus] {
        &self.checks
    }

    /// When to send [`Event::Timeout`]; valid until the next [`Failover::handle`].
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// The groups, in the order of the configuration.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.group_places.get(name).and_then(|place| self.groups.get(*place))
    }

    /// The virtual routers of a group.
    pub fn members<'a>(&'a self, group: &str) -> impl Iterator<Item = &'a str> {
        self.group(group).into_iter().flat_map(Group::members)
    }

    /// The group of a virtual router.
    pub fn group_of(&self, virtual_router: &str) -> Option<&Group> {
        self.member_places.get(virtual_router).and_then(|(place, _)| self.groups.get(*place))
    }

    /// The priority in force of a virtual router: the configured one with what tracking adds and
    /// takes away, as [`Action::Priority`] tells it.
    pub fn priority(&self, virtual_router: &str) -> Option<u8> {
        let (place, member) = *self.member_places.get(virtual_router)?;
        self.groups.get(place)?.priority(member)
    }

    /// What is tracked for a group and its members: its checks, then the rest in the order of the
    /// configuration.
    pub fn tracked<'a>(&'a self, group: &str) -> impl Iterator<Item = Tracked<'a>> {
        let group = self.group(group);
        group.into_iter().flat_map(Group::trackers).map(move |tracker| Tracked {
            subject: &tracker.subject,
            virtual_router: tracker.member.and_then(|member| group?.members().nth(member)),
            verdict: tracker.seen.map(Seen::verdict).unwrap_or_default(),
            detail: self.detail(&tracker.subject),
            weight: tracker.weight,
            effect: tracker.effect(),
        })
    }

    /// How a tracked thing was seen last; empty before the first time.
    fn detail(&self, subject: &Subject) -> &str {
        let check = match subject {
            Subject::Check(name) => self.check_places.get(name),
            Subject::Interface(_) | Subject::File(_) | Subject::Process(_) => None,
        };
        match check {
            Some(place) => &self.checks[*place].detail,
            None => self.subjects.get(subject).map_or("", |watched| &watched.detail),
        }
    }

    /// Whether a hand-over of this group is under way, its leaving included.
    pub fn is_handing_over(&self, group: &str) -> bool {
        self.group(group).is_some_and(|group| group.handover.is_some())
    }

    /// What every group did and why.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The same, to add what was known of others.
    pub fn journal_mut(&mut self) -> &mut Journal {
        &mut self.journal
    }
}

/// The group of each virtual router, and its place there.
pub(crate) fn member_places(groups: &[Group]) -> BTreeMap<String, (usize, usize)> {
    let mut places = BTreeMap::new();
    for (place, group) in groups.iter().enumerate() {
        for (index, member) in group.members().enumerate() {
            places.entry(member.to_owned()).or_insert((place, index));
        }
    }
    places
}

/// What is tracked, and by whom; nothing has been seen yet.
pub(crate) fn subjects(groups: &[Group]) -> BTreeMap<Subject, Watched> {
    let mut subjects: BTreeMap<Subject, Watched> = BTreeMap::new();
    for (place, group) in groups.iter().enumerate() {
        for (index, tracker) in group.trackers().iter().enumerate() {
            let watched = subjects.entry(tracker.subject.clone()).or_default();
            watched.trackers.push((place, index));
        }
    }
    subjects
}

fn unknown(group: &str) -> String {
    format!("there is no group {group}")
}

/// Where each name stands; the first of two that are the same.
pub(crate) fn places<'n>(names: impl Iterator<Item = &'n str>) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    for (place, name) in names.enumerate() {
        places.entry(name.to_owned()).or_insert(place);
    }
    places
}
