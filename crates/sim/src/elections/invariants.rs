//! What must hold between the routers of a LAN.

use std::time::{Duration, Instant};

use lockstep_failover::State;

use super::frame::understands;
use super::router::Router;
use crate::lan::{Lan, MAX_ROUTERS};

/// What the invariants remember between two steps.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    /// Since when two masters hear everything that the other says.
    two_masters: [[Option<Instant>; MAX_ROUTERS]; MAX_ROUTERS],
    any_two_masters: bool,
    /// By direction: advertisements lost in a row.
    lost_in_a_row: [[u32; MAX_ROUTERS]; MAX_ROUTERS],
    /// Things that happened and are a reason to change states.
    pub(super) causes: u64,
}

impl Invariants {
    /// An advertisement was carried, or not.
    pub(super) fn note_carried(
        &mut self,
        from: usize,
        to: usize,
        arrives: bool,
        lan: &Lan,
        interval: Duration,
        now: Instant,
    ) {
        let lost = &mut self.lost_in_a_row[from][to];
        if arrives {
            *lost = 0;
            return;
        }
        *lost += 1;
        // Where the way takes longer than the interval, one lost is a silence of three.
        let enough = if lan.delay > interval { 1 } else { 2 };
        self.causes += u64::from(*lost == enough);
        let (low, high) = (from.min(to), from.max(to));
        if let Some(since) = &mut self.two_masters[low][high] {
            *since = now;
        }
    }

    /// At most one master among routers that hear each other.
    pub(super) fn check_masters(
        &mut self,
        routers: &[Router],
        lan: &Lan,
        now: Instant,
    ) -> Result<(), String> {
        let masters = routers.iter().filter(|router| router.is_master()).count();
        if masters < 2 {
            if self.any_two_masters {
                self.two_masters = Default::default();
                self.any_two_masters = false;
            }
            return Ok(());
        }
        self.any_two_masters = true;
        for (high, second) in routers.iter().enumerate() {
            for (low, first) in routers[..high].iter().enumerate() {
                let since = &mut self.two_masters[low][high];
                if !both_masters_that_hear_each_other(first, second, lan) {
                    *since = None;
                    continue;
                }
                let since = *since.get_or_insert(now);
                let bound = bound_of(first).max(bound_of(second)) + 2 * lan.delay;
                if now - since > bound {
                    return Err(format!(
                        "routers {low} and {high} are masters and hear each other for {:?}",
                        now - since
                    ));
                }
            }
        }
        Ok(())
    }

    /// No flapping: at most two changes to or from master for each router and cause.
    pub(super) fn check_flapping(&self, router: &Router) -> Result<(), String> {
        let bound = 2 + 2 * (self.causes + router.failures);
        if router.transitions > bound {
            return Err(format!(
                "router {} changed its state {} times for {} causes",
                router.number,
                router.transitions,
                self.causes + router.failures
            ));
        }
        Ok(())
    }
}

fn both_masters_that_hear_each_other(first: &Router, second: &Router, lan: &Lan) -> bool {
    let (Some(one), Some(other)) = (&first.daemon, &second.daemon) else { return false };
    let speak = first.can_speak() && second.can_speak();
    let masters = first.is_master() && second.is_master();
    let cut = lan.cut[first.number][second.number] || lan.cut[second.number][first.number];
    masters && speak && !cut && understands(&one.settings, &other.settings)
}

/// One master down interval.
fn bound_of(router: &Router) -> Duration {
    router.daemon.as_ref().map_or(Duration::ZERO, |daemon| daemon.terms().down(daemon.interval()))
}

/// Whether nothing is left to change: one master, with the addresses, whom nobody wants to replace,
/// and everybody else is backup.
///
/// # Errors
/// What is left, in a sentence.
pub(super) fn settled(routers: &[Router]) -> Result<(), &'static str> {
    let mut master = None;
    for router in routers {
        let Some(daemon) = &router.daemon else { return Err("a router does not run") };
        let group = &daemon.failover.groups()[0];
        if !group.is_settled() {
            return Err("a transition is under way");
        }
        match (group.state(), router.is_master()) {
            (State::Master, true) => {
                if master.replace(router).is_some() {
                    return Err("there are two masters");
                }
            }
            (State::Backup, false) => {}
            (State::Fault, false) => return Err("a router is in fault"),
            (State::Init | State::Stopped, false) => return Err("a router takes no part"),
            _ => return Err("a group and its election disagree"),
        }
        if router.has_address != router.is_master() {
            return Err("the address is not where the master is");
        }
    }
    let Some(master) = master else { return Err("there is no master") };
    let highest = master.daemon.as_ref().map_or(0, |daemon| daemon.priority);
    for router in routers {
        let Some(daemon) = &router.daemon else { continue };
        if daemon.priority > highest && daemon.terms().preempts() {
            return Err("a better router has not replaced the master");
        }
        if daemon.election.master_address() != Some(master.address) {
            return Err("a backup takes another for the master");
        }
    }
    Ok(())
}
