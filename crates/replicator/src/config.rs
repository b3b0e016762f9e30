//! What the replicator is told.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// The settings of replication for the failover groups that share it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The failover groups whose states decide the role: a router serves while it is master of one
    /// of them. Never empty.
    pub groups: Vec<String>,
    /// What is spoken with the peer.
    pub protocol: PeerProtocol,
    /// conntrackd's mode.
    pub mode: Mode,
    /// How a backup keeps the flows of the router that serves.
    pub standby: Standby,
    /// The dedicated links, all of the same kind of transport; one at a time is used to send.
    pub links: Vec<Link>,
    /// Which flows are replicated.
    pub filter: Filter,
    /// Which expectations are replicated.
    pub expectations: Expectations,
    /// Acknowledge after this many messages (conntrackd: `ACKWindowSize`, 300).
    pub ack_window: u32,
    /// Most sent and unacknowledged messages that are kept (conntrackd: `ResendQueueSize`, 131072).
    pub resend_queue: usize,
    /// Most flows in each cache; more are refused and counted.
    pub cache_limit: usize,
    /// How long after leaving mastership the kernel's replicated flows are removed
    /// (conntrackd: `PurgeTimeout`, 60 s).
    pub purge_timeout: Duration,
    /// Timeout that committed flows get instead of their own (conntrackd: `CommitTimeout`).
    pub commit_timeout: Option<Duration>,
    /// [`Mode::Alarm`]: time between two tellings of a flow that does not change
    /// (conntrackd: `RefreshTime`, 60 s).
    pub refresh_interval: Duration,
    /// [`Mode::Alarm`]: how long a flow of the peer lives without being told again
    /// (conntrackd: `CacheTimeout`, 180 s).
    pub cache_timeout: Duration,
    /// Receive buffer of the kernel event socket at first, in bytes.
    pub event_buffer: usize,
    /// What the receive buffer grows to when events were lost, in bytes.
    pub event_buffer_limit: usize,
}

impl Config {
    /// Every flow of every protocol over these links, and the rest as conntrackd has it when it is
    /// not told otherwise. These are the product's defaults too.
    pub fn new(group: impl Into<String>, links: Vec<Link>) -> Self {
        Self {
            groups: vec![group.into()],
            protocol: PeerProtocol::Conntrackd,
            mode: Mode::Ftfw,
            standby: Standby::default(),
            links,
            filter: Filter::default(),
            expectations: Expectations::default(),
            ack_window: 300,
            resend_queue: 131_072,
            cache_limit: 1_000_000,
            purge_timeout: Duration::from_mins(1),
            commit_timeout: None,
            refresh_interval: Duration::from_mins(1),
            cache_timeout: Duration::from_mins(3),
            event_buffer: 8 * 1024 * 1024,
            event_buffer_limit: 64 * 1024 * 1024,
        }
    }

    /// Whether several routers may serve at a time, each another group.
    pub fn shares(&self) -> bool {
        self.groups.len() > 1
    }

    /// Whether a router of one group that serves no more leaves flows to the one that does. That
    /// takes acknowledgements: nobody else knows what the other one has.
    pub(crate) fn inherits(&self) -> bool {
        !self.shares() && self.mode == Mode::Ftfw
    }
}

/// The language spoken with the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PeerProtocol {
    /// conntrackd 1.4.7's.
    Conntrackd,
}

/// conntrackd's synchronisation mode. Both routers must have the same: it is not on the wire.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Numbered, acknowledged, resent.
    Ftfw,
    /// Numbered only: what is lost is noticed and made up for by another full copy.
    Notrack,
    /// Nothing but flows, each told again and again.
    Alarm,
}

/// How a backup keeps the flows of the router that serves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Standby {
    /// In its external cache; a takeover puts them into the kernel.
    #[default]
    Cache,
    /// In its kernel as well, with parked timeouts; a takeover has nothing to commit.
    Kernel,
}

/// Which expectations are replicated.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Expectations {
    /// None.
    Off,
    /// Those of every helper.
    #[default]
    All,
    /// Those of the helpers whose name begins with one of these, in any case.
    Of(Vec<String>),
}

/// One dedicated link to the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// The interface to send and listen on.
    pub interface: String,
    /// How the peer is reached.
    pub transport: Transport,
    /// The UDP or TCP port.
    pub port: u16,
    /// Whether the UDP checksum is computed.
    pub checksum: bool,
    /// Socket send buffer in bytes, when set.
    pub send_buffer: Option<usize>,
    /// Socket receive buffer in bytes, when set. Otherwise of UDP 4 MiB, which a full copy of
    /// thousands of flows needs; of TCP the system's.
    pub receive_buffer: Option<usize>,
}

impl Link {
    /// conntrackd's usual UDP port.
    pub const PORT: u16 = 3780;

    /// A link with checksums and the system's socket buffers.
    pub fn new(interface: impl Into<String>, transport: Transport) -> Self {
        Self {
            interface: interface.into(),
            transport,
            port: Self::PORT,
            checksum: true,
            send_buffer: None,
            receive_buffer: None,
        }
    }

    /// The same, to a multicast group.
    pub fn multicast(interface: impl Into<String>, group: IpAddr) -> Self {
        Self::new(interface, Transport::Multicast { group })
    }
}

/// How the routers of a link reach each other.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transport {
    /// UDP to a group that all of them join.
    Multicast {
        /// The group.
        group: IpAddr,
    },
    /// UDP from address to address.
    Udp {
        /// This router's address on the link.
        local: IpAddr,
        /// The other routers'; nobody else is heard. Never empty.
        peers: Vec<IpAddr>,
    },
    /// One connection for each direction, opened by whoever sends.
    Tcp {
        /// This router's address on the link.
        local: IpAddr,
        /// The other routers'; nobody else is heard. Never empty.
        peers: Vec<IpAddr>,
    },
}

/// Which flows are replicated. Everything that is set has to agree.
///
/// Flows that begin or end at the router itself are left out unless `include_local`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// IP protocol numbers that are replicated; empty: all.
    pub protocols: Vec<u8>,
    /// IP protocol numbers that are not.
    pub ignore_protocols: Vec<u8>,
    /// Only flows from or to one of these are replicated; empty: all.
    pub addresses: Vec<IpNet>,
    /// Flows from or to one of these are not.
    pub ignore_addresses: Vec<IpNet>,
    /// TCP states (`TcpState::state`) in which a flow is told; empty: all. Its end is told always.
    pub tcp_states: Vec<u8>,
    /// Whether flows that begin or end at this router are replicated too.
    pub include_local: bool,
}
