//! A backup that has been told flows by its peer, in the peer's own datagrams. The benchmark of
//! the commit uses it too.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Expectation, Flow};
use lockstep_replicator::{
    Change, Config, ExpectationEvent, KernelEvent, Link, Origin, Replicator, Start,
};

/// Payload of a datagram on Ethernet.
const MAX_DATAGRAM: usize = 1500 - 28;

/// An active router and its backup, on a network without loss.
pub(crate) struct Pair {
    pub(crate) active: Replicator,
    pub(crate) backup: Replicator,
    pub(crate) now: Instant,
}

/// A replicator whose external cache holds `flows`, as an active peer has told them.
pub(crate) fn backup_told(flows: &[Flow]) -> Replicator {
    Pair::told(flows, &config(flows.len())).backup
}

/// The settings of both routers.
pub(crate) fn config(flows: usize) -> Config {
    let group = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 50));
    let mut config = Config::new("gateway", vec![Link::multicast("eth0", group)]);
    config.cache_limit = flows.max(1_000);
    config
}

/// How long, by the clock of the pair, the backup may take to be told.
const PATIENCE: Duration = Duration::from_mins(10);

impl Pair {
    /// The backup has been told `flows`, and is in sync.
    pub(crate) fn told(flows: &[Flow], config: &Config) -> Self {
        let now = Instant::now();
        let [mut active, backup] = [1_000_000, 2_000_000].map(|first_sequence| {
            let start = Start { first_sequence, secret: 42, max_datagram: MAX_DATAGRAM };
            Replicator::new(config.clone(), start, now)
        });
        active.activate(now);
        active.begin_dump();
        for flow in flows {
            active.dumped(flow, now);
        }
        assert!(active.end_dump(now));
        let mut pair = Self { active, backup, now };
        let ready = |pair: &Self| {
            pair.backup.sync_state().in_sync && pair.backup.external_len() == flows.len()
        };
        while !ready(&pair) {
            pair.step();
            let waited = pair.now - now;
            assert!(waited < PATIENCE, "{:?} after {waited:?}", pair.active.statistics());
        }
        pair
    }

    /// The active router's kernel has something to say; returns when the backup knows it.
    #[allow(dead_code, reason = "not every test changes flows")]
    pub(crate) fn tell(&mut self, change: Change, flow: &Flow) {
        self.active.handle_kernel_event(KernelEvent { change, flow, own: false }, self.now);
        while self.pass() {}
    }

    /// The active router's kernel expects something; returns when the backup knows it.
    #[allow(dead_code, reason = "not every test expects something")]
    pub(crate) fn expect(&mut self, expectation: &Expectation) {
        self.tell_expectation(Change::New, expectation);
    }

    /// It expects that no more.
    #[allow(dead_code, reason = "not every test expects something")]
    pub(crate) fn expect_no_more(&mut self, expectation: &Expectation) {
        self.tell_expectation(Change::Delete, expectation);
    }

    fn tell_expectation(&mut self, change: Change, expectation: &Expectation) {
        let event = ExpectationEvent { change, expectation, own: false };
        self.active.handle_expectation_event(event, self.now);
        while self.pass() {}
    }

    /// Lets one datagram or the time pass.
    fn step(&mut self) {
        if !self.pass() {
            let deadlines = [&self.active, &self.backup].map(Replicator::next_deadline);
            self.now = deadlines.into_iter().flatten().min().unwrap().max(self.now);
            self.active.handle_timeout(self.now);
            self.backup.handle_timeout(self.now);
        }
    }

    /// Whether there was anything to carry in either direction.
    fn pass(&mut self) -> bool {
        let Self { active, backup, now } = self;
        let told = pass(active, backup, Ipv4Addr::new(192, 0, 2, 1), *now);
        let answered = pass(backup, active, Ipv4Addr::new(192, 0, 2, 2), *now);
        told || answered
    }
}

/// Carries what `from` has to say; whether there was anything.
fn pass(from: &mut Replicator, to: &mut Replicator, source: Ipv4Addr, now: Instant) -> bool {
    /// As many as a link has under way before an answer comes.
    const AT_ONCE: usize = 64;
    let mut datagram = Vec::new();
    for passed in 0..AT_ONCE {
        if from.poll_transmit(now, &mut datagram).is_none() {
            return passed > 0;
        }
        to.handle_datagram(Origin::group(0, IpAddr::V4(source)), &datagram, now);
    }
    true
}
