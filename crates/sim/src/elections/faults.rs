//! What goes wrong in an election, and when: all of it decided by the seed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use fastrand::Rng;
use lockstep_vrrp::{
    Authentication, ChecksumDialect, Config, Family, KeyId, Password, Priority, Trailer,
    TrailerKey, Transport, Version, Vrid, WhenMisunderstood,
};

use crate::lan::{Cut, Lan, MAX_ROUTERS};

/// What all routers of one LAN should agree on; changed on one after the other.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) version: Version,
    pub(super) family: Family,
    pub(super) interval: Duration,
    pub(super) authentication: Kind,
    /// Counts the changes of the password.
    pub(super) password: u8,
    pub(super) unicast: bool,
    pub(super) checksum: ChecksumDialect,
    pub(super) misunderstood: WhenMisunderstood,
    pub(super) startup_limit: Duration,
    pub(super) addresses: u8,
}

/// How advertisements are authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    None,
    Pass,
    Header,
    Signed,
}

/// What is a router's own affair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Own {
    pub(super) priority: u8,
    pub(super) preempt: bool,
    pub(super) preempt_delay: Duration,
    /// What a bad uplink takes from the priority.
    pub(super) weight: u8,
}

/// A run: the routers, the LAN, and how rough it gets; drawn from the seed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) common: Common,
    pub(super) routers: Vec<Own>,
    pub(super) lan: Lan,
    /// How long things go wrong.
    pub(super) rough: Duration,
    /// Mean time between two faults.
    pub(super) fault_every: Duration,
}

/// One thing that goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// The daemon is killed and comes back.
    Kill(usize, Duration),
    /// The daemon is told to stop and is started again.
    Stop(usize, Duration),
    /// The router is not scheduled for a while.
    Stall(usize, Duration),
    /// Some directions do not work for a while.
    Part(Cut, Duration),
    /// The interface goes down for a while.
    LinkDown(usize, Duration),
    /// The kernel refuses to send for a while.
    Mute(usize, Duration),
    /// The uplink that is tracked with a weight is bad for a while.
    Uplink(usize, Duration),
    /// All routers get another setting, one after the other with this much between.
    Change(Common, Duration),
    /// One router gets other settings of its own.
    Own(usize, Own),
}

impl Plan {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let common = Common::draw(rng);
        let count = [2, 2, 2, 3, 3, 4, 5][rng.usize(..7)];
        let preempt = rng.u8(..4);
        let tracked = rng.bool();
        let mut routers: Vec<Own> = (0..count)
            .map(|_| Own {
                priority: [1, 50, 100, 100, 150, 200, 254][rng.usize(..7)],
                preempt: if preempt == 3 { rng.bool() } else { preempt != 0 },
                preempt_delay: Duration::ZERO,
                weight: if tracked { [0, 30, 60, 253][rng.usize(..4)] } else { 0 },
            })
            .collect();
        if rng.u8(..6) == 0 {
            routers[rng.usize(..count)].priority = u8::MAX;
        }
        if rng.u8(..3) == 0 {
            let delay = common.interval * rng.u32(1..25);
            for router in &mut routers {
                router.preempt_delay = delay;
            }
        }
        let rough = (common.interval * 120).clamp(Duration::from_secs(3), Duration::from_mins(1));
        Self {
            lan: draw_lan(rng, common.interval),
            fault_every: rough.mul_f64(0.03 + 0.2 * rng.f64()),
            rough,
            common,
            routers,
        }
    }

    pub(super) fn next_fault(&self, common: &Common, rng: &mut Rng) -> (Duration, Fault) {
        let after = self.fault_every.mul_f64(0.1 + 1.8 * rng.f64());
        let router = rng.usize(..self.routers.len());
        let time = self.some_time(rng);
        let fault = match rng.u8(..16) {
            0 | 1 => Fault::Kill(router, time),
            2 | 3 => Fault::Stop(router, time),
            4..=6 => Fault::Stall(router, self.stall(rng)),
            7..=9 => Fault::Part(self.partition(rng), time),
            10 | 11 => Fault::LinkDown(router, time),
            12 => Fault::Mute(router, time),
            13 => Fault::Uplink(router, time),
            14 => Fault::Change(common.changed(rng), time / u32::from(rng.u8(1..8))),
            _ => Fault::Own(router, self.changed(router, rng)),
        };
        (after, fault)
    }

    /// From a fraction of an interval to some forty of them.
    fn some_time(&self, rng: &mut Rng) -> Duration {
        self.common.interval.mul_f64(0.3 * 128_f64.powf(rng.f64()))
    }

    /// Sometimes as long as a snapshot or a migration may take: half a minute.
    fn stall(&self, rng: &mut Rng) -> Duration {
        if rng.u8(..12) > 0 {
            return self.some_time(rng);
        }
        let shortest = self.common.interval.as_secs_f64();
        Duration::from_secs_f64(shortest * (30.0 / shortest).powf(rng.f64()))
    }

    /// One direction between two routers, one router deaf, one unheard, or two halves.
    fn partition(&self, rng: &mut Rng) -> Cut {
        let count = self.routers.len();
        let (one, other) = (rng.usize(..count), rng.usize(..count));
        let side: u8 = rng.u8(..);
        let kind = rng.u8(..4);
        let mut cut = Cut::default();
        for (from, row) in cut.iter_mut().enumerate() {
            for (to, cut) in row.iter_mut().enumerate() {
                *cut = match kind {
                    0 => from == one && to == other,
                    1 => to == one,
                    2 => from == one,
                    _ => side >> from & 1 != side >> to & 1,
                };
            }
        }
        cut
    }

    fn changed(&self, router: usize, rng: &mut Rng) -> Own {
        let before = self.routers[router];
        match rng.u8(..3) {
            0 if before.weight == 0 && before.priority != u8::MAX => {
                Own { priority: rng.u8(1..255), ..before }
            }
            1 => Own { preempt_delay: self.common.interval * rng.u32(..25), ..before },
            _ => Own { preempt: !before.preempt, ..before },
        }
    }
}

impl Common {
    fn draw(rng: &mut Rng) -> Self {
        let (version, family) = match rng.u8(..4) {
            0 => (Version::V2, Family::Ipv4),
            1 | 2 => (Version::V3, Family::Ipv4),
            _ => (Version::V3, Family::Ipv6),
        };
        let interval = match version {
            Version::V2 => Duration::from_secs(rng.u64(1..3)),
            Version::V3 => Duration::from_millis([10, 20, 50, 100, 250, 500, 1000][rng.usize(..7)]),
        };
        let authentication = match (version, rng.u8(..3)) {
            (Version::V3, 2) => Kind::Signed,
            (Version::V3, _) | (Version::V2, 0) => Kind::None,
            (Version::V2, 1) => Kind::Pass,
            (Version::V2, _) => Kind::Header,
        };
        Self {
            version,
            family,
            interval,
            authentication,
            password: 0,
            unicast: rng.u8(..3) == 0,
            checksum: if rng.bool() {
                ChecksumDialect::PseudoHeader
            } else {
                ChecksumDialect::MessageAlone
            },
            misunderstood: match rng.u8(..3) {
                0 => WhenMisunderstood::StayBackup,
                _ => WhenMisunderstood::TakeOver,
            },
            startup_limit: match rng.u8(..3) {
                0 => Duration::ZERO,
                1 => Duration::from_secs(2),
                _ => interval * rng.u32(..12),
            },
            addresses: 1,
        }
    }

    fn changed(&self, rng: &mut Rng) -> Self {
        let mut common = self.clone();
        match (rng.u8(..3), self.authentication) {
            (0, Kind::Pass | Kind::Header | Kind::Signed) => {
                common.password = self.password.wrapping_add(1);
            }
            (0 | 1, _) => {
                common.interval = match self.version {
                    Version::V2 => {
                        Duration::from_secs(if self.interval.as_secs() == 1 { 2 } else { 1 })
                    }
                    Version::V3 => {
                        let steps = self.interval.as_millis() as u64 / 10;
                        Duration::from_millis(10 * (steps * rng.u64(50..200) / 100).clamp(1, 100))
                    }
                };
            }
            _ => common.addresses = 1 + self.addresses % 3,
        }
        common
    }

    /// The settings of one router of `count`.
    pub(super) fn settings(&self, own: Own, number: usize, count: usize) -> Rc<Config> {
        let others = (0..count).filter(|other| *other != number);
        let peers = others.map(|other| address(self.family, other)).collect();
        Rc::new(Config {
            priority: Priority::new(own.priority).unwrap_or(Priority::DEFAULT),
            preempt: own.preempt,
            preempt_delay: own.preempt_delay,
            advertisement_interval: self.interval,
            authentication: self.authentication(),
            trailer: self.trailer(),
            checksum: self.checksum,
            transport: if self.unicast {
                Transport::Unicast { peers, ttl: 255, minimum_ttl: 0 }
            } else {
                Transport::Multicast
            },
            misunderstood: self.misunderstood,
            startup_limit: self.startup_limit,
            addresses: (0..self.addresses).map(|host| virtual_address(self.family, host)).collect(),
            ..Config::new(Vrid::new(51).expect("not 0"), self.version, self.family)
        })
    }

    fn authentication(&self) -> Authentication {
        let password = || {
            Password::new(["9YasrrhZ", "sesame", "lockstep"][usize::from(self.password % 3)])
                .expect("it is not empty")
        };
        match self.authentication {
            Kind::None | Kind::Signed => Authentication::None,
            Kind::Pass => Authentication::Pass(password()),
            Kind::Header => Authentication::Header(password()),
        }
    }
}

impl Common {
    fn trailer(&self) -> Option<Trailer> {
        let key = TrailerKey::new(&[self.password; 32]).expect("32 bytes are enough");
        (self.authentication == Kind::Signed).then(|| Trailer::new(KeyId::MIN, key))
    }
}

/// The routers' addresses, so far apart that a signed comparison would order them otherwise.
pub(super) fn address(family: Family, number: usize) -> IpAddr {
    let host = 2 + 60 * number as u8;
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 1, 1, host).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, u16::from(host) << 8, 1).into(),
    }
}

const _: () = assert!(2 + (MAX_ROUTERS - 1) * 60 < 256);

fn virtual_address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 1, 2, host).into(),
        Family::Ipv6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x5e, u16::from(host)).into(),
    }
}

fn draw_lan(rng: &mut Rng, interval: Duration) -> Lan {
    if rng.u8(..4) == 0 {
        return Lan::calm();
    }
    let longest = match rng.u8(..8) {
        0 => Duration::from_millis(20),
        _ => (interval / 2).min(Duration::from_millis(20)),
    };
    Lan {
        loss: if rng.u8(..4) == 0 { 0.0 } else { 0.3 * rng.f64() },
        duplication: 0.1 * rng.f64(),
        delay: longest.mul_f64(0.05 + 0.95 * rng.f64()),
        cut: Cut::default(),
    }
}
