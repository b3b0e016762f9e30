//! Planned hand-over and maintenance: the old master serves until the new one does.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic and has a clock"
)]

use std::net::IpAddr;
use std::time::{Duration, Instant};

use lockstep_failover::{
    Action, Check, Config, Event, Failover, Group, HAND_OVER_LIMIT, HandedOver, Outcome, State,
    Step, StepId, VirtualRouter, VirtualRouterEvent,
};

const MEMBERS: [&str; 2] = ["inside", "outside6"];
const SINCE: &str = "2026-03-01T12:00:00Z";

/// A group of two members with a check, and what it asked for since it was looked at last.
struct Desk {
    failover: Failover,
    now: Instant,
    open: Option<(StepId, Step)>,
    given: Vec<Action>,
}

impl Desk {
    fn new(replicated: bool) -> Self {
        let now = Instant::now();
        let check = Check {
            name: "heartbeat".into(),
            command: vec!["/bin/true".into()],
            user: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            rise: 1,
            fall: 1,
        };
        let group = Group {
            name: "gateway".into(),
            virtual_routers: MEMBERS.map(|name| VirtualRouter::new(name, "eth0")).to_vec(),
            checks: vec!["heartbeat".into()],
            replicated,
            ..Group::default()
        };
        let config = Config { groups: vec![group], checks: vec![check] };
        let failover = Failover::new(&config, now);
        let mut desk = Self { failover, now, open: None, given: Vec::new() };
        desk.feed(Event::Start);
        desk
    }

    fn backup(replicated: bool) -> Self {
        let mut desk = Self::new(replicated);
        desk.fit();
        desk.settle();
        assert_eq!(desk.state(), State::Backup);
        desk
    }

    /// A settled master whose peer has been told all.
    fn master(replicated: bool) -> Self {
        let mut desk = Self::backup(replicated);
        for member in MEMBERS {
            desk.elect(member);
        }
        desk.settle();
        desk.feed(Event::InSync(true));
        assert_eq!(desk.state(), State::Master);
        desk.given.clear();
        desk
    }

    /// A master that has retired, and waits for a claim.
    fn retired() -> Self {
        let mut desk = Self::master(true);
        desk.switchover(false).unwrap();
        desk.done(Step::Barrier);
        desk.done(Step::Retire);
        assert_eq!(desk.waits_for(), Some(Step::PeerClaims));
        desk
    }

    /// One that waits until the router that has claimed serves.
    fn claimed() -> Self {
        let mut desk = Self::retired();
        for member in MEMBERS {
            desk.succeed(member);
        }
        assert_eq!(desk.waits_for(), Some(Step::PeerServes));
        desk
    }

    fn take(&mut self, actions: Vec<Action>) {
        for action in &actions {
            if let Action::Step { id, step, .. } = action {
                self.open = Some((*id, *step));
            }
        }
        self.given.extend(actions);
    }

    fn feed(&mut self, event: Event) {
        let actions = self.failover.handle(event, self.now);
        self.take(actions);
    }

    fn switchover(&mut self, force: bool) -> Result<(), String> {
        let actions = self.failover.switchover("gateway", force, self.now)?;
        self.take(actions);
        Ok(())
    }

    fn maintain(&mut self, on: bool) {
        let since = on.then(|| SINCE.to_owned());
        let actions = self.failover.maintain("gateway", since, self.now).unwrap();
        self.take(actions);
    }

    fn fit(&mut self) {
        for member in MEMBERS {
            self.feed(Event::Interface { virtual_router: member.into(), usable: Ok(()) });
        }
        self.check(true);
    }

    fn check(&mut self, success: bool) {
        self.feed(Event::Check { name: "heartbeat".into(), success, detail: "ended".into() });
    }

    fn tell(&mut self, member: &str, event: VirtualRouterEvent) {
        self.feed(Event::VirtualRouter { name: member.into(), event });
    }

    fn elect(&mut self, member: &str) {
        self.tell(member, VirtualRouterEvent::Elected { reason: "silence".into() });
    }

    fn succeed(&mut self, member: &str) {
        self.tell(member, VirtualRouterEvent::Succeeded { by: peer() });
    }

    fn group(&self) -> &lockstep_failover::group::Group {
        self.failover.group("gateway").unwrap()
    }

    fn state(&self) -> State {
        self.group().state()
    }

    fn waits_for(&self) -> Option<Step> {
        self.group().step()
    }

    fn answer(&mut self, outcome: Outcome) {
        let (id, _) = self.open.expect("a step was given out");
        self.feed(Event::Stepped { id, outcome });
    }

    fn done(&mut self, step: Step) {
        assert_eq!(self.waits_for(), Some(step));
        self.answer(Outcome::Done(String::new()));
    }

    fn failed(&mut self, step: Step, why: &str) {
        assert_eq!(self.waits_for(), Some(step));
        self.answer(Outcome::Failed(why.to_owned()));
    }

    fn settle(&mut self) {
        while !self.group().is_settled() {
            self.answer(Outcome::Done(String::new()));
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.feed(Event::Timeout);
    }

    /// The steps given out since the beginning of the test, in order.
    fn steps(&self) -> Vec<Step> {
        let step = |action: &Action| match action {
            Action::Step { step, .. } => Some(*step),
            _ => None,
        };
        self.given.iter().filter_map(step).collect()
    }

    /// How hand-overs have ended.
    fn ends(&self) -> Vec<Result<HandedOver, String>> {
        let end = |action: &Action| match action {
            Action::HandoverEnded { result, .. } => Some(result.clone()),
            _ => None,
        };
        self.given.iter().filter_map(end).collect()
    }

    fn withdrawn(&self) -> usize {
        self.given.iter().filter(|one| matches!(one, Action::Withdraw { .. })).count()
    }

    fn last_entry(&self) -> (State, State, Vec<(Step, bool)>) {
        let entry = self.failover.journal().transitions().next_back().unwrap();
        let well = |outcome: &Outcome| !matches!(outcome, Outcome::Failed(_));
        let steps = entry.steps.iter();
        let steps = steps.map(|step| (step.step, step.ended.as_ref().is_some_and(|e| well(&e.1))));
        (entry.from, entry.to, steps.collect())
    }
}

fn peer() -> IpAddr {
    "192.0.2.3".parse().unwrap()
}

const LEAVING: [Step; 6] = [
    Step::StopClaiming,
    Step::AddressesDown,
    Step::RoutesDown,
    Step::LinksDown,
    Step::ReplicateBackup,
    Step::Hooks,
];

#[test]
fn the_addresses_go_when_the_peer_serves_and_not_before() {
    let mut desk = Desk::master(true);
    desk.switchover(false).unwrap();
    let first = [Step::Barrier, Step::Retire, Step::PeerClaims, Step::PeerServes];
    desk.done(Step::Barrier);
    desk.done(Step::Retire);
    desk.advance(Duration::from_millis(8));
    desk.succeed("inside");
    assert_eq!(desk.waits_for(), Some(Step::PeerClaims), "a part of the group is not enough");
    desk.succeed("outside6");
    desk.advance(Duration::from_millis(4));
    assert_eq!((desk.state(), desk.steps()), (State::Master, first.to_vec()));
    desk.done(Step::PeerServes);
    assert_eq!(desk.state(), State::Backup);
    assert_eq!(desk.group().reason(), "handed over to 192.0.2.3 on request");
    assert!(desk.ends().is_empty(), "it is told when the group has left");
    desk.settle();
    assert_eq!(desk.steps(), [&first[..], &LEAVING[..]].concat());
    let expected = HandedOver {
        to: Some(peer()),
        announced: true,
        prepared_after: Duration::ZERO,
        claimed_after: Some(Duration::from_millis(8)),
        served_after: Some(Duration::from_millis(12)),
    };
    assert_eq!(desk.ends(), [Ok(expected)]);
    let (from, to, steps) = desk.last_entry();
    assert_eq!((from, to), (State::Master, State::Backup));
    assert_eq!(steps.len(), 10, "one entry has all of it: {steps:?}");
}

#[test]
fn what_cannot_be_handed_over_is_refused_with_the_reason() {
    let mut desk = Desk::backup(true);
    assert_eq!(desk.switchover(true).unwrap_err(), "gateway is backup here, not master");
    let mut desk = Desk::master(true);
    assert_eq!(
        desk.failover.switchover("other", false, desk.now),
        Err("there is no group other".to_owned())
    );
    desk.switchover(false).unwrap();
    assert_eq!(desk.switchover(true).unwrap_err(), "gateway is in a transition: barrier");
    let mut desk = Desk::master(false);
    let why = desk.switchover(false).unwrap_err();
    assert!(why.contains("not replicated") && why.contains("--force"), "{why}");
    desk.switchover(true).unwrap();
    assert_eq!(desk.waits_for(), Some(Step::Retire), "there is nothing to wait for first");
}

#[test]
fn a_peer_that_does_not_hold_everything_keeps_the_group_master() {
    let mut desk = Desk::master(true);
    desk.switchover(false).unwrap();
    desk.failed(Step::Barrier, "no peer is there");
    assert_eq!(desk.ends(), [Err("no peer is there".to_owned())]);
    assert!(desk.group().is_settled());
    assert_eq!((desk.state(), desk.steps()), (State::Master, vec![Step::Barrier]));
    assert_eq!(desk.last_entry(), (State::Master, State::Master, vec![(Step::Barrier, false)]));
    desk.switchover(true).unwrap();
    desk.failed(Step::Barrier, "no peer is there");
    assert_eq!(desk.waits_for(), Some(Step::Retire), "unless it is forced");
}

#[test]
fn a_replicator_that_does_not_answer_is_no_barrier() {
    let mut desk = Desk::master(true);
    desk.switchover(false).unwrap();
    let due = desk.failover.next_deadline().unwrap();
    desk.advance(due - desk.now);
    assert_eq!(desk.ends().len(), 1);
    assert!(desk.ends()[0].as_ref().unwrap_err().starts_with("no answer within"));
    assert!(desk.group().is_settled() && desk.state() == State::Master);
}

#[test]
fn when_nobody_claims_the_group_claims_again_and_has_lost_nothing() {
    let mut desk = Desk::retired();
    desk.elect("outside6");
    assert_eq!(desk.waits_for(), Some(Step::Claim));
    desk.settle();
    assert_eq!(desk.state(), State::Master);
    let steps = [Step::Barrier, Step::Retire, Step::PeerClaims, Step::Claim, Step::Announce];
    assert_eq!(desk.steps(), steps);
    assert_eq!(desk.ends(), [Err("silence".to_owned())]);
    let (from, to, timeline) = desk.last_entry();
    assert_eq!((from, to), (State::Master, State::Master));
    assert_eq!(timeline[2], (Step::PeerClaims, false));
    desk.switchover(false).unwrap();
}

#[test]
fn an_election_that_says_nothing_holds_a_hand_over_up_no_longer_than_a_minute() {
    let mut desk = Desk::retired();
    desk.succeed("inside");
    desk.advance(Duration::from_mins(1));
    desk.settle();
    assert_eq!(desk.state(), State::Master);
    let why = desk.ends()[0].clone().unwrap_err();
    assert!(why.starts_with("no other router has claimed mastership"), "{why}");
}

#[test]
fn a_peer_that_claims_and_dies_is_replaced_by_the_old_master() {
    let mut desk = Desk::claimed();
    desk.elect("inside");
    desk.settle();
    assert_eq!(desk.state(), State::Master);
    assert!(!desk.steps().contains(&Step::AddressesDown), "it has served all the time");
    assert_eq!(desk.ends().len(), 1);
}

#[test]
fn a_peer_that_claims_and_never_announces_has_its_time() {
    let mut desk = Desk::claimed();
    desk.advance(HAND_OVER_LIMIT.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(desk.state(), State::Master);
    desk.advance(Duration::from_millis(1));
    assert_eq!(desk.state(), State::Backup);
    desk.settle();
    let end = desk.ends()[0].clone().unwrap();
    assert_eq!((end.to, end.announced, end.served_after), (Some(peer()), false, None));
}

#[test]
fn a_claim_that_comes_before_the_retirement_is_answered_counts() {
    let mut desk = Desk::master(true);
    desk.switchover(false).unwrap();
    desk.done(Step::Barrier);
    for member in MEMBERS {
        desk.succeed(member);
    }
    desk.done(Step::Retire);
    assert_eq!(desk.waits_for(), Some(Step::PeerServes));
}

#[test]
fn a_retirement_that_cannot_be_said_is_taken_back() {
    let mut desk = Desk::master(true);
    desk.switchover(false).unwrap();
    desk.done(Step::Barrier);
    desk.failed(Step::Retire, "no buffer space");
    assert_eq!(desk.waits_for(), Some(Step::Claim));
    desk.settle();
    assert_eq!(desk.ends(), [Err("retire failed: no buffer space".to_owned())]);
}

#[test]
fn a_fault_in_the_middle_is_a_fault() {
    for mut desk in [Desk::retired(), Desk::claimed()] {
        desk.check(false);
        assert_eq!(desk.state(), State::Fault);
        assert_eq!(desk.ends(), [Err("check heartbeat failed: ended".to_owned())]);
        desk.settle();
        assert_eq!(desk.steps()[desk.steps().len() - 6..], LEAVING);
    }
}

#[test]
fn a_better_router_during_the_barrier_ends_it() {
    let mut desk = Desk::master(true);
    desk.switchover(false).unwrap();
    let reason = "a better one".to_owned();
    desk.tell("inside", VirtualRouterEvent::Superseded { reason: reason.clone() });
    assert_eq!((desk.state(), desk.ends()), (State::Backup, vec![Err(reason)]));
}

#[test]
fn a_daemon_that_stops_hands_over_to_a_peer_that_is_in_sync() {
    let mut desk = Desk::master(true);
    desk.feed(Event::Stop);
    desk.done(Step::Barrier);
    desk.done(Step::Retire);
    for member in MEMBERS {
        desk.succeed(member);
    }
    assert_eq!(desk.state(), State::Master);
    desk.done(Step::PeerServes);
    desk.settle();
    assert_eq!(desk.state(), State::Stopped);
    assert!(desk.given.iter().any(|one| matches!(one, Action::Stopped { .. })));
}

#[test]
fn a_daemon_that_stops_waits_a_few_seconds_at_most() {
    let mut desk = Desk::master(true);
    let began = desk.now;
    desk.feed(Event::Stop);
    while desk.state() == State::Master {
        let due = desk.failover.next_deadline().unwrap();
        match desk.waits_for() {
            Some(Step::Retire) => desk.done(Step::Retire),
            Some(Step::Barrier) => {
                desk.now = due.checked_sub(Duration::from_millis(1)).unwrap();
                desk.done(Step::Barrier);
            }
            _ => desk.advance(due - desk.now),
        }
    }
    assert_eq!(desk.state(), State::Stopped, "nobody has claimed, and it ends all the same");
    assert!(desk.now - began <= Duration::from_secs(8), "{:?}", desk.now - began);
}

#[test]
fn a_daemon_that_stops_without_a_peer_says_priority_zero_at_once() {
    let mut desk = Desk::master(true);
    desk.feed(Event::InSync(false));
    desk.feed(Event::Stop);
    assert_eq!((desk.state(), desk.steps()), (State::Stopped, vec![Step::StopClaiming]));
    let mut desk = Desk::master(false);
    desk.feed(Event::Stop);
    assert_eq!(desk.state(), State::Stopped);
}

#[test]
fn told_to_stop_twice_it_ends_without_handing_over() {
    let mut desk = Desk::master(true);
    desk.feed(Event::Stop);
    desk.done(Step::Barrier);
    assert_eq!(desk.state(), State::Master);
    desk.feed(Event::Stop);
    assert_eq!(desk.state(), State::Stopped);
    assert_eq!(desk.waits_for(), Some(Step::StopClaiming));
}

#[test]
fn a_stop_during_a_switchover_ends_in_stopped() {
    let mut desk = Desk::claimed();
    desk.feed(Event::Stop);
    assert_eq!(desk.state(), State::Master);
    let due = desk.failover.next_deadline().unwrap();
    assert!(due - desk.now <= Duration::from_secs(3), "and sooner");
    desk.done(Step::PeerServes);
    assert_eq!(desk.state(), State::Stopped);
}

#[test]
fn maintenance_hands_over_and_leaves_the_elections() {
    let mut desk = Desk::master(true);
    desk.maintain(true);
    assert_eq!(desk.waits_for(), Some(Step::Barrier));
    desk.done(Step::Barrier);
    desk.done(Step::Retire);
    for member in MEMBERS {
        desk.succeed(member);
    }
    assert_eq!(desk.withdrawn(), 0);
    desk.done(Step::PeerServes);
    desk.settle();
    assert_eq!((desk.state(), desk.withdrawn()), (State::Backup, 2));
    assert_eq!(desk.group().reason(), format!("in maintenance since {SINCE}"));
    assert_eq!(desk.group().in_maintenance_since(), Some(SINCE));
    let explained = desk.group().explain(desk.now);
    assert_eq!(explained.would_change, ["`lockstep maintenance off`"]);
    for member in MEMBERS {
        desk.elect(member);
    }
    assert_eq!(desk.state(), State::Backup, "nothing makes it master");
}

#[test]
fn maintenance_is_an_order_also_without_a_peer() {
    let mut desk = Desk::master(true);
    desk.maintain(true);
    desk.failed(Step::Barrier, "no peer is there");
    assert_eq!((desk.state(), desk.withdrawn()), (State::Backup, 2));
    desk.settle();
    assert_eq!(desk.ends(), [Err("no peer is there".to_owned())]);

    let mut desk = Desk::master(false);
    desk.maintain(true);
    desk.done(Step::Retire);
    desk.elect("inside");
    assert_eq!((desk.state(), desk.withdrawn()), (State::Backup, 2));
}

#[test]
fn in_maintenance_nothing_is_a_fault() {
    let mut desk = Desk::backup(true);
    desk.maintain(true);
    assert!(desk.group().is_settled(), "a backup has nothing to do for it");
    desk.check(false);
    let down = Err("eth0 is down".to_owned());
    desk.feed(Event::Interface { virtual_router: "inside".into(), usable: down });
    assert_eq!(desk.state(), State::Backup);
    desk.given.clear();
    desk.maintain(false);
    assert_eq!(desk.state(), State::Fault, "afterwards it is");
    desk.settle();
    desk.fit();
    desk.settle();
    assert_eq!(desk.state(), State::Backup);
}

#[test]
fn a_fault_ends_with_maintenance() {
    let mut desk = Desk::backup(true);
    desk.check(false);
    desk.settle();
    assert_eq!(desk.state(), State::Fault);
    desk.maintain(true);
    assert_eq!(desk.state(), State::Backup);
}

#[test]
fn after_maintenance_the_members_take_part_as_any_other() {
    let mut desk = Desk::backup(true);
    desk.maintain(true);
    desk.given.clear();
    desk.maintain(false);
    let words: Vec<_> = desk.given.iter().map(|action| format!("{action:?}")).collect();
    let count = |word: &str| words.iter().filter(|one| one.starts_with(word)).count();
    assert_eq!((count("MayReturn"), count("Startup"), words.len()), (2, 2, 4), "{words:?}");
    assert_eq!(desk.group().reason(), "maintenance has ended");
    for member in MEMBERS {
        desk.elect(member);
    }
    assert_eq!(desk.state(), State::Master);
}

#[test]
fn a_router_that_starts_in_maintenance_waits_for_nothing() {
    let mut desk = Desk::new(true);
    desk.maintain(true);
    desk.settle();
    assert_eq!(desk.state(), State::Backup);
    desk.fit();
    assert_eq!(desk.state(), State::Backup);
    assert!(!desk.given.iter().any(|one| matches!(one, Action::Startup { .. })));
    desk.maintain(false);
    assert!(desk.given.iter().any(|one| matches!(one, Action::Startup { .. })));
}

#[test]
fn maintenance_said_again_changes_nothing_and_ends_on_order_only() {
    let mut desk = Desk::backup(true);
    desk.maintain(false);
    assert_eq!(desk.withdrawn(), 0);
    desk.maintain(true);
    desk.given.clear();
    desk.maintain(true);
    assert!(desk.given.is_empty());
    desk.feed(Event::Stop);
    desk.settle();
    assert_eq!(desk.state(), State::Stopped);
}

/// Whoever may return does not say who has succeeded it: told too early, both have the addresses until
/// the wait for a claim is over.
#[test]
fn maintenance_that_ends_before_it_has_begun_still_hears_who_succeeds() {
    let may_return = |desk: &Desk| {
        desk.given.iter().filter(|one| matches!(one, Action::MayReturn { .. })).count()
    };
    let mut desk = Desk::master(true);
    desk.maintain(true);
    desk.done(Step::Barrier);
    desk.done(Step::Retire);
    desk.maintain(false);
    assert_eq!((desk.waits_for(), may_return(&desk)), (Some(Step::PeerClaims), 0));
    for member in MEMBERS {
        desk.succeed(member);
    }
    assert_eq!((desk.waits_for(), may_return(&desk)), (Some(Step::PeerServes), 0));
    desk.done(Step::PeerServes);
    assert_eq!(may_return(&desk), 2, "it may as soon as it has left");
    desk.settle();
    assert_eq!(desk.state(), State::Backup);
}

#[test]
fn a_daemon_that_ends_in_maintenance_still_hears_who_succeeds_when_that_is_over() {
    let mut desk = Desk::master(true);
    desk.maintain(true);
    desk.done(Step::Barrier);
    desk.done(Step::Retire);
    desk.feed(Event::Stop);
    desk.given.clear();
    desk.maintain(false);
    assert_eq!(desk.given, []);
    for member in MEMBERS {
        desk.succeed(member);
    }
    desk.done(Step::PeerServes);
    assert_eq!(desk.state(), State::Stopped);
}
