//! Any sequence of events: one step at a time, never an address before its commit, always an end.

#![expect(clippy::disallowed_methods, reason = "a test has a clock")]

use std::time::{Duration, Instant};

use lockstep_failover::{
    Action, Check, Config, Event, Failover, Group, Outcome, State, Step, StepId, VirtualRouter,
    VirtualRouterEvent,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Move {
    Elected(bool),
    Deferred(bool),
    Superseded(bool),
    Interface(bool, bool),
    Check(bool),
    Answer(bool),
    LateAnswer(u64),
    InSync(bool),
    Succeeded(bool),
    Switchover(bool),
    Maintain(bool),
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => any::<bool>().prop_map(Move::Elected),
        1 => any::<bool>().prop_map(Move::Deferred),
        1 => any::<bool>().prop_map(Move::Superseded),
        1 => any::<(bool, bool)>().prop_map(|(which, up)| Move::Interface(which, up)),
        1 => any::<bool>().prop_map(Move::Check),
        8 => prop::bool::weighted(0.9).prop_map(Move::Answer),
        1 => (0u64..50).prop_map(Move::LateAnswer),
        1 => any::<bool>().prop_map(Move::InSync),
        2 => any::<bool>().prop_map(Move::Succeeded),
        1 => any::<bool>().prop_map(Move::Switchover),
        1 => prop::bool::weighted(0.3).prop_map(Move::Maintain),
        2 => (0u64..40_000).prop_map(Move::Wait),
    ];
    prop::collection::vec(one, 0..200)
}

fn member(which: bool) -> String {
    if which { "inside" } else { "outside" }.to_owned()
}

struct Watch {
    outstanding: Option<(StepId, Step)>,
    committed: bool,
    claimed: bool,
    /// Whether forwarding is held back at times, and is now.
    holds: bool,
    held: bool,
}

impl Watch {
    fn see(&mut self, actions: &[Action]) {
        for action in actions {
            let Action::Step { id, step, .. } = action else { continue };
            match step {
                Step::Claim => (self.claimed, self.committed) = (true, false),
                Step::StopClaiming => self.claimed = false,
                Step::HoldForwarding => {
                    assert!(!self.claimed && self.holds, "forwarding held too late or unasked");
                    self.held = true;
                }
                Step::PassForwarding => self.held = false,
                Step::AddressesUp => {
                    assert!(self.committed, "addresses before the commit");
                    assert!(!self.held, "addresses of a router that passes nothing on");
                }
                Step::CommitFlows => {
                    assert!(self.claimed, "a commit without a claim");
                    assert_eq!(self.held, self.holds, "forwarding during a commit");
                }
                Step::LinksUp | Step::RoutesUp | Step::Announce | Step::ReplicateActive => {
                    assert!(self.claimed, "{step:?} without a claim");
                }
                _ => {}
            }
            self.outstanding = Some((*id, *step));
        }
    }

    /// The commit has ended one way or another; only then may addresses follow.
    fn ended(&mut self, step: Step) {
        self.committed |= step == Step::CommitFlows;
    }
}

proptest! {
    #[test]
    fn every_sequence_keeps_the_order_and_comes_to_an_end(moves in moves(), holds: bool) {
        let mut now = Instant::now();
        let names = ["inside", "outside"];
        let config = Config {
            groups: vec![Group {
                name: "gateway".into(),
                virtual_routers: names
                    .map(|name| VirtualRouter::new(name, "eth0"))
                    .to_vec(),
                checks: vec!["heartbeat".into()],
                replicated: true,
                holds_forwarding: holds,
                ..Group::default()
            }],
            checks: vec![Check {
                name: "heartbeat".into(),
                command: vec!["/bin/true".into()],
                user: None,
                interval: Duration::from_secs(5),
                timeout: Duration::from_secs(5),
                rise: 1,
                fall: 1,
            }],
        };
        let mut failover = Failover::new(&config, now);
        let mut watch = Watch { outstanding: None, committed: false, claimed: false, holds, held: false };
        let actions = failover.handle(Event::Start, now);
        watch.see(&actions);
        for one in moves {
            let event = match one {
                Move::Elected(which) => Event::VirtualRouter {
                    name: member(which),
                    event: VirtualRouterEvent::Elected { reason: "silence".into() },
                },
                Move::Deferred(which) => Event::VirtualRouter {
                    name: member(which),
                    event: VirtualRouterEvent::Deferred,
                },
                Move::Superseded(which) => Event::VirtualRouter {
                    name: member(which),
                    event: VirtualRouterEvent::Superseded { reason: "better".into() },
                },
                Move::Interface(which, up) => Event::Interface {
                    virtual_router: member(which),
                    usable: if up { Ok(()) } else { Err("down".into()) },
                },
                Move::Check(success) => Event::Check {
                    name: "heartbeat".into(),
                    success,
                    detail: "ended".into(),
                },
                Move::Answer(good) => {
                    let Some((id, step)) = watch.outstanding.take() else { continue };
                    if good { watch.ended(step); }
                    let outcome = if good { Outcome::Done(String::new()) } else { Outcome::Failed("no".into()) };
                    Event::Stepped { id, outcome }
                }
                Move::LateAnswer(id) => {
                    if watch.outstanding.is_some_and(|(expected, _)| expected == StepId(id)) { continue }
                    Event::Stepped { id: StepId(id), outcome: Outcome::Done(String::new()) }
                }
                Move::InSync(in_sync) => Event::InSync(in_sync),
                Move::Succeeded(which) => Event::VirtualRouter {
                    name: member(which),
                    event: VirtualRouterEvent::Succeeded { by: "192.0.2.3".parse().unwrap() },
                },
                Move::Switchover(force) => {
                    if let Ok(actions) = failover.switchover("gateway", force, now) {
                        watch.see(&actions);
                    }
                    continue;
                }
                Move::Maintain(on) => {
                    let since = on.then(|| "today".to_owned());
                    let actions = failover.maintain("gateway", since, now).unwrap();
                    watch.see(&actions);
                    continue;
                }
                Move::Wait(milliseconds) => {
                    now += Duration::from_millis(milliseconds);
                    watch.ended(Step::CommitFlows);
                    Event::Timeout
                }
            };
            if let Event::Stepped { outcome: Outcome::Failed(_), .. } = &event {
                watch.ended(Step::CommitFlows);
            }
            let actions = failover.handle(event, now);
            watch.see(&actions);
        }
        watch.see(&failover.maintain("gateway", None, now).unwrap());
        // Once the faults stop, the group settles as master when it is elected.
        for name in names {
            let up = Event::Interface { virtual_router: name.into(), usable: Ok(()) };
            watch.see(&failover.handle(up, now));
        }
        let good = Event::Check { name: "heartbeat".into(), success: true, detail: "ended".into() };
        watch.see(&failover.handle(good, now));
        for _ in 0..3 {
            settle(&mut failover, &mut watch, now);
            now += Duration::from_mins(1);
            watch.ended(Step::CommitFlows);
            watch.see(&failover.handle(Event::Timeout, now));
        }
        settle(&mut failover, &mut watch, now);
        prop_assert!(!watch.held, "nothing is passed on for good");
        prop_assert!(matches!(failover.groups()[0].state(), State::Backup | State::Master));
        for name in names {
            let event = VirtualRouterEvent::Elected { reason: "silence".into() };
            watch.see(&failover.handle(Event::VirtualRouter { name: name.into(), event }, now));
        }
        settle(&mut failover, &mut watch, now);
        prop_assert_eq!(failover.groups()[0].state(), State::Master);
        prop_assert!(!watch.held, "nothing is passed on for good");
        prop_assert_eq!(failover.next_deadline(), None);
    }
}

/// Answers whatever step is open with success; ids are tried in order, as only the open one counts.
fn settle(failover: &mut Failover, watch: &mut Watch, mut now: Instant) {
    for _ in 0..5 {
        for id in 0..2_000 {
            if failover.groups()[0].is_settled() {
                return;
            }
            let event = Event::Stepped { id: StepId(id), outcome: Outcome::Done(String::new()) };
            watch.ended(Step::CommitFlows);
            watch.see(&failover.handle(event, now));
        }
        now += Duration::from_millis(100);
        watch.see(&failover.handle(Event::Timeout, now));
    }
    panic!("the group does not settle");
}
