//! Two routers that were given different modes: each that can notice says so, and neither is in sync.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, Weather, World, config};
use lockstep_replicator::{Config, Mode, Replicator, Start};

const MODES: [Mode; 3] = [Mode::Ftfw, Mode::Notrack, Mode::Alarm];

fn in_mode(mode: Mode) -> Config {
    Config { mode, ..config() }
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Ftfw => "FTFW",
        Mode::Notrack => "NOTRACK",
        Mode::Alarm => "ALARM",
    }
}

/// A in one mode serves, B in another one stands by.
fn mixed(serving: Mode, standing_by: Mode) -> World {
    let mut world = World::with(1, FAIR, &in_mode(serving));
    // What was said in the other mode before is not to arrive.
    world.cut();
    world.connected = true;
    let start = Start { first_sequence: 7_000, secret: 43, max_datagram: 1472 };
    world.nodes[B] = Replicator::new(in_mode(standing_by), start, world.now);
    world.activate(A);
    world
}

fn pairs() -> impl Iterator<Item = (Mode, Mode)> {
    let others = |one| MODES.into_iter().filter(move |other| *other != one);
    MODES.into_iter().flat_map(move |one| others(one).map(move |other| (one, other)))
}

#[track_caller]
fn assert_noticed(world: &World, modes: (Mode, Mode)) {
    for (node, other) in [(A, modes.1), (B, modes.0)] {
        let state = world.nodes[node].sync_state();
        let said = format!("seems to run the mode {}:", word(other));
        assert!(!state.in_sync, "{modes:?}, node {node}: {}", state.reason);
        assert!(state.reason.contains(&said), "{modes:?}, node {node}: {}", state.reason);
        let peer = world.nodes[node].peer(world.now).unwrap();
        assert!(peer.suspicion.is_some_and(|it| it.contains(&said)), "{modes:?}, node {node}");
    }
}

#[test]
fn both_routers_notice_another_mode_where_nothing_happens() {
    for modes in pairs() {
        let mut world = mixed(modes.0, modes.1);
        world.run_s(20);
        assert_noticed(&world, modes);
    }
}

#[test]
fn both_routers_notice_another_mode_with_a_few_flows() {
    for modes in pairs() {
        let mut world = mixed(modes.0, modes.1);
        for number in 0..20 {
            world.create(A, number);
        }
        world.run_s(25);
        assert_noticed(&world, modes);
        world.run_s(300);
        assert_noticed(&world, modes);
    }
}

/// The router that serves always has something to say, so that it never says ALIVE in between.
#[test]
fn both_routers_notice_another_mode_where_flows_come_and_go_all_the_time() {
    for modes in pairs() {
        let mut world = mixed(modes.0, modes.1);
        for number in 0..600 {
            world.create(A, number);
        }
        for round in 0..1_000 {
            world.create(A, 10_000 + round);
            world.run(Duration::from_millis(150));
            world.destroy(A, 10_000 + round);
            world.run(Duration::from_millis(150));
        }
        assert_noticed(&world, modes);
    }
}

#[test]
fn a_peer_whose_mode_is_put_right_is_suspected_no_more() {
    for modes in pairs() {
        let mut world = mixed(modes.0, modes.1);
        for number in 0..20 {
            world.create(A, number);
        }
        world.run_s(25);
        assert_noticed(&world, modes);
        world.restart(B, &in_mode(modes.0));
        world.run_s(120);
        for node in [A, B] {
            let state = world.nodes[node].sync_state();
            assert!(state.in_sync, "{modes:?}, node {node}: {}", state.reason);
        }
    }
}

#[test]
fn a_pair_of_one_mode_is_never_suspected_whatever_happens() {
    let weather = Weather { loss: 40, duplication: 10, longest_delay: Duration::from_millis(5) };
    for mode in MODES {
        for (seed, flows, every) in [(1, 0, 700), (2, 30, 300), (3, 300, 100), (4, 5, 2_500)] {
            let mut world = World::with(seed, weather, &in_mode(mode));
            world.activate(A);
            for number in 0..flows {
                world.create(A, number);
            }
            for round in 0..400_000 / every {
                world.create(A, 10_000 + round);
                world.run(Duration::from_millis(every.into()));
                if round % 3 != 0 {
                    world.destroy(A, 10_000 + round);
                }
                for node in [A, B] {
                    let said = world.nodes[node].sync_state().reason;
                    assert!(!said.contains("seems"), "{mode:?} {seed} {node} {round}: {said}");
                }
            }
        }
    }
}
