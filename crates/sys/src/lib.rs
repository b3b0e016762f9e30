//! The only unsafe code: what no well-kept crate wraps, behind a safe interface.

pub mod batch;
pub mod child;
pub mod datagram;
pub mod identity;
pub mod interface;
pub mod memory;
pub mod netlink;
pub mod option;
pub mod packet;
pub mod pipe;
pub mod scheduling;
