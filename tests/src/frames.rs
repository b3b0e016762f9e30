//! What is seen on a LAN: VRRP advertisements and gratuitous ARP, in the order they passed.
//!
//! Read by hand from the bytes, not by our own codec: a test that used it could not see its mistakes.

use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_lab::Node;
use socket2::{Domain, Protocol, Socket, Type};

/// Longest frame looked at: an Ethernet frame of a veth pair.
const FRAME: usize = 65_536;

/// Everything a node receives and sends, of the kinds in [`Frame`], from [`Capture::start`] on.
#[derive(Debug)]
pub struct Capture {
    seen: Arc<Mutex<Vec<Frame>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A frame of interest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A VRRP advertisement.
    Advertisement(Advertisement),
    /// An ARP packet whose sender and target are the same address.
    GratuitousArp {
        /// The address announced.
        address: Ipv4Addr,
        /// The hardware address it is announced at.
        mac: [u8; 6],
    },
}

/// The fields of a VRRP version 2 advertisement over IPv4.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Advertisement {
    /// The sender's primary address.
    pub source: Ipv4Addr,
    /// The IP time to live.
    pub ttl: u8,
    /// The version nibble.
    pub version: u8,
    /// The virtual router.
    pub vrid: u8,
    /// The sender's priority; 0 says that it stops.
    pub priority: u8,
    /// The authentication type.
    pub authentication: u8,
    /// The virtual addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// The 8 bytes of the password.
    pub password: Vec<u8>,
}

impl Capture {
    /// Starts watching all interfaces of `node`.
    ///
    /// # Panics
    /// When the node's packets cannot be read.
    pub fn start(node: &Node) -> Self {
        const ETH_P_ALL: u16 = 0x0003;
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let mut socket = node
            .run(|| Socket::new(Domain::PACKET, Type::RAW, Some(protocol)))
            .expect("the node can be entered")
            .expect("a packet socket can be opened");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket can time out");
        let (seen, end) = (Arc::<Mutex<Vec<Frame>>>::default(), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, end) = (Arc::clone(&seen), Arc::clone(&end));
            move || {
                let mut buffer = vec![0; FRAME];
                while !end.load(Ordering::Relaxed) {
                    let Ok(length) = socket.read(&mut buffer) else { continue };
                    if let Some(frame) = Frame::read(&buffer[..length]) {
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
        let advertisement = |frame: &Frame| match frame {
            Frame::Advertisement(advertisement) => Some(advertisement.clone()),
            Frame::GratuitousArp { .. } => None,
        };
        self.frames().iter().filter_map(advertisement).collect()
    }

    /// Who claimed to be master, in turn: the senders of advertisements with a priority above 0, repeats left out.
    /// Two routers that are master at once show as A, B, A, B.
    pub fn masters(&self) -> Vec<Ipv4Addr> {
        let mut masters: Vec<_> = self
            .advertisements()
            .into_iter()
            .filter(|seen| seen.priority > 0)
            .map(|seen| seen.source)
            .collect();
        masters.dedup();
        masters
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.frames().clear();
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

impl Frame {
    fn read(ethernet: &[u8]) -> Option<Self> {
        let (header, payload) = ethernet.split_at_checked(14)?;
        match [header[12], header[13]] {
            [0x08, 0x00] => Advertisement::read(payload).map(Self::Advertisement),
            [0x08, 0x06] => Self::read_arp(payload),
            _ => None,
        }
    }

    fn read_arp(arp: &[u8]) -> Option<Self> {
        let sender = ipv4(arp.get(14..18)?);
        let target = ipv4(arp.get(24..28)?);
        let mac = arp.get(8..14)?.try_into().ok()?;
        (sender == target).then_some(Self::GratuitousArp { address: sender, mac })
    }
}

impl Advertisement {
    fn read(packet: &[u8]) -> Option<Self> {
        const VRRP: u8 = 112;
        let header = usize::from(*packet.first()? & 0x0f) * 4;
        if *packet.get(9)? != VRRP {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        let vrrp = packet.get(header..length)?;
        let count = usize::from(*vrrp.get(3)?);
        let addresses = vrrp.get(8..8 + 4 * count)?.chunks(4).map(ipv4).collect();
        Some(Self {
            source: ipv4(packet.get(12..16)?),
            ttl: packet[8],
            version: vrrp[0] >> 4,
            vrid: vrrp[1],
            priority: vrrp[2],
            authentication: vrrp[4],
            addresses,
            password: vrrp.get(8 + 4 * count..)?.to_vec(),
        })
    }
}

fn ipv4(bytes: &[u8]) -> Ipv4Addr {
    Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])
}
