//! What one look into the sockets brings.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use lockstep_sys::batch::{FEW, Message, Receiver, SLOTS};
use lockstep_vrrp::{Datagram, Endpoints, Family, PROTOCOL};
use socket2::Socket;

/// The packets of one look into the sockets, and the memory for the next one: one of these serves
/// all receivers of a thread.
#[derive(Debug)]
pub struct Batch {
    memory: Receiver,
    datagrams: Vec<Datagram>,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// Takes the memory: about 300 KiB.
    pub fn new() -> Self {
        Self { memory: Receiver::new(ROOM), datagrams: Vec::with_capacity(SLOTS) }
    }

    /// The packets, each socket's in the order of their arrival.
    pub fn datagrams(&self) -> &[Datagram] {
        &self.datagrams
    }

    pub(super) fn clear(&mut self) {
        self.datagrams.clear();
    }

    /// Adds what is waiting in a socket, at most `limit` packets; returns whether more may be.
    pub(super) fn read(
        &mut self,
        socket: &Socket,
        family: Family,
        limit: usize,
    ) -> io::Result<bool> {
        let received = utc();
        let mut rest = limit;
        // Mostly few are waiting, and room for few is made faster.
        let mut asked = FEW;
        while rest > 0 {
            asked = asked.min(rest);
            let count = match self.memory.receive(socket.as_fd(), asked) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let readable =
                self.memory.messages().filter_map(|message| datagram(family, message, received));
            self.datagrams.extend(readable);
            if count < asked {
                return Ok(false);
            }
            rest -= count;
            asked = SLOTS;
        }
        Ok(true)
    }
}

/// Passes over what is no IP packet and what is longer than any advertisement.
fn datagram(family: Family, message: Message<'_>, received: Duration) -> Option<Datagram> {
    if message.truncated {
        return None;
    }
    match family {
        Family::Ipv4 => Datagram::from_ipv4(message.bytes, received).ok(),
        // The kernel keeps the IPv6 header to itself; what is needed of it comes beside the payload.
        Family::Ipv6 => Some(Datagram {
            endpoints: Endpoints::Ipv6 {
                source: message.source_v6(),
                destination: message.destination_v6()?,
            },
            ttl: message.hop_limit_v6()?,
            identification: 0,
            protocol: PROTOCOL,
            payload: message.bytes.to_vec(),
            received,
        }),
    }
}

/// The time of day, since 1970; only the freshness of signed advertisements is judged by it.
fn utc() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Holds the longest advertisement: 255 IPv6 addresses and a trailer.
const ROOM: usize = 4096 + 512;
