//! When a router says that it is in sync, a takeover would lose nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{A, B, FAIR, World};

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
