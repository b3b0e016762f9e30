//! The sockets of the dedicated links, whatever their transport: datagrams to a group, datagrams
//! from address to address, or streams.
//!
//! Everything that comes is told with its [`Origin`]; what it means is nothing to this module. The
//! sockets are tied to the interface as it was when they were opened: when it is deleted, made
//! again or renamed, [`LinkSockets::condition`] says so, and the link is to be opened anew.

mod datagram;
mod outbox;
mod outgoing;
mod stream;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll};
use std::time::Instant;

use lockstep_replicator::{Link, Origin, Transport};
use lockstep_sys::interface;
use nix::net::if_::if_nametoindex;

use datagram::{Audience, DatagramLink};
use outbox::Flushed;
use stream::StreamLink;

/// IPv4 header and UDP header.
const UDP_HEADERS_V4: usize = 28;
/// IPv6 header and UDP header.
const UDP_HEADERS_V6: usize = 48;
/// IPv4 header and TCP header.
const TCP_HEADERS_V4: usize = 40;
/// IPv6 header and TCP header.
const TCP_HEADERS_V6: usize = 60;
/// Room for a datagram on a link with a smaller MTU, so that it can grow without being reopened.
const LEAST_ROOM: usize = 2048;
/// No datagram is larger.
const MOST_ROOM: usize = 65_536;

/// A link could not be used.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no such interface (yet, or any more).
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// Somebody else has the port: another conntrackd or Lockstep.
    #[error("port {port} on {interface} is in use")]
    InUse {
        /// The port.
        port: u16,
        /// The interface.
        interface: String,
    },
    /// The address is not one of a multicast group.
    #[error("{0} is not a multicast address")]
    NotMulticast(IpAddr),
    /// The kernel refused.
    #[error("failed to {step} the replication socket on {interface}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// The interface.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

impl LinkError {
    /// Whether it may go away by itself: the interface is missing or down, or its address is not
    /// there yet.
    pub fn is_temporary(&self) -> bool {
        const WAITING: [i32; 4] =
            [libc::ENODEV, libc::ENETDOWN, libc::ENETUNREACH, libc::EADDRNOTAVAIL];
        match self {
            Self::NoInterface(_) => true,
            Self::Kernel { source, .. } => {
                source.raw_os_error().is_some_and(|errno| WAITING.contains(&errno))
            }
            Self::InUse { .. } | Self::NotMulticast(_) => false,
        }
    }
}

/// What came in by a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Heard<'a> {
    /// A datagram, whole.
    Datagram {
        /// Where it came from.
        origin: Origin,
        /// Its content.
        bytes: &'a [u8],
    },
    /// The next piece of what a peer sends over its connection; messages may begin and end
    /// anywhere in it.
    Stream {
        /// Where it came from.
        origin: Origin,
        /// The piece.
        bytes: &'a [u8],
    },
    /// A connection stands. Nothing of an earlier one comes any more, or is still to go out.
    Began {
        /// The peer.
        origin: Origin,
        /// Who speaks over it.
        direction: Direction,
    },
    /// A connection has ended: what half of a message has come of it will not be completed, and
    /// what was handed over for it last may never have arrived.
    Ended {
        /// The peer.
        origin: Origin,
        /// Who spoke over it.
        direction: Direction,
    },
}

/// Who speaks over a connection: each is used one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The peer; it has opened it.
    Incoming,
    /// This router.
    Outgoing,
}

/// How a link is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// It can be used.
    Up {
        /// Largest payload that is not fragmented, in bytes.
        max_datagram: usize,
    },
    /// It cannot be used at the moment.
    Down {
        /// Why.
        reason: String,
    },
    /// Its interface is not the one the sockets are tied to, or no longer fits: they are dead, and
    /// the link is to be opened anew.
    Gone {
        /// Why.
        reason: String,
    },
}

/// A peer to which no connection comes about, though it is tried again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unreached {
    /// The peer.
    pub peer: IpAddr,
    /// Since when.
    pub since: Instant,
    /// The kernel's answer to the last attempt, a positive error number; `None` when the peer has
    /// not answered.
    pub errno: Option<i32>,
}

/// What a link has done since it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Datagrams, or pieces of a stream, that were handed to the kernel.
    pub sent_datagrams: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams, or pieces of a stream, that came.
    pub received_datagrams: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Datagrams and connections of those who are not heard.
    pub strangers: u64,
    /// Datagrams thrown away because they are larger than the link should carry.
    pub truncated: u64,
    /// Datagrams the kernel would not send, or for which no connection stood.
    pub refused: u64,
    /// The kernel's last word about a refusal: a positive error number.
    pub last_refusal: Option<i32>,
    /// Connections that have ended.
    pub connections_ended: u64,
}

impl Counters {
    fn add_sent(&mut self, flushed: Flushed) {
        self.sent_datagrams += flushed.datagrams;
        self.sent_bytes += flushed.bytes;
        self.refused += flushed.refused;
        if let Some(error) = flushed.refusal {
            self.last_refusal = error.raw_os_error();
        }
    }
}

/// Sends and receives for one link. Lives in a tokio runtime that has its timer.
///
/// Dropping it leaves the group and ends the connections.
pub struct LinkSockets {
    /// Which of the configured links.
    link: usize,
    interface: String,
    index: u32,
    /// Largest datagram that can be received.
    room: usize,
    /// Bytes of a packet that are headers.
    headers: usize,
    sockets: Sockets,
    counters: Counters,
}

#[derive(Debug)]
enum Sockets {
    Datagram(Box<DatagramLink>),
    Stream(Box<StreamLink>),
}

impl fmt::Debug for LinkSockets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LinkSockets")
            .field("link", &self.link)
            .field("interface", &self.interface)
            .finish_non_exhaustive()
    }
}

impl LinkSockets {
    /// Opens the sockets of the link that is number `link` of the configuration.
    ///
    /// # Errors
    /// See [`LinkError`]; some go away by themselves ([`LinkError::is_temporary`]).
    pub fn open(link: usize, settings: &Link) -> Result<Self, LinkError> {
        let index = if_nametoindex(settings.interface.as_str())
            .map_err(|_| LinkError::NoInterface(settings.interface.clone()))?;
        let room = room(settings, index)?;
        let (sockets, headers) = match &settings.transport {
            Transport::Multicast { group } if !group.is_multicast() => {
                return Err(LinkError::NotMulticast(*group));
            }
            Transport::Multicast { group } => {
                let audience = Audience::Group(*group);
                let sockets = DatagramLink::open(settings, *group, audience, index, room)?;
                (Sockets::Datagram(Box::new(sockets)), udp_headers(*group))
            }
            Transport::Udp { local, peers } => {
                let audience = Audience::Peers(peers.clone());
                let sockets = DatagramLink::open(settings, *local, audience, index, room)?;
                (Sockets::Datagram(Box::new(sockets)), udp_headers(*local))
            }
            Transport::Tcp { local, peers } => {
                let sockets = StreamLink::open(settings, *local, peers, index)?;
                let headers = if local.is_ipv4() { TCP_HEADERS_V4 } else { TCP_HEADERS_V6 };
                (Sockets::Stream(Box::new(sockets)), headers)
            }
        };
        let interface = settings.interface.clone();
        let counters = Counters::default();
        Ok(Self { link, interface, index, room, headers, sockets, counters })
    }

    /// Looks at the interface.
    pub fn condition(&self) -> Condition {
        let down = |reason: String| Condition::Down { reason };
        let gone = |reason: String| Condition::Gone { reason };
        let name = &self.interface;
        match interface::look(self.descriptor(), self.index) {
            Err(error) => down(format!("{name} cannot be looked at: {error}")),
            Ok(None) => gone(format!("there is no interface {name} any more")),
            Ok(Some(seen)) if seen.name != *name => {
                gone(format!("{name} is called {} now", seen.name))
            }
            Ok(Some(seen)) if !seen.up => down(format!("{name} is down")),
            Ok(Some(seen)) if !seen.running => down(format!("{name} has no carrier")),
            Ok(Some(seen)) if seen.mtu > self.room && self.room < MOST_ROOM => {
                gone(format!("{name} carries larger packets now"))
            }
            Ok(Some(seen)) => {
                Condition::Up { max_datagram: seen.mtu.min(MOST_ROOM).saturating_sub(self.headers) }
            }
        }
    }

    /// Waits until something may have come, until there is room again for what could not be sent,
    /// or until a connection has to be looked after: then [`LinkSockets::receive_many`] is to be
    /// called, and sending to be tried again. Cancel-safe.
    pub async fn ready(&mut self) {
        poll_fn(|context| self.poll_ready(context)).await;
    }

    /// [`LinkSockets::ready`] for whoever waits for several.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.sockets {
            Sockets::Datagram(sockets) => sockets.poll_ready(context),
            Sockets::Stream(sockets) => sockets.poll_ready(context),
        }
    }

    /// Takes what has come, at most `limit` datagrams or pieces, without waiting; returns how many.
    /// `limit` many: there may be more. Connections are made here as well, so it is to be called
    /// in the network namespace in which the link was opened.
    ///
    /// # Errors
    /// When the link fails as a whole, and is to be opened anew.
    pub fn receive_many(
        &mut self,
        limit: usize,
        mut heard: impl FnMut(Heard<'_>),
    ) -> io::Result<usize> {
        let (link, counters) = (self.link, &mut self.counters);
        match &mut self.sockets {
            Sockets::Datagram(sockets) => sockets.receive_many(link, limit, counters, &mut heard),
            Sockets::Stream(sockets) => Ok(sockets.receive_many(link, limit, counters, &mut heard)),
        }
    }

    /// Whether [`LinkSockets::send`] takes another datagram to anyone at all. When not,
    /// [`LinkSockets::ready`] says when to try again.
    pub fn has_room(&mut self) -> bool {
        match &mut self.sockets {
            Sockets::Datagram(sockets) => sockets.has_room(&mut self.counters),
            Sockets::Stream(sockets) => sockets.has_room(&mut self.counters),
        }
    }

    /// [`LinkSockets::has_room`] for what goes to this router alone: on a stream a peer that reads
    /// nothing keeps nobody else from being told.
    pub fn has_room_for(&mut self, to: Option<IpAddr>) -> bool {
        match &mut self.sockets {
            Sockets::Datagram(sockets) => sockets.has_room(&mut self.counters),
            Sockets::Stream(sockets) => sockets.has_room_for(to, &mut self.counters),
        }
    }

    /// Closes the connection that a peer speaks over, because what it says makes no sense; the peer
    /// may open another. Its end is not told by [`LinkSockets::receive_many`]. `false` when there
    /// is none, as on every link that carries no streams.
    pub fn end_incoming(&mut self, source: IpAddr) -> bool {
        match &mut self.sockets {
            Sockets::Datagram(_) => false,
            Sockets::Stream(sockets) => sockets.end_incoming(source, &mut self.counters),
        }
    }

    /// Hands a datagram over; it goes out with others at [`LinkSockets::flush`] or when many wait.
    /// On a stream it is written whole or not at all.
    ///
    /// `to` is a router on the link; `None` is the group, or each of the configured peers.
    /// `false`, and nothing taken, when there is no room.
    pub fn send(&mut self, to: Option<IpAddr>, datagram: &[u8]) -> bool {
        match &mut self.sockets {
            Sockets::Datagram(sockets) => {
                let room = sockets.has_room(&mut self.counters);
                if room {
                    sockets.send(to, datagram);
                }
                room
            }
            Sockets::Stream(sockets) => sockets.send(to, datagram, &mut self.counters),
        }
    }

    /// Has everything that was handed over go out, as far as there is room for it; `false` when
    /// some waits, and [`LinkSockets::ready`] says when to try again.
    pub fn flush(&mut self) -> bool {
        match &mut self.sockets {
            Sockets::Datagram(sockets) => {
                sockets.flush(&mut self.counters);
                !sockets.is_blocked()
            }
            Sockets::Stream(sockets) => sockets.flush(&mut self.counters),
        }
    }

    /// What the link has done since it was opened.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The peers to which no connection comes about; none on a link that carries no streams, whose
    /// kernel hears of nobody.
    pub fn unreached(&self) -> Vec<Unreached> {
        match &self.sockets {
            Sockets::Datagram(_) => Vec::new(),
            Sockets::Stream(sockets) => sockets.unreached().collect(),
        }
    }

    /// Datagrams the kernel has thrown away because the receive buffer was full.
    pub fn overflowed(&self) -> u32 {
        match &self.sockets {
            Sockets::Datagram(sockets) => {
                let socket = socket2::SockRef::from(sockets.socket());
                lockstep_sys::option::dropped(&socket).unwrap_or(0)
            }
            // A stream that is not read makes its sender wait.
            Sockets::Stream(_) => 0,
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.sockets {
            Sockets::Datagram(sockets) => sockets.socket().as_fd(),
            Sockets::Stream(sockets) => sockets.descriptor(),
        }
    }
}

fn udp_headers(address: IpAddr) -> usize {
    if address.is_ipv4() { UDP_HEADERS_V4 } else { UDP_HEADERS_V6 }
}

/// What the largest datagram of this interface takes.
fn room(link: &Link, index: u32) -> Result<usize, LinkError> {
    let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).map_err(kernel("open", link))?;
    let seen = interface::look(socket.as_fd(), index).map_err(kernel("look for", link))?;
    let seen = seen.ok_or_else(|| LinkError::NoInterface(link.interface.clone()))?;
    Ok(seen.mtu.clamp(LEAST_ROOM, MOST_ROOM))
}

fn kernel(step: &'static str, link: &Link) -> impl Fn(io::Error) -> LinkError {
    let interface = link.interface.clone();
    move |source| LinkError::Kernel { step, interface: interface.clone(), source }
}

fn bind_error(link: &Link) -> impl Fn(io::Error) -> LinkError {
    let (port, interface) = (link.port, link.interface.clone());
    let other = kernel("bind", link);
    move |error| match error.kind() {
        io::ErrorKind::AddrInUse => LinkError::InUse { port, interface: interface.clone() },
        _ => other(error),
    }
}
