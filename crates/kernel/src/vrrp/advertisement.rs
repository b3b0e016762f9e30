//! The raw sockets of one interface and family.

use std::future::poll_fn;
use std::io::{self, IoSliceMut, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use lockstep_sys::packet::refuse_everything;
use lockstep_vrrp::{Datagram, Endpoints, Family, PROTOCOL, PROTOCOL_AH, Packet};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::OpenError;

/// Sends and receives the advertisements of every virtual router on one interface and family.
///
/// Bound to the interface and member of the group there; its own packets do not come back. Over
/// IPv4 it also receives packets wrapped in an authentication header, so that a neighbour that
/// uses one is heard and named rather than taken for silent.
///
/// Packets given to it carry their own IP header. When the interface is deleted the socket falls
/// silent for good: drop it, and open another when the interface is back (its index differs from
/// [`AdvertisementSocket::index`]). A link that merely goes down and up needs nothing.
#[derive(Debug)]
pub struct AdvertisementSocket {
    family: Family,
    index: u32,
    plain: AsyncFd<Socket>,
    authenticated: Option<AsyncFd<Socket>>,
}

impl AdvertisementSocket {
    /// Opens the sockets on the interface with this name and number; inside a tokio runtime.
    ///
    /// # Errors
    /// The step the kernel refused: without privilege the first, without such an interface the
    /// binding.
    pub fn open(interface: &str, index: u32, family: Family) -> Result<Self, OpenError> {
        let open = |protocol| open_raw(interface, index, family, protocol);
        let authenticated = match family {
            Family::Ipv4 => Some(open(PROTOCOL_AH)?),
            Family::Ipv6 => None,
        };
        Ok(Self { family, index, plain: open(PROTOCOL)?, authenticated })
    }

    /// The family it was opened for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The number of the interface it was opened on.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Waits for the next packet. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// What the kernel reports of the socket.
    pub async fn receive(&mut self) -> io::Result<Datagram> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// The next packet, or a wake-up when there is one: for a caller with several of these.
    ///
    /// # Errors
    /// What the kernel reports of the socket; it reports it once.
    pub fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Datagram>> {
        for socket in [Some(&self.plain), self.authenticated.as_ref()].into_iter().flatten() {
            while let Poll::Ready(ready) = socket.poll_read_ready(context) {
                match ready?.try_io(|socket| read(socket.get_ref(), self.family)) {
                    Ok(result) => return Poll::Ready(result),
                    Err(_would_block) => (),
                }
            }
        }
        Poll::Pending
    }

    /// A packet that is waiting already, if there is one: read these before acting on a timer
    /// that is overdue, for the packet that refutes it may be in the queue.
    ///
    /// # Errors
    /// What the kernel reports of the socket.
    pub fn try_receive(&mut self) -> io::Result<Option<Datagram>> {
        for socket in [Some(&self.plain), self.authenticated.as_ref()].into_iter().flatten() {
            match read(socket.get_ref(), self.family) {
                Ok(datagram) => return Ok(Some(datagram)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Sends a packet, header included, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when the send buffer is full, `ENOBUFS` or `ENETDOWN` when the interface does
    /// not take it, `EPERM` when a packet filter drops it, `EMSGSIZE` beyond the MTU.
    pub fn send(&self, packet: &Packet) -> io::Result<()> {
        let destination: SocketAddr = match packet.destination {
            IpAddr::V4(address) => SocketAddrV4::new(address, 0).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, 0, 0, self.index).into(),
        };
        self.plain.get_ref().send_to(&packet.bytes, &destination.into()).map(drop)
    }
}

fn open_raw(
    interface: &str,
    index: u32,
    family: Family,
    protocol: u8,
) -> Result<AsyncFd<Socket>, OpenError> {
    let failed = |step| move |source| OpenError { interface: interface.to_owned(), step, source };
    let domain = match family {
        Family::Ipv4 => Domain::IPV4,
        Family::Ipv6 => Domain::IPV6,
    };
    let socket =
        Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(protocol))))
            .map_err(failed("open a raw socket for VRRP"))?;
    refuse_everything(&socket).map_err(failed("filter the VRRP socket"))?;
    socket.bind_device(Some(interface.as_bytes())).map_err(failed("bind the VRRP socket"))?;
    set_options(&socket, family).map_err(failed("set the options of the VRRP socket"))?;
    if protocol == PROTOCOL_AH {
        // Every other packet with this header is IPsec's and none of our business.
        let group = SocketAddr::new(family.group(), 0);
        socket.bind(&group.into()).map_err(failed("bind the VRRP socket to the group"))?;
    }
    join(&socket, family, index).map_err(failed("join the VRRP multicast group"))?;
    drain(&socket).map_err(failed("read the VRRP socket"))?;
    socket.detach_filter().map_err(failed("filter the VRRP socket"))?;
    watch(socket).map_err(failed("watch the VRRP socket"))
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe because a type may change its descriptor; `Socket` owns one and keeps it"
)]
fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

fn set_options(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        Family::Ipv4 => {
            socket.set_header_included_v4(true)?;
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(false)?;
        }
        Family::Ipv6 => {
            socket.set_header_included_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_recv_hoplimit_v6(true)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    socket.set_priority(CONTROL_PRIORITY)?;
    // Beyond the system's limit only with privilege; without it, as much as there is.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    Ok(())
}

fn join(socket: &Socket, family: Family, index: u32) -> io::Result<()> {
    match family.group() {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
    }
}

/// Throws away what came before the filter, from whatever interface.
fn drain(socket: &Socket) -> io::Result<()> {
    loop {
        match (&*socket).read(&mut [0]) {
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn read(socket: &Socket, family: Family) -> io::Result<Datagram> {
    match family {
        Family::Ipv4 => read_ipv4(socket),
        Family::Ipv6 => read_ipv6(socket),
    }
}

/// Packets too long for any advertisement are cut short by the buffer, do not fit their header
/// any more, and are passed over.
fn read_ipv4(socket: &Socket) -> io::Result<Datagram> {
    let mut buffer = [0; BUFFER];
    loop {
        let mut reader = socket;
        let length = reader.read(&mut buffer)?;
        match Datagram::from_ipv4(&buffer[..length], utc()) {
            Ok(datagram) => return Ok(datagram),
            Err(error) => tracing::trace!(%error, "passed over a packet"),
        }
    }
}

/// The kernel keeps the IPv6 header to itself; what is needed of it comes beside the payload.
fn read_ipv6(socket: &Socket) -> io::Result<Datagram> {
    let mut buffer = [0; BUFFER];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::c_int);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let (mut ttl, mut destination) = (0, Ipv6Addr::UNSPECIFIED);
    for part in message.cmsgs()? {
        if let ControlMessageOwned::Ipv6HopLimit(limit) = part {
            ttl = u8::try_from(limit).unwrap_or(0);
        } else if let ControlMessageOwned::Ipv6PacketInfo(info) = part {
            destination = Ipv6Addr::from(info.ipi6_addr.s6_addr);
        }
    }
    let source = message.address.map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
    let length = message.bytes;
    Ok(Datagram {
        endpoints: Endpoints::Ipv6 { source, destination },
        ttl,
        identification: 0,
        protocol: PROTOCOL,
        payload: buffer[..length].to_vec(),
        received: utc(),
    })
}

/// The time of day, since 1970; only the freshness of signed advertisements is judged by it.
fn utc() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Holds the longest advertisement: 255 IPv6 addresses.
const BUFFER: usize = 8192;
/// Bytes of receive buffer: some seconds of a thousand virtual routers on one interface.
const RECEIVE_BUFFER: usize = 1 << 20;
/// `TC_PRIO_CONTROL`: ahead of the interface's other traffic in a queue that looks at it.
const CONTROL_PRIORITY: u32 = 7;
