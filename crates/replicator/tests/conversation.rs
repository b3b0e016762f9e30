//! Two replicators talk over a bad network and end up equal.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::time::Duration;

use common::{A, B, FAIR, Weather, World, config, flow, set, tcp};
use lockstep_replicator::wire::{Flags, encode_control, encode_flow_message};
use lockstep_replicator::{Action, Change, CopyState, Event, Origin, Role};

const BAD: Weather =
    Weather { loss: 30, duplication: 10, longest_delay: Duration::from_millis(20) };

#[test]
fn two_routers_that_start_together_know_each_other_within_a_round_trip() {
    let mut world = World::new(1, FAIR);
    world.run(Duration::from_millis(5));
    for node in [A, B] {
        let peer = world.nodes[node].peer(world.now).unwrap();
        assert!(peer.established && peer.copy == CopyState::Arrived, "{peer:?}");
    }
    for (node, peer) in [(A, "10.99.0.2"), (B, "10.99.0.1")] {
        let state = world.nodes[node].sync_state();
        assert!(!state.in_sync, "nobody serves");
        let expected = format!("the peer {peer} stands by as well");
        assert!(state.reason.starts_with(&expected), "{}", state.reason);
    }
    world.activate(A);
    world.run(Duration::from_millis(100));
    assert_eq!(world.nodes[B].sync_state().reason, "all flows of the peer 10.99.0.1 have arrived");
    assert!(world.in_sync(B));
    // The acknowledgement of a copy without flows comes with the next greeting.
    world.run_s(1);
    assert!(world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
}

#[test]
fn a_router_that_has_heard_nobody_is_not_in_sync() {
    let mut world = World::new(1, FAIR);
    world.cut();
    world.run_s(30);
    assert!(!world.in_sync(A));
    assert_eq!(world.nodes[A].sync_state().reason, "no peer has been heard");
}

#[test]
fn flows_of_the_active_router_appear_change_and_vanish_on_the_backup() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..100 {
        world.create(A, number);
    }
    world.run(Duration::from_millis(10));
    world.assert_replicated(A);

    let mut closing = flow(7);
    closing.protocol_state = tcp(4);
    world.event(A, Change::Update, &closing, false);
    world.run(Duration::from_millis(10));
    let changed = world.nodes[B].external_flows().find(|f| f.orig == closing.orig).unwrap();
    assert_eq!(changed.protocol_state, tcp(4));

    for number in 0..100 {
        world.destroy(A, number);
    }
    world.run(Duration::from_millis(10));
    assert_eq!(world.nodes[B].external_len(), 0);
    world.run_s(3);
    assert_eq!(world.nodes[A].peer(world.now).unwrap().unacknowledged, 1, "its last ack only");
}

#[test]
fn a_backup_that_starts_late_gets_everything() {
    let mut world = World::new(1, FAIR);
    world.cut();
    for number in 0..5000 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    world.run_s(20);
    world.connected = true;
    world.restart(B, &config());
    world.run_s(2);
    world.assert_replicated(A);
    assert!(world.in_sync(B));
}

#[test]
fn loss_duplication_and_reordering_are_repaired() {
    for seed in 0..30 {
        let mut world = World::new(seed, BAD);
        world.run_s(2);
        world.activate(A);
        for _ in 0..2000 {
            let number = world.below(300);
            if world.kernels[A].contains(&number) {
                world.destroy(A, number);
            } else {
                world.create(A, number);
            }
            world.run(Duration::from_millis(1));
        }
        world.weather = FAIR;
        world.run_s(5);
        world.assert_replicated(A);
        assert!(world.in_sync(B), "seed {seed}: {}", world.nodes[B].sync_state().reason);
    }
}

#[test]
fn both_routers_replicate_at_the_same_time() {
    let mut world = World::new(3, BAD);
    world.run_s(2);
    world.activate(A);
    world.activate(B);
    for number in 0..1000 {
        world.create(A, number);
        world.create(B, 100_000 + number);
        world.run(Duration::from_micros(300));
    }
    world.weather = FAIR;
    world.run_s(5);
    world.assert_replicated(A);
    world.assert_replicated(B);
}

#[test]
fn a_restarted_backup_is_complete_again_and_says_when() {
    for seed in 0..10 {
        let mut world = World::new(seed, BAD);
        world.run_s(2);
        for number in 0..3000 {
            world.kernels[A].insert(number);
        }
        world.activate(A);
        world.run_s(5);
        world.restart(B, &config());
        let mut waited = 0;
        while !world.in_sync(B) {
            world.run(Duration::from_millis(10));
            waited += 1;
            assert!(waited < 2000, "seed {seed}: {}", world.nodes[B].sync_state().reason);
        }
        world.assert_replicated(A);
        assert!(world.events[A].contains(&Event::PeerRestarted { address: World::address(B) }));
    }
}

#[test]
fn flows_that_ended_while_the_active_daemon_was_down_are_swept() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    for number in 0..200 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    world.run_s(1);
    for number in 0..50 {
        world.kernels[A].remove(&number);
    }
    world.restart(A, &config());
    world.activate(A);
    world.run_s(3);
    world.assert_replicated(A);
    assert_eq!(world.nodes[B].counters().external_swept, 50);
}

#[test]
fn what_a_rebooted_router_told_before_is_kept_for_a_while() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    for number in 0..200 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    world.run_s(1);
    world.kernels[A].clear();
    world.restart(A, &config());
    world.run_s(10);
    assert_eq!(world.nodes[B].external_len(), 200, "the only copy left is not thrown away");
    world.run_s(60);
    assert_eq!(world.nodes[B].external_len(), 0);
}

#[test]
fn after_a_partition_the_backup_is_equal_again() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..500 {
        world.create(A, number);
    }
    world.run_s(1);
    world.cut();
    for number in 250..750 {
        world.destroy(A, number);
        world.create(A, 1000 + number);
    }
    world.run_s(60);
    assert!(!world.in_sync(B), "a silent peer may have changed");
    assert_eq!(world.nodes[B].sync_state().reason, "the peer 10.99.0.1 has fallen silent");
    for number in 0..100 {
        world.destroy(A, number);
    }
    world.connected = true;
    world.run_s(5);
    world.assert_replicated(A);
    assert!(world.in_sync(B));
}

#[test]
fn nothing_is_kept_for_a_peer_that_is_away() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.cut();
    for round in 0..50 {
        for number in 0..1000 {
            world.create(A, round * 1000 + number);
        }
        for number in 0..1000 {
            world.destroy(A, round * 1000 + number);
        }
        world.run_s(1);
    }
    let statistics = world.nodes[A].statistics();
    assert_eq!(statistics["internal-flows"], 0);
    assert_eq!(statistics["resend-queue-length"], 0);
    assert_eq!(statistics["transmit-queue-length"], 0);
    assert_eq!(statistics["internal-full"], 0, "dead flows do not fill the cache");
}

#[test]
fn an_overflow_of_the_resend_queue_is_made_up_for() {
    let mut small = config();
    small.resend_queue = 100;
    for seed in 0..10 {
        let mut world = World::with(seed, BAD, &small);
        world.run_s(2);
        world.activate(A);
        for number in 0..3000 {
            world.create(A, number);
        }
        world.run_s(10);
        world.weather = FAIR;
        world.run_s(30);
        world.assert_replicated(A);
        assert!(world.nodes[A].statistics()["resend-queue-length"] <= 100);
    }
}

#[test]
fn a_copy_of_a_large_table_never_has_more_in_flight_than_its_window() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    for number in 0..20_000 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    let unacknowledged = world.nodes[A].peer(world.now).unwrap().unacknowledged;
    assert!(unacknowledged <= 2048, "{unacknowledged}");
    world.run_s(2);
    world.assert_replicated(A);
}

#[test]
fn a_take_over_makes_the_copy_the_own_and_tells_the_old_master() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..300 {
        world.create(A, number);
    }
    world.run_s(1);
    // B commits: its kernel tells of its own doing.
    for number in 0..300 {
        world.kernels[B].insert(number);
        world.event(B, Change::New, &flow(number), true);
    }
    world.run(Duration::from_millis(1));
    assert_eq!(world.nodes[A].external_len(), 0, "a commit is not told as a change");
    world.nodes[A].deactivate(world.now);
    world.drain(A);
    world.activate(B);
    world.run_s(3);
    assert_eq!((world.nodes[A].role(), world.nodes[B].role()), (Role::Backup, Role::Active));
    world.assert_replicated(B);
    assert!(world.in_sync(A));
    assert!(!world.events[A].contains(&Event::PurgeDue));
    world.run_s(60);
    assert!(world.events[A].contains(&Event::PurgeDue));
    let mut purge = world.nodes[A].begin_purge().unwrap();
    let mut purged = 0;
    while let Some(flow) = purge.next(&world.nodes[A]) {
        world.event(A, Change::Delete, &flow, true);
        purged += 1;
    }
    assert_eq!(purged, 300);
    world.run_s(2);
    assert_eq!(world.nodes[B].counters().external_destroyed, 0, "a purge is not told");
    world.assert_replicated(B);
}

#[test]
fn flows_lost_in_a_netlink_overrun_are_found_by_reading_the_table() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..100 {
        world.create(A, number);
    }
    world.run_s(1);
    // The kernel's table goes on without telling.
    for number in 0..30 {
        world.kernels[A].remove(&number);
        world.kernels[A].insert(500 + number);
    }
    let before = world.nodes[A].counters().messages_sent;
    world.dump(A);
    world.run(Duration::from_millis(100));
    world.assert_replicated(A);
    let told = world.nodes[A].counters().messages_sent - before;
    assert!(told < 65, "only what has changed is told: {told} messages");
}

#[test]
fn a_flow_that_ends_while_the_table_is_read_does_not_come_back() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.create(A, 1);
    world.nodes[A].begin_dump();
    world.destroy(A, 1);
    world.nodes[A].dumped(&flow(1), world.now);
    assert!(world.nodes[A].end_dump(world.now));
    assert_eq!(world.nodes[A].internal_len(), 0);
}

#[test]
fn losses_that_are_made_good_at_once_do_not_unsettle_the_standby() {
    let weather = Weather { loss: 20, duplication: 0, longest_delay: Duration::from_millis(2) };
    let mut world = World::new(5, weather);
    world.run_s(3);
    world.activate(A);
    world.run_s(10);
    world.events[B].clear();
    let before = world.nodes[B].counters().nacks_sent;
    for number in 0..2_000 {
        world.create(A, number);
        world.run(Duration::from_millis(5));
    }
    assert!(world.nodes[B].counters().nacks_sent > before + 50, "the link has to lose messages");
    let changes = world.events[B].iter().filter(|e| matches!(e, Event::Sync(_))).count();
    assert!(changes <= 4, "{changes} changes in 10 s");
}

#[test]
fn a_gap_that_stays_is_told_once() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.create(A, 0);
    world.run_s(5);
    assert!(world.in_sync(B));
    world.weather.loss = 100;
    world.create(A, 1);
    world.weather.loss = 0;
    // B hears the next message, and A hears nothing of B any more.
    world.mute = Some(B);
    world.events[B].clear();
    world.create(A, 2);
    world.run(Duration::from_millis(900));
    assert!(world.in_sync(B), "not yet");
    world.run(Duration::from_millis(300));
    assert!(!world.in_sync(B));
    assert!(world.nodes[B].sync_state().reason.contains("are missing"));
    let changes = world.events[B].iter().filter(|e| matches!(e, Event::Sync(_))).count();
    assert_eq!(changes, 1);
    world.mute = None;
    world.run_s(3);
    assert!(world.in_sync(B));
    world.assert_replicated(A);
}

#[test]
fn a_caller_that_cannot_send_is_not_called_again_and_again() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.create(A, 1);
    world.run_s(1);
    let end = world.now + Duration::from_secs(4);
    let mut calls = 0;
    while let Some(at) = world.nodes[A].next_deadline().filter(|at| *at < end) {
        world.now = world.now.max(at);
        world.nodes[A].handle_timeout(world.now);
        calls += 1;
        assert!(calls < 100, "a deadline that does not pass while nothing can be sent");
    }
    world.drain(A);
    world.run_s(2);
    assert!(world.nodes[B].peer(world.now).unwrap().heard < Duration::from_millis(1100));
}

#[test]
fn a_router_does_not_take_itself_for_a_peer() {
    let mut world = World::new(1, FAIR);
    let own = World::address(A);
    world.nodes[A].set_local_addresses([own]);
    world.cut();
    // Any program of the router can send to the group, from one of its addresses.
    let alive = [0x1a, 0x30, 0, 8, 0, 0, 0, 1];
    world.nodes[A].handle_datagram(Origin::group(0, own), &alive, world.now);
    assert_eq!(world.nodes[A].counters().datagrams_foreign, 1);
    assert!(world.nodes[A].peer(world.now).is_none_or(|peer| peer.address != own));
}

#[test]
fn a_third_router_is_not_taken_for_the_peer() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    let stranger = "10.99.0.77".parse().unwrap();
    let alive = [0x1a, 0x30, 0, 8, 0, 0, 0, 1];
    world.nodes[A].handle_datagram(Origin::group(0, stranger), &alive, world.now);
    assert_eq!(world.nodes[A].counters().datagrams_foreign, 1);
    assert_eq!(world.nodes[A].peer(world.now).unwrap().address, World::address(B));
    world.cut();
    world.run_s(10);
    // Its place is free now, but not for bytes that begin like a message by chance.
    let mut by_chance = alive.to_vec();
    by_chance.extend([0x17, 0, 0, 8, 0, 0, 0, 9]);
    for bytes in [&by_chance[..], &alive[..5], &[alive.as_slice(), &[0x1a]].concat()] {
        world.nodes[A].handle_datagram(Origin::group(0, stranger), bytes, world.now);
        assert_ne!(world.nodes[A].peer(world.now).unwrap().address, stranger);
    }
    world.nodes[A].handle_datagram(Origin::group(0, stranger), &alive, world.now);
    assert_eq!(world.nodes[A].peer(world.now).unwrap().address, stranger);
}

#[test]
fn a_copy_asked_for_while_the_table_is_first_read_is_over_when_the_reading_is() {
    let mut world = World::new(1, FAIR);
    world.run_s(2);
    world.nodes[A].activate(world.now);
    world.nodes[A].begin_dump();
    world.nodes[A].dumped(&flow(1), world.now);
    world.nodes[B].request_resync(world.now);
    world.run_s(5);
    assert!(!world.in_sync(B), "half of the table is not all there is");
    world.nodes[A].dumped(&flow(2), world.now);
    assert!(world.nodes[A].end_dump(world.now));
    world.run_s(3);
    assert!(world.in_sync(B));
    assert_eq!(world.external(B), set([flow(1), flow(2)].into_iter()));
}

#[test]
fn an_idle_pair_sends_one_datagram_a_second_each() {
    let mut world = World::new(1, FAIR);
    world.run_s(5);
    let before = world.sent;
    world.run_s(100);
    for node in [A, B] {
        let sent = world.sent[node] - before[node];
        assert!((90..=110).contains(&sent), "{sent} datagrams in 100 s");
    }
}

#[test]
fn a_full_cache_refuses_and_counts() {
    let mut tiny = config();
    tiny.cache_limit = 10;
    let mut world = World::with(1, FAIR, &tiny);
    world.run_s(1);
    for number in 0..20 {
        world.create(A, number);
    }
    assert_eq!(world.nodes[A].internal_len(), 10);
    assert_eq!(world.nodes[A].counters().internal_full, 10);
}

#[test]
fn a_greeting_that_comes_late_does_not_make_old_messages_new() {
    let mut world = World::new(1, FAIR);
    world.cut();
    let origin = Origin::group(0, World::address(A));
    let control = |flags: u8, number: u32| {
        let mut bytes = Vec::new();
        encode_control(Flags(flags), number, &mut bytes);
        bytes
    };
    let told = |change: Change, number: u32| {
        let mut bytes = Vec::new();
        encode_flow_message(change, Flags(0), number, &flow(1), &mut bytes).unwrap();
        bytes
    };
    let greeting = Flags::ALIVE | Flags::HELLO;
    for datagram in [
        control(greeting, 100),
        control(Flags::ALIVE | Flags::HELLO_BACK, 102),
        told(Change::New, 103),
        told(Change::Delete, 104),
        control(greeting, 101),
        told(Change::New, 103),
    ] {
        world.nodes[B].handle_datagram(origin, &datagram, world.now);
        world.run(Duration::from_millis(20));
    }
    assert_eq!(world.nodes[B].external_len(), 0, "an ended flow came back");
    assert_eq!(world.nodes[B].counters().before, 2);
}

#[test]
fn a_resync_is_told_once() {
    let mut world = World::new(1, FAIR);
    world.run_s(2);
    world.activate(A);
    for number in 0..100 {
        world.create(A, number);
    }
    world.run_s(2);
    let completed = |world: &World| {
        let events = world.events[B].iter();
        events.filter(|event| matches!(event, Event::ResyncCompleted { .. })).count()
    };
    assert_eq!(completed(&world), 2, "at the start: of nothing, and of what it serves since");
    world.restart(A, &config());
    world.activate(A);
    world.run_s(5);
    assert_eq!(completed(&world), 3, "after a restart of the peer");
    world.nodes[B].request_resync(world.now);
    world.drain(B);
    world.run_s(5);
    assert_eq!(completed(&world), 4, "by command");
}

#[test]
fn an_active_router_is_in_sync_when_its_peer_has_acknowledged() {
    let mut world = World::new(1, FAIR);
    world.run_s(2);
    for number in 0..20_000 {
        world.kernels[A].insert(number);
    }
    world.activate(A);
    assert!(!world.in_sync(A));
    assert_eq!(world.nodes[A].sync_state().reason, "the peer 10.99.0.2 is being told all flows");
    world.run_s(3);
    assert!(world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
    let lag = world.nodes[A].peer(world.now).unwrap().peer_behind;
    assert!(lag.messages <= 1, "{lag:?}");
    // The peer is heard, and hears nothing.
    world.mute = Some(A);
    world.create(A, 30_000);
    world.run_s(4);
    assert!(!world.in_sync(A));
    let peer = world.nodes[A].peer(world.now).unwrap();
    assert!(peer.peer_behind.time >= Duration::from_secs(2), "{:?}", peer.peer_behind);
    assert!(world.nodes[A].sync_state().reason.contains("10.99.0.2 does not acknowledge"));
    world.mute = None;
    world.run_s(3);
    assert!(world.in_sync(A), "{}", world.nodes[A].sync_state().reason);
    world.assert_replicated(A);
}

#[test]
fn what_a_peer_tells_between_the_commit_and_the_active_role_is_committed_too() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for number in 0..50 {
        world.create(A, number);
    }
    world.run_s(1);
    let commit_all = |world: &mut World| {
        let mut commit = world.nodes[B].begin_commit();
        let mut planned_flows = Vec::new();
        while let Some(planned) = commit.next(&world.nodes[B], world.now) {
            planned_flows.push((planned.action, planned.flow.orig));
            commit.done(&planned);
        }
        world.nodes[B].end_commit(commit.report());
        world.drain(B);
        planned_flows
    };
    assert_eq!(commit_all(&mut world).len(), 50);
    world.create(A, 100);
    world.destroy(A, 7);
    world.run_s(1);
    world.nodes[B].activate(world.now);
    world.drain(B);
    assert_eq!(world.nodes[B].late_flows(), 2);
    let late = commit_all(&mut world);
    assert!(late.contains(&(Action::Create, flow(100).orig)), "{late:?}");
    assert!(late.contains(&(Action::Delete, flow(7).orig)), "{late:?}");
    assert!(late.len() <= 3, "only what was late: {late:?}");
    assert_eq!((world.nodes[B].late_flows(), world.nodes[B].external_len()), (0, 0));
    assert!(!world.nodes[B].purge_wanted());
}

#[test]
fn nothing_is_late_when_the_role_does_not_come_or_comes_at_once() {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    world.create(A, 1);
    world.run_s(1);
    let commit = world.nodes[B].begin_commit();
    world.nodes[B].end_commit(commit.report());
    world.nodes[B].activate(world.now);
    assert_eq!((world.nodes[B].late_flows(), world.nodes[B].external_len()), (0, 0));
    world.nodes[B].deactivate(world.now);
    world.drain(B);
    world.run_s(2);
    let commit = world.nodes[B].begin_commit();
    world.nodes[B].end_commit(commit.report());
    world.nodes[B].deactivate(world.now);
    world.create(A, 2);
    world.run_s(1);
    world.nodes[B].activate(world.now);
    assert_eq!(world.nodes[B].late_flows(), 0);
}
