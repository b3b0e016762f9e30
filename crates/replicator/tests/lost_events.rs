//! What an active router says of itself while it does not know what its kernel has.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{A, B, FAIR, World, config, flow, tcp};
use lockstep_ctnetlink::{Flow, ProtocolState};
use lockstep_replicator::Change;

const LOST: &str = "events of the kernel were lost; its flows are read again";

/// A is active, B its backup, and all is well.
fn settled() -> World {
    let mut world = World::new(1, FAIR);
    world.run_s(2);
    world.activate(A);
    world.create(A, 1);
    world.run_s(3);
    assert!(world.in_sync(A) && world.in_sync(B));
    world
}

#[test]
fn lost_events_are_told_until_the_table_has_been_read_again() {
    let mut world = settled();
    let now = world.now;
    let node = &mut world.nodes[A];
    node.events_lost(now);
    assert_eq!((node.sync_state().in_sync, node.sync_state().reason.as_str()), (false, LOST));
    node.begin_dump();
    node.dumped(&flow(1), now);
    assert_eq!(node.sync_state().reason, LOST);
    assert!(node.end_dump(now));
    assert!(node.sync_state().in_sync, "{}", node.sync_state().reason);
}

#[test]
fn a_reading_that_had_begun_before_does_not_make_good_for_it() {
    let mut world = settled();
    let now = world.now;
    let node = &mut world.nodes[A];
    node.begin_dump();
    node.events_lost(now);
    node.dumped(&flow(1), now);
    assert!(node.end_dump(now));
    assert_eq!(node.sync_state().reason, LOST);
    node.begin_dump();
    node.dumped(&flow(1), now);
    assert!(node.end_dump(now));
    assert!(node.sync_state().in_sync);
}

#[test]
fn the_first_reading_of_an_active_router_is_for_the_copy() {
    let mut world = settled();
    let now = world.now;
    world.nodes[A].deactivate(now);
    world.nodes[B].activate(now);
    let node = &mut world.nodes[B];
    let reason = "the kernel's flows are read for the copy that the peers are told";
    assert_eq!((node.sync_state().in_sync, node.sync_state().reason.as_str()), (false, reason));
    node.begin_dump();
    assert_eq!(node.sync_state().reason, reason);
    assert!(node.end_dump(now));
    assert_ne!(node.sync_state().reason, reason);
}

#[test]
fn a_backup_is_in_sync_with_its_peers_whatever_its_own_kernel_tells() {
    let mut world = settled();
    let now = world.now;
    world.nodes[B].events_lost(now);
    assert!(world.in_sync(B));
}

fn read(world: &mut World, found: &Flow) {
    let node = &mut world.nodes[B];
    node.begin_dump();
    node.dumped(found, world.now);
    assert!(node.end_dump(world.now));
}

/// What it hears of a flow after the loss is newer than the change that was lost.
#[test]
fn a_change_that_a_reading_makes_good_for_does_not_outrank_what_the_peer_has_told_since() {
    for (told_after, newest) in [(true, 7), (false, 5)] {
        let mut world = settled();
        world.restart(B, &config());
        world.run_s(3);
        let changed = |state| Flow { protocol_state: tcp(state), ..flow(1) };
        let told = |world: &mut World| {
            world.event(A, Change::Update, &changed(7), false);
            world.run_s(2);
        };
        read(&mut world, &flow(1));
        if !told_after {
            told(&mut world);
        }
        let now = world.now;
        world.nodes[B].events_lost(now);
        if told_after {
            told(&mut world);
        }
        world.run_s(2);
        read(&mut world, &changed(5));
        let mut commit = world.nodes[B].begin_commit();
        let planned = commit.next(&world.nodes[B], world.now);
        let state = planned.map_or(5, |planned| match planned.flow.protocol_state {
            ProtocolState::Tcp(tcp) => tcp.state,
            _ => 0,
        });
        assert_eq!(state, newest, "told after the loss: {told_after}");
    }
}
