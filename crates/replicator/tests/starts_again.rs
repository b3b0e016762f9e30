//! NOTRACK has no greeting: how a peer that starts again is told by its numbers and its rhythm.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, World, config};
use lockstep_replicator::{Config, Mode, Origin};

const SECOND: Duration = Duration::from_secs(1);

/// A serves twenty flows, and hears a conntrackd that has nothing to tell.
fn beside_an_idle_conntrackd() -> World {
    let mut world = World::with(1, FAIR, &Config { mode: Mode::Notrack, ..config() });
    world.cut();
    world.activate(A);
    for number in 0..20 {
        world.create(A, number);
    }
    for number in 0..20 {
        say_alive(&mut world, number);
        world.run(SECOND);
    }
    world
}

fn say_alive(world: &mut World, number: u32) {
    let mut alive = vec![0x1a, 0x10, 0, 8];
    alive.extend_from_slice(&(1_000_000 + number).to_be_bytes());
    world.nodes[A].handle_datagram(Origin::group(0, World::address(B)), &alive, world.now);
    world.drain(A);
}

fn copies(world: &World) -> u64 {
    world.nodes[A].counters().bulks_sent
}

#[test]
fn a_notrack_peer_that_starts_again_is_told_everything_whatever_its_first_number() {
    // Its last number was 19. It counts from the Unix time on, so it goes on from a little less or
    // a little more.
    for first in [10, 17, 18, 19, 20, 21, 25, 40] {
        let mut world = beside_an_idle_conntrackd();
        let before = copies(&world);
        world.run(Duration::from_millis(400));
        for number in 0..12 {
            say_alive(&mut world, first + number);
            world.run(SECOND);
        }
        assert_eq!(copies(&world) - before, 1, "it begins with {first}");
    }
}

#[test]
fn a_notrack_peer_that_goes_on_is_told_nothing_twice() {
    let mut world = beside_an_idle_conntrackd();
    let before = copies(&world);
    let mut number = 20;
    for _ in 0..60 {
        say_alive(&mut world, number);
        world.run(Duration::from_millis(3));
        // Repeated, and overtaken.
        say_alive(&mut world, number);
        say_alive(&mut world, number + 2);
        world.run(Duration::from_millis(2));
        say_alive(&mut world, number + 1);
        number += 3;
        world.run(Duration::from_millis(1100));
    }
    assert_eq!(copies(&world), before);
    assert_eq!(world.nodes[A].counters().peer_restarted, 0);
}

#[test]
fn a_notrack_peer_that_hesitates_often_is_told_everything_once_a_minute_at_most() {
    let mut world = beside_an_idle_conntrackd();
    let before = copies(&world);
    for number in 0..120 {
        say_alive(&mut world, 20 + number);
        world.run(Duration::from_millis(1500));
    }
    let copies = copies(&world) - before;
    assert!((1..=4).contains(&copies), "{copies} copies in three minutes");
}
