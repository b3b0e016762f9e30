//! Two replicators and a network between them that loses, repeats and reorders.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    reason = "shared by several tests, each uses a part"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Status, TcpState, Tuple};
use lockstep_replicator::{Change, Config, Event, KernelEvent, Link, Origin, Replicator, Start};

pub const A: usize = 0;
pub const B: usize = 1;

pub fn config() -> Config {
    let group = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 50));
    let mut config = Config::new("gateway", vec![Link::multicast("eth0", group)]);
    config.cache_limit = 262_144;
    config
}

pub fn flow(number: u32) -> Flow {
    let orig = Tuple {
        source: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 | number >> 12)),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 6,
        l4: L4::Ports { source: 1024 + (number & 0xfff) as u16, destination: 80 },
    };
    let mut reply = orig.inverse();
    reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9));
    let mut flow = Flow::new(orig, reply);
    flow.status = Status(0x19e);
    flow.timeout_s = Some(432_000);
    flow.protocol_state = tcp(3);
    flow
}

pub fn tcp(state: u8) -> ProtocolState {
    ProtocolState::Tcp(TcpState { state, ..TcpState::default() })
}

/// What matters of a flow, as text, in a set.
pub fn set(flows: impl Iterator<Item = Flow>) -> BTreeSet<String> {
    flows.map(|f| format!("{:?} {:?} {} {:?}", f.orig, f.reply, f.zone, f.protocol_state)).collect()
}

/// What the network does to a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// In a hundred.
    pub loss: u32,
    pub duplication: u32,
    pub longest_delay: Duration,
}

pub const FAIR: Weather = Weather { loss: 0, duplication: 0, longest_delay: Duration::ZERO };

pub struct World {
    pub now: Instant,
    pub nodes: [Replicator; 2],
    /// The tables of the kernels.
    pub kernels: [BTreeSet<u32>; 2],
    pub weather: Weather,
    pub events: [Vec<Event>; 2],
    /// Whether a node hears and is heard.
    pub connected: bool,
    /// A node that hears and is not heard.
    pub mute: Option<usize>,
    /// How many datagrams that arrive at the same moment a node has room for.
    pub room: usize,
    pub sent: [u64; 2],
    air: Vec<(Instant, u64, usize, Vec<u8>)>,
    serial: u64,
    random: u64,
    sequence: u32,
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self::with(seed, weather, &config())
    }

    pub fn with(seed: u64, weather: Weather, config: &Config) -> Self {
        // The only clock reading: everything after it is counted.
        #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
        let now = Instant::now();
        let node = |first| Replicator::new(config.clone(), start(first), now);
        let mut world = Self {
            now,
            nodes: [node(1_000_000), node(2_000_000)],
            kernels: Default::default(),
            weather,
            events: Default::default(),
            connected: true,
            mute: None,
            room: usize::MAX,
            sent: [0, 0],
            air: Vec::new(),
            serial: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            sequence: 3_000_000,
        };
        world.drain(A);
        world.drain(B);
        world
    }

    /// Nobody hears anybody from now on; what is under way is lost.
    pub fn cut(&mut self) {
        self.connected = false;
        self.air.clear();
    }

    pub fn address(node: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1 + node as u8))
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as u32 % limit
    }

    pub fn create(&mut self, node: usize, number: u32) {
        self.kernels[node].insert(number);
        self.event(node, Change::New, &flow(number), false);
    }

    pub fn destroy(&mut self, node: usize, number: u32) {
        self.kernels[node].remove(&number);
        self.event(node, Change::Delete, &flow(number), false);
    }

    pub fn event(&mut self, node: usize, change: Change, flow: &Flow, own: bool) {
        self.nodes[node].handle_kernel_event(KernelEvent { change, flow, own }, self.now);
        self.drain(node);
    }

    pub fn dump(&mut self, node: usize) {
        self.nodes[node].begin_dump();
        for number in &self.kernels[node] {
            self.nodes[node].dumped(&flow(*number), self.now);
        }
        assert!(self.nodes[node].end_dump(self.now));
        self.drain(node);
    }

    pub fn activate(&mut self, node: usize) {
        self.nodes[node].activate(self.now);
        self.dump(node);
    }

    /// The daemon dies and comes back; its kernel keeps the flows.
    pub fn restart(&mut self, node: usize, config: &Config) {
        self.sequence += 100_000;
        self.nodes[node] = Replicator::new(config.clone(), start(self.sequence), self.now);
        self.dump(node);
    }

    /// Sends what is to be sent and collects the events.
    pub fn drain(&mut self, node: usize) {
        let mut datagram = Vec::new();
        while self.nodes[node].poll_transmit(self.now, &mut datagram).is_some() {
            assert!(datagram.len() <= 1472, "a datagram larger than the link takes");
            self.sent[node] += 1;
            let copies = 1 + u32::from(self.below(100) < self.weather.duplication);
            for _ in 0..copies {
                if !self.connected || self.mute == Some(node) || self.below(100) < self.weather.loss
                {
                    continue;
                }
                let longest = self.weather.longest_delay.as_micros() as u32 + 1;
                let delay = Duration::from_micros(u64::from(self.below(longest)));
                let (at, to) = (self.now + delay, 1 - node);
                let before = self.air.iter().filter(|other| (other.0, other.2) == (at, to));
                if self.room < usize::MAX && before.count() >= self.room {
                    continue;
                }
                self.serial += 1;
                self.air.push((at, self.serial, to, datagram.clone()));
            }
        }
        while let Some(event) = self.nodes[node].poll_event() {
            self.events[node].push(event);
        }
    }

    /// Lets the time go on, event by event.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.air.iter().map(|(at, serial, ..)| (*at, *serial)).min();
            let deadlines = [A, B].map(|node| self.nodes[node].next_deadline().unwrap());
            let next = deadlines.into_iter().chain(arrival.map(|(at, _)| at)).min().unwrap();
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if let Some((_, serial)) = arrival.filter(|(at, _)| *at <= self.now) {
                let index = self.air.iter().position(|(_, s, ..)| *s == serial).unwrap();
                let (_, _, to, datagram) = self.air.swap_remove(index);
                let from = Self::address(1 - to);
                self.nodes[to].handle_datagram(Origin::group(0, from), &datagram, self.now);
                self.drain(to);
                continue;
            }
            for (node, deadline) in deadlines.into_iter().enumerate() {
                if deadline <= self.now {
                    self.nodes[node].handle_timeout(self.now);
                    self.drain(node);
                    let later = self.nodes[node].next_deadline().unwrap();
                    assert!(later > self.now, "a deadline that does not pass: node {node}");
                }
            }
        }
        self.now = end;
    }

    pub fn run_s(&mut self, seconds: u64) {
        self.run(Duration::from_secs(seconds));
    }

    /// The flows of one kernel, as the other's external cache should have them.
    pub fn expected(&self, node: usize) -> BTreeSet<String> {
        set(self.kernels[node].iter().map(|number| flow(*number)))
    }

    pub fn external(&self, node: usize) -> BTreeSet<String> {
        set(self.nodes[node].external_flows())
    }

    pub fn in_sync(&self, node: usize) -> bool {
        self.nodes[node].sync_state().in_sync
    }

    #[track_caller]
    pub fn assert_replicated(&self, from: usize) {
        let (expected, actual) = (self.expected(from), self.external(1 - from));
        let missing = expected.difference(&actual).count();
        let stale = actual.difference(&expected).count();
        assert!(missing == 0 && stale == 0, "{missing} flows missing, {stale} stale");
    }
}

fn start(first_sequence: u32) -> Start {
    Start { first_sequence, secret: 42, max_datagram: 1472 }
}
