//! What a router says of its role: an answer of one that stands by shows nothing of what is served.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, Weather, World, config};
use lockstep_replicator::{Config, Mode};

fn reason(world: &World, node: usize) -> String {
    world.nodes[node].sync_state().reason
}

fn in_mode(mode: Mode) -> Config {
    Config { mode, ..config() }
}

#[test]
fn two_routers_that_stand_by_prove_nothing_to_each_other_until_one_serves() {
    for mode in [Mode::Ftfw, Mode::Notrack] {
        let mut world = World::with(1, FAIR, &in_mode(mode));
        world.run_s(20);
        for node in [A, B] {
            let said = reason(&world, node);
            assert!(!world.in_sync(node), "{mode:?} {said}");
            assert!(said.contains("stands by as well"), "{mode:?} {said}");
        }
        world.activate(A);
        world.run_s(5);
        for node in [A, B] {
            assert!(world.in_sync(node), "{mode:?} {node} {}", reason(&world, node));
        }
    }
}

#[test]
fn who_serves_without_any_flow_is_known_to_serve() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    for number in 0..10 {
        world.create(A, number);
    }
    world.run_s(5);
    world.assert_replicated(A);
    // Its kernel has nothing left, which it tells nobody: it starts again, and serves on.
    world.kernels[A].clear();
    world.restart(A, &config());
    world.run_s(1);
    assert!(!world.in_sync(B), "{}", reason(&world, B));
    world.activate(A);
    world.run_s(5);
    assert!(world.in_sync(B), "{}", reason(&world, B));
    world.run_s(120);
    world.assert_replicated(A);
}

#[test]
fn a_router_that_begins_to_serve_tells_its_table_once_to_who_had_asked_before() {
    for loss in [0, 20] {
        let weather = Weather { loss, duplication: 0, longest_delay: Duration::from_millis(2) };
        let mut world = World::new(3, weather);
        world.run_s(10);
        for number in 0..500 {
            world.kernels[A].insert(number);
        }
        let before = world.nodes[A].counters().bulks_sent;
        world.activate(A);
        world.run_s(20);
        world.assert_replicated(A);
        world.weather = FAIR;
        world.run_s(10);
        for node in [A, B] {
            assert!(world.in_sync(node), "{loss} {node}: {}", reason(&world, node));
        }
        let copies = world.nodes[A].counters().bulks_sent - before;
        assert!(copies == 1 || loss > 0, "{copies} copies");
    }
}

#[test]
fn a_router_that_leaves_its_role_and_takes_it_again_unheard_is_asked_again() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    world.create(A, 1);
    world.run_s(5);
    assert!(world.in_sync(B));
    let now = world.now;
    world.nodes[A].deactivate(now);
    // What its kernel learns now it tells nobody.
    world.create(A, 2);
    world.activate(A);
    world.run_s(5);
    world.assert_replicated(A);
    assert!(world.in_sync(A) && world.in_sync(B), "{}", reason(&world, B));
}

#[test]
fn flows_told_late_by_who_stands_by_are_no_copy() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    for number in 0..50 {
        world.create(A, number);
    }
    world.run_s(5);
    world.assert_replicated(A);
    // What A tells last does not get through until it stands by.
    world.mute = Some(A);
    for number in 50..60 {
        world.create(A, number);
    }
    let now = world.now;
    world.nodes[A].deactivate(now);
    world.drain(A);
    world.mute = None;
    world.nodes[B].request_resync(now);
    world.drain(B);
    world.run_s(3);
    assert!(!world.in_sync(B), "{}", reason(&world, B));
}

#[test]
fn a_copy_made_while_standing_by_does_not_pass_for_one_of_what_is_served_since() {
    for seed in 0..8 {
        let mut world = World::new(seed, FAIR);
        world.run_s(5);
        for number in 0..600 {
            world.kernels[A].insert(number);
        }
        world.activate(A);
        world.run_s(5);
        world.assert_replicated(A);
        let now = world.now;
        world.nodes[A].deactivate(now);
        world.drain(A);
        // The answer gets lost, whenever it is given, and is repeated behind the first flows.
        world.nodes[B].request_resync(now);
        world.drain(B);
        world.mute = Some(A);
        world.run(Duration::from_millis(50 * seed));
        world.mute = None;
        world.weather = Weather { loss: 40, ..FAIR };
        world.activate(A);
        for _ in 0..200 {
            world.run(Duration::from_millis(20));
            if world.in_sync(B) {
                let (expected, actual) = (world.expected(A), world.external(B));
                assert!(expected.is_subset(&actual), "{seed}: {} told", actual.len());
            }
        }
    }
}

#[test]
fn who_serves_beside_another_that_serves_is_told_everything_all_the_same() {
    let mut world = World::new(1, FAIR);
    world.run_s(5);
    world.kernels = [(0..20).collect(), (100..120).collect()];
    world.activate(A);
    world.activate(B);
    world.run_s(5);
    world.assert_replicated(A);
    world.assert_replicated(B);
}

#[test]
fn who_has_stood_by_and_does_not_ask_is_told_everything_in_the_end() {
    let mut world = World::new(1, FAIR);
    world.run_s(5);
    world.kernels[A] = (0..20).collect();
    world.mute = Some(B);
    world.activate(A);
    world.run_s(3);
    assert_eq!(world.external(B).len(), 20);
    assert!(!world.in_sync(A), "nothing is acknowledged: {}", reason(&world, A));
}
