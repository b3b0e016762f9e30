//! The way from what is there to what is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::assess::{address_obstacle, declared_devs, is_ours};
use crate::index::Index;
use crate::{
    Actual, ActualRoute, Change, Desired, Kind, PROTOCOL_LOCKSTEP, Route, RouteKey, RuleKey,
    VIRTUAL_LINK_METRIC, reach, virtual_link,
};

/// The changes that are possible now and bring the kernel closer to what is wanted; none when it
/// is there, or when all that is missing waits for something ([`crate::assess`] says for what).
///
/// In order: virtual links that go and come, rules that go, links up, addresses, routes, rules, then routes, addresses and links
/// that go. So a rule leads into a table only while the table's routes are in, and what takes the
/// place of something is there before the old one goes. A route whose link comes up in the same
/// plan is in the next one: run it again after carrying it out.
///
/// Touched is only what is ours: what bears our protocol number, and what was declared.
pub fn plan(desired: Desired<'_>, actual: &Actual) -> Vec<Change> {
    let index = Index::of(desired, actual);
    let (virtual_to_remove, virtual_to_add) = virtual_link::changes(desired, actual, &index);
    let (rules_to_add, rules_to_remove) = rules(desired, actual);
    let (up, down) = links(desired, &index);
    let (addresses_to_add, addresses_to_remove) = addresses(desired, actual, &index);
    let (routes_to_add, routes_to_remove) = routes(desired, actual);
    [
        virtual_to_remove,
        virtual_to_add,
        rules_to_remove,
        up,
        addresses_to_add,
        routes_to_add,
        rules_to_add,
        routes_to_remove,
        addresses_to_remove,
        down,
    ]
    .concat()
}

/// The changes of one kind only, as one step of a transition wants them; in the order of [`plan`].
pub fn plan_kind(desired: Desired<'_>, actual: &Actual, kind: Kind) -> Vec<Change> {
    match kind {
        Kind::Links => {
            let index = Index::of(desired, actual);
            let (to_remove, to_add) = virtual_link::changes(desired, actual, &index);
            let (up, down) = links(desired, &index);
            [to_remove, to_add, up, down].concat()
        }
        Kind::Addresses => {
            let index = Index::of(desired, actual);
            let (to_add, to_remove) = addresses(desired, actual, &index);
            [to_add, to_remove].concat()
        }
        Kind::Routes => {
            let (rules_to_add, rules_to_remove) = rules(desired, actual);
            let (routes_to_add, routes_to_remove) = routes(desired, actual);
            [rules_to_remove, routes_to_add, rules_to_add, routes_to_remove].concat()
        }
    }
}

fn links(desired: Desired<'_>, index: &Index<'_>) -> (Vec<Change>, Vec<Change>) {
    let mut seen = BTreeSet::new();
    desired
        .declared
        .links
        .iter()
        .filter(|link| seen.insert(&link.interface))
        .filter_map(|link| {
            let up = desired.phases.wants_link(&link.up)?;
            let there = index.link(&link.interface).filter(|there| there.up != up)?;
            Some(Change::SetLink { index: there.index, name: there.name.clone(), up })
        })
        .partition(|change| matches!(change, Change::SetLink { up: true, .. }))
}

fn addresses(
    desired: Desired<'_>,
    actual: &Actual,
    index: &Index<'_>,
) -> (Vec<Change>, Vec<Change>) {
    let mut wanted = BTreeSet::new();
    let mut declared = BTreeSet::new();
    let mut to_add = Vec::new();
    for address in &desired.declared.addresses {
        let Some(link) = index.link(&address.interface) else { continue };
        declared.insert((link.index, address.address));
        if !desired.phases.wants(&address.condition, Kind::Addresses)
            || !wanted.insert((link.index, address.address))
        {
            continue;
        }
        let possible = !address_obstacle(address.address, link.up)
            && index.in_place_of(link.index, address.address).is_none();
        if possible && !index.has_address(link.index, address.address) {
            to_add.push(Change::AddAddress {
                index: link.index,
                address: address.clone(),
                metric: index.is_virtual_link(&address.interface).then_some(VIRTUAL_LINK_METRIC),
            });
        }
    }
    let to_remove = actual
        .addresses
        .iter()
        .filter(|there| {
            let place: (u32, IpNet) = (there.index, there.address);
            let ours = there.protocol == PROTOCOL_LOCKSTEP || declared.contains(&place);
            ours && !wanted.contains(&place)
        })
        .map(|there| Change::RemoveAddress {
            index: there.index,
            name: actual.link_name(there.index),
            address: there.address,
        })
        .collect();
    (to_add, to_remove)
}

fn routes(desired: Desired<'_>, actual: &Actual) -> (Vec<Change>, Vec<Change>) {
    let mut declared: BTreeMap<RouteKey, Vec<&Arc<Route>>> = BTreeMap::new();
    for route in &desired.declared.routes {
        declared.entry(route.key()).or_default().push(route);
    }
    let mut in_place: BTreeMap<RouteKey, Vec<&ActualRoute>> = BTreeMap::new();
    for route in &actual.routes {
        in_place.entry(route.key()).or_default().push(route);
    }
    let mut to_add = Vec::new();
    let mut to_remove = Vec::new();
    for (key, candidates) in &declared {
        let there = in_place.remove(key).unwrap_or_default();
        routes_in_one_place(desired, actual, candidates, &there, &mut to_add, &mut to_remove);
    }
    let left_over =
        in_place.into_values().flatten().filter(|there| desired.owned.owns_route(there));
    to_remove.extend(left_over.map(|there| Change::RemoveRoute { route: there.clone() }));
    (to_add, to_remove)
}

/// What to do about one place in a table, which several declared routes may want at different
/// moments.
fn routes_in_one_place(
    desired: Desired<'_>,
    actual: &Actual,
    candidates: &[&Arc<Route>],
    there: &[&ActualRoute],
    to_add: &mut Vec<Change>,
    to_remove: &mut Vec<Change>,
) {
    let ours: Vec<_> = there.iter().filter(|there| is_ours(desired, there)).collect();
    let installed = |route: &Route| {
        there.iter().any(|there| there.matches(route, &declared_devs(route, actual)))
    };
    // A wanted route that the kernel holds is left alone, also where it could not be added now.
    let best = candidates
        .iter()
        .filter(|route| desired.phases.wants(&route.condition, Kind::Routes))
        .find(|route| installed(route) || reach::obstacle(route, actual).is_none());
    match best {
        Some(route) if installed(route) => {}
        Some(&route) => {
            let devs = declared_devs(route, actual);
            let route = Arc::clone(route);
            if there.is_empty() {
                to_add.push(Change::AddRoute { route, devs });
            } else if ours.len() == there.len() {
                to_add.push(Change::ReplaceRoute { route, devs });
            }
        }
        None => to_remove
            .extend(ours.iter().map(|there| Change::RemoveRoute { route: (**there).clone() })),
    }
}

fn rules(desired: Desired<'_>, actual: &Actual) -> (Vec<Change>, Vec<Change>) {
    let mut wanted: BTreeSet<RuleKey> = BTreeSet::new();
    let mut to_add = Vec::new();
    for rule in &desired.declared.rules {
        let key = rule.key();
        if !desired.phases.wants(&rule.condition, Kind::Routes) || !wanted.insert(key.clone()) {
            continue;
        }
        if !actual.rules.iter().any(|there| !there.special && there.key == key) {
            to_add.push(Change::AddRule { rule: rule.clone() });
        }
    }
    let to_remove = actual
        .rules
        .iter()
        .filter(|there| desired.owned.owns_rule(there) && !wanted.contains(&there.key))
        .map(|there| Change::RemoveRule { rule: there.clone() })
        .collect();
    (to_add, to_remove)
}
