//! Being master still, after an earlier run was killed.
//!
//! A group goes on when all its interfaces can be used, no neighbour can have missed it yet, and no
//! other master is heard in what has come since its sockets are open. Until that is decided the
//! group hears nothing of its interfaces, by which it would begin as a backup.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use lockstep_failover::{Event, State};
use tracing::{info, warn};

use super::Core;
use super::election::Which;
use crate::guard::record::{PastGroup, moment, since_boot};

/// The groups that are not decided on yet.
#[derive(Debug, Default)]
pub(super) struct Resuming {
    /// By name, each with the end of its time.
    groups: BTreeMap<String, (PastGroup, Instant)>,
    /// The group of each of their virtual routers.
    group_of: BTreeMap<String, String>,
    /// What they have not heard yet.
    kept_back: Vec<(String, Event)>,
}

impl Resuming {
    pub(super) fn new(groups: Vec<PastGroup>) -> Self {
        let mut resuming = Self::default();
        for group in groups {
            let Some(until) = group.until(moment) else { continue };
            let name = &group.name;
            let members = group.members.iter().map(|one| (one.name.clone(), name.clone()));
            resuming.group_of.extend(members);
            resuming.groups.insert(name.clone(), (group, until));
        }
        resuming
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.groups.values().map(|(_, until)| *until).min()
    }

    /// Keeps back what an undecided group is not to hear yet; returns the rest.
    pub(super) fn keep_back(&mut self, event: Event) -> Option<Event> {
        let Event::Interface { virtual_router, .. } = &event else { return Some(event) };
        match self.group_of.get(virtual_router) {
            Some(group) if self.groups.contains_key(group) => {
                self.kept_back.push((group.clone(), event));
                None
            }
            Some(_) | None => Some(event),
        }
    }

    /// The group is decided on: what it has not heard.
    fn decided(&mut self, name: &str) -> Vec<Event> {
        self.groups.remove(name);
        let (heard, rest) =
            std::mem::take(&mut self.kept_back).into_iter().partition(|(group, _)| group == name);
        self.kept_back = rest;
        heard.into_iter().map(|(_, event): (String, Event)| event).collect()
    }
}

impl Core {
    /// Resumes the groups that can be, and lets those go that cannot.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.resuming.groups.is_empty() {
            return;
        }
        for (group, until) in self.resuming.groups.clone().into_values() {
            let name = &group.name;
            let Some(resumed) = self.is_master_still(&group, until, now) else { continue };
            match &resumed {
                Ok(reason) => info!(group = name, reason, "goes on as master"),
                Err(reason) => {
                    warn!(group = name, reason, "was master and is no more");
                    self.memory.serves(name, false);
                }
            }
            let kept_back = self.resuming.decided(name);
            self.feed(Event::Resume { group: name.clone(), resumed });
            for event in kept_back {
                self.feed(event);
            }
        }
    }

    /// `None` while that is not known.
    fn is_master_still(
        &mut self,
        group: &PastGroup,
        until: Instant,
        now: Instant,
    ) -> Option<Result<String, String>> {
        let silent = silence(group);
        let late = || Err(format!("killed: no advertisement for {} ms", silent.as_millis()));
        if now >= until {
            return Some(late());
        }
        if self.failover.group(&group.name).is_none_or(|group| group.state() != State::Init) {
            return Some(Err("killed, and another transition has begun".to_owned()));
        }
        for member in &group.members {
            if let Err(why) = self.elections.usable(&member.name)? {
                return Some(Err(format!("killed, and {why}")));
            }
        }
        for member in &group.members {
            self.elections.listen_again(&member.name, member.sequence, now);
        }
        self.elections.hear(Which::All);
        let other = group.members.iter().find_map(|one| self.elections.master_heard(&one.name));
        if let Some(other) = other {
            return Some(Err(format!("killed, and {other} is master now")));
        }
        // Hearing has taken its time.
        if Instant::now() >= until {
            return Some(late());
        }
        Some(Ok(format!(
            "resumed after the daemon was killed, {} ms after its last advertisement",
            silent.as_millis()
        )))
    }
}

/// How long ago the first of the last advertisements has left.
fn silence(group: &PastGroup) -> Duration {
    let first = group.members.iter().map(|one| one.left).min().unwrap_or_default();
    since_boot().saturating_sub(first)
}
