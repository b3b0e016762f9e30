//! Netlink sockets: many datagrams in one system call.

#![expect(unsafe_code, reason = "recvmmsg is wrapped by no crate without allocating per call")]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most datagrams taken by one system call.
const SLOTS: usize = 64;
/// Room for one datagram. The kernel never builds a larger one than a page, except for dumps.
const SLOT: usize = 4096;
/// From one slot to the next: datagrams are far smaller than their slots, and at a distance of
/// whole pages their beginnings would share the same few lines of the processor's cache.
const STRIDE: usize = SLOT + 5 * 64;

/// The memory that datagrams are received into.
#[derive(Debug)]
pub struct Receiver {
    slots: Box<[u8]>,
    /// Bytes of the datagram in each slot; 0 where there is none that counts.
    lengths: [usize; SLOTS],
    /// Slots that the last call has filled.
    filled: usize,
}

/// What one [`Receiver::receive`] brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Received {
    /// Datagrams of the kernel's that are whole.
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
    /// Takes the memory: a little more than 256 KiB.
    pub fn new() -> Self {
        let slots = vec![0; SLOTS * STRIDE].into_boxed_slice();
        Self { slots, lengths: [0; SLOTS], filled: 0 }
    }

    /// Takes what is waiting in a netlink socket, at most 64 datagrams, and appends what the
    /// kernel sent to `buffer`, each datagram filled up to a multiple of 4 bytes.
    ///
    /// # Errors
    /// As [`Receiver::fill`].
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Received> {
        let received = self.fill(socket)?;
        for datagram in self.datagrams() {
            buffer.extend_from_slice(datagram);
            buffer.resize(buffer.len().next_multiple_of(4), 0);
        }
        Ok(received)
    }

    /// What the last [`Receiver::fill`] brought from the kernel, in order, where it was received.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let slots = self.slots.chunks_exact(STRIDE).zip(&self.lengths).take(self.filled);
        slots.map(|(slot, length)| &slot[..*length]).filter(|datagram| !datagram.is_empty())
    }

    /// Takes what is waiting in a netlink socket, at most 64 datagrams, in place of what was here.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is waiting; `ENOBUFS` once after the kernel had to throw
    /// messages away.
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<Received> {
        self.filled = 0;
        let mut senders = [NO_SENDER; SLOTS];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SLOTS];
        for (vector, slot) in vectors.iter_mut().zip(self.slots.chunks_exact_mut(STRIDE)) {
            *vector = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT };
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
        self.filled = count;
        let mut received = Received::default();
        let kept = self.lengths.iter_mut();
        for ((header, sender), kept) in headers.iter().zip(&senders).zip(kept).take(count) {
            *kept = 0;
            if sender.nl_pid != 0 {
                received.foreign += 1;
            } else if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                received.truncated += 1;
            } else {
                *kept = (header.msg_len as usize).min(SLOT);
                received.datagrams += 1;
            }
        }
        Ok(received)
    }
}

// SAFETY: `sockaddr_nl` consists of integers, for which all zeros is a value.
const NO_SENDER: libc::sockaddr_nl = unsafe { mem::zeroed() };
