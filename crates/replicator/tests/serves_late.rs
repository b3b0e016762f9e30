//! A peer that answers before it serves, and a takeover before it has told everything.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, Weather, World, config};
use lockstep_replicator::{Action, Config, Mode, Standby};

const FLOWS: u32 = 30_000;

const WAYS: [(Mode, Standby); 4] = [
    (Mode::Ftfw, Standby::Cache),
    (Mode::Ftfw, Standby::Kernel),
    (Mode::Notrack, Standby::Cache),
    (Mode::Notrack, Standby::Kernel),
];

/// Some milliseconds on the way, so that a copy takes time.
const SLOW: Weather = Weather { loss: 0, duplication: 0, longest_delay: Duration::from_millis(2) };

/// A has every flow in its kernel; whether it `served` just now, or its daemon has started again. B
/// has answered with nothing, serves now, and its copy has begun to arrive.
fn copy_begins(mode: Mode, standby: Standby, served: bool) -> World {
    let config = Config { mode, standby, ..config() };
    let mut world = World::with(1, FAIR, &config);
    world.run_s(1);
    world.activate(A);
    for number in 0..FLOWS {
        world.kernels[A].insert(number);
        world.kernels[B].insert(number);
    }
    world.dump(A);
    world.run_s(20);
    world.weather = SLOW;
    if served {
        world.nodes[A].deactivate(world.now);
        world.drain(A);
    } else {
        world.restart(A, &config);
    }
    world.run_s(6);
    let commit = world.nodes[B].begin_commit();
    world.nodes[B].end_commit(commit.report());
    world.activate(B);
    for _ in 0..10_000 {
        if world.nodes[A].external_flows().count() > (FLOWS as usize) / 20 && told(&world) {
            return world;
        }
        world.run(Duration::from_millis(1));
    }
    panic!("{mode:?} {standby:?}: nothing arrives");
}

/// Whether B has told A something by now.
fn told(world: &World) -> bool {
    world.nodes[A].counters().external_created > 0
}

fn removed(world: &mut World) -> usize {
    let mut commit = world.nodes[A].begin_commit();
    let mut removed = 0;
    while let Some(planned) = commit.next(&world.nodes[A], world.now) {
        removed += usize::from(planned.action == Action::Delete);
        commit.done(&planned);
    }
    removed
}

#[test]
fn a_copy_that_began_after_an_empty_answer_removes_nothing_before_it_has_ended() {
    for (mode, standby) in WAYS {
        for served in [true, false] {
            let mut world = copy_begins(mode, standby, served);
            let arrived = world.nodes[A].external_flows().count();
            assert!(arrived < FLOWS as usize, "{mode:?} {standby:?} {served}: all at once");
            let state = world.nodes[A].sync_state();
            assert!(!state.in_sync, "{mode:?} {standby:?} {served}: {}", state.reason);
            // The peer dies, and what was on its way is lost.
            world.cut();
            assert_eq!(removed(&mut world), 0, "{mode:?} {standby:?} {served}, {arrived} known");
            world.run_s(10);
            assert_eq!(removed(&mut world), 0, "{mode:?} {standby:?} {served}, silent");
        }
    }
}

#[test]
fn once_that_copy_has_ended_what_it_lacks_is_left_over() {
    for (mode, standby) in WAYS {
        let mut world = copy_begins(mode, standby, false);
        world.destroy(B, 7);
        world.run_s(15);
        let state = world.nodes[A].sync_state();
        assert!(state.in_sync, "{mode:?} {standby:?}: {}", state.reason);
        world.assert_replicated(B);
        assert_eq!(removed(&mut world), 1, "{mode:?} {standby:?}");
    }
}
