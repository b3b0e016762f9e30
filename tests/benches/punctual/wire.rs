//! When a router's advertisements left.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use lockstep_lab::Node;
use lockstep_sys::packet::link_address;
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};

/// Longest wait for a packet.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of receive buffer: a minute of advertisements.
const BUFFER: usize = 64 << 20;
/// `ETH_P_ALL`: only so is seen what leaves.
const EVERYTHING: u16 = 3;

/// Sees what leaves an interface of a router.
pub(crate) struct Wire {
    socket: Socket,
    last: Option<Duration>,
}

impl Wire {
    pub(crate) fn tap(node: &Node, interface: &str) -> Self {
        let socket = node.run(|| {
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, None).unwrap();
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
            setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
            socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
            socket.bind(&link_address(if_nametoindex(interface).unwrap(), EVERYTHING)).unwrap();
            socket
        });
        Self { socket: socket.unwrap(), last: None }
    }

    /// The times between the advertisements of this router that leave before `end`.
    pub(crate) fn gaps_until(&mut self, end: Instant) -> Vec<Duration> {
        let mut gaps = Vec::new();
        while Instant::now() < end {
            let Some(moment) = self.advertisement() else { continue };
            gaps.extend(self.last.map(|last| moment.saturating_sub(last)));
            self.last = Some(moment);
        }
        gaps
    }

    /// When the next packet left, if it is an advertisement of version 3 with priority 100.
    fn advertisement(&self) -> Option<Duration> {
        let mut packet = [0; 128];
        let mut control = nix::cmsg_space!(TimeSpec);
        let mut parts = [IoSliceMut::new(&mut packet)];
        let flags = MsgFlags::empty();
        let received =
            recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags);
        let message = match received {
            Ok(message) => message,
            Err(Errno::EAGAIN) => return None,
            Err(errno) => panic!("{errno}"),
        };
        let stamp = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        is_advertisement(&packet).then(|| stamp.expect("a time stamp"))
    }
}

fn is_advertisement(packet: &[u8]) -> bool {
    const VRRP: u8 = 112;
    const FIRST_BYTE: u8 = 0x31;
    packet[9] == VRRP && packet[20] == FIRST_BYTE && packet[22] == 100
}
