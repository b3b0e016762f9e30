//! Connection tracking as netlink tells it: flows, expectations, and bytes ⇄ meaning.
//!
//! Owns [`Flow`] and its `conntrack(8)`-style text. Does no IO: `lockstep-kernel` has the socket.
//!
//! Decoding is in place: a borrowing view first ([`Message`]), an owned [`Flow`] second. A flow is
//! `Copy`-sized plain data without heap parts, so that a cache of them is one allocation.

mod flow;

pub use flow::*;
