//! The steps of a transition that are links', addresses' and routes'.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use lockstep_failover::{Outcome, Step, StepId};
use lockstep_routes::{Change, Condition, Kind, Object, Side, State, assess_groups, plan_kind};

use super::look::Turn;
use super::requests::Requests;
use super::{Actor, PIECE};
use crate::messages::GroupStep;

/// Most reasons named in an outcome.
const REASONS: usize = 3;

impl Actor {
    /// Carries out and answers steps of links and addresses, but for those of `busy` groups; whether
    /// there were any.
    pub(super) async fn carry_out_urgent(
        &mut self,
        requests: &mut Requests,
        busy: &BTreeSet<&str>,
    ) -> bool {
        let mut any = false;
        loop {
            let steps = requests.next_urgent(busy);
            if steps.is_empty() {
                return any;
            }
            any = true;
            let answers = Box::pin(self.steps(&steps, None)).await;
            self.answer_steps(answers).await;
        }
    }

    /// Moves the objects of one kind of many groups to one side with one plan, and says how each
    /// group's stand then. All `steps` are of the first one's kind. While many routes are moved,
    /// other groups' steps of links and addresses that are in `requests` have their turn.
    pub(super) async fn steps(
        &mut self,
        steps: &[GroupStep],
        requests: Option<&mut Requests>,
    ) -> Vec<(StepId, Outcome)> {
        let Some(step) = steps.first().map(|first| first.step) else { return Vec::new() };
        let all = |outcome: &Outcome| steps.iter().map(|one| (one.id, outcome.clone())).collect();
        if matches!(step, Step::HoldForwarding | Step::PassForwarding) {
            return all(&self.hold_forwarding(steps, step == Step::HoldForwarding));
        }
        let Some((kind, side)) = meaning(step) else {
            let outcome = Outcome::Failed(format!("{} is no step of the network's", step.as_str()));
            return all(&outcome);
        };
        for GroupStep { group, .. } in steps {
            self.phases.settle(group, kind, side);
        }
        // An address does not wait for a look at links that nobody has declared.
        let none = Outcome::Done("none declared".to_owned());
        let followed = self.declared.followed(kind);
        let concerned: BTreeSet<&str> = steps
            .iter()
            .map(|one| one.group.as_str())
            .filter(|group| followed.contains(group))
            .collect();
        if concerned.is_empty() {
            return all(&none);
        }
        let moved = match (kind, requests) {
            (Kind::Routes, Some(requests)) => self.move_routes(&concerned, side, requests).await,
            _ => self.move_over(&concerned, step, kind, side).await,
        };
        match moved {
            Ok(outcomes) => steps
                .iter()
                .map(|one| {
                    let outcome = outcomes.get(one.group.as_str()).unwrap_or(&none);
                    (one.id, outcome.clone())
                })
                .collect(),
            Err(error) => {
                all(&Outcome::Failed(format!("cannot read what the kernel has: {error}")))
            }
        }
    }

    fn hold_forwarding(&mut self, steps: &[GroupStep], hold: bool) -> Outcome {
        let groups = steps.iter().map(|one| one.group.as_str());
        match self.table.hold(groups, hold) {
            Ok(()) if hold => Outcome::Done("packets of unknown flows are held".to_owned()),
            Ok(()) => Outcome::Done("packets of unknown flows pass".to_owned()),
            Err(why) => Outcome::Failed(why),
        }
    }

    async fn move_routes<'a>(
        &mut self,
        groups: &BTreeSet<&'a str>,
        side: Side,
        requests: &mut Requests,
    ) -> io::Result<BTreeMap<&'a str, Outcome>> {
        let kind = Kind::Routes;
        self.take_stock(Turn::Urgent(requests, groups)).await?;
        let changes = plan_kind(self.desired(), &self.actual, kind);
        self.ownership.before(&changes);
        let mut done = Vec::new();
        for piece in changes.chunks(PIECE) {
            self.carry_out_urgent(requests, groups).await;
            done.extend(self.carry_out(piece).await.into_iter().map(Change::object));
        }
        self.ownership.keep();
        self.has_planned_much |= changes.len() > PIECE;
        Ok(self.outcomes(groups, kind, side, &done))
    }

    /// Links or addresses.
    async fn move_over<'a>(
        &mut self,
        groups: &BTreeSet<&'a str>,
        step: Step,
        kind: Kind,
        side: Side,
    ) -> io::Result<BTreeMap<&'a str, Outcome>> {
        // Adding an address waits for no dump: one that is there already is no failure.
        if step != Step::AddressesUp {
            self.take_stock_of_links().await?;
        }
        if step == Step::AddressesUp {
            self.keep_virtual_links_silent();
        }
        let mut done = self.carry_out_kind(kind).await;
        if step == Step::AddressesDown {
            self.keep_virtual_links_silent();
        }
        // Whether a link that has gone up has a carrier too, only the kernel knows. It is not
        // waited for: addresses and routes go in without.
        if step == Step::LinksUp && !done.is_empty() {
            self.take_stock_of_links().await?;
        }
        let mut outcomes = self.outcomes(groups, kind, side, &done);
        let all_done = outcomes.values().all(|outcome| matches!(outcome, Outcome::Done(_)));
        // The link may have been made anew since the last look.
        if step == Step::AddressesUp && !all_done && self.take_stock_of_links().await.is_ok() {
            done.extend(self.carry_out_kind(kind).await);
            outcomes = self.outcomes(groups, kind, side, &done);
        }
        Ok(outcomes)
    }

    fn outcomes<'a>(
        &self,
        groups: &BTreeSet<&'a str>,
        kind: Kind,
        side: Side,
        done: &[Object],
    ) -> BTreeMap<&'a str, Outcome> {
        let changed = self.changed(groups, kind, done);
        let refused = self.refused(groups, kind);
        let states = assess_groups(self.desired(), &self.actual, &self.refusals, groups, kind);
        groups
            .iter()
            .map(|group| {
                let changed = changed.get(group).copied().unwrap_or(0);
                let states = states.get(group).map_or(&[][..], Vec::as_slice);
                let refused = refused.get(group).map_or(&[][..], Vec::as_slice);
                (*group, outcome(states, kind, side, changed, refused))
            })
            .collect()
    }

    /// What the kernel has refused of each group's objects, and its words.
    fn refused<'a>(
        &self,
        groups: &BTreeSet<&'a str>,
        kind: Kind,
    ) -> BTreeMap<&'a str, Vec<String>> {
        let mut refused: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if self.refusals.is_empty() {
            return refused;
        }
        for (object, condition, name) in self.declared_objects(kind) {
            if let Some(group) = condition.group.as_deref().and_then(|name| groups.get(name))
                && let Some(refusal) = self.refusals.of(&object)
            {
                refused.entry(*group).or_default().push(format!("{}: {}", name(), refusal.words));
            }
        }
        refused
    }

    /// How many of the objects that were changed follow each group. One group alone is told of
    /// all, also of what nobody has declared any more.
    fn changed<'a>(
        &self,
        groups: &BTreeSet<&'a str>,
        kind: Kind,
        done: &[Object],
    ) -> BTreeMap<&'a str, usize> {
        if let (1, Some(only)) = (groups.len(), groups.first()) {
            return BTreeMap::from([(*only, done.len())]);
        }
        let changed: BTreeSet<&Object> = done.iter().collect();
        let mut counts = BTreeMap::new();
        for (object, condition, _) in self.declared_objects(kind) {
            if let Some(group) = condition.group.as_deref().and_then(|name| groups.get(name))
                && changed.contains(&object)
            {
                *counts.entry(*group).or_default() += 1;
            }
        }
        counts
    }

    /// A step is asked for on purpose: what was refused before is tried again at once.
    async fn carry_out_kind(&mut self, kind: Kind) -> Vec<Object> {
        let changes = plan_kind(self.desired(), &self.actual, kind);
        self.carry_out(&changes).await.into_iter().map(Change::object).collect()
    }

    fn declared_objects(&self, kind: Kind) -> Vec<Declaration<'_>> {
        fn one<'a>(
            object: Object,
            condition: &'a Condition,
            name: impl Fn() -> String + 'a,
        ) -> Declaration<'a> {
            (object, condition, Box::new(name))
        }
        let declared = &self.declared;
        match kind {
            Kind::Links => declared
                .links
                .iter()
                .map(|link| {
                    one(Object::Link(link.interface.clone()), &link.up, || link.to_string())
                })
                .collect(),
            Kind::Addresses => declared
                .addresses
                .iter()
                .map(|address| {
                    let object = Object::Address(address.interface.clone(), address.address);
                    one(object, &address.condition, || address.to_string())
                })
                .collect(),
            Kind::Routes => {
                let routes = declared.routes.iter().map(|route| {
                    one(Object::Route(route.key()), &route.condition, || route.to_string())
                });
                let rules = declared.rules.iter().map(|rule| {
                    one(Object::Rule(rule.key()), &rule.condition, || rule.key().describe(declared))
                });
                routes.chain(rules).collect()
            }
        }
    }
}

/// A declared object, when it is wanted, and its name for people.
type Declaration<'a> = (Object, &'a Condition, Box<dyn Fn() -> String + 'a>);

/// How a group's objects stand, in words; `done` of them have changed. What has failed is named
/// before what only waits.
fn outcome(states: &[State], kind: Kind, side: Side, done: usize, refused: &[String]) -> Outcome {
    let missing = states.iter().filter(|state| state.is_missing());
    let waits = missing.clone().filter(|state| !matches!(state, State::Failed { .. }));
    let waiting_for: BTreeSet<String> = waits.filter_map(State::reason).collect();
    let reasons: Vec<&str> =
        refused.iter().chain(&waiting_for).take(REASONS).map(String::as_str).collect();
    let count = |word| missing.clone().filter(|state| state.as_str() == word).count();
    let installed = states.iter().filter(|state| state.as_str() == "installed").count();
    let failed = count("failed");
    let waiting = [("pending", count("pending")), ("conflicting", count("conflicting"))];
    let mut counts = vec![match side {
        Side::Master => counted(installed, noun(kind)),
        Side::Backup | Side::Unsettled => format!("{} changed", counted(done, noun(kind))),
    }];
    let others = waiting.into_iter().chain([("failed", failed)]);
    counts.extend(
        others.filter(|(_, count)| *count > 0).map(|(word, count)| format!("{count} {word}")),
    );
    let mut text = counts.join(", ");
    if !reasons.is_empty() {
        text = format!("{text}: {}", reasons.join("; "));
    }
    if failed > 0 {
        Outcome::Failed(text)
    } else if waiting.iter().any(|(_, number)| *number > 0) {
        Outcome::Pending(text)
    } else {
        Outcome::Done(text)
    }
}

/// Which objects a step moves, and where to.
fn meaning(step: Step) -> Option<(Kind, Side)> {
    match step {
        Step::LinksUp => Some((Kind::Links, Side::Master)),
        Step::AddressesUp => Some((Kind::Addresses, Side::Master)),
        Step::RoutesUp => Some((Kind::Routes, Side::Master)),
        Step::AddressesDown => Some((Kind::Addresses, Side::Backup)),
        Step::RoutesDown => Some((Kind::Routes, Side::Backup)),
        Step::LinksDown => Some((Kind::Links, Side::Backup)),
        Step::HoldForwarding
        | Step::PassForwarding
        | Step::Claim
        | Step::CommitFlows
        | Step::Announce
        | Step::ReplicateActive
        | Step::StopClaiming
        | Step::ReplicateBackup
        | Step::Hooks
        | Step::Barrier
        | Step::Retire
        | Step::PeerClaims
        | Step::PeerServes => None,
    }
}

fn noun(kind: Kind) -> &'static str {
    match kind {
        Kind::Links => "link",
        Kind::Addresses => "address",
        Kind::Routes => "route or rule",
    }
}

fn counted(number: usize, noun: &str) -> String {
    match (number, noun) {
        (1, noun) => format!("1 {noun}"),
        (number, "address") => format!("{number} addresses"),
        (number, "route or rule") => format!("{number} routes and rules"),
        (number, noun) => format!("{number} {noun}s"),
    }
}
