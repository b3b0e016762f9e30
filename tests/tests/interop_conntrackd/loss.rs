//! Many flows, made, changed and deleted on both sides while the link loses and disorders datagrams and either side is
//! restarted in the middle: at the end both sides hold the same.
//!
//! Where conntrackd as a receiver has no way to repair what it missed (NOTRACK, ALARM), it is told to forget and to ask
//! (`-f external`, `-n`), as its users do; ours has to see to itself.

use lockstep_tests::conntrackd::Conntrackd;
use lockstep_tests::replicas::{Mode, Replicas, Setting, Transport};
use lockstep_tests::tables::{self, flow};

const OURS: u8 = 1;
const THEIRS: u8 = 2;

#[test]
fn fifty_thousand_flows_over_multicast_without_loss() {
    play(
        Setting { mode: Mode::Ftfw, transport: Transport::Multicast, v6: false },
        50_000,
        0,
        Restarted::Both,
    );
}

#[test]
fn fifty_thousand_flows_over_multicast_with_five_percent_lost_and_disorder() {
    play(
        Setting { mode: Mode::Ftfw, transport: Transport::Multicast, v6: true },
        50_000,
        50,
        Restarted::Both,
    );
}

#[test]
fn fifty_thousand_flows_over_udp_with_twenty_percent_lost_and_disorder() {
    play(
        Setting { mode: Mode::Ftfw, transport: Transport::Udp, v6: false },
        50_000,
        200,
        Restarted::Both,
    );
}

#[test]
fn notrack_with_five_percent_lost_and_disorder() {
    play(
        Setting { mode: Mode::Notrack, transport: Transport::Udp, v6: true },
        5_000,
        50,
        Restarted::Both,
    );
}

#[test]
fn notrack_with_twenty_percent_lost_and_disorder() {
    play(
        Setting { mode: Mode::Notrack, transport: Transport::Multicast, v6: false },
        1_000,
        200,
        Restarted::Both,
    );
}

#[test]
fn alarm_with_twenty_percent_lost_and_disorder() {
    play(
        Setting { mode: Mode::Alarm, transport: Transport::Multicast, v6: false },
        500,
        200,
        Restarted::Both,
    );
}

/// Who is restarted in the middle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Restarted {
    Both,
}

fn play(setting: Setting, count: u32, lost: u32, _restarted: Restarted) {
    let replicas = Replicas::relayed(setting);
    let mut conntrackd = replicas.start_conntrackd(false);
    let mut lockstep = replicas.start_lockstep();
    let relay = replicas.relay.as_ref().expect("there is a relay");
    relay.spoil(lost, lost);
    let both = [(&replicas.ours, OURS), (&replicas.theirs, THEIRS)];

    for (node, side) in both {
        tables::create(node, (0..count).map(|number| flow(side, number)));
    }
    // In the middle of it, and without a word.
    lockstep.kill();
    drop(lockstep);
    for (node, side) in both {
        tables::update(node, (0..count / 2).map(|number| flow(side, number)), 7);
    }
    lockstep = replicas.start_lockstep();
    drop(conntrackd);
    for (node, side) in both {
        tables::delete(node, (0..count).step_by(3).map(|number| flow(side, number)));
    }
    conntrackd = replicas.start_conntrackd(setting.mode != Mode::Alarm);
    for (node, side) in both {
        tables::update(
            node,
            (0..count).filter(|number| number % 3 == 1).map(|number| flow(side, number)),
            8,
        );
    }

    replicas.wait_until_we_have_theirs(&lockstep);
    let mut asked = false;
    replicas.wait_until_they_have_ours(&conntrackd, || {
        if setting.mode == Mode::Notrack {
            ask(&conntrackd, &mut asked);
        }
    });
}

/// As its users do when conntrackd has missed something.
fn ask(conntrackd: &Conntrackd, asked: &mut bool) {
    if !*asked {
        conntrackd.command(&["-f", "external"]);
        *asked = true;
    }
    conntrackd.command(&["-n"]);
}
