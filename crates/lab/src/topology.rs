//! The usual topology: a client behind two routers, a server in front of them.
//!
//! ```text
//!                    ┌── router A ──┐
//!  client ─── LAN ───┤      │ sync  ├─── WAN ─── server
//!             eth0   └── router B ──┘   eth1
//! ```

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result};
use ipnet::{IpNet, Ipv4Net};

use crate::{Firewall, Interface, Lan, Nat, Node, bypass_tracking};

/// A client, two routers and a server.
///
/// The routers have `eth0` in the LAN, `eth1` in the WAN and `eth2` between each other, the hosts
/// `eth0`. The client sends everything to [`Lab::LAN_VIRTUAL`], and the routers translate what
/// leaves them to [`Lab::WAN_VIRTUAL`]: whoever is to serve must hold both.
#[derive(Debug)]
pub struct Lab {
    client: Node,
    server: Node,
    routers: [Option<Node>; 2],
    lan: Lan,
    wan: Lan,
    sync: Lan,
    firewall: Firewall,
}

/// One of the two routers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RouterId {
    /// The first.
    A,
    /// The second.
    B,
}

impl RouterId {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `A` or `B`.
    pub fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

impl Lab {
    /// The network behind the routers.
    pub const LAN: Ipv4Net = network([10, 10, 0, 0]);
    /// The network in front of them.
    pub const WAN: Ipv4Net = network([203, 0, 113, 0]);
    /// The network between the routers.
    pub const SYNC: Ipv4Net = network([192, 168, 77, 0]);
    /// The client's address.
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 100);
    /// The server's address.
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);
    /// The LAN's gateway; moves with the mastership.
    pub const LAN_VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
    /// What the WAN sees of the LAN; moves with the mastership.
    pub const WAN_VIRTUAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    /// The UDP port on which the routers replicate, left out of connection tracking.
    pub const REPLICATION_PORT: u16 = 3780;

    /// Makes all of it. Nobody holds the virtual addresses yet.
    pub fn new(firewall: Firewall) -> Result<Self> {
        let (lan, wan, sync) = (Lan::new()?, Lan::new()?, Lan::new()?);
        let client = Node::new("client")?;
        client.attach(&lan, &interface("eth0", Self::CLIENT, 100))?;
        client.add_route(IpNet::default(), IpAddr::V4(Self::LAN_VIRTUAL))?;
        let server = Node::new("server")?;
        server.attach(&wan, &interface("eth0", Self::SERVER, 101))?;
        let mut lab = Self { client, server, routers: [None, None], lan, wan, sync, firewall };
        for id in RouterId::BOTH {
            lab.power_on(id)?;
        }
        Ok(lab)
    }

    /// The client.
    pub fn client(&self) -> &Node {
        &self.client
    }

    /// The server.
    pub fn server(&self) -> &Node {
        &self.server
    }

    /// A router.
    ///
    /// # Errors
    /// When it is switched off.
    pub fn router(&self, id: RouterId) -> Result<&Node> {
        self.routers[id as usize]
            .as_ref()
            .with_context(|| format!("router {} is switched off", id.name()))
    }

    /// A router's own address on `eth0`, `eth1` and `eth2`.
    pub fn addresses(id: RouterId) -> [Ipv4Addr; 3] {
        [Self::LAN, Self::WAN, Self::SYNC].map(|network| {
            let [a, b, c, _] = network.addr().octets();
            Ipv4Addr::new(a, b, c, 2 + id as u8)
        })
    }

    /// Takes a router away: its links, and with its namespace its addresses and its flows. End its
    /// processes before, or they go on in a host without network.
    pub fn power_off(&mut self, id: RouterId) {
        self.routers[id as usize] = None;
    }

    /// Switches a router on: the same interfaces and firewall, nothing else.
    pub fn power_on(&mut self, id: RouterId) -> Result<()> {
        let node = Node::new(&format!("router {}", id.name()))?;
        let addresses = Self::addresses(id);
        for (number, segment) in [&self.lan, &self.wan, &self.sync].into_iter().enumerate() {
            let mac = 16 * (number as u8 + 1) + id as u8;
            node.attach(segment, &interface(&format!("eth{number}"), addresses[number], mac))?;
        }
        self.firewall.install(&node, &Self::nat())?;
        bypass_tracking(&node, Self::REPLICATION_PORT)?;
        self.routers[id as usize] = Some(node);
        Ok(())
    }

    /// The routers' translation.
    pub fn nat() -> Nat {
        Nat { inside: Self::LAN, interface: "eth1".to_owned(), address: Self::WAN_VIRTUAL }
    }

    /// The virtual addresses and the interfaces they belong to.
    pub fn virtual_addresses() -> [(&'static str, IpNet); 2] {
        [("eth0", Self::LAN_VIRTUAL), ("eth1", Self::WAN_VIRTUAL)]
            .map(|(interface, address)| (interface, in_24(address)))
    }
}

const fn network(octets: [u8; 4]) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), 24)
}

fn in_24(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, 24))
}

fn interface(name: &str, address: Ipv4Addr, mac: u8) -> Interface {
    Interface::new(name).address(in_24(address)).mac([2, 0, 0, 0, 0, mac])
}
