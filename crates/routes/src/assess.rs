//! How each declared object stands in the kernel, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::index::Index;
use crate::places::{Place, Places};
use crate::{
    Actual, ActualNextHop, ActualRoute, ActualRule, Address, Condition, Desired, Kind, Link,
    Object, PROTOCOL_LOCKSTEP, Reason, Refusals, Route, RouteKind, Rule, RuleKey, Side, State,
    address, plan, reach, virtual_link,
};

/// The state of every declared object, in the order of their declaration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Assessment {
    /// Of [`crate::Declared::links`].
    pub links: Vec<State>,
    /// Of [`crate::Declared::addresses`].
    pub addresses: Vec<State>,
    /// Of [`crate::Declared::routes`].
    pub routes: Vec<State>,
    /// Of [`crate::Declared::rules`].
    pub rules: Vec<State>,
    /// Of [`crate::Declared::virtual_links`].
    pub virtual_links: Vec<State>,
}

/// How everything declared stands.
pub fn assess(desired: Desired<'_>, actual: &Actual, refusals: &Refusals) -> Assessment {
    let declared = desired.declared;
    let index = Index::of(desired, actual);
    let rules = Rules::of(desired, actual);
    Assessment {
        links: declared.links.iter().map(|link| of_link(desired, link, &index, refusals)).collect(),
        addresses: declared
            .addresses
            .iter()
            .map(|address| of_address(desired, address, &index, refusals))
            .collect(),
        routes: of_routes(desired, &index, refusals, |_| true).into_values().collect(),
        rules: declared.rules.iter().map(|rule| rules.state(rule, refusals)).collect(),
        virtual_links: declared
            .virtual_links
            .iter()
            .map(|link| virtual_link::assess(link, &index, refusals))
            .collect(),
    }
}

/// How the objects of one kind that follow one of the groups stand, by group; of [`Kind::Routes`]
/// the routes and then the rules; see [`Condition::follows`]. A group that nothing follows is
/// left out. Many groups take hardly longer than one.
pub fn assess_groups<'a>(
    desired: Desired<'a>,
    actual: &Actual,
    refusals: &Refusals,
    groups: &BTreeSet<&str>,
    kind: Kind,
) -> BTreeMap<&'a str, Vec<State>> {
    let declared = desired.declared;
    let of = |condition: &'a Condition| condition.followed().filter(|group| groups.contains(group));
    let mut states: BTreeMap<&str, Vec<State>> = BTreeMap::new();
    let mut add = |group, state| states.entry(group).or_default().push(state);
    match kind {
        Kind::Links => {
            let index = Index::of(desired, actual);
            for link in &declared.links {
                let Some(group) = of(&link.up) else { continue };
                add(group, of_link(desired, link, &index, refusals));
            }
        }
        Kind::Addresses => {
            let index = Index::of(desired, actual);
            for address in &declared.addresses {
                let Some(group) = of(&address.condition) else { continue };
                add(group, of_address(desired, address, &index, refusals));
            }
        }
        Kind::Routes => {
            let index = Index::of(desired, actual);
            let asked = |route: &Route| {
                route.condition.followed().is_some_and(|group| groups.contains(group))
            };
            for (number, state) in of_routes(desired, &index, refusals, asked) {
                let Some(group) = of(&declared.routes[number].condition) else { continue };
                add(group, state);
            }
            let rules = Rules::of(desired, actual);
            for rule in &declared.rules {
                let Some(group) = of(&rule.condition) else { continue };
                add(group, rules.state(rule, refusals));
            }
        }
    }
    states
}

fn of_link(desired: Desired<'_>, link: &Link, index: &Index<'_>, refusals: &Refusals) -> State {
    let name = &link.interface;
    let Some(up) = desired.phases.wants_link(&link.up) else {
        return State::Unwanted { condition: link.up.clone(), side: Side::Unsettled };
    };
    match index.link(name) {
        None => State::Pending(Reason::LinkMissing(name.clone())),
        Some(there) if there.up != up => due(&Object::Link(name.clone()), refusals),
        Some(there) if up && !there.carrier => State::Pending(Reason::NoCarrier(name.clone())),
        Some(_) => State::Installed,
    }
}

fn of_address(
    desired: Desired<'_>,
    address: &Address,
    index: &Index<'_>,
    refusals: &Refusals,
) -> State {
    let wanted = desired.phases.wants(&address.condition, Kind::Addresses);
    let Some(link) = index.link(&address.interface) else {
        return if wanted {
            State::Pending(Reason::LinkMissing(address.interface.clone()))
        } else {
            not_wanted(desired, &address.condition, Kind::Addresses)
        };
    };
    let there = index.address(link.index, address.address);
    let elsewise = index.in_place_of(link.index, address.address);
    let object = Object::Address(address.interface.clone(), address.address);
    match (wanted, there, elsewise) {
        (true, Some(there), _) if there.duplicate => {
            State::Pending(Reason::Duplicate(address.interface.clone()))
        }
        (true, Some(there), _) if !address::has_drifted(there, address) => State::Installed,
        (true, Some(there), _) if address::can_be_made_anew(there, address, index) => {
            due(&object, refusals)
        }
        (true, Some(_), _) => State::Pending(Reason::Drifted),
        (true, None, Some(other)) if other.protocol != PROTOCOL_LOCKSTEP => State::Conflicting {
            with: format!("{} dev {}", other.address, address.interface),
            protocol: other.protocol,
        },
        (true, None, _) if address::is_impossible(address.address, link.up) => {
            State::Pending(Reason::LinkDown(address.interface.clone()))
        }
        (true, None, _) => due(&object, refusals),
        (false, Some(_), _) if !index.is_wanted(&address.interface, address.address) => {
            leaving(&object, refusals)
        }
        (false, _, _) => not_wanted(desired, &address.condition, Kind::Addresses),
    }
}

/// How the declared routes that are `asked` for stand, by their number.
fn of_routes(
    desired: Desired<'_>,
    index: &Index<'_>,
    refusals: &Refusals,
    asked: impl Fn(&Route) -> bool,
) -> BTreeMap<usize, State> {
    let mut states = Vec::new();
    for place in Places::of(desired, &index.actual.routes).iter() {
        for (_, number, route) in place.candidates.iter().filter(|(_, _, route)| asked(route)) {
            states.push((*number, of_route(desired, route, &place, index, refusals)));
        }
    }
    // Collected at once, which is much faster than one by one.
    states.into_iter().collect()
}

fn of_route(
    desired: Desired<'_>,
    route: &Arc<Route>,
    place: &Place<'_, '_>,
    index: &Index<'_>,
    refusals: &Refusals,
) -> State {
    let object = || Object::Route(route.key());
    if !desired.phases.wants(&route.condition, Kind::Routes) {
        let goes = |there: &&ActualRoute| place.is_superfluous(there, None, index);
        let leaves = place.installed(route, index).as_ref().is_some_and(goes);
        return if leaves && !place.is_in_use(index) {
            leaving(&object(), refusals)
        } else {
            not_wanted(desired, &route.condition, Kind::Routes)
        };
    }
    if let Some(there) = place.installed(route, index) {
        return of_installed(route, there, index);
    }
    if let Some(there) = place.there().find(|there| !place.is_ours(there)) {
        let with = there.describe(index.actual, desired.declared);
        return State::Conflicting { with, protocol: there.protocol };
    }
    match reach::possible(route, index) {
        Err(reason) => State::Pending(reason),
        Ok(part) if !Arc::ptr_eq(&part, route) && place.installed(&part, index).is_some() => {
            let reason = reach::first_obstacle(route, index).unwrap_or(Reason::Due);
            State::Pending(Reason::InPart(Box::new(reason)))
        }
        Ok(_) if place.is_in_use(index) => State::Pending(Reason::Outranked),
        Ok(_) => due(&object(), refusals),
    }
}

/// Of a route that the kernel holds: it keeps one of several next hops whose link is down, and does
/// not use it.
fn of_installed(route: &Route, there: &ActualRoute, index: &Index<'_>) -> State {
    if route.kind != RouteKind::Unicast {
        return State::Installed;
    }
    let link = |hop: &ActualNextHop| hop.dev.and_then(|dev| index.actual.links.get(&dev));
    for hop in &there.next_hops {
        if let Some(link) = link(hop)
            && !link.up
        {
            let reason = Reason::LinkDown(link.name.clone());
            let reason = match hop.via {
                Some(via) => Reason::OfNextHop { via, reason: Box::new(reason) },
                None => reason,
            };
            let mut devs = there.next_hops.iter().filter_map(|hop| hop.dev);
            return State::Pending(if devs.any(|dev| index.actual.is_up(dev)) {
                Reason::InPart(Box::new(reason))
            } else {
                reason
            });
        }
    }
    let idle = there.next_hops.iter().filter_map(link).find(|link| !link.carrier);
    idle.map_or(State::Installed, |link| State::WithoutCarrier(link.name.clone()))
}

/// The rules by place: those that are there, and the places where one is wanted.
struct Rules<'a> {
    desired: Desired<'a>,
    there: &'a [ActualRule],
    in_place: BTreeMap<&'a RuleKey, Vec<&'a ActualRule>>,
    wanted: BTreeSet<RuleKey>,
}

impl<'a> Rules<'a> {
    fn of(desired: Desired<'a>, actual: &'a Actual) -> Self {
        let mut in_place: BTreeMap<&RuleKey, Vec<&ActualRule>> = BTreeMap::new();
        for there in actual.rules.iter().filter(|there| !there.special) {
            in_place.entry(&there.key).or_default().push(there);
        }
        let wanted = desired.declared.rules.iter();
        let wanted = wanted.filter(|rule| desired.phases.wants(&rule.condition, Kind::Routes));
        let there = &actual.rules;
        Self { desired, there, in_place, wanted: wanted.map(Rule::key).collect() }
    }

    fn state(&self, rule: &Rule, refusals: &Refusals) -> State {
        let Desired { phases, owned, .. } = self.desired;
        let key = rule.key();
        let there = self.in_place.get(&key).map_or(&[][..], Vec::as_slice);
        let mut of_ours = there.iter().filter(|there| owned.owns_rule(there)).peekable();
        let ours = of_ours.peek().is_some();
        let mut stays = || of_ours.all(|there| plan::takes_anothers(there, self.there, owned));
        let serves = there.iter().any(|there| plan::serves(there, rule.protocol, owned));
        match phases.wants(&rule.condition, Kind::Routes) {
            true if serves => State::Installed,
            true => due(&Object::Rule(key), refusals),
            false if ours && !self.wanted.contains(&key) && stays() => {
                State::Pending(Reason::Inseparable)
            }
            false if ours && !self.wanted.contains(&key) => leaving(&Object::Rule(key), refusals),
            false => not_wanted(self.desired, &rule.condition, Kind::Routes),
        }
    }
}

/// Of an object that is not wanted, and not there.
fn not_wanted(desired: Desired<'_>, condition: &Condition, kind: Kind) -> State {
    let side = condition
        .group
        .as_deref()
        .map_or(Side::Unsettled, |group| desired.phases.of(group).side(kind));
    State::Unwanted { condition: condition.clone(), side }
}

pub(crate) fn due(object: &Object, refusals: &Refusals) -> State {
    refused(object, refusals).unwrap_or(State::Pending(Reason::Due))
}

fn leaving(object: &Object, refusals: &Refusals) -> State {
    refused(object, refusals).unwrap_or(State::Pending(Reason::Leaving))
}

fn refused(object: &Object, refusals: &Refusals) -> Option<State> {
    refusals.of(object).map(|refusal| State::Failed {
        words: refusal.words.clone(),
        attempts: refusal.attempts,
        next_try: refusal.next_try,
    })
}
