//! Expectations from one router's kernel to the other's cache.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{A, B, FAIR, Weather, World, config, flow};
use lockstep_ctnetlink::{Expectation, HelperName, L4};
use lockstep_replicator::{
    Cache, Change, Commit, CommitPart, Config, Event, ExpectationEvent, Expectations,
    PlannedExpectation, Standby,
};
use std::time::Duration;

/// What the FTP helper expects of the control connection with this number.
fn expected(number: u32, port: u16) -> Expectation {
    let master = flow(number).orig;
    let mut tuple = master.inverse();
    tuple.l4 = L4::Ports { source: 0, destination: port };
    let mut mask = tuple;
    mask.l4 = L4::Ports { source: 0, destination: 0xffff };
    let mut expectation = Expectation::new(master, tuple, mask);
    expectation.timeout_s = Some(300);
    expectation.helper = HelperName::new(b"ftp");
    expectation
}

fn pair(weather: Weather, config: &Config) -> World {
    let mut world = World::with(3, weather, config);
    world.run_s(3);
    world.activate(A);
    world.run_s(1);
    world
}

fn tell(world: &mut World, change: Change, expectation: &Expectation) {
    let event = ExpectationEvent { change, expectation, own: false };
    world.nodes[A].handle_expectation_event(event, world.now);
    world.drain(A);
}

fn port(expectation: &Expectation) -> u16 {
    match expectation.tuple.l4 {
        L4::Ports { destination, .. } => destination,
        L4::None | L4::Icmp { .. } => 0,
    }
}

fn has(world: &World, node: usize) -> Vec<u16> {
    let ports = world.nodes[node].external_expectations().map(port);
    let mut ports: Vec<_> = ports.collect();
    ports.sort_unstable();
    ports
}

#[test]
fn what_the_kernel_expects_is_told_and_its_end_as_well() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    tell(&mut world, Change::New, &expected(1, 4001));
    world.run_s(1);
    assert_eq!(has(&world, B), [4000, 4001]);
    let arrived = world.nodes[B].external_expectations().next().unwrap().clone();
    assert_eq!(arrived, expected(1, 4000));
    assert!(world.nodes[B].has_external_master(&arrived));
    tell(&mut world, Change::Delete, &expected(1, 4000));
    world.run_s(2);
    assert_eq!(has(&world, B), [4001]);
    assert_eq!(world.nodes[A].internal_expectations_len(), 1);
}

#[test]
fn an_expectation_without_a_known_master_or_of_another_helper_is_left_out() {
    let mut config = config();
    config.expectations = Expectations::Of(vec!["ftp".to_owned()]);
    let mut world = pair(FAIR, &config);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.create(A, 1);
    let mut sip = expected(1, 4001);
    sip.helper = HelperName::new(b"sip");
    tell(&mut world, Change::New, &sip);
    tell(&mut world, Change::New, &expected(1, 4002));
    world.run_s(1);
    assert_eq!(has(&world, B), [4002]);
    assert_eq!(world.nodes[A].counters().internal_expectations_filtered, 2);
}

#[test]
fn a_router_that_comes_late_gets_the_expectations_after_the_flows() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.restart(B, &config());
    world.run_s(5);
    assert_eq!((world.nodes[B].external_len(), has(&world, B)), (1, vec![4000]));
}

#[test]
fn a_full_copy_leaves_no_expectation_that_has_ended() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    tell(&mut world, Change::New, &expected(1, 4001));
    world.run_s(1);
    world.connected = false;
    world.run_s(10);
    tell(&mut world, Change::Delete, &expected(1, 4000));
    world.run_s(60);
    world.connected = true;
    world.run_s(10);
    assert_eq!(has(&world, B), [4001]);
}

#[test]
fn a_reading_of_the_kernel_finds_what_events_did_not_tell() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    let now = world.now;
    world.nodes[A].begin_expectation_dump();
    world.nodes[A].dumped_expectation(&expected(1, 4001), now);
    world.nodes[A].dumped_expectation(&expected(9, 4002), now);
    assert!(world.nodes[A].end_expectation_dump(now));
    world.drain(A);
    world.run_s(1);
    assert_eq!(has(&world, B), [4001]);
}

#[test]
fn helpers_that_are_left_out_by_new_settings_end_at_the_peer() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.run_s(1);
    let mut off = config();
    off.expectations = Expectations::Off;
    assert!(world.nodes[A].configure(off, world.now));
    world.drain(A);
    world.run_s(1);
    assert_eq!(has(&world, B), []);
    assert_eq!(world.nodes[B].external_len(), 1);
}

#[test]
fn expectations_survive_loss_and_reordering() {
    let weather = Weather { loss: 20, duplication: 10, longest_delay: Duration::from_millis(30) };
    let mut world = pair(weather, &config());
    for number in 0..200 {
        world.create(A, number);
        tell(&mut world, Change::New, &expected(number, number as u16));
        if number % 2 == 0 {
            tell(&mut world, Change::Delete, &expected(number, number as u16));
        }
        world.run(Duration::from_millis(5));
    }
    world.run_s(30);
    assert_eq!(has(&world, B), (0..200).filter(|n| n % 2 == 1).collect::<Vec<u16>>());
    assert_eq!(world.nodes[B].external_len(), 200);
}

#[test]
fn the_router_that_takes_over_forgets_what_it_was_told() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.run_s(1);
    assert_eq!(has(&world, B), [4000]);
    world.activate(B);
    assert_eq!(has(&world, B), []);
}

/// The ports of what a commit of B creates, and of what it removes, as a kernel does it that has
/// room for all.
fn carried_out(world: &World, commit: &mut Commit) -> (Vec<u16>, Vec<u16>) {
    while commit.next(&world.nodes[B], world.now).is_some() {}
    let (mut created, mut removed) = (Vec::new(), Vec::new());
    while let Some(planned) = commit.next_expectation(&world.nodes[B], world.now) {
        match &planned {
            PlannedExpectation::Create(it) => created.push(port(it)),
            PlannedExpectation::Remove(it) => removed.push(port(it)),
        }
        commit.expectation_done(&planned);
    }
    (created, removed)
}

/// The ports of what a commit of B creates; it removes nothing.
fn committed(world: &World, commit: &mut Commit) -> Vec<u16> {
    let (created, removed) = carried_out(world, commit);
    assert_eq!(removed, []);
    created
}

#[test]
fn what_is_told_behind_the_walk_of_a_commit_is_committed_too() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    for port in 4000..4003 {
        tell(&mut world, Change::New, &expected(1, port));
    }
    world.run_s(1);
    let mut commit = world.nodes[B].begin_commit();
    assert_eq!(committed(&world, &mut commit), [4000, 4001, 4002]);
    // The place of the one that ended is taken by another.
    tell(&mut world, Change::Delete, &expected(1, 4000));
    world.run_s(1);
    tell(&mut world, Change::New, &expected(1, 4003));
    world.run_s(1);
    assert_eq!(carried_out(&world, &mut commit), (vec![4003], vec![4000]));
    assert_eq!(carried_out(&world, &mut commit), (vec![], vec![]));
    assert_eq!((commit.report().expectations, commit.report().deleted), (4, 1));
}

#[test]
fn what_ends_and_is_told_again_during_a_commit_is_there_at_its_end() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.run_s(1);
    let mut commit = world.nodes[B].begin_commit();
    assert_eq!(committed(&world, &mut commit), [4000]);
    tell(&mut world, Change::Delete, &expected(1, 4000));
    world.run_s(1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.run_s(1);
    // It is in the kernel already, and is not taken out from there.
    assert_eq!(committed(&world, &mut commit), [4000]);
    tell(&mut world, Change::Delete, &expected(1, 4000));
    world.run_s(1);
    assert_eq!(carried_out(&world, &mut commit), (vec![], vec![4000]));
}

#[test]
fn what_the_kernel_has_dropped_itself_is_no_refusal() {
    const ENOENT: i32 = 2;
    const EPERM: i32 = 1;
    let mut commit = pair(FAIR, &config()).nodes[B].begin_commit();
    let ended = PlannedExpectation::Remove(expected(1, 4000));
    assert_eq!(commit.expectation_refused(ended.clone(), ENOENT, "no such entry"), None);
    assert_eq!(commit.report().refused(), 0);
    assert_eq!(commit.expectation_refused(ended, EPERM, "not permitted"), None);
    assert_eq!((commit.report().refused(), commit.report().deleted), (1, 0));
}

#[test]
fn what_is_told_between_the_commit_and_the_active_role_is_committed_too() {
    for standby in [Standby::Cache, Standby::Kernel] {
        let mut config = config();
        config.standby = standby;
        let mut world = pair(FAIR, &config);
        world.create(A, 1);
        tell(&mut world, Change::New, &expected(1, 4000));
        tell(&mut world, Change::New, &expected(1, 4001));
        world.run_s(1);
        let mut commit = world.nodes[B].begin_commit();
        assert_eq!(committed(&world, &mut commit), [4000, 4001]);
        world.nodes[B].end_commit(commit.report());
        tell(&mut world, Change::Delete, &expected(1, 4000));
        tell(&mut world, Change::New, &expected(1, 4002));
        world.run_s(1);
        world.nodes[B].activate(world.now);
        world.drain(B);
        assert_eq!((world.nodes[B].late_flows(), has(&world, B)), (2, vec![4002]));
        let mut late = world.nodes[B].begin_commit();
        assert_eq!(carried_out(&world, &mut late), (vec![4002], vec![4000]), "{standby:?}");
        world.nodes[B].end_commit(late.report());
        assert_eq!((world.nodes[B].late_flows(), has(&world, B)), (0, vec![]));
    }
}

#[test]
fn a_commit_of_a_part_leaves_the_other_alone() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.run_s(1);
    let mut flows = world.nodes[B].begin_commit_of(CommitPart::Flows);
    assert!(flows.next(&world.nodes[B], world.now).is_some());
    assert_eq!(committed(&world, &mut flows), []);
    world.nodes[B].end_commit(flows.report());
    // Told after it, and not forgotten by what comes between.
    world.create(A, 2);
    world.run_s(1);
    let mut expectations = world.nodes[B].begin_commit_of(CommitPart::Expectations);
    assert_eq!(expectations.next(&world.nodes[B], world.now), None);
    assert_eq!(committed(&world, &mut expectations), [4000]);
    world.nodes[B].end_commit(expectations.report());
    world.nodes[B].activate(world.now);
    assert_eq!(world.nodes[B].late_flows(), 1);
}

#[test]
fn an_expectation_whose_flow_is_not_known_is_not_committed_and_says_why() {
    let mut world = pair(FAIR, &config());
    let mut small = config();
    small.cache_limit = 1;
    let now = world.now;
    assert!(!world.nodes[B].configure(small, now));
    for number in 1..=2 {
        world.create(A, number);
        tell(&mut world, Change::New, &expected(number, 4000 + number as u16));
        // The flow that comes first is the one for which there is room.
        world.run_s(1);
    }
    let told = world.nodes[B].external_expectations_len();
    assert_eq!((world.nodes[B].external_len(), told), (1, 2));
    let mut commit = world.nodes[B].begin_commit();
    while let Some(planned) = commit.next(&world.nodes[B], now) {
        commit.done(&planned);
    }
    let mut tried = Vec::new();
    while let Some(expectation) = commit.next_expectation(&world.nodes[B], now) {
        let PlannedExpectation::Create(expectation) = expectation else { panic!("removed") };
        tried.push(expectation.tuple);
    }
    assert_eq!(tried, [expected(1, 4001).tuple]);
    let report = commit.report();
    assert_eq!(report.refused(), 1);
    assert!(format!("{:?}", report.samples).contains("its flow is not known"), "{report:?}");
}

#[test]
fn a_router_that_refused_expectations_of_its_kernel_is_not_in_sync_before_it_has_read_them_again() {
    const LIMIT: u32 = 65_536;
    let of = |number: u32| {
        let mut expectation = expected(1, number as u16);
        expectation.class = number >> 16;
        expectation
    };
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    for number in 0..LIMIT + 3 {
        let expectation = of(number);
        let event = ExpectationEvent { change: Change::New, expectation: &expectation, own: false };
        world.nodes[A].handle_expectation_event(event, world.now);
    }
    world.drain(A);
    world.run_s(30);
    assert_eq!(world.nodes[A].counters().internal_expectations_full, 3);
    assert!(!world.in_sync(A), "nobody has been told of three");
    let room = Event::CacheHasRoom { cache: Cache::InternalExpectations };
    assert!(!world.events[A].contains(&room));
    for number in 0..LIMIT / 8 {
        tell(&mut world, Change::Delete, &of(number));
    }
    world.run_s(30);
    assert!(world.events[A].contains(&room), "read the list again");
    assert!(!world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
    let now = world.now;
    world.nodes[A].begin_expectation_dump();
    for number in LIMIT / 8..LIMIT + 3 {
        world.nodes[A].dumped_expectation(&of(number), now);
        assert!(!world.in_sync(A));
    }
    assert!(world.nodes[A].end_expectation_dump(now));
    assert!(!world.in_sync(A), "they wait to be told");
    world.drain(A);
    world.run_s(10);
    assert!(world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
    assert_eq!(world.nodes[B].external_expectations_len(), (LIMIT - LIMIT / 8 + 3) as usize);
}

#[test]
fn expectations_that_are_not_replicated_any_more_are_not_missed() {
    let mut world = pair(FAIR, &config());
    world.create(A, 1);
    tell(&mut world, Change::New, &expected(1, 4000));
    world.run_s(1);
    assert!(world.in_sync(A));
    world.nodes[A].flush_internal();
    let now = world.now;
    world.nodes[A].begin_dump();
    world.nodes[A].dumped(&flow(1), now);
    assert!(world.nodes[A].end_dump(now));
    world.drain(A);
    world.run_s(2);
    assert!(!world.in_sync(A), "the list has not been read again");
    let mut off = config();
    off.expectations = Expectations::Off;
    assert!(world.nodes[A].configure(off, world.now));
    world.drain(A);
    world.run_s(2);
    assert!(world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
}
