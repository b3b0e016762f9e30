//! What is announced when, in plain words.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{AnnouncementTarget, AnnouncementTimes, Announcements, MAX_ANNOUNCEMENTS_AT_ONCE};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[test]
fn addresses_are_announced_at_once_and_again_after_each_delay() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1), target("eth0", 2)], times(&[0, 100, 1000]), begin);
    let made = run(&mut schedule, begin, 60 * SECOND);
    let expected = [(0, 1), (0, 2), (100, 1), (100, 2), (1000, 1), (1000, 2)];
    assert_eq!(made, expected);
    assert_eq!(schedule.next_deadline(), None);
}

#[test]
fn a_master_that_lasts_refreshes_its_announcements() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    let times = AnnouncementTimes { refresh: Some(10 * SECOND), ..times(&[0, 1000]) };
    schedule.start("inside", [target("eth0", 1)], times, begin);
    let made = run(&mut schedule, begin, 32 * SECOND);
    assert_eq!(made, [(0, 1), (1000, 1), (11_000, 1), (21_000, 1), (31_000, 1)]);
}

#[test]
fn a_refresh_without_delays_is_counted_from_the_start() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    let times = AnnouncementTimes { after: Vec::new(), refresh: Some(SECOND) };
    schedule.start("inside", [target("eth0", 1)], times, begin);
    assert_eq!(run(&mut schedule, begin, 2 * SECOND), [(1000, 1), (2000, 1)]);
}

#[test]
fn a_key_that_is_stopped_announces_nothing_not_even_what_waits() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.pace("eth0", 10 * MILLISECOND);
    schedule.start("inside", (1..=5).map(|n| target("eth0", n)), times(&[0, 20]), begin);
    schedule.start("outside", [target("eth0", 9)], times(&[0]), begin);
    assert_eq!(addresses(&schedule.due(begin)), [1]);
    schedule.conflict("inside", begin);
    schedule.stop("inside");
    assert!(!schedule.is_started("inside"));
    schedule.conflict("inside", begin);
    schedule.restart("inside", begin);
    schedule.retarget("inside", [target("eth0", 7)], begin);
    assert_eq!(run(&mut schedule, begin, 60 * SECOND), [(10, 9)], "and its place is free");
}

#[test]
fn stopping_an_unknown_key_is_harmless() {
    let mut schedule = Announcements::new();
    schedule.stop("inside");
    assert_eq!(schedule.next_deadline(), None);
}

#[test]
fn frames_on_a_paced_interface_keep_their_distance_and_others_do_not_wait() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.pace("eth0", 10 * MILLISECOND);
    let targets = [target("eth0", 1), target("eth1", 11), target("eth0", 2), target("eth1", 12)];
    schedule.start("inside", targets, times(&[0]), begin);
    schedule.start("outside", [target("eth0", 3)], times(&[0]), begin);
    let mut made = run(&mut schedule, begin, SECOND);
    made.sort_unstable();
    assert_eq!(made, [(0, 1), (0, 11), (0, 12), (10, 2), (20, 3)]);
}

#[test]
fn the_distance_is_kept_between_the_rounds_too() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.pace("eth0", 100 * MILLISECOND);
    schedule.start("inside", [target("eth0", 1)], times(&[0, 10]), begin);
    schedule.start("outside", [target("eth0", 2)], times(&[50]), begin);
    assert_eq!(run(&mut schedule, begin, SECOND), [(0, 1), (100, 1), (200, 2)]);
}

#[test]
fn a_line_that_is_slower_than_the_rounds_holds_no_more_than_one_round_behind_the_one_under_way() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.pace("eth0", SECOND);
    schedule.start(
        "inside",
        [target("eth0", 1), target("eth0", 2)],
        times(&[0, 1, 2, 3, 4]),
        begin,
    );
    let made = run(&mut schedule, begin, 60 * SECOND);
    assert_eq!(made, [(0, 1), (1000, 2), (2000, 1), (3000, 2)], "five rounds became two");
}

#[test]
fn a_conflict_is_answered_at_once_and_then_with_growing_distance_while_it_lasts() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1)], times(&[]), begin);
    let mut made = Vec::new();
    for tenth in 0..2500_u32 {
        let now = begin + tenth * 100 * MILLISECOND;
        schedule.conflict("inside", now);
        made.extend(schedule.due(now).iter().map(|_| tenth / 10));
    }
    assert_eq!(made, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
}

#[test]
fn the_last_conflict_is_answered_even_when_it_was_too_early_for_it() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1)], times(&[]), begin);
    schedule.conflict("inside", begin);
    assert_eq!(addresses(&schedule.due(begin)), [1]);
    schedule.conflict("inside", begin + 300 * MILLISECOND);
    assert_eq!(run(&mut schedule, begin, 60 * SECOND), [(1000, 1)]);
}

#[test]
fn after_a_quiet_minute_a_conflict_is_answered_at_once_again() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1)], times(&[]), begin);
    for second in 0..5 {
        schedule.conflict("inside", begin + second * SECOND);
        let _ = schedule.due(begin + second * SECOND);
    }
    drop(run(&mut schedule, begin, 30 * SECOND));
    let later = begin + 64 * SECOND;
    schedule.conflict("inside", later);
    assert_eq!(addresses(&schedule.due(later)), [1]);
    schedule.conflict("inside", later + SECOND);
    assert_eq!(addresses(&schedule.due(later + SECOND)), [1], "and the distance is short again");
}

#[test]
fn conflicts_once_a_second_do_not_stay_at_the_first_distance() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1)], times(&[]), begin);
    let mut made = 0;
    for second in 0..60 {
        let now = begin + second * 1003 * MILLISECOND;
        schedule.conflict("inside", now);
        made += schedule.due(now).len();
    }
    assert_eq!(made, 6, "1, 2, 4, 8, 16 and 32 s apart");
}

#[test]
fn a_schedule_that_is_served_late_does_not_catch_up() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    let times = AnnouncementTimes { refresh: Some(SECOND), ..times(&[0, 100, 1000]) };
    schedule.start("inside", [target("eth0", 1)], times, begin);
    let late = begin + 30 * SECOND;
    assert_eq!(addresses(&schedule.due(late)), [1]);
    assert_eq!(schedule.next_deadline(), Some(late + SECOND));
}

#[test]
fn a_new_address_begins_the_rounds_anew_and_one_less_does_not() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1), target("eth0", 2)], times(&[0, 5000]), begin);
    assert_eq!(addresses(&schedule.due(begin)), [1, 2]);
    schedule.retarget("inside", [target("eth0", 2)], begin + SECOND);
    assert_eq!(run(&mut schedule, begin, 4 * SECOND), []);
    schedule.retarget("inside", [target("eth0", 2), target("eth0", 3)], begin + 4 * SECOND);
    let made = run(&mut schedule, begin, 60 * SECOND);
    assert_eq!(made, [(4000, 2), (4000, 3), (9000, 2), (9000, 3)]);
}

#[test]
fn an_address_that_is_taken_away_while_it_waits_is_not_announced() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.pace("eth0", SECOND);
    schedule.start("inside", (1..=3).map(|n| target("eth0", n)), times(&[0]), begin);
    assert_eq!(addresses(&schedule.due(begin)), [1]);
    schedule.retarget("inside", [target("eth0", 3)], begin);
    assert_eq!(run(&mut schedule, begin, 60 * SECOND), [(1000, 3)]);
}

#[test]
fn a_restart_makes_all_rounds_again() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1)], times(&[0, 1000]), begin);
    assert_eq!(run(&mut schedule, begin, 10 * SECOND).len(), 2);
    schedule.restart("inside", begin + 10 * SECOND);
    assert_eq!(run(&mut schedule, begin, 20 * SECOND), [(10_000, 1), (11_000, 1)]);
}

#[test]
fn a_key_that_goes_on_makes_no_rounds_before_the_next_refresh_or_conflict() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    let times = AnnouncementTimes { refresh: Some(10 * SECOND), ..times(&[0, 1000]) };
    schedule.resume("inside", [target("eth0", 1)], times, begin);
    assert_eq!(run(&mut schedule, begin, 12 * SECOND), [(10_000, 1)]);
    schedule.conflict("inside", begin + 12 * SECOND);
    assert_eq!(run(&mut schedule, begin, 13 * SECOND), [(12_000, 1)]);
    schedule.restart("inside", begin + 13 * SECOND);
    assert_eq!(run(&mut schedule, begin, 15 * SECOND), [(13_000, 1), (14_000, 1)]);
}

#[test]
fn starting_again_forgets_what_was_started_before() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1)], times(&[0, 1000]), begin);
    schedule.start("inside", [target("eth0", 2)], times(&[500]), begin);
    assert_eq!(run(&mut schedule, begin, 10 * SECOND), [(500, 2)]);
}

#[test]
fn an_address_named_twice_is_announced_once() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    schedule.start("inside", [target("eth0", 1), target("eth0", 1)], times(&[0]), begin);
    assert_eq!(addresses(&schedule.due(begin)), [1]);
}

#[test]
fn four_thousand_keys_go_out_in_batches_and_none_is_forgotten() {
    let begin = start_of_time();
    let mut schedule = Announcements::new();
    for key in 0..4000 {
        let name = format!("group-{key}");
        schedule.start(&name, [target("eth0", 1), target("eth1", 2)], times(&[0, 5000]), begin);
    }
    let mut made = 0;
    while schedule.next_deadline().is_some_and(|at| at <= begin) {
        let batch = schedule.due(begin);
        assert!(!batch.is_empty() && batch.len() <= MAX_ANNOUNCEMENTS_AT_ONCE);
        made += batch.len();
    }
    assert_eq!(made, 8000);
    for key in 0..3999 {
        schedule.stop(&format!("group-{key}"));
    }
    assert_eq!(run(&mut schedule, begin, 60 * SECOND).len(), 2);
}

/// Every announcement until `begin + length`: milliseconds since `begin` and the last octet.
fn run(schedule: &mut Announcements, begin: Instant, length: Duration) -> Vec<(u128, u8)> {
    let mut made = Vec::new();
    while let Some(at) = schedule.next_deadline().filter(|at| *at <= begin + length) {
        let batch = schedule.due(at);
        assert!(schedule.next_deadline() != Some(at) || !batch.is_empty(), "no busy loop");
        let after = (at - begin).as_millis();
        made.extend(addresses(&batch).into_iter().map(|octet| (after, octet)));
    }
    made
}

fn addresses(batch: &[AnnouncementTarget]) -> Vec<u8> {
    let octet = |target: &AnnouncementTarget| match target.address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    batch.iter().map(octet).collect()
}

fn target(interface: &str, octet: u8) -> AnnouncementTarget {
    AnnouncementTarget { interface: Arc::from(interface), address: [10, 0, 0, octet].into() }
}

fn times(milliseconds: &[u64]) -> AnnouncementTimes {
    let after = milliseconds.iter().copied().map(Duration::from_millis).collect();
    AnnouncementTimes { after, refresh: None }
}

#[expect(clippy::disallowed_methods, reason = "any instant will do; no clock is compared with it")]
fn start_of_time() -> Instant {
    Instant::now()
}
