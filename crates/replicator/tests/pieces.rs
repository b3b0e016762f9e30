//! What concerns many flows is done in pieces, and nothing goes wrong between two of them.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, World, config, flow};
use lockstep_replicator::{Action, Change, Config, Event, KernelEvent, MAX_LOOKS, Purge, Standby};

/// Flows that A served once, and those that it serves after its start: no more than its first.
const MANY: u32 = 6_000;
const FEW: u32 = 10;

/// A has started again without most of its flows, and B is dropping what A has told no more.
fn sweeping(standby: Standby) -> World {
    let config = Config { standby, ..config() };
    let mut world = World::with(1, FAIR, &config);
    world.run_s(1);
    world.activate(A);
    for number in 0..MANY {
        world.create(A, number);
    }
    world.run_s(5);
    world.assert_replicated(A);
    world.events[B].clear();
    world.kernels[A].retain(|number| *number < FEW);
    world.restart(A, &config);
    world.activate(A);
    for _ in 0..100_000 {
        world.run(Duration::from_micros(100));
        if world.nodes[B].external_len() < MANY as usize {
            return world;
        }
    }
    panic!("nothing was dropped");
}

fn completed(world: &World) -> bool {
    world.events[B].iter().any(|event| matches!(event, Event::ResyncCompleted { .. }))
}

#[test]
fn a_copy_is_complete_when_all_that_was_not_in_it_has_been_dropped() {
    let mut world = sweeping(Standby::Cache);
    let mut pieces = 1;
    while world.nodes[B].external_len() > FEW as usize {
        assert!(!world.in_sync(B) && !completed(&world), "{}", world.nodes[B].external_len());
        let before = world.nodes[B].external_len();
        world.run(Duration::from_micros(100));
        let dropped = before - world.nodes[B].external_len();
        assert!(dropped <= 2_048, "{dropped} at once");
        pieces += u32::from(dropped > 0);
    }
    assert!(pieces > 2, "{pieces}");
    world.run_s(1);
    assert!(world.in_sync(B) && completed(&world));
    world.assert_replicated(A);
    assert_eq!(world.nodes[B].counters().external_swept, u64::from(MANY - FEW));
}

#[test]
fn a_takeover_while_flows_are_being_dropped_takes_none_of_them_over() {
    for standby in [Standby::Cache, Standby::Kernel] {
        let mut world = sweeping(standby);
        assert!(world.nodes[B].external_len() > FEW as usize);
        let mut commit = world.nodes[B].begin_commit();
        let mut put = Vec::new();
        while let Some(planned) = commit.next(&world.nodes[B], world.now) {
            commit.done(&planned);
            if planned.action != Action::Delete {
                put.push(planned.flow);
            }
        }
        let progress = commit.progress();
        assert_eq!(progress.done, progress.total, "{standby:?}");
        assert_eq!(commit.report().created, u64::from(FEW));
        let put: Vec<_> = put.iter().map(|flow| flow.orig).collect();
        let kept: Vec<_> = (0..FEW).map(|number| flow(number).orig).collect();
        assert_eq!(put, kept, "{standby:?}");
        world.nodes[B].end_commit(commit.report());
    }
}

#[test]
fn what_a_reading_did_not_find_goes_in_pieces_and_events_between_them_count() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..1_000 {
        world.create(A, number);
    }
    world.run_s(1);
    world.nodes[A].begin_dump();
    world.nodes[A].dumped(&flow(0), world.now);
    let mut steps = 1;
    let trusted = loop {
        let before = world.nodes[A].internal_len();
        if let Some(trusted) = world.nodes[A].end_dump_step(world.now) {
            break trusted;
        }
        let gone = before - world.nodes[A].internal_len();
        assert!(gone <= MAX_LOOKS as usize, "{gone} at once");
        if steps == 1 {
            // Known, and ahead of the walk; known and buried; not known before.
            for number in [900, 1, 5_000] {
                let (change, flow) = (Change::New, &flow(number));
                let event = KernelEvent { change, flow, own: false };
                world.nodes[A].handle_kernel_event(event, world.now);
            }
            let event = KernelEvent { change: Change::Delete, flow: &flow(0), own: false };
            world.nodes[A].handle_kernel_event(event, world.now);
        }
        steps += 1;
    };
    assert!(trusted);
    assert_eq!(steps, 1_001_u32.div_ceil(MAX_LOOKS));
    world.kernels[A] = [1, 900, 5_000].into();
    assert_eq!(world.nodes[A].internal_len(), 3);
    world.drain(A);
    world.run_s(1);
    world.assert_replicated(A);
}

#[test]
fn a_reading_that_begins_before_the_one_before_has_ended_finds_what_that_left() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..1_000 {
        world.create(A, number);
    }
    world.nodes[A].begin_dump();
    assert_eq!(world.nodes[A].end_dump_step(world.now), None);
    world.kernels[A] = [3, 700].into();
    world.dump(A);
    assert_eq!(world.nodes[A].internal_len(), 2);
    world.run_s(1);
    world.assert_replicated(A);
}

#[test]
fn a_purge_that_removes_nothing_looks_at_the_flows_in_pieces() {
    let mut world = World::new(1, FAIR);
    for number in 0..1_000 {
        world.create(A, number);
    }
    let mut purge = Purge::default();
    let mut steps = 1;
    while purge.step(&world.nodes[A]).is_none() && purge.has_more() {
        steps += 1;
    }
    assert_eq!(steps, 1_000_u32.div_ceil(MAX_LOOKS));
    assert_eq!(purge.step(&world.nodes[A]), None);
}
