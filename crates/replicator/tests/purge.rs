//! What was a router's leaves its kernel some time after the role, unless the role comes back.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use common::{A, B, FAIR, World, config, flow};
use lockstep_replicator::{Change, Config, Event, Standby};

#[test]
fn a_router_that_nobody_replaces_keeps_its_flows_however_long_it_does_not_serve() {
    for standby in [Standby::Cache, Standby::Kernel] {
        for peer_is_there in [false, true] {
            let case = format!("{standby:?}, peer {peer_is_there}");
            let mut world = World::with(1, FAIR, &Config { standby, ..config() });
            world.run_s(1);
            if !peer_is_there {
                world.cut();
                world.run_s(60);
            }
            world.activate(A);
            (0..100).for_each(|number| world.create(A, number));
            world.nodes[A].deactivate(world.now);
            world.run_s(50);
            assert_eq!(world.nodes[A].purge_put_off(), None, "{case}: it is not due yet");
            world.run_s(550);
            assert!(!world.events[A].contains(&Event::PurgeDue), "{case}");
            assert!(world.nodes[A].begin_purge().is_none(), "{case}");
            let why = world.nodes[A].purge_put_off().unwrap();
            let expected = if peer_is_there { "has told no flows" } else { "no peer is there" };
            assert!(why.contains(expected), "{case}: {why}");
            world.activate(A);
            world.run_s(3);
            assert_eq!(world.nodes[A].internal_len(), 100, "{case}");
            assert_eq!(world.nodes[A].purge_put_off(), None, "{case}");
        }
    }
}

#[test]
fn a_purge_that_was_put_off_is_due_when_a_peer_has_told_what_it_serves() {
    for standby in [Standby::Cache, Standby::Kernel] {
        let mut world = World::with(1, FAIR, &Config { standby, ..config() });
        world.run_s(1);
        world.activate(A);
        (0..100).for_each(|number| world.create(A, number));
        world.nodes[A].deactivate(world.now);
        world.run_s(300);
        assert!(!world.nodes[A].purge_wanted());
        serve(&mut world, B);
        assert!(world.nodes[A].purge_wanted());
        assert_eq!(world.nodes[A].purge_put_off(), None);
        let mut purge = world.nodes[A].begin_purge().unwrap();
        assert_eq!(std::iter::from_fn(|| purge.next(&world.nodes[A])).count(), 100);
    }
}

#[test]
fn a_purge_that_a_person_asks_for_waits_for_no_peer() {
    for put_off_before in [false, true] {
        let mut world = World::new(1, FAIR);
        world.cut();
        if put_off_before {
            world.activate(A);
            world.create(A, 1);
            world.nodes[A].deactivate(world.now);
            world.run_s(100);
            assert!(world.nodes[A].purge_put_off().is_some());
        } else {
            world.create(A, 1);
        }
        assert!(world.nodes[A].request_purge(world.now));
        assert_eq!(world.nodes[A].purge_put_off(), None);
        world.run_s(59);
        assert!(!world.nodes[A].purge_wanted());
        world.run_s(2);
        let mut purge = world.nodes[A].begin_purge().unwrap();
        assert_eq!(purge.next(&world.nodes[A]).map(|flow| flow.orig), Some(flow(1).orig));
        // What the kernel did not remove at once is not put off for want of a peer either.
        world.nodes[A].put_off_purge(0, world.now);
        world.run_s(2);
        assert!(world.nodes[A].begin_purge().is_some());
    }
}

#[test]
fn a_script_that_asks_for_a_purge_as_the_role_is_left_costs_no_flows() {
    let mut world = World::new(1, FAIR);
    world.cut();
    world.activate(A);
    world.create(A, 1);
    world.nodes[A].deactivate(world.now);
    assert!(!world.nodes[A].request_purge(world.now), "one waits, and it waits for a peer");
    world.run_s(300);
    assert!(!world.nodes[A].purge_wanted());
}

#[test]
fn a_commit_calls_the_purge_off() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.nodes[A].deactivate(world.now);
    serve(&mut world, B);
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
        serve(&mut world, B);
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
    serve(&mut world, B);
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
        serve(&mut world, B);
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

/// With one flow of its own, that of number 1000, the other router serves from now on.
fn serve(world: &mut World, node: usize) {
    world.create(node, 1000);
    world.activate(node);
    world.run_s(3);
}

#[test]
fn what_was_served_stays_as_long_as_who_serves_since_has_no_flow_at_all() {
    let mut world = World::new(1, FAIR);
    world.activate(A);
    for number in 0..5 {
        world.create(A, number);
    }
    world.run_s(5);
    // The other one serves, and has lost what it knew: these flows are the only ones there are.
    world.restart(B, &config());
    let now = world.now;
    world.nodes[A].deactivate(now);
    world.activate(B);
    world.run_s(200);
    assert!(world.nodes[A].begin_purge().is_none());
    world.create(B, 1_000);
    world.run_s(5);
    assert!(world.nodes[A].begin_purge().is_some());
}
