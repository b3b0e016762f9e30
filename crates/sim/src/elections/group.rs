//! The failover group of an election, and what it tracks.

use lockstep_failover::{self as failover, Group, Subject, Track};
use lockstep_vrrp::Config;

/// The name of the only virtual router.
pub(super) const NAME: &str = "inside";

/// The group of the only virtual router; its uplink takes `weight` from the priority while it is bad.
pub(super) fn group(settings: &Config, weight: u8) -> failover::Config {
    let uplink = Track { subject: uplink(), weight: Some(-i16::from(weight)) };
    failover::Config {
        groups: vec![Group {
            name: "gateway".to_owned(),
            virtual_routers: vec![failover::VirtualRouter {
                priority: settings.priority.value(),
                track: if weight > 0 { vec![uplink] } else { Vec::new() },
                ..failover::VirtualRouter::new(NAME, "eth0")
            }],
            ..Group::default()
        }],
        checks: Vec::new(),
    }
}

/// What is tracked with a weight.
pub(super) fn uplink() -> Subject {
    Subject::Interface("eth1".to_owned())
}
