//! Netlink sockets: many datagrams in one system call.

#![expect(unsafe_code, reason = "recvmmsg is wrapped by no crate without allocating per call")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most datagrams taken by one system call.
const SLOTS: usize = 64;
/// Room for one datagram. The kernel never builds a larger one than a page, except for dumps.
const SLOT: usize = 4096;

/// The memory that datagrams are received into.
#[derive(Debug)]
pub struct Receiver {
    slots: Box<[u8]>,
}

/// What one [`Receiver::receive`] brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Received {
    /// Datagrams appended to the buffer.
    pub datagrams: usize,
    /// Datagrams thrown away because a part of them was cut off.
    pub truncated: usize,
    /// Datagrams thrown away because the kernel did not send them.
    pub foreign: usize,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// Most bytes that one [`Receiver::receive`] appends.
    pub const MOST: usize = SLOTS * SLOT;

    /// Takes the memory: 256 KiB.
    pub fn new() -> Self {
        Self { slots: vec![0; Self::MOST].into_boxed_slice() }
    }

    /// Takes what is waiting in a netlink socket, at most 64 datagrams, and appends what the
    /// kernel sent to `buffer`, each datagram filled up to a multiple of 4 bytes.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is waiting; `ENOBUFS` once after the kernel had to throw
    /// messages away.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Received> {
        let mut senders = [NO_SENDER; SLOTS];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLOTS];
        for (vector, slot) in vectors.iter_mut().zip(self.slots.chunks_exact_mut(SLOT)) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
        }
        // SAFETY: `mmsghdr` consists of integers and pointers, for which all zeros is a value.
        let mut headers: [libc::mmsghdr; SLOTS] = unsafe { mem::zeroed() };
        for ((header, sender), vector) in headers.iter_mut().zip(&mut senders).zip(&mut vectors) {
            header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: each of the `SLOTS` headers points to one vector and one sender of its own, and
        // each vector to a slot of its own; all of them outlive the call, and nothing else uses
        // them during it.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                SLOTS as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        let mut received = Received::default();
        let slots = self.slots.chunks_exact(SLOT);
        for ((header, sender), slot) in headers.iter().zip(&senders).zip(slots).take(count) {
            if sender.nl_pid != 0 {
                received.foreign += 1;
            } else if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                received.truncated += 1;
            } else {
                let length = header.msg_len as usize;
                buffer.extend_from_slice(&slot[..length]);
                buffer.resize(buffer.len() + length.next_multiple_of(4) - length, 0);
                received.datagrams += 1;
            }
        }
        Ok(received)
    }
}

// SAFETY: `sockaddr_nl` consists of integers, for which all zeros is a value.
const NO_SENDER: libc::sockaddr_nl = unsafe { mem::zeroed() };
