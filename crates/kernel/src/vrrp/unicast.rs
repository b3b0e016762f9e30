//! Advertisements to single peers.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use lockstep_sys::batch::Outgoing;
use lockstep_sys::packet::refuse_everything;
use lockstep_vrrp::{Family, PROTOCOL, Packet};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::failure::{Failure, Next, send_all};
use super::{CONTROL_PRIORITY, OpenError, widen_send_buffer};

/// Sends advertisements to unicast peers, of every virtual router of a family, out of one
/// interface or wherever the routes lead.
///
/// A raw IP socket that includes the header: the kernel looks up the route and resolves the next
/// hop, and the packets pass the operator's firewall. Receives nothing;
/// [`super::Receiver`] hears what peers send.
///
/// Two kinds of trouble are kept apart. What the kernel refuses at once (`EPERM` from the firewall
/// or a full conntrack table, `ENETUNREACH` without a route, `ENOBUFS`, `EMSGSIZE`) is the
/// [`Failure`] of that packet. What the network says of packets sent before (the next hop does not
/// answer, a router has no way) is [`UnicastSocket::unreachable`]: a peer that is dead is a reason to
/// be master, not to stop being one.
#[derive(Debug)]
pub struct UnicastSocket {
    socket: Socket,
    family: Family,
    /// For link-local peers; 0 when not bound to an interface.
    scope: u32,
    destinations: Vec<SockAddr>,
    unreachable: BTreeMap<IpAddr, i32>,
}

/// A peer that earlier packets did not reach.
#[derive(Debug)]
pub struct Unreachable {
    /// The peer.
    pub peer: IpAddr,
    /// What the network said last: `EHOSTUNREACH` when its next hop does not answer.
    pub error: io::Error,
}

impl UnicastSocket {
    /// Opens it; with an interface's name and number only for peers behind that interface, which
    /// link-local ones need.
    ///
    /// # Errors
    /// The step the kernel refused.
    pub fn open(interface: Option<(&str, u32)>, family: Family) -> Result<Self, OpenError> {
        let name = interface.map_or("any interface", |(name, _)| name);
        let failed = |step| move |source| OpenError { interface: name.to_owned(), step, source };
        let domain = match family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
        };
        let protocol = Some(Protocol::from(i32::from(PROTOCOL)));
        let socket = Socket::new(domain, Type::RAW.nonblocking(), protocol)
            .map_err(failed("open a raw socket for unicast VRRP"))?;
        refuse_everything(&socket).map_err(failed("filter the unicast VRRP socket"))?;
        if let Some((name, _)) = interface {
            socket
                .bind_device(Some(name.as_bytes()))
                .map_err(failed("bind the unicast VRRP socket"))?;
        }
        set_options(&socket, family)
            .map_err(failed("set the options of the unicast VRRP socket"))?;
        let scope = interface.map_or(0, |(_, index)| index);
        let (destinations, unreachable) = (Vec::new(), BTreeMap::new());
        Ok(Self { socket, family, scope, destinations, unreachable })
    }

    /// The family it was opened for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Sends packets, header included, in order and without waiting; returns those that could not
    /// be sent, `InvalidInput` for a peer of the other family.
    #[must_use = "what could not be sent is heard by nobody"]
    pub fn send(&mut self, packets: &[Packet]) -> Vec<Failure> {
        let Self { socket, family, scope, destinations, unreachable } = self;
        read_errors(socket, unreachable);
        destinations.clear();
        destinations.extend(packets.iter().map(|packet| match packet.destination {
            IpAddr::V4(address) => SockAddr::from(SocketAddr::from((address, 0))),
            IpAddr::V6(address) => SockAddr::from(SocketAddrV6::new(address, 0, 0, *scope)),
        }));
        let message = |position: usize| {
            let packet: &Packet = &packets[position];
            let bytes: &[u8] = &packet.bytes;
            let ours = Family::of(packet.destination) == *family;
            ours.then_some(Outgoing { bytes, to: Some(&destinations[position]) })
        };
        let mut tried_again = None;
        send_all(socket, packets.len(), message, |error, position| match error.raw_os_error() {
            Some(libc::EINTR) => Next::Again,
            Some(libc::EAGAIN) => Next::Stop,
            Some(libc::EPERM | libc::ENOBUFS) => Next::Skip,
            // The kernel hands an earlier packet's trouble to whatever is sent next: only when it
            // comes a second time is it this packet's.
            _ if tried_again != Some(position) => {
                read_errors(socket, unreachable);
                tried_again = Some(position);
                Next::Again
            }
            _ => Next::Skip,
        })
    }

    /// The peers that packets sent before did not reach, each once, since the last call; at most 64.
    pub fn unreachable(&mut self) -> Vec<Unreachable> {
        read_errors(&self.socket, &mut self.unreachable);
        let peers = std::mem::take(&mut self.unreachable).into_iter();
        peers
            .map(|(peer, error)| Unreachable { peer, error: io::Error::from_raw_os_error(error) })
            .collect()
    }
}

fn set_options(socket: &Socket, family: Family) -> io::Result<()> {
    // Without the error queue the kernel also keeps a full transmit queue (`ENOBUFS`) to itself.
    match family {
        Family::Ipv4 => {
            socket.set_header_included_v4(true)?;
            setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
        }
        Family::Ipv6 => {
            socket.set_header_included_v6(true)?;
            setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
        }
    }
    socket.set_priority(CONTROL_PRIORITY)?;
    widen_send_buffer(socket)
}

/// Empties the error queue, up to a bound; this also takes the error off the socket itself.
fn read_errors(socket: &Socket, unreachable: &mut BTreeMap<IpAddr, i32>) {
    for _ in 0..MOST_ERRORS {
        let Some((peer, error)) = read_error(socket) else { return };
        if let Some(peer) = peer
            && (unreachable.len() < MOST_UNREACHABLE || unreachable.contains_key(&peer))
        {
            unreachable.insert(peer, error);
        }
    }
}

/// The next entry: whom the packet was for, and what became of it.
fn read_error(socket: &Socket) -> Option<(Option<IpAddr>, i32)> {
    let mut control = nix::cmsg_space!(nix::libc::sock_extended_err, nix::libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], Some(&mut control), flags).ok()?;
    let error = message.cmsgs().ok()?.find_map(|part| match part {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            i32::try_from(error.ee_errno).ok()
        }
        _ => None,
    })?;
    let address = message.address?;
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    let v6 = || address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
    Some((v4.or_else(v6), error))
}

/// Most errors read at once.
const MOST_ERRORS: usize = 256;
/// Most peers remembered as unreachable.
const MOST_UNREACHABLE: usize = 64;
