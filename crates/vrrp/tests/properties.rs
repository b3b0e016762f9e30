//! What holds for every input: the codec and the election under arbitrary bytes and events.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lockstep_vrrp::{
    Action, Advertisement, Authentication, AuthenticationData, Config, Datagram, Encoder,
    Endpoints, Event, Family, Format, MAX_DIFFERENCES, MAX_NEIGHBOURS, PROTOCOL, Password,
    Priority, State, StateName, Version, VirtualRouter, Vrid, WhenMisunderstood, judge,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_again(
        (advertisement, endpoints) in sendable(),
    ) {
        let bytes = advertisement.encode(&endpoints);
        prop_assert_eq!(Advertisement::decode(&bytes, &endpoints), Ok(advertisement));
    }

    #[test]
    fn a_whole_packet_comes_back_as_it_was_sent((advertisement, endpoints) in sendable()) {
        let packet = Encoder::new(&config(100, true, Version::V3))
            .packets(&advertisement, endpoints.source(), Duration::ZERO)
            .remove(0);
        if packet.destination.is_ipv4() {
            let datagram = Datagram::from_ipv4(&packet.bytes, Duration::ZERO).unwrap();
            prop_assert_eq!(datagram.endpoints, Endpoints::to_group(endpoints.source()));
            prop_assert_eq!((datagram.ttl, datagram.protocol), (255, PROTOCOL));
            prop_assert_eq!(datagram.vrid(), Some(advertisement.vrid));
            let heard = Advertisement::decode(&datagram.payload, &datagram.endpoints);
            prop_assert_eq!(heard, Ok(advertisement));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000), endpoints in endpoints()) {
        let _ = Advertisement::decode(&bytes, &endpoints);
        if let Ok(datagram) = Datagram::from_ipv4(&bytes, Duration::ZERO) {
            prop_assert!(datagram.payload.len() <= bytes.len());
        }
    }

    #[test]
    fn arbitrary_packets_are_judged_and_counted_once(
        payload in vec(any::<u8>(), 0..200),
        endpoints in endpoints(),
        ttl in prop_oneof![Just(255), any::<u8>()],
        protocol in prop_oneof![Just(PROTOCOL), Just(51), any::<u8>()],
    ) {
        let received = Duration::ZERO;
        let datagram = Datagram { endpoints, ttl, identification: 0, protocol, payload, received };
        let mut router = VirtualRouter::new(config(100, true, Version::V2));
        let refused = judge(router.config(), &datagram).is_err();
        let actions = router.receive(&datagram, start_of_time());
        let counted: u64 = router.statistics().named().iter().map(|(_, count)| count).sum();
        if refused {
            prop_assert_eq!(actions.len(), 1);
            prop_assert_eq!(counted, 1);
        }
    }

    #[test]
    fn damaged_packets_of_real_routers_never_panic(
        which in any::<prop::sample::Index>(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        endpoints in endpoints(),
    ) {
        let recorded = recorded();
        let mut bytes = which.get(&recorded).clone();
        for (position, value) in damage {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        bytes.truncate(length.index(bytes.len()) + 1);
        let _ = Advertisement::decode(&bytes, &endpoints);
    }

    #[test]
    fn whatever_happens_the_election_keeps_its_promises(
        priority in prop_oneof![Just(1), Just(100), Just(255), 1..=255_u8],
        settings in settings(),
        happenings in vec((happening(), 0..5000_u64), 1..200),
    ) {
        let priority = Priority::new(priority).unwrap();
        let mut watched = Watched::new(Config { priority, ..settings });
        for (happening, milliseconds) in happenings {
            watched.now += Duration::from_millis(milliseconds);
            watched.feed(happening)?;
        }
    }

    #[test]
    fn two_routers_that_hear_each_other_settle_on_one_master(
        priorities in (1..=255_u8, 1..=255_u8),
        preempt in any::<bool>(),
        version in prop_oneof![Just(Version::V2), Just(Version::V3)],
        offset in 0..5000_u64,
        deaf_until in 0..20_000_u64,
    ) {
        let begin = start_of_time();
        let addresses = [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)].map(IpAddr::V4);
        let mut routers = [priorities.0, priorities.1]
            .map(|priority| VirtualRouter::new(config(priority, preempt, version)));
        let mut waiting = vec![
            (begin, 0, Event::Startup { primary: addresses[0] }),
            (begin + Duration::from_millis(offset), 1, Event::Startup { primary: addresses[1] }),
        ];
        let hear_from = begin + Duration::from_millis(deaf_until);
        let end = begin + Duration::from_mins(1);
        loop {
            for (index, router) in routers.iter().enumerate() {
                if let Some(deadline) = router.next_deadline() {
                    waiting.push((deadline, index, Event::Timeout));
                }
            }
            waiting.sort_by_key(|(at, index, _)| (*at, *index));
            let (now, index, event) = waiting.remove(0);
            waiting.retain(|(_, _, event)| *event != Event::Timeout);
            if now > end {
                break;
            }
            let mut actions = routers[index].handle(event, now);
            if actions.iter().any(|action| matches!(action, Action::Elected { .. })) {
                actions.extend(routers[index].handle(Event::Claim, now));
            }
            for action in actions {
                if let Action::Send(advertisement) = action && now >= hear_from {
                    let arrival = now + Duration::from_micros(100);
                    let source = addresses[index];
                    waiting.push((arrival, 1 - index, Event::Received { advertisement, source }));
                }
            }
        }
        let masters: Vec<_> =
            routers.iter().map(|router| router.state().name() == StateName::Master).collect();
        prop_assert_eq!(masters.iter().filter(|master| **master).count(), 1, "{:?}", masters);
        let better = usize::from(priorities.1 >= priorities.0);
        if preempt && priorities.0 != priorities.1 {
            prop_assert!(masters[better], "the higher priority has won");
        }
    }
}

/// What can happen to a router, without the moment.
#[derive(Clone, Debug)]
enum Happening {
    Startup,
    Shutdown,
    Claim,
    Relinquish,
    Retire,
    MayReturn,
    Timeout,
    /// Time passes to the deadline, then it is told.
    Deadline,
    Heard {
        priority: u8,
        centiseconds: u64,
        last_octet: u8,
    },
    Packet(Vec<u8>),
    PreemptAllowed(bool),
    PrimaryAddress(u8),
    Priority(u8),
    Configure(Box<Config>),
}

fn happening() -> impl Strategy<Value = Happening> {
    let priority = prop_oneof![Just(0), Just(100), any::<u8>()];
    prop_oneof![
        2 => Just(Happening::Startup),
        1 => Just(Happening::Shutdown),
        3 => Just(Happening::Claim),
        1 => Just(Happening::Relinquish),
        2 => Just(Happening::Retire),
        1 => Just(Happening::MayReturn),
        2 => Just(Happening::Timeout),
        5 => Just(Happening::Deadline),
        6 => (priority, 1..4096_u64, 1..5_u8).prop_map(|(priority, centiseconds, last_octet)| {
            Happening::Heard { priority, centiseconds, last_octet }
        }),
        2 => vec(any::<u8>(), 0..40).prop_map(Happening::Packet),
        1 => any::<bool>().prop_map(Happening::PreemptAllowed),
        1 => (1..5_u8).prop_map(Happening::PrimaryAddress),
        2 => (1..=255_u8).prop_map(Happening::Priority),
        1 => settings().prop_map(|settings| Happening::Configure(Box::new(settings))),
    ]
}

/// A router, and a model of what it has said so far.
struct Watched {
    router: VirtualRouter,
    now: Instant,
    elected: bool,
    sent: u64,
    /// After an election nobody elects himself again before that, unless something happens.
    no_election_before: Option<Instant>,
}

impl Watched {
    fn new(config: Config) -> Self {
        let router = VirtualRouter::new(config);
        Self { router, now: start_of_time(), elected: false, sent: 0, no_election_before: None }
    }

    fn feed(&mut self, happening: Happening) -> Result<(), TestCaseError> {
        let before = self.router.state();
        let (actions, event) = match happening {
            Happening::Packet(payload) => {
                let endpoints = Endpoints::to_group(address(9));
                let datagram = Datagram {
                    endpoints,
                    ttl: 255,
                    identification: 0,
                    protocol: PROTOCOL,
                    payload,
                    received: Duration::ZERO,
                };
                (self.router.receive(&datagram, self.now), None)
            }
            other => {
                let event = self.event(&other);
                (self.router.handle(event.clone(), self.now), Some(event))
            }
        };
        self.check(before, event.as_ref(), &actions)
    }

    fn event(&mut self, happening: &Happening) -> Event {
        match *happening {
            Happening::Startup => Event::Startup { primary: address(2) },
            Happening::Shutdown => Event::Shutdown,
            Happening::Claim => Event::Claim,
            Happening::Relinquish => Event::Relinquish,
            Happening::Retire => Event::Retire,
            Happening::MayReturn => Event::MayReturn,
            Happening::Timeout | Happening::Packet(_) => Event::Timeout,
            Happening::Deadline => {
                let deadline = self.router.next_deadline();
                self.now = deadline.map_or(self.now, |deadline| deadline.max(self.now));
                Event::Timeout
            }
            Happening::Heard { priority, centiseconds, last_octet } => {
                let mut advertisement = Advertisement::of(self.router.config(), priority);
                match &mut advertisement.format {
                    Format::V3 => {
                        advertisement.interval = Duration::from_millis(centiseconds * 10);
                    }
                    Format::V2(authentication) => authentication.sequence = centiseconds as u32,
                }
                Event::Received { advertisement, source: address(last_octet) }
            }
            Happening::PreemptAllowed(allowed) => Event::PreemptAllowed(allowed),
            Happening::PrimaryAddress(last_octet) => Event::PrimaryAddress(address(last_octet)),
            Happening::Priority(priority) => Event::Priority(Priority::new(priority).unwrap()),
            Happening::Configure(ref config) => Event::Configure(config.clone()),
        }
    }

    fn check(
        &mut self,
        before: State,
        event: Option<&Event>,
        actions: &[Action],
    ) -> Result<(), TestCaseError> {
        let after = self.router.state();
        let sends: Vec<_> = actions
            .iter()
            .filter_map(|action| if let Action::Send(sent) = action { Some(sent) } else { None })
            .collect();
        let most = if event == Some(&Event::Retire) { 2 } else { 1 };
        prop_assert!(sends.len() <= most, "one event, one advertisement: {:?}", actions);
        self.sent += sends.len() as u64;
        prop_assert_eq!(self.router.statistics().advertisements_sent, self.sent);
        for sent in &sends {
            prop_assert!(matches!(actions[0], Action::Send(_)), "the advertisement goes first");
            prop_assert!(
                !asleep(before)
                    || matches!(event, Some(Event::Claim | Event::Shutdown | Event::Timeout))
                    || (event == Some(&Event::Retire) && sent.priority == 0),
                "a master that overslept listens first"
            );
            let last = sent.priority == 0;
            let ends = after.name() == StateName::Initialize;
            prop_assert!(event == Some(&Event::Retire) || last == ends, "0 means the end");
        }
        if event == Some(&Event::Retire) && before.name() == StateName::Master {
            prop_assert_eq!(sends.last().map(|sent| sent.priority), Some(0));
            prop_assert_eq!(after.name(), StateName::Backup);
        }

        let changes: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::StateChanged { from, to } => Some((*from, *to)),
                Action::Send(_)
                | Action::Elected { .. }
                | Action::Deferred
                | Action::Superseded { .. }
                | Action::Succeeded { .. }
                | Action::Rejected { .. }
                | Action::Differs { .. }
                | Action::Withheld { .. }
                | Action::Conflict { .. }
                | Action::Overslept { .. } => None,
            })
            .collect();
        if before.name() == after.name() {
            prop_assert!(changes.is_empty());
        } else {
            prop_assert_eq!(changes, [(before.name(), after.name())]);
        }
        if before.name() != StateName::Master && after.name() == StateName::Master {
            prop_assert_eq!(event, Some(&Event::Claim), "mastership is claimed, never taken");
            prop_assert_eq!(sends.len(), 1);
        }

        prop_assert_eq!(
            self.router.next_deadline().is_none(),
            after.name() == StateName::Initialize
        );
        if event == Some(&Event::Timeout)
            && let Some(deadline) = self.router.next_deadline()
        {
            prop_assert!(deadline > self.now, "a timeout that is dealt with does not come back");
        }
        self.check_election(event, actions, before, after)?;
        prop_assert!(actions.len() <= MOST_ACTIONS, "{:?}", actions);
        prop_assert!(self.router.differences().len() <= MAX_DIFFERENCES);
        let config = self.router.config();
        let priority = self.router.effective_priority();
        prop_assert_eq!(priority == Priority::OWNER, config.priority == Priority::OWNER);
        prop_assert!(self.router.misunderstood().len() <= MAX_NEIGHBOURS);
        Ok(())
    }

    fn check_election(
        &mut self,
        event: Option<&Event>,
        actions: &[Action],
        before: State,
        after: State,
    ) -> Result<(), TestCaseError> {
        if !matches!(event, Some(Event::Timeout)) {
            // Whatever happened may be the cause of another election.
            self.no_election_before = None;
        }
        for action in actions {
            match action {
                Action::Elected { reason } => {
                    prop_assert!(!reason.is_empty());
                    let caused = matches!(event, Some(Event::Timeout | Event::Startup { .. }));
                    prop_assert!(caused, "only a timer or the owner's start elects");
                    prop_assert!(
                        self.no_election_before.is_none_or(|earliest| self.now >= earliest),
                        "elected twice without a cause"
                    );
                    self.no_election_before = self.router.next_deadline();
                    self.elected = true;
                }
                Action::Overslept { .. } => {
                    prop_assert!(before.name() != StateName::Initialize);
                    let elects = actions.iter().any(|one| matches!(one, Action::Elected { .. }));
                    prop_assert!(!elects, "it listens first");
                }
                Action::Deferred => {
                    prop_assert!(self.elected, "only what was said can be taken back");
                    self.elected = false;
                }
                Action::StateChanged { to, .. } => self.elected &= *to == StateName::Backup,
                Action::Superseded { .. } => prop_assert_eq!(after.name(), StateName::Backup),
                Action::Succeeded { by, .. } => {
                    prop_assert_eq!(after.name(), StateName::Backup);
                    prop_assert_eq!(self.router.yields_to(), Some(*by));
                }
                Action::Send(_)
                | Action::Rejected { .. }
                | Action::Differs { .. }
                | Action::Withheld { .. }
                | Action::Conflict { .. } => (),
            }
        }
        self.elected &= event != Some(&Event::Relinquish);
        let says = matches!(after, State::Backup { elected: true, .. });
        prop_assert_eq!(says, self.elected, "the state and what was said agree");
        Ok(())
    }
}

/// Whether a master was served so late that it listens before it speaks.
fn asleep(state: State) -> bool {
    matches!(state, State::Master { silent_for: Some(_), .. })
}

/// An advertisement that the wire can carry, and between whom.
fn sendable() -> impl Strategy<Value = (Advertisement, Endpoints)> {
    (endpoints(), 1..=255_u8, any::<u8>(), any::<bool>(), 1..4096_u64).prop_flat_map(
        |(endpoints, vrid, priority, version_2, interval)| {
            let family = endpoints.family();
            let version_2 = version_2 && family == Family::Ipv4;
            let interval = if version_2 {
                Duration::from_secs(interval % 255 + 1)
            } else {
                Duration::from_millis(interval * 10)
            };
            (vec(address_of(family), 0..=255), any::<(u8, [u8; 8])>()).prop_map(
                move |(addresses, (kind, data))| {
                    let format = if version_2 {
                        Format::V2(AuthenticationData { kind, data, sequence: 0 })
                    } else {
                        Format::V3
                    };
                    let vrid = Vrid::new(vrid).unwrap();
                    (Advertisement { vrid, priority, interval, format, addresses }, endpoints)
                },
            )
        },
    )
}

fn address_of(family: Family) -> impl Strategy<Value = IpAddr> {
    any::<u128>().prop_map(move |bits| match family {
        Family::Ipv4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::Ipv6 => Ipv6Addr::from_bits(bits).into(),
    })
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    (any::<bool>(), any::<bool>(), any::<u128>(), any::<u128>()).prop_map(
        |(version_4, to_group, source, destination)| {
            let endpoints = if version_4 {
                Endpoints::Ipv4 {
                    source: Ipv4Addr::from_bits(source as u32),
                    destination: Ipv4Addr::from_bits(destination as u32),
                }
            } else {
                Endpoints::Ipv6 {
                    source: Ipv6Addr::from_bits(source),
                    destination: Ipv6Addr::from_bits(destination),
                }
            };
            if to_group { Endpoints::to_group(endpoints.source()) } else { endpoints }
        },
    )
}

fn recorded() -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Vector {
        vrrp_hex: String,
    }
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors/vectors.json")).unwrap();
    let byte = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap();
    vectors.iter().map(|v| v.vrrp_hex.as_bytes().chunks(2).map(byte).collect()).collect()
}

fn config(priority: u8, preempt: bool, version: Version) -> Config {
    Config {
        priority: Priority::new(priority).unwrap(),
        preempt,
        authentication: match version {
            Version::V2 => Authentication::Pass(Password::new("9YasrrhZ").unwrap()),
            Version::V3 => Authentication::None,
        },
        addresses: vec![address(100)],
        ..Config::new(Vrid::new(51).unwrap(), version, Family::Ipv4)
    }
}

/// Settings of every kind for one virtual router; its priority is 100.
fn settings() -> impl Strategy<Value = Config> {
    let version = prop_oneof![Just(Version::V2), Just(Version::V3)];
    let delays = (prop_oneof![Just(0), 0..20_000_u64], prop_oneof![Just(0), 0..9_000_u64]);
    (version, any::<[bool; 3]>(), delays, 1..400_u64, 0..3_u8).prop_map(
        |(version, [preempt, cautious, header], (delay, limit), interval, addresses)| {
            let mut config = config(100, preempt, version);
            config.preempt_delay = Duration::from_millis(delay);
            config.startup_limit = Duration::from_millis(limit);
            config.misunderstood =
                if cautious { WhenMisunderstood::StayBackup } else { WhenMisunderstood::TakeOver };
            config.addresses = (0..addresses).map(|octet| address(100 + octet)).collect();
            match (version, header) {
                (Version::V2, true) => {
                    let password = Password::new("9YasrrhZ").unwrap();
                    config.authentication = Authentication::Header(password);
                }
                (Version::V2, false) => (),
                (Version::V3, _) => {
                    config.advertisement_interval = Duration::from_millis(interval * 10);
                }
            }
            config
        },
    )
}

/// Most that one event makes a router say: a master that overslept, yields, and has found that the
/// other differs in three ways.
const MOST_ACTIONS: usize = 6;

fn address(last_octet: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last_octet).into()
}

#[expect(clippy::disallowed_methods, reason = "any instant will do; no clock is compared with it")]
fn start_of_time() -> Instant {
    Instant::now()
}
