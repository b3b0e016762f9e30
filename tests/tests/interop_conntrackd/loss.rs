//! Many flows, made, changed and deleted on either side while the link loses and disorders datagrams and either side is
//! restarted in the middle: at the end both sides hold the same. What a router that serves has itself kept of the other one
//! does not matter then, and is not asked for.
//!
//! Where conntrackd as a receiver has no way to repair what it missed (NOTRACK, ALARM), it is told to forget and to ask
//! (`-f external`, `-n`), as its users do; ours has to see to itself.

use lockstep_lab::{Selector, lose};
use lockstep_tests::conntrackd::Conntrackd;
use lockstep_tests::replicas::{Mode, Replicas, Serves, Setting, Transport, external_len};
use lockstep_tests::tables::{self, flow};
use lockstep_tests::wait;

#[test]
fn fifty_thousand_flows_of_ours_without_loss() {
    play(Mode::Ftfw, Transport::Multicast, 50_000, 0, Serves::Ours);
}

#[test]
fn fifty_thousand_flows_of_theirs_without_loss() {
    play(Mode::Ftfw, Transport::Multicast, 50_000, 0, Serves::Theirs);
}

#[test]
fn fifty_thousand_flows_of_ours_with_five_percent_lost_and_disorder() {
    play(Mode::Ftfw, Transport::Udp, 50_000, 50, Serves::Ours);
}

#[test]
fn fifty_thousand_flows_of_theirs_with_five_percent_lost_and_disorder() {
    play(Mode::Ftfw, Transport::Udp, 50_000, 50, Serves::Theirs);
}

#[test]
fn fifty_thousand_flows_of_ours_with_twenty_percent_lost_and_disorder() {
    play(Mode::Ftfw, Transport::Multicast, 50_000, 200, Serves::Ours);
}

#[test]
fn fifty_thousand_flows_of_theirs_with_twenty_percent_lost_and_disorder() {
    play(Mode::Ftfw, Transport::Multicast, 50_000, 200, Serves::Theirs);
}

#[test]
fn ten_thousand_flows_over_tcp_whose_packets_are_lost() {
    for serves in [Serves::Ours, Serves::Theirs] {
        play(Mode::Ftfw, Transport::Tcp, 10_000, 50, serves);
    }
}

#[test]
fn notrack_repairs_what_five_percent_lost_and_disorder_do() {
    play(Mode::Notrack, Transport::Udp, 3_000, 50, Serves::Ours);
    play(Mode::Notrack, Transport::Udp, 3_000, 50, Serves::Theirs);
}

#[test]
fn notrack_repairs_what_twenty_percent_lost_and_disorder_do() {
    play(Mode::Notrack, Transport::Multicast, 1_000, 200, Serves::Ours);
    play(Mode::Notrack, Transport::Multicast, 1_000, 200, Serves::Theirs);
}

#[test]
fn alarm_repairs_what_five_percent_lost_and_disorder_do() {
    play(Mode::Alarm, Transport::Udp, 1_000, 50, Serves::Ours);
    play(Mode::Alarm, Transport::Udp, 1_000, 50, Serves::Theirs);
}

#[test]
fn alarm_repairs_what_twenty_percent_lost_and_disorder_do() {
    play(Mode::Alarm, Transport::Multicast, 500, 200, Serves::Ours);
    play(Mode::Alarm, Transport::Multicast, 500, 200, Serves::Theirs);
}

/// The router that serves makes `count` flows, changes half of them, deletes a third, and changes others; both daemons are
/// killed and started anew on the way. The families of the link alternate with who serves,
/// except over TCP, whose lost packets are IPv4's.
fn play(mode: Mode, transport: Transport, count: u32, lost: u32, serves: Serves) {
    let setting =
        Setting { mode, transport, v6: serves == Serves::Theirs && transport != Transport::Tcp };
    let replicas = if transport == Transport::Tcp {
        Replicas::next_to_each_other(setting)
    } else {
        Replicas::relayed(setting)
    };
    let mut conntrackd = replicas.start_conntrackd(false);
    let mut lockstep = replicas.start_lockstep(serves);
    match &replicas.relay {
        Some(relay) => relay.spoil(lost, lost),
        None => {
            for node in [&replicas.ours, &replicas.theirs] {
                lose(node, "eth2", Selector::Protocol(TCP), lost).expect("a rule that loses");
            }
        }
    }
    let router = if serves == Serves::Ours { &replicas.ours } else { &replicas.theirs };
    let those = |wanted: fn(u32, u32) -> bool| {
        (0..count).filter(move |number| wanted(*number, count)).map(|number| flow(1, number))
    };

    tables::create(router, those(|_, _| true));
    lockstep.kill();
    drop(lockstep);
    tables::update(router, those(|number, count| number < count / 2), 7);
    lockstep = replicas.start_lockstep(serves);
    if serves == Serves::Theirs {
        // What it has been told is then to be dropped, and not only not told.
        wait::until("most flows have been told", || {
            external_len(&lockstep) >= count as usize * 2 / 3
        });
    }
    drop(conntrackd);
    tables::delete(router, those(|number, _| number % 3 == 0));
    conntrackd = replicas.start_conntrackd(mode != Mode::Alarm);
    tables::update(router, those(|number, _| number % 3 == 1), 8);

    match serves {
        Serves::Theirs => replicas.wait_until_we_have_theirs(&lockstep),
        Serves::Ours => {
            let mut asked = false;
            replicas.wait_until_they_have_ours(&conntrackd, || {
                if mode == Mode::Notrack {
                    ask(&conntrackd, &mut asked);
                }
            });
        }
    }
}

const TCP: u8 = 6;

/// As its users do when conntrackd has missed something.
fn ask(conntrackd: &Conntrackd, asked: &mut bool) {
    if !*asked {
        conntrackd.command(&["-f", "external"]);
        *asked = true;
    }
    conntrackd.command(&["-n"]);
}
