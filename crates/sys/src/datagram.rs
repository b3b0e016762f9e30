//! UDP sockets: what socket2 has no name for.

use std::io;

use socket2::Socket;

use crate::option;

/// Leaves the UDP checksum of what an IPv4 socket sends at 0 (`SO_NO_CHECK`).
///
/// # Errors
/// When the kernel refuses the option.
pub fn send_without_checksum(socket: &Socket) -> io::Result<()> {
    option::set(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
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
