//! When it is worth looking again: that something has changed, not what.

use std::collections::BTreeSet;
use std::fmt;
use std::io;

use futures_util::FutureExt;
use lockstep_routes::{Interest, TableId};
use netlink_packet_core::NlasIterator;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::conversation::{DATAGRAM, messages_in};

/// Asked-for size of the receive buffer in bytes; an overrun costs a dump, no more.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Most datagrams taken at once before they are reported.
const DATAGRAMS: usize = 256;
/// Multicast groups `RTNLGRP_…` of links and of both families' addresses, routes and rules.
const GROUPS: [u32; 7] = [1, 5, 7, 8, 9, 11, 19];

/// What has changed since the last look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Hints {
    /// A link.
    pub links: bool,
    /// An address.
    pub addresses: bool,
    /// A route in a table of interest.
    pub routes: bool,
    /// A rule.
    pub rules: bool,
    /// Messages were lost: anything may have changed.
    pub overrun: bool,
}

impl Hints {
    /// Whether anything has changed.
    pub fn any(self) -> bool {
        self.links || self.addresses || self.routes || self.rules || self.overrun
    }
}

impl std::ops::BitOrAssign for Hints {
    fn bitor_assign(&mut self, other: Self) {
        self.links |= other.links;
        self.addresses |= other.addresses;
        self.routes |= other.routes;
        self.rules |= other.rules;
        self.overrun |= other.overrun;
    }
}

/// Listens to the kernel's announcements of the network namespace in which it was made.
pub struct Monitor {
    socket: TokioSocket,
    /// The tables of interest.
    tables: BTreeSet<TableId>,
    received: Vec<u8>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("tables", &self.tables).finish_non_exhaustive()
    }
}

impl Monitor {
    /// Starts listening. Every change after it returns is announced or counted as overrun, so a
    /// dump made afterwards misses nothing.
    pub fn connect(interest: &Interest) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let mask = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, mask))?;
        if let Err(error) = socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER) {
            tracing::debug!(%error, "the monitor keeps its small receive buffer");
        }
        let tables = interest.tables().collect();
        Ok(Self { socket, tables, received: Vec::with_capacity(DATAGRAM) })
    }

    /// Waits until something of interest has changed, and takes what else is waiting.
    ///
    /// # Errors
    /// When the socket is broken; lost messages are no error but [`Hints::overrun`].
    pub async fn changed(&mut self) -> io::Result<Hints> {
        let mut hints = Hints::default();
        while !hints.any() {
            hints |= self.receive().await?;
        }
        for _ in 1..DATAGRAMS {
            match self.receive().now_or_never() {
                Some(more) => hints |= more?,
                None => break,
            }
        }
        Ok(hints)
    }

    async fn receive(&mut self) -> io::Result<Hints> {
        self.received.clear();
        match self.socket.recv_from(&mut self.received).await {
            Ok(sender) if sender.port_number() == 0 => Ok(hints_in(&self.received, &self.tables)),
            Ok(_) => Ok(Hints::default()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                Ok(Hints { overrun: true, ..Hints::default() })
            }
            Err(error) => Err(error),
        }
    }
}

fn hints_in(datagram: &[u8], tables: &BTreeSet<TableId>) -> Hints {
    let mut hints = Hints::default();
    for message in messages_in(datagram) {
        match message.message_type() {
            16 | 17 => hints.links = true,
            20 | 21 => hints.addresses = true,
            24 | 25 => hints.routes |= concerns(message.payload(), tables),
            32 | 33 => hints.rules = true,
            _ => {}
        }
    }
    hints
}

/// Whether a route message is about a table of interest.
fn concerns(route: &[u8], tables: &BTreeSet<TableId>) -> bool {
    const TABLE: usize = 4;
    const ATTRIBUTES: usize = 12;
    const RTA_TABLE: u16 = 15;
    let Some(&table) = route.get(TABLE) else { return false };
    let mut attributes =
        NlasIterator::new(route.get(ATTRIBUTES..).unwrap_or_default()).map_while(Result::ok);
    let table = attributes
        .find(|attribute| attribute.kind() == RTA_TABLE)
        .and_then(|attribute| attribute.value().try_into().ok())
        .map_or(table.into(), u32::from_ne_bytes);
    tables.contains(&TableId(table))
}
