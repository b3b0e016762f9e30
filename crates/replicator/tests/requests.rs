//! What people ask for: parts of the caches, and flows out of the kernel.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{A, B, FAIR, World, flow, set};
use lockstep_ctnetlink::{Flow, HelperName};
use lockstep_replicator::{Change, Purge, Replicator};

#[test]
fn every_flow_is_in_exactly_one_part_of_a_cache() {
    let mut world = World::new(1, FAIR);
    for number in 0..1000 {
        world.create(A, number);
    }
    for number in (0..1000).step_by(3) {
        world.destroy(A, number);
    }
    world.run(Duration::from_millis(50));
    let mut shown = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let (flows, rest) = world.nodes[A].internal_part(from, 64, world.now);
        assert!(flows.len() <= 64);
        shown.extend(flows.into_iter().map(|(flow, _)| flow));
        next = rest;
    }
    let expected = world.nodes[A].internal_len();
    assert_eq!(shown.len(), expected);
    assert_eq!(set(shown.into_iter()), set(world.nodes[A].internal_flows()));
}

#[test]
fn the_age_of_a_flow_is_the_time_since_it_changed() {
    let mut world = World::new(1, FAIR);
    world.event(A, Change::New, &flow(1), false);
    world.run_s(7);
    let (flows, next) = world.nodes[A].internal_part(0, 10, world.now);
    assert_eq!((flows.len(), next), (1, None));
    assert_eq!(flows[0].1, 7);
}

#[test]
fn a_purge_that_is_asked_for_takes_what_is_there_then_and_only_when_its_time_has_come() {
    let mut world = World::new(1, FAIR);
    world.event(A, Change::New, &flow(1), false);
    world.nodes[A].request_purge(world.now);
    world.event(A, Change::New, &flow(2), false);
    world.run_s(59);
    assert!(!world.nodes[A].purge_wanted());
    world.run_s(2);
    let purge = world.nodes[A].begin_purge().unwrap();
    assert_eq!(taken(purge, &world.nodes[A]), set([flow(1)].into_iter()));
}

#[test]
fn a_flush_of_the_kernel_takes_everything_at_once() {
    let mut world = World::new(1, FAIR);
    let numbers = 0..10;
    for number in numbers.clone() {
        world.event(A, Change::New, &flow(number), false);
    }
    let purge = world.nodes[A].begin_kernel_flush();
    assert_eq!(taken(purge, &world.nodes[A]), set(numbers.map(flow)));
}

#[test]
fn what_is_read_after_the_role_was_left_in_the_middle_of_the_reading_is_purged_too() {
    let mut world = World::new(1, FAIR);
    let now = world.now;
    let node = &mut world.nodes[A];
    node.activate(now);
    node.begin_dump();
    node.dumped(&flow(1), now);
    node.deactivate(now);
    node.dumped(&flow(2), now);
    assert!(node.end_dump(now));
    // What appears later, even if only another reading tells of it, is not ours.
    node.begin_dump();
    for number in 1..=3 {
        node.dumped(&flow(number), now);
    }
    assert!(node.end_dump(now));
    world.create(B, 9);
    world.activate(B);
    world.run_s(61);
    let purge = world.nodes[A].begin_purge().unwrap();
    assert_eq!(taken(purge, &world.nodes[A]), set([flow(1), flow(2)].into_iter()));
}

#[test]
fn what_an_event_tells_during_a_reading_outranks_the_table_and_is_completed_by_it() {
    let mut world = World::new(1, FAIR);
    let now = world.now;
    world.event(A, Change::New, &Flow { mark: Some(1), ..flow(1) }, false);
    world.nodes[A].begin_dump();
    // The kernel had the part with both ready before these.
    world.event(A, Change::Update, &Flow { mark: Some(2), ..flow(1) }, false);
    world.event(A, Change::Update, &Flow { timeout_s: Some(9), ..flow(2) }, false);
    let node = &mut world.nodes[A];
    node.dumped(&Flow { mark: Some(1), ..flow(1) }, now);
    let helper = HelperName::new(b"ftp");
    node.dumped(&Flow { mark: Some(5), timeout_s: Some(7), helper, ..flow(2) }, now);
    assert!(node.end_dump(now));
    let known: Vec<_> = node.internal_flows().collect();
    let of = |number| known.iter().find(|known| known.orig == flow(number).orig).unwrap();
    assert_eq!(of(1).mark, Some(2));
    assert_eq!((of(2).mark, of(2).timeout_s, of(2).helper), (Some(5), Some(9), helper));
    // Another reading tells the news.
    node.begin_dump();
    node.dumped(&Flow { mark: Some(3), ..flow(1) }, now);
    node.dumped(&flow(2), now);
    assert!(node.end_dump(now));
    assert!(node.internal_flows().any(|known| known.mark == Some(3)));
}

fn taken(mut purge: Purge, node: &Replicator) -> BTreeSet<String> {
    set(std::iter::from_fn(|| purge.next(node)))
}
