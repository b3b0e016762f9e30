//! Any sequence of events, packets and leaps of time through the election.

#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lockstep_fuzz::machine::run(input, Instant::now()));
