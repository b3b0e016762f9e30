//! The election in the place of one keepalived of a capture: it hears the other one, at the
//! recorded times, and has to send what the real one sent, when the real one sent it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_vrrp::{
    Action, Authentication, Config, Encoder, Event, Family, Password, Priority, StateName, Version,
    VirtualRouter, Vrid,
};

use crate::frames::{Frame, datagram, frames};

/// How far the real router's clock may be off: it polls, and its own start is only known roughly.
const TOLERANCE: Duration = Duration::from_millis(25);
/// Master down interval of priority 150 at an interval of 1 s.
const DOWN_150: Duration = Duration::from_nanos(3_414_062_500);
/// The same of priority 100.
const DOWN_100: Duration = Duration::from_micros(3_609_375);
const A: &str = "10.51.0.11";
const B: &str = "10.51.0.12";

#[test]
fn the_master_starts_advertises_and_stops_as_keepalived_does() {
    let recording = Recording::new(include_bytes!("../vectors/v2-pass.pcap"));
    let first = recording.sent_by(A)[0].0;
    Replay { start: before(first, DOWN_150), stop: Some(4), ..Replay::new(A, pass(150)) }
        .compare(&recording, ..5);
}

#[test]
fn the_backup_takes_over_from_a_master_that_stops_and_yields_when_it_is_back() {
    let recording = Recording::new(include_bytes!("../vectors/v2-pass.pcap"));
    let until = recording.sent_by(A).last().unwrap().0;
    let replay = Replay { start: recording.begin(), until, ..Replay::new(B, pass(100)) };
    let router = replay.compare(&recording, ..);
    assert_eq!(router.state().name(), StateName::Backup);
    assert_eq!(router.statistics().master_transitions, 1);
}

#[test]
fn the_backup_takes_over_from_a_master_that_dies_within_the_centisecond_bound() {
    let recording = Recording::new(include_bytes!("../vectors/v3-ipv4-100ms.pcap"));
    let interval = Duration::from_millis(100);
    let config = Config { advertisement_interval: interval, ..version_3(100) };
    let last = recording.sent_by(B).len() - 1;
    let replay = Replay { start: recording.begin(), stop: Some(last), ..Replay::new(B, config) };
    replay.compare(&recording, ..);
}

#[test]
fn the_master_answers_a_lower_priority_at_once() {
    let recording = Recording::new(include_bytes!("../vectors/v2-lower-prio-advert.pcap"));
    let first = recording.sent_by(A)[0].0;
    let last = recording.sent_by(A).len() - 1;
    let replay =
        Replay { start: before(first, DOWN_150), stop: Some(last), ..Replay::new(A, open(150)) };
    replay.compare(&recording, ..);
}

#[test]
fn the_master_with_the_lower_address_yields_to_an_equal_one() {
    let recording = Recording::new(include_bytes!("../vectors/v2-tie-equal-priority.pcap"));
    let start = before(recording.sent_by(A)[0].0, DOWN_100);
    let until = recording.sent_by(B).last().unwrap().0;
    let replay = Replay { start, until, ..Replay::new(A, open(100)) };
    let router = replay.compare(&recording, ..);
    assert_eq!(router.state().name(), StateName::Backup);
}

#[test]
fn the_address_owner_advertises_at_once_and_its_backup_follows_its_end() {
    let recording = Recording::new(include_bytes!("../vectors/v2-owner-255.pcap"));
    let start = recording.sent_by(A)[0].0;
    Replay { start, stop: Some(3), ..Replay::new(A, open(255)) }.compare(&recording, ..);
    Replay { start, stop: Some(2), ..Replay::new(B, open(100)) }.compare(&recording, ..);
}

#[test]
fn ipv6_is_taken_over_as_keepalived_does() {
    let recording = Recording::new(include_bytes!("../vectors/v3-ipv6.pcap"));
    let config = Config {
        family: Family::Ipv6,
        addresses: vec![address("fe80::51:1"), address("2001:db8:51::1")],
        ..version_3(100)
    };
    let name = "fe80::ff:fe00:b";
    let last = recording.sent_by(name).len() - 1;
    Replay { start: recording.begin(), stop: Some(last), ..Replay::new(name, config) }
        .compare(&recording, ..);
}

fn before(at: Duration, lead: Duration) -> Duration {
    at.checked_sub(lead).unwrap()
}

/// A capture.
struct Recording {
    frames: Vec<Frame>,
}

impl Recording {
    fn new(pcap: &[u8]) -> Self {
        Self { frames: frames(pcap) }
    }

    fn begin(&self) -> Duration {
        self.frames[0].at
    }

    /// When a router advertised, and what came after the IP header.
    fn sent_by(&self, source: &str) -> Vec<(Duration, Vec<u8>)> {
        let source = address(source);
        self.frames
            .iter()
            .filter_map(|frame| {
                let datagram = datagram(frame)?;
                (datagram.endpoints.source() == source).then_some((frame.at, datagram.payload))
            })
            .collect()
    }
}

/// One run of the election.
struct Replay {
    /// Whose place it takes.
    own: IpAddr,
    name: &'static str,
    config: Config,
    /// When it starts, in the capture's time.
    start: Duration,
    /// It is stopped when the real one said 0: at its advertisement of this number.
    stop: Option<usize>,
    /// Nothing after this is heard.
    until: Duration,
}

impl Replay {
    fn new(name: &'static str, config: Config) -> Self {
        let own = address(name);
        Self { own, name, config, start: Duration::ZERO, stop: None, until: Duration::MAX }
    }

    /// Runs it and compares what it sends with the given advertisements of the real one.
    fn compare(
        self,
        recording: &Recording,
        range: impl std::slice::SliceIndex<[(Duration, Vec<u8>)], Output = [(Duration, Vec<u8>)]>,
    ) -> VirtualRouter {
        let theirs = recording.sent_by(self.name);
        let stop = self.stop.map(|number| theirs[number].0);
        let (router, ours) = self.run(recording, stop);
        let theirs = &theirs[range];
        assert_eq!(ours.len(), theirs.len(), "as many advertisements");
        for (number, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            assert_eq!(ours.1, theirs.1, "advertisement {number}");
            let error = ours.0.abs_diff(theirs.0);
            assert!(error < TOLERANCE, "advertisement {number} is off by {error:?}");
        }
        router
    }

    fn run(
        self,
        recording: &Recording,
        stop: Option<Duration>,
    ) -> (VirtualRouter, Vec<(Duration, Vec<u8>)>) {
        let zero = start_of_time();
        let end = stop.or(recording.frames.last().map(|frame| frame.at)).unwrap().min(self.until);
        let mut heard: Vec<_> = recording
            .frames
            .iter()
            .filter(|frame| frame.at > self.start && frame.at <= end)
            .filter_map(|frame| Some((frame.at, datagram(frame)?)))
            .filter(|(_, datagram)| datagram.endpoints.source() != self.own)
            .collect();
        heard.reverse();
        let encoder = Encoder::new(&self.config);
        let mut router = VirtualRouter::new(self.config);
        let mut sent = Sent { own: self.own, encoder, packets: Vec::new() };
        let primary = self.own;
        sent.note(self.start, router.handle(Event::Startup { primary }, zero));
        sent.note(self.start, router.claim_if_elected(zero));
        let begin = self.start;
        let instant = |at: Duration| zero + before(at, begin);
        loop {
            let deadline = router.next_deadline().map(|due| begin + (due - zero));
            let arrival = heard.last().map(|(at, _)| *at);
            let Some(at) = [deadline, arrival].into_iter().flatten().min().filter(|at| *at < end)
            else {
                break;
            };
            let actions = if arrival == Some(at) {
                router.receive(&heard.pop().unwrap().1, instant(at))
            } else {
                router.handle(Event::Timeout, instant(at))
            };
            assert!(!actions.iter().any(|action| matches!(action, Action::Rejected { .. })));
            sent.note(at, actions);
            sent.note(at, router.claim_if_elected(instant(at)));
        }
        if stop.is_some() {
            sent.note(end, router.handle(Event::Shutdown, instant(end)));
        }
        (router, sent.packets)
    }
}

/// The group's answer, where there is no group.
trait ClaimIfElected {
    fn claim_if_elected(&mut self, now: Instant) -> Vec<Action>;
}

impl ClaimIfElected for VirtualRouter {
    fn claim_if_elected(&mut self, now: Instant) -> Vec<Action> {
        match self.state() {
            lockstep_vrrp::State::Backup { elected: true, .. } => self.handle(Event::Claim, now),
            lockstep_vrrp::State::Initialize
            | lockstep_vrrp::State::Backup { elected: false, .. }
            | lockstep_vrrp::State::Master { .. } => Vec::new(),
        }
    }
}

struct Sent {
    own: IpAddr,
    encoder: Encoder,
    packets: Vec<(Duration, Vec<u8>)>,
}

impl Sent {
    /// The last word of a master that yields is left out: keepalived sends it with `higher_prio_send_advert`
    /// only, which was off.
    fn note(&mut self, at: Duration, mut actions: Vec<Action>) {
        if actions.iter().any(|action| matches!(action, Action::Superseded { .. })) {
            let before = actions.len();
            actions.retain(|action| !matches!(action, Action::Send(_)));
            assert_eq!(before - actions.len(), 1, "one last word");
        }
        for action in actions {
            if let Action::Send(advertisement) = action {
                let packet = self.encoder.packets(&advertisement, self.own, at).remove(0).bytes;
                let header = if self.own.is_ipv4() { 20 } else { 40 };
                self.packets.push((at, packet[header..].to_vec()));
            }
        }
    }
}

fn open(priority: u8) -> Config {
    Config {
        priority: Priority::new(priority).unwrap(),
        addresses: vec![address("10.51.0.1")],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

fn pass(priority: u8) -> Config {
    let password = Password::new("9YasrrhZ").unwrap();
    Config { authentication: Authentication::Pass(password), ..open(priority) }
}

fn version_3(priority: u8) -> Config {
    Config { version: Version::V3, ..open(priority) }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[expect(clippy::disallowed_methods, reason = "stands for the capture's first moment")]
fn start_of_time() -> Instant {
    Instant::now()
}
