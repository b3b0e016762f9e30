//! Any bytes as what the kernel tells of its flows.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| lockstep_fuzz::netlink::run(input));
