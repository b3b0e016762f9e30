//! What a seed draws before anything happens.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use fastrand::Rng;
use lockstep_replicator::{Config, Link, Mode, Standby, Transport};

/// The settings of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) mode: Mode,
    pub(super) unicast: bool,
    pub(super) links: usize,
    pub(super) standby: Vec<Standby>,
    pub(super) ack_window: u32,
    pub(super) resend_queue: usize,
    /// Largest payload of a datagram.
    pub(super) datagram: usize,
    pub(super) loss: f64,
    pub(super) duplication: f64,
    pub(super) delay: Duration,
    /// How long things go wrong.
    pub(super) rough: Duration,
    /// Mean time between two faults.
    pub(super) fault_every: Duration,
    /// Mean time between two changes of the serving kernel's table.
    pub(super) change_every: Duration,
    /// Events that a kernel keeps for a process that stands still.
    pub(super) event_queue: usize,
    /// Bytes that a socket keeps for it.
    pub(super) socket: usize,
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let nodes = if rng.u8(..3) == 0 { 3 } else { 2 };
        let mode = match rng.u8(..8) {
            0 => Mode::Alarm,
            1 | 2 => Mode::Notrack,
            _ => Mode::Ftfw,
        };
        let standby = |rng: &mut Rng| if rng.bool() { Standby::Kernel } else { Standby::Cache };
        let loss = [0.0, 0.01, 0.05, 0.2, 0.4][rng.usize(..5)];
        let mut plan = Self {
            nodes,
            mode,
            unicast: rng.u8(..3) == 0,
            links: 1 + rng.usize(..2),
            standby: (0..nodes).map(|_| standby(rng)).collect(),
            ack_window: [1, 2, 20, 300][rng.usize(..4)],
            resend_queue: [300, 1_000, 131_072][rng.usize(..3)],
            datagram: [400, 1_472, 8_972][rng.usize(..3)],
            loss,
            duplication: [0.0, 0.02, 0.2][rng.usize(..3)],
            delay: Duration::from_micros([200, 2_000, 20_000, 60_000][rng.usize(..4)]),
            rough: Duration::from_secs(rng.u64(4..14)),
            fault_every: Duration::from_millis(rng.u64(300..3_000)),
            change_every: Duration::from_micros([1_000, 5_000, 30_000][rng.usize(..3)]),
            event_queue: rng.usize(8..400),
            socket: 1 << rng.u32(14..20),
        };
        if plan.inherits() && rng.u8(..6) == 0 {
            // Long enough for nodes to know what has ended since they started.
            plan.rough = Duration::from_secs(rng.u64(40..60));
            plan.change_every = Duration::from_millis(30);
        }
        plan
    }

    /// Whether a node that serves no more leaves flows to the one that does.
    pub(super) fn inherits(&self) -> bool {
        self.nodes == 2 && self.mode == Mode::Ftfw
    }

    /// What a node is told.
    pub(super) fn config(&self, node: usize) -> Config {
        let links = (0..self.links).map(|link| self.link(node, link)).collect();
        let mut config = Config::new("gateway", links);
        config.mode = self.mode;
        config.standby = self.standby[node];
        config.ack_window = self.ack_window;
        config.resend_queue = self.resend_queue.max(self.ack_window as usize);
        config.cache_limit = 100_000;
        config.purge_timeout = Duration::from_secs(5);
        config.refresh_interval = Duration::from_secs(4);
        config.cache_timeout = Duration::from_secs(12);
        config
    }

    fn link(&self, node: usize, link: usize) -> Link {
        let interface = format!("eth{link}");
        if !self.unicast {
            return Link::multicast(interface, Ipv4Addr::new(225, 0, 0, 50 + link as u8).into());
        }
        let peers = (0..self.nodes).filter(|peer| *peer != node).map(|peer| address(peer, link));
        let local = address(node, link);
        Link::new(interface, Transport::Udp { local, peers: peers.collect() })
    }
}

/// How long after the end of all trouble everything has to be in order: in every mode a minute lets
/// the waits between attempts pass, and a purge takes its five seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(400);

/// A router that has just left the role waits for as long for who serves to tell what lives on.
pub(super) const SETTLED: Duration = Duration::from_secs(6);

/// How long after a takeover in order everything has to be in order again.
pub(super) const SUCCESSION: Duration = Duration::from_mins(2);

/// The address of a node on a link.
pub(super) fn address(node: usize, link: usize) -> IpAddr {
    Ipv4Addr::new(192, 168, link as u8, 1 + node as u8).into()
}

/// Which node has this address.
pub(super) fn node_at(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => usize::from(address.octets()[3]) - 1,
        IpAddr::V6(_) => unreachable!("the nodes have IPv4 addresses"),
    }
}
