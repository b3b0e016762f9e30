//! What must always hold, whatever goes wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use crate::kernel::Key;
use crate::lan::Lan;
use crate::router::{INTERVAL, Router};

/// Something that must never happen has happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// When, counted from the start of the run.
    pub at: Duration,
    /// What, in a sentence.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {:.6} s: {}", self.at.as_secs_f64(), self.what)
    }
}

/// Longest time two masters may hear each other: three intervals and the worst skew.
const MASTER_DOWN_INTERVAL: Duration = Duration::from_millis(3 * 100 + 100);

/// What the invariants remember between two steps.
#[derive(Debug, Default)]
pub(crate) struct Invariants {
    /// By router: flows the other one has acknowledged and that still exist here.
    told: [BTreeSet<Key>; 2],
    /// Since when both are master and everything the better one says arrives.
    two_masters: Option<Instant>,
}

impl Invariants {
    /// At most one master among routers that hear each other.
    pub(crate) fn check_masters(
        &mut self,
        routers: &[Router; 2],
        lan: &Lan,
        now: Instant,
    ) -> Result<(), String> {
        let stalled = routers.iter().any(|router| router.stalled_until.is_some());
        let both = routers.iter().all(Router::is_master);
        if !both || stalled || !lan.is_reliable(0, 1) {
            self.two_masters = None;
            return Ok(());
        }
        let since = *self.two_masters.get_or_insert(now);
        if now - since > MASTER_DOWN_INTERVAL + lan.delay {
            return Err(format!("two masters for {:?}", now - since));
        }
        Ok(())
    }

    /// A master that has heard a better one is no longer master.
    pub(crate) fn check_superseded(router: &Router, was_heard: bool) -> Result<(), String> {
        if router.number == 1 && was_heard && router.stalled_until.is_none() && router.is_master() {
            return Err("router 1 is still master after it heard router 0".to_owned());
        }
        Ok(())
    }

    /// Addresses go up after the commit, and then every flow that was told is there.
    pub(crate) fn check_address_up(
        &mut self,
        routers: &[Router; 2],
        number: usize,
        committed: bool,
    ) -> Result<(), String> {
        if !committed {
            return Err(format!("router {number} has its address before its flows"));
        }
        let told = std::mem::take(&mut self.told[1 - number]);
        let flows = &routers[number].kernel.flows;
        let missing = told.iter().filter(|key| !flows.contains_key(key)).count();
        if missing > 0 {
            return Err(format!(
                "router {number} took over without {missing} of {} flows it was told",
                told.len()
            ));
        }
        Ok(())
    }

    /// Remembers what one router has told the other and the other has acknowledged.
    pub(crate) fn note_told(&mut self, routers: &[Router; 2], now: Instant) {
        for (number, router) in routers.iter().enumerate() {
            let (Some(from), Some(to)) = (&router.daemon, &routers[1 - number].daemon) else {
                continue;
            };
            if from.has_told_all(now) && to.holds_all() {
                let known = from.replicator.internal_flows().map(|flow| flow.orig);
                self.told[number] =
                    known.filter(|key| router.kernel.flows.contains_key(key)).collect();
            }
        }
    }

    /// A flow has ended on a router.
    pub(crate) fn forget_flow(&mut self, number: usize, key: &Key) {
        self.told[number].remove(key);
    }

    /// The other router has lost what this one told it, or this one begins anew.
    pub(crate) fn forget_told(&mut self, number: usize) {
        self.told[number].clear();
    }

    /// Once the faults have stopped: one master with the address, and a complete standby.
    pub(crate) fn check_settled(routers: &[Router; 2]) -> Result<(), String> {
        let masters: Vec<_> = routers.iter().filter(|router| router.is_master()).collect();
        let [master] = masters[..] else {
            return Err(format!("{} masters after the faults have stopped", masters.len()));
        };
        let standby = &routers[1 - master.number];
        if !master.kernel.address || standby.kernel.address {
            return Err("the address is not where the master is".to_owned());
        }
        let Some(daemon) = &standby.daemon else {
            return Err("the standby does not run".to_owned());
        };
        if !daemon.holds_all() {
            return Err(format!("the standby says: {}", daemon.replicator.sync_state().reason));
        }
        let held: BTreeSet<Key> =
            daemon.replicator.external_flows().map(|flow| flow.orig).collect();
        let real: BTreeSet<Key> = master.kernel.flows.keys().copied().collect();
        let (missing, stale) = (real.difference(&held).count(), held.difference(&real).count());
        if missing + stale > 0 {
            return Err(format!("the standby lacks {missing} flows and has {stale} stale ones"));
        }
        Ok(())
    }
}

/// How long two routers need at most to settle once nothing goes wrong any more: what a peer that came
/// back empty did not confirm is kept for the purge time of a minute.
pub(crate) const SETTLE: Duration = Duration::from_secs(90);

const _: () = assert!(MASTER_DOWN_INTERVAL.as_millis() == 4 * INTERVAL.as_millis());
