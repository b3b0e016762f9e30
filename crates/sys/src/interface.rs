//! What a network interface is called, and whether it can be used, asked of any socket.
//!
//! A socket belongs to one network namespace for good, so the answers are about that one, whatever
//! the calling thread has moved to since.

#![expect(unsafe_code, reason = "no crate asks these of a socket's own namespace")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// How an interface is at this moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Interface {
    /// Its present name.
    pub name: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it can carry something: a cable with somebody at its other end, for example.
    pub running: bool,
    /// Largest packet in bytes, without the link's own header.
    pub mtu: usize,
}

/// Looks at the interface with this index; `None` when there is none (any more).
///
/// # Errors
/// When the kernel does not answer.
pub fn look(socket: BorrowedFd<'_>, index: u32) -> io::Result<Option<Interface>> {
    // SAFETY: `ifreq` consists of integers, characters and pointers, for which zeros are a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = index as libc::c_int;
    if !ask(socket, libc::SIOCGIFNAME as _, &mut request)? {
        return Ok(None);
    }
    let name = request.ifr_name.iter().take_while(|&&byte| byte != 0).map(|&byte| byte as u8);
    let name = String::from_utf8_lossy(&name.collect::<Vec<u8>>()).into_owned();
    if !ask(socket, libc::SIOCGIFFLAGS as _, &mut request)? {
        return Ok(None);
    }
    // SAFETY: the kernel has just put flags there, and any bytes are an integer.
    let flags = libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    if !ask(socket, libc::SIOCGIFMTU as _, &mut request)? {
        return Ok(None);
    }
    // SAFETY: the kernel has just put the MTU there, and any bytes are an integer.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(Some(Interface {
        name,
        up: flags & libc::IFF_UP != 0,
        running: flags & libc::IFF_RUNNING != 0,
        mtu: usize::try_from(mtu).unwrap_or(0),
    }))
}

/// Asks the kernel one thing; `false` when there is no such interface.
fn ask(
    socket: BorrowedFd<'_>,
    question: libc::c_ulong,
    request: &mut libc::ifreq,
) -> io::Result<bool> {
    // SAFETY: the descriptor is open as long as it is borrowed, and each of the three questions
    // reads and writes no more than one `ifreq`, which is borrowed as long.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), question as _, &raw mut *request) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => Ok(false),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_loopback_interface_is_called_lo_and_another_is_not_there() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let loopback = look(socket.as_fd(), 1).unwrap().unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(loopback.up && loopback.running && loopback.mtu >= 1280);
        assert_eq!(look(socket.as_fd(), 0x7fff_ff00).unwrap(), None);
    }
}
