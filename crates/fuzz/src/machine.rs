//! The election: whatever happens in whatever order, it keeps its promises.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_vrrp::{
    Action, Advertisement, Config, Datagram, Encoder, Endpoints, Event, Format, MAX_DIFFERENCES,
    MAX_NEIGHBOURS, PROTOCOL, Priority, State, StateName, VirtualRouter,
};

use crate::datagram::parse;
use crate::input::Input;
use crate::settings::{UTC, dialects, routers};

/// The settings, then one happening after the other; `start` is any moment.
pub fn run(bytes: &[u8], start: Instant) {
    let mut input = Input::new(bytes);
    let config = settings(&mut input, None);
    let mut watched = Watched {
        family_configs: dialects().into_iter().filter(|c| c.family == config.family).collect(),
        routers: routers(config.family),
        router: VirtualRouter::new(config),
        now: start,
        sent: 0,
    };
    while !input.is_empty() {
        watched.happen(&mut input);
    }
    watched.settle();
}

/// Settings of any dialect, or of any of that family.
fn settings(input: &mut Input<'_>, like: Option<&Config>) -> Config {
    let mut all = dialects();
    all.retain(|config| like.is_none_or(|like| like.family == config.family));
    let config = input.pick(&all).clone();
    let flags = input.byte();
    Config {
        priority: Priority::new(input.byte()).unwrap_or(Priority::DEFAULT),
        preempt: flags & 1 == 0,
        preempt_delay: if flags & 2 == 0 { Duration::ZERO } else { input.time() },
        startup_limit: if flags & 4 == 0 { Duration::ZERO } else { Duration::from_secs(2) },
        ..config
    }
}

/// A router with what is known of it from outside.
struct Watched {
    router: VirtualRouter,
    now: Instant,
    /// Advertisements that it has said to send.
    sent: u64,
    routers: [IpAddr; 3],
    /// What its neighbours may be told.
    family_configs: Vec<Config>,
}

impl Watched {
    fn happen(&mut self, input: &mut Input<'_>) {
        let event = match input.byte() % 14 {
            0 => Event::Startup { primary: *input.pick(&self.routers) },
            1 => Event::Shutdown,
            2 => Event::Claim,
            3 => Event::Relinquish,
            4 => Event::Timeout,
            5 => return self.reach_deadline(input),
            6 => self.heard(input),
            7 => return self.packets(input),
            8 => return self.payload(input),
            9 => Event::PreemptAllowed(input.byte() & 1 == 0),
            10 => Event::PrimaryAddress(*input.pick(&self.routers)),
            11 => match Priority::new(input.byte()) {
                Some(priority) => Event::Priority(priority),
                None => return,
            },
            12 => Event::Configure(Box::new(settings(input, Some(self.router.config())))),
            _ => {
                self.now += input.time();
                return;
            }
        };
        self.feed(event);
    }

    fn feed(&mut self, event: Event) {
        let before = self.router.state();
        let claimed = event == Event::Claim;
        let actions = self.router.handle(event, self.now);
        self.check(before, claimed, &actions);
    }

    fn receive(&mut self, datagram: &Datagram) {
        let before = self.router.state();
        let actions = self.router.receive(datagram, self.now);
        self.check(before, false, &actions);
    }

    /// Time passes to the deadline, and a little further.
    fn reach_deadline(&mut self, input: &mut Input<'_>) {
        if let Some(deadline) = self.router.next_deadline() {
            self.now = self.now.max(deadline + input.time());
        }
        self.settle();
    }

    /// What is due is told until nothing is: a deadline that stays would keep the caller's thread
    /// for ever.
    fn settle(&mut self) {
        for _ in 0..TURNS {
            match self.router.next_deadline() {
                Some(deadline) if deadline <= self.now => self.feed(Event::Timeout),
                Some(_) | None => return,
            }
        }
        panic!("still due after {TURNS} timeouts: {:?}", self.router.state());
    }

    /// An advertisement that was let through: of our settings, with another priority.
    fn heard(&self, input: &mut Input<'_>) -> Event {
        let mut advertisement = Advertisement::of(self.router.config(), input.byte());
        let flags = input.byte();
        match &mut advertisement.format {
            Format::V2(authentication) if flags & 1 != 0 => {
                authentication.sequence = input.number().into();
            }
            Format::V3 if flags & 1 != 0 => {
                let centiseconds = u64::from(input.number() & 0xfff).max(1);
                advertisement.interval = Duration::from_millis(centiseconds * 10);
            }
            Format::V2(_) | Format::V3 => (),
        }
        if flags & 2 != 0 {
            advertisement.addresses.truncate(flags.into());
            advertisement.addresses.push(*input.pick(&self.routers));
        }
        Event::Received { advertisement, source: *input.pick(&self.routers) }
    }

    /// What a neighbour sends, which may have other settings.
    fn packets(&mut self, input: &mut Input<'_>) {
        let config = input.pick(&self.family_configs).clone();
        let mut advertisement = Advertisement::of(&config, input.byte());
        if let Format::V2(authentication) = &mut advertisement.format {
            authentication.sequence = input.number().into();
        }
        let source = *input.pick(&self.routers);
        let utc = UTC.saturating_sub(Duration::from_secs(input.byte().into()));
        for packet in Encoder::new(&config).packets(&advertisement, source, utc) {
            if let Some(datagram) = parse(&packet.bytes) {
                self.receive(&datagram);
            }
        }
    }

    /// Any bytes from anybody on the link.
    fn payload(&mut self, input: &mut Input<'_>) {
        let source = match self.routers[0] {
            IpAddr::V4(_) => IpAddr::from([10, 51, 0, input.byte()]),
            IpAddr::V6(_) => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, input.number()]),
        };
        let datagram = Datagram {
            endpoints: Endpoints::to_group(source),
            ttl: 255,
            identification: 1,
            protocol: PROTOCOL,
            payload: input.block().to_vec(),
            received: UTC,
        };
        self.receive(&datagram);
    }

    fn check(&mut self, before: State, claimed: bool, actions: &[Action]) {
        let after = self.router.state();
        let mut name = before.name();
        for action in actions {
            match action {
                Action::StateChanged { from, to } => {
                    assert_eq!(*from, name, "changes follow each other");
                    assert_ne!(from, to);
                    name = *to;
                }
                Action::Send(advertisement) => {
                    self.sent += 1;
                    assert_eq!(advertisement.vrid, self.router.config().vrid);
                    assert!(!advertisement.interval.is_zero());
                    if advertisement.priority == 0 {
                        assert_eq!(before.name(), StateName::Master, "only a master says goodbye");
                        assert_ne!(after.name(), StateName::Master);
                    }
                }
                Action::Elected { reason } => assert!(!reason.is_empty()),
                _ => (),
            }
        }
        assert_eq!(name, after.name(), "what was said is what is");
        if after.name() == StateName::Master && before.name() != StateName::Master {
            assert!(claimed, "mastership is claimed, never taken");
        }
        if after.name() == StateName::Initialize {
            assert_eq!(self.router.next_deadline(), None);
        } else {
            assert!(self.router.next_deadline().is_some(), "no state without an end");
        }
        assert!(actions.len() <= MOST_ACTIONS, "{actions:?}");
        assert_eq!(self.router.statistics().advertisements_sent, self.sent);
        assert!(self.router.misunderstood().len() <= MAX_NEIGHBOURS);
        assert!(self.router.differences().len() <= MAX_DIFFERENCES);
        if self.router.config().priority == Priority::OWNER {
            assert_eq!(self.router.effective_priority(), Priority::OWNER, "an owner stays one");
        }
    }
}

/// Timeouts at one moment after which nothing may be due any more.
const TURNS: usize = 8;
/// Most actions of one event.
const MOST_ACTIONS: usize = 8;
