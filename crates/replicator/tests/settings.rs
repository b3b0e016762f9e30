//! Filters, limits and their changes while a replicator runs, as the peer sees them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, World, config, flow, tcp};
use lockstep_ctnetlink::{Flow, HelperName, SequenceAdjustment, Status};
use lockstep_replicator::{Cache, Change, Config, Event, KernelEvent, Mode};

fn in_state(number: u32, state: u8) -> Flow {
    let mut flow = flow(number);
    flow.protocol_state = tcp(state);
    flow
}

fn pair(config: &Config) -> World {
    let mut world = World::with(1, FAIR, config);
    world.run_s(2);
    world.activate(A);
    world.run_s(1);
    world
}

/// The settings put in force on A, with a reading of the kernel's table when one is wanted.
fn configure(world: &mut World, config: &Config, kernel: &[Flow]) -> bool {
    let now = world.now;
    let reread = world.nodes[A].configure(config.clone(), now);
    if reread {
        world.nodes[A].begin_dump();
        for flow in kernel {
            world.nodes[A].dumped(flow, now);
        }
        assert!(world.nodes[A].end_dump(now));
    }
    world.drain(A);
    world.run_s(1);
    reread
}

#[test]
fn a_flow_is_told_from_the_state_on_that_is_replicated_and_its_end_always() {
    let mut config = config();
    config.filter.tcp_states = vec![3];
    let mut world = pair(&config);
    world.event(A, Change::New, &in_state(1, 1), false);
    world.event(A, Change::Update, &in_state(1, 2), false);
    world.run_s(1);
    assert_eq!(world.nodes[B].external_len(), 0);
    world.event(A, Change::Update, &in_state(1, 3), false);
    world.run_s(1);
    assert_eq!(world.nodes[B].external_len(), 1);
    world.event(A, Change::Update, &in_state(1, 4), false);
    world.run_s(1);
    let told = world.nodes[B].external_flows().next().unwrap();
    assert_eq!(told.protocol_state, tcp(4), "a flow that was told is kept up to date");
    world.event(A, Change::Delete, &in_state(1, 7), false);
    world.run_s(1);
    assert_eq!((world.nodes[A].internal_len(), world.nodes[B].external_len()), (0, 0));
}

#[test]
fn an_end_of_a_flow_that_was_never_told_is_not_told() {
    let mut config = config();
    config.filter.tcp_states = vec![3];
    let mut world = pair(&config);
    let before = world.nodes[A].counters().messages_sent;
    for change in [Change::New, Change::Delete] {
        world.event(A, change, &in_state(1, 1), false);
    }
    assert_eq!(world.nodes[A].counters().messages_sent, before);
}

#[test]
fn what_the_first_event_said_of_a_flow_told_late_is_asked_for_once() {
    let mut config = config();
    config.filter.tcp_states = vec![3];
    let mut world = pair(&config);
    let mut whole = in_state(1, 1);
    whole.labels = Some([4, 0, 0, 0]);
    world.event(A, Change::New, &whole, false);
    assert_eq!(world.nodes[A].next_refresh(world.now), None);
    world.event(A, Change::Update, &in_state(1, 3), false);
    assert_eq!(world.nodes[A].refresh_deadline(world.now), Some(world.now));
    let key = world.nodes[A].next_refresh(world.now).unwrap();
    assert_eq!(key, flow(1).key());
    assert_eq!(world.nodes[A].next_refresh(world.now), None, "once");
    whole.protocol_state = tcp(3);
    world.nodes[A].refreshed(&whole, world.now);
    world.drain(A);
    world.run_s(1);
    assert_eq!(world.nodes[B].external_flows().next().unwrap().labels, Some([4, 0, 0, 0]));
}

#[test]
fn flows_that_a_changed_filter_leaves_out_end_at_the_peer_and_come_back_with_it() {
    let mut world = pair(&config());
    let kernel: Vec<Flow> = (0..3).map(|number| flow(number << 12)).collect();
    for flow in &kernel {
        world.event(A, Change::New, flow, false);
    }
    world.run_s(1);
    assert_eq!(world.nodes[B].external_len(), 3);

    let mut narrower = config();
    narrower.filter.ignore_addresses = vec!["10.0.0.1/32".parse().unwrap()];
    assert!(configure(&mut world, &narrower, &kernel), "what was left out may be wanted");
    assert_eq!((world.nodes[A].internal_len(), world.nodes[B].external_len()), (2, 2));
    assert_eq!(world.nodes[A].counters().internal_unwanted, 1);

    assert!(configure(&mut world, &config(), &kernel));
    assert_eq!((world.nodes[A].internal_len(), world.nodes[B].external_len()), (3, 3));
    assert!(!configure(&mut world, &config(), &kernel), "nothing has changed");
}

#[test]
fn settings_that_need_a_new_replicator_stay_as_they_are() {
    let mut world = pair(&config());
    let mut other = config();
    other.links[0].port += 1;
    assert!(!world.nodes[A].can_take(&other));
    assert!(!configure(&mut world, &other, &[]));
    assert!(world.nodes[A].can_take(&config()), "the links are those of before");
    other = config();
    other.cache_limit = 7;
    assert!(world.nodes[A].can_take(&other));
}

#[test]
fn a_full_cache_says_so_once_and_says_when_there_is_room() {
    let mut config = config();
    config.cache_limit = 32;
    let mut world = pair(&config);
    for number in 0..40 {
        world.create(A, number);
    }
    let full = Event::CacheFull { cache: Cache::Internal };
    let room = Event::CacheHasRoom { cache: Cache::Internal };
    let count =
        |world: &World, event: &Event| world.events[A].iter().filter(|seen| *seen == event).count();
    assert_eq!((count(&world, &full), count(&world, &room)), (1, 0));
    assert_eq!(world.nodes[A].counters().internal_full, 8);
    for number in 0..4 {
        world.destroy(A, number);
    }
    world.run_s(2);
    assert_eq!((count(&world, &full), count(&world, &room)), (1, 1));
    for number in 50..60 {
        world.create(A, number);
    }
    assert_eq!((count(&world, &full), count(&world, &room)), (2, 1));
}

#[test]
fn a_raised_limit_lets_in_what_the_kernel_has() {
    let mut small = config();
    small.cache_limit = 2;
    let mut world = pair(&small);
    let kernel: Vec<Flow> = (0..5).map(flow).collect();
    for flow in &kernel {
        world.event(A, Change::New, flow, false);
    }
    assert_eq!(world.nodes[A].internal_len(), 2);
    assert!(world.nodes[B].configure(config(), world.now));
    assert!(configure(&mut world, &config(), &kernel));
    assert_eq!((world.nodes[A].internal_len(), world.nodes[B].external_len()), (5, 5));
}

/// An FTP control connection under NAT.
fn helped(number: u32) -> Flow {
    let mut flow = flow(number);
    flow.status = Status(flow.status.0 | Status::SRC_NAT);
    flow.helper = HelperName::new(b"ftp");
    flow
}

fn shifted(mut flow: Flow, offset_after: u32) -> Flow {
    let one = SequenceAdjustment { correction_position: 9, offset_before: 0, offset_after };
    flow.sequence_adjustment = Some([one, SequenceAdjustment::default()]);
    flow.status = Status(flow.status.0 | Status::SEQ_ADJUST);
    flow
}

#[test]
fn a_shift_of_sequence_numbers_that_the_kernel_does_not_tell_reaches_the_peer() {
    let mut world = pair(&config());
    world.event(A, Change::New, &helped(1), false);
    world.event(A, Change::New, &flow(2), false);
    world.run_s(1);
    let mut asked = Vec::new();
    for _ in 0..50 {
        world.now += std::time::Duration::from_millis(100);
        while let Some(key) = world.nodes[A].next_refresh(world.now) {
            asked.push(key);
            world.nodes[A].refreshed(&shifted(helped(1), 3), world.now);
        }
        world.drain(A);
    }
    assert!(asked.iter().all(|key| *key == helped(1).key()), "others are not looked at");
    assert!((5..=6).contains(&asked.len()), "about once a second: {}", asked.len());
    world.run_s(1);
    let told = world.nodes[B].external_flows().find(|flow| flow.helper.is_some()).unwrap();
    assert_eq!(told.sequence_adjustment, shifted(helped(1), 3).sequence_adjustment);
    assert_eq!(world.nodes[A].counters().refreshed_changed, 1, "it is told when it differs");
}

#[test]
fn an_answer_about_a_flow_that_has_ended_or_is_another_now_is_not_heeded() {
    let mut world = pair(&config());
    let mut first = helped(1);
    first.id = Some(1);
    world.event(A, Change::New, &first, false);
    let mut other = shifted(helped(1), 3);
    other.id = Some(2);
    world.nodes[A].refreshed(&other, world.now);
    world.event(A, Change::Delete, &first, false);
    world.nodes[A].refreshed(&shifted(first, 3), world.now);
    world.run_s(2);
    assert_eq!(world.nodes[A].counters().refreshed, 0);
    assert_eq!(world.nodes[A].internal_len(), 0);
    assert_eq!(world.nodes[A].next_refresh(world.now), None);
}

#[test]
fn a_backup_looks_at_nothing_and_what_is_looked_at_is_bounded() {
    let mut world = pair(&config());
    for number in 0..5000 {
        let flow = helped(number);
        let event = KernelEvent { change: Change::New, flow: &flow, own: true };
        world.nodes[A].handle_kernel_event(event, world.now);
    }
    assert_eq!(world.nodes[A].counters().refresh_overflow, 5000 - 4096);
    let later = world.now + std::time::Duration::from_secs(1);
    let asked = std::iter::from_fn(|| world.nodes[A].next_refresh(later)).count();
    assert_eq!(asked, 4096);
    world.nodes[A].deactivate(later);
    let much_later = later + std::time::Duration::from_secs(5);
    assert_eq!(world.nodes[A].next_refresh(much_later), None);
    assert_eq!(world.nodes[A].refresh_deadline(much_later), None);
}

#[test]
fn what_a_reading_does_not_find_any_more_is_cleared_at_the_peer() {
    let mut world = pair(&config());
    let mut labelled = shifted(helped(1), 3);
    labelled.labels = Some([4, 0, 0, 0]);
    labelled.mark = Some(9);
    world.event(A, Change::New, &labelled, false);
    world.run_s(1);
    let told = world.nodes[B].external_flows().next().unwrap();
    assert_eq!((told.labels, told.mark), (Some([4, 0, 0, 0]), Some(9)));
    let now = world.now;
    for _ in 0..2 {
        world.nodes[A].begin_dump();
        world.nodes[A].dumped(&helped(1), now);
        assert!(world.nodes[A].end_dump(now));
    }
    world.drain(A);
    world.run_s(1);
    let told = world.nodes[B].external_flows().next().unwrap();
    assert_eq!((told.labels.unwrap_or_default(), told.mark), ([0; 4], Some(0)));
}

#[test]
fn a_flow_made_anew_with_the_same_tuple_keeps_nothing_of_the_one_before() {
    let mut world = pair(&config());
    let mut first = flow(1);
    (first.id, first.labels, first.mark) = (Some(1), Some([4, 0, 0, 0]), Some(9));
    world.event(A, Change::New, &first, false);
    world.run_s(1);
    // The end of the first and the beginning of the second were among the events that were lost.
    let mut second = flow(1);
    second.id = Some(2);
    world.event(A, Change::Update, &second, false);
    world.run_s(1);
    let told = world.nodes[B].external_flows().next().unwrap();
    assert_eq!((told.labels, told.mark.unwrap_or_default()), (None, 0));
}

#[test]
fn a_backup_asks_for_what_it_had_no_room_for_as_soon_as_there_is_room() {
    let mut world = pair(&config());
    let mut small = config();
    small.cache_limit = 32;
    let now = world.now;
    assert!(!world.nodes[B].configure(small, now));
    for number in 0..40 {
        world.create(A, number);
    }
    world.run_s(1);
    assert_eq!(world.nodes[B].external_len(), 32);
    let asked = world.nodes[B].counters().resyncs_sent;
    for number in 0..10 {
        world.destroy(A, number);
    }
    world.run_s(2);
    assert_eq!(world.nodes[A].internal_len(), 30);
    assert_eq!(world.nodes[B].external_len(), 30);
    assert_eq!(world.nodes[B].counters().resyncs_sent, asked + 1, "once");
}

#[test]
fn a_changed_interval_holds_for_the_conversation_that_is_under_way() {
    let mut slow = config();
    slow.mode = Mode::Alarm;
    slow.refresh_interval = Duration::from_mins(10);
    slow.cache_timeout = Duration::from_mins(30);
    let mut world = pair(&slow);
    for number in 0..20 {
        world.create(A, number);
    }
    world.run_s(5);
    let told = world.nodes[A].counters().messages_sent;
    world.run_s(20);
    assert!(world.nodes[A].counters().messages_sent - told < 30, "the walk is slow");
    let mut quick = slow.clone();
    quick.refresh_interval = Duration::from_secs(4);
    quick.cache_timeout = Duration::from_secs(20);
    for node in [A, B] {
        let now = world.now;
        assert!(!world.nodes[node].configure(quick.clone(), now));
        world.drain(node);
    }
    let told = world.nodes[A].counters().messages_sent;
    world.run_s(20);
    assert!(world.nodes[A].counters().messages_sent - told >= 60, "every flow every four seconds");
    assert_eq!(world.nodes[B].external_len(), 20);
}
