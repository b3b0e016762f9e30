//! The inputs that the fuzzers kept, put through the same promises without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::time::Instant;

#[path = "../../fuzz/src/datagram.rs"]
pub mod datagram;
#[path = "../../fuzz/src/input.rs"]
pub mod input;
#[path = "../../fuzz/src/machine.rs"]
pub mod machine;
#[path = "../../fuzz/src/settings.rs"]
pub mod settings;

#[test]
fn every_kept_packet_is_refused_or_understood() {
    let corpus = corpus("datagram");
    assert!(corpus.len() >= 64, "the recorded packets at least");
    for (_, bytes) in corpus {
        datagram::run(&bytes);
    }
}

#[test]
fn the_election_keeps_its_promises_in_every_kept_sequence() {
    let corpus = corpus("machine");
    assert!(!corpus.is_empty());
    let start = start_of_time();
    for (_, bytes) in corpus {
        machine::run(&bytes, start);
    }
}

#[test]
fn the_recorded_packets_are_among_the_kept_ones() {
    let corpus = corpus("datagram");
    for capture in ["v2-ah-cloudstack", "v3-hmac-trailer", "v3-unicast-ipv6", "v2-owner-255"] {
        assert!(corpus.iter().any(|(name, _)| name.starts_with(capture)), "{capture}");
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
