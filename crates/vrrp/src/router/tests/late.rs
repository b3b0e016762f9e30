//! Late is not dead, and a port that does not forward yet is not silence.

use super::*;

const INTERVAL: Duration = SECOND;

#[test]
fn a_backup_that_is_served_an_interval_late_listens_for_one_more() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let late = begin + DOWN + INTERVAL;
    assert_eq!(told(&router.handle(Event::Timeout, late)), "overslept 1s");
    assert_eq!(router.next_deadline(), Some(late + INTERVAL));
    assert_eq!(told(&router.handle(Event::Timeout, late + INTERVAL)), "elected", "nobody spoke");
    assert_eq!(router.statistics().overslept, 1);
}

#[test]
fn a_backup_that_is_served_less_than_an_interval_late_is_not_delayed() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let late = begin + DOWN + Duration::from_nanos(999_999_999);
    assert_eq!(told(&router.handle(Event::Timeout, late)), "elected");
}

#[test]
fn a_master_that_is_heard_while_a_late_backup_listens_stays() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let late = begin + 30 * SECOND;
    drop(router.handle(Event::Timeout, late));
    drop(router.handle(heard(&config(), 150, HIGH), late + INTERVAL / 2));
    assert_eq!(router.next_deadline(), Some(late + INTERVAL / 2 + DOWN));
}

#[test]
fn a_backup_listens_by_the_interval_of_the_master() {
    let slow = Config { advertisement_interval: 4 * SECOND, ..version_3() };
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    drop(router.handle(heard(&slow, 150, HIGH), begin));
    let due = router.next_deadline().unwrap();
    assert_eq!(told(&router.handle(Event::Timeout, due + 3 * SECOND)), "elected", "not late");
    let due = router.next_deadline().unwrap();
    assert_eq!(told(&router.handle(Event::Timeout, due + 4 * SECOND)), "overslept 4s");
    assert_eq!(router.next_deadline(), Some(due + 8 * SECOND));
}

#[test]
fn a_master_that_overslept_listens_first_although_its_claim_is_asked_again() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let late = begin + 4 * SECOND;
    drop(router.handle(Event::Timeout, late));
    assert_eq!(router.handle(Event::Claim, late), []);
    assert_eq!(told(&router.handle(Event::Timeout, late + INTERVAL)), "send 100");
}

#[test]
fn a_master_that_overslept_is_silent_for_an_interval_and_goes_on_when_nobody_speaks() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let late = begin + 4 * SECOND;
    assert_eq!(told(&router.handle(Event::Timeout, late)), "overslept 3s");
    assert_eq!(router.next_deadline(), Some(late + INTERVAL));
    assert_eq!(told(&router.handle(Event::Timeout, late + INTERVAL)), "send 100");
    assert_eq!(
        told(&router.handle(heard(&config(), 90, HIGH), late + 2 * INTERVAL)),
        "send 100, conflict with 10.0.0.3",
        "normal rules"
    );
}

#[test]
fn a_master_that_is_less_than_three_intervals_late_speaks_at_once() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let late = begin + 3 * SECOND + Duration::from_nanos(999_999_999);
    assert_eq!(told(&router.handle(Event::Timeout, late)), "send 100");
}

#[test]
fn a_master_that_overslept_steps_down_for_any_other_master() {
    for (priority, source) in [(1, LOW), (100, LOW), (100, HIGH), (254, LOW)] {
        let begin = start_of_time();
        let mut router = situated(Master, begin);
        drop(router.handle(Event::Timeout, begin + 31 * SECOND));
        let now = begin + 31 * SECOND + INTERVAL / 2;
        let actions = router.handle(heard(&config(), priority, source), now);
        let expected = format!("master→backup, superseded by {source} ({priority})");
        assert_eq!(told(&actions), expected);
        let Action::Superseded { reason, .. } = &actions[1] else { panic!("{actions:?}") };
        let expected =
            format!("{source} is master (priority {priority}) since this router slept for 30.00 s");
        assert_eq!(*reason, expected);
        assert_eq!(router.next_deadline(), Some(now + DOWN));
    }
}

#[test]
fn what_waited_in_the_sockets_of_a_master_that_overslept_is_heard_before_it_speaks() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let actions = router.handle(heard(&config(), 90, HIGH), begin + 31 * SECOND);
    assert_eq!(told(&actions), "overslept 30s, master→backup, superseded by 10.0.0.3 (90)");
}

#[test]
fn a_master_that_stopped_meanwhile_is_none() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let late = begin + 31 * SECOND;
    assert_eq!(told(&router.handle(heard(&config(), 0, HIGH), late)), "overslept 30s");
    assert_eq!(told(&router.handle(Event::Timeout, late + INTERVAL)), "send 100");
}

#[test]
fn a_master_that_overslept_says_nothing_of_its_changes_before_it_has_listened() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let late = begin + 31 * SECOND;
    let lower = Event::Priority(Priority::new(50).unwrap());
    assert_eq!(told(&router.handle(lower, late)), "overslept 30s");
    let other = Config { addresses: Vec::new(), ..config() };
    assert_eq!(told(&router.handle(Event::Configure(Box::new(other)), late)), "");
    assert_eq!(told(&router.handle(Event::Timeout, late + INTERVAL)), "send 50");
}

#[test]
fn a_master_that_oversleeps_again_listens_again() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    drop(router.handle(Event::Timeout, begin + 31 * SECOND));
    let actions = router.handle(Event::Timeout, begin + 62 * SECOND);
    assert_eq!(told(&actions), "overslept 30s");
    assert_eq!(router.statistics().overslept, 2);
}

#[test]
fn a_machine_that_is_always_late_takes_over_and_advertises_all_the_same() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let said = |router: &mut VirtualRouter| {
        let due = router.next_deadline().unwrap();
        told(&router.handle(Event::Timeout, due + 5 * SECOND))
    };
    let three = "overslept 5s";
    assert_eq!([0; 3].map(|_| said(&mut router)), [three; 3]);
    assert_eq!(said(&mut router), "elected");
    drop(router.handle(Event::Claim, begin + 40 * SECOND));
    assert_eq!([0; 3].map(|_| said(&mut router)), [three; 3]);
    assert_eq!(said(&mut router), "send 100");
    assert_eq!(said(&mut router), three, "and is given its time again");
}

#[test]
fn a_router_that_has_heard_nothing_waits_for_the_start_up_limit() {
    let begin = start_of_time();
    let mut router = started(limited(), begin);
    assert_eq!(router.next_deadline(), Some(begin + 10 * SECOND));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "");
    assert_eq!(told(&router.handle(Event::Timeout, begin + 10 * SECOND)), "elected");
}

#[test]
fn the_start_up_limit_never_shortens_the_master_down_interval() {
    let begin = start_of_time();
    let router = started(Config { startup_limit: SECOND, ..config() }, begin);
    assert_eq!(router.next_deadline(), Some(begin + DOWN));
}

#[test]
fn whoever_hears_a_master_follows_the_normal_timer() {
    let begin = start_of_time();
    let mut router = started(limited(), begin);
    drop(router.handle(heard(&config(), 150, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN));
    let mut router = started(limited(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + DOWN), "it is preempted in time");
}

#[test]
fn a_neighbour_that_is_not_understood_ends_the_start_up_limit_too() {
    let wrong = Config { authentication: password("wrong"), ..config() };
    let begin = start_of_time();
    let mut router = started(limited(), begin);
    drop(router.receive(&packet(&wrong, 150, HIGH), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + DOWN));
}

#[test]
fn what_speaks_for_nobody_does_not_end_the_start_up_limit() {
    let begin = start_of_time();
    let mut router = started(limited(), begin);
    let mut carp = packet(&config(), 150, HIGH);
    carp.payload[3] = 7;
    carp.payload.resize(36, 0);
    drop(router.receive(&carp, begin + SECOND));
    let mut distant = packet(&config(), 150, HIGH);
    distant.ttl = 64;
    drop(router.receive(&distant, begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + 10 * SECOND));
}

#[test]
fn silence_before_the_link_carried_anything_is_not_counted() {
    let begin = start_of_time();
    let mut router = started(limited(), begin);
    let first = begin + 6 * SECOND;
    drop(router.handle(heard(&config(), 90, HIGH), first));
    assert_eq!(router.next_deadline(), Some(first + DOWN), "another may speak yet");
}

#[test]
fn an_address_owner_does_not_wait_for_the_start_up_limit() {
    let owner = Config { priority: Priority::OWNER, ..limited() };
    let begin = start_of_time();
    let mut router = VirtualRouter::new(owner.clone());
    assert_eq!(told(&router.handle(startup(), begin)), "initialize→backup, elected");
    let mut router = VirtualRouter::new(owner);
    drop(router.handle(Event::PreemptAllowed(false), begin));
    drop(router.handle(startup(), begin));
    assert!(router.next_deadline().is_some_and(|due| due < begin + 4 * SECOND));
}

#[test]
fn an_interface_that_flaps_starts_the_limit_anew() {
    let begin = start_of_time();
    let mut router = started(limited(), begin);
    drop(router.handle(Event::Shutdown, begin + 9 * SECOND));
    drop(router.handle(startup(), begin + 9 * SECOND));
    assert_eq!(router.next_deadline(), Some(begin + 19 * SECOND));
}

fn limited() -> Config {
    Config { startup_limit: 10 * SECOND, ..config() }
}
