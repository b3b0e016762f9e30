//! Any bytes as an IP packet, judged with the settings of every dialect.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lockstep_fuzz::datagram::run(input));
