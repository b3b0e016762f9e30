//! Many packets out of one socket, and which of them could not be sent.

use std::io;
use std::os::fd::AsFd;

use lockstep_sys::batch::{self, Outgoing};
use socket2::Socket;

/// A packet that could not be sent.
#[derive(Debug)]
pub struct Failure {
    /// Which of those given.
    pub position: usize,
    /// Why.
    pub error: io::Error,
}

/// What to do about a packet that the kernel has refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// The same packet, a second time.
    Again,
    /// The next packet: the error is this one's.
    Skip,
    /// No packet: the error would be every other's too.
    Stop,
}

/// Sends `count` messages in order, as many in a system call as it takes. A message that is not
/// there could not be addressed.
pub(super) fn send_all<'a>(
    socket: &Socket,
    count: usize,
    message: impl Fn(usize) -> Option<Outgoing<'a>>,
    mut judge: impl FnMut(&io::Error, usize) -> Next,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut position = 0;
    while position < count {
        if message(position).is_none() {
            let error = io::Error::from(io::ErrorKind::InvalidInput);
            failures.push(Failure { position, error });
            position += 1;
            continue;
        }
        let error = match batch::send(socket.as_fd(), (position..count).map_while(&message)) {
            Ok(sent) => {
                position += sent;
                continue;
            }
            Err(error) => error,
        };
        match judge(&error, position) {
            Next::Again => (),
            Next::Skip => {
                failures.push(Failure { position, error });
                position += 1;
            }
            Next::Stop => {
                let same = || {
                    error
                        .raw_os_error()
                        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
                };
                failures
                    .extend((position..count).map(|position| Failure { position, error: same() }));
                break;
            }
        }
    }
    failures
}

/// For a socket of one interface: what concerns the interface or the socket concerns all packets.
pub(super) fn on_one_link(error: &io::Error) -> Next {
    match error.raw_os_error() {
        Some(libc::EINTR) => Next::Again,
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV | libc::EAGAIN) => Next::Stop,
        _ => Next::Skip,
    }
}
