//! The number in the authentication header.

use super::*;

#[test]
fn a_backup_that_becomes_master_counts_on_from_the_greatest_number_heard() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    for number in [41, 42] {
        assert_eq!(router.handle(numbered(150, HIGH, number), begin), []);
    }
    assert_eq!(numbers(&router.handle(Event::Claim, begin)), [43]);
    assert_eq!(numbers(&router.handle(Event::Timeout, begin + SECOND)), [44]);
    assert_eq!(numbers(&router.handle(Event::Shutdown, begin + SECOND)), [45]);
}

#[test]
fn a_number_has_to_be_greater_than_the_greatest_heard() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(150, HIGH, 42), begin));
    for number in [42, 41, 0] {
        let mut router = router.clone();
        let actions = router.handle(numbered(150, LOW, number), begin + SECOND);
        let expected = format!(
            "10.0.0.1 sends sequence number {number} in its authentication header, \
             we have heard 42"
        );
        assert_eq!(told(&actions), expected);
        assert_eq!(router.next_deadline(), Some(begin + DOWN), "as if it had not been received");
        assert_eq!(router.statistics().replayed_received, 1);
    }
    assert_eq!(router.handle(numbered(150, LOW, 43), begin + SECOND), []);
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN));
}

#[test]
fn numbers_mean_nothing_without_the_header() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for _ in 0..3 {
        assert_eq!(router.handle(heard(&config(), 150, HIGH), begin), []);
    }
    assert_eq!(numbers(&router.handle(Event::Claim, begin)), [0]);
}

#[test]
fn a_master_counts_on_from_a_router_that_has_to_give_way() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(Event::Claim, begin));
    let actions = router.handle(numbered(50, HIGH, 1000), begin + SECOND / 2);
    assert!(numbers(&actions)[0] > 1000, "or it would not be heeded");
}

#[test]
fn masters_that_began_with_the_same_number_hear_each_other() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(Event::Claim, begin));
    let actions = router.handle(numbered(200, HIGH, 1), begin + SECOND / 2);
    assert!(actions.iter().any(|action| matches!(action, Action::Superseded { .. })));
    assert_eq!(numbers(&actions), [2], "its last word");
    let again = router.handle(numbered(200, HIGH, 1), begin + SECOND / 2);
    assert!(matches!(
        again[..],
        [Action::Rejected { rejection: Rejection::Sequence { theirs: 1, ours: 2 }, .. }]
    ));
}

#[test]
fn a_number_that_another_was_heard_with_is_no_longer_this_routers_own() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(50, HIGH, 7), begin));
    drop(router.handle(Event::Claim, begin));
    let actions = router.handle(numbered(200, HIGH, 7), begin + SECOND / 2);
    assert!(matches!(
        actions[..],
        [Action::Rejected { rejection: Rejection::Sequence { theirs: 7, ours: 8 }, .. }]
    ));
    assert_eq!(router.state().name(), StateName::Master);
}

#[test]
fn the_counter_begins_anew_at_the_end_of_its_range_and_nothing_sticks() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(150, HIGH, 0xffff_fffc), begin));
    assert_eq!(numbers(&router.handle(Event::Claim, begin)), [0xffff_fffd]);
    assert_eq!(numbers(&router.handle(Event::Timeout, begin + SECOND)), [1]);
    for last in [0xffff_fffd, u32::MAX] {
        let mut router = started(header(), begin);
        drop(router.handle(numbered(150, HIGH, last), begin));
        assert_eq!(router.handle(numbered(150, HIGH, 1), begin + SECOND), [], "counted anew");
        assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN));
        drop(router.handle(numbered(150, HIGH, u32::MAX), begin + SECOND));
        assert_eq!(numbers(&router.handle(Event::Claim, begin + SECOND)), [1]);
    }
}

#[test]
fn a_neighbour_that_counts_anew_is_believed_after_a_master_down_interval_of_refusal() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(150, HIGH, 5000), begin));
    drop(router.handle(Event::Timeout, begin + DOWN));
    drop(router.handle(Event::Claim, begin + DOWN));
    let restart = begin + 10 * SECOND;
    let mut heeded = None;
    for second in 0..8 {
        let now = restart + second * SECOND;
        let actions = router.handle(numbered(150, HIGH, 1 + second), now);
        let yields = actions.iter().any(|action| matches!(action, Action::Superseded { .. }));
        if yields && heeded.is_none() {
            heeded = Some(second);
        }
    }
    assert_eq!(heeded, Some(4), "refused at 0 to 3 s, believed after 3.6 s");
    assert_eq!(router.next_deadline(), Some(restart + 7 * SECOND + DOWN), "and from then on");
}

#[test]
fn while_good_numbers_are_heard_no_replay_is_ever_believed() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    for second in 0..60 {
        let now = begin + second * SECOND;
        assert_eq!(router.handle(numbered(150, HIGH, 5000 + second), now), []);
        drop(router.handle(numbered(200, LOW, 1 + second), now + SECOND / 2));
        assert_eq!(router.master_address(), Some(address(HIGH)));
    }
    assert_eq!(router.statistics().replayed_received, 60);
}

#[test]
fn refusals_with_a_break_between_them_do_not_add_up() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(150, HIGH, 5000), begin));
    for minute in 1..5 {
        drop(router.handle(numbered(150, HIGH, 1), begin + minute * 60 * SECOND));
    }
    assert_eq!(router.statistics().replayed_received, 4);
}

#[test]
fn another_way_to_authenticate_forgets_the_numbers() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(150, HIGH, 5000), begin));
    drop(router.handle(Event::Configure(Box::new(config())), begin));
    drop(router.handle(Event::Configure(Box::new(header())), begin));
    assert_eq!(numbers(&router.handle(Event::Claim, begin)), [1]);
}

#[test]
fn another_password_keeps_the_numbers() {
    let begin = start_of_time();
    let mut router = started(header(), begin);
    drop(router.handle(numbered(150, HIGH, 5000), begin));
    let authentication = Authentication::Header(Password::new("other").unwrap());
    let other = Config { authentication, ..config() };
    drop(router.handle(Event::Configure(Box::new(other)), begin));
    assert_eq!(numbers(&router.handle(Event::Claim, begin)), [5001]);
}

#[test]
fn a_router_that_is_started_again_goes_on_counting_where_it_was() {
    let begin = start_of_time();
    let mut killed = started(header(), begin);
    drop(killed.handle(numbered(150, HIGH, 5000), begin));
    drop(killed.handle(Event::Claim, begin));
    let mut router = started(header(), begin);
    router.go_on_from_sequence(killed.sequence());
    assert_eq!(numbers(&router.handle(Event::Claim, begin)), [5002]);
}

#[test]
fn stamps_grow_for_each_sender_by_itself() {
    let begin = start_of_time();
    let mut stamps = super::super::replay::Stamps::default();
    assert!(stamps.admit(address(HIGH), 10, begin));
    assert!(stamps.admit(address(LOW), 5, begin), "another sender has another clock");
    assert!(!stamps.admit(address(HIGH), 10, begin), "heard before");
    assert!(!stamps.admit(address(HIGH), 9, begin), "older");
    assert!(stamps.admit(address(HIGH), 11, begin));
}

#[test]
fn the_number_of_senders_with_a_stamp_is_bounded_and_the_one_silent_for_longest_goes() {
    let begin = start_of_time();
    let mut stamps = super::super::replay::Stamps::default();
    for number in 0..=16_u8 {
        let now = begin + u32::from(number) * SECOND;
        assert!(stamps.admit(address(&format!("10.0.1.{number}")), 10, now));
    }
    let now = begin + 20 * SECOND;
    assert!(stamps.admit(address("10.0.1.0"), 10, now), "forgotten");
    assert!(!stamps.admit(address("10.0.1.16"), 10, now), "remembered");
}

fn header() -> Config {
    Config {
        authentication: Authentication::Header(Password::new("9YasrrhZ").unwrap()),
        ..config()
    }
}

fn numbered(priority: u8, source: &str, sequence: u32) -> Event {
    let mut advertisement = Advertisement::of(&header(), priority);
    advertisement.format = Format::V2(AuthenticationData { kind: 2, data: [0; 8], sequence });
    Event::Received { advertisement, source: address(source) }
}

fn numbers(actions: &[Action]) -> Vec<u32> {
    let number = |action: &Action| match action {
        Action::Send(Advertisement { format: Format::V2(data), .. }) => Some(data.sequence),
        _ => None,
    };
    actions.iter().filter_map(number).collect()
}
