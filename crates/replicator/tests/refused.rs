//! A cache that had no room for something: not in sync until that has come after all, however soon
//! there was room again.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use common::{A, B, FAIR, World, config, flow};
use lockstep_replicator::{Cache, Config, Event, Mode};

fn limited(cache_limit: usize) -> Config {
    Config { cache_limit, ..config() }
}

/// A serves 20 flows of which B's cache, which takes 32, has all.
fn narrow() -> World {
    let mut world = World::new(1, FAIR);
    world.restart(B, &limited(32));
    world.activate(A);
    for number in 0..20 {
        world.create(A, number);
    }
    world.run_s(5);
    assert!(world.in_sync(B), "{}", world.nodes[B].sync_state().reason);
    world
}

#[test]
fn what_was_refused_while_nobody_looked_is_told_and_asked_for() {
    let mut world = narrow();
    // All in one datagram or two: there is room again before anybody is told.
    for number in 20..40 {
        world.kernels[A].insert(number);
        let event = lockstep_replicator::KernelEvent {
            change: lockstep_replicator::Change::New,
            flow: &flow(number),
            own: false,
        };
        world.nodes[A].handle_kernel_event(event, world.now);
    }
    let mut datagrams = Vec::new();
    let mut bytes = Vec::new();
    while world.nodes[A].poll_transmit(world.now, &mut bytes).is_some() {
        datagrams.push(bytes.clone());
    }
    for number in 0..20 {
        world.kernels[A].remove(&number);
        let event = lockstep_replicator::KernelEvent {
            change: lockstep_replicator::Change::Delete,
            flow: &flow(number),
            own: false,
        };
        world.nodes[A].handle_kernel_event(event, world.now);
    }
    while world.nodes[A].poll_transmit(world.now, &mut bytes).is_some() {
        datagrams.push(bytes.clone());
    }
    let origin = lockstep_replicator::Origin::group(0, World::address(A));
    for datagram in datagrams {
        world.nodes[B].handle_datagram(origin, &datagram, world.now);
        assert!(world.nodes[B].counters().external_full == 0 || !world.in_sync(B));
    }
    world.drain(B);
    assert_eq!(world.nodes[B].counters().external_full, 8);
    assert!(!world.in_sync(B));
    for event in [
        Event::CacheFull { cache: Cache::External },
        Event::CacheHasRoom { cache: Cache::External },
    ] {
        assert!(world.events[B].contains(&event), "{event:?}");
    }
    world.run_s(3);
    assert!(world.in_sync(B), "{}", world.nodes[B].sync_state().reason);
    world.assert_replicated(A);
}

#[test]
fn room_that_is_free_again_after_a_long_time_is_used_at_once_and_copies_are_paced() {
    let mut world = narrow();
    let asked = |world: &World| world.nodes[B].counters().resyncs_sent;
    for round in 0..2 {
        for number in 0..20 {
            world.create(A, 100 * round + 50 + number);
        }
        world.run_s(100);
        assert!(!world.in_sync(B), "round {round}");
        if round == 0 {
            for number in 0..20 {
                world.destroy(A, number);
            }
        } else {
            assert!(
                world.nodes[B].configure(limited(64), world.now),
                "the kernel's table is read again"
            );
            world.drain(B);
        }
        world.run_s(3);
        assert!(world.in_sync(B), "round {round}: {}", world.nodes[B].sync_state().reason);
        world.assert_replicated(A);
    }
    // At its limit the cache has room again and again.
    let before = asked(&world);
    for number in 1000..1060 {
        world.create(A, number);
        world.destroy(A, number - 5);
        world.run_s(1);
    }
    assert!(asked(&world) - before <= 7, "{} copies", asked(&world) - before);
}

#[test]
fn a_router_that_refused_flows_of_its_own_kernel_is_not_in_sync_before_it_has_read_them_again() {
    for mode in [Mode::Ftfw, Mode::Notrack] {
        let mut world = World::with(1, FAIR, &Config { mode, ..limited(32) });
        world.activate(A);
        for number in 0..40 {
            world.create(A, number);
        }
        for number in 0..20 {
            world.destroy(A, number);
        }
        world.run_s(10);
        assert_eq!(world.nodes[A].counters().internal_full, 8);
        assert!(!world.in_sync(A), "{mode:?}: nobody has told of eight flows");
        let room = Event::CacheHasRoom { cache: Cache::Internal };
        assert!(world.events[A].contains(&room), "read the table again");
        world.nodes[A].begin_dump();
        assert!(!world.in_sync(A), "{mode:?}");
        for number in 20..40 {
            world.nodes[A].dumped(&flow(number), world.now);
            assert!(!world.in_sync(A), "{mode:?}");
        }
        assert!(world.nodes[A].end_dump(world.now));
        assert!(!world.in_sync(A), "{mode:?}: they wait to be told");
        world.drain(A);
        world.run_s(10);
        assert!(world.in_sync(A) && world.in_sync(B), "{mode:?}");
        world.assert_replicated(A);
    }
}

#[test]
fn what_lost_events_had_hidden_has_to_be_told_before_a_router_is_in_sync_again() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    world.run_s(5);
    assert!(world.in_sync(A));
    world.kernels[A].extend(0..5_000);
    world.nodes[A].events_lost(world.now);
    assert!(!world.in_sync(A));
    world.nodes[A].begin_dump();
    for number in 0..5_000 {
        world.nodes[A].dumped(&flow(number), world.now);
        assert!(!world.in_sync(A));
    }
    assert!(world.nodes[A].end_dump(world.now));
    assert!(!world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
    world.drain(A);
    world.run_s(10);
    assert!(world.in_sync(A));
    world.assert_replicated(A);
}

#[test]
fn a_cache_that_a_person_has_emptied_holds_not_all_that_the_peer_has_told() {
    let mut world = narrow();
    world.nodes[B].flush_external();
    world.run_s(2);
    assert!(!world.in_sync(B));
    world.nodes[B].request_resync(world.now);
    world.drain(B);
    world.run_s(3);
    assert!(world.in_sync(B));
    world.assert_replicated(A);
}

#[test]
fn a_router_whose_cache_refused_flows_takes_none_for_left_over() {
    let mut world = narrow();
    // B's kernel has a flow from before, which A serves, and for which B's cache has no room.
    world.kernels[B].insert(39);
    world.dump(B);
    for number in 20..40 {
        world.create(A, number);
    }
    for number in 0..20 {
        world.destroy(A, number);
    }
    world.run_s(2);
    let mut commit = world.nodes[B].begin_commit();
    while let Some(planned) = commit.next(&world.nodes[B], world.now) {
        assert_ne!(planned.action, lockstep_replicator::Action::Delete);
        commit.done(&planned);
    }
}
