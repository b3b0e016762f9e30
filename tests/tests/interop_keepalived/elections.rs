//! Who becomes master, and when: preemption, ties, owners, three routers, many addresses, short intervals.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use lockstep_tests::router::Role;

#[test]
fn the_better_router_preempts_a_working_master() {
    each_pair("the_better_router_preempts_a_working_master", |programs| {
        let setting = Setting::version_3();
        let mut segment = Segment::new(programs);
        segment.start_master(1, &setting);
        segment.wait_for_announcement(1);
        segment.start(0, &setting.priority(150));
        segment.wait_for_only_master(0);
        segment.wait_for_masters("ba");
        told(&segment)
    });
}

#[test]
fn without_preempt_the_better_router_leaves_a_working_master_alone() {
    each_pair("without_preempt_the_better_router_leaves_a_working_master_alone", |programs| {
        let setting = Setting::version_3();
        let mut segment = Segment::new(programs);
        segment.start_master(1, &setting);
        segment.wait_for_announcement(1);
        segment.start_backup(0, &Setting { preempt: false, ..setting.priority(150) });
        wait::throughout(setting.master_down() * 2, "backup, whatever its priority", || {
            segment.has_none(0)
        });
        assert_eq!((segment.masters().as_str(), segment.role(0)), ("b", Role::Backup));

        segment.kill(1);
        segment.wait_for_only_master(0);
        segment.wait_for_masters("ba");
        told(&segment)
    });
}

#[test]
fn a_preempt_delay_is_waited_for_before_a_working_master_is_replaced() {
    const DELAY: Duration = Duration::from_secs(3);
    each_pair("a_preempt_delay_is_waited_for", |programs| {
        let setting = Setting::version_3();
        let mut segment = Segment::new(programs);
        segment.start_master(1, &setting);
        segment.wait_for_announcement(1);
        let before = since_1970();
        segment.start(0, &Setting { preempt_delay: DELAY, ..setting.priority(150) });
        segment.wait_for_only_master(0);
        segment.wait_for_masters("ba");
        let waited = first_claim(&segment, 0).saturating_sub(before);
        assert!(waited >= DELAY, "it waited {waited:?} only");
        told(&segment)
    });
}

#[test]
fn a_preempt_delay_does_not_keep_a_dead_master_in_office() {
    each_pair("a_preempt_delay_does_not_keep_a_dead_master_in_office", |programs| {
        let setting = Setting::version_3();
        let delay = Duration::from_mins(15);
        let mut segment = Segment::new(programs);
        segment.start_master(1, &setting);
        segment.wait_for_announcement(1);
        segment.start_backup(0, &Setting { preempt_delay: delay, ..setting.priority(150) });
        let heard = segment.advertisements(1).len();
        wait::until("it has heard the master", || segment.advertisements(1).len() > heard + 2);
        segment.kill(1);
        segment.wait_for_only_master(0);
        segment.wait_for_masters("ba");
        told(&segment)
    });
}

#[test]
fn of_equal_priorities_the_first_stays_until_two_masters_meet() {
    each_pair("of_equal_priorities_the_first_stays_until_two_masters_meet", |programs| {
        let mut seen = Observation::default();
        let setting = Setting { preempt: false, ..Setting::version_3() };
        let mut segment = Segment::new(programs);
        segment.start_master(0, &setting);
        segment.wait_for_announcement(0);
        segment.start_backup(1, &setting);
        wait::throughout(
            setting.master_down() * 2,
            "the higher address alone takes no place",
            || segment.has_none(1),
        );
        segment.wait_for_masters("a");

        segment.deafen(1);
        segment.wait_for_only_master(1);
        segment.wait_for_masters("ab");
        segment.hear_again(1);
        seen.note("story", segment.story());

        segment.deafen(0);
        segment.wait_for_master(0);
        seen.note("holders while one is deaf", segment.holders());
        segment.hear_again(0);
        segment.wait_for_only_master(1);
        seen.note("holders at the end", segment.holders());
        seen
    });
}

#[test]
fn a_master_with_the_lower_priority_gives_way_when_it_hears_again() {
    each_pair("a_master_with_the_lower_priority_gives_way_when_it_hears_again", |programs| {
        let mut seen = Observation::default();
        let setting = Setting::version_3();
        let mut segment = Segment::new(programs);
        segment.start_master(0, &setting.priority(150));
        segment.start_backup(1, &setting);
        segment.deafen(1);
        segment.wait_for_master(1);
        seen.note("holders while one is deaf", segment.holders());
        segment.hear_again(1);
        segment.wait_for_only_master(0);
        seen.note("holders at the end", segment.holders());
        seen
    });
}

#[test]
fn an_owner_is_master_at_once() {
    // Who is not the owner is master after more than a minute here, and nothing is waited for that long.
    let slow = Setting { interval: Duration::from_secs(20), ..Setting::version_3() };
    each_pair("an_owner_is_master_at_once", |programs| {
        let mut segment = Segment::new(programs);
        segment.start_master(0, &slow.priority(255));
        segment.wait_for_announcement(0);
        segment.wait_for_masters("a");
        told(&segment)
    });
}

#[test]
fn an_owner_replaces_a_working_master() {
    each_pair("an_owner_replaces_a_working_master", |programs| {
        let setting = Setting::version_3();
        let mut segment = Segment::new(programs);
        segment.start_master(1, &setting.priority(254));
        segment.wait_for_announcement(1);
        segment.start(0, &setting.priority(255));
        segment.wait_for_only_master(0);
        segment.wait_for_masters("ba");
        told(&segment)
    });
}

#[test]
fn of_three_routers_the_next_best_takes_over() {
    let mixes = ["KKK", "LKK", "KLK", "KKL", "LLK", "LKL", "KLL"];
    let scenario = "of_three_routers_the_next_best_takes_over";
    compare::compare(scenario, &mixes, DIFFERENCES, |programs| {
        let setting = Setting { interval: Duration::from_millis(500), ..Setting::version_3() };
        let mut seen = Observation::default();
        let mut segment = Segment::new(programs);
        segment.start_master(0, &setting.priority(200));
        segment.wait_for_announcement(0);
        segment.start_backup(1, &setting.priority(150));
        segment.start_backup(2, &setting);

        segment.kill(0);
        segment.wait_for_only_master(1);
        segment.wait_for_masters("ab");
        segment.stop(1);
        segment.wait_for_only_master(2);
        segment.wait_for_masters("abc");
        segment.start(0, &setting.priority(200));
        segment.wait_for_only_master(0);
        segment.wait_for_masters("abca");
        seen.note("holders", segment.holders());
        seen.note("story", segment.story());
        for router in 0..3 {
            seen.note(&format!("words of {router}"), segment.words(router));
        }
        seen
    });
}

#[test]
fn twenty_five_addresses_move_together() {
    let addresses: Vec<String> = (1..=25).map(|host| format!("10.51.1.{host}/24")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    each_pair("twenty_five_addresses_move_together", |programs| {
        let setting = Setting::version_3().addresses(&addresses);
        let mut seen = Observation::default();
        let mut segment = Segment::new(programs);
        segment.start_master(0, &setting.priority(150));
        segment.start_backup(1, &setting);
        seen.note("holders with a master", segment.holders());
        segment.stop(0);
        segment.wait_for_only_master(1);
        wait::until("all are announced", || {
            segment.words(1).announcements.len() == 1
                && segment.story().iter().any(|step| format!("{step:?}").contains("10.51.1.25"))
        });
        seen.note("holders after the stop", segment.holders());
        seen.note("advertisements", segment.words(1).advertisements);
        seen
    });
}

#[test]
fn ten_advertisements_a_second_hold_and_hand_over() {
    quick("ten_advertisements_a_second_hold_and_hand_over", Duration::from_millis(100));
}

#[test]
fn a_hundred_advertisements_a_second_hold_and_hand_over() {
    quick("a_hundred_advertisements_a_second_hold_and_hand_over", Duration::from_millis(10));
}

/// A life with a short interval. A machine that stalls makes masters come and go, so what is asserted is where it ends.
fn quick(scenario: &str, interval: Duration) {
    each_pair(scenario, |programs| {
        let setting = Setting { interval, ..Setting::version_3() };
        let mut seen = Observation::default();
        let mut segment = Segment::new(programs);
        segment.start_master(0, &setting.priority(150));
        segment.start(1, &setting);
        segment.wait_for_only_master(0);
        segment.stop(0);
        segment.wait_for_only_master(1);
        segment.start(0, &setting.priority(150));
        segment.wait_for_only_master(0);
        segment.kill(0);
        segment.wait_for_master(1);
        let flaps = segment.masters().len().saturating_sub("abab".len());
        if flaps > 0 {
            eprintln!("{programs:?}, every {interval:?}: {flaps} changes too many");
        }
        seen.note("advertisements", segment.words(1).advertisements);
        seen
    });
}

fn told(segment: &Segment) -> Observation {
    let mut seen = Observation::default();
    seen.note("story", segment.story());
    seen.note("holders", segment.holders());
    seen
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later")
}

/// When a router first advertised a priority above 0, since 1970.
fn first_claim(segment: &Segment, index: usize) -> Duration {
    let own = lockstep_tests::segment::ipv4(index);
    let frames = segment.capture.frames();
    let claim =
        frames.iter().find(|frame| frame.advertisement().is_some_and(|seen| seen.source == own));
    claim.expect("it has claimed").at
}
