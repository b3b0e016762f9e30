//! The inputs that the fuzzer kept, put through the same promises without a fuzzer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../fuzz/src/kept.rs"]
pub mod kept;
#[path = "../../fuzz/src/netlink.rs"]
pub mod netlink;

use kept::kept;

#[test]
fn every_kept_answer_of_the_kernel_is_refused_or_understood() {
    let all = kept("netlink");
    assert!(all.len() >= 16, "the recorded messages at least");
    for (_, bytes) in all {
        netlink::run(&bytes);
    }
}
