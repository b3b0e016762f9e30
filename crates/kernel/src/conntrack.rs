//! The connection tracking table: its events, its content, and changes to it.
//!
//! A socket belongs to the network namespace of the thread that opens it, for good.
//!
//! The kernel carries a request out inside the system call that sends it, and its answers are
//! waiting when that call returns. So [`TableSocket`] never waits, and only [`EventSocket`], which
//! is told what others do, is asynchronous.

mod commit;
mod events;
mod execute;
mod inject;
mod table;
mod tracking;

pub use commit::Committer;
pub use events::{EventSocket, Events, Filtering, Taken, Unwanted};
pub use inject::Injector;
pub use table::{Dump, Failure, Statistics, TableError, TableSocket};
pub use tracking::{Tracking, keep_events, tracking};

use std::io;

use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt};

/// A socket towards connection tracking could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step} the connection tracking socket")]
pub struct OpenError {
    step: &'static str,
    #[source]
    source: io::Error,
}

impl OpenError {
    fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { step, source }
    }
}

/// Sizes and binds a socket, and returns the port it got.
fn set_up(socket: &mut Socket, receive_buffer: usize) -> Result<u32, OpenError> {
    // Beyond `rmem_max` only a privileged process may go; the others take what they get.
    if setsockopt(socket, sockopt::RcvBufForce, &receive_buffer).is_err() {
        setsockopt(socket, sockopt::RcvBuf, &receive_buffer)
            .map_err(|errno| OpenError::at("size the buffer of")(errno.into()))?;
    }
    let address = socket.bind_auto().map_err(OpenError::at("bind"))?;
    Ok(address.port_number())
}
