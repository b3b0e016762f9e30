//! Two routers that each serve another group: both tell their flows, neither loses one to the other.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod site;

use common::{A, B, FAIR, flow, tcp};
use lockstep_ctnetlink::L4;
use lockstep_replicator::{Change, Config, KernelEvent, Role};
use site::kernel::{commit, kernel_of, take_over, take_up};
use site::{Site, grouped};

fn two_groups(node: usize) -> Config {
    Config { groups: vec!["inside".to_owned(), "outside".to_owned()], ..grouped(node) }
}

/// A serves flows 0 to 99, B 1000 to 1099, and each has told the other.
fn shared() -> Site {
    let mut site = Site::new(2, 1, FAIR, two_groups);
    site.run_s(3);
    for (node, first) in [(A, 0), (B, 1000)] {
        site.activate(node);
        for number in first..first + 100 {
            site.create(node, number);
        }
        site.run_s(5);
    }
    site
}

#[test]
fn both_serve_and_each_holds_what_the_other_serves() {
    let site = shared();
    site.assert_replicated(A, B);
    site.assert_replicated(B, A);
    site.assert_in_sync([A, B]);
}

#[test]
fn what_ends_at_one_ends_in_the_others_cache_and_nowhere_else() {
    let mut site = shared();
    for number in 0..10 {
        site.destroy(A, number);
    }
    site.run_s(2);
    site.assert_replicated(A, B);
    site.assert_replicated(B, A);
    assert_eq!(site.kernels[B].len(), 100);
}

#[test]
fn when_one_dies_the_other_has_the_flows_of_both_and_tells_them_when_it_returns() {
    let mut site = shared();
    site.plugged[A] = [false; 2];
    take_over(&mut site, B);
    assert_eq!(site.kernels[B].len(), 200);
    site.run_s(10);
    assert_eq!(site.nodes[B].external_len(), 0, "what a dead router told lives here or nowhere");
    site.kernels[A].clear();
    site.plugged[A] = [true; 2];
    site.restart(A);
    site.run_s(5);
    site.assert_replicated(B, A);
    site.assert_in_sync([A, B]);

    // The load is shared again.
    take_over(&mut site, A);
    let now = site.now;
    site.nodes[B].give_up_group(now);
    site.run_s(5);
    assert_eq!(site.nodes[B].role(), Role::Active);
    assert!(site.kernels[B].len() == 200 && site.kernels[A].len() == 200);
    site.assert_replicated(A, B);
    site.assert_replicated(B, A);
    site.assert_in_sync([A, B]);
}

#[test]
fn the_end_of_a_copy_left_behind_is_no_end_of_the_flow_that_lives_elsewhere() {
    let mut site = shared();
    take_over(&mut site, B);
    let now = site.now;
    site.nodes[A].deactivate(now);
    site.run_s(5);
    // What A had of its flows expires there.
    for number in 0..100 {
        site.destroy(A, number);
    }
    site.run_s(5);
    assert_eq!(site.kernels[B].len(), 200);
    site.assert_replicated(B, A);
}

#[test]
fn a_router_that_serves_is_in_sync_only_when_it_has_what_the_other_one_serves() {
    let mut site = shared();
    site.plugged[A] = [false; 2];
    site.run_s(10);
    assert!(!site.nodes[B].sync_state().in_sync);
    for number in 200..300 {
        site.create(A, number);
    }
    site.plugged[A] = [true; 2];
    let mut was_behind = false;
    for _ in 0..5_000 {
        site.run(std::time::Duration::from_millis(1));
        let has_all = site.nodes[B].external_len() == 200;
        was_behind |= !has_all;
        assert!(has_all || !site.nodes[B].sync_state().in_sync);
    }
    assert!(was_behind);
    site.assert_in_sync([A, B]);
    site.assert_replicated(A, B);
}

#[test]
fn a_flow_that_lives_here_is_not_set_back_by_an_older_copy_of_it() {
    let mut site = shared();
    // A tells an older state of a flow of B's: what was left of it there.
    let mut old = flow(1000);
    old.protocol_state = tcp(2);
    old.timeout_s = Some(60);
    let event = KernelEvent { change: Change::New, flow: &old, own: false };
    let now = site.now;
    site.nodes[A].handle_kernel_event(event, now);
    // And another translation of one more.
    let mut other = flow(1001);
    other.reply.l4 = L4::Ports { source: 80, destination: 9 };
    let event = KernelEvent { change: Change::New, flow: &other, own: false };
    site.nodes[A].handle_kernel_event(event, now);
    site.drain(A);
    site.run_s(2);
    assert_eq!(site.nodes[B].external_len(), 102);
    let mut kernel = kernel_of(&site, B);
    commit(&mut site, B, &mut kernel);
    let lives = &kernel[&flow(1000).key()];
    assert_eq!((lives.timeout_s, lives.reply), (Some(432_000), flow(1000).reply));
    assert!(matches!(lives.protocol_state,
        lockstep_ctnetlink::ProtocolState::Tcp(tcp) if tcp.state == 3));
    assert_eq!(kernel[&flow(1001).key()].reply, flow(1001).reply);
    assert_eq!(site.nodes[B].counters().commit_refused, 1, "the clash is reported");
}

#[test]
fn what_the_old_master_of_a_group_tells_after_the_commit_gets_into_the_kernel() {
    let mut site = shared();
    let mut kernel = kernel_of(&site, B);
    commit(&mut site, B, &mut kernel);
    site.create(A, 500);
    site.run(std::time::Duration::from_millis(10));
    site.activate(B);
    site.create(A, 501);
    site.run(std::time::Duration::from_millis(10));
    let now = site.now;
    site.nodes[A].deactivate(now);
    site.run(std::time::Duration::from_millis(10));
    take_up(&mut site, B, &mut kernel);
    assert!(site.kernels[B].contains(&500) && site.kernels[B].contains(&501));
    site.run_s(5);
    site.assert_replicated(B, A);
}

#[test]
fn after_a_commit_that_no_role_follows_each_keeps_its_own_again() {
    let mut site = shared();
    let mut kernel = kernel_of(&site, B);
    commit(&mut site, B, &mut kernel);
    site.run_s(30);
    take_up(&mut site, B, &mut kernel);
    let before = site.kernels[B].len();
    site.create(A, 500);
    site.run_s(2);
    take_up(&mut site, B, &mut kernel);
    assert_eq!(site.kernels[B].len(), before);
    site.assert_replicated(A, B);
}

#[test]
fn after_two_masters_the_one_that_stays_has_the_flows_of_both() {
    for config in [two_groups as fn(usize) -> Config] {
        let mut site = Site::new(2, 1, FAIR, config);
        site.run_s(3);
        site.activate(A);
        for number in 0..100 {
            site.create(A, number);
        }
        site.run_s(5);
        site.plugged[A] = [false; 2];
        site.run_s(6);
        take_over(&mut site, B);
        for (node, first) in [(A, 1000), (B, 2000)] {
            for number in first..first + 100 {
                site.create(node, number);
            }
        }
        site.run_s(20);
        // They hear each other again: B gives way, before or after it has been heard.
        site.plugged[A] = [true; 2];
        let now = site.now;
        site.nodes[B].deactivate(now);
        site.drain(B);
        let mut kernel = kernel_of(&site, A);
        for _ in 0..50 {
            site.run(std::time::Duration::from_millis(100));
            take_up(&mut site, A, &mut kernel);
        }
        assert_eq!(site.kernels[A].len(), 300);
        site.run_s(5);
        site.assert_replicated(A, B);
        site.assert_in_sync([A, B]);
        assert_eq!(site.nodes[A].counters().taken_up, 100);
    }
}
