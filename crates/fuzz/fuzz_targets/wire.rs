//! Any bytes as a datagram of conntrackd's protocol.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lockstep_fuzz::wire::run(input));
