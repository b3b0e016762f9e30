//! What is wanted at this moment: the declared objects, and where each group stands.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Condition, Declared, Owned, When};

/// Which side of a failover group some of its objects are on.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// Nothing has been decided yet: no address, route or rule of the group is wanted, its links
    /// are left as they are.
    #[default]
    Unsettled,
    /// As on a router that is not master.
    Backup,
    /// As on the master.
    Master,
}

/// A kind of objects that moves in one step of a transition.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Links.
    Links,
    /// Addresses.
    Addresses,
    /// Routes and rules.
    Routes,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Links, Self::Addresses, Self::Routes];
}

/// How far a group's transition has come. Its kinds of objects move one after another.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Phase {
    /// The links.
    pub links: Side,
    /// The addresses.
    pub addresses: Side,
    /// The routes and rules.
    pub routes: Side,
}

impl Declared {
    /// The groups that objects of this kind follow.
    pub fn followed(&self, kind: Kind) -> BTreeSet<&str> {
        match kind {
            Kind::Links => self.links.iter().filter_map(|link| link.up.followed()).collect(),
            Kind::Addresses => {
                self.addresses.iter().filter_map(|entry| entry.condition.followed()).collect()
            }
            Kind::Routes => {
                let routes = self.routes.iter().map(|route| &route.condition);
                let rules = self.rules.iter().map(|rule| &rule.condition);
                routes.chain(rules).filter_map(Condition::followed).collect()
            }
        }
    }
}

impl Phase {
    /// The side of one kind.
    pub fn side(self, kind: Kind) -> Side {
        match kind {
            Kind::Links => self.links,
            Kind::Addresses => self.addresses,
            Kind::Routes => self.routes,
        }
    }
}

/// The phase of every group; one never heard of is unsettled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Phases(BTreeMap<String, Phase>);

impl Phases {
    /// Where the group stands.
    pub fn of(&self, group: &str) -> Phase {
        self.0.get(group).copied().unwrap_or_default()
    }

    /// Moves one kind of the group's objects to a side.
    pub fn settle(&mut self, group: &str, kind: Kind, side: Side) {
        let phase = self.0.entry(group.to_owned()).or_default();
        match kind {
            Kind::Links => phase.links = side,
            Kind::Addresses => phase.addresses = side,
            Kind::Routes => phase.routes = side,
        }
    }

    /// Knows nothing any more of the groups that `stays` does not name.
    pub fn retain(&mut self, stays: impl Fn(&str) -> bool) {
        self.0.retain(|group, _| stays(group));
    }

    fn side(&self, condition: &Condition, kind: Kind) -> Side {
        condition.group.as_deref().map_or(Side::Unsettled, |group| self.of(group).side(kind))
    }

    /// Whether an address, route or rule under this condition is wanted now.
    pub fn wants(&self, condition: &Condition, kind: Kind) -> bool {
        match condition.when {
            When::Always => true,
            When::Master => self.side(condition, kind) == Side::Master,
            When::Backup => self.side(condition, kind) == Side::Backup,
        }
    }

    /// Whether a link that is up under this condition is to be up, down, or left alone.
    pub fn wants_link(&self, up: &Condition) -> Option<bool> {
        match (up.when, self.side(up, Kind::Links)) {
            (When::Always, _) => Some(true),
            (_, Side::Unsettled) => None,
            (When::Master, side) => Some(side == Side::Master),
            (When::Backup, side) => Some(side == Side::Backup),
        }
    }
}

impl Desired<'_> {
    /// Names of the virtual links that no address is wanted on now: their router is not master.
    pub fn silent_links(&self) -> BTreeSet<String> {
        let speaking: BTreeSet<&str> = self
            .declared
            .addresses
            .iter()
            .filter(|address| self.phases.wants(&address.condition, Kind::Addresses))
            .map(|address| address.interface.as_str())
            .collect();
        let links = self.declared.virtual_links.iter().map(|link| &link.name);
        links.filter(|name| !speaking.contains(name.as_str())).cloned().collect()
    }
}

/// What is wanted now.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// All objects.
    pub declared: &'a Declared,
    /// Which of them.
    pub phases: &'a Phases,
    /// Which of what bears another protocol number than ours was made by us.
    pub owned: &'a Owned,
}
