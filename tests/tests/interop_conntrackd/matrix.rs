//! Every mode over every transport, in both directions, without loss: what is made, changed and deleted on one side is made,
//! changed and deleted on the other.

use lockstep_tests::replicas::{Mode, Replicas, Serves, Setting, Transport};
use lockstep_tests::tables::{self, flow};

const OURS: u8 = 1;
const THEIRS: u8 = 2;
const COUNT: u32 = 300;

#[test]
fn ftfw_over_multicast_carries_every_change_both_ways() {
    play_both_families(Mode::Ftfw, Transport::Multicast);
}

#[test]
fn ftfw_over_udp_carries_every_change_both_ways() {
    play_both_families(Mode::Ftfw, Transport::Udp);
}

#[test]
fn ftfw_over_tcp_carries_every_change_both_ways() {
    play_both_families(Mode::Ftfw, Transport::Tcp);
}

#[test]
fn notrack_over_multicast_carries_every_change_both_ways() {
    play_both_families(Mode::Notrack, Transport::Multicast);
}

#[test]
fn notrack_over_udp_carries_every_change_both_ways() {
    play_both_families(Mode::Notrack, Transport::Udp);
}

#[test]
fn notrack_over_tcp_carries_every_change_both_ways() {
    play_both_families(Mode::Notrack, Transport::Tcp);
}

#[test]
fn alarm_over_multicast_carries_every_change_both_ways() {
    play_both_families(Mode::Alarm, Transport::Multicast);
}

#[test]
fn alarm_over_udp_carries_every_change_both_ways() {
    play_both_families(Mode::Alarm, Transport::Udp);
}

#[test]
fn alarm_over_tcp_carries_every_change_both_ways() {
    play_both_families(Mode::Alarm, Transport::Tcp);
}

fn play_both_families(mode: Mode, transport: Transport) {
    for v6 in [false, true] {
        play(Setting { mode, transport, v6 });
    }
}

fn play(setting: Setting) {
    let replicas = Replicas::next_to_each_other(setting);
    let conntrackd = replicas.start_conntrackd(false);
    let lockstep = replicas.start_lockstep(Serves::Ours);
    replicas.wait_until_conntrackd_can_tell(&conntrackd);
    let told = || {
        replicas.wait_until_they_have_ours(&conntrackd, || {});
        replicas.wait_until_we_have_theirs(&lockstep);
    };
    let both = [(&replicas.ours, OURS), (&replicas.theirs, THEIRS)];

    for (node, side) in both {
        tables::create(node, (0..COUNT).map(|number| flow(side, number)));
    }
    told();
    for (node, side) in both {
        tables::update(node, (0..COUNT / 2).map(|number| flow(side, number)), 7);
    }
    told();
    for (node, side) in both {
        tables::delete(node, (0..COUNT).step_by(3).map(|number| flow(side, number)));
    }
    told();
    for (node, side) in both {
        let left = (0..COUNT).filter(|number| number % 3 != 0);
        tables::delete(node, left.map(|number| flow(side, number)));
    }
    told();
}
