//! A hook that its group cannot do without, and fails.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic and has a clock"
)]

use std::time::{Duration, Instant};

use lockstep_failover::{
    Action, Config, Event, Failover, Group, Outcome, State, VirtualRouter, VirtualRouterEvent,
};

const WHY: &str = "hook /opt/hook failed: exit status 1";

struct World {
    failover: Failover,
    now: Instant,
}

impl World {
    fn backup() -> Self {
        let now = Instant::now();
        let group = Group {
            name: "gateway".into(),
            virtual_routers: vec![VirtualRouter::new("inside", "eth0")],
            ..Group::default()
        };
        let config = Config { groups: vec![group], checks: Vec::new() };
        let mut world = Self { failover: Failover::new(&config, now), now };
        world.feed(Event::Start);
        world.feed(Event::Interface { virtual_router: "inside".into(), usable: Ok(()) });
        assert_eq!(world.state(), State::Backup);
        world
    }

    fn master() -> Self {
        let mut world = Self::backup();
        world.elect();
        world
    }

    fn elect(&mut self) {
        let event = VirtualRouterEvent::Elected { reason: "silence".into() };
        self.feed(Event::VirtualRouter { name: "inside".into(), event });
        assert_eq!(self.state(), State::Master);
    }

    /// Feeds it and answers every step with success.
    fn feed(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.failover.handle(event, self.now) {
                if let Action::Step { id, .. } = action {
                    events.push(Event::Stepped { id, outcome: Outcome::Done(String::new()) });
                }
            }
        }
    }

    fn hook_fails(&mut self, state: State) {
        self.feed(Event::HookFailed { group: "gateway".into(), state, why: WHY.into() });
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.feed(Event::Timeout);
    }

    fn state(&self) -> State {
        self.failover.group("gateway").unwrap().state()
    }

    fn reason(&self) -> String {
        self.failover.group("gateway").unwrap().reason()
    }
}

#[test]
fn the_group_is_in_fault_with_the_reason_and_tries_again() {
    let mut world = World::master();
    world.hook_fails(State::Master);
    assert_eq!(world.state(), State::Fault);
    assert_eq!(world.reason(), format!("{WHY}; tries again after 5 s"));
    world.advance(Duration::from_secs(5));
    assert_eq!(world.state(), State::Backup);
    assert_eq!(world.reason(), format!("recovered from: {WHY}"));
}

#[test]
fn a_failed_backup_hook_is_a_fault_too() {
    let mut world = World::backup();
    world.hook_fails(State::Backup);
    assert_eq!(world.state(), State::Fault);
}

#[test]
fn a_hook_of_a_state_that_was_left_means_nothing() {
    let mut world = World::master();
    world.hook_fails(State::Backup);
    assert_eq!(world.state(), State::Master);
}

#[test]
fn a_group_that_is_in_fault_or_has_stopped_already_stays_as_it_is() {
    let mut world = World::backup();
    let down = Err("eth0 is down".to_owned());
    world.feed(Event::Interface { virtual_router: "inside".into(), usable: down });
    world.hook_fails(State::Fault);
    assert_eq!(world.reason(), "eth0 is down");
    world.feed(Event::Interface { virtual_router: "inside".into(), usable: Ok(()) });
    assert_eq!(world.state(), State::Backup, "nothing holds it back");
    world.feed(Event::Stop);
    world.hook_fails(State::Stopped);
    assert_eq!(world.state(), State::Stopped);
}

#[test]
fn an_unknown_group_means_nothing() {
    let mut world = World::master();
    world.feed(Event::HookFailed { group: "x".into(), state: State::Master, why: WHY.into() });
    assert_eq!(world.state(), State::Master);
}

#[test]
fn however_late_hooks_fail_the_waits_get_longer() {
    let mut world = World::master();
    for seconds in [5, 10, 20, 40, 60, 60] {
        // Longer than any wait: without the failure this would have been a mastership that lasted.
        world.advance(Duration::from_mins(2));
        world.hook_fails(State::Master);
        assert_eq!(world.reason(), format!("{WHY}; tries again after {seconds} s"));
        world.advance(Duration::from_secs(seconds));
        world.elect();
    }
    // This one lasts, and what comes after it begins anew.
    world.advance(Duration::from_mins(2));
    let reason = "10.1.1.2 has priority 150".to_owned();
    let event = VirtualRouterEvent::Superseded { reason };
    world.feed(Event::VirtualRouter { name: "inside".into(), event });
    world.hook_fails(State::Backup);
    assert_eq!(world.reason(), format!("{WHY}; tries again after 5 s"));
}
