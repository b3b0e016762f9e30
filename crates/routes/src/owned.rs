//! Which routes and rules are ours although they bear another protocol number than ours.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ActualNextHop, ActualRoute, ActualRule, Change, PROTOCOL_LOCKSTEP, Route, RouteKey, RuleKey,
};

/// Most routes remembered for one place: replacements that the kernel refuses one after another.
const ROUTES_IN_A_PLACE: usize = 4;

/// What was made with a protocol number that somebody else may use too: `protocol = "static"`.
/// Kept outside the kernel, so that what a run before this one has made is known, and what
/// somebody else has made under the same number is left alone. Holds at most one entry for each
/// place that a declared route or rule has had.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Owned {
    /// By place. More than one only while one replaces another: whoever is killed in between does
    /// not know which of them is there.
    pub routes: BTreeMap<RouteKey, Vec<OwnedRoute>>,
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

impl OwnedRoute {
    fn of(route: &Route, devs: &[Option<u32>]) -> Self {
        let next_hops = route.next_hops.iter().zip(devs).map(|(hop, dev)| ActualNextHop {
            via: hop.via,
            dev: *dev,
            weight: hop.weight,
            onlink: hop.onlink,
            dead: false,
        });
        Self { protocol: route.protocol, next_hops: next_hops.collect() }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.leads_as(other.protocol, &other.next_hops)
            && other.leads_as(self.protocol, &self.next_hops)
    }

    /// Whether both lead to the same routers, or the other one to some of them: of several next
    /// hops the kernel drops those whose interface goes, and gives those of IPv6 in its own order.
    /// Interfaces have another number when they are made anew, and take their routes with them
    /// when they go.
    fn leads_as(&self, protocol: u8, next_hops: &[ActualNextHop]) -> bool {
        let is_known =
            |there: &ActualNextHop| self.next_hops.iter().any(|hop| hop.via == there.via);
        self.protocol == protocol
            && self.next_hops.is_empty() == next_hops.is_empty()
            && next_hops.iter().all(is_known)
    }
}

impl Owned {
    /// Whether the route is ours: it bears our number, or was made by us under another.
    pub fn owns_route(&self, there: &ActualRoute) -> bool {
        there.protocol == PROTOCOL_LOCKSTEP
            || self.routes.get(&there.key()).is_some_and(|made| {
                made.iter().any(|made| made.leads_as(there.protocol, &there.next_hops))
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
                let new = OwnedRoute::of(route, devs);
                let made = self.routes.entry(route.key()).or_default();
                if made.iter().any(|made| made.is_same(&new)) {
                    return false;
                }
                if made.len() == ROUTES_IN_A_PLACE {
                    made.remove(0);
                }
                made.push(new);
                true
            }
            Change::AddRule { rule } if rule.protocol != PROTOCOL_LOCKSTEP => {
                self.rules.insert((rule.key(), rule.protocol))
            }
            _ => false,
        }
    }

    /// Notes what has been made, and forgets what was in its place before; whether that is less
    /// than was known.
    pub fn made(&mut self, change: &Change) -> bool {
        let (Change::AddRoute { route, devs } | Change::ReplaceRoute { route, devs }) = change
        else {
            return false;
        };
        if route.protocol == PROTOCOL_LOCKSTEP {
            return self.routes.remove(&route.key()).is_some();
        }
        let new = OwnedRoute::of(route, devs);
        match self.routes.insert(route.key(), vec![new.clone()]) {
            None => true,
            Some(before) => match before.as_slice() {
                [before] => !before.is_same(&new),
                _ => true,
            },
        }
    }

    /// Forgets what has been removed; whether that is less than was known.
    pub fn forget(&mut self, change: &Change) -> bool {
        match change {
            Change::RemoveRoute { route } => {
                self.forget_route(&route.key(), route.protocol, &route.next_hops)
            }
            Change::RemoveRule { rule } => self.rules.remove(&(rule.key.clone(), rule.protocol)),
            _ => false,
        }
    }

    /// Forgets what was noted and has not been made, because somebody else's was there first;
    /// whether that is less than was known.
    pub fn not_made(&mut self, change: &Change) -> bool {
        match change {
            Change::AddRoute { route, devs } => {
                let made = OwnedRoute::of(route, devs);
                self.forget_route(&route.key(), made.protocol, &made.next_hops)
            }
            Change::AddRule { rule } => self.rules.remove(&(rule.key(), rule.protocol)),
            _ => false,
        }
    }

    fn forget_route(&mut self, key: &RouteKey, protocol: u8, next_hops: &[ActualNextHop]) -> bool {
        let Some(made) = self.routes.get_mut(key) else { return false };
        let before = made.len();
        made.retain(|made| !made.leads_as(protocol, next_hops));
        let (is_less, is_empty) = (made.len() < before, made.is_empty());
        if is_empty {
            self.routes.remove(key);
        }
        is_less
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Condition, NextHop, NextHops, RouteKind, TableId};

    const STATIC: u8 = 4;

    fn route(via: &str, protocol: u8) -> Arc<Route> {
        let via = Some(via.parse().unwrap());
        Arc::new(Route {
            kind: RouteKind::Unicast,
            to: "192.0.2.0/24".parse().unwrap(),
            next_hops: vec![NextHop { via, dev: None, weight: 1, onlink: false }],
            source: None,
            table: TableId(100),
            metric: None,
            mtu: None,
            scope: None,
            protocol,
            condition: Condition::ALWAYS,
        })
    }

    fn add(route: &Arc<Route>) -> Change {
        Change::AddRoute { route: Arc::clone(route), devs: vec![None] }
    }

    fn replace(route: &Arc<Route>) -> Change {
        Change::ReplaceRoute { route: Arc::clone(route), devs: vec![None] }
    }

    /// As the kernel has it, over the link of that number.
    fn there(route: &Route, dev: u32) -> ActualRoute {
        let [NextHop { via, .. }] = route.next_hops[..] else { panic!("one next hop") };
        ActualRoute {
            table: route.table,
            kind: Some(route.kind),
            to: route.to,
            next_hops: NextHops::one(ActualNextHop {
                via,
                dev: Some(dev),
                weight: 1,
                onlink: false,
                dead: false,
            }),
            source: None,
            metric: 0,
            mtu: None,
            scope: 0,
            protocol: route.protocol,
            special: false,
        }
    }

    #[test]
    fn a_static_route_is_ours_only_when_we_have_made_it() {
        let ours = route("10.0.0.1", STATIC);
        let mut owned = Owned::default();
        assert!(!owned.owns_route(&there(&ours, 2)));
        assert!(owned.note(&add(&ours)) && !owned.note(&add(&ours)), "noted once");
        assert!(owned.owns_route(&there(&ours, 2)) && owned.owns_route(&there(&ours, 7)));
        assert!(!owned.owns_route(&there(&route("10.0.0.2", STATIC), 2)), "leads elsewhere");
        assert!(!owned.owns_route(&there(&route("10.0.0.1", 3), 2)), "of another number");
        assert!(owned.forget(&Change::RemoveRoute { route: there(&ours, 2) }));
        assert_eq!(owned, Owned::default());
        owned.note(&add(&ours));
        assert!(owned.not_made(&add(&ours)), "somebody else was first");
        assert_eq!(owned, Owned::default());
    }

    #[test]
    fn what_the_kernel_leaves_of_a_multipath_route_is_still_ours() {
        let mut both = Route::clone(&route("10.0.0.1", STATIC));
        both.next_hops.extend(route("10.0.0.2", STATIC).next_hops.clone());
        let hop = |via: &str| ActualNextHop {
            via: Some(via.parse().unwrap()),
            dev: Some(2),
            weight: 1,
            onlink: false,
            dead: false,
        };
        let lead = |hops: &[ActualNextHop]| ActualRoute {
            next_hops: hops.iter().cloned().collect(),
            ..there(&route("10.0.0.1", STATIC), 2)
        };
        let mut owned = Owned::default();
        let change = Change::AddRoute { route: Arc::new(both), devs: vec![None, None] };
        assert!(owned.note(&change));
        let (one, two) = (hop("10.0.0.1"), hop("10.0.0.2"));
        assert!(owned.owns_route(&lead(&[two.clone(), one.clone()])), "in another order");
        assert!(owned.owns_route(&lead(std::slice::from_ref(&two))), "without one of them");
        assert!(!owned.owns_route(&lead(&[two, hop("10.0.0.3")])), "with another one");
        assert!(!owned.owns_route(&lead(&[])), "somebody's that leads nowhere");
        assert!(owned.note(&replace(&route("10.0.0.1", STATIC))), "less is something else");
    }

    #[test]
    fn while_one_replaces_another_either_is_ours() {
        let (old, new) = (route("10.0.0.1", STATIC), route("10.0.0.2", STATIC));
        let mut owned = Owned::default();
        owned.note(&add(&old));
        assert!(!owned.made(&add(&old)), "nothing to forget");
        assert!(owned.note(&replace(&new)));
        assert!(owned.owns_route(&there(&old, 2)) && owned.owns_route(&there(&new, 2)));
        assert!(owned.made(&replace(&new)));
        assert!(!owned.owns_route(&there(&old, 2)) && owned.owns_route(&there(&new, 2)));
        assert!(owned.made(&replace(&route("10.0.0.2", PROTOCOL_LOCKSTEP))));
        assert_eq!(owned, Owned::default(), "our own number needs no memory");
    }

    #[test]
    fn refused_replacements_do_not_pile_up() {
        let mut owned = Owned::default();
        for last in 1..=200_u8 {
            owned.note(&replace(&route(&format!("10.0.0.{last}"), STATIC)));
        }
        let made: Vec<_> = owned.routes.values().map(Vec::len).collect();
        assert_eq!(made, [ROUTES_IN_A_PLACE]);
        assert!(owned.owns_route(&there(&route("10.0.0.200", STATIC), 2)));
    }
}
