//! Forwarding held back while flows are committed.

use super::*;

/// A backup that holds forwarding back during a commit.
fn holding() -> World {
    let now = Instant::now();
    let mut config = config(&["inside"], &[], true);
    config.groups[0].holds_forwarding = true;
    let mut world = World { failover: Failover::new(&config, now), now, given: Vec::new() };
    world.feed(Event::Start);
    world.usable("inside", Ok(()));
    world.complete();
    world.given.clear();
    world
}

#[test]
fn what_would_begin_a_flow_is_held_from_before_the_claim_to_the_end_of_the_commit() {
    let mut world = holding();
    world.elect("inside");
    world.complete();
    let begin = [
        Step::HoldForwarding,
        Step::Claim,
        Step::CommitFlows,
        Step::PassForwarding,
        Step::LinksUp,
        Step::AddressesUp,
    ];
    assert_eq!(world.steps()[..6], begin);
}

#[test]
fn a_commit_over_its_limit_holds_nothing_back_any_more() {
    let mut world = holding();
    world.elect("inside");
    world.answer(Outcome::Done(String::new()));
    world.answer(Outcome::Done(String::new()));
    assert_eq!(world.pending().unwrap().1, Step::CommitFlows);
    world.advance(Limits::default().commit);
    assert_eq!(world.pending().unwrap().1, Step::PassForwarding);
}

#[test]
fn a_claim_waits_for_no_packet_filter_that_fails_or_is_slow() {
    let mut world = holding();
    world.elect("inside");
    world.answer(Outcome::Failed("no nf_tables".into()));
    assert_eq!(world.pending().unwrap().1, Step::Claim);
    let mut world = holding();
    world.elect("inside");
    world.advance(Duration::from_millis(100));
    assert_eq!(world.pending().unwrap().1, Step::Claim);
}

#[test]
fn who_leaves_in_the_midst_of_a_commit_passes_everything_on_again() {
    let mut world = holding();
    world.elect("inside");
    world.answer(Outcome::Done(String::new()));
    world.answer(Outcome::Done(String::new()));
    world.given.clear();
    world.usable("inside", Err("eth0 is down".into()));
    world.complete();
    assert_eq!(world.state(), State::Fault);
    assert_eq!(world.steps().iter().filter(|step| **step == Step::PassForwarding).count(), 1);
}
