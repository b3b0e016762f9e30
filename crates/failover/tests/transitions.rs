//! The transitions of a group: their order, what cuts them, what a failed step leads to.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic and has a clock"
)]

#[path = "transitions/holding.rs"]
mod holding;

use std::time::{Duration, Instant};

use lockstep_failover::{
    Action, Check, Config, Event, Failover, Group, Limits, Outcome, State, Step, StepId,
    VirtualRouter, VirtualRouterEvent,
};

/// A machine, its clock, and what it asked for so far.
struct World {
    failover: Failover,
    now: Instant,
    given: Vec<Action>,
}

impl World {
    fn new(members: &[&str], checks: &[&str], replicated: bool) -> Self {
        let now = Instant::now();
        let config = config(members, checks, replicated);
        let mut world = Self { failover: Failover::new(&config, now), now, given: Vec::new() };
        world.feed(Event::Start);
        world
    }

    /// A replicated group of one that has these limits.
    fn with_limits(limits: Limits) -> Self {
        let now = Instant::now();
        let mut config = config(&["inside"], &[], true);
        config.groups[0].limits = limits;
        let mut world = Self { failover: Failover::new(&config, now), now, given: Vec::new() };
        world.feed(Event::Start);
        world
    }

    /// A replicated group of one that has become backup and is settled.
    fn backup() -> Self {
        let mut world = Self::new(&["inside"], &[], true);
        world.usable("inside", Ok(()));
        world.complete();
        world
    }

    fn master() -> Self {
        let mut world = Self::backup();
        world.elect("inside");
        world.complete();
        assert_eq!(world.state(), State::Master);
        world
    }

    fn feed(&mut self, event: Event) {
        let actions = self.failover.handle(event, self.now);
        self.given.extend(actions);
    }

    fn usable(&mut self, name: &str, usable: Result<(), String>) {
        self.feed(Event::Interface { virtual_router: name.into(), usable });
    }

    fn virtual_router(&mut self, name: &str, event: VirtualRouterEvent) {
        self.feed(Event::VirtualRouter { name: name.into(), event });
    }

    fn elect(&mut self, name: &str) {
        self.virtual_router(name, VirtualRouterEvent::Elected { reason: "silence".into() });
    }

    fn check(&mut self, success: bool) {
        let detail = if success { "exit status 0" } else { "exit status 1" };
        self.feed(Event::Check { name: "heartbeat".into(), success, detail: detail.into() });
    }

    fn state(&self) -> State {
        self.failover.group("gateway").unwrap().state()
    }

    /// The newest step that was given out.
    fn pending(&self) -> Option<(StepId, Step)> {
        self.given.iter().rev().find_map(|action| match action {
            Action::Step { id, step, .. } => Some((*id, *step)),
            _ => None,
        })
    }

    fn answer(&mut self, outcome: Outcome) {
        let (id, _) = self.pending().expect("a step was given out");
        self.feed(Event::Stepped { id, outcome });
    }

    /// Says that nothing could be sent, and lets the group fall into fault.
    fn fail(&mut self) {
        let reason = "no buffer space".to_owned();
        self.virtual_router("inside", VirtualRouterEvent::Failing { reason });
        assert_eq!(self.state(), State::Fault);
        self.complete();
    }

    /// Becomes master, with everything that belongs to it.
    fn serve(&mut self) {
        self.complete();
        self.elect("inside");
        self.complete();
        assert_eq!(self.state(), State::Master);
    }

    /// How long the group still stays in fault by itself.
    fn hold(&self) -> Duration {
        self.failover.next_deadline().unwrap().duration_since(self.now)
    }

    /// Answers every step with success until the group is settled.
    fn complete(&mut self) {
        while !self.failover.group("gateway").unwrap().is_settled() {
            self.answer(Outcome::Done(String::new()));
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.feed(Event::Timeout);
    }

    fn steps(&self) -> Vec<Step> {
        self.given
            .iter()
            .filter_map(|action| match action {
                Action::Step { step, .. } => Some(*step),
                _ => None,
            })
            .collect()
    }
}

fn config(members: &[&str], checks: &[&str], replicated: bool) -> Config {
    let member = |name: &&str| VirtualRouter::new(*name, "eth0");
    Config {
        groups: vec![Group {
            name: "gateway".into(),
            virtual_routers: members.iter().map(member).collect(),
            checks: checks.iter().map(|check| (*check).to_owned()).collect(),
            replicated,
            ..Group::default()
        }],
        checks: checks.iter().map(|name| check(name)).collect(),
    }
}

fn check(name: &str) -> Check {
    Check {
        name: name.to_owned(),
        command: vec!["/bin/true".into()],
        user: None,
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 1,
    }
}

#[test]
fn flows_are_committed_and_links_up_before_addresses_go_up() {
    let mut world = World::backup();
    world.given.clear();
    world.elect("inside");
    world.complete();
    assert_eq!(
        world.steps(),
        [
            Step::Claim,
            Step::CommitFlows,
            Step::LinksUp,
            Step::AddressesUp,
            Step::RoutesUp,
            Step::Announce,
            Step::ReplicateActive,
            Step::Hooks
        ]
    );
    assert_eq!(world.state(), State::Master);
}

#[test]
fn addresses_wait_until_the_commit_has_answered() {
    let mut world = World::backup();
    world.elect("inside");
    world.answer(Outcome::Done("claimed".into()));
    assert_eq!(world.pending().unwrap().1, Step::CommitFlows);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.pending().unwrap().1, Step::CommitFlows);
    world.answer(Outcome::Done("10 flows".into()));
    assert_eq!(world.pending().unwrap().1, Step::LinksUp);
}

#[test]
fn a_start_takes_away_what_an_earlier_life_left_before_anything_else() {
    let world = World::backup();
    assert_eq!(
        world.steps(),
        [
            Step::StopClaiming,
            Step::AddressesDown,
            Step::RoutesDown,
            Step::LinksDown,
            Step::ReplicateBackup,
            Step::Hooks
        ]
    );
    assert!(world.given.contains(&Action::Startup { virtual_router: "inside".into() }));
}

#[test]
fn leaving_mastership_takes_addresses_before_routes_before_links() {
    let mut world = World::master();
    world.given.clear();
    let reason = "10.1.1.2 has priority 150".to_owned();
    world.virtual_router("inside", VirtualRouterEvent::Superseded { reason: reason.clone() });
    world.complete();
    assert_eq!(world.state(), State::Backup);
    assert_eq!(world.failover.group("gateway").unwrap().reason(), reason);
    let expected = [
        Step::StopClaiming,
        Step::AddressesDown,
        Step::RoutesDown,
        Step::LinksDown,
        Step::ReplicateBackup,
        Step::Hooks,
    ];
    assert_eq!(world.steps(), expected);
}

#[test]
fn a_group_waits_for_the_first_run_of_its_checks() {
    let mut world = World::new(&["inside"], &["heartbeat"], false);
    world.usable("inside", Ok(()));
    assert_eq!(world.state(), State::Init);
    let reason = world.failover.group("gateway").unwrap().reason();
    assert_eq!(reason, "waiting for the first run of check heartbeat");
    world.check(true);
    assert_eq!(world.state(), State::Backup);
}

#[test]
fn a_failed_check_is_a_fault_and_a_good_one_ends_it() {
    let mut world = World::new(&["inside"], &["heartbeat"], false);
    world.usable("inside", Ok(()));
    world.check(true);
    world.complete();
    world.check(false);
    assert_eq!(world.state(), State::Fault);
    let reason = world.failover.group("gateway").unwrap().reason();
    assert_eq!(reason, "check heartbeat failed: exit status 1");
    world.complete();
    world.given.clear();
    world.check(true);
    assert_eq!(world.state(), State::Backup);
    assert!(world.given.contains(&Action::Startup { virtual_router: "inside".into() }));
}

#[test]
fn a_lost_interface_is_a_fault_of_the_whole_group() {
    let mut world = World::new(&["inside", "outside"], &[], false);
    world.usable("inside", Ok(()));
    assert_eq!(world.state(), State::Init, "the other interface has not been looked at");
    world.usable("outside", Ok(()));
    assert_eq!(world.state(), State::Backup);
    world.usable("outside", Err("eth1 is down".into()));
    assert_eq!(world.state(), State::Fault);
    assert_eq!(world.failover.group("gateway").unwrap().reason(), "eth1 is down");
}

#[test]
fn members_of_a_group_become_master_together() {
    let mut world = World::new(&["inside", "outside"], &[], false);
    world.usable("inside", Ok(()));
    world.usable("outside", Ok(()));
    world.complete();
    world.elect("inside");
    assert_eq!(world.state(), State::Backup);
    world.virtual_router("inside", VirtualRouterEvent::Deferred);
    world.elect("outside");
    assert_eq!(world.state(), State::Backup, "inside has heard a master since");
    world.elect("inside");
    assert_eq!(world.state(), State::Master);
}

#[test]
fn a_superseded_master_turns_round_in_the_middle_of_its_transition() {
    let mut world = World::backup();
    world.elect("inside");
    world.answer(Outcome::Done("claimed".into()));
    let (commit, step) = world.pending().unwrap();
    assert_eq!(step, Step::CommitFlows);
    world.given.clear();
    let reason = "10.1.1.2 has priority 150".to_owned();
    world.virtual_router("inside", VirtualRouterEvent::Superseded { reason });
    assert_eq!(world.state(), State::Backup);
    world.feed(Event::Stepped { id: commit, outcome: Outcome::Done("late".into()) });
    assert_eq!(world.steps(), [Step::StopClaiming], "the late answer moves nothing");
    world.complete();
    assert!(!world.steps().contains(&Step::AddressesUp));
}

#[test]
fn addresses_that_cannot_be_added_put_the_group_in_fault_and_it_tries_again() {
    let mut world = World::backup();
    world.elect("inside");
    while world.pending().unwrap().1 != Step::AddressesUp {
        world.answer(Outcome::Done(String::new()));
    }
    for _ in 0..3 {
        assert_eq!(world.pending().unwrap().1, Step::AddressesUp);
        world.answer(Outcome::Failed("permission denied".into()));
        world.advance(Duration::from_millis(100));
    }
    assert_eq!(world.state(), State::Fault);
    let reason = world.failover.group("gateway").unwrap().reason();
    assert_eq!(reason, "addresses failed: permission denied; tries again after 5 s");
    world.complete();
    world.advance(Duration::from_secs(5));
    assert_eq!(world.state(), State::Backup);
}

#[test]
fn a_master_that_cannot_advertise_is_in_fault_for_a_while_and_tries_again() {
    let mut world = World::master();
    world.given.clear();
    let reason = "inside has not been advertised for 3 s: no buffer space".to_owned();
    world.virtual_router("inside", VirtualRouterEvent::Failing { reason: reason.clone() });
    assert_eq!(world.state(), State::Fault);
    let held = format!("{reason}; tries again after 5 s");
    assert_eq!(world.failover.group("gateway").unwrap().reason(), held);
    world.complete();
    assert!(world.steps().contains(&Step::AddressesDown));
    world.advance(Duration::from_millis(4_900));
    assert_eq!(world.state(), State::Fault);
    world.advance(Duration::from_millis(100));
    assert_eq!(world.state(), State::Backup);
    assert!(world.given.contains(&Action::Startup { virtual_router: "inside".into() }));
    let recovered = format!("recovered from: {reason}");
    assert_eq!(world.failover.group("gateway").unwrap().reason(), recovered);
}

#[test]
fn a_group_that_fails_again_and_again_waits_longer_each_time_up_to_a_minute() {
    let mut world = World::master();
    for seconds in [5, 10, 20, 40, 60, 60] {
        world.fail();
        assert_eq!(world.hold(), Duration::from_secs(seconds));
        let reason = world.failover.group("gateway").unwrap().reason();
        assert_eq!(reason, format!("no buffer space; tries again after {seconds} s"));
        world.advance(world.hold());
        world.serve();
        world.advance(Duration::from_secs(3));
    }
}

#[test]
fn claims_that_fail_make_the_wait_grow_as_well() {
    let mut world = World::backup();
    for seconds in [5, 10, 20] {
        world.elect("inside");
        while world.state() == State::Master {
            assert_eq!(world.pending().unwrap().1, Step::Claim);
            world.answer(Outcome::Failed("not sent".into()));
            world.advance(Duration::from_millis(100));
        }
        world.complete();
        let waited = Duration::from_millis(100);
        assert_eq!(world.hold() + waited, Duration::from_secs(seconds));
        world.advance(world.hold());
        world.complete();
    }
}

#[test]
fn a_mastership_as_long_as_the_last_wait_ends_the_growing() {
    let mut world = World::master();
    world.fail();
    world.advance(world.hold());
    world.serve();
    world.advance(Duration::from_millis(4_999));
    world.fail();
    assert_eq!(world.hold(), Duration::from_secs(10));
    world.advance(world.hold());
    world.serve();
    world.advance(Duration::from_secs(10));
    world.fail();
    assert_eq!(world.hold(), Duration::from_secs(5));
}

#[test]
fn a_long_mastership_that_ended_well_ends_the_growing_too() {
    let mut world = World::master();
    world.fail();
    world.advance(world.hold());
    world.serve();
    world.advance(Duration::from_secs(5));
    let reason = "10.1.1.2 has priority 150".to_owned();
    world.virtual_router("inside", VirtualRouterEvent::Superseded { reason });
    world.complete();
    world.serve();
    world.fail();
    assert_eq!(world.hold(), Duration::from_secs(5));
}

#[test]
fn a_commit_that_takes_long_is_no_mastership_that_lasted() {
    let mut world = World::master();
    world.fail();
    world.advance(world.hold());
    world.complete();
    world.elect("inside");
    world.answer(Outcome::Done(String::new()));
    assert_eq!(world.pending().unwrap().1, Step::CommitFlows);
    world.advance(Duration::from_secs(20));
    world.fail();
    assert_eq!(world.hold(), Duration::from_secs(10));
}

#[test]
fn being_backup_for_long_is_no_proof_that_a_group_can_serve() {
    let mut world = World::master();
    world.fail();
    world.advance(world.hold());
    world.complete();
    world.advance(Duration::from_hours(1));
    world.serve();
    world.fail();
    assert_eq!(world.hold(), Duration::from_secs(10));
}

#[test]
fn sending_that_fails_after_mastership_was_given_up_is_no_fault() {
    let mut world = World::backup();
    let failing = VirtualRouterEvent::Failing { reason: "no route".into() };
    world.virtual_router("inside", failing);
    assert_eq!(world.state(), State::Backup);
    assert_eq!(world.failover.next_deadline(), None);
}

#[test]
fn routes_that_cannot_be_installed_do_not_cost_mastership() {
    let mut world = World::backup();
    world.elect("inside");
    while world.pending().unwrap().1 != Step::RoutesUp {
        world.answer(Outcome::Done(String::new()));
    }
    for _ in 0..3 {
        world.answer(Outcome::Failed("no such device".into()));
        world.advance(Duration::from_millis(100));
    }
    assert_eq!(world.pending().unwrap().1, Step::Announce);
    world.complete();
    assert_eq!(world.state(), State::Master);
}

#[test]
fn a_step_without_an_answer_does_not_hold_a_group_for_ever() {
    let mut world = World::backup();
    world.elect("inside");
    world.answer(Outcome::Done("claimed".into()));
    let deadline = world.failover.next_deadline().expect("a commit has a limit");
    world.now = deadline;
    world.feed(Event::Timeout);
    assert_eq!(world.pending().unwrap().1, Step::LinksUp);
    let journal = world.failover.journal().transitions().last().unwrap();
    let commit = journal.steps.iter().find(|record| record.step == Step::CommitFlows).unwrap();
    let is_told = |outcome: &Outcome| matches!(outcome, Outcome::Pending(why) if why.contains("no answer within 30s"));
    assert!(commit.ended.as_ref().is_some_and(|(_, outcome)| is_told(outcome)), "{commit:?}");
}

#[test]
fn another_limit_holds_for_a_commit_under_way() {
    let limits = |commit| Limits { commit, preempt_without_flows: None };
    let mut world = World::with_limits(limits(Duration::from_secs(30)));
    world.usable("inside", Ok(()));
    world.complete();
    world.elect("inside");
    world.answer(Outcome::Done(String::new()));
    assert_eq!(world.pending().unwrap().1, Step::CommitFlows);
    let began = world.now;
    for (after, limit) in [(1, 60), (2, 3)] {
        world.now = began + Duration::from_secs(after);
        let mut wanted = config(&["inside"], &[], true);
        wanted.groups[0].limits = limits(Duration::from_secs(limit));
        drop(world.failover.configure(&wanted, world.now));
        let due = world.failover.next_deadline();
        assert_eq!(due, Some(began + Duration::from_secs(limit)), "it counts from the beginning");
    }
    world.advance(Duration::from_secs(1));
    assert_eq!(world.pending().unwrap().1, Step::LinksUp);
}

#[test]
fn addresses_wait_for_a_commit_no_longer_than_the_limit_and_its_late_end_is_told() {
    let limit = Duration::from_millis(500);
    let mut world = World::with_limits(Limits { commit: limit, preempt_without_flows: None });
    world.usable("inside", Ok(()));
    world.complete();
    world.elect("inside");
    world.answer(Outcome::Done("claimed".into()));
    let (commit, step) = world.pending().unwrap();
    assert_eq!(step, Step::CommitFlows);
    world.advance(limit.checked_sub(Duration::from_millis(1)).unwrap());
    assert_eq!(world.pending().unwrap().1, Step::CommitFlows);
    world.advance(Duration::from_millis(1));
    assert_eq!(world.pending().unwrap().1, Step::LinksUp);
    let late = Outcome::Done("100000 flows".into());
    world.feed(Event::Stepped { id: commit, outcome: late.clone() });
    assert_eq!(world.pending().unwrap().1, Step::LinksUp, "a late answer moves nothing");
    world.complete();
    let journal = world.failover.journal().transitions().last().unwrap();
    let commit = journal.steps.iter().find(|record| record.step == Step::CommitFlows).unwrap();
    assert!(matches!(&commit.ended, Some((_, Outcome::Pending(_)))));
    assert_eq!(commit.late, Some((world.now, late)));
    assert!(journal.is_over);
}

#[test]
fn preemption_without_flows_is_allowed_after_the_limit_and_forbidden_anew_by_the_next_backup() {
    let limit = Duration::from_mins(1);
    let mut world =
        World::with_limits(Limits { preempt_without_flows: Some(limit), ..Limits::default() });
    world.usable("inside", Ok(()));
    world.complete();
    let group = |world: &World| world.failover.group("gateway").unwrap().clone();
    assert!(group(&world).waits_for(world.now).unwrap().ends_with("is replaced for 60 s more"));
    world.advance(limit.checked_sub(Duration::from_millis(1)).unwrap());
    assert!(!group(&world).preempt_allowed());
    world.advance(Duration::from_millis(1));
    assert!(group(&world).preempt_allowed());
    assert_eq!(group(&world).waits_for_flows_since(), None);
    let allowed = Action::PreemptAllowed { virtual_router: "inside".into(), allowed: true };
    assert_eq!(world.given.last(), Some(&allowed));
    world.elect("inside");
    world.complete();
    let reason = "10.1.1.2 has priority 200".to_owned();
    world.virtual_router("inside", VirtualRouterEvent::Superseded { reason });
    assert!(!group(&world).preempt_allowed());
    world.feed(Event::InSync(true));
    assert!(group(&world).preempt_allowed());
}

#[test]
fn preemption_waits_until_the_replica_is_complete() {
    let mut world = World::backup();
    let allowed = |allowed| Action::PreemptAllowed { virtual_router: "inside".into(), allowed };
    assert!(world.given.contains(&allowed(false)));
    assert!(!world.given.contains(&allowed(true)));
    world.feed(Event::InSync(true));
    assert_eq!(world.given.last(), Some(&allowed(true)));
    world.feed(Event::InSync(false));
    assert_eq!(world.given.last(), Some(&allowed(false)));
}

#[test]
fn a_group_without_replication_may_preempt_from_the_start() {
    let world = World::new(&["inside"], &[], false);
    let allowed = Action::PreemptAllowed { virtual_router: "inside".into(), allowed: true };
    assert_eq!(world.given.first(), Some(&allowed));
}

#[test]
fn a_stop_hands_over_and_then_says_that_the_group_has_ended() {
    let mut world = World::master();
    world.given.clear();
    world.feed(Event::Stop);
    assert!(matches!(
        world.given.first(),
        Some(Action::Step { step: Step::StopClaiming, to: State::Stopped, .. })
    ));
    world.complete();
    assert_eq!(world.given.last(), Some(&Action::Stopped { group: "gateway".into() }));
    world.elect("inside");
    assert_eq!(world.state(), State::Stopped);
}

fn resume(resumed: Result<&str, &str>) -> Event {
    let resumed = resumed.map(str::to_owned).map_err(str::to_owned);
    Event::Resume { group: "gateway".into(), resumed }
}

#[test]
fn a_group_that_is_resumed_says_so_at_once_and_commits_nothing_and_runs_no_hooks() {
    let mut world = World::new(&["inside"], &["heartbeat"], true);
    world.given.clear();
    world.feed(resume(Ok("resumed after the daemon was killed")));
    assert_eq!(world.state(), State::Master, "no check has run yet");
    assert_eq!(world.given[0], Action::Startup { virtual_router: "inside".into() });
    world.usable("inside", Ok(()));
    world.complete();
    assert_eq!(
        world.steps(),
        [
            Step::Claim,
            Step::LinksUp,
            Step::AddressesUp,
            Step::RoutesUp,
            Step::Announce,
            Step::ReplicateActive,
        ]
    );
    assert_eq!(world.given.last(), Some(&Action::Serves { group: "gateway".into() }));
    let group = world.failover.group("gateway").unwrap();
    assert_eq!(group.reason(), "resumed after the daemon was killed");
    world.check(false);
    assert_eq!(world.state(), State::Fault, "what a check finds afterwards holds");
}

/// A hook that waits is gone with the daemon that is killed, and a resumed group runs none: it would
/// be arranged for another state for good.
#[test]
fn a_group_can_be_resumed_only_when_none_of_its_hooks_waits_any_more() {
    let serves = Action::Serves { group: "gateway".into() };
    let mut world = World::backup();
    world.elect("inside");
    while world.pending().unwrap().1 != Step::Hooks {
        world.answer(Outcome::Done(String::new()));
    }
    let (hooks, _) = world.pending().unwrap();
    let begun = |id| Event::HooksBegun { group: "gateway".into(), id };
    world.answer(Outcome::Done("waits for the hook that runs".into()));
    assert!(!world.given.contains(&serves));
    world.feed(begun(StepId(hooks.0 - 1)));
    assert!(!world.given.contains(&serves), "those of another transition");
    world.feed(begun(hooks));
    assert_eq!(world.given.last(), Some(&serves));
    world.given.clear();
    world.feed(begun(hooks));
    assert_eq!(world.given, []);
}

#[test]
fn what_was_left_of_a_group_that_is_not_resumed_goes_before_anything_is_waited_for() {
    let mut world = World::new(&["inside"], &["heartbeat"], true);
    world.given.clear();
    world.feed(resume(Err("it was away for too long")));
    world.complete();
    assert_eq!(world.state(), State::Init, "no check has run yet");
    let begin = [Step::StopClaiming, Step::AddressesDown, Step::RoutesDown, Step::LinksDown];
    assert_eq!(world.steps()[..4], begin);
    world.usable("inside", Ok(()));
    world.check(true);
    world.complete();
    assert_eq!(world.state(), State::Backup);
    assert!(!world.steps().contains(&Step::Claim));
}

#[test]
fn a_group_whose_interface_is_gone_when_it_is_resumed_is_in_fault() {
    let mut world = World::new(&["inside"], &[], false);
    world.usable("inside", Err("eth0 is down".into()));
    world.complete();
    world.feed(resume(Ok("resumed after the daemon was killed")));
    assert_eq!(world.state(), State::Fault);
    assert!(!world.steps().contains(&Step::Claim));
}

#[test]
fn a_takeover_is_complete_only_after_its_hooks() {
    let mut world = World::backup();
    world.elect("inside");
    let serves = Action::Serves { group: "gateway".into() };
    while !world.failover.group("gateway").unwrap().is_settled() {
        assert!(!world.given.contains(&serves));
        if let Some((id, Step::Hooks)) = world.pending() {
            world.feed(Event::HooksBegun { group: "gateway".into(), id });
        }
        world.answer(Outcome::Done(String::new()));
    }
    assert_eq!(world.given.last(), Some(&serves));
}

#[test]
fn the_journal_has_the_reason_and_the_time_of_every_step() {
    let mut world = World::backup();
    let started = world.now;
    world.elect("inside");
    world.now += Duration::from_millis(3);
    world.answer(Outcome::Done("1 advertisement".into()));
    let entry = world.failover.journal().transitions().last().unwrap();
    assert_eq!((entry.from, entry.to), (State::Backup, State::Master));
    assert_eq!(entry.reason, "silence");
    assert_eq!(entry.steps[0].step, Step::Claim);
    assert_eq!(entry.steps[0].started, started);
    let (ended, outcome) = entry.steps[0].ended.clone().unwrap();
    assert_eq!(ended - started, Duration::from_millis(3));
    assert_eq!(outcome, Outcome::Done("1 advertisement".into()));
}
