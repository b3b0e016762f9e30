//! Lockstep and keepalived 2.2.7 on one LAN, in every role, beside keepalived alone: a difference in behaviour is seen, not
//! assumed.
//!
//! A scenario is written once and played with each mix of programs at the same time: `KK` is keepalived alone, `LK` has
//! Lockstep as router `a`, which is the better one unless the scenario says otherwise. What must hold for every mix is
//! asserted in the scenario; what it observed is compared with keepalived alone, but for [`DIFFERENCES`].

mod dialects;
mod elections;
mod journal;
mod mismatches;
mod replacement;

use std::net::IpAddr;

use lockstep_tests::compare::{self, Difference, Observation, PAIRS};
use lockstep_tests::daemon::{Lockstep, number, text};
use lockstep_tests::keepalived::Keepalived;
use lockstep_tests::pair::Pair;
use lockstep_tests::router::Program;
use lockstep_tests::segment::Segment;
use lockstep_tests::setting::Setting;
use lockstep_tests::wait;
use nix::sys::signal::{Signal, kill};

/// Where Lockstep is meant to behave otherwise than keepalived 2.2.7.
const DIFFERENCES: &[Difference] = &[
    hop_limit("LK", "words of 0"),
    hop_limit("KL", "words of 1"),
    hop_limit("LL", "words of 0"),
    hop_limit("LL", "words of 1"),
    Difference {
        scenario: "an_address_list_that_differs",
        mix: "KL",
        aspect: "holders",
        reason: "another list of addresses is no reason to take the master for dead",
    },
    Difference {
        scenario: "an_address_list_that_differs",
        mix: "LL",
        aspect: "holders",
        reason: "another list of addresses is no reason to take the master for dead",
    },
];

const fn hop_limit(mix: &'static str, aspect: &'static str) -> Difference {
    Difference {
        scenario: "version_3_over_ipv6_in_unicast",
        mix,
        aspect,
        reason: "ours sends hop limit 255 to IPv6 peers too, keepalived the kernel's 64",
    }
}

/// Plays a scenario with every mix of two.
#[track_caller]
fn each_pair(scenario: &str, play: impl Fn(&[Program]) -> Observation + Sync) {
    compare::compare(scenario, &PAIRS, DIFFERENCES, play);
}

/// A counter of our virtual router.
fn counter(lockstep: &Lockstep, name: &str) -> u64 {
    number(&lockstep.virtual_router("gateway")["statistics"][name])
}

/// What our virtual router refuses, and in what those differ that it heeds.
fn named(lockstep: &Lockstep) -> Vec<String> {
    let router = lockstep.virtual_router("gateway");
    let lists = ["rejected", "differs"].map(|list| router[list].as_array().expect("a list"));
    lists.into_iter().flatten().map(text).collect()
}

/// Waits until `status` names what `neighbour` sends and we do not, with each of these words.
#[track_caller]
fn wait_until_named(lockstep: &Lockstep, neighbour: IpAddr, words: &[&str]) {
    let neighbour = neighbour.to_string();
    wait::until(&format!("status names {neighbour} with {words:?}"), || {
        named(lockstep).iter().any(|sentence| {
            sentence.contains(&neighbour) && words.iter().all(|word| sentence.contains(word))
        })
    });
}

/// The numbers of authentication headers grow from each advertisement to the next, whoever sends it. Two routers that
/// speak in the same instant, when one takes over from the other, count on from the same number.
fn numbers_only_grow(segment: &Segment) {
    let all = segment.capture.advertisements();
    let numbers: Vec<(IpAddr, u32)> =
        all.iter().filter_map(|seen| Some((seen.source, seen.header?.sequence))).collect();
    for pair in numbers.windows(2) {
        let ((before, first), (after, second)) = (pair[0], pair[1]);
        let grows = first < second || (first == second && before != after);
        assert!(grows, "the number does not grow: {pair:?} of {numbers:?}");
    }
    for sender in numbers.iter().map(|(sender, _)| sender) {
        let own: Vec<u32> = numbers
            .iter()
            .filter(|(source, _)| source == sender)
            .map(|(_, number)| *number)
            .collect();
        assert!(
            own.windows(2).all(|pair| pair[0] < pair[1]),
            "{sender} repeats a number: {numbers:?}"
        );
    }
}

#[test]
fn a_keepalived_that_a_test_drops_leaves_no_process() {
    let pair = Pair::new();
    let instance = "vrrp_instance gateway {\n interface eth0\n virtual_router_id 51\n priority 100\n\
         virtual_ipaddress {\n 10.51.0.1/24 dev eth0\n }\n}\n";
    let keepalived = Keepalived::configured(&pair.theirs, instance);
    let process = keepalived.vrrp_process();
    // As one that hangs when it is told to end.
    keepalived.signal(Signal::SIGSTOP);
    drop(keepalived);
    wait::until("its VRRP process is gone", || kill(process, None).is_err());
}
