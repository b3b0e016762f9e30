//! ALARM: when a peer that says nothing any more counts as gone, whatever the link loses.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, Weather, World, config};
use lockstep_replicator::{Config, Event, Mode, Origin};

fn alarm(seed: u64, loss: u32) -> World {
    let config = Config { mode: Mode::Alarm, ..config() };
    World::with(seed, Weather { loss, ..FAIR }, &config)
}

fn silences(world: &World) -> usize {
    let silent = |event: &&Event| matches!(event, Event::PeerSilent { .. });
    world.events[B].iter().filter(silent).count()
}

/// Time until B takes A for gone, at most three minutes.
fn time_to_silence(world: &mut World, mut go_on: impl FnMut(&mut World)) -> Duration {
    let (begin, before) = (world.now, silences(world));
    while silences(world) == before && world.now < begin + Duration::from_mins(3) {
        go_on(world);
    }
    world.now - begin
}

#[test]
fn a_lockstep_that_dies_is_missed_within_half_a_minute() {
    for (loss, flows) in [(0, 0), (0, 500), (40, 0), (40, 3), (40, 500)] {
        let mut world = alarm(3, loss);
        world.activate(A);
        for number in 0..flows {
            world.create(A, number);
        }
        world.run_s(1_800);
        assert_eq!((silences(&world), flows), (0, flows), "it has been there all the time");
        world.cut();
        let time = time_to_silence(&mut world, |world| world.run_s(1));
        assert!(time <= Duration::from_secs(30), "{loss} {flows}: {time:?}");
        assert!(!world.in_sync(B));
    }
}

/// A twentieth of a second in which B hears of A what a conntrackd would say: flows and nothing else.
fn hear_flows_only(world: &mut World, loss: u32) {
    world.now += Duration::from_millis(50);
    world.nodes[A].handle_timeout(world.now);
    let mut bytes = Vec::new();
    while world.nodes[A].poll_transmit(world.now, &mut bytes).is_some() {
        let flows = without_control(&bytes);
        if !flows.is_empty() && world.below(100) >= loss {
            let origin = Origin::group(0, World::address(A));
            world.nodes[B].handle_datagram(origin, &flows, world.now);
        }
    }
    world.nodes[B].handle_timeout(world.now);
    world.drain(B);
}

fn without_control(mut datagram: &[u8]) -> Vec<u8> {
    const CONTROL: u8 = 0x1a;
    let mut flows = Vec::new();
    while !datagram.is_empty() {
        let length = u16::from_be_bytes([datagram[2], datagram[3]]).into();
        let (message, rest) = datagram.split_at(length);
        if message[0] != CONTROL {
            flows.extend_from_slice(message);
        }
        datagram = rest;
    }
    flows
}

#[test]
fn a_conntrackd_that_dies_is_missed_the_sooner_the_more_it_had_to_tell() {
    for (flows, longest_s) in [(1_000, 30), (100, 45), (30, 120)] {
        for loss in [0, 40] {
            let mut world = alarm(3, 0);
            world.cut();
            world.activate(A);
            for number in 0..flows {
                world.create(A, number);
            }
            for _ in 0..20 * 1_200 {
                hear_flows_only(&mut world, loss);
            }
            assert_eq!(silences(&world), 0, "{flows} {loss}: it has been there all the time");
            let time = time_to_silence(&mut world, |world| {
                hear_flows_only(world, 100);
            });
            assert!(time <= Duration::from_secs(longest_s), "{flows} {loss}: {time:?}");
        }
    }
}

#[test]
fn a_conntrackd_that_has_little_to_tell_may_be_silent_for_the_cache_timeout() {
    let mut world = alarm(3, 0);
    world.cut();
    world.activate(A);
    world.create(A, 1);
    for _ in 0..20 * 600 {
        hear_flows_only(&mut world, 0);
    }
    assert_eq!(silences(&world), 0);
}
