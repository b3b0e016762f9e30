//! Whether a group can serve, and what is added to and taken from its members' priorities.
//!
//! Two questions that must not be mixed. *Unfit* is about this router alone: while something it
//! cannot serve without is bad, it gives up, whatever the others are. *Preference* compares
//! routers: something bad with a weight makes this one less wanted, and when the others are worse it
//! goes on serving.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Group, Subject, Track};
use crate::machine::Watched;
use crate::tracking::{Seen, Verdict};

/// The lowest and highest priority that tracking leads to; 255 is an address owner's, and is never
/// changed.
const PRIORITIES: (i32, i32) = (1, 254);
/// What a single tracked thing adds or takes away at most.
const MAX_EFFECT: i64 = 254;

/// Whether a group can serve.
pub(crate) enum Fitness {
    Fit,
    /// Something has not been looked at yet.
    Unknown,
    Unfit(String),
}

/// What a group's fitness and priorities follow from.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    members: Vec<Member>,
    trackers: Vec<Tracker>,
    /// What speaks against serving, first the members' interfaces.
    unfit: BTreeMap<Cause, String>,
    /// What has to be looked at before the group may serve.
    unknown: BTreeSet<Cause>,
    /// What trackers of the whole group do to the priority of each member.
    sum: i32,
}

#[derive(Clone, Debug)]
struct Member {
    name: String,
    configured: u8,
    in_force: u8,
    /// What its own trackers do to its priority.
    sum: i32,
}

/// A thing that is tracked, for the group or for one of its members.
#[derive(Clone, Debug)]
pub(crate) struct Tracker {
    pub(crate) subject: Subject,
    pub(crate) weight: Option<i16>,
    /// The member whose priority it weighs; all of them without.
    pub(crate) member: Option<usize>,
    pub(crate) seen: Option<Seen>,
}

/// Something that can make a group unfit.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Cause {
    Interface(usize),
    Tracker(usize),
}

impl Conditions {
    pub(crate) fn new(group: &Group) -> Self {
        let members: Vec<Member> = group
            .virtual_routers
            .iter()
            .map(|member| Member {
                name: member.name.clone(),
                configured: member.priority,
                in_force: member.priority,
                sum: 0,
            })
            .collect();
        let trackers = trackers(group);
        let interfaces = (0..members.len()).map(Cause::Interface);
        let unweighted =
            trackers.iter().enumerate().filter(|(_, tracker)| tracker.weight.is_none());
        let unknown = interfaces.chain(unweighted.map(|(at, _)| Cause::Tracker(at))).collect();
        Self { members, trackers, unfit: BTreeMap::new(), unknown, sum: 0 }
    }

    /// The members whose priority is another than the configured one from the beginning.
    pub(crate) fn start(&mut self) -> Vec<(&str, u8)> {
        self.prioritise()
    }

    pub(crate) fn trackers(&self) -> &[Tracker] {
        &self.trackers
    }

    pub(crate) fn fitness(&self) -> Fitness {
        match self.unfit.first_key_value() {
            Some((_, reason)) => Fitness::Unfit(reason.clone()),
            None if self.unknown.is_empty() => Fitness::Fit,
            None => Fitness::Unknown,
        }
    }

    /// Everything that speaks against serving, in sentences.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = String> {
        self.unfit.values().cloned()
    }

    /// What the group cannot serve without.
    pub(crate) fn needs(&self) -> impl Iterator<Item = String> {
        let interfaces =
            self.members.iter().map(|member| format!("the interface of {}", member.name));
        let trackers = self.trackers.iter().filter(|tracker| tracker.weight.is_none());
        interfaces.chain(trackers.map(|tracker| tracker.subject.to_string()))
    }

    /// What the group waits for before it may serve.
    pub(crate) fn waiting_for(&self) -> Option<String> {
        Some(match *self.unknown.first()? {
            Cause::Interface(member) => {
                format!("waiting for the interface of {}", self.members[member].name)
            }
            Cause::Tracker(tracker) => match &self.trackers[tracker].subject {
                Subject::Check(name) => format!("waiting for the first run of check {name}"),
                subject => format!("waiting for the first look at {subject}"),
            },
        })
    }

    /// Takes whether a member's own interface can be used.
    pub(crate) fn interface(&mut self, member: usize, usable: Result<(), String>) {
        self.set(Cause::Interface(member), usable);
    }

    /// Takes what was seen of a tracked thing; `detail` says how it is, for people. Returns the
    /// members whose priority is another now, with the priority.
    pub(crate) fn track(&mut self, at: usize, seen: Seen, detail: &str) -> Vec<(&str, u8)> {
        let Some(tracker) = self.trackers.get_mut(at) else { return Vec::new() };
        let before = tracker.effect();
        tracker.seen = Some(seen);
        let change = tracker.effect() - before;
        let member = tracker.member;
        if tracker.weight.is_none() {
            let result = match seen.verdict() {
                Verdict::Bad => Err(tracker.subject.complaint(detail)),
                Verdict::Good | Verdict::Unknown => Ok(()),
            };
            self.set(Cause::Tracker(at), result);
        }
        if change == 0 {
            return Vec::new();
        }
        match member {
            Some(member) => self.members[member].sum += change,
            None => self.sum += change,
        }
        self.prioritise()
    }

    /// Takes other members, priorities and trackers. Of members that are in both, what is known of
    /// their interfaces stays; `known` tells what was seen last of what is tracked. Returns every
    /// member's priority: whoever asks has told the elections the configured one.
    pub(crate) fn configure(
        &mut self,
        group: &Group,
        known: &BTreeMap<Subject, Watched>,
    ) -> Vec<(&str, u8)> {
        let mut next = Self::new(group);
        for (at, member) in group.virtual_routers.iter().enumerate() {
            let before = self.members.iter().position(|before| before.name == member.name);
            if let Some(before) = before.map(Cause::Interface)
                && !self.unknown.contains(&before)
            {
                next.set(Cause::Interface(at), self.unfit.remove(&before).map_or(Ok(()), Err));
            }
        }
        *self = next;
        for at in 0..self.trackers.len() {
            if let Some(Watched { seen: Some(seen), detail, .. }) =
                known.get(&self.trackers[at].subject)
            {
                drop(self.track(at, *seen, detail));
            }
        }
        drop(self.prioritise());
        self.members.iter().map(|member| (member.name.as_str(), member.in_force)).collect()
    }

    /// Gives every member the priority of the worst of them: members move together, so the others
    /// have to judge them together. Returns those whose priority is another now, with it.
    fn prioritise(&mut self) -> Vec<(&str, u8)> {
        let sum = self.sum;
        let Some(worst) = self.members.iter().filter_map(|member| member.own(sum)).min() else {
            return Vec::new();
        };
        let changed = self.members.iter_mut().filter_map(|member| {
            let is_owner = member.configured == u8::MAX;
            let before = member.in_force;
            member.in_force = if is_owner { before } else { worst };
            (member.in_force != before).then_some((member.name.as_str(), member.in_force))
        });
        changed.collect()
    }

    /// The priority in force of a member.
    pub(crate) fn priority(&self, member: usize) -> Option<u8> {
        self.members.get(member).map(|member| member.in_force)
    }

    fn set(&mut self, cause: Cause, result: Result<(), String>) {
        self.unknown.remove(&cause);
        match result {
            Ok(()) => drop(self.unfit.remove(&cause)),
            Err(reason) => drop(self.unfit.insert(cause, reason)),
        }
    }
}

impl Member {
    /// Its priority with what the group's trackers and its own do, whatever the other members are;
    /// none of an address owner, whose priority never changes.
    fn own(&self, group: i32) -> Option<u8> {
        if self.configured == u8::MAX {
            return None;
        }
        let (lowest, highest) = PRIORITIES;
        let sum = i32::from(self.configured) + self.sum + group;
        u8::try_from(sum.clamp(lowest, highest)).ok()
    }
}

impl Tracker {
    /// What it adds to the priority; nothing before it was seen, and nothing without a weight.
    pub(crate) fn effect(&self) -> i32 {
        match (self.weight, self.seen) {
            (Some(weight), Some(seen)) => seen.effect(weight),
            (None, _) | (_, None) => 0,
        }
    }
}

impl Seen {
    /// What a thing with `weight` adds to the priority: a positive weight while it is good, a
    /// negative one while it is bad, and a number times the weight.
    fn effect(self, weight: i16) -> i32 {
        match self {
            Self::Good => i32::from(weight.max(0)),
            Self::Bad => i32::from(weight.min(0)),
            Self::Number(number) => {
                let product = number.saturating_mul(i64::from(weight));
                i32::try_from(product.clamp(-MAX_EFFECT, MAX_EFFECT)).unwrap_or_default()
            }
        }
    }
}

/// The group's checks and trackers, then its members'.
fn trackers(group: &Group) -> Vec<Tracker> {
    let checks = group.checks.iter().map(|name| Track::unfit(Subject::Check(name.clone())));
    let own = checks.chain(group.track.iter().cloned()).map(|track| (None, track));
    let members = group.virtual_routers.iter().enumerate().flat_map(|(index, member)| {
        member.track.iter().cloned().map(move |track| (Some(index), track))
    });
    own.chain(members)
        .map(|(member, Track { subject, weight })| Tracker { subject, weight, member, seen: None })
        .collect()
}
