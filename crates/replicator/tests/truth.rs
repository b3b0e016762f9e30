//! When a router says that it is in sync, a takeover would lose nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{A, B, FAIR, World, config};
use lockstep_replicator::{Change, Config, Mode, Replicator, Start};

fn reason(world: &World, node: usize) -> String {
    world.nodes[node].sync_state().reason
}

#[test]
fn an_active_router_without_a_peer_is_not_in_sync_and_says_who_is_missing() {
    let mut world = World::new(1, FAIR);
    world.cut();
    world.activate(A);
    world.create(A, 1);
    world.run_s(10);
    assert!(!world.in_sync(A));
    let alone = "no peer is there: nobody could take over with these flows";
    assert_eq!(reason(&world, A), alone);
    world.connected = true;
    world.run_s(10);
    assert!(world.in_sync(A), "{}", reason(&world, A));
    world.cut();
    world.run_s(10);
    assert!(!world.in_sync(A));
    let silent = format!("the peer {} has fallen silent", World::address(B));
    assert!(reason(&world, A).contains(&silent), "{}", reason(&world, A));
}

#[test]
fn an_active_router_that_steps_back_is_judged_by_what_it_holds_then() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    world.create(A, 1);
    world.run_s(5);
    assert!(world.in_sync(A) && world.in_sync(B));
    let now = world.now;
    world.nodes[A].deactivate(now);
    assert!(!world.in_sync(A), "it has not asked for the flows of the others yet");
    world.activate(B);
    world.run_s(10);
    assert!(world.in_sync(A) && world.in_sync(B), "{}", reason(&world, A));
}

#[test]
fn routers_of_different_modes_are_not_in_sync_and_say_so() {
    let in_mode = |mode| Config { mode, ..config() };
    for (here, there, word, word_there) in
        [(Mode::Ftfw, Mode::Notrack, "NOTRACK", "FTFW"), (Mode::Ftfw, Mode::Alarm, "ALARM", "FTFW")]
    {
        for active in [A, B] {
            let mut world = World::with(1, FAIR, &in_mode(here));
            // What was said in the other mode before is not to arrive.
            world.cut();
            world.connected = true;
            let start = Start { first_sequence: 7_000, secret: 43, max_datagram: 1472 };
            world.nodes[B] = Replicator::new(in_mode(there), start, world.now);
            world.activate(active);
            for number in 0..20 {
                world.create(active, number);
            }
            world.run_s(15);
            for (node, word) in [(A, word), (B, word_there)] {
                let said = reason(&world, node);
                let expected = format!("seems to run the mode {word}:");
                assert!(!world.in_sync(node), "{here:?} {there:?} {node}: {said}");
                assert!(said.contains(&expected), "{here:?} {there:?} {node}: {said}");
            }
        }
    }
}

#[test]
fn routers_of_the_same_mode_are_not_suspected_whatever_is_lost() {
    use common::Weather;
    use std::time::Duration;
    let weather = Weather { loss: 30, duplication: 10, longest_delay: Duration::from_millis(5) };
    for mode in [Mode::Notrack, Mode::Alarm] {
        for seed in 1..10 {
            let mut world = World::with(seed, weather, &Config { mode, ..config() });
            world.activate(A);
            for number in 0..60 {
                world.create(A, number);
                world.run(Duration::from_millis(1300));
                for node in [A, B] {
                    let said = reason(&world, node);
                    assert!(!said.contains("seems"), "{mode:?} {seed} {node}: {said}");
                }
            }
        }
    }
}

#[test]
fn a_backup_in_the_mode_alarm_says_that_it_is_there() {
    let mut world = World::with(1, FAIR, &Config { mode: Mode::Alarm, ..config() });
    world.activate(A);
    world.create(A, 1);
    world.run_s(10);
    assert!(world.in_sync(A), "{}", reason(&world, A));
    let heard = world.nodes[A].peer(world.now).unwrap().heard;
    assert!(heard.as_secs() <= 1, "{heard:?}");
    assert_eq!(world.nodes[A].counters().other_mode, 0);
    let sent = world.sent[B];
    world.run_s(10);
    assert_eq!(world.sent[B] - sent, 10, "once a second");
}

#[test]
fn flows_flushed_from_the_kernel_of_the_active_router_end_at_its_peer() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    for number in 0..20 {
        world.create(A, number);
    }
    world.run_s(5);
    assert_eq!(world.nodes[B].external_len(), 20);
    let mut flush = world.nodes[A].begin_kernel_flush();
    while let Some(gone) = flush.next(&world.nodes[A]) {
        world.event(A, Change::Delete, &gone, true);
    }
    world.nodes[A].end_purge(20);
    world.run_s(5);
    assert_eq!(world.nodes[B].external_len(), 0);
    assert!(world.in_sync(A) && world.in_sync(B));
}

#[test]
fn a_router_whose_cache_refuses_flows_is_not_in_sync() {
    let mut world = World::with(1, FAIR, &Config { cache_limit: 32, ..config() });
    world.activate(A);
    for number in 0..40 {
        world.create(A, number);
    }
    world.run_s(5);
    let full = "the internal cache is full (limit 32): flows are refused";
    assert_eq!((world.in_sync(A), reason(&world, A).as_str()), (false, full));
}
