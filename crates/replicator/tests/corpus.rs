//! The inputs that the fuzzers kept, put through the same promises without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/input.rs"]
pub mod input;
#[path = "../../fuzz/src/kept.rs"]
pub mod kept;
#[path = "../../fuzz/src/replicator.rs"]
pub mod replicator;
#[path = "../../fuzz/src/wire.rs"]
pub mod wire;

use kept::{kept, start_of_time};

#[test]
fn every_kept_datagram_is_refused_or_understood() {
    let all = kept("wire");
    assert!(all.len() >= 64, "the recorded datagrams at least");
    for (_, bytes) in all {
        wire::run(&bytes);
    }
}

#[test]
fn the_replicator_stays_within_its_bounds_in_every_kept_sequence() {
    let all = kept("replicator");
    assert!(!all.is_empty());
    let start = start_of_time();
    for (_, bytes) in all {
        replicator::run(&bytes, start);
    }
}
