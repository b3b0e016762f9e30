//! What bad weather has shown: rare orders of events after which replication must go on.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;
mod site;

use common::{A, B, FAIR, World, config, flow, set};
use lockstep_replicator::{Change, Config, Mode, Purge};
use site::{Site, grouped};

fn grouped_notrack(node: usize) -> Config {
    let mut config = grouped(node);
    config.mode = Mode::Notrack;
    config
}

#[test]
fn acknowledgements_do_not_call_for_acknowledgements_whatever_the_window() {
    let mut config = config();
    config.ack_window = 1;
    let mut world = World::with(1, FAIR, &config);
    world.activate(A);
    for number in 0..100 {
        world.create(A, number);
    }
    world.run_s(10);
    world.assert_replicated(A);
    assert!(world.in_sync(A) && world.in_sync(B));
    assert!(world.sent[A] + world.sent[B] < 1_000, "{:?}", world.sent);
}

#[test]
fn a_small_resend_queue_full_of_acknowledgements_does_not_lose_the_request() {
    let mut config = config();
    config.ack_window = 1;
    config.resend_queue = 20;
    let mut world = World::with(1, FAIR, &config);
    world.kernels[A].extend(0..3_000);
    world.activate(A);
    world.run_s(5);
    world.restart(B, &config);
    world.run_s(20);
    world.assert_replicated(A);
    assert!(world.in_sync(B), "{}", world.nodes[B].sync_state().reason);
    assert_eq!(world.nodes[B].counters().resyncs_sent, 1);
}

#[test]
fn a_notrack_peer_that_counts_from_a_little_less_is_heard_again() {
    let mut config = config();
    config.mode = Mode::Notrack;
    let mut world = World::with(1, FAIR, &config);
    world.run_s(7);
    world.activate(A);
    for number in 0..500 {
        world.create(A, number);
    }
    world.run_s(2);
    // Its numbers begin where they began before: 500 less than its last one.
    let now = world.now;
    let start =
        lockstep_replicator::Start { first_sequence: 1_000_000, secret: 1, max_datagram: 1472 };
    world.nodes[A] = lockstep_replicator::Replicator::new(config, start, now);
    world.kernels[A].retain(|number| *number < 100);
    world.activate(A);
    world.run_s(60);
    world.assert_replicated(A);
}

#[test]
fn a_router_that_stands_by_tells_nothing_about_flows() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.create(A, 1);
    world.nodes[A].send_everything();
    world.nodes[B].request_resync(world.now);
    world.run_s(2);
    assert_eq!(world.nodes[B].external_len(), 0);
    for node in [0, 1] {
        let state = world.nodes[node].sync_state();
        assert!(!state.in_sync && state.reason.contains("stands by as well"), "{}", state.reason);
    }
    world.activate(A);
    world.run_s(1);
    assert_eq!(world.nodes[B].external_len(), 1);
    assert!(world.in_sync(B), "{}", world.nodes[B].sync_state().reason);
}

#[test]
fn what_only_the_third_router_knows_of_an_old_master_is_dropped_when_another_serves() {
    for config in [grouped as fn(usize) -> Config, grouped_notrack] {
        let mut site = Site::new(3, 1, FAIR, config);
        site.run_s(8);
        site.activate(0);
        site.create(0, 1);
        site.run_s(2);
        // The second router misses a flow, and that it has ended is told to nobody.
        site.plugged[1] = [false; 2];
        site.create(0, 2);
        site.run_s(1);
        assert_eq!(site.nodes[2].external_len(), 2);
        site.nodes[0].deactivate(site.now);
        site.plugged[1] = [true; 2];
        site.kernels[1].insert(1);
        site.activate(1);
        site.run_s(200);
        assert_eq!(set(site.nodes[2].external_flows()), set([flow(1)].into_iter()));
        site.assert_replicated(1, 0);
    }
}

#[test]
fn a_third_notrack_router_hears_what_is_told_while_the_second_is_away() {
    let mut site = Site::new(3, 1, FAIR, grouped_notrack);
    site.run_s(8);
    site.activate(0);
    (0..20).for_each(|number| site.create(0, number));
    site.run_s(2);
    for away in [1, 2] {
        site.plugged[away] = [false; 2];
        site.run_s(20);
        let first = 5 * away as u32;
        (first..first + 5).for_each(|number| site.destroy(0, number));
        site.run_s(2);
        site.assert_replicated(0, 3 - away);
        site.plugged[away] = [true; 2];
        site.run_s(100);
        site.assert_replicated(0, away);
        assert!(site.nodes[0].sync_state().in_sync, "{}", site.nodes[0].sync_state().reason);
    }
}

#[test]
fn what_no_event_told_before_the_role_was_left_is_found_and_purged() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.create(A, 1);
    // The kernel has lost the event of this one.
    world.kernels[A].insert(2);
    world.nodes[A].deactivate(world.now);
    world.dump(A);
    world.create(B, 9);
    world.activate(B);
    world.run_s(65);
    let mut purge: Purge = world.nodes[A].begin_purge().unwrap();
    assert_eq!(
        set(std::iter::from_fn(|| purge.next(&world.nodes[A]))),
        set([flow(1), flow(2)].into_iter())
    );
    // Later ones are not this router's.
    world.run_s(200);
    world.event(A, Change::New, &flow(3), false);
    world.kernels[A].insert(4);
    world.dump(A);
    world.run_s(200);
    assert!(!world.nodes[A].purge_wanted());
}
