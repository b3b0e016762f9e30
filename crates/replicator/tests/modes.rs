//! The modes without acknowledgements, and what a peer in another mode looks like.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, Weather, World, config, flow, tcp};
use lockstep_replicator::{Change, Config, CopyState, Mode, Origin};

fn in_mode(mode: Mode) -> Config {
    let mut config = config();
    config.mode = mode;
    config
}

fn notrack(seed: u64, weather: Weather) -> World {
    World::with(seed, weather, &in_mode(Mode::Notrack))
}

/// A thousand flows of A, which B has.
fn replicated_notrack(seed: u64) -> World {
    let mut world = notrack(seed, FAIR);
    world.run_s(10);
    world.activate(A);
    for number in 0..1000 {
        world.create(A, number);
    }
    world.run_s(1);
    world.assert_replicated(A);
    world
}

fn alarm(seed: u64, weather: Weather) -> World {
    World::with(seed, weather, &in_mode(Mode::Alarm))
}

#[test]
fn notrack_tells_flows_without_greeting_or_acknowledgement() {
    let mut world = notrack(1, FAIR);
    world.run_s(7);
    assert!(!world.in_sync(A) && !world.in_sync(B), "nobody serves");
    world.activate(A);
    world.run_s(7);
    assert!(world.in_sync(A) && world.in_sync(B));
    for number in 0..100 {
        world.create(A, number);
    }
    world.destroy(A, 7);
    let mut closing = flow(8);
    closing.protocol_state = tcp(4);
    world.event(A, Change::Update, &closing, false);
    world.run(Duration::from_millis(10));
    assert_eq!(world.nodes[B].external_len(), 99);
    let counters = *world.nodes[A].counters();
    assert_eq!((counters.acks_received, counters.nacks_received, counters.acks_sent), (0, 0, 0));
    let peer = world.nodes[A].peer(world.now).unwrap();
    assert_eq!((peer.unacknowledged, peer.waiting), (0, 0), "nothing is kept for repetition");
}

#[test]
fn a_notrack_backup_that_starts_late_asks_and_knows_when_it_has_everything() {
    let mut world = notrack(1, FAIR);
    world.run_s(7);
    for number in 0..20_000 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    world.restart(B, &in_mode(Mode::Notrack));
    world.run_s(4);
    world.assert_replicated(A);
    assert!(world.in_sync(B), "{}", world.nodes[B].sync_state().reason);
}

#[test]
fn a_notrack_copy_is_paced_by_the_clock() {
    let mut world = notrack(1, FAIR);
    world.run_s(7);
    for number in 0..50_000 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    let before = world.nodes[A].counters().messages_sent;
    world.run(Duration::from_millis(95));
    let sent = world.nodes[A].counters().messages_sent - before;
    assert!((7_000..=12_000).contains(&sent), "{sent} messages in 95 ms");
    world.run_s(1);
    world.assert_replicated(A);
}

#[test]
fn a_hole_in_notrack_numbers_is_made_up_for_by_a_copy() {
    for seed in 0..10 {
        let mut world = notrack(seed, Weather { loss: 5, ..FAIR });
        world.run_s(10);
        world.activate(A);
        for number in 0..1000 {
            world.create(A, number);
            world.run(Duration::from_millis(1));
        }
        for number in 0..300 {
            world.destroy(A, number);
        }
        world.weather = FAIR;
        world.run_s(120);
        world.assert_replicated(A);
        assert!(world.in_sync(B), "seed {seed}: {}", world.nodes[B].sync_state().reason);
    }
}

/// A fifth of the datagrams is lost all the time, so that no copy arrives whole. No flow is forgotten meanwhile.
#[test]
fn notrack_copies_of_which_each_has_a_hole_make_one_without() {
    for seed in 0..60 {
        let mut world = replicated_notrack(seed);
        world.weather = Weather { loss: 20, ..FAIR };
        for number in (0..1000).step_by(3) {
            world.destroy(A, number);
            world.run(Duration::from_millis(1));
        }
        for _ in 0..12 {
            world.run_s(10);
            assert!(world.expected(A).is_subset(&world.external(B)), "seed {seed}");
        }
        world.assert_replicated(A);
        for _ in 0..30 {
            world.run_s(10);
            world.assert_replicated(A);
        }
        assert!(world.nodes[B].counters().lost > 0);
    }
}

/// A receiver whose buffer is too small misses the same part of each copy: more copies are no reason to drop that part.
#[test]
fn what_every_notrack_copy_lacks_is_kept() {
    let mut world = replicated_notrack(1);
    world.room = 20;
    world.nodes[B].request_resync(world.now);
    world.run_s(300);
    world.assert_replicated(A);
    assert!(world.nodes[B].counters().resyncs_sent > 5 && world.nodes[B].counters().lost > 1000);
    assert!(!world.in_sync(B));
}

#[test]
fn losses_in_notrack_are_told_and_copies_do_not_follow_each_other_at_once() {
    let mut world = notrack(3, Weather { loss: 10, ..FAIR });
    world.run_s(10);
    for number in 0..2000 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    for round in 0..60_u32 {
        for number in 0..20 {
            world.create(A, 10_000 + round * 20 + number);
        }
        world.run_s(1);
    }
    let counters = world.nodes[B].counters();
    assert!(counters.lost > 0);
    assert!(counters.resyncs_sent < 40, "{} requests in 70 s", counters.resyncs_sent);
    assert!(world.nodes[B].peer(world.now).unwrap().lost > 0);
}

#[test]
fn reordering_in_notrack_is_no_loss() {
    let weather = Weather { loss: 0, duplication: 20, longest_delay: Duration::from_millis(5) };
    let mut world = notrack(1, weather);
    world.run_s(10);
    world.activate(A);
    world.create(A, 50);
    world.run_s(10);
    let asked = world.nodes[B].counters().resyncs_sent;
    for number in 0..500 {
        world.create(A, number % 50);
        world.run(Duration::from_micros(300));
        world.destroy(A, number % 50);
        world.run(Duration::from_micros(300));
    }
    world.run_s(1);
    world.assert_replicated(A);
    assert_eq!(world.nodes[B].counters().lost, 0);
    assert_eq!(world.nodes[B].counters().resyncs_sent, asked);
}

#[test]
fn a_restarted_notrack_peer_is_noticed_by_its_numbers() {
    let mut world = notrack(1, FAIR);
    world.run_s(7);
    world.activate(A);
    for number in 0..100 {
        world.create(A, number);
    }
    world.run_s(2);
    for number in 0..40 {
        world.kernels[A].remove(&number);
    }
    // Counts from 3 100 000 on, and before from 1 000 000.
    world.restart(A, &in_mode(Mode::Notrack));
    world.activate(A);
    world.run_s(10);
    world.assert_replicated(A);
    assert_eq!(world.nodes[B].counters().peer_restarted, 1);
}

#[test]
fn alarm_tells_changes_at_once_and_everything_within_the_interval() {
    let mut world = alarm(1, FAIR);
    world.activate(A);
    for number in 0..500 {
        world.create(A, number);
    }
    world.run(Duration::from_millis(100));
    world.assert_replicated(A);
    // The copy for one who has just come is over.
    world.run_s(3);
    // One who starts again, which nobody notices, has everything after the interval.
    world.restart(B, &in_mode(Mode::Alarm));
    world.run_s(30);
    assert!(!world.in_sync(B));
    let half = world.nodes[B].external_len();
    assert!((100..400).contains(&half), "{half} of 500 flows after half the interval");
    world.run_s(40);
    world.assert_replicated(A);
    assert!(world.in_sync(B));
    assert_eq!(world.nodes[B].peer(world.now).unwrap().copy, CopyState::Arrived);
    let sent = world.nodes[A].counters().messages_sent;
    world.run_s(600);
    let refreshes = world.nodes[A].counters().messages_sent - sent;
    assert!((4500..=5500).contains(&refreshes), "{refreshes} messages in ten intervals");
}

#[test]
fn alarm_drops_what_nobody_tells_again() {
    let mut world = alarm(1, FAIR);
    world.activate(A);
    for number in 0..300 {
        world.create(A, number);
    }
    world.run_s(100);
    world.cut();
    world.run_s(115);
    assert_eq!(world.nodes[B].external_len(), 300, "CacheTimeout has not passed");
    world.run_s(85);
    assert_eq!(world.nodes[B].external_len(), 0);
    assert_eq!(world.nodes[B].counters().external_expired, 300);
}

#[test]
fn alarm_converges_under_loss_and_reordering() {
    let weather = Weather { loss: 30, duplication: 10, longest_delay: Duration::from_millis(5) };
    let mut world = alarm(7, weather);
    world.activate(A);
    for number in 0..500 {
        world.create(A, number);
    }
    for number in 0..100 {
        world.destroy(A, number);
    }
    world.weather = FAIR;
    world.run_s(400);
    world.assert_replicated(A);
}

#[test]
fn a_peer_in_another_mode_is_suspected() {
    for (ours, datagram, word) in [
        // ALIVE without HELLO.
        (Mode::Ftfw, [0x1a, 0x10, 0, 8], "NOTRACK"),
        // ALIVE with HELLO.
        (Mode::Notrack, [0x1a, 0x30, 0, 8], "FTFW"),
        (Mode::Alarm, [0x1a, 0x30, 0, 8], "FTFW"),
        (Mode::Alarm, [0x1a, 0x10, 0, 8], "NOTRACK"),
    ] {
        let mut world = World::with(1, FAIR, &in_mode(ours));
        world.cut();
        let origin = Origin::group(0, World::address(B));
        for number in 0..15 {
            let mut bytes = datagram.to_vec();
            bytes.extend_from_slice(&(1000_u32 + number).to_be_bytes());
            world.nodes[A].handle_datagram(origin, &bytes, world.now);
            world.drain(A);
            world.run_s(1);
        }
        let suspicion = world.nodes[A].peer(world.now).unwrap().suspicion.unwrap();
        assert!(suspicion.contains(word), "{ours:?}: {suspicion}");
    }
}

#[test]
fn peers_in_the_same_mode_are_not_suspected() {
    for mode in [Mode::Ftfw, Mode::Notrack, Mode::Alarm] {
        let mut world = World::with(1, FAIR, &in_mode(mode));
        world.activate(A);
        for number in 0..10 {
            world.create(A, number);
        }
        world.run_s(100);
        assert_eq!(world.nodes[B].peer(world.now).unwrap().suspicion, None, "{mode:?}");
    }
}
