//! Whatever is there, whatever is wanted and whatever happens meanwhile: a strict model of the
//! kernel takes every change of every plan, ends where it should, and keeps what others made.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "model/mod.rs"]
mod model;

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;
use lockstep_routes::{
    Actual, ActualAddress, ActualRule, Change, Desired, Kind, Owned, PROTOCOL_LOCKSTEP, Phases,
    Reason, Refusals, Route, RuleKey, State, TableId, When, assess, plan, plan_kind,
};

use model::cases::{Case, GROUP, Step};
use model::kernel::{Kernel, is_taken_for};

/// Cases of each test, when nobody asks for others by `SEEDS=FIRST..LAST`.
const USUAL: Range<u64> = 0..1_500;
/// Plans after which nothing may be left to do: what the kernel drops with an address or a link
/// that goes is put back by the next one.
const ROUNDS: usize = 4;

#[expect(clippy::disallowed_methods, reason = "whoever runs a test may ask for other cases")]
fn seeds() -> Range<u64> {
    let Ok(asked) = std::env::var("SEEDS") else { return USUAL };
    let (first, last) = asked.split_once("..").expect("SEEDS is FIRST..LAST");
    first.parse().unwrap()..last.parse().unwrap()
}

/// A kernel, and what was made by us in it under somebody's protocol number.
struct World {
    seed: u64,
    kernel: Kernel,
    owned: Owned,
}

impl World {
    fn of(seed: u64, case: &Case) -> Self {
        let mut kernel = case.kernel();
        for change in case.begin(&kernel.actual) {
            // Some of it is not possible in this case.
            let _ = kernel.carry_out(&change);
        }
        Self { seed, kernel, owned: case.owned.clone() }
    }

    /// Does one change of a plan.
    fn carry_out(&mut self, change: &Change, plan: &[Change]) {
        self.owned.note(change);
        let taken = self.kernel.carry_out(change);
        let there = &self.kernel.actual;
        assert_eq!(taken, Ok(()), "seed {}: {change} of {plan:#?} in {there:#?}", self.seed);
        self.owned.made(change);
        self.owned.forget(change);
    }

    /// Plans and carries out until nothing is left.
    fn settle(&mut self, case: &Case, phases: &Phases) {
        for _ in 0..ROUNDS {
            let desired = Desired { declared: &case.declared, phases, owned: &self.owned };
            let changes = plan(desired, &self.kernel.actual);
            if changes.is_empty() {
                return;
            }
            let before = self.kernel.actual.clone();
            let mut states = vec![before];
            for change in &changes {
                self.carry_out(change, &changes);
                states.push(self.kernel.actual.clone());
            }
            nothing_is_missed_meanwhile(self.seed, &states, &changes);
            no_rule_comes_before_its_tables_routes(self.seed, &changes);
        }
        let desired = Desired { declared: &case.declared, phases, owned: &self.owned };
        let left = plan(desired, &self.kernel.actual);
        assert!(left.is_empty(), "seed {}: never settles: {left:#?}", self.seed);
    }
}

/// Runs a case and looks at every state in which everything was settled.
fn every_settled_state(seed: u64, mut look: impl FnMut(&World, &Case, &Phases)) {
    let case = Case::of(seed);
    let mut world = World::of(seed, &case);
    for step in &case.steps {
        for change in step.changes(&world.kernel.actual) {
            world.kernel.carry_out(&change).unwrap();
        }
        if let Step::Settle(phases) = step {
            world.settle(&case, phases);
            look(&world, &case, phases);
        }
    }
}

/// A destination in a table, or a rule's selectors, that is there before a plan and after it is
/// there all the time.
fn nothing_is_missed_meanwhile(seed: u64, states: &[Actual], changes: &[Change]) {
    let destinations = |actual: &Actual| -> BTreeSet<(TableId, IpNet)> {
        // An address that is made anew is without its network for a moment.
        let made = actual.routes.iter().filter(|route| route.protocol != 2);
        made.map(|route| (route.table, route.to)).collect()
    };
    let selectors = |actual: &Actual| -> BTreeSet<RuleKey> {
        let alike = |key: &RuleKey| RuleKey {
            priority: 0,
            action: lockstep_routes::RuleAction::Blackhole,
            ..key.clone()
        };
        actual.rules.iter().map(|rule| alike(&rule.key)).collect()
    };
    let (Some(before), Some(after)) = (states.first(), states.last()) else { return };
    let routes: Vec<_> = destinations(before).intersection(&destinations(after)).copied().collect();
    let rules: Vec<_> = selectors(before).intersection(&selectors(after)).cloned().collect();
    for state in states {
        let (there, rules_there) = (destinations(state), selectors(state));
        for (table, to) in &routes {
            let kept = there.contains(&(*table, *to));
            assert!(kept, "seed {seed}: no {to} in table {table} meanwhile: {changes:#?}");
        }
        for rule in &rules {
            assert!(rules_there.contains(rule), "seed {seed}: no {rule} meanwhile: {changes:#?}");
        }
    }
}

fn no_rule_comes_before_its_tables_routes(seed: u64, changes: &[Change]) {
    let mut looked_up = BTreeSet::new();
    for change in changes {
        match change {
            Change::AddRule { rule } => looked_up.extend(rule.key.table()),
            Change::AddRoute { route, .. } | Change::ReplaceRoute { route, .. } => {
                let late = looked_up.contains(&route.table);
                assert!(!late, "seed {seed}: {change} after its rule: {changes:#?}");
            }
            _ => {}
        }
    }
}

/// What bears somebody else's protocol number, or is an address that was never declared.
fn of_others(world: &World, case: &Case) -> Actual {
    let actual = &world.kernel.actual;
    let is_declared = |there: &ActualAddress| {
        case.declared.addresses.iter().any(|address| {
            address.address == there.address && actual.link_name(there.index) == address.interface
        })
    };
    let mut others = actual.clone();
    others.links.clear();
    // With a link that goes down the kernel removes its IPv6 addresses, whosever they are.
    others.addresses.retain(|there| {
        let ours = there.protocol == PROTOCOL_LOCKSTEP || is_declared(there);
        !ours && there.address.addr().is_ipv4()
    });
    others.routes.retain(|route| !world.owned.owns_route(route) && route.protocol != 2);
    others.rules.retain(|rule| !world.owned.owns_rule(rule));
    others.routes.sort_by_key(lockstep_routes::ActualRoute::key);
    others
}

#[test]
fn plans_lead_to_what_is_wanted_and_then_end() {
    for seed in seeds() {
        every_settled_state(seed, |world, case, phases| {
            let actual = &world.kernel.actual;
            let desired = Desired { declared: &case.declared, phases, owned: &world.owned };
            let states = assess(desired, actual, &Refusals::default());
            let all = [&states.links, &states.addresses, &states.routes, &states.rules];
            for state in all.into_iter().flatten() {
                let unfinished = [State::Pending(Reason::Due), State::Pending(Reason::Leaving)];
                assert!(!unfinished.contains(state), "seed {seed}: {state:?} in {actual:#?}");
            }
            what_is_pending_is_impossible(world, case, &states.routes);
            nothing_unwanted_of_ours_is_there(world, case, phases);
        });
    }
}

/// The kernel would refuse it, and any part of it that is not there.
fn what_is_pending_is_impossible(world: &World, case: &Case, states: &[State]) {
    let actual = &world.kernel.actual;
    let seed = world.seed;
    for (route, state) in case.declared.routes.iter().zip(states) {
        let State::Pending(_) = state else { continue };
        assert!(
            !is_possible(world, route),
            "seed {seed}: {route} is {state:?}, and possible in {actual:#?}"
        );
        for hop in route.next_hops.iter().filter(|_| route.next_hops.len() > 1) {
            let alone = Route { next_hops: vec![hop.clone()], ..Route::clone(route) };
            let mut there = actual.routes.iter().filter(|there| there.key() == route.key());
            let leads = there.any(|there| there.next_hops.iter().any(|one| one.via == hop.via));
            assert!(
                leads || !is_possible(world, &Arc::new(alone)),
                "seed {seed}: {route} is {state:?}, and {hop:?} possible in {actual:#?}"
            );
        }
    }
}

/// Whether the kernel takes it now.
fn is_possible(world: &World, route: &Arc<Route>) -> bool {
    let actual = &world.kernel.actual;
    let index = |name: &String| actual.link(name).map(|link| link.index);
    let devs = route.next_hops.iter().map(|hop| hop.dev.as_ref().and_then(index)).collect();
    let is_there = actual.routes.iter().any(|there| there.key() == route.key());
    let route = Arc::clone(route);
    let change = if is_there {
        Change::ReplaceRoute { route, devs }
    } else {
        Change::AddRoute { route, devs }
    };
    world.kernel.clone().carry_out(&change).is_ok()
}

fn nothing_unwanted_of_ours_is_there(world: &World, case: &Case, phases: &Phases) {
    let actual = &world.kernel.actual;
    let seed = world.seed;
    for there in actual.routes.iter().filter(|there| world.owned.owns_route(there)) {
        let wanted = case.declared.routes.iter().any(|route| {
            let hops = |via| route.next_hops.iter().any(|hop| hop.via == via);
            phases.wants(&route.condition, Kind::Routes)
                && (route.key(), Some(route.kind), route.protocol)
                    == (there.key(), there.kind, there.protocol)
                && there.next_hops.iter().all(|hop| hops(hop.via))
        });
        assert!(wanted, "seed {seed}: {there} is left in {actual:#?}");
    }
    for there in actual.rules.iter().filter(|there| world.owned.owns_rule(there)) {
        let wanted = case.declared.rules.iter().any(|rule| {
            phases.wants(&rule.condition, Kind::Routes)
                && (rule.key(), rule.protocol) == (there.key.clone(), there.protocol)
        });
        assert!(wanted || is_inseparable(world, there), "seed {seed}: {} is left", there.key);
    }
}

/// Whether the kernel would remove somebody else's rule in the place of this one.
fn is_inseparable(world: &World, rule: &ActualRule) -> bool {
    let mut before = world.kernel.actual.rules.iter().take_while(|there| *there != rule);
    before.any(|there| is_taken_for(there, rule) && !world.owned.owns_rule(there))
}

#[test]
fn what_others_made_stays() {
    for seed in seeds() {
        let case = Case::of(seed);
        let mut world = World::of(seed, &case);
        for step in &case.steps {
            for change in step.changes(&world.kernel.actual) {
                world.kernel.carry_out(&change).unwrap();
            }
            if let Step::Settle(phases) = step {
                let before = of_others(&world, &case);
                world.settle(&case, phases);
                assert_eq!(of_others(&world, &case), before, "seed {seed}");
            }
        }
    }
}

#[test]
fn no_address_of_a_group_stays_on_a_router_that_is_not_master() {
    for seed in seeds() {
        let case = Case::of(seed);
        let mut world = World::of(seed, &case);
        let phases = Phases::default();
        assert_eq!(phases.of(GROUP).addresses, lockstep_routes::Side::Unsettled);
        let desired = Desired { declared: &case.declared, phases: &phases, owned: &case.owned };
        let changes = plan_kind(desired, &world.kernel.actual, Kind::Addresses);
        for change in &changes {
            world.carry_out(change, &changes);
        }
        let actual = &world.kernel.actual;
        for there in &actual.addresses {
            let name = actual.link_name(there.index);
            let mut entries = case
                .declared
                .addresses
                .iter()
                .filter(|address| address.interface == name && address.address == there.address)
                .peekable();
            let always = entries.peek().is_none()
                || entries.any(|address| address.condition.when == When::Always);
            assert!(always, "seed {seed}: {} on {name}", there.address);
        }
    }
}

#[test]
fn what_is_recorded_of_acknowledged_changes_is_what_the_kernel_has() {
    for seed in seeds() {
        let case = Case::of(seed);
        let mut world = World::of(seed, &case);
        for step in &case.steps {
            for change in step.changes(&world.kernel.actual) {
                world.kernel.carry_out(&change).unwrap();
            }
            let Step::Settle(phases) = step else { continue };
            for _ in 0..ROUNDS {
                let desired = Desired { declared: &case.declared, phases, owned: &world.owned };
                let changes = plan(desired, &world.kernel.actual);
                if changes.is_empty() {
                    break;
                }
                let mut recorded = world.kernel.actual.clone();
                recorded.record_all(&changes);
                for change in &changes {
                    world.carry_out(change, &changes);
                }
                let there = model::essence(&world.kernel.actual);
                assert_eq!(model::essence(&recorded), there, "seed {seed}: {changes:#?}");
            }
        }
    }
}
