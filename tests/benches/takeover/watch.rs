//! When a router claimed, and when its kernel had the address.

use std::io::{self, IoSliceMut};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lockstep_lab::Node;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket as NetlinkSocket, SocketAddr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{ROUTER, VIRTUAL};

/// Longest wait for an address.
const PATIENCE: Duration = Duration::from_secs(10);
/// `RTNLGRP_IPV4_IFADDR`, as the bit of its group.
const ADDRESSES: u32 = 1 << 4;
/// Longest datagram of either kind.
const MOST: usize = 4096;

/// Sees what a router sends and what its kernel announces.
pub(crate) struct Watch {
    packets: Socket,
    addresses: NetlinkSocket,
    has_address: bool,
}

/// Nanoseconds since 1970 by the clock with which the kernel stamps packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(i64);

impl Watch {
    pub(crate) fn start(node: &Node) -> Self {
        node.run(|| {
            let mut addresses = NetlinkSocket::new(NETLINK_ROUTE).unwrap();
            addresses.bind(&SocketAddr::new(0, ADDRESSES)).unwrap();
            SockRef::from(&addresses.as_fd()).set_read_timeout(Some(PATIENCE)).unwrap();
            Self { packets: packets(), addresses, has_address: false }
        })
        .unwrap()
    }

    /// Whether the router has the virtual address, as far as the kernel has told.
    pub(crate) fn has_address(&mut self) -> bool {
        SockRef::from(&self.addresses.as_fd()).set_nonblocking(true).unwrap();
        while self.receive_address().is_some() {}
        SockRef::from(&self.addresses.as_fd()).set_nonblocking(false).unwrap();
        self.has_address
    }

    /// Forgets what the router has sent.
    pub(crate) fn forget(&mut self) {
        assert!(!self.has_address(), "the router has given way");
        while self.receive_packet().is_some() {}
    }

    /// Waits until the kernel says that the router has the virtual address.
    pub(crate) fn wait_for_address(&mut self) -> Moment {
        while !self.has_address {
            let told = self.receive_address();
            assert!(told.is_some(), "no takeover in {PATIENCE:?}");
        }
        // The wait was for the announcement; what came before it made no difference.
        Moment::now()
    }

    /// When the first advertisement left the router.
    pub(crate) fn claim(&mut self) -> Moment {
        loop {
            let (packet, moment) = self.receive_packet().expect("the router advertises");
            if is_claim(&packet) {
                return moment;
            }
        }
    }

    /// Takes one announcement; `None` when there is none, or none in time.
    fn receive_address(&mut self) -> Option<()> {
        let mut datagram = Vec::with_capacity(MOST);
        match self.addresses.recv(&mut datagram, 0) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Err(error) => panic!("{error}"),
        }
        if let Some(present) = is_present(&datagram) {
            self.has_address = present;
        }
        Some(())
    }

    fn receive_packet(&mut self) -> Option<(Vec<u8>, Moment)> {
        let mut packet = vec![0; MOST];
        let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
        let mut parts = [IoSliceMut::new(&mut packet)];
        let received = recvmsg::<()>(
            self.packets.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        );
        let message = match received {
            Ok(message) => message,
            Err(nix::errno::Errno::EAGAIN) => return None,
            Err(errno) => panic!("{errno}"),
        };
        let stamp = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        let (length, moment) = (message.bytes, Moment::of(stamp.expect("a time stamp")));
        packet.truncate(length);
        Some((packet, moment))
    }
}

impl Moment {
    fn now() -> Self {
        Self::of(SystemTime::now().duration_since(UNIX_EPOCH).unwrap())
    }

    fn of(since_epoch: Duration) -> Self {
        Self(i64::try_from(since_epoch.as_nanos()).unwrap())
    }

    /// Microseconds from `earlier` to this; negative when it was not earlier.
    pub(crate) fn since_us(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) as f64 / 1000.0
    }
}

/// Everything that passes the router's interfaces, from the IP header on.
fn packets() -> Socket {
    const ETH_P_ALL: u16 = 0x0003;
    let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
    socket
}

/// An advertisement of the router's that does not say goodbye.
fn is_claim(packet: &[u8]) -> bool {
    const VRRP: u8 = 112;
    packet.len() > 22
        && packet[9] == VRRP
        && packet[12..16] == ROUTER.octets()
        && packet[usize::from(packet[0] & 0x0f) * 4 + 2] > 0
}

/// Whether the announcement says that the virtual address has come or gone; `None` when it is
/// about something else.
fn is_present(datagram: &[u8]) -> Option<bool> {
    const NEW: u16 = 20;
    const DELETED: u16 = 21;
    /// The netlink header and the fixed part of an address message.
    const FIXED: usize = 16 + 8;
    const LOCAL: u16 = 2;
    let word = |bytes: &[u8]| u16::from_ne_bytes([bytes[0], bytes[1]]);
    let present = match word(datagram.get(4..6)?) {
        NEW => true,
        DELETED => false,
        _ => return None,
    };
    let mut rest = datagram.get(FIXED..)?;
    while let Some(header) = rest.get(..4) {
        let (length, kind) = (usize::from(word(header)), word(&header[2..]));
        let value = rest.get(4..length)?;
        if kind == LOCAL && value == Ipv4Addr::octets(&VIRTUAL) {
            return Some(present);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

/// Has the calling thread run as soon as there is something for it to do, whatever else the machine
/// does; whether that was granted.
pub(crate) fn become_prompt() -> bool {
    let thread = nix::unistd::gettid().to_string();
    let mut command = Command::new("chrt");
    command.args(["--reset-on-fork", "--fifo", "--pid", "10", &thread]);
    command.output().is_ok_and(|output| output.status.success())
}
