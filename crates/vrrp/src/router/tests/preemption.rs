//! The preempt delay, and the words of RFC 8347 for how mastership came.

use super::*;
use crate::{LastEvent, NewMasterReason};

#[test]
fn a_working_master_of_lower_priority_is_let_be_for_the_preempt_delay() {
    let begin = start_of_time();
    let mut router = started(patient(), begin);
    let mut second = 0;
    loop {
        second += 1;
        drop(router.handle(heard(&config(), 90, HIGH), begin + second * SECOND));
        let next = begin + (second + 1) * SECOND;
        if router.next_deadline().is_some_and(|due| due < next) {
            break;
        }
        assert!(second < 60, "it ends");
    }
    // Heard first at 1 s, so it counts until 11 s; the last that counted came at 10 s.
    assert_eq!(router.next_deadline(), Some(begin + 10 * SECOND + DOWN));
    let actions = router.handle(Event::Timeout, begin + 10 * SECOND + DOWN);
    let reason = "10.0.0.3 is master with priority 90, lower than our 100";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
    assert_eq!(router.last_event(), LastEvent::PreemptHoldTimeout);
    drop(router.handle(Event::Claim, begin + 10 * SECOND + DOWN));
    assert_eq!(router.new_master_reason(), NewMasterReason::Preempted);
}

#[test]
fn a_better_master_ends_the_preempt_delay() {
    for better in [100, 150] {
        let begin = start_of_time();
        let mut router = started(patient(), begin);
        drop(router.handle(heard(&config(), 90, HIGH), begin));
        drop(router.handle(heard(&config(), better, LOW), begin + 9 * SECOND));
        drop(router.handle(heard(&config(), 90, HIGH), begin + 12 * SECOND));
        assert_eq!(router.next_deadline(), Some(begin + 12 * SECOND + DOWN), "it begins anew");
        drop(router.handle(heard(&config(), 90, HIGH), begin + 21 * SECOND));
        assert_eq!(router.next_deadline(), Some(begin + 21 * SECOND + DOWN));
        drop(router.handle(heard(&config(), 90, HIGH), begin + 22 * SECOND));
        assert_eq!(router.next_deadline(), Some(begin + 21 * SECOND + DOWN), "and ends");
    }
}

#[test]
fn a_dead_master_is_replaced_without_the_preempt_delay() {
    let begin = start_of_time();
    let mut router = started(patient(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "elected");
}

#[test]
fn a_master_that_stops_is_replaced_without_the_preempt_delay() {
    let begin = start_of_time();
    let mut router = started(patient(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin));
    drop(router.handle(heard(&config(), 0, HIGH), begin));
    assert_eq!(told(&router.handle(Event::Timeout, begin + SKEW)), "elected");
}

#[test]
fn an_address_owner_does_not_wait_for_the_preempt_delay() {
    let owner = Config { priority: Priority::OWNER, ..patient() };
    let begin = start_of_time();
    let mut router = started(owner, begin);
    let due = router.next_deadline();
    drop(router.handle(heard(&config(), 90, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), due);
}

#[test]
fn a_shorter_preempt_delay_holds_at_once() {
    let begin = start_of_time();
    let mut router = started(patient(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin));
    let shorter = Config { preempt_delay: 2 * SECOND, ..config() };
    drop(router.handle(Event::Configure(Box::new(shorter)), begin + SECOND));
    let due = router.next_deadline();
    drop(router.handle(heard(&config(), 90, HIGH), begin + 2 * SECOND));
    assert_eq!(router.next_deadline(), due, "it does not count any more");
}

#[test]
fn a_router_says_why_it_became_master_in_the_words_of_the_yang_model() {
    let begin = start_of_time();
    let mut router = VirtualRouter::new(config());
    let words = |router: &VirtualRouter| {
        (router.new_master_reason().as_str(), router.last_event().as_str())
    };
    assert_eq!(words(&router), ("not-master", "none"));
    drop(router.handle(startup(), begin));
    assert_eq!(words(&router), ("not-master", "startup"));
    drop(router.handle(Event::Timeout, begin + DOWN));
    assert_eq!(words(&router), ("not-master", "master-timeout"));
    drop(router.handle(Event::Claim, begin + DOWN));
    assert_eq!(words(&router), ("no-response", "master-timeout"));
    drop(router.handle(heard(&config(), 150, HIGH), begin + DOWN));
    assert_eq!(words(&router), ("no-response", "higher-priority-backup"));
    drop(router.handle(heard(&config(), 0, HIGH), begin + DOWN));
    drop(router.handle(Event::Timeout, begin + DOWN + SKEW));
    drop(router.handle(Event::Claim, begin + DOWN + SKEW));
    assert_eq!(words(&router), ("priority", "master-timeout"));
    drop(router.handle(Event::Shutdown, begin + DOWN + SKEW));
    assert_eq!(words(&router), ("priority", "shutdown"));
    drop(router.handle(startup(), begin + 9 * SECOND));
    drop(router.handle(heard(&config(), 90, HIGH), begin + 12 * SECOND));
    drop(router.handle(Event::Timeout, begin + 9 * SECOND + DOWN));
    drop(router.handle(Event::Claim, begin + 9 * SECOND + DOWN));
    assert_eq!(words(&router), ("preempted", "lower-priority-master"));
}

fn patient() -> Config {
    Config { preempt_delay: 10 * SECOND, ..config() }
}
