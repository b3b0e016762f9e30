//! Answering other masters: at once, never in a flood, and without flapping.

use super::*;

const SIXTEENTH: Duration = Duration::from_micros(62_500);

#[test]
fn a_flood_of_lower_advertisements_is_answered_sixteen_times_an_interval() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let mut sent = 0;
    let mut conflicts = 0;
    for millisecond in 1..=1000 {
        let now = begin + Duration::from_millis(millisecond);
        let mut actions = Vec::new();
        if router.next_deadline().is_some_and(|due| due <= now) {
            actions.extend(router.handle(Event::Timeout, now));
        }
        for _ in 0..10 {
            actions.extend(router.handle(heard(&config(), 50, LOW), now));
        }
        sent += actions.iter().filter(|action| matches!(action, Action::Send(_))).count();
        conflicts +=
            actions.iter().filter(|action| matches!(action, Action::Conflict { .. })).count();
    }
    assert!((15..=16).contains(&sent), "{sent} advertisements");
    assert_eq!(conflicts, sent);
    assert_eq!(router.statistics().conflicts, 10_000);
}

#[test]
fn an_answer_that_is_held_back_comes_within_a_sixteenth_of_the_interval() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let first = begin + SECOND / 2;
    let answer = "send 100, conflict with 10.0.0.1";
    assert_eq!(told(&router.handle(heard(&config(), 50, LOW), first)), answer);
    let second = first + Duration::from_millis(1);
    assert_eq!(told(&router.handle(heard(&config(), 50, LOW), second)), "");
    assert_eq!(router.next_deadline(), Some(first + SIXTEENTH));
    assert_eq!(told(&router.handle(Event::Timeout, first + SIXTEENTH)), answer);
    assert_eq!(router.next_deadline(), Some(first + SIXTEENTH + SECOND));
    assert_eq!(told(&router.handle(Event::Timeout, first + SIXTEENTH + SECOND)), "send 100");
}

#[test]
fn an_answer_does_not_wait_because_an_advertisement_has_just_left() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let now = begin + Duration::from_millis(1);
    let actions = router.handle(heard(&config(), 50, LOW), now);
    assert_eq!(told(&actions), "send 100, conflict with 10.0.0.1");
}

#[test]
fn a_flood_of_priority_0_is_not_answered_by_another() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    let now = begin + SECOND / 2;
    assert_eq!(
        told(&router.handle(heard(&config(), 0, LOW), now)),
        "send 100, conflict with 10.0.0.1"
    );
    for _ in 0..1000 {
        assert_eq!(router.handle(heard(&config(), 0, LOW), now), []);
    }
}

#[test]
fn two_routers_with_the_same_address_and_priority_do_not_flap_and_are_named() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    for second in 1..10 {
        let now = begin + second * SECOND;
        assert_eq!(told(&router.handle(Event::Timeout, now)), "send 100");
        for action in router.receive(&packet(&config(), 100, OWN), now) {
            assert_eq!(
                told(&[action]),
                "10.0.0.2 sends with our own address as its source",
                "once, and it stays master"
            );
            assert_eq!(second, 1);
        }
    }
    assert_eq!(router.state().name(), StateName::Master);
    let named = router.misunderstood()[0].to_string();
    assert_eq!(named, "10.0.0.2 sends with our own address as its source");
    assert_eq!(router.statistics().address_errors, 9);
}

#[test]
fn own_packets_that_come_back_neither_make_nor_end_a_mastership() {
    for situation in [Backup, Elected, Master] {
        let begin = start_of_time();
        let mut router = situated(situation, begin);
        let before = (router.state(), router.next_deadline());
        for priority in [0, 100, 255] {
            drop(router.receive(&packet(&config(), priority, OWN), begin + SECOND / 2));
        }
        assert_eq!((router.state(), router.next_deadline()), before);
    }
}

#[test]
fn of_two_owners_the_higher_address_stays_master_and_both_name_it() {
    let owner = Config { priority: Priority::OWNER, ..config() };
    let begin = start_of_time();
    let mut loser = started(owner.clone(), begin);
    drop(loser.handle(Event::Claim, begin));
    let actions = loser.handle(heard(&owner, 255, HIGH), begin + SECOND);
    assert_eq!(
        told(&actions),
        "send 255, master→backup, superseded by 10.0.0.3 (255), \
         10.0.0.3 differs: priority 255 (address owner), as we do"
    );
    for second in 2..20 {
        let actions = loser.handle(heard(&owner, 255, HIGH), begin + second * SECOND);
        assert_eq!(actions, [], "it stays backup");
    }
    let mut winner = started(owner.clone(), begin);
    drop(winner.handle(Event::Claim, begin));
    let actions = winner.handle(heard(&owner, 255, LOW), begin + SECOND);
    assert_eq!(
        told(&actions),
        "send 255, conflict with 10.0.0.1, \
         10.0.0.1 differs: priority 255 (address owner), as we do"
    );
    let named = winner.differences()[0].to_string();
    assert_eq!(named, "10.0.0.1 is heeded, but sends priority 255 (address owner), as we do");
}

/// Two routers of one link that cannot hear each other: the better one, and the other one.
fn two_masters(begin: Instant) -> [VirtualRouter; 2] {
    [(150, HIGH), (100, LOW)].map(|(priority, source)| {
        let priority = Priority::new(priority).unwrap();
        let mut router = VirtualRouter::new(Config { priority, ..config() });
        drop(router.handle(Event::Startup { primary: address(source) }, begin));
        drop(router.handle(Event::Claim, begin));
        router
    })
}

#[test]
fn of_two_masters_the_winner_hears_of_the_other_one_whoever_speaks_first() {
    for first in [0, 1] {
        let begin = start_of_time();
        let mut masters = two_masters(begin);
        let sources = [HIGH, LOW];
        let mut conflicts = 0;
        let due = begin + SECOND;
        let mut said: Vec<(usize, Action)> = Vec::new();
        said.extend(masters[first].handle(Event::Timeout, due).into_iter().map(|it| (first, it)));
        while let Some((from, action)) = said.pop() {
            match action {
                Action::Send(advertisement) => {
                    let source = address(sources[from]);
                    let heard = Event::Received { advertisement, source };
                    let actions = masters[1 - from].handle(heard, due);
                    said.extend(actions.into_iter().rev().map(|it| (1 - from, it)));
                }
                Action::Conflict { with } => {
                    assert_eq!((from, with), (0, address(LOW)));
                    conflicts += 1;
                }
                _ => {}
            }
        }
        assert!(conflicts >= 1, "router {first} speaks first");
        let [winner, loser] = &masters;
        assert_eq!(winner.state().name(), StateName::Master);
        assert_eq!(loser.state().name(), StateName::Backup);
        assert_eq!(loser.master_address(), Some(address(HIGH)));
    }
}

#[test]
fn a_master_that_is_preempted_is_no_second_one_for_an_interval() {
    let begin = start_of_time();
    let preempted = || {
        let mut router = started(config(), begin);
        drop(router.handle(heard(&config(), 90, LOW), begin));
        router
    };
    let conflict = "send 100, conflict with 10.0.0.1";
    let mut router = preempted();
    drop(router.handle(Event::Claim, begin));
    assert_eq!(told(&router.handle(heard(&config(), 90, LOW), begin)), "send 100", "answered");
    assert_eq!(router.handle(heard(&config(), 90, LOW), begin), [], "but in no flood");
    assert_eq!(router.statistics().conflicts, 0);
    let other = "send 100, conflict with 10.0.0.3";
    assert_eq!(told(&router.handle(heard(&config(), 90, HIGH), begin + SIXTEENTH)), other);
    let later = begin + SECOND;
    assert_eq!(told(&router.handle(heard(&config(), 90, LOW), later)), conflict);

    // Of one that was taken for dead nothing was to be expected.
    let mut router = preempted();
    let claimed = begin + 4 * SECOND;
    drop(router.handle(Event::Claim, claimed));
    assert_eq!(told(&router.handle(heard(&config(), 90, LOW), claimed)), conflict);
}
