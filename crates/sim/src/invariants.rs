//! What must always hold, whatever goes wrong.

mod waiting;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_failover::{HAND_OVER_LIMIT, State};

use crate::kernel::{Kernel, Key, own_address};
use crate::lan::Lan;
use crate::router::{Committed, INTERVAL, LOOK_EVERY, Router, address};
use waiting::Waiting;

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
    /// By router: those that it was told until its last commit, before its addresses are up.
    committed: [BTreeSet<Key>; 2],
    /// Connections that have ended, and never come again. Whatever copies of them are left, as on a
    /// router that took over from one that was dead when they ended, nobody misses them.
    ended: BTreeSet<Key>,
    /// Since when both are master and everything the better one says arrives, and which that is.
    two_masters: Option<(Instant, usize)>,
    /// By router: since when the kernel has other than what its state says.
    astray: [Option<Instant>; 2],
    /// By router: since when it claims without the address.
    hollow: [Option<Instant>; 2],
    /// By router: since when it has addresses without being master in its election.
    overstays: [Option<Instant>; 2],
    /// By router: since when it is master although it is in maintenance.
    maintained: [Option<Instant>; 2],
    /// By router: the flows that begin there.
    own: [BTreeSet<Key>; 2],
    /// By router.
    waiting: [Waiting; 2],
}

/// Longest time a router may claim without the address, beside the commit: the packet filter, links and
/// addresses that are not answered for two seconds each, and a little.
const HOLLOW: Duration = Duration::from_secs(2 + 2 + 2 + 1);

/// Longest time that a router keeps its addresses without being master: a hand-over waits for a claim
/// (an interval and a second) and for the successor to serve, and two steps may not be answered.
const OVERSTAY: Duration =
    HAND_OVER_LIMIT.saturating_add(Duration::from_millis(100 + 1_000 + 2_000 + 2_000));

/// Longest time that maintenance waits: the barrier, and then what it waits for.
const HAND_OVER: Duration = OVERSTAY.saturating_add(Duration::from_secs(10));

impl Invariants {
    /// At most one master among routers that hear each other.
    pub(crate) fn check_masters(
        &mut self,
        routers: &[Router; 2],
        lan: &Lan,
        now: Instant,
    ) -> Result<(), String> {
        let [Some(first), Some(second)] = [0, 1].map(|number| routers[number].mastership()) else {
            self.two_masters = None;
            return Ok(());
        };
        // The higher address wins a tie.
        let better = usize::from(first <= second);
        if !lan.is_reliable(better, 1 - better) {
            self.two_masters = None;
            return Ok(());
        }
        let (since, before) = *self.two_masters.get_or_insert((now, better));
        if before != better {
            self.two_masters = Some((now, better));
        } else if now - since > MASTER_DOWN_INTERVAL + lan.delay {
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
                let is_master = group.state() == State::Master;
                let nothing = BTreeSet::new();
                let due = if is_master { &daemon.declared } else { &nothing };
                let holds = router.kernel.holds_forwarding;
                group.is_settled() && (holds || router.kernel.addresses != *due)
            });
            if !wrong {
                *astray = None;
                continue;
            }
            let since = *astray.get_or_insert(now);
            if now - since > 2 * LOOK_EVERY {
                let Kernel { addresses: has, holds_forwarding: holds, .. } = &router.kernel;
                let number = router.number;
                return Err(format!(
                    "router {number} has the addresses {has:?} (holds forwarding: {holds}) for {:?}, \
                     against its state",
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
            if !router.is_master() || router.kernel.serves() || router.stalled_until.is_some() {
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

    /// A router that is no master in its election lets go of the addresses, in whatever way it has
    /// ceased to be one; a master that hands over may wait for its successor to serve.
    pub(crate) fn check_overstay(
        &mut self,
        routers: &[Router; 2],
        now: Instant,
    ) -> Result<(), String> {
        for (router, overstays) in routers.iter().zip(&mut self.overstays) {
            let may = router.is_master() || !router.works() || !router.is_guarded();
            if may || !router.kernel.serves() {
                *overstays = None;
                continue;
            }
            let since = *overstays.get_or_insert(now);
            if now - since > OVERSTAY {
                let number = router.number;
                let time = now - since;
                return Err(format!("router {number} keeps addresses as no master for {time:?}"));
            }
        }
        Ok(())
    }

    /// A router in maintenance gives mastership up and does not take it.
    pub(crate) fn check_maintenance(
        &mut self,
        routers: &[Router; 2],
        now: Instant,
    ) -> Result<(), String> {
        for (router, since) in routers.iter().zip(&mut self.maintained) {
            let is_master = router
                .daemon
                .as_ref()
                .is_some_and(|daemon| daemon.failover.groups()[0].state() == State::Master);
            if router.maintenance.is_none() || router.stalled_until.is_some() || !is_master {
                *since = None;
                continue;
            }
            let since = *since.get_or_insert(now);
            if now - since > HAND_OVER {
                let (number, time) = (router.number, now - since);
                return Err(format!("router {number} is master in maintenance for {time:?}"));
            }
        }
        Ok(())
    }

    /// Nobody touches what a router itself has in its table.
    pub(crate) fn check_own_flows(&self, routers: &[Router; 2]) -> Result<(), String> {
        for (router, own) in routers.iter().zip(&self.own) {
            let gone = own.iter().filter(|key| !router.kernel.flows.contains_key(key)).count();
            if gone > 0 {
                let number = router.number;
                return Err(format!("{gone} flows of router {number} itself were removed"));
            }
        }
        Ok(())
    }

    /// A flow begins at a router itself, or ends there.
    pub(crate) fn own_flow(&mut self, number: usize, key: Key, lives: bool) {
        if lives {
            self.own[number].insert(key);
        } else {
            self.own[number].remove(&key);
        }
    }

    /// Those that a router has, in the order in which they are told apart.
    pub(crate) fn own_flows(&self, number: usize) -> impl Iterator<Item = &Key> {
        self.own[number].iter()
    }

    /// The router has begun with an empty table.
    pub(crate) fn forget_own(&mut self, number: usize) {
        self.own[number].clear();
    }

    /// A master that has heard a better one is no longer master. `before` is what it was before, and
    /// in which words it would have been compared.
    pub(crate) fn check_superseded(
        before: Option<u8>,
        heard: (u8, IpAddr),
        router: &Router,
    ) -> Result<(), String> {
        let Some(ours) = before else { return Ok(()) };
        let (theirs, source) = heard;
        let is_better = theirs > ours || (theirs == ours && source > address(router.number));
        if is_better && router.is_master() {
            let number = router.number;
            return Err(format!(
                "router {number} with priority {ours} is still master after it heard {theirs}"
            ));
        }
        Ok(())
    }

    /// A commit has ended: what the other had told until now is in the kernel when addresses go up.
    /// What it tells afterwards, as one does that hands over and serves on, follows before this
    /// router says that it serves.
    pub(crate) fn committed(&mut self, number: usize) {
        self.committed[number].clone_from(&self.told[1 - number]);
    }

    /// Addresses go up after the commit, and then every flow that was told before it is there.
    pub(crate) fn check_address_up(
        &mut self,
        routers: &[Router; 2],
        number: usize,
        committed: Committed,
    ) -> Result<(), String> {
        let due = std::mem::take(&mut self.committed[number]);
        match committed {
            Committed::Yes => check_flows(&routers[number], &due),
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
        check_flows(&routers[number], &std::mem::take(&mut self.told[1 - number]))
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
        for told in self.told.iter_mut().chain(&mut self.committed) {
            told.remove(key);
        }
    }

    /// Another limit of the commit counts from now.
    pub(crate) fn limit_changes(&mut self, number: usize) {
        self.hollow[number] = None;
    }

    /// The other router has lost what this one told it, or this one begins anew.
    pub(crate) fn forget_told(&mut self, number: usize) {
        self.told[number].clear();
        self.committed[1 - number].clear();
    }

    /// Once the faults have stopped: one master with the address, and a complete standby.
    pub(crate) fn check_settled(routers: &[Router; 2]) -> Result<(), String> {
        let masters: Vec<_> = routers.iter().filter(|router| router.is_master()).collect();
        let [master] = masters[..] else {
            return Err(format!("{} masters after the faults have stopped", masters.len()));
        };
        let standby = &routers[1 - master.number];
        if !master.kernel.serves() || standby.kernel.serves() {
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
        let real = master.kernel.flows.keys().copied();
        let real: BTreeSet<Key> =
            real.filter(|key| key.source != own_address(master.number)).collect();
        let (missing, stale) = (real.difference(&held).count(), held.difference(&real).count());
        if missing + stale > 0 {
            return Err(format!("the standby lacks {missing} flows and has {stale} stale ones"));
        }
        routers.iter().try_for_each(check_hooks)
    }
}

/// Whether a new master has what it was told.
fn check_flows(router: &Router, told: &BTreeSet<Key>) -> Result<(), String> {
    let missing = told.iter().filter(|key| !router.kernel.flows.contains_key(key)).count();
    if missing == 0 {
        return Ok(());
    }
    let (number, all) = (router.number, told.len());
    Err(format!("router {number} took over without {missing} of {all} flows it was told"))
}

/// The last hooks that ran on a router were for what it is.
fn check_hooks(router: &Router) -> Result<(), String> {
    let number = router.number;
    let Some(daemon) = &router.daemon else { return Err(format!("router {number} does not run")) };
    let state = Some(daemon.state());
    let ran_for = router.hooks.ran_for();
    if ran_for == [state; 2] {
        return Ok(());
    }
    let [of_router, of_group] = ran_for.map(|state| state.map(State::as_str));
    Err(format!(
        "router {number} is {}; its hooks ran for {of_router:?} and {of_group:?}",
        daemon.state().as_str()
    ))
}

/// Nothing is settled before what a purge may do has been done.
pub(crate) const SETTLE_AT_LEAST: Duration = Duration::from_secs(70);

/// How long two routers need at most to settle once nothing goes wrong any more: a group that could not
/// serve tries again after a minute, and what a peer that came back empty did not confirm is kept for
/// the purge time of another.
pub(crate) const SETTLE: Duration = Duration::from_secs(150);

const _: () = assert!(MASTER_DOWN_INTERVAL.as_millis() == 4 * INTERVAL.as_millis());
