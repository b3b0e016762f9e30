//! What a router's configuration file says, how it changes, and what each machine is told of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fastrand::Rng;
use lockstep_failover::{self as failover, Group, HAND_OVER_LIMIT, Limits, Notify, OnFailure};
use lockstep_replicator::{Config as ReplicatorConfig, Link};
use lockstep_vrrp::{self as vrrp, Family, Priority, Version, Vrid};

use super::{CHECK, GROUP, INTERVAL, NAME};
use crate::faults::Weather;

/// The last number of the virtual address that is there from the beginning.
const ADDRESS: u8 = 1;
/// Those of the addresses that come and go.
const MORE_ADDRESSES: [u8; 3] = [11, 12, 13];

/// A configuration file.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    priority: u8,
    preempt: bool,
    preempt_delay: Duration,
    pub(crate) limits: Limits,
    /// The last number of each virtual address; never empty.
    pub(crate) addresses: BTreeSet<u8>,
    /// Whether a group cannot do without its hooks.
    pub(crate) hooks_matter: bool,
    holds_forwarding: bool,
}

/// What an operator changes, on one router after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// The priority of each router.
    Priorities([u8; 2]),
    /// Whether and after which time the better router takes mastership back.
    Preempt(bool, Duration),
    /// How long is waited for a commit, and for the flows of a master that is to be replaced.
    Limits(Limits),
    /// Another virtual address.
    AddAddress(u8),
    /// One address less, unless it is the last.
    RemoveAddress(u8),
}

impl Change {
    /// What is changed next.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let one = |rng: &mut Rng| {
            let all = [ADDRESS, MORE_ADDRESSES[0], MORE_ADDRESSES[1], MORE_ADDRESSES[2]];
            all[rng.usize(..all.len())]
        };
        match rng.u8(..8) {
            0 => Self::Priorities([100, 150]),
            1 => Self::Priorities([150, 100]),
            2 => Self::Priorities([120, 120]),
            3 => Self::Preempt(rng.bool(), Duration::from_millis(rng.u64(..2) * rng.u64(..2_000))),
            4 => Self::Limits(limits(rng)),
            5 | 6 => Self::AddAddress(one(rng)),
            _ => Self::RemoveAddress(one(rng)),
        }
    }

    /// Whether it may change who is master.
    pub(crate) fn concerns_election(&self) -> bool {
        matches!(self, Self::Priorities(_) | Self::Preempt(..) | Self::Limits(_))
    }
}

/// Some limits of a group.
pub(crate) fn limits(rng: &mut Rng) -> Limits {
    let commit =
        if rng.bool() { Duration::from_secs(30) } else { Duration::from_millis(rng.u64(10..300)) };
    let preempt = rng.bool().then(|| Duration::from_millis(rng.u64(500..10_000)));
    Limits { commit, preempt_without_flows: preempt }
}

impl Settings {
    pub(super) fn first(number: usize, weather: &Weather) -> Self {
        Self {
            priority: if number == 0 { 150 } else { 100 },
            preempt: weather.preempt,
            preempt_delay: Duration::ZERO,
            limits: weather.limits,
            addresses: BTreeSet::from([ADDRESS]),
            hooks_matter: weather.hooks_matter,
            holds_forwarding: weather.holds_forwarding,
        }
    }

    /// The same with a change.
    pub(crate) fn with(&self, number: usize, change: Change) -> Self {
        let mut settings = self.clone();
        match change {
            Change::Priorities(priorities) => settings.priority = priorities[number],
            Change::Preempt(preempt, delay) => {
                (settings.preempt, settings.preempt_delay) = (preempt, delay);
            }
            Change::Limits(limits) => settings.limits = limits,
            Change::AddAddress(address) => drop(settings.addresses.insert(address)),
            Change::RemoveAddress(address) => {
                settings.addresses.remove(&address);
                if settings.addresses.is_empty() {
                    settings.addresses.insert(address);
                }
            }
        }
        settings
    }

    pub(super) fn election(&self) -> vrrp::Config {
        let address = |last: &u8| IpAddr::from(Ipv4Addr::new(10, 1, 1, *last));
        vrrp::Config {
            priority: Priority::new(self.priority).expect("not 0"),
            preempt: self.preempt,
            preempt_delay: self.preempt_delay,
            advertisement_interval: INTERVAL,
            addresses: self.addresses.iter().map(address).collect(),
            ..vrrp::Config::new(Vrid::new(51).expect("not 0"), Version::V3, Family::Ipv4)
        }
    }

    pub(super) fn failover(&self) -> failover::Config {
        let on_failure = if self.hooks_matter { OnFailure::Fault } else { OnFailure::Ignore };
        let member = failover::VirtualRouter::new(NAME, "eth0");
        failover::Config {
            groups: vec![Group {
                name: GROUP.to_owned(),
                virtual_routers: vec![failover::VirtualRouter {
                    priority: self.priority,
                    ..member
                }],
                notify: Notify { on_failure, ..Notify::default() },
                replicated: true,
                holds_forwarding: self.holds_forwarding,
                checks: vec![CHECK.to_owned()],
                limits: self.limits,
                hand_over_limit: HAND_OVER_LIMIT,
                ..Group::default()
            }],
            checks: vec![failover::Check {
                name: CHECK.to_owned(),
                command: vec!["/bin/true".to_owned()],
                user: None,
                interval: Duration::from_secs(1),
                timeout: Duration::from_secs(1),
                rise: 1,
                fall: 1,
            }],
        }
    }
}

pub(super) fn replication() -> ReplicatorConfig {
    let group = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 50));
    let mut config = ReplicatorConfig::new(GROUP, vec![Link::multicast("eth0", group)]);
    config.cache_limit = 100_000;
    config
}
