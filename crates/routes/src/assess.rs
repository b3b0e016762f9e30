//! How each declared object stands in the kernel, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::index::Index;
use crate::{
    Actual, ActualRoute, ActualRule, Address, Condition, Desired, Kind, Link, Object,
    PROTOCOL_LOCKSTEP, Refusals, Route, RouteKey, Rule, RuleKey, protocol_name, reach,
    virtual_link,
};

/// How one object stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// The kernel has it as it is wanted.
    Installed,
    /// It is not wanted now, and not there.
    Absent,
    /// It cannot be put in place yet.
    Pending(Reason),
    /// Somebody else's is in its place, and stays.
    Foreign {
        /// The routing protocol number of the other one.
        protocol: u8,
    },
    /// The kernel has refused it; it is tried again.
    Failed {
        /// The kernel's words.
        words: String,
        /// How often in a row.
        attempts: u32,
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
    /// `installed`, `absent`, `pending`, `foreign`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Absent => "absent",
            Self::Pending(_) => "pending",
            Self::Foreign { .. } => "foreign",
            Self::Failed { .. } => "failed",
        }
    }

    /// Why, when it is neither installed nor simply absent.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Installed | Self::Absent => None,
            Self::Pending(reason) => Some(reason.to_string()),
            Self::Foreign { protocol } => {
                Some(format!("in its place is one of protocol {}", protocol_name(*protocol)))
            }
            Self::Failed { words, attempts: 1 } => Some(words.clone()),
            Self::Failed { words, attempts } => Some(format!("{words} ({attempts} times)")),
        }
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
    declared: BTreeMap<RouteKey, Vec<&'a Route>>,
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
    let Some(up) = desired.phases.wants_link(&link.up) else { return State::Absent };
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
            State::Absent
        };
    };
    let there = index.has_address(link.index, address.address);
    let elsewise = index.in_place_of(link.index, address.address);
    let object = Object::Address(address.interface.clone(), address.address);
    match (wanted, there, elsewise) {
        (true, true, _) => State::Installed,
        (true, false, Some(other)) => State::Foreign { protocol: other.protocol },
        (true, false, None) if address_obstacle(address.address, link.up) => {
            State::Pending(Reason::LinkDown(address.interface.clone()))
        }
        (true, false, None) => due(&object, refusals),
        (false, true, _) if !index.is_wanted(&address.interface, address.address) => {
            leaving(&object, refusals)
        }
        (false, _, _) => State::Absent,
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
    let dev = declared_dev(route, actual);
    let ours = |there: &ActualRoute| is_ours(there, candidates, actual);
    let same = in_place.iter().any(|there| there.matches(route, dev) && ours(there));
    match (wanted, same) {
        (true, true) => State::Installed,
        (true, false) => match in_place.iter().find(|there| !ours(there)) {
            Some(there) => State::Foreign { protocol: there.protocol },
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
        (false, _) => State::Absent,
    }
}

fn of_rule(desired: Desired<'_>, rule: &Rule, actual: &Actual, refusals: &Refusals) -> State {
    let wanted = desired.phases.wants(&rule.condition, Kind::Routes);
    let key = rule.key();
    let mut in_place = actual.rules.iter().filter(|there| there.key == key && !there.special);
    let ours = in_place.clone().any(|there| is_our_rule(there, rule));
    match (wanted, ours, in_place.next()) {
        (true, true, _) => State::Installed,
        (true, false, Some(there)) => State::Foreign { protocol: there.protocol },
        (true, false, None) => due(&Object::Rule(key), refusals),
        (false, true, _) if !rule_wanted(desired, &key) => leaving(&Object::Rule(key), refusals),
        (false, _, _) => State::Absent,
    }
}

pub(crate) fn due(object: &Object, refusals: &Refusals) -> State {
    refused(object, refusals).unwrap_or(State::Pending(Reason::Due))
}

fn leaving(object: &Object, refusals: &Refusals) -> State {
    refused(object, refusals).unwrap_or(State::Pending(Reason::Leaving))
}

fn refused(object: &Object, refusals: &Refusals) -> Option<State> {
    refusals
        .of(object)
        .map(|refusal| State::Failed { words: refusal.words.clone(), attempts: refusal.attempts })
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
    candidates: &[&Route],
    in_place: &[&ActualRoute],
    actual: &Actual,
) -> bool {
    candidates.iter().any(|other| {
        desired.phases.wants(&other.condition, Kind::Routes)
            && in_place.iter().any(|there| there.matches(other, declared_dev(other, actual)))
    })
}

/// Whether a route was made by us or for us: it bears our number, or is exactly what one of the
/// routes declared for its place says, protocol included.
pub(crate) fn is_ours(there: &ActualRoute, candidates: &[&Route], actual: &Actual) -> bool {
    there.protocol == PROTOCOL_LOCKSTEP
        || candidates.iter().any(|route| {
            there.protocol == route.protocol && there.matches(route, declared_dev(route, actual))
        })
}

/// The index of the link a route declares, when it declares one and the link is there.
pub(crate) fn declared_dev(route: &Route, actual: &Actual) -> Option<u32> {
    route.dev.as_deref().and_then(|name| actual.link(name)).map(|link| link.index)
}

/// Whether a rule that says what a declared one says was made by us or for us.
pub(crate) fn is_our_rule(there: &ActualRule, rule: &Rule) -> bool {
    !there.special && (there.protocol == PROTOCOL_LOCKSTEP || there.protocol == rule.protocol)
}

/// IPv6 has no addresses on a link that is down: the kernel removes them there.
pub(crate) fn address_obstacle(address: IpNet, up: bool) -> bool {
    address.addr().is_ipv6() && !up
}
