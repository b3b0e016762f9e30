//! What is seen on a LAN: VRRP advertisements, gratuitous ARP and unsolicited neighbour advertisements, in the order they
//! passed.
//!
//! Read by hand from the bytes, not by our own codec: a test that used it could not see its mistakes.

mod decode;

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_lab::Node;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

/// Longest frame looked at: an Ethernet frame of a veth pair.
const FRAME: usize = 65_536;
/// So that a stalled machine loses no frame.
const BUFFER: usize = 4 << 20;

/// Everything a node receives and sends, of the kinds in [`Content`], from [`Capture::start`] on.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<Vec<Frame>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A frame of interest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// When the kernel saw it, since 1970: however late the reader was.
    pub at: Duration,
    /// Its Ethernet source.
    pub source: [u8; 6],
    /// Its Ethernet destination.
    pub destination: [u8; 6],
    /// What it says.
    pub content: Content,
}

/// What a frame of interest says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// A VRRP advertisement.
    Advertisement(Advertisement),
    /// An address is said to be here now.
    Announcement(Announcement),
}

/// The fields of a VRRP advertisement and of what carries it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertisement {
    /// The sender's primary address.
    pub source: IpAddr,
    /// The group, or the peer.
    pub destination: IpAddr,
    /// The IP time to live or hop limit.
    pub ttl: u8,
    /// The type of service or traffic class.
    pub traffic_class: u8,
    /// The authentication header around it.
    pub header: Option<AuthenticationHeader>,
    /// The version nibble.
    pub version: u8,
    /// The virtual router.
    pub vrid: u8,
    /// The sender's priority; 0 says that it stops.
    pub priority: u8,
    /// The authentication type; 0 in version 3, which has none.
    pub authentication: u8,
    /// The time between two of them.
    pub interval: Duration,
    /// What its checksum covers.
    pub checksum: Checksum,
    /// The virtual addresses.
    pub addresses: Vec<IpAddr>,
    /// What follows the addresses: the 8 bytes of the password in version 2.
    pub trailer: Vec<u8>,
}

/// The numbers of an IP authentication header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AuthenticationHeader {
    /// The security parameters index.
    pub index: u32,
    /// The number against replay.
    pub sequence: u32,
}

/// What the checksum of an advertisement covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Checksum {
    /// The message.
    Message,
    /// A pseudo header and the message.
    PseudoHeader,
    /// Neither of the two: it is wrong.
    Wrong,
}

/// A gratuitous ARP or an unsolicited neighbour advertisement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announcement {
    /// The address announced.
    pub address: IpAddr,
    /// The hardware address it is announced at.
    pub mac: [u8; 6],
    /// How.
    pub form: Form,
}

/// The form of an announcement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// An ARP packet whose sender and target are the same address.
    Arp {
        /// 1 request, 2 reply.
        operation: u16,
        /// The target's hardware address.
        target: [u8; 6],
    },
    /// An unsolicited neighbour advertisement.
    Neighbour {
        /// Router, solicited, override: the upper three bits.
        flags: u8,
        /// The hop limit.
        hop_limit: u8,
    },
}

impl Capture {
    /// Starts watching all interfaces of `node`.
    ///
    /// # Panics
    /// When the node's packets cannot be read.
    pub fn start(node: &Node) -> Self {
        const ETH_P_ALL: u16 = 0x0003;
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = node
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(protocol)))
            .expect("the node can be entered")
            .expect("a packet socket can be opened");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket can time out");
        // Refused to those who are root in a user namespace only; then the usual buffer has to do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("frames have their time");
        let (seen, end) = (Arc::<Mutex<Vec<Frame>>>::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, end) = (Arc::clone(&seen), Arc::clone(&end));
            move || {
                let mut buffer = vec![0; FRAME];
                while !end.load(Ordering::Relaxed) {
                    let Some((length, at)) = receive(&socket, &mut buffer) else { continue };
                    if let Some(frame) = decode::frame(&buffer[..length], at) {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
                    }
                }
            }
        });
        Self { seen, end, thread: Some(thread) }
    }

    /// All frames so far.
    pub fn frames(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All advertisements so far.
    pub fn advertisements(&self) -> Vec<Advertisement> {
        self.frames().iter().filter_map(Frame::advertisement).cloned().collect()
    }

    /// All announcements so far.
    pub fn announcements(&self) -> Vec<Announcement> {
        self.frames().iter().filter_map(Frame::announcement).cloned().collect()
    }
}

impl Frame {
    /// The advertisement, when it is one.
    pub fn advertisement(&self) -> Option<&Advertisement> {
        match &self.content {
            Content::Advertisement(advertisement) => Some(advertisement),
            Content::Announcement(_) => None,
        }
    }

    /// The announcement, when it is one.
    pub fn announcement(&self) -> Option<&Announcement> {
        match &self.content {
            Content::Announcement(announcement) => Some(announcement),
            Content::Advertisement(_) => None,
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One frame's length and time.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Option<(usize, Duration)> {
    let mut space = nix::cmsg_space!(TimeSpec);
    let mut slices = [IoSliceMut::new(buffer)];
    let received =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).ok()?;
    let at = received.cmsgs().ok()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    Some((received.bytes, at?))
}
