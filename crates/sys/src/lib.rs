//! The only unsafe code: what no well-kept crate wraps, behind a safe interface.

pub mod datagram;
pub mod netlink;
pub mod packet;
