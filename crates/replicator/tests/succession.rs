//! Three routers, one after another active: what the old one had told leaves the third one's cache.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;
mod site;

use std::time::Duration;

use common::{FAIR, Weather};
use lockstep_replicator::{Config, Mode};
use site::{LINKS, Site, grouped, udp};

/// Some time passes between a message and its answer.
const SLOW: Weather = Weather { loss: 0, duplication: 0, longest_delay: Duration::from_millis(15) };

fn quick_grouped(node: usize) -> Config {
    Config { purge_timeout: Duration::from_secs(6), ..grouped(node) }
}

fn quick_udp(node: usize) -> Config {
    Config { purge_timeout: Duration::from_secs(6), ..udp(node) }
}

fn quick_notrack(node: usize) -> Config {
    Config { mode: Mode::Notrack, ..quick_grouped(node) }
}

/// Three that know each other, of which the last is out of reach while the first serves.
fn while_the_third_is_away(config: fn(usize) -> Config) -> Site {
    let mut site = Site::new(3, 1, SLOW, config);
    site.run_s(5);
    site.plugged[2] = [false; LINKS];
    serve(&mut site, 0, 0..100);
    site.run_s(1);
    site
}

fn serve(site: &mut Site, node: usize, flows: std::ops::Range<u32>) {
    site.kernels[node] = flows.collect();
    site.activate(node);
}

fn stand_by(site: &mut Site, node: usize) {
    site.nodes[node].deactivate(site.now);
    site.drain(node);
}

/// The router hears that another one asks for everything, and nothing more of that one yet.
fn hear_a_request_and_no_more(site: &mut Site, node: usize) {
    let before = site.nodes[node].counters().resyncs_received;
    site.plugged[node] = [true; LINKS];
    for _ in 0..2_000 {
        site.run(Duration::from_millis(1));
        if site.nodes[node].counters().resyncs_received > before {
            site.plugged[node] = [false; LINKS];
            return;
        }
    }
    panic!("nobody has asked");
}

/// The router hears so many flows that it knows already, and nothing after them yet.
fn hear_flows_and_no_more(site: &mut Site, node: usize, flows: u64) {
    let before = site.nodes[node].counters().external_updated;
    for _ in 0..2_000 {
        site.run(Duration::from_millis(1));
        if site.nodes[node].counters().external_updated >= before + flows {
            return;
        }
    }
    panic!("nobody has told");
}

#[test]
fn flows_that_come_behind_the_request_of_who_told_them_do_not_stay() {
    for config in [quick_grouped, quick_udp] {
        let mut site = while_the_third_is_away(config);
        stand_by(&mut site, 0);
        serve(&mut site, 1, 50..150);
        site.plugged[2] = [true; LINKS];
        site.run_s(60);
        site.assert_replicated(1, 2);
        assert!(site.nodes[2].counters().external_swept > 0, "the old ones did come");
    }
}

#[test]
fn a_request_heard_in_the_active_role_counts_after_it() {
    for config in [quick_grouped, quick_udp] {
        let mut site = while_the_third_is_away(config);
        stand_by(&mut site, 0);
        // It has nothing to tell, of which the first one would ask.
        serve(&mut site, 2, 0..0);
        hear_a_request_and_no_more(&mut site, 2);
        stand_by(&mut site, 2);
        serve(&mut site, 1, 50..150);
        site.plugged[2] = [true; LINKS];
        site.run_s(60);
        site.assert_replicated(1, 2);
    }
}

#[test]
fn who_starts_again_and_serves_on_has_a_successor_all_the_same() {
    for config in [quick_grouped, quick_udp] {
        let mut site = Site::new(3, 1, FAIR, config);
        site.run_s(5);
        serve(&mut site, 0, 0..100);
        site.run_s(5);
        site.restart(0);
        site.run_s(1);
        site.activate(0);
        site.run_s(30);
        site.assert_replicated(0, 2);
        stand_by(&mut site, 0);
        serve(&mut site, 1, 50..150);
        site.run_s(60);
        site.assert_replicated(1, 2);
    }
}

#[test]
fn a_flow_that_lives_on_is_not_lost_with_what_its_old_router_told_late() {
    for phase in 0..6 {
        let mut site = Site::new(3, 1, FAIR, quick_grouped);
        site.run_s(5);
        serve(&mut site, 0, 0..100);
        site.run_s(5);
        // It asks, and serves on: the others wait for a successor to tell.
        site.restart(0);
        site.run_s(1);
        site.activate(0);
        site.run_s(30);
        site.run(Duration::from_millis(200 * phase));
        site.plugged[0] = [false; LINKS];
        for number in 50..60 {
            site.create(0, number);
        }
        stand_by(&mut site, 0);
        serve(&mut site, 1, 50..150);
        site.run(Duration::from_millis(300));
        site.plugged[0] = [true; LINKS];
        hear_flows_and_no_more(&mut site, 2, 10);
        // Its copy is asked for anew, and has nothing of all that.
        site.restart(0);
        site.run_s(60);
        site.assert_replicated(1, 2);
    }
}

#[test]
fn what_ended_while_a_router_started_again_does_not_stay_at_the_third() {
    for config in [quick_grouped, quick_udp] {
        for stands_by_s in [1, 20] {
            let mut site = Site::new(3, 1, FAIR, config);
            site.run_s(5);
            serve(&mut site, 0, 0..100);
            // The others have asked who succeeds it, as it stood by once, and nobody does.
            site.run_s(30);
            // Nobody hears what ends meanwhile.
            site.kernels[0] = (50..150).collect();
            site.restart(0);
            site.run_s(stands_by_s);
            site.activate(0);
            site.run_s(60);
            site.assert_replicated(0, 1);
            site.assert_replicated(0, 2);
        }
    }
}

#[test]
fn a_router_given_up_while_nobody_else_is_there_leaves_nothing_once_another_serves() {
    for config in [quick_grouped, quick_notrack] {
        for (first, next) in [(0, 1), (1, 0)] {
            let mut site = Site::new(3, 1, FAIR, config);
            site.run_s(5);
            serve(&mut site, first, 0..100);
            site.run_s(20);
            site.plugged[2] = [false; LINKS];
            site.run_s(400);
            assert_eq!(site.nodes[2].external_flows().count(), 100, "the only copy");
            site.plugged[first] = [false; LINKS];
            serve(&mut site, next, 50..150);
            site.plugged[2] = [true; LINKS];
            site.run_s(60);
            site.assert_replicated(next, 2);
        }
    }
}

#[test]
fn once_everybody_knows_who_serves_nobody_asks_again() {
    let mut site = Site::new(3, 1, FAIR, quick_grouped);
    site.run_s(5);
    serve(&mut site, 0, 0..100);
    site.run_s(5);
    stand_by(&mut site, 0);
    serve(&mut site, 1, 50..150);
    site.run_s(60);
    let asked = |site: &Site| site.nodes.iter().map(|n| n.counters().resyncs_sent).sum::<u64>();
    let before = asked(&site);
    site.run_s(120);
    assert_eq!(asked(&site), before);
    site.assert_replicated(1, 0);
    site.assert_replicated(1, 2);
}

/// The numbers of the flows that the router knows from others.
fn known(site: &Site, node: usize) -> Vec<u32> {
    let numbers = (0..1_000).filter(|number| {
        let orig = common::flow(*number).orig;
        site.nodes[node].external_flows().any(|flow| flow.orig == orig)
    });
    numbers.collect()
}

#[test]
fn what_ends_at_the_successor_of_a_dead_router_before_it_is_told_does_not_stay() {
    for config in [quick_grouped, quick_udp, quick_notrack] {
        let mut site = Site::new(3, 1, SLOW, config);
        site.run_s(5);
        serve(&mut site, 0, 0..100);
        site.run_s(15);
        site.plugged[0] = [false; LINKS];
        serve(&mut site, 1, 0..100);
        for number in 20..40 {
            site.destroy(1, number);
        }
        let begun = site.now;
        while known(&site, 2).len() > 80 {
            assert!(site.now < begun + Duration::from_secs(20), "{}", known(&site, 2).len());
            site.run(Duration::from_millis(100));
        }
        site.assert_replicated(1, 2);
        site.run_s(1);
        assert!(site.nodes[2].sync_state().in_sync, "{}", site.nodes[2].sync_state().reason);
    }
}

#[test]
fn while_it_is_open_whether_the_old_router_serves_on_the_third_is_not_in_sync() {
    let mut site = Site::new(3, 1, SLOW, quick_grouped);
    site.run_s(5);
    serve(&mut site, 0, 0..100);
    site.run_s(15);
    site.plugged[0] = [false; LINKS];
    serve(&mut site, 1, 50..100);
    let mut hidden = 0;
    for _ in 0..1_000 {
        site.run(Duration::from_millis(10));
        // Between the last of its flows and the end of a copy there is the time of a message.
        let told_all = site.nodes[1].counters().bulks_sent > 0
            && site.nodes[2].sync_state().reason.contains("has not been heard since");
        hidden += u32::from(told_all && known(&site, 2).len() > 50);
        let wrong = site.nodes[2].sync_state().in_sync
            && site.nodes[2].sync_state().reason.contains(&site::address(1, 0).to_string())
            && known(&site, 2).len() > 50;
        assert!(!wrong, "in sync with {} flows", known(&site, 2).len());
    }
    assert!(hidden > 10, "it was open for a while");
    site.assert_replicated(1, 2);
}

#[test]
fn two_routers_that_serve_apart_take_nothing_from_each_other_at_the_third() {
    let mut site = Site::new(3, 1, SLOW, quick_grouped);
    site.run_s(5);
    serve(&mut site, 0, 0..100);
    site.run_s(15);
    // The third hears both of them, and they do not hear each other.
    (site.plugged[0], site.plugged[1]) = ([true, false], [false, true]);
    site.run_s(10);
    serve(&mut site, 1, 0..50);
    for number in 100..120 {
        site.create(0, number);
    }
    site.run_s(10);
    site.plugged[0] = [false; LINKS];
    site.run_s(60);
    assert_eq!(known(&site, 2), (0..120).collect::<Vec<_>>(), "it may serve these alone");
}

#[test]
fn who_started_when_a_router_was_gone_already_is_not_its_successor() {
    for config in [quick_grouped, quick_udp] {
        let mut site = Site::new(3, 1, SLOW, config);
        site.run_s(5);
        serve(&mut site, 0, 0..100);
        site.run_s(15);
        site.plugged[0] = [false; LINKS];
        site.run_s(3);
        // What it had been told is lost with its cache.
        site.restart(1);
        site.run_s(3);
        serve(&mut site, 1, 100..150);
        site.run_s(60);
        assert_eq!(known(&site, 2), (0..150).collect::<Vec<_>>(), "the only copy");
    }
}
