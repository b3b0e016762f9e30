//! What the fuzz targets do with their input.
//!
//! It stands apart from libFuzzer, so that an ordinary test can put the recorded inputs through it
//! with a stable compiler (`tests/corpus.rs` of each crate takes these files in). A promise that is
//! broken panics.

pub mod datagram;
pub mod input;
pub mod kept;
pub mod machine;
pub mod netlink;
pub mod replicator;
pub mod settings;
pub mod wire;
