//! When a node's kernel has how many virtual addresses.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use lockstep_lab::Node;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;

/// `RTNLGRP_IPV4_IFADDR`, as the bit of its group.
const ADDRESSES: u32 = 1 << 4;
/// Longest announcement.
const MOST: usize = 32_768;
/// Bytes of receive buffer: thousands of addresses at once.
const BUFFER: usize = 64 << 20;
/// At most so long without looking at the limit.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Counts the addresses of a node that are made after this was.
pub(crate) struct Addresses {
    socket: Socket,
    present: BTreeSet<Address>,
}

impl Addresses {
    pub(crate) fn watch(node: &Node) -> Self {
        node.run(|| {
            let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
            socket.bind(&SocketAddr::new(0, ADDRESSES)).unwrap();
            setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER).unwrap();
            SockRef::from(&socket.as_fd()).set_read_timeout(Some(LOOK_EVERY)).unwrap();
            Self { socket, present: BTreeSet::new() }
        })
        .unwrap()
    }

    /// Waits until there are `count` of them; the time at which that was told, `None` when it
    /// has not come to it within `limit`.
    pub(crate) fn wait_for(&mut self, count: usize, limit: Duration) -> Option<Instant> {
        let deadline = Instant::now() + limit;
        let mut told = Instant::now();
        while self.present.len() != count {
            if told >= deadline {
                return None;
            }
            self.receive();
            told = Instant::now();
        }
        Some(told)
    }

    /// How many there are, by what has been told until now.
    pub(crate) fn present(&mut self) -> usize {
        while self.receive() {}
        self.present.len()
    }

    /// Takes what was told next; whether there was something.
    fn receive(&mut self) -> bool {
        let mut datagram = Vec::with_capacity(MOST);
        match self.socket.recv(&mut datagram, 0) {
            Ok(_) => {
                for news in news(&datagram) {
                    match news {
                        News::Came(address) => drop(self.present.insert(address)),
                        News::Went(address) => drop(self.present.remove(&address)),
                    }
                }
                true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What one announcement says.
enum News {
    Came(Address),
    Went(Address),
}

/// The number of the interface, and the address.
type Address = (u32, [u8; 4]);

/// The announcements of one datagram.
fn news(mut datagram: &[u8]) -> Vec<News> {
    const NEW: u16 = 20;
    const DELETED: u16 = 21;
    const HEADER: usize = 16;
    let mut found = Vec::new();
    while let Some(header) = datagram.get(..HEADER) {
        let length = u32::from_ne_bytes(header[..4].try_into().unwrap()) as usize;
        let message = &datagram[..length.clamp(HEADER, datagram.len())];
        match (u16::from_ne_bytes([header[4], header[5]]), address(&message[HEADER..])) {
            (NEW, Some(address)) => found.push(News::Came(address)),
            (DELETED, Some(address)) => found.push(News::Went(address)),
            _ => {}
        }
        datagram = datagram.get(length.next_multiple_of(4).max(HEADER)..).unwrap_or_default();
    }
    found
}

/// The address that a message is about, from behind its netlink header.
fn address(message: &[u8]) -> Option<Address> {
    const FIXED: usize = 8;
    const LOCAL: u16 = 2;
    let index = u32::from_ne_bytes(message.get(4..8)?.try_into().ok()?);
    let mut rest = message.get(FIXED..)?;
    while let Some(header) = rest.get(..4) {
        let (length, kind) = (
            u16::from_ne_bytes([header[0], header[1]]),
            u16::from_ne_bytes([header[2], header[3]]),
        );
        let value = rest.get(4..usize::from(length))?;
        if kind == LOCAL {
            return Some((index, value.try_into().ok()?));
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    None
}
