//! What a router that comes back has left in its kernel, and what a takeover makes of it.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use common::{A, B, FAIR, World, config, flow, set, tcp};
use lockstep_ctnetlink::Flow;
use lockstep_replicator::{Action, Change, CommitReport, Config, Planned, Standby};

const STANDBYS: [Standby; 2] = [Standby::Cache, Standby::Kernel];

/// A takeover, as the daemon does it. What is in the kernel afterwards is read.
fn take_over(world: &mut World, node: usize) -> (Vec<Planned>, CommitReport) {
    let mut commit = world.nodes[node].begin_commit();
    let mut all = Vec::new();
    while let Some(planned) = commit.next(&world.nodes[node], world.now) {
        commit.done(&planned);
        for number in 0..100 {
            if flow(number).orig == planned.flow.orig {
                match planned.action {
                    Action::Delete => world.kernels[node].remove(&number),
                    _ => world.kernels[node].insert(number),
                };
            }
        }
        all.push(planned);
    }
    let progress = commit.progress();
    assert_eq!(progress.done, progress.total);
    let report = commit.report().clone();
    world.nodes[node].end_commit(&report);
    world.activate(node);
    world.drain(node);
    (all, report)
}

/// A served flows 1 to 3 and died; B has taken over, and serves 2 to 4. A's daemon is back.
fn returned(standby: Standby) -> (World, Config) {
    let config = Config { standby, ..config() };
    let mut world = World::with(1, FAIR, &config);
    world.run_s(1);
    world.activate(A);
    for number in 1..=3 {
        world.create(A, number);
    }
    world.run_s(2);
    world.cut();
    world.run_s(10);
    let _ = take_over(&mut world, B);
    if standby == Standby::Kernel {
        // Put there while it stood by.
        world.kernels[B].extend([1, 2, 3]);
        world.dump(B);
    }
    world.destroy(B, 1);
    world.create(B, 4);
    world.run_s(10);
    world.connected = true;
    world.restart(A, &config);
    (world, config)
}

fn deleted(planned: &[Planned]) -> Vec<u32> {
    let deleted = planned.iter().filter(|planned| planned.action == Action::Delete);
    let number = |it: &Planned| (0..100).find(|number| flow(*number).orig == it.flow.orig).unwrap();
    deleted.map(number).collect()
}

#[test]
fn a_flow_that_ended_elsewhere_does_not_come_back_with_the_router_that_had_it() {
    for standby in STANDBYS {
        let (mut world, _) = returned(standby);
        world.run_s(3);
        assert!(world.in_sync(A));
        let (planned, report) = take_over(&mut world, A);
        assert_eq!(deleted(&planned), [1], "{standby:?}");
        assert_eq!((report.left_over, report.deleted), (1, 0));
        assert!(report.to_string().contains("1 left over from before removed"), "{report}");
        assert_eq!(world.kernels[A], [2, 3, 4].into());
        world.nodes[B].deactivate(world.now);
        world.run_s(3);
        assert_eq!(world.external(B), set([2, 3, 4].map(flow).into_iter()), "{standby:?}");
    }
}

#[test]
fn what_a_silent_peer_had_told_in_full_is_the_best_that_is_known() {
    let (mut world, _) = returned(Standby::Cache);
    world.run_s(3);
    world.destroy(B, 2);
    world.run_s(1);
    world.cut();
    world.run_s(20);
    let (planned, _) = take_over(&mut world, A);
    assert_eq!(deleted(&planned), [1, 2]);
}

#[test]
fn nothing_is_removed_before_the_copy_is_complete() {
    let (mut world, _) = returned(Standby::Cache);
    let (planned, report) = take_over(&mut world, A);
    assert_eq!((deleted(&planned).len(), report.left_over), (0, 0));
}

#[test]
fn a_peer_that_has_just_booted_removes_nothing() {
    let (mut world, config) = returned(Standby::Cache);
    world.kernels[B].clear();
    world.restart(B, &config);
    world.run_s(10);
    assert!(!world.in_sync(A), "it stands by, and so does its peer");
    let (planned, _) = take_over(&mut world, A);
    assert_eq!(deleted(&planned).len(), 0);
}

#[test]
fn a_peer_that_has_just_booted_and_serves_without_any_flow_removes_nothing() {
    let (mut world, config) = returned(Standby::Cache);
    world.kernels[B].clear();
    world.restart(B, &config);
    world.activate(B);
    world.run_s(10);
    assert!(world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
    let (planned, report) = take_over(&mut world, A);
    assert_eq!((deleted(&planned).len(), report.left_over), (0, 0));
}

#[test]
fn a_flow_that_traffic_has_made_or_changed_since_is_kept() {
    let (mut world, _) = returned(Standby::Cache);
    world.create(A, 5);
    let mut changed = flow(1);
    changed.protocol_state = tcp(4);
    world.event(A, Change::Update, &changed, false);
    world.run_s(3);
    let (planned, _) = take_over(&mut world, A);
    assert_eq!(deleted(&planned).len(), 0);
    assert_eq!(world.kernels[A], [1, 2, 3, 4, 5].into());
}

/// Its packets pass this router, though it stands by, and the one that serves sees none of them.
#[test]
fn a_flow_whose_timeout_packets_have_set_again_is_kept() {
    for (waited_s, left_s, lives) in [(60, 940, false), (60, 943, true), (60, 1000, true)] {
        let (mut world, _) = returned(Standby::Cache);
        let idle = Flow { timeout_s: Some(1000), id: Some(77), ..flow(1) };
        world.nodes[A].begin_dump();
        world.nodes[A].dumped(&idle, world.now);
        for number in [2, 3] {
            world.nodes[A].dumped(&flow(number), world.now);
        }
        assert!(world.nodes[A].end_dump(world.now));
        world.run_s(waited_s);
        let mut commit = world.nodes[A].begin_commit();
        let planned = loop {
            let planned = commit.next(&world.nodes[A], world.now).unwrap();
            if planned.action == Action::Delete {
                break planned;
            }
            commit.done(&planned);
        };
        assert!(planned.is_looked_for_first());
        let now = Flow { timeout_s: Some(left_s), ..idle.clone() };
        let left = commit.compare(planned.clone(), Some(&now));
        assert_eq!(left.is_none(), lives, "{left_s}");
        assert_eq!(commit.compare(planned.clone(), None), None, "it is gone");
        let another = Flow { id: Some(78), ..now };
        assert_eq!(commit.compare(planned, Some(&another)), None, "it is not the same");
        assert_eq!(commit.report().unchanged, 1 + u64::from(lives), "what is gone is not left");
    }
}

#[test]
fn a_flow_that_a_second_reading_finds_refreshed_is_kept() {
    for (left_s, gone) in [(970, vec![1]), (999, vec![])] {
        let (mut world, _) = returned(Standby::Cache);
        for timeout_s in [1000, left_s] {
            world.nodes[A].begin_dump();
            for number in 1..=3 {
                let found = Flow { timeout_s: Some(timeout_s), ..flow(number) };
                world.nodes[A].dumped(&found, world.now);
            }
            assert!(world.nodes[A].end_dump(world.now));
            world.run_s(30);
        }
        let (planned, _) = take_over(&mut world, A);
        assert_eq!(deleted(&planned), gone);
    }
}

#[test]
fn a_flow_of_the_router_itself_is_kept() {
    let (mut world, _) = returned(Standby::Cache);
    world.nodes[A].set_local_addresses([flow(1).orig.source]);
    world.run_s(3);
    let (planned, _) = take_over(&mut world, A);
    assert_eq!(deleted(&planned).len(), 0);
}

#[test]
fn what_was_served_before_the_role_was_left_goes_once_the_other_has_had_time_to_tell() {
    for (wait_s, gone) in [(2, false), (8, true)] {
        let mut world = World::new(1, FAIR);
        world.run_s(1);
        world.activate(A);
        for number in 1..=3 {
            world.create(A, number);
        }
        world.run_s(2);
        let _ = take_over(&mut world, B);
        world.nodes[A].deactivate(world.now);
        world.destroy(B, 1);
        world.run_s(wait_s);
        assert!(world.in_sync(A));
        let (planned, _) = take_over(&mut world, A);
        assert_eq!(deleted(&planned), if gone { vec![1] } else { vec![] }, "{wait_s}");
    }
}
