//! Connection tracking as netlink tells it: flows, and bytes ⇄ meaning.
//!
//! Owns [`Flow`] and its `conntrack(8)`-style text. Does no IO: `lockstep-kernel` has the socket.
//!
//! Decoding is in place: [`Messages`] walks a receive buffer and gives borrowing views, and
//! [`Message::flow`] makes an owned [`Flow`] of one. A flow is plain data without heap parts, so
//! that a cache of them is one allocation. Encoding appends requests to a buffer ([`create`],
//! [`update`], [`delete`], [`get`], [`dump`]); a [`Batch`] collects many for one system call. The
//! same holds for what helpers expect: [`Message::expectation`], [`create_expectation`] and so on.

mod attribute;
mod batch;
mod decode;
mod encode;
mod expectation;
mod flow;
mod json;
mod message;
mod text;

pub use batch::*;
pub use decode::{Counters, Details};
pub use encode::*;
pub use expectation::*;
pub use flow::*;
pub use json::{event_value, list_value};
pub use message::{Answer, DecodeError, Header, Kind, Message, Messages};
pub use text::{event_line, list_line, protocol_name, state_name};
