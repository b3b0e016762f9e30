//! Several routers on one or two links, each of which can be cut for each router.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code, reason = "shared by several tests")]

pub mod kernel;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_replicator::{
    Change, Config, Direction, Event, KernelEvent, Link, Origin, Replicator, Start, Transport,
};

use crate::common::{Weather, flow, set};

pub const LINKS: usize = 2;

pub struct Site {
    pub now: Instant,
    pub nodes: Vec<Replicator>,
    pub kernels: Vec<BTreeSet<u32>>,
    pub events: Vec<Vec<Event>>,
    /// By node and link: whether it hears and is heard there.
    pub plugged: Vec<[bool; LINKS]>,
    pub weather: Weather,
    /// Datagrams by link, and how many of them went to the group.
    pub sent: [(u64, u64); LINKS],
    config: fn(usize) -> Config,
    tcp: bool,
    /// Streams come in pieces of at most this many bytes.
    pub piece: usize,
    air: Vec<(Instant, u64, usize, Origin, Vec<u8>)>,
    serial: u64,
    random: u64,
    sequence: u32,
}

/// Everybody on two links, in a group on each.
pub fn grouped(_: usize) -> Config {
    let group = |last| IpAddr::V4(Ipv4Addr::new(225, 0, 0, last));
    let links = vec![Link::multicast("eth0", group(50)), Link::multicast("eth1", group(51))];
    let mut config = Config::new("gateway", links);
    config.cache_limit = 65_536;
    config
}

fn pair(node: usize, transport: fn(IpAddr, Vec<IpAddr>) -> Transport) -> Config {
    let link = |link: usize| {
        let peers = (0..3).filter(|peer| *peer != node).map(|peer| address(peer, link)).collect();
        Link::new(format!("eth{link}"), transport(address(node, link), peers))
    };
    let mut config = Config::new("gateway", vec![link(0), link(1)]);
    config.cache_limit = 65_536;
    config
}

pub fn udp(node: usize) -> Config {
    pair(node, |local, peers| Transport::Udp { local, peers })
}

pub fn tcp(node: usize) -> Config {
    pair(node, |local, peers| Transport::Tcp { local, peers })
}

pub fn address(node: usize, link: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 99, link as u8, 1 + node as u8))
}

impl Site {
    pub fn new(count: usize, seed: u64, weather: Weather, config: fn(usize) -> Config) -> Self {
        // The only clock reading: everything after it is counted.
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let now = Instant::now();
        let tcp = matches!(config(0).links[0].transport, Transport::Tcp { .. });
        let mut site = Self {
            now,
            nodes: Vec::new(),
            kernels: vec![BTreeSet::new(); count],
            events: vec![Vec::new(); count],
            plugged: vec![[true; LINKS]; count],
            weather,
            sent: [(0, 0); LINKS],
            config,
            tcp,
            piece: usize::MAX,
            air: Vec::new(),
            serial: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            sequence: 1_000_000,
        };
        for node in 0..count {
            let replicator = site.replicator(node);
            site.nodes.push(replicator);
        }
        for node in 0..count {
            site.drain(node);
        }
        site
    }

    fn replicator(&mut self, node: usize) -> Replicator {
        self.sequence += 1_000_000;
        let start = Start { first_sequence: self.sequence, secret: 42, max_datagram: 1472 };
        Replicator::new((self.config)(node), start, self.now)
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as u32 % limit
    }

    pub fn create(&mut self, node: usize, number: u32) {
        self.kernels[node].insert(number);
        self.event(node, Change::New, number);
    }

    pub fn destroy(&mut self, node: usize, number: u32) {
        self.kernels[node].remove(&number);
        self.event(node, Change::Delete, number);
    }

    fn event(&mut self, node: usize, change: Change, number: u32) {
        let event = KernelEvent { change, flow: &flow(number), own: false };
        self.nodes[node].handle_kernel_event(event, self.now);
        self.drain(node);
    }

    pub fn activate(&mut self, node: usize) {
        self.nodes[node].activate(self.now);
        self.read(node);
    }

    fn read(&mut self, node: usize) {
        self.nodes[node].begin_dump();
        for number in &self.kernels[node] {
            self.nodes[node].dumped(&flow(*number), self.now);
        }
        assert!(self.nodes[node].end_dump(self.now));
        self.drain(node);
    }

    pub fn restart(&mut self, node: usize) {
        self.nodes[node] = self.replicator(node);
        self.read(node);
    }

    /// All connections of the node break and stand again; what is under way is lost.
    pub fn reconnect(&mut self, node: usize) {
        for link in 0..LINKS {
            self.air
                .retain(|(_, _, to, from, _)| *to != node && from.source != address(node, link));
        }
        for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
            for (from, to) in [(node, peer), (peer, node)] {
                let (now, nodes) = (self.now, &mut self.nodes);
                let origin = Origin { link: 0, source: address(to, 0), to_group: false };
                nodes[from].connection_ended(origin, Direction::Outgoing, now);
                nodes[from].connection_began(origin, Direction::Outgoing, now);
                let origin = Origin { link: 0, source: address(from, 0), to_group: false };
                nodes[to].connection_ended(origin, Direction::Incoming, now);
                nodes[to].connection_began(origin, Direction::Incoming, now);
            }
        }
        for node in 0..self.nodes.len() {
            self.drain(node);
        }
    }

    pub fn drain(&mut self, node: usize) {
        let mut bytes = Vec::new();
        while let Some(transmit) = self.nodes[node].poll_transmit(self.now, &mut bytes) {
            let sent = &mut self.sent[transmit.link];
            sent.0 += 1;
            sent.1 += u64::from(transmit.to.is_none());
            for to in (0..self.nodes.len()).filter(|to| *to != node) {
                if transmit.to.is_none_or(|wanted| wanted == address(to, transmit.link)) {
                    let source = address(node, transmit.link);
                    let to_group = transmit.to.is_none();
                    self.carry(to, Origin { link: transmit.link, source, to_group }, &bytes);
                }
            }
        }
        while let Some(event) = self.nodes[node].poll_event() {
            self.events[node].push(event);
        }
    }

    fn carry(&mut self, to: usize, origin: Origin, bytes: &[u8]) {
        if self.tcp {
            self.serial += 1;
            self.air.push((self.now, self.serial, to, origin, bytes.to_vec()));
            return;
        }
        let copies = 1 + u32::from(self.below(100) < self.weather.duplication);
        for _ in 0..copies {
            if self.below(100) < self.weather.loss {
                continue;
            }
            let longest = self.weather.longest_delay.as_micros() as u32 + 1;
            let delay = Duration::from_micros(u64::from(self.below(longest)));
            self.serial += 1;
            self.air.push((self.now + delay, self.serial, to, origin, bytes.to_vec()));
        }
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.air.iter().map(|(at, serial, ..)| (*at, *serial)).min();
            let deadlines = self.nodes.iter().filter_map(Replicator::next_deadline).min();
            let next = deadlines.into_iter().chain(arrival.map(|(at, _)| at)).min().unwrap();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if let Some((_, serial)) = arrival.filter(|(at, _)| *at <= self.now) {
                self.arrive(serial);
                continue;
            }
            for node in 0..self.nodes.len() {
                if self.nodes[node].next_deadline().is_some_and(|at| at <= self.now) {
                    self.nodes[node].handle_timeout(self.now);
                    self.drain(node);
                    let later = self.nodes[node].next_deadline().unwrap();
                    assert!(later > self.now, "a deadline that does not pass: node {node}");
                }
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, serial: u64) {
        let index = self.air.iter().position(|(_, s, ..)| *s == serial).unwrap();
        let (_, _, to, origin, bytes) = self.air.swap_remove(index);
        let from = (0..self.nodes.len()).find(|n| address(*n, origin.link) == origin.source);
        let plugged = |node: usize| self.plugged[node][origin.link];
        if !plugged(to) || !from.is_some_and(plugged) {
            return;
        }
        if self.tcp {
            for piece in bytes.chunks(self.piece) {
                assert!(self.nodes[to].handle_stream(origin, piece, self.now));
            }
        } else {
            self.nodes[to].handle_datagram(origin, &bytes, self.now);
        }
        self.drain(to);
    }

    pub fn run_s(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    #[track_caller]
    pub fn assert_in_sync<const NODES: usize>(&self, nodes: [usize; NODES]) {
        for node in nodes {
            let state = self.nodes[node].sync_state();
            assert!(state.in_sync, "node {node}: {}", state.reason);
        }
    }

    #[track_caller]
    pub fn assert_replicated(&self, from: usize, to: usize) {
        let expected = set(self.kernels[from].iter().map(|number| flow(*number)));
        let actual = set(self.nodes[to].external_flows());
        let missing = expected.difference(&actual).count();
        let stale = actual.difference(&expected).count();
        assert!(
            missing == 0 && stale == 0,
            "node {to}: {missing} flows missing, {stale} stale; {}",
            self.nodes[to].sync_state().reason
        );
    }
}
