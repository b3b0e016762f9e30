//! Two routers, each with one group of two virtual routers. One of the four cannot send: the healthy
//! router is left alone. One comes later or goes, on one router after the other: nobody moves.

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
const PRIORITIES: [u8; 2] = [150, 100];
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
        Self::with(&MEMBERS)
    }

    /// The same with groups of these members.
    fn with(members: &[&str]) -> Self {
        let now = Instant::now();
        let routers = PRIORITIES.map(|priority| Router::new(priority, members, now)).into();
        let mut world = Self { routers, events: VecDeque::new(), sending: Sending::Works, now };
        for router in 0..2 {
            world.events.push_back(Event::Group(router, failover::Event::Start));
            for member in members {
                let member = *member;
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

    /// Has a router's group consist of these members.
    fn reload(&mut self, router: usize, members: &[&str]) {
        let machine = &mut self.routers[router];
        let gone =
            |name: &&str| !members.contains(name) && machine.failover.group_of(name).is_some();
        let gone: Vec<String> = MEMBERS.into_iter().filter(gone).map(str::to_owned).collect();
        let come: Vec<&str> = members
            .iter()
            .copied()
            .filter(|name| machine.failover.group_of(name).is_none())
            .collect();
        let actions = machine.failover.leave(&[], &gone, self.now);
        assert!(machine.failover.has_left());
        let config = config(PRIORITIES[router], members);
        let configured = machine.failover.configure(&config, self.now);
        for action in actions.into_iter().chain(configured) {
            self.carry_out(router, action);
        }
        for name in come {
            let virtual_router = name.to_owned();
            let event = failover::Event::Interface { virtual_router, usable: Ok(()) };
            self.events.push_back(Event::Group(router, event));
        }
    }

    /// The elections of one member, by router.
    fn elections(&self, member: usize) -> [StateName; 2] {
        [0, 1].map(|router| self.routers[router].members[member].election.state().name())
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
            failover::Action::Claim { virtual_router } => {
                return self.elect(router, place(&virtual_router), vrrp::Event::Claim);
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

fn config(priority: u8, members: &[&str]) -> failover::Config {
    let virtual_router = |name: &&str| failover::VirtualRouter {
        priority,
        ..failover::VirtualRouter::new(*name, "eth0")
    };
    let group = Group {
        name: "gateway".to_owned(),
        virtual_routers: members.iter().map(virtual_router).collect(),
        ..Group::default()
    };
    failover::Config { groups: vec![group], checks: Vec::new() }
}

impl Router {
    fn new(priority: u8, members: &[&str], now: Instant) -> Self {
        let config = config(priority, members);
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

/// After how long the second router is reloaded: at once, and at every tenth of what an election takes.
fn gaps() -> impl Iterator<Item = Duration> {
    (0..=40).map(|tenths| tenths * INTERVAL / 10)
}

#[test]
fn a_member_comes_and_goes_on_one_router_after_the_other_and_no_group_moves() {
    for (first, gap) in [0, 1].into_iter().flat_map(|first| gaps().map(move |gap| (first, gap))) {
        let mut world = World::with(&MEMBERS[..1]);
        for members in [&MEMBERS[..], &MEMBERS[1..], &[MEMBERS[1], MEMBERS[0]], &MEMBERS[..1]] {
            world.reload(first, members);
            world.run(gap);
            world.reload(1 - first, members);
            world.run(10 * INTERVAL);
            assert_eq!(
                world.states(),
                [State::Master, State::Backup],
                "{first} {gap:?} {members:?}"
            );
            for (member, name) in MEMBERS.iter().enumerate() {
                let takes_part = members.contains(name);
                let expected = if takes_part {
                    [StateName::Master, StateName::Backup]
                } else {
                    [StateName::Initialize; 2]
                };
                assert_eq!(world.elections(member), expected, "{first} {gap:?} {members:?}");
            }
        }
        for router in &world.routers {
            assert_eq!((router.transitions, router.faults), (0, 0), "{first} {gap:?}");
        }
    }
}

#[test]
fn a_hand_over_amid_a_coming_member_ends_with_one_master_of_all() {
    for (first, gap) in [0, 1].into_iter().flat_map(|first| gaps().map(move |gap| (first, gap))) {
        let mut world = World::with(&MEMBERS[..1]);
        world.reload(first, &MEMBERS);
        world.run(gap);
        world.switch_over(0);
        world.reload(1 - first, &MEMBERS);
        world.run(100 * INTERVAL);
        let master = world.states().iter().position(|state| *state == State::Master).unwrap();
        assert_eq!(world.states()[1 - master], State::Backup, "{first} {gap:?}");
        for member in 0..2 {
            let elections = world.elections(member);
            assert_eq!(elections[master], StateName::Master, "{first} {gap:?} {member}");
            assert_eq!(elections[1 - master], StateName::Backup, "{first} {gap:?} {member}");
        }
    }
}
