//! The steps of a transition that are links', addresses' and routes'.

use lockstep_failover::{Outcome, Step};
use lockstep_routes::{Kind, Side, State, assess_group, plan_kind};

use super::Actor;

/// Most reasons named in an outcome.
const REASONS: usize = 3;

impl Actor {
    /// Moves the group's objects of one kind to one side, and says how they stand then.
    pub(super) async fn step(&mut self, group: &str, step: Step) -> Outcome {
        let Some((kind, side)) = meaning(step) else {
            return Outcome::Failed(format!("{} is no step of the network's", step.as_str()));
        };
        self.phases.settle(group, kind, side);
        // An address does not wait for a look at links that nobody has declared.
        if !self.declared.any_follows(group, kind) {
            return Outcome::Done("none declared".to_owned());
        }
        // Adding an address waits for no dump: one that is there already is no failure.
        if step != Step::AddressesUp
            && let Err(error) = self.take_stock_for(kind).await
        {
            return Outcome::Failed(format!("cannot read what the kernel has: {error}"));
        }
        let done = self.carry_out_kind(kind).await;
        // Whether a link that has gone up has a carrier too, only the kernel knows. It is not
        // waited for: addresses and routes go in without.
        if step == Step::LinksUp
            && done > 0
            && let Err(error) = self.take_stock_for(kind).await
        {
            return Outcome::Failed(format!("cannot read what the kernel has: {error}"));
        }
        let mut outcome = self.outcome(group, kind, side, done);
        if step == Step::AddressesUp && !matches!(outcome, Outcome::Done(_)) {
            // The link may have been made anew since the last look.
            if self.take_stock_for(kind).await.is_ok() {
                let again = self.carry_out_kind(kind).await;
                outcome = self.outcome(group, kind, side, done + again);
            }
        }
        outcome
    }

    async fn take_stock_for(&mut self, kind: Kind) -> std::io::Result<()> {
        match kind {
            Kind::Links | Kind::Addresses => self.take_stock_of_links().await,
            Kind::Routes => self.take_stock(None).await.map(drop),
        }
    }

    /// A step is asked for on purpose: what was refused before is tried again at once.
    async fn carry_out_kind(&mut self, kind: Kind) -> usize {
        let changes = plan_kind(self.desired(), &self.actual, kind);
        self.carry_out(&changes).await.len()
    }

    fn outcome(&self, group: &str, kind: Kind, side: Side, done: usize) -> Outcome {
        let states = assess_group(self.desired(), &self.actual, &self.refusals, group, kind);
        let mut reasons: Vec<String> = states.iter().filter_map(State::reason).collect();
        reasons.sort();
        reasons.dedup();
        reasons.truncate(REASONS);
        let count = |word| states.iter().filter(|state| state.as_str() == word).count();
        let (installed, failed) = (count("installed"), count("failed"));
        let waiting = [("pending", count("pending")), ("foreign", count("foreign"))];
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
        Step::Claim
        | Step::CommitFlows
        | Step::Announce
        | Step::ReplicateActive
        | Step::StopClaiming
        | Step::ReplicateBackup
        | Step::Hooks => None,
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
