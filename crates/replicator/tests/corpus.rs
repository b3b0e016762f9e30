//! The inputs that the fuzzers kept, put through the same promises without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Instant;

#[path = "../../fuzz/src/input.rs"]
pub mod input;
#[path = "../../fuzz/src/replicator.rs"]
pub mod replicator;
#[path = "../../fuzz/src/wire.rs"]
pub mod wire;

#[test]
fn every_kept_datagram_is_refused_or_understood() {
    let corpus = corpus("wire");
    assert!(corpus.len() >= 64, "the recorded datagrams at least");
    for (_, bytes) in corpus {
        wire::run(&bytes);
    }
}

#[test]
fn the_replicator_stays_within_its_bounds_in_every_kept_sequence() {
    let corpus = corpus("replicator");
    assert!(!corpus.is_empty());
    let start = start_of_time();
    for (_, bytes) in corpus {
        replicator::run(&bytes, start);
    }
}

/// File names and content, in the order of the names.
#[expect(clippy::disallowed_methods, reason = "a test reads its inputs from files")]
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut all: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    all.sort();
    all
}

#[expect(clippy::disallowed_methods, reason = "any instant will do; no clock is compared with it")]
fn start_of_time() -> Instant {
    Instant::now()
}
