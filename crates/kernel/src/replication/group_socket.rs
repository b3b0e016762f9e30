//! The datagram sockets of a dedicated link.
//!
//! Two sockets: one is bound to the group's address, the port and the interface, so that neither
//! unicast nor another interface reaches it; the other sends, because a socket bound to a group has
//! no address of its own to send from. Both are tied to the interface as it was when they were
//! opened: when it is deleted and made again they are dead ([`LinkSocket::is_current`]) and must be
//! opened anew.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use lockstep_replicator::{Link, Transport};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use super::{LinkError, kernel};

/// IPv6 promises this much on every link.
const IPV6_LEAST_MTU: usize = 1280;
/// IPv4 and UDP headers.
const IPV4_HEADERS: usize = 28;
/// IPv6 and UDP headers.
const IPV6_HEADERS: usize = 48;

/// Sends and receives the datagrams of one link. Lives in a tokio runtime.
#[derive(Debug)]
pub struct LinkSocket {
    receiver: UdpSocket,
    sender: UdpSocket,
    interface: String,
    index: u32,
}

impl LinkSocket {
    /// Joins the group.
    pub fn open(link: &Link) -> Result<Self, LinkError> {
        if !address(link).is_multicast() {
            return Err(LinkError::NotMulticast(address(link)));
        }
        let index = if_nametoindex(link.interface.as_str())
            .map_err(|_| LinkError::NoInterface(link.interface.clone()))?;
        let receiver = receiver(link, index)?;
        let sender = sender(link, index)?;
        let failed = kernel("register", link);
        let receiver = UdpSocket::from_std(receiver.into()).map_err(&failed)?;
        let sender = UdpSocket::from_std(sender.into()).map_err(&failed)?;
        Ok(Self { receiver, sender, interface: link.interface.clone(), index })
    }

    /// Whether the interface is still the one the sockets are tied to.
    pub fn is_current(&self) -> bool {
        if_nametoindex(self.interface.as_str()) == Ok(self.index)
    }

    /// Largest payload that is not fragmented.
    pub fn max_datagram(&self) -> io::Result<usize> {
        if self.sender.local_addr()?.is_ipv6() {
            return Ok(IPV6_LEAST_MTU - IPV6_HEADERS);
        }
        let mtu = getsockopt(&self.sender, sockopt::IpMtu)?;
        Ok(usize::try_from(mtu).unwrap_or(0).saturating_sub(IPV4_HEADERS))
    }

    /// Waits for a datagram; returns its length and who sent it. Cancel-safe.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, IpAddr)> {
        let (length, source) = self.receiver.recv_from(buffer).await?;
        Ok((length, source.ip()))
    }

    /// Like [`LinkSocket::receive`], without waiting: `None` when there is nothing.
    pub fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, IpAddr)>> {
        match self.receiver.try_recv_from(buffer) {
            Ok((length, source)) => Ok(Some((length, source.ip()))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends to the group; `false` when the send buffer is full.
    pub fn try_send(&self, datagram: &[u8]) -> io::Result<bool> {
        match self.sender.try_send(datagram) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until something may be sent. Cancel-safe.
    pub async fn writable(&self) -> io::Result<()> {
        self.sender.writable().await
    }
}

fn receiver(link: &Link, index: u32) -> Result<Socket, LinkError> {
    let socket = tied_socket(link)?;
    if let Some(bytes) = link.receive_buffer {
        // Beyond `rmem_max` only a privileged process may go; the others take what they get.
        setsockopt(&socket, sockopt::RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes))
            .map_err(io::Error::from)
            .map_err(kernel("size", link))?;
    }
    // No SO_REUSEADDR: two daemons on one port would each miss what the other takes.
    socket.bind(&group(link, index)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            LinkError::InUse { port: link.port, interface: link.interface.clone() }
        }
        _ => kernel("bind", link)(error),
    })?;
    let joined = match address(link) {
        IpAddr::V4(group) => {
            let index = InterfaceIndexOrAddress::Index(index);
            socket.join_multicast_v4_n(&group, &index)
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
    };
    joined.map_err(kernel("join the group with", link))?;
    Ok(socket)
}

fn sender(link: &Link, index: u32) -> Result<Socket, LinkError> {
    let socket = tied_socket(link)?;
    if let Some(bytes) = link.send_buffer {
        setsockopt(&socket, sockopt::SndBufForce, &bytes)
            .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &bytes))
            .map_err(io::Error::from)
            .map_err(kernel("size", link))?;
    }
    let set = match address(link) {
        IpAddr::V4(_) => {
            socket.set_multicast_loop_v4(false).and_then(|()| socket.set_multicast_ttl_v4(1))
        }
        IpAddr::V6(_) => socket
            .set_multicast_loop_v6(false)
            .and_then(|()| socket.set_multicast_hops_v6(1))
            .and_then(|()| socket.set_multicast_if_v6(index)),
    };
    set.map_err(kernel("set up", link))?;
    // IPv6 does not allow it.
    if !link.checksum && address(link).is_ipv4() {
        lockstep_sys::datagram::send_without_checksum(&socket)
            .map_err(kernel("turn checksums off for", link))?;
    }
    socket.connect(&group(link, index)).map_err(kernel("connect", link))?;
    Ok(socket)
}

/// A socket that knows no interface but the link's.
fn tied_socket(link: &Link) -> Result<Socket, LinkError> {
    let domain = if address(link).is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
        .map_err(kernel("open", link))?;
    socket
        .bind_device(Some(link.interface.as_bytes()))
        .map_err(kernel("tie to its interface", link))?;
    Ok(socket)
}

fn group(link: &Link, index: u32) -> SockAddr {
    match address(link) {
        IpAddr::V4(_) => SocketAddr::new(address(link), link.port).into(),
        IpAddr::V6(group) => SocketAddr::V6(scoped(group, link.port, index)).into(),
    }
}

/// Where datagrams go.
fn address(link: &Link) -> IpAddr {
    match &link.transport {
        Transport::Multicast { group } => *group,
        Transport::Udp { local, .. } | Transport::Tcp { local, .. } => *local,
    }
}

fn scoped(group: Ipv6Addr, port: u16, index: u32) -> SocketAddrV6 {
    SocketAddrV6::new(group, port, 0, index)
}
