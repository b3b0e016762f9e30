//! Socket options that no crate wraps.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Sets an option whose value is an int.
///
/// # Errors
/// When the kernel refuses the option.
#[expect(unsafe_code, reason = "no crate wraps these options")]
pub(crate) fn set(
    socket: &Socket,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `socket` is borrowed; the option's value is an
    // int that lives until the call returns, and its length is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            mem::size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many packets the kernel has thrown away because the socket's queue was full
/// (`SO_MEMINFO`); it starts again at 0 after 2³² - 1.
///
/// # Errors
/// When the kernel does not know the option (before Linux 4.12).
#[expect(unsafe_code, reason = "no crate wraps this option")]
pub fn dropped(socket: &Socket) -> io::Result<u32> {
    let mut values = [0_u32; MEMORY_VALUES];
    let mut length = mem::size_of_val(&values) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `socket` is borrowed; the kernel writes at most
    // `length` bytes to `values`, which is as long, and how many to `length`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(values[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// `SK_MEMINFO_VARS`: values that `SO_MEMINFO` has had since it counts drops.
const MEMORY_VALUES: usize = 9;
/// `SK_MEMINFO_DROPS`.
const DROPS: usize = 8;

#[cfg(test)]
mod tests {
    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn what_a_full_queue_refuses_is_counted() {
        let home = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, 0)).into();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        socket.bind(&home).unwrap();
        let to = socket.local_addr().unwrap();
        assert_eq!(dropped(&socket).unwrap(), 0);
        for _ in 0..100 {
            socket.send_to(&[0; 1000], &to).unwrap();
        }
        let mut received = 0;
        while socket
            .recv_from_with_flags(&mut [std::mem::MaybeUninit::uninit(); 1000], libc::MSG_DONTWAIT)
            .is_ok()
        {
            received += 1;
        }
        assert!(received < 100);
        assert_eq!(dropped(&socket).unwrap(), 100 - received);
    }
}
