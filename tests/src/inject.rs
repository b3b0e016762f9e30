//! Datagrams that no well-behaved neighbour sends.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use lockstep_lab::Node;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The VRRP group.
const VRRP_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const VRRP: i32 = 112;

/// Sends IP packets of protocol 112 to the VRRP group from one address of a node.
#[derive(Debug)]
pub struct VrrpSender {
    socket: Socket,
}

impl VrrpSender {
    /// A sender on the interface that has `address`.
    ///
    /// # Panics
    /// When a raw socket cannot be opened there.
    pub fn new(node: &Node, address: Ipv4Addr) -> Self {
        let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(VRRP)));
        let socket =
            node.run(open).expect("the node can be entered").expect("a raw socket can be opened");
        socket.set_multicast_if_v4(&address).expect("the interface has the address");
        Self { socket }
    }

    /// Sends `payload` with this TTL.
    ///
    /// # Panics
    /// When it cannot be sent.
    pub fn send(&self, payload: &[u8], ttl: u32) {
        self.socket.set_multicast_ttl_v4(ttl).expect("a TTL can be set");
        let group = SockAddr::from(SocketAddrV4::new(VRRP_GROUP, 0));
        self.socket.send_to(payload, &group).expect("a packet can be sent");
    }
}

/// The bytes of a version 2 advertisement, made by hand so that each of them can be spoiled.
#[derive(Clone, Debug)]
pub struct VrrpBytes(pub Vec<u8>);

impl VrrpBytes {
    /// An advertisement with a password, as its keepalived would send it, without checksum.
    pub fn new(vrid: u8, priority: u8, address: Ipv4Addr, password: &str) -> Self {
        let mut bytes = vec![0x21, vrid, priority, 1, 1, 1, 0, 0];
        bytes.extend(address.octets());
        bytes.extend(password.bytes());
        Self(bytes)
    }

    /// With one byte set to a value.
    #[must_use]
    pub fn with(mut self, offset: usize, value: u8) -> Self {
        self.0[offset] = value;
        self
    }

    /// With a correct checksum.
    #[must_use]
    pub fn summed(self) -> Vec<u8> {
        let unsummed = self.with(6, 0).with(7, 0).0;
        let sum: u32 = unsummed
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let [high, low] = (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes();
        Self(unsummed).with(6, high).with(7, low).0
    }
}

/// A socket that sends to a replication group from a node's `address`.
///
/// # Panics
/// When it cannot be opened.
pub fn replication_sender(node: &Node, address: Ipv4Addr) -> UdpSocket {
    let open = || -> std::io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(address, 0)))?;
        socket.set_multicast_if_v4(&address)?;
        Ok(socket.into())
    };
    node.run(open).expect("the node can be entered").expect("a socket can be opened")
}
