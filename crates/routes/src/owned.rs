//! Which routes and rules are ours although they bear another protocol number than ours.

use std::collections::{BTreeMap, BTreeSet};

use crate::{ActualNextHop, ActualRoute, ActualRule, Change, PROTOCOL_LOCKSTEP, RouteKey, RuleKey};

/// What was made with a protocol number that somebody else may use too: `protocol = "static"`.
/// Kept outside the kernel, so that what a run before this one has made is known, and what
/// somebody else has made under the same number is left alone. Holds at most one entry for each
/// place that a declared route or rule has had.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owned {
    /// By place: the number, and where it leads.
    pub routes: BTreeMap<RouteKey, OwnedRoute>,
    /// Rules and their number.
    pub rules: BTreeSet<(RuleKey, u8)>,
}

/// A route that was made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OwnedRoute {
    /// The protocol number it was given.
    pub protocol: u8,
    /// The next routers, in order; one that replaces it and leads elsewhere is somebody else's.
    pub next_hops: Vec<ActualNextHop>,
}

impl Owned {
    /// Whether the route is ours: it bears our number, or was made by us under another.
    pub fn owns_route(&self, there: &ActualRoute) -> bool {
        let via = |hops: &[ActualNextHop]| hops.iter().map(|hop| hop.via).collect::<Vec<_>>();
        there.protocol == PROTOCOL_LOCKSTEP
            || self.routes.get(&there.key()).is_some_and(|made| {
                made.protocol == there.protocol && via(&made.next_hops) == via(&there.next_hops)
            })
    }

    /// Whether the rule is ours.
    pub fn owns_rule(&self, there: &ActualRule) -> bool {
        !there.special
            && (there.protocol == PROTOCOL_LOCKSTEP
                || self.rules.contains(&(there.key.clone(), there.protocol)))
    }

    /// Notes what is about to be made; whether that is more than was known. To be kept before the
    /// change is carried out: whoever is killed in between has at worst noted too much.
    pub fn note(&mut self, change: &Change) -> bool {
        match change {
            Change::AddRoute { route, devs } | Change::ReplaceRoute { route, devs }
                if route.protocol != PROTOCOL_LOCKSTEP =>
            {
                let next_hops = route.next_hops.iter().zip(devs).map(|(hop, dev)| ActualNextHop {
                    via: hop.via,
                    dev: *dev,
                    weight: hop.weight,
                    onlink: hop.onlink,
                });
                let made = OwnedRoute { protocol: route.protocol, next_hops: next_hops.collect() };
                let key = route.key();
                self.routes.insert(key, made.clone()) != Some(made)
            }
            Change::AddRule { rule } if rule.protocol != PROTOCOL_LOCKSTEP => {
                self.rules.insert((rule.key(), rule.protocol))
            }
            _ => false,
        }
    }

    /// Forgets what has been removed; whether that is less than was known.
    pub fn forget(&mut self, change: &Change) -> bool {
        match change {
            Change::RemoveRoute { route } => self.routes.remove(&route.key()).is_some(),
            Change::RemoveRule { rule } => self.rules.remove(&(rule.key.clone(), rule.protocol)),
            _ => false,
        }
    }
}
