//! Another configuration while the groups are at work.
//!
//! It is taken in two steps, so that what goes is let go of by those who still know it: what
//! [`Failover::leave`] names leaves under the configuration in force, and once
//! [`Failover::has_left`], [`Failover::configure`] takes the next one.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::group::Group;
use crate::machine::{CheckStatus, Failover, Watched, member_places, places, subjects};
use crate::queue::Deadlines;
use crate::{Action, Config, config};

impl Failover {
    /// Lets groups stop for good, and virtual routers leave their elections; a master among them says
    /// priority 0.
    #[must_use = "actions must be carried out"]
    pub fn leave(
        &mut self,
        groups: &[String],
        virtual_routers: &[String],
        now: Instant,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for name in groups {
            if let Some(&place) = self.group_places.get(name) {
                self.act(place, now, &mut actions, Group::leave);
            }
        }
        for name in virtual_routers {
            let Some(&(place, member)) = self.member_places.get(name) else { continue };
            self.act(place, now, &mut actions, |group, context| group.release(member, context));
        }
        actions
    }

    /// Whether every group that leaves has stopped, and no hook of it waits for its turn: another
    /// configuration would not know it.
    pub fn has_left(&self) -> bool {
        let mut leaving = self.groups.iter().filter(|group| group.leaves);
        leaving.all(|group| group.has_ended() && group.hooks_wait.is_none())
    }

    /// Whether every group that leaves has stopped; hooks of it may still wait.
    pub fn has_let_go(&self) -> bool {
        self.groups.iter().filter(|group| group.leaves).all(Group::has_ended)
    }

    /// Whether every group has stopped.
    pub fn has_ended(&self) -> bool {
        self.groups.iter().all(Group::has_ended)
    }

    /// Takes other groups and checks, and of each group other members, other limits, other priorities
    /// of its members, and other things that are tracked. Groups and members that are in both
    /// configurations go on, except for a group that has [left](Failover::leave): it begins anew.
    /// Those that are not in this one are gone; they are to have left.
    ///
    /// A check that is the same goes on counting; one that is not decides with its first run. Until
    /// then, what is known of a thing that was tracked before holds. What is new is unknown: a group
    /// without it stays what it is, and one that does not serve yet waits for it.
    #[must_use = "actions must be carried out"]
    pub fn configure(&mut self, config: &Config, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        self.checks = config.checks.iter().map(|check| self.follow_check(check)).collect();
        self.check_places = places(self.checks.iter().map(|check| check.name.as_str()));
        let known = std::mem::take(&mut self.subjects);
        let new = self.arrange(config, now);
        for (place, wanted) in config.groups.iter().enumerate() {
            if new.contains(&place) && self.stops {
                self.act(place, now, &mut actions, Group::stop);
            } else if new.contains(&place) && self.started {
                // A hand-over that ended its predecessor is none of its own.
                self.act(place, now, &mut actions, |group, context| group.let_return(context));
                self.act(place, now, &mut actions, Group::start);
                let in_sync = self.in_sync;
                self.act(place, now, &mut actions, |group, context| {
                    group.in_sync(in_sync, context);
                });
            }
            self.act(place, now, &mut actions, |group, context| {
                group.configure(wanted, &known, context);
            });
        }
        self.member_places = member_places(&self.groups);
        self.subjects = subjects(&self.groups);
        for (subject, watched) in &mut self.subjects {
            if let Some(Watched { seen, detail, .. }) = known.get(subject) {
                (watched.seen, watched.detail) = (*seen, detail.clone());
            }
        }
        actions
    }

    /// Has the groups of `config`, in their order; the places of those that are new.
    fn arrange(&mut self, config: &Config, now: Instant) -> Vec<usize> {
        let before = std::mem::take(&mut self.groups);
        let mut stays: BTreeMap<String, (usize, Group)> = BTreeMap::new();
        let mut moved = vec![None; before.len()];
        for (place, group) in before.into_iter().enumerate().filter(|(_, group)| !group.leaves) {
            stays.insert(group.name().to_owned(), (place, group));
        }
        let mut new = Vec::new();
        for (place, wanted) in config.groups.iter().enumerate() {
            let group = if let Some((before, group)) = stays.remove(&wanted.name) {
                moved[before] = Some(place);
                group
            } else {
                new.push(place);
                Group::new(wanted, now)
            };
            self.groups.push(group);
        }
        self.group_places = places(self.groups.iter().map(Group::name));
        self.steps.move_groups(&moved);
        self.deadlines = Deadlines::new(self.groups.len());
        for (place, group) in self.groups.iter().enumerate() {
            self.deadlines.set(place, group.deadline());
        }
        new
    }

    fn follow_check(&self, check: &config::Check) -> CheckStatus {
        let before = self.check_places.get(&check.name).and_then(|place| self.checks.get(*place));
        match before {
            Some(before) if before.settings == *check => before.clone(),
            Some(before) => {
                CheckStatus { detail: before.detail.clone(), ..CheckStatus::new(check) }
            }
            None => CheckStatus::new(check),
        }
    }
}
