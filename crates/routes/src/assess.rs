//! How each declared object stands in the kernel, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;

use crate::index::Index;
use crate::{
    Actual, ActualRoute, Address, Condition, Desired, Kind, Link, Object, Refusals, Route,
    RouteKey, Rule, RuleKey, Side, protocol_name, reach, virtual_link,
};

/// How one object stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// The kernel has it as it is wanted.
    Installed,
    /// It is wanted only while its group is on another side than now, and not there.
    Unwanted {
        /// When it is wanted.
        condition: Condition,
        /// Where its group stands.
        side: Side,
    },
    /// It cannot be put in place yet.
    Pending(Reason),
    /// Somebody else's is in its place, and stays.
    Conflicting {
        /// The other one, as `ip` writes it.
        with: String,
        /// Its routing protocol number.
        protocol: u8,
    },
    /// The kernel has refused it; it is tried again.
    Failed {
        /// The kernel's words.
        words: String,
        /// How often in a row.
        attempts: u32,
        /// When it is tried again.
        next_try: Instant,
    },
}

/// What an object waits for.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The interface is not there.
    LinkMissing(String),
    /// An interface of that name is there, and not ours.
    NameTaken(String),
    /// The interface is administratively down.
    LinkDown(String),
    /// The interface is up, its cable or peer is not.
    NoCarrier(String),
    /// The next hop is on no connected network.
    NextHopUnreachable(IpAddr),
    /// The next hop is on a connected network, but not on the declared interface's.
    NextHopElsewhere {
        /// The next hop.
        via: IpAddr,
        /// The declared interface.
        dev: String,
    },
    /// The next hop is this router itself.
    NextHopOwn(IpAddr),
    /// The router does not have the source address.
    SourceMissing(IpAddr),
    /// Another declared route that is wanted now has its place in the table.
    Outranked,
    /// Nothing: it is about to be put in place.
    Due,
    /// It is not wanted any more and about to be removed.
    Leaving,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkMissing(name) => write!(f, "{name} does not exist"),
            Self::NameTaken(name) => {
                write!(f, "there is an interface {name} that lockstep has not made")
            }
            Self::LinkDown(name) => write!(f, "link {name} is down"),
            Self::NoCarrier(name) => write!(f, "no carrier on {name}"),
            Self::NextHopUnreachable(via) => {
                write!(f, "next hop {via} is on no connected network")
            }
            Self::NextHopElsewhere { via, dev } => {
                write!(f, "next hop {via} is on no network of {dev}")
            }
            Self::NextHopOwn(via) => write!(f, "next hop {via} is this router itself"),
            Self::SourceMissing(source) => write!(f, "source address {source} is missing"),
            Self::Outranked => f.write_str("another declared route has its place"),
            Self::Due => f.write_str("about to be installed"),
            Self::Leaving => f.write_str("about to be removed"),
        }
    }
}

impl State {
    /// `installed`, `pending`, `conflicting`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Pending(_) | Self::Unwanted { .. } => "pending",
            Self::Conflicting { .. } => "conflicting",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether something is missing: it is wanted now, and not installed.
    pub fn is_missing(&self) -> bool {
        !matches!(self, Self::Installed | Self::Unwanted { .. })
    }

    /// Why, when it is not installed.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Installed => None,
            Self::Unwanted { condition, side } => Some(unwanted(condition, *side)),
            Self::Pending(reason) => Some(reason.to_string()),
            Self::Conflicting { with, protocol } => {
                Some(format!("in its place is {with}, of protocol {}", protocol_name(*protocol)))
            }
            Self::Failed { words, attempts: 1, .. } => Some(words.clone()),
            Self::Failed { words, attempts, .. } => Some(format!("{words} ({attempts} times)")),
        }
    }
}

/// Why what follows a group is not wanted now.
fn unwanted(condition: &Condition, side: Side) -> String {
    let group = condition.group.as_deref().unwrap_or_default();
    match side {
        Side::Unsettled => format!("group {group} has not been decided yet"),
        Side::Backup => format!("group {group} is backup"),
        Side::Master => format!("group {group} is master"),
    }
}

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
    let places = Places::of(desired, actual);
    let index = Index::of(desired, actual);
    Assessment {
        links: declared.links.iter().map(|link| of_link(desired, link, &index, refusals)).collect(),
        addresses: declared
            .addresses
            .iter()
            .map(|address| of_address(desired, address, &index, refusals))
            .collect(),
        routes: declared
            .routes
            .iter()
            .map(|route| of_route(desired, route, &places, refusals))
            .collect(),
        rules: declared.rules.iter().map(|rule| of_rule(desired, rule, actual, refusals)).collect(),
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
            let places = Places::of(desired, actual);
            for route in &declared.routes {
                let Some(group) = of(&route.condition) else { continue };
                add(group, of_route(desired, route, &places, refusals));
            }
            for rule in &declared.rules {
                let Some(group) = of(&rule.condition) else { continue };
                add(group, of_rule(desired, rule, actual, refusals));
            }
        }
    }
    states
}

/// The places in the tables: which routes are declared for each, and which are in it.
struct Places<'a> {
    actual: &'a Actual,
    declared: BTreeMap<RouteKey, Vec<&'a Arc<Route>>>,
    in_place: BTreeMap<RouteKey, Vec<&'a ActualRoute>>,
}

impl<'a> Places<'a> {
    fn of(desired: Desired<'a>, actual: &'a Actual) -> Self {
        let mut places = Self { actual, declared: BTreeMap::new(), in_place: BTreeMap::new() };
        for route in &desired.declared.routes {
            places.declared.entry(route.key()).or_default().push(route);
        }
        for route in &actual.routes {
            places.in_place.entry(route.key()).or_default().push(route);
        }
        places
    }
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
    let there = index.has_address(link.index, address.address);
    let elsewise = index.in_place_of(link.index, address.address);
    let object = Object::Address(address.interface.clone(), address.address);
    match (wanted, there, elsewise) {
        (true, true, _) => State::Installed,
        (true, false, Some(other)) => {
            State::Conflicting { with: other.address.to_string(), protocol: other.protocol }
        }
        (true, false, None) if address_obstacle(address.address, link.up) => {
            State::Pending(Reason::LinkDown(address.interface.clone()))
        }
        (true, false, None) => due(&object, refusals),
        (false, true, _) if !index.is_wanted(&address.interface, address.address) => {
            leaving(&object, refusals)
        }
        (false, _, _) => not_wanted(desired, &address.condition, Kind::Addresses),
    }
}

fn of_route(
    desired: Desired<'_>,
    route: &Route,
    places: &Places<'_>,
    refusals: &Refusals,
) -> State {
    let actual = places.actual;
    let wanted = desired.phases.wants(&route.condition, Kind::Routes);
    let key = route.key();
    let candidates = places.declared.get(&key).map_or(&[][..], Vec::as_slice);
    let in_place = places.in_place.get(&key).map_or(&[][..], Vec::as_slice);
    let devs = declared_devs(route, actual);
    let ours = |there: &ActualRoute| is_ours(desired, there);
    let mut same = in_place.iter().filter(|there| there.matches(route, &devs));
    let same = if wanted { same.next().is_some() } else { same.any(|there| ours(there)) };
    match (wanted, same) {
        (true, true) => State::Installed,
        (true, false) => match in_place.iter().find(|there| !ours(there)) {
            Some(there) => State::Conflicting { with: there.to_string(), protocol: there.protocol },
            None => match reach::obstacle(route, actual) {
                Some(reason) => State::Pending(reason),
                None if place_in_use(desired, candidates, in_place, actual) => {
                    State::Pending(Reason::Outranked)
                }
                None => due(&Object::Route(key), refusals),
            },
        },
        (false, true) if !place_in_use(desired, candidates, in_place, actual) => {
            leaving(&Object::Route(key), refusals)
        }
        (false, _) => not_wanted(desired, &route.condition, Kind::Routes),
    }
}

fn of_rule(desired: Desired<'_>, rule: &Rule, actual: &Actual, refusals: &Refusals) -> State {
    let wanted = desired.phases.wants(&rule.condition, Kind::Routes);
    let key = rule.key();
    let mut in_place = actual.rules.iter().filter(|there| there.key == key && !there.special);
    let ours = in_place.clone().any(|there| desired.owned.owns_rule(there));
    match (wanted, in_place.next().is_some()) {
        (true, true) => State::Installed,
        (true, false) => due(&Object::Rule(key), refusals),
        (false, true) if ours && !rule_wanted(desired, &key) => {
            leaving(&Object::Rule(key), refusals)
        }
        (false, _) => not_wanted(desired, &rule.condition, Kind::Routes),
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

/// Whether the rule is wanted now, by any of its declarations.
fn rule_wanted(desired: Desired<'_>, key: &RuleKey) -> bool {
    desired
        .declared
        .rules
        .iter()
        .any(|other| other.key() == *key && desired.phases.wants(&other.condition, Kind::Routes))
}

/// Whether what is in the place is what a route that is wanted now says.
fn place_in_use(
    desired: Desired<'_>,
    candidates: &[&Arc<Route>],
    in_place: &[&ActualRoute],
    actual: &Actual,
) -> bool {
    candidates.iter().any(|other| {
        desired.phases.wants(&other.condition, Kind::Routes)
            && in_place.iter().any(|there| there.matches(other, &declared_devs(other, actual)))
    })
}

/// Whether a route was made by us, in this run or an earlier one.
pub(crate) fn is_ours(desired: Desired<'_>, there: &ActualRoute) -> bool {
    desired.owned.owns_route(there)
}

/// The indices of the links that a route's next hops declare, where those are there.
pub(crate) fn declared_devs(route: &Route, actual: &Actual) -> Vec<Option<u32>> {
    let index = |name: &str| actual.link(name).map(|link| link.index);
    route.next_hops.iter().map(|hop| hop.dev.as_deref().and_then(index)).collect()
}

/// IPv6 has no addresses on a link that is down: the kernel removes them there.
pub(crate) fn address_obstacle(address: IpNet, up: bool) -> bool {
    address.addr().is_ipv6() && !up
}
