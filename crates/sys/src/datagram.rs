//! UDP sockets: what socket2 has no name for.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Leaves the UDP checksum of what an IPv4 socket sends at 0 (`SO_NO_CHECK`).
///
/// # Errors
/// When the kernel refuses the option.
#[expect(unsafe_code, reason = "no crate wraps this option")]
pub fn send_without_checksum(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open as long as `socket` is borrowed; the option's value is an
    // int that lives until the call returns, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            mem::size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn a_udp_socket_can_do_without_checksums() {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        send_without_checksum(&socket).unwrap();
    }
}
