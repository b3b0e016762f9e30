//! What must always hold, whatever goes wrong.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use lockstep_failover::State;

use crate::kernel::Key;
use crate::lan::Lan;
use crate::router::{Committed, INTERVAL, LOOK_EVERY, Router};

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
    /// Connections that have ended, and never come again. Whatever copies of them are left, as on a
    /// router that took over from one that was dead when they ended, nobody misses them.
    ended: BTreeSet<Key>,
    /// Since when both are master and everything the better one says arrives.
    two_masters: Option<Instant>,
    /// By router: since when the kernel has other than what its state says.
    astray: [Option<Instant>; 2],
    /// By router: since when it claims without the address.
    hollow: [Option<Instant>; 2],
}

/// Longest time a router may claim without the address, beside the commit: links and addresses that
/// are not answered for two seconds each, and a little.
const HOLLOW: Duration = Duration::from_secs(2 + 2 + 1);

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

    /// What a settled router says of itself is what its kernel has: the address is where it is master,
    /// and nowhere else, also after a kill and a new start.
    pub(crate) fn check_addresses(
        &mut self,
        routers: &[Router; 2],
        now: Instant,
    ) -> Result<(), String> {
        for (router, astray) in routers.iter().zip(&mut self.astray) {
            let wrong = router.daemon.as_ref().filter(|_| router.works()).is_some_and(|daemon| {
                let group = &daemon.failover.groups()[0];
                group.is_settled() && router.kernel.address != (group.state() == State::Master)
            });
            if !wrong {
                *astray = None;
                continue;
            }
            let since = *astray.get_or_insert(now);
            if now - since > 2 * LOOK_EVERY {
                let (number, has) = (router.number, router.kernel.address);
                return Err(format!(
                    "router {number} has {} address for {:?}, against its state",
                    if has { "the" } else { "no" },
                    now - since
                ));
            }
        }
        Ok(())
    }

    /// A router that cannot have the address gives up, so that the other can serve.
    pub(crate) fn check_hollow(
        &mut self,
        routers: &[Router; 2],
        now: Instant,
    ) -> Result<(), String> {
        for (router, hollow) in routers.iter().zip(&mut self.hollow) {
            if !router.is_master() || router.kernel.address || router.stalled_until.is_some() {
                *hollow = None;
                continue;
            }
            let since = *hollow.get_or_insert(now);
            if now - since > router.commit_limit() + HOLLOW {
                let number = router.number;
                return Err(format!(
                    "router {number} claims without the address for {:?}",
                    now - since
                ));
            }
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
        committed: Committed,
    ) -> Result<(), String> {
        match committed {
            Committed::Yes => self.check_told(routers, number),
            // The rest comes before it says that it serves.
            Committed::OverLimit => Ok(()),
            Committed::No => Err(format!("router {number} has its address before its flows")),
        }
    }

    /// Every flow that the other has told is in the kernel of the new master.
    pub(crate) fn check_told(
        &mut self,
        routers: &[Router; 2],
        number: usize,
    ) -> Result<(), String> {
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
                let known = known.filter(|key| router.kernel.flows.contains_key(key));
                self.told[number] = known.filter(|key| !self.ended.contains(key)).collect();
            }
        }
    }

    /// A connection has ended, on whichever router.
    pub(crate) fn forget_flow(&mut self, key: &Key) {
        self.ended.insert(*key);
        for told in &mut self.told {
            told.remove(key);
        }
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
