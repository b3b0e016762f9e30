//! Two routers, each with one group of two virtual routers, and one of the four cannot send: the
//! healthy router is left alone.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_failover::{
    self as failover, Failover, Group, Outcome, State, Step, VirtualRouterEvent,
};
use lockstep_vrrp::{
    self as vrrp, Action, Advertisement, Config, Family, Priority, StateName, Version,
    VirtualRouter, Vrid,
};

const MEMBERS: [&str; 2] = ["inside", "outside"];
const INTERVAL: Duration = Duration::from_secs(1);
/// The router with the higher priority, and its member that cannot send.
const MUTE: (usize, usize) = (0, 1);
/// How long it cannot.
const TROUBLED: Duration = Duration::from_mins(5);

/// What becomes of the advertisements of the one member.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sending {
    Works,
    Fails,
    /// Each claim leaves, and nothing after it.
    FailsAfterTheClaim,
}

struct Member {
    election: VirtualRouter,
    unsent_since: Option<Instant>,
    /// Whether the last advertisement has not left.
    doubtful: bool,
    /// Whether it is about to say its claim.
    claims: bool,
}

struct Router {
    failover: Failover,
    members: Vec<Member>,
    /// Changes of the group to or from master.
    transitions: usize,
    /// Times that the group has fallen into fault.
    faults: usize,
}

/// Everything that happens at one moment, in order.
enum Event {
    Group(usize, failover::Event),
    Election(usize, usize, vrrp::Event),
}

struct World {
    routers: Vec<Router>,
    events: VecDeque<Event>,
    sending: Sending,
    now: Instant,
}

impl World {
    /// Two routers of which the first has become master.
    fn new() -> Self {
        let now = Instant::now();
        let routers = [150, 100].map(|priority| Router::new(priority, now)).into();
        let mut world = Self { routers, events: VecDeque::new(), sending: Sending::Works, now };
        for router in 0..2 {
            world.events.push_back(Event::Group(router, failover::Event::Start));
            for member in MEMBERS {
                let virtual_router = member.to_owned();
                let event = failover::Event::Interface { virtual_router, usable: Ok(()) };
                world.events.push_back(Event::Group(router, event));
            }
        }
        world.run(Duration::from_mins(2));
        assert_eq!(world.states(), [State::Master, State::Backup]);
        for router in &mut world.routers {
            (router.transitions, router.faults) = (0, 0);
        }
        world
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|router| self.routers[router].state())
    }

    /// Lets so much time pass.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(event) = self.events.pop_front() {
                self.happen(event);
            }
            let Some(next) = self.routers.iter().filter_map(Router::deadline).min() else { break };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            for router in 0..2 {
                for member in 0..2 {
                    self.events.push_back(Event::Election(router, member, vrrp::Event::Timeout));
                }
                self.events.push_back(Event::Group(router, failover::Event::Timeout));
            }
        }
        self.now = end;
    }

    fn switch_over(&mut self, router: usize) {
        let failover = &mut self.routers[router].failover;
        let actions = failover.switchover("gateway", true, self.now).unwrap();
        for action in actions {
            self.carry_out(router, action);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Group(router, event) => {
                let before = self.routers[router].state();
                let actions = self.routers[router].failover.handle(event, self.now);
                let after = self.routers[router].state();
                self.routers[router].note(before, after);
                for action in actions {
                    self.carry_out(router, action);
                }
            }
            Event::Election(router, member, event) => self.elect(router, member, event),
        }
    }

    fn elect(&mut self, router: usize, member: usize, event: vrrp::Event) {
        let actions = self.routers[router].members[member].election.handle(event, self.now);
        for action in actions {
            let event = match action {
                Action::Send(advertisement) => {
                    self.send(router, member, advertisement);
                    continue;
                }
                Action::StateChanged { to: StateName::Backup, .. } => {
                    self.routers[router].members[member].unsent_since = None;
                    continue;
                }
                Action::Elected { reason } => VirtualRouterEvent::Elected { reason },
                Action::Deferred => VirtualRouterEvent::Deferred,
                Action::Succeeded { by, .. } => VirtualRouterEvent::Succeeded { by },
                Action::Superseded { reason, .. } => VirtualRouterEvent::Superseded { reason },
                _ => continue,
            };
            self.tell(router, member, event);
        }
    }

    fn tell(&mut self, router: usize, member: usize, event: VirtualRouterEvent) {
        let name = MEMBERS[member].to_owned();
        let event = failover::Event::VirtualRouter { name, event };
        self.events.push_back(Event::Group(router, event));
    }

    fn send(&mut self, router: usize, member: usize, advertisement: Advertisement) {
        let now = self.now;
        let sender = &mut self.routers[router].members[member];
        let leaves = match self.sending {
            _ if (router, member) != MUTE => true,
            Sending::Works => true,
            Sending::Fails => false,
            Sending::FailsAfterTheClaim => sender.claims,
        };
        sender.doubtful = !leaves;
        if leaves {
            sender.unsent_since = None;
            let event = vrrp::Event::Received { advertisement, source: address(router) };
            self.events.push_back(Event::Election(1 - router, member, event));
            return;
        }
        let since = *sender.unsent_since.get_or_insert(now);
        if sender.election.state().name() == StateName::Master && now - since >= 3 * INTERVAL {
            let reason = "sending fails".to_owned();
            self.tell(router, member, VirtualRouterEvent::Failing { reason });
        }
    }

    fn carry_out(&mut self, router: usize, action: failover::Action) {
        let (id, step, to) = match action {
            failover::Action::Step { id, step, to, .. } => (id, step, to),
            failover::Action::Startup { virtual_router } => {
                let event = vrrp::Event::Startup { primary: address(router) };
                return self.elect(router, place(&virtual_router), event);
            }
            failover::Action::PreemptAllowed { virtual_router, allowed } => {
                let event = vrrp::Event::PreemptAllowed(allowed);
                return self.elect(router, place(&virtual_router), event);
            }
            failover::Action::Withdraw { virtual_router } => {
                return self.elect(router, place(&virtual_router), vrrp::Event::Shutdown);
            }
            failover::Action::MayReturn { virtual_router } => {
                return self.elect(router, place(&virtual_router), vrrp::Event::MayReturn);
            }
            failover::Action::Priority { .. }
            | failover::Action::HandoverEnded { .. }
            | failover::Action::Serves { .. }
            | failover::Action::Stopped { .. } => return,
        };
        let outcome = match step {
            Step::Claim => self.claim(router),
            Step::Retire => {
                for member in 0..2 {
                    self.elect(router, member, vrrp::Event::Retire);
                }
                Outcome::Done(String::new())
            }
            // The elections tell it.
            Step::PeerClaims => return,
            Step::StopClaiming => {
                for member in 0..2 {
                    let backup = to == State::Backup;
                    let event =
                        if backup { vrrp::Event::Relinquish } else { vrrp::Event::Shutdown };
                    self.elect(router, member, event);
                }
                Outcome::Done(String::new())
            }
            _ => Outcome::Done(String::new()),
        };
        let event = failover::Event::Stepped { id, outcome };
        self.events.push_back(Event::Group(router, event));
    }

    /// Who could not send goes first, and the other only when that leaves now.
    fn claim(&mut self, router: usize) -> Outcome {
        let doubtful =
            |world: &Self, member: &usize| world.routers[router].members[*member].doubtful;
        let mut members = [0, 1];
        members.sort_by_key(|member| !doubtful(self, member));
        for member in members {
            self.routers[router].members[member].claims = true;
            self.elect(router, member, vrrp::Event::Claim);
            self.routers[router].members[member].claims = false;
            if doubtful(self, &member) {
                return Outcome::Failed("advertisement not sent".to_owned());
            }
        }
        Outcome::Done(String::new())
    }
}

impl Router {
    fn new(priority: u8, now: Instant) -> Self {
        let virtual_router = |name| failover::VirtualRouter {
            priority,
            ..failover::VirtualRouter::new(name, "eth0")
        };
        let group = Group {
            name: "gateway".to_owned(),
            virtual_routers: MEMBERS.map(virtual_router).into(),
            ..Group::default()
        };
        let config = failover::Config { groups: vec![group], checks: Vec::new() };
        let member = |vrid| Member {
            election: VirtualRouter::new(Config {
                priority: Priority::new(priority).unwrap(),
                advertisement_interval: INTERVAL,
                ..Config::new(Vrid::new(vrid).unwrap(), Version::V3, Family::Ipv4)
            }),
            unsent_since: None,
            doubtful: false,
            claims: false,
        };
        Self {
            failover: Failover::new(&config, now),
            members: [1, 2].map(member).into(),
            transitions: 0,
            faults: 0,
        }
    }

    fn state(&self) -> State {
        self.failover.groups()[0].state()
    }

    fn note(&mut self, before: State, after: State) {
        let is_master = |state| state == State::Master;
        self.transitions += usize::from(is_master(before) != is_master(after));
        self.faults += usize::from(before != after && after == State::Fault);
    }

    fn deadline(&self) -> Option<Instant> {
        let elections = self.members.iter().filter_map(|member| member.election.next_deadline());
        elections.chain(self.failover.next_deadline()).min()
    }
}

fn address(router: usize) -> IpAddr {
    Ipv4Addr::new(10, 1, 1, [1, 2][router]).into()
}

fn place(member: &str) -> usize {
    MEMBERS.iter().position(|name| *name == member).unwrap()
}

#[test]
fn a_router_that_cannot_send_on_one_member_hands_over_once_and_disturbs_nobody_again() {
    let mut world = World::new();
    world.sending = Sending::Fails;
    world.run(TROUBLED);
    assert_eq!(world.states()[1], State::Master);
    assert_eq!(world.routers[1].transitions, 1, "the healthy one takes over and stays");
    let tries = world.routers[0].faults;
    assert!((4..=8).contains(&tries), "it tries again {tries} times, ever later");
}

#[test]
fn a_router_that_can_only_claim_takes_mastership_ever_more_rarely() {
    let mut world = World::new();
    world.sending = Sending::FailsAfterTheClaim;
    world.run(TROUBLED);
    let (tries, changes) = (world.routers[0].faults, world.routers[1].transitions);
    assert!((4..=8).contains(&tries), "it tries again {tries} times, ever later");
    assert!(changes <= 2 * tries, "{changes} changes of the healthy one in {tries} tries");
}

#[test]
fn a_router_that_can_send_again_is_master_within_a_minute_and_an_election() {
    for sending in [Sending::Fails, Sending::FailsAfterTheClaim] {
        let mut world = World::new();
        world.sending = sending;
        world.run(TROUBLED);
        world.sending = Sending::Works;
        world.run(Duration::from_mins(1) + 10 * INTERVAL);
        assert_eq!(world.states(), [State::Master, State::Backup]);
    }
}

#[test]
fn a_group_that_was_handed_over_stays_where_it_is_until_its_master_dies() {
    let mut world = World::new();
    world.run(10 * INTERVAL);
    assert_eq!(world.states(), [State::Master, State::Backup]);
    world.switch_over(0);
    world.run(100 * INTERVAL);
    assert_eq!(world.states(), [State::Backup, State::Master], "although its priority is lower");
    let transitions = world.routers.iter().map(|router| router.transitions).sum::<usize>();
    assert_eq!(transitions, 2, "one has left and one has come since the beginning");
    world.switch_over(1);
    world.run(10 * INTERVAL);
    assert_eq!(world.states(), [State::Master, State::Backup], "and back");
}
