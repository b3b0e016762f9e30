//! Two routers of one group that both served: what the one that gives way leaves to the other one.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod site;

use std::time::Duration;

use common::{A, B, FAIR, flow, tcp};
use lockstep_ctnetlink::Flow;
use lockstep_replicator::{Change, Config, Event, KernelEvent};
use site::kernel::{Kernel, kernel_of, take_over, take_up};
use site::{Site, grouped};

const C: usize = 2;

/// Nodes that have run for so long that they know what has ended; A serves a hundred flows.
fn served_by_a(nodes: usize, config: fn(usize) -> Config) -> Site {
    let mut site = Site::new(nodes, 1, FAIR, config);
    site.run_s(30);
    site.activate(A);
    for number in 0..100 {
        site.create(A, number);
    }
    site.run_s(5);
    site
}

/// A and B cannot hear each other, and both serve.
fn both_serve() -> Site {
    let mut site = served_by_a(2, grouped);
    site.plugged[A] = [false; 2];
    site.run_s(6);
    take_over(&mut site, B);
    site
}

fn give_way(site: &mut Site, node: usize) {
    let now = site.now;
    site.nodes[node].deactivate(now);
    site.drain(node);
}

/// They hear each other again, and `stays` puts into its kernel what it is left.
fn merge(site: &mut Site, stays: usize) -> Kernel {
    site.plugged[A] = [true; 2];
    let mut kernel = kernel_of(site, stays);
    for _ in 0..50 {
        site.run(Duration::from_millis(100));
        take_up(site, stays, &mut kernel);
    }
    kernel
}

#[test]
fn the_one_that_stays_has_the_flows_of_both() {
    for (stays, gives_way) in [(A, B), (B, A)] {
        let mut site = both_serve();
        for (node, first) in [(A, 1000), (B, 2000)] {
            for number in first..first + 100 {
                site.create(node, number);
            }
        }
        site.run_s(20);
        give_way(&mut site, gives_way);
        merge(&mut site, stays);
        assert_eq!(site.kernels[stays].len(), 300);
        site.run_s(5);
        site.assert_replicated(stays, gives_way);
        site.assert_in_sync([A, B]);
        assert_eq!(site.nodes[stays].counters().taken_up, 100);
        let told = |event: &Event| matches!(event, Event::TakenUp { refused: 0, .. });
        assert!(site.events[stays].iter().any(told));
    }
}

#[test]
fn two_masters_that_hear_only_each_others_flows_are_noticed_and_merged() {
    let mut site = served_by_a(2, grouped);
    take_over(&mut site, B);
    site.run_s(5);
    for number in 2000..2100 {
        site.create(B, number);
    }
    site.run_s(20);
    let mut kernel = kernel_of(&site, A);
    take_up(&mut site, A, &mut kernel);
    assert_eq!(site.kernels[A].len(), 100, "as long as both serve, each keeps its own");
    give_way(&mut site, B);
    merge(&mut site, A);
    site.run_s(5);
    assert_eq!(site.kernels[A].len(), 200);
    site.assert_replicated(A, B);
    let counters = site.nodes[A].counters();
    assert_eq!((counters.taken_up, counters.gave_way), (100, 1));
    assert!(counters.made_liberal >= 100, "what went by B may be outside the windows A knows");
    assert!(site.events[A].iter().any(|event| matches!(event, Event::GaveWay { .. })));
}

#[test]
fn what_the_old_master_began_last_gets_into_the_kernel_of_the_new_one() {
    let mut site = served_by_a(2, grouped);
    take_over(&mut site, B);
    site.create(A, 200);
    site.run(Duration::from_millis(10));
    site.create(A, 201);
    give_way(&mut site, A);
    merge(&mut site, B);
    assert!([200, 201].iter().all(|number| site.kernels[B].contains(number)));
    assert_eq!(site.nodes[B].counters().made_liberal, 0, "a takeover is no second master");
    site.run_s(5);
    site.assert_replicated(B, A);
    site.assert_in_sync([A, B]);
}

#[test]
fn what_has_ended_at_the_one_that_stays_is_not_revived() {
    let mut site = both_serve();
    for number in 2000..2100 {
        site.create(B, number);
    }
    // Packets of some came by A as well, and their ends.
    for number in 2000..2010 {
        site.create(A, number);
    }
    site.run_s(5);
    for number in (0..10).chain(2000..2010) {
        site.destroy(A, number);
    }
    give_way(&mut site, B);
    merge(&mut site, A);
    let expected = (10..100).chain(2010..2100).collect();
    assert_eq!(site.kernels[A], expected);
    assert_eq!(site.nodes[A].counters().taken_up_refused, 0, "nobody misses them");
    site.run_s(5);
    site.assert_replicated(A, B);
}

#[test]
fn what_ends_again_after_it_was_taken_up_stays_ended() {
    let mut site = both_serve();
    site.create(B, 2000);
    give_way(&mut site, B);
    merge(&mut site, A);
    assert!(site.kernels[A].contains(&2000));
    site.destroy(A, 2000);
    // B tells everything anew.
    site.plugged[A] = [false; 2];
    site.run_s(6);
    merge(&mut site, A);
    assert!(!site.kernels[A].contains(&2000));
}

#[test]
fn what_lives_at_the_one_that_stays_is_not_touched() {
    let mut site = both_serve();
    let closing = Flow { protocol_state: tcp(5), ..flow(2000) };
    let mut moved = flow(2001);
    moved.reply.destination = "203.0.113.77".parse().unwrap();
    for number in [2000, 2001] {
        site.create(A, number);
    }
    for flow in [&closing, &moved] {
        let event = KernelEvent { change: Change::New, flow, own: false };
        let now = site.now;
        site.nodes[B].handle_kernel_event(event, now);
    }
    give_way(&mut site, B);
    let kernel = merge(&mut site, A);
    for number in [2000, 2001] {
        assert_eq!(kernel[&flow(number).key()], flow(number));
    }
    let named = |event: &Event| match event {
        Event::TakenUp { flows: 0, refused: 1, example } => example.clone(),
        _ => None,
    };
    let example = site.events[A].iter().find_map(named).unwrap();
    assert!(example.contains("lives here"), "{example}");
    assert_eq!(site.nodes[A].counters().taken_up_refused, 1);
}

#[test]
fn a_flow_that_may_have_ended_before_the_router_started_is_not_taken_and_named() {
    let mut site = both_serve();
    site.create(B, 2000);
    site.run_s(1);
    site.restart(A);
    site.activate(A);
    site.run_s(30);
    site.create(B, 2001);
    give_way(&mut site, B);
    merge(&mut site, A);
    assert!(site.kernels[A].contains(&2001) && !site.kernels[A].contains(&2000));
    let named = |event: &Event| match event {
        Event::TakenUp { refused: 1, example, .. } => example.clone(),
        _ => None,
    };
    let example = site.events[A].iter().find_map(named).unwrap();
    assert!(example.contains("all ends are known"), "{example}");
}

#[test]
fn who_gave_way_keeps_its_flows_until_the_other_one_has_been_told_of_them() {
    let mut site = both_serve();
    for number in 2000..2100 {
        site.create(B, number);
    }
    give_way(&mut site, B);
    // Far longer than the purge's time.
    site.run_s(300);
    assert!(!site.nodes[B].purge_wanted(), "{:?}", site.nodes[B].purge_put_off());
    site.plugged[A] = [true; 2];
    let mut kernel = kernel_of(&site, A);
    for _ in 0..100 {
        site.run(Duration::from_millis(10));
        take_up(&mut site, A, &mut kernel);
        assert!(!site.nodes[B].purge_wanted() || site.kernels[A].len() == 200);
    }
    site.run_s(5);
    assert_eq!(site.kernels[A].len(), 200);
    assert!(site.nodes[B].purge_wanted());
}

#[test]
fn among_three_nobody_is_left_anything() {
    let mut site = served_by_a(3, grouped);
    take_over(&mut site, B);
    for number in 2000..2100 {
        site.create(B, number);
    }
    site.run_s(10);
    give_way(&mut site, B);
    merge(&mut site, A);
    assert_eq!(site.kernels[A].len(), 100);
    site.run_s(120);
    site.assert_replicated(A, C);
}
