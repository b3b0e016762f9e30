//! Why a router is what it is, in each situation that an operator meets.

use super::*;

fn because(router: &VirtualRouter, now: Instant) -> String {
    router.standing(now).because.join("; ")
}

fn changes(router: &VirtualRouter, now: Instant) -> String {
    router.standing(now).would_change.join("; ")
}

#[test]
fn a_backup_names_the_master_that_is_better_and_what_would_make_it_master() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    assert_eq!(because(&router, begin), "it has heard nobody yet and listens");
    assert_eq!(changes(&router, begin), "nobody is heard for 3.61 s more");
    drop(router.handle(heard(&config(), 150, HIGH), begin + SECOND));
    let now = begin + 2 * SECOND;
    let expected = "10.0.0.3 is master with priority 150, heard 1.00 s ago; ours is 100";
    assert_eq!(because(&router, now), expected);
    let expected = "10.0.0.3 is silent for 2.61 s more, or says that it stops (priority 0); \
                    our priority is above 150";
    assert_eq!(changes(&router, now), expected);
    drop(router.handle(heard(&config(), 0, HIGH), now));
    assert_eq!(because(&router, now), "10.0.0.3 has stopped (priority 0)");
    assert_eq!(changes(&router, now), "nobody else claims for 0.61 s more");
}

#[test]
fn a_better_router_says_what_keeps_it_from_preempting() {
    let begin = start_of_time();
    let now = begin + SECOND;
    let keeps = |config: Config, allowed: bool| {
        let mut router = started(config.clone(), begin);
        drop(router.handle(Event::PreemptAllowed(allowed), begin));
        drop(router.handle(heard(&config, 90, HIGH), now));
        router.standing(now).because.pop().unwrap()
    };
    let never = Config { preempt: false, ..config() };
    assert_eq!(keeps(never, true), "it does not preempt (`preempt = false`)");
    assert_eq!(keeps(config(), false), "its group does not let it preempt yet");
    let patient = Config { preempt_delay: 10 * SECOND, ..config() };
    assert_eq!(keeps(patient, true), "preempt-delay has 10.00 s to go");
}

#[test]
fn a_master_says_what_would_end_its_mastership() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let elected = begin + DOWN;
    drop(router.handle(Event::Timeout, elected));
    assert_eq!(because(&router, elected), "it is elected, and waits for the rest of its group");
    drop(router.handle(Event::Claim, elected));
    assert_eq!(because(&router, elected), "nobody better is heard; its priority is 100");
    let primary = router.primary_address().unwrap();
    let expected = format!(
        "an advertisement with a priority above 100 is heard, or with the same from an address \
         above {primary}"
    );
    assert_eq!(changes(&router, elected), expected);
    let beside = |router: &VirtualRouter, now| router.standing(now).because.pop().unwrap();
    drop(router.handle(heard(&config(), 90, LOW), elected + SECOND));
    assert_eq!(
        beside(&router, elected + 2 * SECOND),
        "10.0.0.1 is or was master too (priority 90) and has to give way: heard once, 1.0 s ago"
    );
    drop(router.handle(heard(&config(), 80, LOW), elected + 3 * SECOND));
    assert_eq!(
        beside(&router, elected + 4 * SECOND),
        "10.0.0.1 is or was master too (priority 80) and has to give way: \
         heard 2 times from 3.0 s to 1.0 s ago"
    );
    drop(router.handle(heard(&config(), 0, LOW), elected + 5 * SECOND));
    assert!(beside(&router, elected + 5 * SECOND).contains("(priority 80)"), "0 is no master's");
    let later = elected + 64 * SECOND;
    assert_eq!(because(&router, later), "nobody better is heard; its priority is 100");
    drop(router.handle(Event::Shutdown, elected));
    assert_eq!(because(&router, elected), "it takes no part in the election");
}
