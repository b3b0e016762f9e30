//! The inputs that the fuzzer kept, put through the same promises without a fuzzer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

#[path = "../../fuzz/src/netlink.rs"]
pub mod netlink;

#[test]
fn every_kept_answer_of_the_kernel_is_refused_or_understood() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/netlink");
    let mut kept = 0;
    #[allow(clippy::disallowed_methods, reason = "a test reads its inputs from files")]
    for entry in fs::read_dir(folder).unwrap() {
        netlink::run(&fs::read(entry.unwrap().path()).unwrap());
        kept += 1;
    }
    assert!(kept >= 16, "the recorded messages at least");
}
