//! The table.

use lockstep_tests::{conntrackd, keepalived};

use crate::options::{Experiment, Options, firewall_name};
use crate::scene::{CONNECTIONS, Change};
use crate::side::{Division, Setting, Side, milliseconds};

/// Who is compared, and under what.
pub(crate) fn introduce(options: &Options) {
    println!(
        "{} with {}, and lockstep; {CONNECTIONS} transfers through source NAT, VRRP version 3, \
         advertisements every {} ms; a dead master is noticed within {:.1} ms",
        keepalived::version(),
        conntrackd::version(),
        options.interval.as_millis(),
        milliseconds(Setting::detection(options.interval)),
    );
    println!(
        "lost: connections of {CONNECTIONS}; stall: longest of a surviving one; outage: without \
         answers to datagrams; addresses: since the cause; flows: now in the new master's kernel"
    );
}

/// What comes now.
pub(crate) fn head(experiment: Experiment) {
    println!(
        "\n{}, {} further flows, {} firewall\n{:<24} {:<8} {:>5} {:>9} {:>10} {:>10} {:>7}  where the \
         time went, ms",
        experiment.failure.name(),
        experiment.flows,
        firewall_name(experiment.firewall),
        "",
        "change",
        "lost",
        "stall ms",
        "outage ms",
        "addresses",
        "flows",
    );
}

/// One change of one side.
pub(crate) fn change(side: Side, which: &str, change: &Change) {
    println!(
        "{:<24} {which:<8} {:>5} {:>9} {:>10.1} {:>10.1} {:>7}  {}",
        side.name(),
        change.lost,
        change.stall.as_millis(),
        milliseconds(change.outage),
        milliseconds(change.addresses),
        change.carried[0],
        division(&change.division),
    );
    if change.carried[0] < change.carried[1] {
        let missing = change.carried[1] - change.carried[0];
        println!("{:<24} {missing} flows were not carried over", "");
    }
    if let Some(loss) = &change.loss {
        println!("{:<24} first loss: {loss}", "");
    }
}

/// A side that could not be run to its end.
pub(crate) fn error(side: Side) {
    println!("{:<24} ERROR: could not be run to its end, see the messages", side.name());
}

fn division(division: &Division) -> String {
    match division {
        Division::Theirs { script_after, commit, script, failed } => {
            let failures =
                if *failed == 0 { String::new() } else { format!(", {failed} calls failed") };
            format!(
                "script begins {script_after:.1} after the addresses, commit {commit:.1}, whole \
                 script {script:.1}{failures}"
            )
        }
        Division::Ours { detection, commit, addresses, announce } => format!(
            "detection {detection:.1}, commit {commit:.2}, addresses {addresses:.2}, announcements \
             {announce:.2}"
        ),
    }
}
