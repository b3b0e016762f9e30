//! The codec and the election against what keepalived really sent (`../vectors`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod codec;
mod frames;
mod replay;
