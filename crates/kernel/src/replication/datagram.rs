//! UDP links: to a group, or from address to address.
//!
//! Two sockets, both tied to the interface: one is bound to the port and hears, the other sends
//! from a port of its own, as conntrackd has it. The one that hears at a group's port hears what
//! is sent to this router alone as well, since routers with more than one peer answer each of them
//! by itself; a datagram's destination tells which it was.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;
use std::task::{Context, Poll};

use lockstep_replicator::{Link, Origin};
use lockstep_sys::batch::{Message, Receiver, SLOTS};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::outbox::{Flushed, Outbox};
use super::{Counters, Heard, LinkError, kernel};

/// The sockets of a UDP link.
#[derive(Debug)]
pub(super) struct DatagramLink {
    receiver: UdpSocket,
    sender: UdpSocket,
    inbox: Receiver,
    outbox: Outbox,
    audience: Audience,
    port: u16,
    /// The interface, which link-local addresses are told together with.
    scope: u32,
    /// The send buffer was full.
    blocked: bool,
}

/// Who is heard.
#[derive(Debug)]
pub(super) enum Audience {
    /// Everybody on the link who speaks to this group or to this router.
    Group(IpAddr),
    /// These routers.
    Peers(Vec<IpAddr>),
}

impl DatagramLink {
    /// For datagrams of at most `room` bytes.
    pub(super) fn open(
        link: &Link,
        home: IpAddr,
        audience: Audience,
        index: u32,
        room: usize,
    ) -> Result<Self, LinkError> {
        let receiver = receiver(link, home, &audience, index)?;
        let sender = sender(link, home, &audience, index)?;
        let failed = kernel("register", link);
        Ok(Self {
            receiver: UdpSocket::from_std(receiver.into()).map_err(&failed)?,
            sender: UdpSocket::from_std(sender.into()).map_err(&failed)?,
            inbox: Receiver::new(room),
            outbox: Outbox::default(),
            audience,
            port: link.port,
            scope: index,
            blocked: false,
        })
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.receiver
    }

    /// Ready when something may have come, or when there is room again after there was none.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let heard = self.receiver.poll_recv_ready(context).is_ready();
        let room = self.blocked && self.sender.poll_send_ready(context).is_ready();
        if heard || room { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes at most `limit` datagrams; returns how many.
    pub(super) fn receive_many(
        &mut self,
        link: usize,
        limit: usize,
        counters: &mut Counters,
        heard: &mut impl FnMut(Heard<'_>),
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < limit {
            let wanted = (limit - taken).min(SLOTS);
            let (count, result) = self.receive(wanted);
            for message in self.inbox.messages().take(count) {
                taken += 1;
                deliver(&message, link, &self.audience, counters, heard);
            }
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What an answer from the wire says of a datagram sent before is no news of the
                // socket.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Takes what is waiting, at most `wanted` datagrams. `WouldBlock` beside some: there were no
    /// more.
    ///
    /// Whoever is busy asks without having waited, so the runtime may not have looked at the
    /// socket for long: its word that nothing is there is not taken.
    fn receive(&mut self, wanted: usize) -> (usize, io::Result<()>) {
        let (receiver, inbox) = (&self.receiver, &mut self.inbox);
        let asked = Cell::new(None);
        let mut ask = || {
            let count = inbox.receive(receiver.as_fd(), wanted);
            asked.set(Some(*count.as_ref().unwrap_or(&0)));
            // Fewer than asked for: nothing is left, and the next call would only say so.
            if count? < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        };
        let mut result = receiver.try_io(Interest::READABLE, &mut ask);
        if asked.get().is_none() {
            result = ask();
        }
        (asked.get().unwrap_or(0), result)
    }

    /// Whether another datagram can be handed over.
    pub(super) fn has_room(&mut self, counters: &mut Counters) -> bool {
        if self.outbox.is_full() {
            self.flush(counters);
        }
        !self.outbox.is_full()
    }

    pub(super) fn send(&mut self, to: Option<IpAddr>, datagram: &[u8]) {
        let to = to.map(|to| socket_address(to, self.port, self.scope));
        self.outbox.push(to, datagram);
    }

    pub(super) fn flush(&mut self, counters: &mut Counters) {
        if self.outbox.is_empty() {
            return;
        }
        let mut flushed = Flushed::default();
        let (sender, outbox) = (&self.sender, &mut self.outbox);
        let asked = Cell::new(false);
        let mut ask = || {
            asked.set(true);
            outbox.flush(sender.as_fd(), &mut flushed)
        };
        // `WouldBlock` is the only error there is. As in receiving, the socket itself is asked.
        let mut result = sender.try_io(Interest::WRITABLE, &mut ask);
        if !asked.get() {
            result = ask();
        }
        self.blocked = result.is_err();
        counters.add_sent(flushed);
    }

    /// Whether datagrams wait for the send buffer.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }
}

/// Passes a datagram on if it comes from somebody who is heard.
fn deliver(
    message: &Message<'_>,
    link: usize,
    audience: &Audience,
    counters: &mut Counters,
    heard: &mut impl FnMut(Heard<'_>),
) {
    if message.truncated {
        counters.truncated += 1;
        return;
    }
    let (Some(source), Some(destination)) = (message.source(), message.destination()) else {
        counters.strangers += 1;
        return;
    };
    let to_group = match audience {
        Audience::Group(group) => destination == *group,
        Audience::Peers(_) => false,
    };
    let wanted = match audience {
        Audience::Group(_) => to_group || !destination.is_multicast(),
        Audience::Peers(peers) => peers.contains(&source),
    };
    if !wanted {
        counters.strangers += 1;
        return;
    }
    counters.received_datagrams += 1;
    counters.received_bytes += message.bytes.len() as u64;
    heard(Heard::Datagram { origin: Origin { link, source, to_group }, bytes: message.bytes });
}

/// Receive buffer of a link that is not told one. The kernel's usual 208 KiB overflow when a peer
/// sends some thousand flows in a row, and each loss costs a repetition.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

fn receiver(
    link: &Link,
    home: IpAddr,
    audience: &Audience,
    index: u32,
) -> Result<Socket, LinkError> {
    let socket = tied_socket(link, home)?;
    let bytes = link.receive_buffer.unwrap_or(RECEIVE_BUFFER);
    // Beyond `rmem_max` only a privileged process may go; the others take what they get.
    setsockopt(&socket, sockopt::RcvBufForce, &bytes)
        .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes))
        .map_err(io::Error::from)
        .map_err(kernel("size", link))?;
    let told = if home.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
    };
    told.map_err(io::Error::from).map_err(kernel("set up", link))?;
    // What others have joined on this router is nothing to us.
    let others = match audience {
        Audience::Group(IpAddr::V4(_)) => socket.set_multicast_all_v4(false),
        Audience::Group(IpAddr::V6(_)) => socket.set_multicast_all_v6(false),
        Audience::Peers(_) => Ok(()),
    };
    others.map_err(kernel("set up", link))?;
    // No SO_REUSEADDR: two daemons on one port would each miss what the other takes.
    let address = match audience {
        Audience::Group(_) => socket_address(anywhere(home), link.port, 0),
        Audience::Peers(_) => socket_address(home, link.port, index),
    };
    socket.bind(&address).map_err(super::bind_error(link))?;
    let joined = match audience {
        Audience::Group(IpAddr::V4(group)) => {
            socket.join_multicast_v4_n(group, &InterfaceIndexOrAddress::Index(index))
        }
        Audience::Group(IpAddr::V6(group)) => socket.join_multicast_v6(group, index),
        Audience::Peers(_) => Ok(()),
    };
    joined.map_err(kernel("join the group with", link))?;
    Ok(socket)
}

fn sender(link: &Link, home: IpAddr, audience: &Audience, index: u32) -> Result<Socket, LinkError> {
    let socket = tied_socket(link, home)?;
    if let Some(bytes) = link.send_buffer {
        setsockopt(&socket, sockopt::SndBufForce, &bytes)
            .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &bytes))
            .map_err(io::Error::from)
            .map_err(kernel("size", link))?;
    }
    // IPv6 does not allow it.
    if !link.checksum && home.is_ipv4() {
        lockstep_sys::datagram::send_without_checksum(&socket)
            .map_err(kernel("turn checksums off for", link))?;
    }
    match audience {
        Audience::Group(group) => {
            stay_on_link(&socket, home, index).map_err(kernel("set up", link))?;
            let group = socket_address(*group, link.port, index);
            socket.connect(&group).map_err(kernel("connect", link))?;
        }
        // The others hear nobody they were not told of, so the address has to be this one.
        Audience::Peers(_) => {
            socket.bind(&socket_address(home, 0, index)).map_err(super::bind_error(link))?;
        }
    }
    Ok(socket)
}

/// No router passes on what is meant for the link, and this one does not hear itself.
fn stay_on_link(socket: &Socket, home: IpAddr, index: u32) -> io::Result<()> {
    if home.is_ipv4() {
        socket.set_multicast_loop_v4(false)?;
        socket.set_multicast_ttl_v4(1)?;
        socket.set_ttl_v4(1)
    } else {
        socket.set_multicast_loop_v6(false)?;
        socket.set_multicast_hops_v6(1)?;
        socket.set_unicast_hops_v6(1)?;
        socket.set_multicast_if_v6(index)
    }
}

/// A socket that knows no interface but the link's.
fn tied_socket(link: &Link, home: IpAddr) -> Result<Socket, LinkError> {
    let domain = if home.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
        .map_err(kernel("open", link))?;
    if home.is_ipv6() {
        socket.set_only_v6(true).map_err(kernel("set up", link))?;
    }
    socket
        .bind_device(Some(link.interface.as_bytes()))
        .map_err(kernel("tie to its interface", link))?;
    Ok(socket)
}

fn anywhere(family: IpAddr) -> IpAddr {
    match family {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// An address on the link; which link is a part of IPv6 addresses that are not unique without.
pub(super) fn socket_address(address: IpAddr, port: u16, scope: u32) -> SockAddr {
    match address {
        IpAddr::V4(_) => SocketAddr::new(address, port).into(),
        IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, port, 0, scope)).into(),
    }
}
