//! What was a router's leaves its kernel some time after the role, unless the role comes back.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use common::{A, B, FAIR, World, flow};
use lockstep_replicator::{Change, Event};

#[test]
fn a_commit_calls_the_purge_off() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.nodes[A].deactivate(world.now);
    world.run_s(30);
    let _ = world.nodes[A].begin_commit();
    world.run_s(60);
    assert!(!world.events[A].contains(&Event::PurgeDue));
    assert!(world.nodes[A].begin_purge().is_none());
}

#[test]
fn a_purge_that_is_due_is_not_begun_on_a_router_that_is_about_to_serve() {
    for commit in [true, false] {
        let mut world = World::new(1, FAIR);
        world.run_s(1);
        world.activate(A);
        world.nodes[A].deactivate(world.now);
        world.run_s(61);
        assert!(world.nodes[A].purge_wanted());
        if commit {
            let _ = world.nodes[A].begin_commit();
        } else {
            world.nodes[A].activate(world.now);
        }
        assert!(!world.nodes[A].purge_wanted());
        assert!(world.nodes[A].begin_purge().is_none());
    }
}

#[test]
fn what_a_commit_left_behind_is_purged_when_the_role_does_not_come() {
    for told in [true, false] {
        let mut world = World::new(1, FAIR);
        world.run_s(1);
        world.activate(A);
        for number in 0..10 {
            world.create(A, number);
        }
        world.run_s(1);
        // Numbers 8 and 50 have been in B's kernel all along.
        world.create(B, 8);
        world.create(B, 50);
        let mut commit = world.nodes[B].begin_commit();
        for _ in 0..5 {
            let planned = commit.next(&world.nodes[B], world.now).unwrap();
            if told {
                world.event(B, Change::New, &planned.flow, true);
            }
            commit.done(&planned);
        }
        world.nodes[B].end_commit(commit.report());
        world.nodes[B].deactivate(world.now);
        world.drain(B);
        // The kernel tells of the commit, or is only asked afterwards.
        world.kernels[B].extend(0..5);
        world.dump(B);
        world.run_s(61);
        let mut purge = world.nodes[B].begin_purge().unwrap();
        let mut purged = Vec::new();
        while let Some(flow) = purge.next(&world.nodes[B]) {
            purged.push(flow.orig);
        }
        let put: Vec<_> = (0..5).map(|number| flow(number).orig).collect();
        assert_eq!(purged, put);
    }
}

#[test]
fn a_purge_called_off_by_a_commit_is_made_up_for_when_the_role_does_not_come() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.create(A, 1);
    world.nodes[A].deactivate(world.now);
    world.run_s(30);
    let commit = world.nodes[A].begin_commit();
    world.nodes[A].end_commit(commit.report());
    world.nodes[A].deactivate(world.now);
    world.run_s(61);
    let mut purge = world.nodes[A].begin_purge().unwrap();
    assert_eq!(purge.next(&world.nodes[A]).map(|flow| flow.orig), Some(flow(1).orig));
}

#[test]
fn a_purge_that_was_cut_short_is_wanted_again_unless_the_router_serves() {
    for serves in [false, true] {
        let mut world = World::new(1, FAIR);
        world.run_s(1);
        world.activate(A);
        world.create(A, 1);
        world.nodes[A].deactivate(world.now);
        world.run_s(61);
        assert!(world.nodes[A].begin_purge().is_some());
        world.nodes[A].put_off_purge(0, world.now);
        assert!(world.nodes[A].begin_purge().is_none(), "not at once");
        if serves {
            world.activate(A);
        }
        world.run_s(2);
        assert_eq!(world.nodes[A].purge_wanted(), !serves);
    }
}
