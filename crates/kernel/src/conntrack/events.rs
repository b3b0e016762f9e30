//! What happens in the table, as it happens.

mod filter;

pub use filter::{Filtering, Unwanted};

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use lockstep_ctnetlink::{Message, Messages};
use lockstep_sys::netlink::{Received, Receiver};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::tracking::keep_events;
use super::{OpenError, set_up};

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE`, `_DESTROY`.
const FLOWS: [u32; 3] = [1, 2, 3];
/// `NFNLGRP_CONNTRACK_EXP_NEW`, `_UPDATE`, `_DESTROY`.
const EXPECTATIONS: [u32; 3] = [4, 5, 6];

/// Hears of every flow that is made, changed or removed in its network namespace.
///
/// Dropping it leaves the groups. A process that opens one after another misses what happens in
/// between, so whoever needs the whole opens first and dumps then.
pub struct EventSocket {
    socket: AsyncFd<Socket>,
    receiver: Receiver,
    expectations: bool,
    /// What the receive buffer was last set to, and may grow to, in bytes.
    buffer: usize,
    buffer_limit: usize,
    overruns: u64,
}

impl fmt::Debug for EventSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EventSocket")
            .field("buffer", &self.buffer)
            .field("overruns", &self.overruns)
            .finish_non_exhaustive()
    }
}

/// What [`EventSocket::receive`] brought.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Events {
    /// The buffer holds messages, in order.
    Messages,
    /// Events were lost: whoever mirrors the table must dump it again. The next events follow.
    Overrun,
}

/// What [`EventSocket::take`] brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Taken {
    /// How many messages. 0, and nothing lost: none was waiting.
    pub messages: usize,
    /// Events were lost: whoever mirrors the table must dump it again. The next events follow.
    pub overrun: bool,
}

impl EventSocket {
    /// Opens the socket inside a tokio runtime; `receive_buffer` bytes of events may wait in it.
    ///
    /// Sees to it that the kernel tells of every flow, see [`keep_events`].
    ///
    /// # Errors
    /// When the kernel has no connection tracking, or events are off and may not be turned on.
    pub fn open(receive_buffer: usize) -> Result<Self, OpenError> {
        Self::open_growing(receive_buffer, receive_buffer)
    }

    /// Like [`EventSocket::open`], with a receive buffer that doubles, up to `limit` bytes, each
    /// time events were lost.
    ///
    /// # Errors
    /// As [`EventSocket::open`].
    pub fn open_growing(receive_buffer: usize, limit: usize) -> Result<Self, OpenError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(OpenError::at("open"))?;
        socket.set_non_blocking(true).map_err(OpenError::at("set up"))?;
        set_up(&mut socket, receive_buffer)?;
        keep_events().map_err(OpenError::at("turn events on for"))?;
        for group in FLOWS {
            socket.add_membership(group).map_err(OpenError::at("join a group of"))?;
        }
        let socket = watch(socket).map_err(OpenError::at("register"))?;
        Ok(Self {
            socket,
            receiver: Receiver::new(),
            expectations: false,
            buffer: receive_buffer,
            buffer_limit: limit,
            overruns: 0,
        })
    }

    /// Hears of expectations too, or no longer.
    pub fn hear_expectations(&mut self, wanted: bool) -> io::Result<()> {
        if wanted != self.expectations {
            self.join(&EXPECTATIONS, wanted)?;
            self.expectations = wanted;
        }
        Ok(())
    }

    /// Leaves out from now on what is not wanted, and nothing else any more. Events that are
    /// wanted before and after the change are not lost, and those that wait stay.
    ///
    /// What was left out before and is wanted now, only the table knows.
    ///
    /// # Errors
    /// When an earlier filter cannot be taken away.
    pub fn leave_out(&mut self, unwanted: &Unwanted<'_>) -> io::Result<Filtering> {
        let socket = SockRef::from(&self.socket);
        let reason = match filter::program(unwanted) {
            Ok(program) if program.is_empty() => {
                detach(&socket)?;
                return Ok(Filtering::Nothing);
            }
            Ok(program) => match socket.attach_filter(&program) {
                Ok(()) => return Ok(Filtering::Kernel { instructions: program.len() }),
                Err(error) => format!("the kernel refuses the filter: {error}"),
            },
            Err(length) => {
                format!("the filter takes {length} instructions, more than the kernel allows")
            }
        };
        // The one that was there may leave out what is wanted now.
        detach(&socket)?;
        Ok(Filtering::Unfiltered { reason })
    }

    /// Changes the receive buffer, in bytes. Events that wait stay; it grows from here.
    pub fn set_buffer(&mut self, bytes: usize) {
        // Beyond `rmem_max` only a privileged process may go; the others take what they get, as
        // they did when the socket was opened.
        let _capped = setsockopt(&self.socket, sockopt::RcvBufForce, &bytes)
            .or_else(|_| setsockopt(&self.socket, sockopt::RcvBuf, &bytes));
        self.buffer = bytes;
    }

    /// Changes what the receive buffer may grow to, in bytes.
    pub fn set_buffer_limit(&mut self, limit: usize) {
        self.buffer_limit = limit;
    }

    /// Bytes of events that may wait, as the kernel counts them.
    pub fn buffer(&self) -> usize {
        // The kernel doubles what it is asked for, and tells the double.
        getsockopt(&self.socket, sockopt::RcvBuf).map_or(self.buffer, |bytes| bytes / 2)
    }

    /// How often events were lost.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Has the kernel tell nothing until [`EventSocket::resume`]; what it has told stays to be read.
    ///
    /// For whoever is about to change many flows and reads the whole table afterwards: telling of
    /// a new flow takes the kernel nearly as long as making it, and is spared when nobody listens,
    /// neither in this network namespace nor, as the kernel counts, in any other.
    pub fn pause(&mut self) -> io::Result<()> {
        self.join_all(false)
    }

    /// Has the kernel tell again. What happened since [`EventSocket::pause`] only the table knows.
    pub fn resume(&mut self) -> io::Result<()> {
        self.join_all(true)
    }

    /// Waits until there may be something for [`EventSocket::take`]. Cancel-safe.
    pub async fn ready(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    /// [`EventSocket::ready`] for whoever waits for several.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = ready!(self.socket.poll_read_ready(context));
        Poll::Ready(guard.map(|mut guard| guard.retain_ready()))
    }

    /// Hands on up to 64 of the messages that wait, in order, without waiting and where they were
    /// received: nothing is copied, and nothing allocated.
    ///
    /// Their headers tell whose requests caused them, so that what is not of interest need not be
    /// decoded.
    pub fn take(&mut self, mut each: impl FnMut(&Message<'_>)) -> io::Result<Taken> {
        let mut taken = Taken::default();
        match self.fill()? {
            None => {
                taken.overrun = true;
                return Ok(taken);
            }
            Some(received) => taken.overrun = received.truncated > 0,
        }
        for datagram in self.receiver.datagrams() {
            for message in Messages::new(datagram) {
                match message {
                    Ok(message) => {
                        taken.messages += 1;
                        each(&message);
                    }
                    Err(_) => taken.overrun = true,
                }
            }
        }
        self.overruns += u64::from(taken.overrun);
        Ok(taken)
    }

    /// Waits for events and replaces the content of `buffer` by those waiting, up to 64 datagrams.
    ///
    /// Cancel-safe: what is taken from the socket is returned without another await.
    pub async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Events> {
        loop {
            if let Some(events) = self.try_receive(buffer)? {
                return Ok(events);
            }
            self.ready().await?;
        }
    }

    /// Like [`EventSocket::receive`], without waiting: `None` when there is nothing.
    pub fn try_receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Events>> {
        buffer.clear();
        let Some(received) = self.fill()? else { return Ok(Some(Events::Overrun)) };
        for datagram in self.receiver.datagrams() {
            buffer.extend_from_slice(datagram);
            buffer.resize(buffer.len().next_multiple_of(4), 0);
        }
        if received.truncated > 0 {
            self.overruns += 1;
            return Ok(Some(Events::Overrun));
        }
        Ok((received.datagrams > 0).then_some(Events::Messages))
    }

    /// Receives what is waiting; `None` when events were lost.
    ///
    /// As long as there is work in hand nobody waits, and the runtime does not look whether the
    /// socket has become ready, so the socket itself is asked.
    fn fill(&mut self) -> io::Result<Option<Received>> {
        loop {
            let asked = Cell::new(false);
            let receiver = &mut self.receiver;
            let mut ask = |socket: &Socket| {
                asked.set(true);
                receiver.fill(socket.as_fd())
            };
            let mut result = self.socket.try_io(Interest::READABLE, &mut ask);
            if !asked.get() {
                result = ask(self.socket.get_ref());
            }
            match result {
                Ok(received) if received.datagrams + received.truncated > 0 => {
                    return Ok(Some(received));
                }
                // Nothing but what others than the kernel have sent.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Some(Received::default()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.overruns += 1;
                    self.grow();
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn grow(&mut self) {
        let wanted = self.buffer.saturating_mul(2).min(self.buffer_limit);
        if wanted > self.buffer {
            self.set_buffer(wanted);
        }
    }

    fn join_all(&mut self, wanted: bool) -> io::Result<()> {
        self.join(&FLOWS, wanted)?;
        if self.expectations {
            self.join(&EXPECTATIONS, wanted)?;
        }
        Ok(())
    }

    fn join(&mut self, groups: &[u32], wanted: bool) -> io::Result<()> {
        let socket = self.socket.get_mut();
        groups.iter().try_for_each(|group| {
            if wanted { socket.add_membership(*group) } else { socket.drop_membership(*group) }
        })
    }
}

#[expect(deprecated, reason = "its successor is unsafe, and this type keeps its descriptor")]
fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Takes the filter away, if there is one.
fn detach(socket: &SockRef<'_>) -> io::Result<()> {
    match socket.detach_filter() {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other,
    }
}
