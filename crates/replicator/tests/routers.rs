//! More than two routers, more than one link, and connections instead of datagrams.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;
mod site;

use std::time::Duration;

use common::{FAIR, Weather};
use lockstep_ctnetlink::Flow;
use lockstep_replicator::{Change, Config, Event, KernelEvent, LinkState, Origin};
use site::{Site, address, grouped, tcp, udp};

const BAD: Weather =
    Weather { loss: 20, duplication: 10, longest_delay: Duration::from_millis(15) };

fn down(site: &mut Site, node: usize, link: usize) {
    site.plugged[node][link] = false;
    let state = LinkState::Down { reason: "no carrier".to_owned() };
    site.nodes[node].link_changed(link, state, site.now);
    site.drain(node);
}

fn up(site: &mut Site, node: usize, link: usize) {
    site.plugged[node][link] = true;
    site.nodes[node].link_changed(link, LinkState::Up { max_datagram: 1472 }, site.now);
    site.drain(node);
}

#[test]
fn two_routers_in_a_group_speak_to_the_group() {
    let mut site = Site::new(2, 1, FAIR, grouped);
    site.activate(0);
    site.create(0, 1);
    site.run_s(20);
    assert_eq!(site.sent[0].0, site.sent[0].1, "conntrackd hears only the group");
    site.assert_replicated(0, 1);
}

#[test]
fn three_routers_in_a_group_each_have_every_flow() {
    for seed in 0..10 {
        let mut site = Site::new(3, seed, if seed == 0 { FAIR } else { BAD }, grouped);
        site.run_s(3);
        site.activate(0);
        for _ in 0..1500 {
            let number = site.below(200);
            if site.kernels[0].contains(&number) {
                site.destroy(0, number);
            } else {
                site.create(0, number);
            }
            site.run(Duration::from_millis(1));
        }
        site.weather = FAIR;
        site.run_s(10);
        site.assert_replicated(0, 1);
        site.assert_replicated(0, 2);
        for node in 0..3 {
            let state = site.nodes[node].sync_state();
            assert!(state.in_sync, "seed {seed}, node {node}: {}", state.reason);
            let peers = site.nodes[node].peers(site.now);
            assert!(peers.len() == 2 && peers.iter().all(|peer| peer.unicast), "{peers:?}");
        }
    }
}

#[test]
fn a_third_router_joins_two_that_speak_to_the_group() {
    for seed in 0..5 {
        let mut site = Site::new(3, seed, FAIR, grouped);
        site.plugged[2] = [false; 2];
        site.activate(0);
        for number in 0..3000 {
            site.create(0, number);
        }
        site.run_s(10);
        site.assert_replicated(0, 1);
        site.plugged[2] = [true; 2];
        site.restart(2);
        site.run_s(10);
        site.assert_replicated(0, 2);
        site.create(0, 5000);
        site.run_s(1);
        site.assert_replicated(0, 1);
        site.assert_replicated(0, 2);
    }
}

#[test]
fn any_of_three_routers_may_restart_and_take_over() {
    let mut site = Site::new(3, 4, BAD, grouped);
    site.run_s(3);
    site.activate(0);
    for number in 0..300 {
        site.create(0, number);
    }
    site.run_s(5);
    for node in [2, 1] {
        site.restart(node);
        site.run_s(10);
        site.assert_replicated(0, node);
    }
    // 1 takes over: its kernel has the flows, but for those that ended meanwhile.
    site.kernels[1] = (100..400).collect();
    site.nodes[0].deactivate(site.now);
    site.kernels[0].clear();
    site.restart(0);
    site.activate(1);
    site.weather = FAIR;
    site.run_s(80);
    site.assert_replicated(1, 0);
    site.assert_replicated(1, 2);
}

#[test]
fn the_end_of_a_flow_counts_only_from_who_told_it_last() {
    let mut site = Site::new(3, 1, FAIR, grouped);
    site.run_s(5);
    site.activate(0);
    site.create(0, 1);
    site.run_s(1);
    site.activate(1);
    site.create(1, 1);
    site.run_s(1);
    site.destroy(0, 1);
    site.run_s(1);
    assert_eq!(site.nodes[2].external_len(), 1, "it lives on at 1");
    site.destroy(1, 1);
    site.run_s(1);
    assert_eq!(site.nodes[2].external_len(), 0);
}

#[test]
fn a_stranger_in_the_group_does_not_disturb_a_pair_that_speaks_to_it() {
    let mut site = Site::new(2, 1, FAIR, grouped);
    site.run_s(5);
    site.activate(0);
    for round in 0..200_u32 {
        // A conntrackd, or anybody, that speaks to the group and never alone.
        let source = std::net::IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a63_0080 + round % 50));
        for node in 0..2 {
            let mut greeting = vec![0x1a, 0x30, 0, 8];
            greeting.extend_from_slice(&(7_000_000 + round).to_be_bytes());
            site.nodes[node].handle_datagram(Origin::group(0, source), &greeting, site.now);
            site.drain(node);
        }
        site.create(0, round);
        site.run(Duration::from_millis(100));
    }
    site.assert_replicated(0, 1);
    for node in 0..2 {
        let peers = site.nodes[node].peers(site.now);
        assert!(peers.len() <= 8, "{}", peers.len());
        assert!(!peers[0].unicast && !peers[0].silent);
        assert!(site.nodes[node].counters().peers_refused > 0);
        assert!(!site.events[node].iter().any(|e| matches!(e, Event::PeerSilent { .. })));
    }
    site.run_s(20);
    assert_eq!(site.nodes[0].peers(site.now).len(), 1, "who never answers is forgotten");
}

#[test]
fn configured_peers_are_spoken_to_alone_and_nobody_else_is_heard() {
    for seed in 0..5 {
        let mut site = Site::new(3, seed, if seed == 0 { FAIR } else { BAD }, udp);
        site.run_s(5);
        site.activate(1);
        for number in 0..1000 {
            site.create(1, number);
            site.run(Duration::from_micros(500));
        }
        let stranger = Origin { link: 0, source: address(9, 0), to_group: false };
        let greeting = [0x1a, 0x30, 0, 8, 0, 0, 0, 1];
        site.nodes[0].handle_datagram(stranger, &greeting, site.now);
        site.weather = FAIR;
        site.run_s(8);
        site.assert_replicated(1, 0);
        site.assert_replicated(1, 2);
        assert_eq!(site.sent[0].1, 0, "nothing goes to a group");
        assert_eq!(site.nodes[0].counters().datagrams_foreign, 1);
        assert_eq!(site.nodes[0].peers(site.now).len(), 2);
    }
}

#[test]
fn when_a_link_goes_down_the_next_one_is_used_and_numbers_go_on() {
    for config in [grouped, udp] {
        let mut site = Site::new(2, 1, FAIR, config);
        site.run_s(3);
        site.activate(0);
        for number in 0..100 {
            site.create(0, number);
        }
        site.run_s(3);
        let restarts = site.nodes[1].counters().peer_restarted;
        let resyncs = site.nodes[1].counters().resyncs_sent;
        down(&mut site, 0, 0);
        for number in 100..200 {
            site.create(0, number);
        }
        site.run_s(2);
        site.assert_replicated(0, 1);
        let views = site.nodes[1].links();
        assert!(!views[0].active && views[1].active, "the peer is followed");
        assert_eq!(site.nodes[1].counters().peer_restarted, restarts);
        assert_eq!(site.nodes[1].counters().resyncs_sent, resyncs, "nothing begins anew");
        assert!(site.nodes[1].sync_state().in_sync);
        // Back up: where one is, one stays. Then the second one goes down.
        up(&mut site, 0, 0);
        site.run_s(2);
        assert!(site.nodes[0].links()[1].active);
        down(&mut site, 1, 1);
        site.create(0, 200);
        site.run_s(3);
        site.assert_replicated(0, 1);
        assert!(site.nodes[0].links()[0].active);
        let changed = |e: &&Event| matches!(e, Event::LinkChanged { .. });
        assert_eq!(site.events[0].iter().filter(changed).count(), 2);
    }
}

#[test]
fn a_link_that_loses_everything_without_going_down_is_left() {
    let mut site = Site::new(2, 1, FAIR, grouped);
    site.run_s(3);
    site.activate(0);
    site.plugged[0][0] = false;
    site.create(0, 1);
    site.run_s(15);
    site.assert_replicated(0, 1);
    assert!(site.nodes[1].sync_state().in_sync);
}

/// Three routers in sync, of which the first serves 500 flows.
fn three(config: fn(usize) -> Config) -> Site {
    let mut site = Site::new(3, 1, FAIR, config);
    site.run_s(3);
    site.activate(0);
    (0..500).for_each(|number| site.create(0, number));
    site.run_s(8);
    site.assert_replicated(0, 1);
    site.assert_replicated(0, 2);
    site
}

#[track_caller]
fn assert_in_sync(site: &Site, round: u32) {
    for node in 0..3 {
        let state = site.nodes[node].sync_state();
        assert!(state.in_sync, "round {round}, node {node}: {}", state.reason);
        let peers = site.nodes[node].peers(site.now);
        assert_eq!(peers.len(), 2, "round {round}, node {node}: {peers:?}");
    }
}

#[test]
fn one_of_three_whose_link_goes_down_is_followed_to_the_next_one_and_back() {
    for config in [grouped, udp] {
        for node in 0..3 {
            let mut site = three(config);
            for round in 1..5 {
                let (cut, other) = (usize::from(round % 2 == 0), usize::from(round % 2 == 1));
                down(&mut site, node, cut);
                (0..100).for_each(|number| site.create(0, 1000 * round + number));
                site.destroy(0, round);
                site.run_s(5);
                site.create(0, 1000 * round + 500);
                site.run_s(1);
                let missing = |to: usize| site.nodes[to].external_len() < site.kernels[0].len();
                assert!(!missing(1) && !missing(2), "node {node}, round {round}");
                assert!(site.nodes[node].links()[other].active);
                site.run_s(12);
                site.assert_replicated(0, 1);
                site.assert_replicated(0, 2);
                assert_in_sync(&site, round);
                up(&mut site, node, cut);
                site.run_s(10);
                site.create(0, 1000 * round + 501);
                site.run_s(1);
                site.assert_replicated(0, 1);
                site.assert_replicated(0, 2);
                assert_in_sync(&site, round);
            }
        }
    }
}

#[test]
fn one_of_three_whose_link_loses_everything_without_going_down_is_found_on_the_next() {
    for node in 0..3 {
        let mut site = three(grouped);
        site.plugged[node][0] = false;
        (1000..1100).for_each(|number| site.create(0, number));
        site.run_s(30);
        site.assert_replicated(0, 1);
        site.assert_replicated(0, 2);
        assert_in_sync(&site, 0);
        site.plugged[node][0] = true;
        site.create(0, 2000);
        site.run_s(25);
        site.assert_replicated(0, 1);
        site.assert_replicated(0, 2);
        assert_in_sync(&site, 1);
    }
}

#[test]
fn a_silent_master_whose_flows_are_held_is_missed_until_another_one_serves() {
    for config in [grouped, udp] {
        let mut site = three(config);
        site.plugged[0] = [false; 2];
        (1000..1100).for_each(|number| site.create(0, number));
        site.run_s(6);
        for _ in 0..60 {
            site.run_s(4);
            let state = site.nodes[1].sync_state();
            assert!(!state.in_sync, "{}", state.reason);
            assert_eq!(site.nodes[1].external_len(), 500, "the only copy stays");
        }
        site.kernels[2] = site.kernels[0].range(..500).copied().collect();
        site.activate(2);
        site.run_s(5);
        let state = site.nodes[1].sync_state();
        assert!(state.in_sync, "{}", state.reason);
        site.assert_replicated(2, 1);
    }
}

#[test]
fn an_active_router_cut_off_from_its_peers_does_not_count_as_in_sync() {
    for config in [grouped, udp] {
        let mut site = three(config);
        assert!(site.nodes[0].sync_state().in_sync);
        site.plugged[0] = [false; 2];
        (1000..1100).for_each(|number| site.create(0, number));
        site.run(Duration::from_millis(1700));
        let state = site.nodes[0].sync_state();
        assert!(
            !state.in_sync && state.reason.contains("does not acknowledge"),
            "{}",
            state.reason
        );
        let mut site = three(config);
        down(&mut site, 0, 1);
        down(&mut site, 0, 0);
        let state = site.nodes[0].sync_state();
        assert!(!state.in_sync && state.reason.contains("no link is up"), "{}", state.reason);
    }
}

#[test]
fn flows_pass_over_connections_in_pieces_of_any_size() {
    for piece in [1, 7, 64, 100_000] {
        let mut site = Site::new(2, 1, FAIR, tcp);
        site.piece = piece;
        site.run_s(2);
        site.activate(0);
        for number in 0..300 {
            site.create(0, number);
        }
        for number in 0..50 {
            site.destroy(0, number);
        }
        site.run_s(2);
        site.assert_replicated(0, 1);
        assert_eq!(site.nodes[1].counters().malformed, 0);
        assert_eq!(site.nodes[1].counters().lost, 0);
    }
}

#[test]
fn a_peer_that_cannot_be_told_holds_up_nobody_else() {
    let mut site = Site::new(3, 1, FAIR, tcp);
    site.run_s(2);
    site.activate(0);
    site.run_s(2);
    for round in 0..40 {
        for number in 0..50 {
            // Every time something else is said of the same flows.
            let change = if round == 0 { Change::New } else { Change::Update };
            let known = Flow { mark: Some(round), ..common::flow(number) };
            let event = KernelEvent { change, flow: &known, own: false };
            site.nodes[0].handle_kernel_event(event, site.now);
        }
        let (mut bytes, now, mut messages) = (Vec::new(), site.now, 0);
        let takes = |_, to| to != Some(address(1, 0));
        while let Some(sent) = site.nodes[0].poll_transmit_where(now, &mut bytes, takes) {
            assert_eq!(sent.to, Some(address(2, 0)));
            messages += sent.messages;
        }
        assert!(messages >= 50, "the other one is told at once: {messages}");
    }
    let (mut bytes, now, mut messages) = (Vec::new(), site.now, 0);
    while let Some(sent) = site.nodes[0].poll_transmit(now, &mut bytes) {
        assert_eq!(sent.to, Some(address(1, 0)));
        messages += sent.messages;
    }
    assert!((50..100).contains(&messages), "of each flow the newest state: {messages}");
}

#[test]
fn what_was_lost_with_a_connection_is_said_again() {
    let mut site = Site::new(3, 1, FAIR, tcp);
    site.run_s(2);
    site.activate(0);
    for round in 0..20 {
        for number in 0..50 {
            site.create(0, round * 50 + number);
        }
        site.reconnect(0);
        site.run(Duration::from_millis(200));
    }
    site.run_s(5);
    site.assert_replicated(0, 1);
    site.assert_replicated(0, 2);
}

#[test]
fn a_stream_that_makes_no_sense_is_given_up_and_the_next_one_heard() {
    let mut site = Site::new(2, 1, FAIR, tcp);
    site.run_s(2);
    let origin = Origin { link: 0, source: address(1, 0), to_group: false };
    assert!(site.nodes[0].handle_stream(origin, &[0x1a, 0x10, 0], site.now), "half a header");
    assert!(!site.nodes[0].handle_stream(origin, &[3, 0, 0, 0, 0], site.now));
    assert!(!site.nodes[0].handle_stream(origin, &[0; 100], site.now), "nor what follows");
    assert_eq!(site.nodes[0].counters().malformed_size, 1);
    site.reconnect(0);
    site.activate(1);
    site.create(1, 1);
    site.run_s(3);
    site.assert_replicated(1, 0);
    let stranger = Origin { link: 0, source: address(9, 0), to_group: false };
    assert!(!site.nodes[0].handle_stream(stranger, &[0x1a], site.now));
}
