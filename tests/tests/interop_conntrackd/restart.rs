//! A conntrackd in NOTRACK that starts again says nothing of it, and without `StartupResync` asks for nothing.

use std::time::{Duration, Instant};

use lockstep_tests::conntrackd::Conntrackd;
use lockstep_tests::replicas::{Mode, Replicas, Serves, Setting, Transport};
use lockstep_tests::tables::{self, flow};
use lockstep_tests::wait;

#[test]
fn a_notrack_conntrackd_that_starts_again_is_told_all_flows_without_asking() {
    for transport in [Transport::Udp, Transport::Multicast] {
        play(transport, |_| {}, Duration::from_secs(2));
    }
}

#[test]
fn a_notrack_conntrackd_that_starts_again_with_smaller_numbers_is_told_all_flows() {
    for transport in [Transport::Udp, Transport::Multicast] {
        // It counts from its clock on, which its numbers have left behind.
        let ask = |conntrackd: &Conntrackd| {
            for _ in 0..8 {
                conntrackd.command(&["-n"]);
            }
        };
        play(transport, ask, Duration::ZERO);
    }
}

/// A conntrackd that has all of our flows, and with which this is done `before`, is killed and started anew after this time.
fn play(transport: Transport, before: fn(&Conntrackd), away: Duration) {
    let replicas =
        Replicas::next_to_each_other(Setting { mode: Mode::Notrack, transport, v6: false });
    let conntrackd = replicas.start_conntrackd(false);
    let lockstep = replicas.start_lockstep(Serves::Ours);
    tables::create(&replicas.ours, (0..300).map(|number| flow(1, number)));
    replicas.wait_until_they_have_ours(&conntrackd, || {});
    wait::until("nothing more is told of what it was", || {
        lockstep.status()["replication"]["in-sync"] == true
    });

    before(&conntrackd);
    drop(conntrackd);
    let gone = Instant::now();
    wait::until("it has been away for a while", || gone.elapsed() >= away);
    let again = replicas.start_conntrackd(false);
    replicas.wait_until_they_have_ours(&again, || {});
}
