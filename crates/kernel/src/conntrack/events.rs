//! What happens in the table, as it happens.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd;

use lockstep_sys::netlink::Receiver;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, TokioSocket};

use super::tracking::keep_events;
use super::{OpenError, set_up};

/// `NFNLGRP_CONNTRACK_NEW`, `_UPDATE`, `_DESTROY`.
const GROUPS: [u32; 3] = [1, 2, 3];

/// Hears of every flow that is made, changed or removed in its network namespace.
///
/// Dropping it leaves the groups. A process that opens one after another misses what happens in
/// between, so whoever needs the whole opens first and dumps then.
pub struct EventSocket {
    socket: TokioSocket,
    receiver: Receiver,
}

/// No event is larger.
const MOST: usize = 4096;

impl fmt::Debug for EventSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventSocket").finish_non_exhaustive()
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

impl EventSocket {
    /// Opens the socket inside a tokio runtime; `receive_buffer` bytes of events may wait in it.
    ///
    /// Sees to it that the kernel tells of every flow, see [`keep_events`].
    ///
    /// # Errors
    /// When the kernel has no connection tracking, or events are off and may not be turned on.
    pub fn open(receive_buffer: usize) -> Result<Self, OpenError> {
        let mut socket =
            <TokioSocket as AsyncSocket>::new(NETLINK_NETFILTER).map_err(OpenError::at("open"))?;
        set_up(socket.socket_mut(), receive_buffer)?;
        keep_events().map_err(OpenError::at("turn events on for"))?;
        for group in GROUPS {
            socket.socket_mut().add_membership(group).map_err(OpenError::at("join a group of"))?;
        }
        Ok(Self { socket, receiver: Receiver::new() })
    }

    /// Has the kernel tell nothing until [`EventSocket::resume`]; what it has told stays to be read.
    ///
    /// For whoever is about to change many flows and reads the whole table afterwards: telling of
    /// a new flow takes the kernel nearly as long as making it, and is spared when nobody listens,
    /// neither in this network namespace nor, as the kernel counts, in any other.
    pub fn pause(&mut self) -> io::Result<()> {
        GROUPS.iter().try_for_each(|group| self.socket.socket_mut().drop_membership(*group))
    }

    /// Has the kernel tell again. What happened since [`EventSocket::pause`] only the table knows.
    pub fn resume(&mut self) -> io::Result<()> {
        GROUPS.iter().try_for_each(|group| self.socket.socket_mut().add_membership(*group))
    }

    /// Waits for events and replaces the content of `buffer` by those waiting, up to 64 datagrams.
    ///
    /// Cancel-safe: what is taken from the socket is returned without another await.
    pub async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Events> {
        loop {
            if let Some(events) = self.try_receive(buffer)? {
                return Ok(events);
            }
            buffer.reserve(MOST);
            match poll_fn(|context| self.socket.poll_recv_from(context, buffer)).await {
                Ok(sender) if sender.port_number() == 0 => return Ok(Events::Messages),
                Ok(_foreign) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Events::Overrun);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Like [`EventSocket::receive`], without waiting: `None` when there is nothing.
    pub fn try_receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Events>> {
        buffer.clear();
        loop {
            match self.receiver.receive(self.socket.socket_ref().as_fd(), buffer) {
                Ok(received) if received.truncated > 0 => return Ok(Some(Events::Overrun)),
                Ok(received) if received.datagrams == 0 => {}
                Ok(_) => return Ok(Some(Events::Messages)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Events::Overrun));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
