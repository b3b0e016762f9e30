//! Handing over, and letting the successor be.

use super::*;

/// The deadline of one that has retired: the longest skew time and a second.
const PATIENCE: Duration = Duration::from_secs(2);

#[test]
fn who_retires_says_the_shortest_interval_and_then_priority_zero() {
    let mut router = master(version_3());
    let actions = router.handle(Event::Retire, start_of_time());
    let sent: Vec<_> = actions.iter().filter_map(advertised).collect();
    let shortest = Duration::from_millis(10);
    assert_eq!(sent, [(100, shortest), (0, shortest)]);
    assert_eq!(router.state().name(), StateName::Backup);
}

#[test]
fn in_version_2_the_interval_cannot_be_another() {
    let mut router = master(Config { version: Version::V2, ..config() });
    let actions = router.handle(Event::Retire, start_of_time());
    assert_eq!(actions.iter().filter_map(advertised).collect::<Vec<_>>(), [(0, SECOND)]);
}

#[test]
fn a_backup_claims_within_the_shortest_interval_after_one_that_retires() {
    let begin = start_of_time();
    let mut retiring = master(version_3());
    let mut backup = started(version_3(), begin);
    drop(backup.handle(heard(&version_3(), 100, HIGH), begin));
    for action in retiring.handle(Event::Retire, begin) {
        let Action::Send(advertisement) = action else { continue };
        let event = Event::Received { advertisement, source: address(HIGH) };
        assert_eq!(told(&backup.handle(event, begin)), "", "no neighbour differs");
    }
    let due = backup.next_deadline().unwrap();
    assert!(due <= begin + Duration::from_millis(10), "{:?}", due - begin);
    let actions = backup.handle(Event::Timeout, due);
    let reason = "10.0.0.3 stopped (priority 0)".to_owned();
    assert_eq!(actions, [Action::Elected { reason }]);
}

#[test]
fn a_successor_is_named_once_and_not_preempted() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    assert_eq!(router.yields_to(), None);
    let claim = router.handle(heard(&config(), 90, HIGH), begin + SECOND);
    assert_eq!(told(&claim), "succeeded by 10.0.0.3 (90)");
    for second in 2..30 {
        let now = begin + second * SECOND;
        assert_eq!(told(&router.handle(heard(&config(), 90, HIGH), now)), "");
        assert_eq!(router.next_deadline(), Some(now + DOWN));
    }
    assert_eq!(router.yields_to(), Some(address(HIGH)));
    assert_eq!(router.master_address(), Some(address(HIGH)));
    let because = router.standing(begin + 30 * SECOND).because.join("; ");
    assert!(because.contains("handed over"), "{because}");
}

#[test]
fn an_address_owner_that_has_handed_over_yields_too() {
    let owner = Config { priority: Priority::OWNER, ..config() };
    let begin = start_of_time();
    let mut router = retired(owner, begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin));
    drop(router.handle(heard(&config(), 90, HIGH), begin + SECOND));
    assert!(router.next_deadline().unwrap() > begin + 4 * SECOND);
    drop(router.handle(Event::Shutdown, begin + SECOND));
    let restart = router.handle(startup(), begin + SECOND);
    assert_eq!(told(&restart), "initialize→backup", "nor after a fault of its own");
}

#[test]
fn when_nobody_claims_it_is_elected_again() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    assert_eq!(told(&router.handle(Event::Timeout, begin + PATIENCE / 2)), "");
    let actions = router.handle(Event::Timeout, begin + PATIENCE);
    let reason = "no advertisement heard for 2.00 s since its own priority 0";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
    drop(router.handle(Event::Claim, begin + PATIENCE));
    assert_eq!(router.state().name(), StateName::Master);
    drop(router.handle(Event::Relinquish, begin + PATIENCE));
    drop(router.handle(heard(&config(), 90, HIGH), begin + PATIENCE));
    assert_eq!(router.yields_to(), None, "a mastership of its own ends it");
}

#[test]
fn a_claim_after_all_takes_the_election_back() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    drop(router.handle(Event::Timeout, begin + PATIENCE));
    let actions = router.handle(heard(&config(), 90, HIGH), begin + PATIENCE);
    assert_eq!(told(&actions), "deferred, succeeded by 10.0.0.3 (90)");
}

#[test]
fn who_else_stops_while_a_claim_is_awaited_changes_nothing() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    drop(router.handle(heard(&config(), 0, HIGH), begin));
    assert_eq!(router.next_deadline(), Some(begin + PATIENCE));
}

#[test]
fn a_successor_that_stops_or_falls_silent_is_replaced() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin));
    let mut silent = router.clone();
    assert_eq!(told(&silent.handle(Event::Timeout, begin + DOWN)), "elected");
    drop(router.handle(heard(&config(), 0, HIGH), begin + SECOND));
    assert_eq!(router.yields_to(), None);
    assert_eq!(told(&router.handle(Event::Timeout, begin + SECOND + SKEW)), "elected");
}

#[test]
fn of_several_that_claim_the_last_one_heard_is_the_successor() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    drop(router.handle(heard(&config(), 80, LOW), begin));
    drop(router.handle(heard(&config(), 90, HIGH), begin + SECOND / 2));
    assert_eq!(router.yields_to(), Some(address(HIGH)));
    drop(router.handle(heard(&config(), 80, LOW), begin + 10 * SECOND));
    assert_eq!(router.yields_to(), None, "that mastership has ended");
    let due = router.next_deadline();
    drop(router.handle(heard(&config(), 80, LOW), begin + 11 * SECOND));
    assert_eq!(router.next_deadline(), due, "and this one is preempted");
}

#[test]
fn a_fault_in_between_does_not_end_it_and_permission_does() {
    let begin = start_of_time();
    let mut router = retired(config(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin));
    drop(router.handle(Event::Shutdown, begin + SECOND));
    drop(router.handle(startup(), begin + 2 * SECOND));
    drop(router.handle(heard(&config(), 90, HIGH), begin + 3 * SECOND));
    assert_eq!(router.yields_to(), Some(address(HIGH)));
    let due = router.next_deadline();
    assert_eq!(due, Some(begin + 3 * SECOND + DOWN));
    drop(router.handle(Event::MayReturn, begin + 3 * SECOND));
    drop(router.handle(heard(&config(), 90, HIGH), begin + 4 * SECOND));
    assert_eq!(router.next_deadline(), due, "now it does not count");
}

#[test]
fn a_neighbour_set_to_the_shortest_interval_differs_from_its_second_advertisement_on() {
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    drop(router.handle(heard(&version_3(), 100, HIGH), begin));
    let shortest = Config { advertisement_interval: Duration::from_millis(10), ..version_3() };
    drop(router.handle(heard(&shortest, 100, HIGH), begin));
    assert!(router.differences().is_empty());
    drop(router.handle(heard(&shortest, 100, HIGH), begin));
    assert_eq!(router.differences().len(), 1);
}

fn version_3() -> Config {
    Config { version: Version::V3, ..config() }
}

fn advertised(action: &Action) -> Option<(u8, Duration)> {
    let Action::Send(advertisement) = action else { return None };
    Some((advertisement.priority, advertisement.interval))
}

fn master(config: Config) -> VirtualRouter {
    let mut router = started(config, start_of_time());
    drop(router.handle(Event::Claim, start_of_time()));
    router
}

fn retired(config: Config, now: Instant) -> VirtualRouter {
    let mut router = started(config, now);
    drop(router.handle(Event::Claim, now));
    drop(router.handle(Event::Retire, now));
    router
}
