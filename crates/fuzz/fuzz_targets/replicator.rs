//! Any sequence of datagrams, kernel events, roles and leaps of time through the replicator.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lockstep_fuzz::replicator::run(input, Instant::now()));
