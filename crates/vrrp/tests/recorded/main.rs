//! The codec and the election against what keepalived really sent (`../vectors`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod captures;
mod changed_bits;
mod codec;
mod frames;
mod replay;
mod whole_packets;
