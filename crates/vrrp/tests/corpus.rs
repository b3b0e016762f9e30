//! The inputs that the fuzzers kept, put through the same promises without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/datagram.rs"]
pub mod datagram;
#[path = "../../fuzz/src/input.rs"]
pub mod input;
#[path = "../../fuzz/src/kept.rs"]
pub mod kept;
#[path = "../../fuzz/src/machine.rs"]
pub mod machine;
#[path = "../../fuzz/src/settings.rs"]
pub mod settings;

use kept::{kept, start_of_time};

#[test]
fn every_kept_packet_is_refused_or_understood() {
    let all = kept("datagram");
    assert!(all.len() >= 64, "the recorded packets at least");
    for (_, bytes) in all {
        datagram::run(&bytes);
    }
}

#[test]
fn the_election_keeps_its_promises_in_every_kept_sequence() {
    let all = kept("machine");
    assert!(!all.is_empty());
    let start = start_of_time();
    for (_, bytes) in all {
        machine::run(&bytes, start);
    }
}

#[test]
fn the_recorded_packets_are_among_the_kept_ones() {
    let all = kept("datagram");
    for capture in ["v2-ah-cloudstack", "v3-hmac-trailer", "v3-unicast-ipv6", "v2-owner-255"] {
        assert!(all.iter().any(|(name, _)| name.starts_with(capture)), "{capture}");
    }
}
