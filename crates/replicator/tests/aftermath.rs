//! Between the end of a role and the next router's: neighbours still send their packets to the old
//! one, and what begins there is known to nobody else.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, World, config, flow, set};
use lockstep_replicator::{Config, Mode};

/// A has served and has just left its role.
fn a_leaves(mode: Mode) -> World {
    let mut world = World::with(1, FAIR, &Config { mode, ..config() });
    world.run_s(1);
    world.activate(A);
    world.create(A, 1);
    world.run_s(8);
    world.nodes[A].deactivate(world.now);
    world.drain(A);
    world
}

#[test]
fn what_begins_on_the_old_master_before_another_one_serves_is_told() {
    for mode in [Mode::Ftfw, Mode::Notrack, Mode::Alarm] {
        let mut world = a_leaves(mode);
        world.run(Duration::from_millis(500));
        world.create(A, 2);
        world.destroy(A, 1);
        world.run_s(2);
        let expected = set([flow(2)].into_iter());
        assert_eq!(set(world.nodes[B].external_flows()), expected, "{mode:?}");
    }
}

#[test]
fn nothing_is_told_any_more_once_another_one_serves() {
    let mut world = a_leaves(Mode::Ftfw);
    world.kernels[B].insert(1);
    world.activate(B);
    world.run_s(1);
    world.create(A, 2);
    world.run_s(2);
    assert!(!set(world.nodes[B].external_flows()).is_superset(&set([flow(2)].into_iter())));
}

#[test]
fn nothing_is_told_for_long_when_nobody_serves() {
    let mut world = a_leaves(Mode::Ftfw);
    world.run_s(11);
    world.create(A, 2);
    world.run_s(2);
    assert_eq!(set(world.nodes[B].external_flows()), set([flow(1)].into_iter()));
}
