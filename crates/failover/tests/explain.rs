//! What a group says of itself, in each state.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic and has a clock"
)]

use std::time::{Duration, Instant};

use lockstep_failover::{
    Action, Config, Event, Explanation, Failover, Group, Outcome, Step, VirtualRouter,
    VirtualRouterEvent,
};

/// A replicated group of two, whose steps are all done at once.
struct World {
    failover: Failover,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let members = ["inside", "outside"].map(|name| VirtualRouter::new(name, "eth0"));
        let group = Group {
            name: "gateway".to_owned(),
            virtual_routers: members.to_vec(),
            replicated: true,
            ..Group::default()
        };
        let config = Config { groups: vec![group], checks: Vec::new() };
        let now = Instant::now();
        let mut world = Self { failover: Failover::new(&config, now), now };
        world.feed(Event::Start);
        world
    }

    /// Carries out what is asked; a step that `fails` fails.
    fn feed_and_fail(&mut self, event: Event, fails: Option<Step>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.failover.handle(event, self.now) {
                if let Action::Step { id, step, .. } = action {
                    let outcome = if fails == Some(step) {
                        Outcome::Failed("not permitted".to_owned())
                    } else {
                        Outcome::Done(String::new())
                    };
                    events.push(Event::Stepped { id, outcome });
                }
            }
        }
    }

    fn feed(&mut self, event: Event) {
        self.feed_and_fail(event, None);
    }

    fn usable(&mut self, member: &str, usable: Result<(), String>) {
        self.feed(Event::Interface { virtual_router: member.to_owned(), usable });
    }

    fn elect(&mut self, member: &str) {
        let event = VirtualRouterEvent::Elected { reason: "silence".to_owned() };
        self.feed(Event::VirtualRouter { name: member.to_owned(), event });
    }

    fn backup() -> Self {
        let mut world = Self::new();
        world.usable("inside", Ok(()));
        world.usable("outside", Ok(()));
        world
    }

    fn explain(&self) -> Explanation {
        self.failover.group("gateway").unwrap().explain(self.now)
    }
}

#[test]
fn a_group_that_has_not_started_says_what_it_waits_for() {
    let mut world = World::new();
    world.usable("inside", Ok(()));
    let explanation = world.explain();
    assert_eq!(explanation.because, ["waiting for the interface of outside"]);
    assert!(!explanation.asks_elections);
}

#[test]
fn a_backup_says_that_it_waits_for_flows_and_which_members_are_not_elected() {
    let mut world = World::backup();
    world.elect("inside");
    world.now += Duration::from_secs(7);
    let explanation = world.explain();
    assert!(explanation.asks_elections);
    assert_eq!(
        explanation.because[1..],
        [
            "other members are elected, and outside not: they become master together".to_owned(),
            "the peer's flows have not all arrived for 7 s: no working master is replaced"
                .to_owned(),
        ]
    );
    assert_eq!(explanation.would_change, ["replication says in sync"]);
    world.feed(Event::InSync(true));
    assert_eq!(world.explain().would_change, Vec::<String>::new());
}

#[test]
fn a_master_says_without_what_it_cannot_serve() {
    let mut world = World::backup();
    world.elect("inside");
    world.elect("outside");
    let explanation = world.explain();
    assert_eq!(explanation.because, ["silence"]);
    let expected = ["the interface of inside fails", "the interface of outside fails"];
    assert_eq!(explanation.would_change, expected);
}

#[test]
fn a_group_in_fault_says_everything_that_is_wrong() {
    let mut world = World::backup();
    world.usable("outside", Err("eth1 has no carrier".to_owned()));
    world.usable("inside", Err("eth0 is down".to_owned()));
    let explanation = world.explain();
    assert_eq!(explanation.because, ["eth0 is down", "eth1 has no carrier"]);
    assert!(!explanation.asks_elections);
}

#[test]
fn a_group_that_could_not_serve_says_when_it_tries_again() {
    let mut world = World::backup();
    world.elect("inside");
    let event = VirtualRouterEvent::Elected { reason: "silence".to_owned() };
    let last = Event::VirtualRouter { name: "outside".to_owned(), event };
    world.feed_and_fail(last, Some(Step::AddressesUp));
    for _ in 0..2 {
        world.now += Duration::from_millis(100);
        world.feed_and_fail(Event::Timeout, Some(Step::AddressesUp));
    }
    world.now += Duration::from_secs(2);
    let expected = "addresses failed: not permitted; tries again in 3.0 s";
    assert_eq!(world.explain().because, [expected]);
}
