//! Raw Ethernet frames out of one interface.

use std::io;

use lockstep_sys::batch::Outgoing;
use lockstep_sys::packet::link_address;
use socket2::Type;

use super::failure::{Failure, on_one_link, send_all};
use super::packet_socket::PacketSocket;

/// Sends the frames of [`lockstep_vrrp::announcement`] out of one interface.
///
/// A packet socket, because the kernel would not send ARP from an address for which it has just
/// been told to. Receives nothing. After the interface was deleted, sending fails with `ENXIO` or
/// `ENODEV`: open another.
#[derive(Debug)]
pub struct Announcer {
    socket: PacketSocket,
}

impl Announcer {
    /// Opens it on the interface with this number.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`, `ENODEV` without such an interface.
    pub fn open(index: u32) -> io::Result<Self> {
        let socket = PacketSocket::open(Type::RAW)?;
        socket.bind(&link_address(index, 0))?;
        Ok(Self { socket })
    }

    /// Sends one Ethernet frame, header included, without waiting.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface is down, `WouldBlock` or `ENOBUFS` when its queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(drop)
    }

    /// Sends Ethernet frames, headers included, in order and without waiting; returns those that
    /// could not be sent, with the errors of [`Announcer::send`].
    #[must_use = "what could not be sent is heard by nobody"]
    pub fn send_all(&mut self, frames: &[Vec<u8>]) -> Vec<Failure> {
        let message = |position: usize| {
            let frame: &Vec<u8> = &frames[position];
            Some(Outgoing { bytes: frame, to: None })
        };
        send_all(&self.socket, frames.len(), message, |error, _| on_one_link(error))
    }
}
