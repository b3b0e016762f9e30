//! What the replicator is told.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// The settings of replication for one failover group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The failover group whose state decides the role.
    pub group: String,
    /// What is spoken with the peer.
    pub protocol: PeerProtocol,
    /// conntrackd's mode.
    pub mode: Mode,
    /// The dedicated links; the first is used.
    pub links: Vec<Link>,
    /// Which flows are replicated.
    pub filter: Filter,
    /// Acknowledge after this many messages (conntrackd: `ACKWindowSize`, 300).
    pub ack_window: u32,
    /// Most sent and unacknowledged messages that are kept (conntrackd: `ResendQueueSize`, 131072).
    pub resend_queue: usize,
    /// Most flows in each cache; more are refused and counted.
    pub cache_limit: usize,
    /// How long after leaving mastership the kernel's replicated flows are removed
    /// (conntrackd: `PurgeTimeout`, 60 s).
    pub purge_timeout: Duration,
    /// Receive buffer of the kernel event socket, in bytes.
    pub event_buffer: usize,
}

/// The language spoken with the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerProtocol {
    /// conntrackd 1.4.7's.
    Conntrackd,
}

/// conntrackd's synchronisation mode.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Numbered, acknowledged, resent.
    Ftfw,
}

/// One dedicated link to the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// The interface to send and listen on.
    pub interface: String,
    /// The multicast group.
    pub multicast: IpAddr,
    /// The UDP port.
    pub port: u16,
    /// Whether the UDP checksum is computed.
    pub checksum: bool,
    /// Socket send buffer in bytes, when set.
    pub send_buffer: Option<usize>,
    /// Socket receive buffer in bytes, when set.
    pub receive_buffer: Option<usize>,
}

/// Which flows are replicated. An empty protocol list means all.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// IP protocol numbers that are replicated.
    pub protocols: Vec<u8>,
    /// Flows from or to one of these are not replicated.
    pub ignore_addresses: Vec<IpNet>,
}
