//! TCP links: one connection to each peer for what is sent, one from each for what is heard.
//!
//! What is handed over for a peer is written whole, or waits whole until the connection takes the
//! rest; a connection that ends takes it along, and the next begins with a message. A connection
//! that was lost is tried again at most once a second, and a new one from a peer takes the place
//! of its old one, whose end this router may not have been told.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lockstep_replicator::{Link, Origin};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

use super::datagram::socket_address;
use super::outgoing::{Outgoing, Progress};
use super::{Counters, Direction, Heard, LinkError, Unreached, bind_error, kernel};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 8;
/// Most connections accepted before the others have their turn again.
const ACCEPTED_IN_A_ROW: usize = 16;
/// Bytes taken from a connection at once.
const PIECE: usize = 65_536;
/// Least time between two attempts to connect, or to accept after that failed.
pub(super) const AGAIN: Duration = Duration::from_secs(1);
/// How long a peer that says nothing may be silent before it is asked whether it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How often it is asked before it is given up.
const KEEP_ALIVE_PROBES: u32 = 3;

/// The sockets of a TCP link.
#[derive(Debug)]
pub(super) struct StreamLink {
    listener: TcpListener,
    /// Accepted, and not looked at yet.
    accepted: Option<(TcpStream, IpAddr)>,
    /// Accepting has failed, and waits until then.
    accept_again_at: Option<Instant>,
    peers: Vec<Peer>,
    /// Whose turn to be heard it is.
    next: usize,
    home: Home,
    piece: Box<[u8]>,
    wake: Pin<Box<Sleep>>,
}

#[derive(Debug)]
struct Peer {
    address: IpAddr,
    incoming: Option<TcpStream>,
    outgoing: Outgoing,
    /// Since when every attempt to connect fails, and how the last one did.
    failing: Option<(Instant, Option<i32>)>,
}

/// What a connection is made with.
#[derive(Debug)]
pub(super) struct Home {
    interface: String,
    address: IpAddr,
    port: u16,
    scope: u32,
    send_buffer: Option<usize>,
}

impl StreamLink {
    pub(super) fn open(
        link: &Link,
        local: IpAddr,
        peers: &[IpAddr],
        index: u32,
    ) -> Result<Self, LinkError> {
        let home = Home {
            interface: link.interface.clone(),
            address: local,
            port: link.port,
            scope: index,
            send_buffer: link.send_buffer,
        };
        let listener = listener(link, &home)?;
        let now = Instant::now();
        let peer = |address: &IpAddr| Peer {
            address: *address,
            incoming: None,
            outgoing: Outgoing::Waiting { again_at: now },
            failing: None,
        };
        Ok(Self {
            listener: TcpListener::from_std(listener.into()).map_err(kernel("register", link))?,
            accepted: None,
            accept_again_at: None,
            peers: peers.iter().map(peer).collect(),
            next: 0,
            home,
            piece: vec![0; PIECE].into_boxed_slice(),
            wake: Box::pin(sleep_until(now)),
        })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The peers to which no connection comes about.
    pub(super) fn unreached(&self) -> impl Iterator<Item = Unreached> {
        self.peers.iter().filter_map(|peer| {
            let (since, errno) = peer.failing?;
            Some(Unreached { peer: peer.address, since: since.into_std(), errno })
        })
    }

    /// Ready when something may have come, a connection has got further or is to be tried again.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut ready = self.poll_accept(context).is_ready();
        let mut deadline = self.accept_again_at;
        for peer in &self.peers {
            if let Some(stream) = &peer.incoming {
                ready |= stream.poll_read_ready(context).is_ready();
            }
            ready |= peer.outgoing.poll_ready(context).is_ready();
            deadline = [deadline, peer.outgoing.deadline()].into_iter().flatten().min();
        }
        if let Some(deadline) = deadline {
            if self.wake.deadline() != deadline {
                self.wake.as_mut().reset(deadline);
            }
            ready |= self.wake.as_mut().poll(context).is_ready();
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.accepted.is_some() {
            return Poll::Ready(());
        }
        let now = Instant::now();
        if self.accept_again_at.is_some_and(|at| now < at) {
            return Poll::Pending;
        }
        self.accept_again_at = None;
        match self.listener.poll_accept(context) {
            Poll::Ready(Ok((stream, source))) => {
                self.accepted = Some((stream, source.ip()));
                Poll::Ready(())
            }
            // Out of descriptors, for example: what waits goes on waiting.
            Poll::Ready(Err(_)) => {
                self.accept_again_at = Some(now + AGAIN);
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Takes at most `limit` pieces, and looks after the connections.
    pub(super) fn receive_many(
        &mut self,
        link: usize,
        limit: usize,
        counters: &mut Counters,
        heard: &mut impl FnMut(Heard<'_>),
    ) -> usize {
        let now = Instant::now();
        for peer in &mut self.peers {
            let origin = origin(link, peer.address);
            let progress = peer.outgoing.attend(&self.home, peer.address, now, counters);
            let direction = Direction::Outgoing;
            match progress {
                Progress::None => {}
                Progress::Began => {
                    peer.failing = None;
                    heard(Heard::Began { origin, direction });
                }
                Progress::Failed(errno) => {
                    let since = peer.failing.map_or(now, |(since, _)| since);
                    peer.failing = Some((since, errno));
                }
                Progress::Ended => {
                    counters.connections_ended += 1;
                    heard(Heard::Ended { origin, direction });
                }
            }
        }
        let taken = self.read(link, limit, counters, heard);
        // What an old connection still holds is read before a new one takes its place.
        if taken < limit {
            self.accept(link, counters, heard);
        }
        taken
    }

    /// One piece of each peer in turn, until there is none left.
    fn read(
        &mut self,
        link: usize,
        limit: usize,
        counters: &mut Counters,
        heard: &mut impl FnMut(Heard<'_>),
    ) -> usize {
        let mut taken = 0;
        let mut idle = 0;
        let count = self.peers.len();
        while taken < limit && idle < count {
            let peer = &mut self.peers[self.next];
            self.next = (self.next + 1) % count;
            idle += 1;
            let Some(stream) = &peer.incoming else { continue };
            let origin = origin(link, peer.address);
            match stream.try_read(&mut self.piece) {
                Ok(length @ 1..) => {
                    idle = 0;
                    taken += 1;
                    counters.received_datagrams += 1;
                    counters.received_bytes += length as u64;
                    heard(Heard::Stream { origin, bytes: &self.piece[..length] });
                }
                Err(error) if is_nothing(&error) => {}
                Ok(_) | Err(_) => {
                    peer.incoming = None;
                    counters.connections_ended += 1;
                    heard(Heard::Ended { origin, direction: Direction::Incoming });
                }
            }
        }
        taken
    }

    fn accept(&mut self, link: usize, counters: &mut Counters, heard: &mut impl FnMut(Heard<'_>)) {
        // Whoever waits next asks again with a waker that wakes.
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..ACCEPTED_IN_A_ROW {
            if self.poll_accept(&mut context).is_pending() {
                return;
            }
            let Some((stream, source)) = self.accepted.take() else { return };
            let Some(peer) = self.peers.iter_mut().find(|peer| peer.address == source) else {
                counters.strangers += 1;
                continue;
            };
            // Without it the peer's silent death is noticed when it comes back.
            drop(keep_alive(&stream));
            let (origin, direction) = (origin(link, source), Direction::Incoming);
            if peer.incoming.replace(stream).is_some() {
                counters.connections_ended += 1;
                heard(Heard::Ended { origin, direction });
            }
            heard(Heard::Began { origin, direction });
        }
    }

    /// Whether every connection takes another datagram of any size.
    pub(super) fn has_room(&mut self, counters: &mut Counters) -> bool {
        self.peers.iter_mut().all(|peer| peer.outgoing.has_room(PIECE, counters))
    }

    /// Whether the connection to this peer takes another datagram of any size, whatever the others
    /// do; `None` is all of them.
    pub(super) fn has_room_for(&mut self, to: Option<IpAddr>, counters: &mut Counters) -> bool {
        let mut meant = self.peers.iter_mut().filter(|peer| to.is_none_or(|to| to == peer.address));
        meant.all(|peer| peer.outgoing.has_room(PIECE, counters))
    }

    /// Closes the connection that this peer speaks over; `false` when there is none.
    pub(super) fn end_incoming(&mut self, source: IpAddr, counters: &mut Counters) -> bool {
        let mut peers = self.peers.iter_mut().filter(|peer| peer.address == source);
        let closed = peers.any(|peer| peer.incoming.take().is_some());
        counters.connections_ended += u64::from(closed);
        closed
    }

    pub(super) fn send(
        &mut self,
        to: Option<IpAddr>,
        datagram: &[u8],
        counters: &mut Counters,
    ) -> bool {
        let meant = |peer: &Peer| to.is_none_or(|to| to == peer.address);
        let mut peers = self.peers.iter_mut().filter(|peer| meant(peer));
        if !peers.all(|peer| peer.outgoing.has_room(datagram.len(), counters)) {
            return false;
        }
        for peer in self.peers.iter_mut().filter(|peer| meant(peer)) {
            peer.outgoing.send(datagram, counters);
        }
        true
    }

    /// Whether nothing is left to be written.
    pub(super) fn flush(&mut self, counters: &mut Counters) -> bool {
        let mut all = true;
        for peer in &mut self.peers {
            all &= peer.outgoing.flush(counters);
        }
        all
    }
}

impl Home {
    /// Begins to connect to a peer.
    pub(super) fn connect(&self, peer: IpAddr) -> io::Result<TcpStream> {
        let socket = self.socket()?;
        if let Some(bytes) = self.send_buffer {
            setsockopt(&socket, sockopt::SndBufForce, &bytes)
                .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &bytes))?;
        }
        // Messages are put together before they are handed over.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(super::outgoing::STUCK))?;
        socket.bind(&socket_address(self.address, 0, self.scope))?;
        match socket.connect(&socket_address(peer, self.port, self.scope)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            Ok(()) | Err(_) => TcpStream::from_std(socket.into()),
        }
    }

    /// A socket that knows no interface but the link's.
    fn socket(&self) -> io::Result<Socket> {
        let domain = if self.address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if self.address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind_device(Some(self.interface.as_bytes()))?;
        Ok(socket)
    }
}

fn listener(link: &Link, home: &Home) -> Result<Socket, LinkError> {
    let socket = home.socket().map_err(kernel("open", link))?;
    if let Some(bytes) = link.receive_buffer {
        // What is accepted inherits it.
        setsockopt(&socket, sockopt::RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&socket, sockopt::RcvBuf, &bytes))
            .map_err(io::Error::from)
            .map_err(kernel("size", link))?;
    }
    // Connections of an earlier run that are still ending do not have the port; a listener has.
    socket.set_reuse_address(true).map_err(kernel("set up", link))?;
    let address = socket_address(home.address, home.port, home.scope);
    socket.bind(&address).map_err(bind_error(link))?;
    // Two listeners may bind one address with this option; only one may listen.
    socket.listen(BACKLOG).map_err(bind_error(link))?;
    Ok(socket)
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let settings = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE)
        .with_retries(KEEP_ALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&settings)
}

fn origin(link: usize, source: IpAddr) -> Origin {
    Origin { link, source, to_group: false }
}

/// Nothing has come, and nothing is wrong.
pub(super) fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
