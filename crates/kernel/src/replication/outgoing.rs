//! The connection to a peer, over which this router speaks.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Counters;
use super::stream::{AGAIN, Home, is_nothing};

/// Most bytes that wait for the connection to take them.
const MOST_WAITING: usize = 256 * 1024;
/// How long a peer may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a connection may take nothing of what waits before it is given up.
pub(super) const STUCK: Duration = Duration::from_secs(10);
/// Most pieces taken in a row of what a peer has no business to say here.
const IGNORED_IN_A_ROW: usize = 4;

/// A connection to a peer, or the want of one.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// There is none; it is tried then.
    Waiting { again_at: Instant },
    /// The peer has not answered yet.
    Connecting { stream: TcpStream, until: Instant, again_at: Instant },
    /// It stands.
    Connected(Pipe),
}

#[derive(Debug)]
pub(super) struct Pipe {
    stream: TcpStream,
    /// Whole datagrams, of which the first `written` bytes have gone.
    waiting: Vec<u8>,
    written: usize,
    /// Since when the connection takes nothing, though something waits.
    stuck_since: Option<Instant>,
    begun_at: Instant,
    /// Writing has failed.
    broken: bool,
}

/// What has become of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    None,
    Began,
    Ended,
    /// An attempt has failed, with this error number; `None` when nobody has answered.
    Failed(Option<i32>),
}

impl Outgoing {
    pub(super) fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let ready = match self {
            Self::Waiting { .. } => false,
            Self::Connecting { stream, .. } => stream.poll_write_ready(context).is_ready(),
            Self::Connected(pipe) => {
                let room = pipe.is_pending() && pipe.stream.poll_write_ready(context).is_ready();
                pipe.stream.poll_read_ready(context).is_ready() || room || pipe.broken
            }
        };
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// When it has to be looked after in any case.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Waiting { again_at } => Some(*again_at),
            Self::Connecting { until, .. } => Some(*until),
            Self::Connected(pipe) => pipe.stuck_since.map(|since| since + STUCK),
        }
    }

    /// Does what is due.
    pub(super) fn attend(
        &mut self,
        home: &Home,
        peer: IpAddr,
        now: Instant,
        counters: &mut Counters,
    ) -> Progress {
        match self {
            Self::Waiting { again_at } if now >= *again_at => {
                let again_at = now + AGAIN;
                match home.connect(peer) {
                    Ok(stream) => {
                        *self = Self::Connecting { stream, until: now + PATIENCE, again_at };
                    }
                    Err(error) => {
                        counters.last_refusal = error.raw_os_error();
                        *self = Self::Waiting { again_at };
                        return Progress::Failed(error.raw_os_error());
                    }
                }
                Progress::None
            }
            Self::Waiting { .. } => Progress::None,
            Self::Connecting { stream, until, again_at } => match answer(stream) {
                Ok(()) => {
                    self.begin(now);
                    Progress::Began
                }
                Err(error) if is_nothing(&error) && now < *until => Progress::None,
                Err(error) => {
                    counters.last_refusal = error.raw_os_error();
                    *self = Self::Waiting { again_at: *again_at };
                    Progress::Failed(error.raw_os_error())
                }
            },
            Self::Connected(pipe) => {
                pipe.write(counters);
                if !pipe.broken && !pipe.has_ended() && !pipe.is_stuck(now) {
                    return Progress::None;
                }
                counters.refused += u64::from(pipe.is_pending());
                *self = Self::Waiting { again_at: (pipe.begun_at + AGAIN).max(now) };
                Progress::Ended
            }
        }
    }

    fn begin(&mut self, now: Instant) {
        let before = std::mem::replace(self, Self::Waiting { again_at: now });
        if let Self::Connecting { stream, .. } = before {
            *self = Self::Connected(Pipe {
                stream,
                waiting: Vec::new(),
                written: 0,
                stuck_since: None,
                begun_at: now,
                broken: false,
            });
        }
    }

    /// Whether a datagram of this size is taken. Without a connection it is, and lost, as it would
    /// be on a wire that leads nowhere.
    pub(super) fn has_room(&mut self, bytes: usize, counters: &mut Counters) -> bool {
        let Self::Connected(pipe) = self else { return true };
        if !pipe.takes(bytes) {
            pipe.write(counters);
        }
        pipe.takes(bytes) || pipe.broken
    }

    /// The caller has seen that there is room.
    pub(super) fn send(&mut self, datagram: &[u8], counters: &mut Counters) {
        match self {
            Self::Connected(pipe) if !pipe.broken => {
                pipe.waiting.extend_from_slice(datagram);
                counters.sent_datagrams += 1;
                counters.sent_bytes += datagram.len() as u64;
            }
            Self::Waiting { .. } | Self::Connecting { .. } | Self::Connected(_) => {
                counters.refused += 1;
            }
        }
    }

    /// Whether nothing is left to be written.
    pub(super) fn flush(&mut self, counters: &mut Counters) -> bool {
        let Self::Connected(pipe) = self else { return true };
        pipe.write(counters);
        !pipe.is_pending()
    }
}

impl Pipe {
    fn is_pending(&self) -> bool {
        self.written < self.waiting.len()
    }

    fn takes(&self, bytes: usize) -> bool {
        self.waiting.len() - self.written + bytes <= MOST_WAITING
    }

    /// Writes what the connection takes.
    fn write(&mut self, counters: &mut Counters) {
        while self.is_pending() && !self.broken {
            match self.stream.try_write(&self.waiting[self.written..]) {
                Ok(length) => {
                    self.written += length;
                    self.stuck_since = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    break;
                }
                Err(error) => {
                    counters.last_refusal = error.raw_os_error();
                    self.broken = true;
                }
            }
        }
        if !self.is_pending() {
            self.waiting.clear();
            self.written = 0;
            self.stuck_since = None;
        } else if self.written >= MOST_WAITING {
            self.waiting.drain(..self.written);
            self.written = 0;
        }
    }

    fn is_stuck(&self, now: Instant) -> bool {
        self.stuck_since.is_some_and(|since| now >= since + STUCK)
    }

    /// Whether the peer has closed the connection. It has nothing to say over it.
    fn has_ended(&self) -> bool {
        let mut ignored = [0; 1024];
        for _ in 0..IGNORED_IN_A_ROW {
            match self.stream.try_read(&mut ignored) {
                Ok(1..) => {}
                Err(error) => return !is_nothing(&error),
                Ok(_) => return true,
            }
        }
        false
    }
}

/// Whether the connection stands; `WouldBlock` while the peer has not answered.
fn answer(stream: &TcpStream) -> io::Result<()> {
    stream.try_io(Interest::WRITABLE, || {
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            other => other.map(drop),
        }
    })
}
