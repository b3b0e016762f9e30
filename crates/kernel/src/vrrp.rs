//! VRRP sockets: advertisements in and out, and announcements out.
//!
//! One [`AdvertisementSocket`] serves all virtual routers of an interface and family; which of
//! them a packet is for is told by [`lockstep_vrrp::Datagram::vrid`]. All sockets belong to the
//! network namespace of the thread that opens them.

mod advertisement;
mod announcer;

use std::io;

pub use advertisement::AdvertisementSocket;
pub use announcer::Announcer;

/// A VRRP socket could not be made ready.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} on {interface}")]
pub struct OpenError {
    /// The interface.
    pub interface: String,
    /// What was tried.
    pub step: &'static str,
    /// What the kernel said; `EPERM` without `CAP_NET_RAW` and `CAP_NET_ADMIN`.
    #[source]
    pub source: io::Error,
}
