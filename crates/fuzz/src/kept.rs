//! The inputs that the fuzzers kept, for the tests that put them through the same promises.

use std::fs;
use std::path::Path;
use std::time::Instant;

/// File names and content of what one target has kept, in the order of the names.
///
/// The crate that takes this file in stands beside this one.
#[allow(clippy::disallowed_methods, reason = "a test reads its inputs from files")]
pub fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
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

/// A moment from which a sequence begins.
#[allow(clippy::disallowed_methods, reason = "any instant will do; no clock is compared with it")]
pub fn start_of_time() -> Instant {
    Instant::now()
}
