//! VRRP sockets: advertisements and announcements in and out.
//!
//! | socket | one for | what it is |
//! |---|---|---|
//! | [`Receiver`] | interface and family | raw IP sockets: the operator's firewall keeps its say |
//! | [`Sender`] | sending interface | packet socket: needs no route, address or conntrack entry |
//! | [`UnicastSocket`] | family, interface | raw IP socket: routed, next hops resolved |
//! | [`Announcer`] | interface | packet socket for whole frames |
//! | [`AnnouncementListener`] | interface and family | packet socket, while a successor is awaited |
//!
//! None belongs to a single virtual router; which of them a packet is for is told by
//! [`lockstep_vrrp::Datagram::vrid`]. All belong to the network namespace of the thread that opens
//! them. None of them waits.

mod announcer;
mod batch;
mod failure;
mod filter;
mod listener;
mod packet_socket;
mod receiver;
mod sender;
mod unicast;
mod vrids;

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;

pub use announcer::Announcer;
pub use batch::Batch;
pub use failure::Failure;
pub use listener::AnnouncementListener;
pub use receiver::Receiver;
pub use sender::Sender;
pub use unicast::{UnicastSocket, Unreachable};
pub use vrids::VridSet;

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

/// `TC_PRIO_CONTROL`: ahead of the interface's other traffic in a queue that looks at it.
const CONTROL_PRIORITY: u32 = 7;

/// Lets many advertisements wait in the kernel; beyond the system's limit only with privilege, and
/// without it, as many as there may.
fn widen_send_buffer(socket: &Socket) -> io::Result<()> {
    setsockopt(socket, sockopt::SndBufForce, &SEND_BUFFER)
        .or_else(|_| socket.set_send_buffer_size(SEND_BUFFER))
}

/// Bytes of send buffer: some thousand advertisements. What fills it are the queue of an interface,
/// which has a limit of its own that is to be met first, and what waits for a dead peer's link
/// address, at most 208 KiB for each: the living ones must not wait with it.
const SEND_BUFFER: usize = 4 << 20;
