//! Hearing other routers announce addresses on one interface.

use std::io::{self, Read};
use std::net::IpAddr;
use std::task::{Context, Poll, ready};

use lockstep_sys::packet::{link_address, refuse_everything};
use lockstep_vrrp::{Family, announced};
use socket2::{SockFilter, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::packet_socket::PacketSocket;
use crate::bpf::{
    COPY_TO_X, EVERYTHING, JUMP_EQUAL, JUMP_EQUAL_X, LOAD_BYTE, LOAD_WORD, NOTHING, RETURN, jump,
    op,
};

/// Hears the gratuitous ARP or the unsolicited neighbour advertisements that come in on one
/// interface.
///
/// A packet socket for one kind of frame: unlike one for all, it never sees what this host sends,
/// so that a router's own announcements are not taken for another's, even where both use the same
/// virtual MAC: with one, listen on the interface that has it, because the kernel gives what comes
/// from that MAC to nobody else. A filter in the kernel keeps everything else away.
#[derive(Debug)]
pub struct AnnouncementListener {
    socket: AsyncFd<PacketSocket>,
}

impl AnnouncementListener {
    /// Most announcements taken by one [`AnnouncementListener::receive`].
    pub const MOST: usize = 256;

    /// Opens it on the interface with this number; inside a tokio runtime.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`, `ENODEV` without such an interface.
    pub fn open(index: u32, family: Family) -> io::Result<Self> {
        let (ethertype, program) = match family {
            Family::Ipv4 => (libc::ETH_P_ARP, gratuitous_arp()),
            Family::Ipv6 => (libc::ETH_P_IPV6, neighbour_advertisement()),
        };
        // Without a protocol it receives nothing before it is bound.
        let socket = PacketSocket::open(Type::RAW)?;
        refuse_everything(&socket)?;
        socket.bind(&link_address(index, ethertype as u16))?;
        socket.attach_filter(&program)?;
        Ok(Self { socket: watch(socket)? })
    }

    /// Waits until [`AnnouncementListener::receive`] may bring something.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.socket.poll_read_ready(context))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// What has been announced since the last call, with the sender's link address, in order.
    ///
    /// # Errors
    /// What the kernel says: `ENETDOWN` once when the interface goes down.
    pub fn receive(&mut self) -> io::Result<Vec<(IpAddr, [u8; 6])>> {
        let mut heard = Vec::new();
        let mut frame = [0; LONGEST];
        while heard.len() < Self::MOST {
            let read = self.socket.try_io(Interest::READABLE, |socket| {
                let mut socket = &**socket;
                socket.read(&mut frame)
            });
            match read {
                Ok(length) => heard.extend(announced(&frame[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe because a type may change its descriptor; `Socket` owns one and keeps it"
)]
fn watch(socket: PacketSocket) -> io::Result<AsyncFd<PacketSocket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// The sender asks for, or answers about, its own address.
fn gratuitous_arp() -> Vec<SockFilter> {
    vec![
        op(LOAD_WORD, ARP_SENDER),
        op(COPY_TO_X, 0),
        op(LOAD_WORD, ARP_TARGET),
        jump(JUMP_EQUAL_X, 0, 0, 1),
        op(RETURN, EVERYTHING),
        op(RETURN, NOTHING),
    ]
}

fn neighbour_advertisement() -> Vec<SockFilter> {
    vec![
        op(LOAD_BYTE, NEXT_HEADER),
        jump(JUMP_EQUAL, ICMPV6, 0, 3),
        op(LOAD_BYTE, ICMPV6_TYPE),
        jump(JUMP_EQUAL, NEIGHBOUR_ADVERTISEMENT, 0, 1),
        op(RETURN, EVERYTHING),
        op(RETURN, NOTHING),
    ]
}

/// Room for the part of a frame that matters.
const LONGEST: usize = 256;
/// Where these are, from the beginning of the Ethernet header.
const ARP_SENDER: u32 = 28;
const ARP_TARGET: u32 = 38;
const NEXT_HEADER: u32 = 20;
const ICMPV6_TYPE: u32 = 54;
const ICMPV6: u32 = 58;
const NEIGHBOUR_ADVERTISEMENT: u32 = 136;
