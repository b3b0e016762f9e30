//! Another priority in force, and other settings, while the election goes on.

use super::*;
use crate::{ChecksumDialect, Transport};

#[test]
fn the_priority_in_force_is_sent_and_compared() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    assert_eq!(router.effective_priority().value(), 100);
    let actions = router.handle(tracked(60), begin + SECOND);
    assert_eq!(told(&actions), "send 60", "others may be better now: they are told at once");
    assert_eq!((router.effective_priority().value(), router.config().priority.value()), (60, 100));
    let actions = router.handle(heard(&config(), 61, LOW), begin + 2 * SECOND);
    assert_eq!(told(&actions), "send 60, master→backup, superseded by 10.0.0.1 (61)");
    let skew = SECOND * 196 / 256;
    assert_eq!(router.next_deadline(), Some(begin + 2 * SECOND + 3 * SECOND + skew));
    assert_eq!((router.skew_time(), router.master_down_interval()), (skew, 3 * SECOND + skew));
}

#[test]
fn a_tie_is_one_of_the_priorities_in_force() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    drop(router.handle(tracked(60), begin));
    let actions = router.handle(heard(&config(), 60, HIGH), begin + SECOND);
    assert_eq!(told(&actions), "send 60, master→backup, superseded by 10.0.0.3 (60)");
}

#[test]
fn a_higher_priority_in_force_preempts_the_master() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 120, HIGH), begin));
    drop(router.handle(tracked(150), begin));
    drop(router.handle(heard(&config(), 120, HIGH), begin + SECOND));
    let actions = router.handle(Event::Timeout, router.next_deadline().unwrap());
    let reason = "10.0.0.3 is master with priority 120, lower than our 150";
    assert_eq!(actions, [Action::Elected { reason: reason.to_owned() }]);
}

#[test]
fn another_priority_shifts_the_running_timer_and_does_not_restart_it() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for step in 0..6 {
        let priority = if step % 2 == 0 { 200 } else { 100 };
        drop(router.handle(tracked(priority), begin + step * SECOND / 2));
    }
    assert_eq!(router.next_deadline(), Some(begin + DOWN), "as if nothing had been");
}

#[test]
fn a_timer_that_is_shifted_into_the_past_is_due_and_not_late() {
    let begin = start_of_time();
    let mut router = started(Config { priority: Priority::new(1).unwrap(), ..config() }, begin);
    let now = begin + 3 * SECOND + SECOND / 2;
    drop(router.handle(tracked(254), now));
    assert_eq!(router.next_deadline(), Some(now));
    assert_eq!(told(&router.handle(Event::Timeout, now)), "elected");
}

#[test]
fn another_priority_does_not_hide_that_a_timer_is_late() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let late = begin + 30 * SECOND;
    drop(router.handle(tracked(200), late));
    assert!(matches!(router.handle(Event::Timeout, late)[..], [Action::Overslept { .. }]));
}

#[test]
fn another_priority_shifts_a_skew_time_by_the_difference_of_the_skew_times() {
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    let slow = Config { advertisement_interval: 4 * SECOND, ..version_3() };
    drop(router.handle(heard(&slow, 150, HIGH), begin));
    drop(router.handle(heard(&slow, 0, HIGH), begin));
    assert_eq!(router.next_deadline(), Some(begin + 4 * SECOND * 156 / 256));
    drop(router.handle(tracked(200), begin));
    assert_eq!(router.next_deadline(), Some(begin + 4 * SECOND * 56 / 256));
}

#[test]
fn an_address_owner_keeps_its_priority() {
    let begin = start_of_time();
    let mut router = started(Config { priority: Priority::OWNER, ..config() }, begin);
    drop(router.handle(Event::Claim, begin));
    assert_eq!(told(&router.handle(tracked(1), begin)), "");
    assert_eq!(router.effective_priority(), Priority::OWNER);
}

#[test]
fn nobody_becomes_an_address_owner_by_tracking() {
    let mut router = started(config(), start_of_time());
    drop(router.handle(Event::Priority(Priority::OWNER), start_of_time()));
    assert_eq!(router.effective_priority().value(), 254);
}

#[test]
fn settings_that_are_the_same_change_nothing() {
    for situation in [Initialize, Backup, Elected, Master] {
        let begin = start_of_time();
        let mut router = situated(situation, begin);
        let before = (router.state(), router.next_deadline());
        let actions = router.handle(configure(&config()), begin + SECOND / 2);
        assert_eq!(actions, []);
        assert_eq!((router.state(), router.next_deadline()), before);
    }
}

#[test]
fn whatever_the_others_see_of_a_master_is_told_at_once() {
    let changed = [
        Config { addresses: vec![address("10.0.0.100"), address("10.0.0.101")], ..config() },
        Config { authentication: password("secret-2"), ..config() },
        Config { authentication: Authentication::None, ..config() },
        Config { advertisement_interval: 2 * SECOND, ..config() },
        Config { priority: Priority::new(99).unwrap(), ..config() },
        Config { checksum: ChecksumDialect::MessageAlone, ..config() },
        Config {
            transport: Transport::Unicast {
                peers: vec![address(HIGH)],
                ttl: 255,
                minimum_ttl: 255,
            },
            ..config()
        },
        version_3(),
    ];
    for config in changed {
        let begin = start_of_time();
        let mut router = situated(Master, begin);
        let now = begin + SECOND / 2;
        let actions = router.handle(configure(&config), now);
        let sent = Advertisement::of(&config, config.priority.value());
        assert_eq!(actions, [Action::Send(sent)]);
        assert_eq!(router.next_deadline(), Some(now + config.advertisement_interval));
        assert_eq!(router.config(), &config);
    }
}

#[test]
fn what_concerns_a_backup_alone_is_no_news_of_a_master() {
    let changed = [
        Config { preempt: false, ..config() },
        Config { preempt_delay: SECOND, ..config() },
        Config { startup_limit: SECOND, ..config() },
        Config { misunderstood: crate::WhenMisunderstood::StayBackup, ..config() },
        Config { priority: Priority::new(101).unwrap(), ..config() },
    ];
    for config in changed {
        let begin = start_of_time();
        let mut router = situated(Master, begin);
        assert_eq!(router.handle(configure(&config), begin + SECOND / 2), []);
        assert_eq!(router.next_deadline(), Some(begin + SECOND));
        assert_eq!(router.config(), &config);
    }
}

#[test]
fn vrid_and_family_stay() {
    let mut router = situated(Backup, start_of_time());
    let other = Config::new(Vrid::new(7).unwrap(), Version::V3, Family::Ipv6);
    drop(router.handle(configure(&other), start_of_time()));
    assert_eq!((router.config().vrid, router.config().family), (config().vrid, Family::Ipv4));
    assert_eq!(router.config().version, Version::V3, "the rest is taken");
}

#[test]
fn an_own_interval_of_a_backup_shifts_its_timer() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 150, HIGH), begin));
    let slow = Config { advertisement_interval: 2 * SECOND, ..config() };
    drop(router.handle(configure(&slow), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + DOWN + 3 * SECOND));
}

#[test]
fn a_learned_interval_is_not_touched_by_our_own() {
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    let slow = Config { advertisement_interval: 4 * SECOND, ..version_3() };
    drop(router.handle(heard(&slow, 150, HIGH), begin));
    let due = router.next_deadline();
    let quick = Config { advertisement_interval: SECOND / 10, ..version_3() };
    drop(router.handle(configure(&quick), begin + SECOND));
    assert_eq!(router.next_deadline(), due);
}

#[test]
fn a_backup_that_has_heard_nobody_waits_by_its_new_interval() {
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    let quick = Config { advertisement_interval: SECOND / 10, ..version_3() };
    drop(router.handle(configure(&quick), begin + SECOND));
    assert_eq!(router.next_deadline(), Some(begin + SECOND), "its time is over, and not late");
    assert_eq!(told(&router.handle(Event::Timeout, begin + SECOND)), "elected");
}

#[test]
fn what_tracking_took_away_stays_away_with_another_configured_priority() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    drop(router.handle(tracked(70), begin));
    let raised = Config { priority: Priority::new(120).unwrap(), ..config() };
    drop(router.handle(configure(&raised), begin));
    assert_eq!(router.effective_priority().value(), 90);
    let owner = Config { priority: Priority::OWNER, ..config() };
    drop(router.handle(configure(&owner), begin));
    assert_eq!(router.effective_priority(), Priority::OWNER);
    drop(router.handle(configure(&raised), begin));
    assert_eq!(router.effective_priority().value(), 120, "an owner has nothing taken away");
}

#[test]
fn preempting_that_is_switched_off_gives_a_working_master_its_full_time() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.handle(heard(&config(), 90, HIGH), begin + 3 * SECOND));
    let patient = Config { preempt: false, ..config() };
    drop(router.handle(configure(&patient), begin + 3 * SECOND));
    assert_eq!(router.next_deadline(), Some(begin + 3 * SECOND + DOWN));
}

#[test]
fn differences_are_noticed_anew_with_other_settings() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let wide = Config { addresses: vec![address("10.0.0.100"), address("10.0.0.101")], ..config() };
    drop(router.receive(&packet(&wide, 150, HIGH), begin));
    assert_eq!(router.differences().len(), 1);
    drop(router.handle(configure(&wide), begin + SECOND));
    drop(router.receive(&packet(&wide, 150, HIGH), begin + SECOND));
    assert_eq!(router.differences(), []);
}

fn tracked(priority: u8) -> Event {
    Event::Priority(Priority::new(priority).unwrap())
}

fn configure(config: &Config) -> Event {
    Event::Configure(Box::new(config.clone()))
}
