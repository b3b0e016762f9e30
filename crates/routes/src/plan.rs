//! The way from what is there to what is wanted.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::index::Index;
use crate::places::{Places, Verdict};
use crate::{
    Actual, ActualRule, Change, Desired, Kind, PROTOCOL_LOCKSTEP, RuleKey, address, virtual_link,
};

/// The changes that are possible now and bring the kernel closer to what is wanted; none when it
/// is there, or when all that is missing waits for something ([`crate::assess`] says for what).
///
/// In order: virtual links that go and come, links up, addresses that come, routes, rules that
/// come and go, then routes, addresses and links that go. So a rule leads into a table only while
/// the table's routes are in, and what takes the place of something is there before the old one
/// goes. Among routes those on a link come first, because others' next hops are found by them, and
/// then the longest prefix, because it says what is excepted from a shorter one; they go the other
/// way round. What a link or an address makes possible is in the same plan.
///
/// Where the kernel drops something together with an address or a link that goes, the next plan
/// puts it back: run it again after carrying it out.
///
/// Touched is only what is ours: what bears our protocol number or is known to be ours by
/// [`crate::Owned`], and the addresses that are declared.
pub fn plan(desired: Desired<'_>, actual: &Actual) -> Vec<Change> {
    let mut index = Index::of(desired, actual);
    let (virtual_to_remove, virtual_to_add) = virtual_link::changes(desired, actual, &index);
    let (up, down) = links(desired, &index);
    for change in [&virtual_to_remove, &virtual_to_add, &up, &down].into_iter().flatten() {
        index.expect(change);
    }
    let addresses = address::changes(desired, actual, &index);
    index.expect_without(&addresses.gone);
    for change in &addresses.first {
        index.expect(change);
    }
    let (routes_to_put, routes_to_remove) = routes(desired, actual, &mut index);
    let (rules_to_add, rules_to_remove) = rules(desired, actual);
    in_order([
        virtual_to_remove,
        virtual_to_add,
        up,
        addresses.first,
        routes_to_put,
        rules_to_add,
        rules_to_remove,
        routes_to_remove,
        addresses.last,
        down,
    ])
}

/// The changes of one kind only, as one step of a transition wants them; in the order of [`plan`].
pub fn plan_kind(desired: Desired<'_>, actual: &Actual, kind: Kind) -> Vec<Change> {
    let mut index = Index::of(desired, actual);
    match kind {
        Kind::Links => {
            let (to_remove, to_add) = virtual_link::changes(desired, actual, &index);
            let (up, down) = links(desired, &index);
            in_order([to_remove, to_add, up, down])
        }
        Kind::Addresses => {
            let addresses = address::changes(desired, actual, &index);
            in_order([addresses.first, addresses.last])
        }
        Kind::Routes => {
            let (routes_to_put, routes_to_remove) = routes(desired, actual, &mut index);
            let (rules_to_add, rules_to_remove) = rules(desired, actual);
            in_order([routes_to_put, rules_to_add, rules_to_remove, routes_to_remove])
        }
    }
}

/// One after another; mostly there is one, which is not copied.
fn in_order<const N: usize>(parts: [Vec<Change>; N]) -> Vec<Change> {
    let mut parts = parts.into_iter().filter(|part| !part.is_empty());
    let mut all = parts.next().unwrap_or_default();
    for mut part in parts {
        all.append(&mut part);
    }
    all
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

fn routes(
    desired: Desired<'_>,
    actual: &Actual,
    index: &mut Index<'_>,
) -> (Vec<Change>, Vec<Change>) {
    let places = Places::of(desired, &actual.routes);
    expect_networks(&places, index);
    let mut to_put = Vec::new();
    let mut to_remove = Vec::new();
    for place in places.iter() {
        let kept = match place.verdict(index) {
            Verdict::Put(route) => {
                let devs = index.devs(&route);
                if place.there().next().is_none() {
                    to_put.push(Change::AddRoute { route, devs });
                } else {
                    // The kernel replaces the first one.
                    to_put.push(Change::ReplaceRoute { route, devs });
                    to_remove.extend(place.there().skip(1));
                }
                continue;
            }
            Verdict::Keep(there) => Some(there),
            Verdict::Clear => None,
        };
        let superfluous = |there: &_| place.is_superfluous(there, kept, index);
        to_remove.extend(place.there().filter(|there| superfluous(there)));
    }
    to_put.sort_by_cached_key(|change| match change {
        Change::AddRoute { route, .. } | Change::ReplaceRoute { route, .. } => {
            (!route.is_on_link(), Reverse(route.to.prefix_len()))
        }
        _ => (false, Reverse(0)),
    });
    to_remove.sort_by_key(|there| (there.is_connected(), there.to.prefix_len()));
    let to_remove =
        to_remove.into_iter().map(|there| Change::RemoveRoute { route: there.clone() }).collect();
    (to_put, to_remove)
}

/// The networks that routes of ours on a link bring or take along: next hops of others are found
/// by those that will be there.
fn expect_networks(places: &Places<'_>, index: &mut Index<'_>) {
    for place in places.iter() {
        let comes = place.wanted().any(|route| route.is_on_link());
        let goes = place.there().any(|there| there.is_connected() && place.is_ours(there));
        if !comes && !goes {
            continue;
        }
        let verdict = place.verdict(index);
        let kept = if let Verdict::Keep(there) = &verdict { Some(*there) } else { None };
        for there in place.there().filter(|there| there.is_connected()) {
            if let Some(dev) = there.only_dev()
                && (matches!(verdict, Verdict::Put(_)) || place.is_superfluous(there, kept, index))
            {
                index.expect_network(there.key(), dev, false);
            }
        }
        if let Verdict::Put(route) = verdict
            && route.is_on_link()
            && let [Some(dev)] = index.devs(&route)[..]
        {
            index.expect_network(route.key(), dev, true);
        }
    }
}

/// Rules that come, the first asked first, and rules that go, the last asked first: an exception
/// is there as long as what it is an exception from.
fn rules(desired: Desired<'_>, actual: &Actual) -> (Vec<Change>, Vec<Change>) {
    let mut in_place: BTreeMap<&RuleKey, Vec<&ActualRule>> = BTreeMap::new();
    for there in actual.rules.iter().filter(|there| !there.special) {
        in_place.entry(&there.key).or_default().push(there);
    }
    let owned = desired.owned;
    let mut wanted: BTreeMap<RuleKey, u8> = BTreeMap::new();
    let mut to_add = Vec::new();
    for rule in &desired.declared.rules {
        let key = rule.key();
        if !desired.phases.wants(&rule.condition, Kind::Routes) || wanted.contains_key(&key) {
            continue;
        }
        let there = in_place.get(&key).into_iter().flatten();
        if !there.clone().any(|there| serves(there, rule.protocol, owned)) {
            to_add.push(rule);
        }
        wanted.insert(key, rule.protocol);
    }
    let mut to_remove: Vec<_> = actual
        .rules
        .iter()
        .filter(|there| {
            let protocol = wanted.get(&there.key);
            owned.owns_rule(there) && protocol.is_none_or(|protocol| *protocol != there.protocol)
        })
        .filter(|there| !takes_anothers(there, &actual.rules, owned))
        .collect();
    to_add.sort_by_key(|rule| rule.key.priority);
    to_remove.sort_by_key(|there| Reverse((there.key.priority, there.key.selectors())));
    let to_add = to_add.into_iter().map(|rule| Change::AddRule { rule: rule.clone() });
    let to_remove = to_remove.into_iter().map(|rule| Change::RemoveRule { rule: rule.clone() });
    (to_add.collect(), to_remove.collect())
}

/// Whether removing the rule would remove somebody else's in its place. The kernel takes the first
/// one that has all the selectors it is told, and may have more; only our own protocol number keeps
/// it from those of others. Then it stays.
pub(crate) fn takes_anothers(
    rule: &ActualRule,
    rules: &[ActualRule],
    owned: &crate::Owned,
) -> bool {
    rule.protocol != PROTOCOL_LOCKSTEP
        && rules.iter().take_while(|there| *there != rule).any(|there| {
            there.protocol == rule.protocol
                && there.key.is_within(&rule.key)
                && !owned.owns_rule(there)
        })
}

/// Whether a rule of the right place is what is wanted: ours with the declared protocol number, or
/// somebody else's.
pub(crate) fn serves(there: &ActualRule, protocol: u8, owned: &crate::Owned) -> bool {
    there.protocol == protocol || !owned.owns_rule(there)
}
