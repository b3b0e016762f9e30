//! Heard but not understood is not silence, where the operator wants it so.

use super::*;
use crate::{Transport, WhenMisunderstood};

#[test]
fn a_backup_stays_backup_while_a_neighbour_is_heard_that_it_does_not_understand() {
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    let mut said = Vec::new();
    for second in 0..20 {
        let now = begin + second * SECOND;
        said.extend(router.receive(&packet(&foreign(), 90, HIGH), now));
        while let Some(due) = router.next_deadline().filter(|due| *due < now + SECOND) {
            said.extend(router.handle(Event::Timeout, due));
        }
    }
    let reason = "10.0.0.3 is heard and not understood: it sends a password that differs from ours";
    let withheld = Action::Withheld { reason: reason.to_owned() };
    assert_eq!(said[1..], [withheld], "said once, after the refusal");
    assert!(router.is_withheld());
    let due = router.next_deadline().unwrap();
    assert_eq!(router.handle(Event::Timeout, due), [], "still there, and said already");
    let silent = begin + 19 * SECOND + DOWN;
    assert_eq!(router.next_deadline(), Some(silent), "a master down interval after the last");
    assert_eq!(told(&router.handle(Event::Timeout, silent)), "elected");
    assert!(!router.is_withheld());
    assert_eq!(router.statistics().withheld, 1);
}

#[test]
fn a_neighbour_that_is_not_understood_does_not_keep_others_from_taking_over() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.receive(&packet(&foreign(), 150, HIGH), begin + 3 * SECOND));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "elected");
}

#[test]
fn a_takeover_names_the_neighbour_that_is_heard_and_not_understood() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    drop(router.receive(&packet(&foreign(), 150, HIGH), begin + 3 * SECOND));
    let reason = "no advertisement heard for 3.61 s since it began to listen; \
        10.0.0.3 is heard and sends a password that differs from ours";
    assert_eq!(router.handle(Event::Timeout, begin + DOWN), [elected(reason)]);

    drop(router.receive(&packet(&config(), 150, HIGH), begin + 4 * SECOND));
    drop(router.receive(&packet(&foreign(), 150, LOW), begin + 6 * SECOND));
    let reason = "no advertisement from 10.0.0.3 for 3.61 s; last priority 150; \
        10.0.0.1 is heard and sends a password that differs from ours";
    let due = begin + 4 * SECOND + DOWN;
    assert_eq!(router.handle(Event::Timeout, due), [elected(reason)]);
}

#[test]
fn a_takeover_does_not_name_who_is_gone_or_takes_no_part() {
    let distant = Datagram { ttl: 64, ..packet(&foreign(), 150, LOW) };
    for others in
        [[packet(&foreign(), 150, HIGH), packet(&foreign(), 0, HIGH)], [distant.clone(), distant]]
    {
        let begin = start_of_time();
        let mut router = started(config(), begin);
        for datagram in others {
            drop(router.receive(&datagram, begin + 3 * SECOND));
        }
        let reason = "no advertisement heard for 3.61 s since it began to listen";
        assert_eq!(router.handle(Event::Timeout, begin + DOWN), [elected(reason)]);
    }
}

#[test]
fn a_neighbour_that_has_stopped_withholds_nothing() {
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.receive(&packet(&foreign(), 150, HIGH), begin + 3 * SECOND));
    drop(router.receive(&packet(&foreign(), 0, HIGH), begin + 3 * SECOND));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "elected");
}

#[test]
fn a_master_that_is_understood_ends_it() {
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.receive(&packet(&foreign(), 150, HIGH), begin + 3 * SECOND));
    assert!(told(&router.handle(Event::Timeout, begin + DOWN)).contains("withheld"));
    drop(router.receive(&packet(&config(), 150, HIGH), begin + 4 * SECOND));
    assert!(!router.is_withheld());
    assert_eq!(router.next_deadline(), Some(begin + 4 * SECOND + DOWN));
    let due = begin + 4 * SECOND + DOWN;
    assert_eq!(told(&router.handle(Event::Timeout, due)), "elected");
}

#[test]
fn an_election_that_was_said_is_taken_back() {
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.handle(Event::Timeout, begin + DOWN));
    drop(router.receive(&packet(&foreign(), 150, HIGH), begin + DOWN + SECOND));
    let actions = router.handle(Event::Timeout, begin + 2 * DOWN);
    assert_eq!(told(&actions), "deferred, withheld");
}

#[test]
fn strangers_that_take_no_part_withhold_nothing() {
    let distant = Datagram { ttl: 64, ..packet(&config(), 150, HIGH) };
    let mut carp = packet(&config(), 150, HIGH);
    carp.payload[3] = 7;
    carp.payload.resize(36, 0);
    let other = packet(&Config { vrid: Vrid::new(7).unwrap(), ..config() }, 150, HIGH);
    let mine = packet(&config(), 150, OWN);
    let mut wrapped = packet(&config(), 150, HIGH);
    wrapped.payload.splice(0..0, [0; 24]);
    let wrapped = Datagram { protocol: 51, ttl: 64, ..wrapped };
    for datagram in [distant, carp, other, mine, wrapped] {
        let begin = start_of_time();
        let mut router = started(cautious(), begin);
        drop(router.receive(&datagram, begin + 3 * SECOND));
        assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "elected");
    }
}

#[test]
fn a_slower_neighbour_withholds_by_its_own_interval() {
    let slow = Config { advertisement_interval: 10 * SECOND, ..config() };
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.receive(&packet(&slow, 150, HIGH), begin));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "withheld");
    assert_eq!(router.next_deadline(), Some(begin + 30 * SECOND + SKEW));
}

#[test]
fn a_slower_neighbour_withholds_by_its_own_interval_whatever_it_is_refused_for() {
    let slow = |config| Config { advertisement_interval: 5 * SECOND, ..config };
    let mut behind_header = packet(&slow(config()), 150, HIGH);
    behind_header.payload.splice(0..0, [0; 24]);
    behind_header.protocol = 51;
    let mut changed = packet(&slow(version_3()), 150, HIGH);
    changed.payload[6] ^= 1;
    let refused = [
        packet(&slow(foreign()), 150, HIGH),
        packet(&slow(version_3()), 150, HIGH),
        changed,
        behind_header,
    ];
    for datagram in refused {
        let begin = start_of_time();
        let mut router = started(cautious(), begin);
        for heard in 0..4 {
            let now = begin + heard * 5 * SECOND;
            let actions = router.receive(&datagram, now);
            assert!(heard > 0 || !actions.is_empty(), "it is refused");
            while let Some(due) = router.next_deadline().filter(|due| *due < now + 5 * SECOND) {
                assert_ne!(told(&router.handle(Event::Timeout, due)), "elected");
            }
        }
        let silent = begin + 30 * SECOND + SKEW;
        assert_eq!(router.next_deadline(), Some(silent), "three of its intervals after the last");
        assert_eq!(told(&router.handle(Event::Timeout, silent)), "elected");
    }
}

#[test]
fn a_quicker_neighbour_withholds_by_our_interval() {
    let quick = Config { advertisement_interval: SECOND / 10, ..version_3() };
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.receive(&packet(&quick, 150, HIGH), begin + SECOND));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "withheld");
    assert_eq!(router.next_deadline(), Some(begin + SECOND + DOWN));
}

#[test]
fn no_stated_interval_withholds_for_more_than_a_minute() {
    for seconds in [20, 255] {
        let slow = Config { advertisement_interval: seconds * SECOND, ..config() };
        let begin = start_of_time();
        let mut router = started(cautious(), begin);
        drop(router.receive(&packet(&slow, 150, HIGH), begin));
        assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "withheld");
        assert_eq!(router.next_deadline(), Some(begin + 60 * SECOND));
    }
}

#[test]
fn a_slow_neighbour_that_stops_withholds_no_longer_than_a_quick_one() {
    let slow = Config { advertisement_interval: 10 * SECOND, ..foreign() };
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.receive(&packet(&slow, 150, HIGH), begin));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "withheld");
    drop(router.receive(&packet(&slow, 0, HIGH), begin + 5 * SECOND));
    assert_eq!(router.next_deadline(), Some(begin + 5 * SECOND + DOWN));
}

#[test]
fn a_quick_neighbour_does_not_hide_a_slow_one() {
    let slow = Config { advertisement_interval: 10 * SECOND, ..foreign() };
    let begin = start_of_time();
    let mut router = started(cautious(), begin);
    drop(router.receive(&packet(&slow, 150, HIGH), begin));
    drop(router.receive(&packet(&foreign(), 150, LOW), begin + SECOND));
    assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), "withheld");
    assert_eq!(router.next_deadline(), Some(begin + 30 * SECOND + SKEW));
}

#[test]
fn of_unicast_senders_only_peers_withhold_a_takeover() {
    let peers = vec![address(HIGH)];
    let transport = Transport::Unicast { peers, ttl: 255, minimum_ttl: 0 };
    for (source, expected) in [(HIGH, "withheld"), (LOW, "elected")] {
        let begin = start_of_time();
        let mut router = started(Config { transport: transport.clone(), ..cautious() }, begin);
        drop(router.receive(&packet(&foreign(), 150, source), begin + 3 * SECOND));
        assert_eq!(told(&router.handle(Event::Timeout, begin + DOWN)), expected, "{source}");
    }
}

fn elected(reason: &str) -> Action {
    Action::Elected { reason: reason.to_owned() }
}

fn cautious() -> Config {
    Config { misunderstood: WhenMisunderstood::StayBackup, ..config() }
}

fn foreign() -> Config {
    Config { authentication: password("wrong"), ..config() }
}
