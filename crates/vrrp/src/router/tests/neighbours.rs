//! Who is remembered of those that are refused or that differ, and for how long.

use super::*;
use crate::{ChecksumDialect, Differing, MAX_DIFFERENCES, MAX_NEIGHBOURS};

#[test]
fn a_flood_from_made_up_addresses_does_not_push_out_a_steady_neighbour() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for second in 0..3 {
        drop(router.receive(&packet(&wrong(), 150, HIGH), begin + second * SECOND));
    }
    for number in 0..10_000_u32 {
        let now = begin + 3 * SECOND + number * SECOND / 1000;
        let source = format!("10.1.{}.{}", number / 250, number % 250);
        drop(router.receive(&packet(&wrong(), 150, &source), now));
        if number % 1000 == 0 {
            drop(router.receive(&packet(&wrong(), 150, HIGH), now));
        }
        assert!(router.misunderstood().len() <= MAX_NEIGHBOURS);
    }
    let kept = router.misunderstood();
    let steady = kept.iter().find(|neighbour| neighbour.source == address(HIGH)).unwrap();
    assert_eq!((steady.count, steady.since), (13, begin));
}

#[test]
fn the_number_of_neighbours_remembered_is_bounded_and_the_newest_of_strangers_stay() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for number in 0..200_u8 {
        let source = format!("10.0.1.{number}");
        let now = begin + u32::from(number) * SECOND;
        drop(router.receive(&packet(&wrong(), 150, &source), now));
    }
    let kept = router.misunderstood();
    assert_eq!(kept.len(), MAX_NEIGHBOURS);
    assert_eq!(kept[MAX_NEIGHBOURS - 1].source, address("10.0.1.199"), "newest last");
    assert_eq!(kept[0].source, address("10.0.1.184"));
}

#[test]
fn steady_neighbours_leave_no_room_for_more_until_one_falls_silent() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    for second in 0..3 {
        for number in 0..16 {
            let source = format!("10.0.1.{number}");
            drop(router.receive(&packet(&wrong(), 150, &source), begin + second * SECOND));
        }
    }
    let newcomer = packet(&wrong(), 150, HIGH);
    let known = |router: &VirtualRouter| {
        router.misunderstood().iter().any(|neighbour| neighbour.source == address(HIGH))
    };
    drop(router.receive(&newcomer, begin + 3 * SECOND));
    assert!(!known(&router));
    drop(router.receive(&newcomer, begin + 13 * SECOND));
    assert!(known(&router), "the others are silent");
    assert_eq!(router.statistics().authentication_failures, 50, "all are counted");
}

#[test]
fn a_neighbour_that_is_gone_is_forgotten() {
    let begin = start_of_time();
    let mut router = situated(Master, begin);
    drop(router.receive(&packet(&wrong(), 150, HIGH), begin));
    let wide = Config { addresses: vec![address("10.0.0.9")], ..config() };
    drop(router.receive(&packet(&wide, 50, LOW), begin));
    for second in 1..=59 {
        drop(router.handle(Event::Timeout, begin + second * SECOND));
    }
    assert_eq!((router.misunderstood().len(), router.differences().len()), (1, 1));
    for second in 60..70 {
        drop(router.handle(Event::Timeout, begin + second * SECOND));
    }
    assert_eq!((router.misunderstood().len(), router.differences().len()), (0, 0));
}

#[test]
fn another_interval_in_version_3_is_heeded_and_named_with_both_values() {
    let slow = Config { advertisement_interval: 4 * SECOND, ..version_3() };
    let begin = start_of_time();
    let mut router = started(version_3(), begin);
    let actions = router.handle(heard(&slow, 150, HIGH), begin);
    assert_eq!(told(&actions), "10.0.0.3 differs: an advertisement interval of 4s, ours is 1s");
    let named = router.differences()[0].to_string();
    assert_eq!(named, "10.0.0.3 is heeded, but sends an advertisement interval of 4s, ours is 1s");
    drop(router.handle(heard(&version_3(), 150, HIGH), begin));
    assert_eq!(router.differences(), []);
}

#[test]
fn the_other_reading_of_the_checksum_is_named_with_both_values() {
    let differing = Differing::Checksum {
        theirs: ChecksumDialect::MessageAlone,
        ours: ChecksumDialect::PseudoHeader,
    };
    assert_eq!(
        differing.to_string(),
        "checksums without a pseudo header (RFC 9568), ours are with a pseudo header (RFC 5798)"
    );
}

#[test]
fn a_difference_is_told_once_until_it_changes() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let list = |octet: u8| Config { addresses: vec![[10, 0, 0, octet].into()], ..config() };
    let mut told = Vec::new();
    for second in 0..30 {
        let config = list(if second < 20 { 7 } else { 8 });
        told.extend(router.receive(&packet(&config, 150, HIGH), begin + second * SECOND));
    }
    assert_eq!(told.len(), 2, "{told:?}");
    let difference = &router.differences()[0];
    assert_eq!((difference.since, difference.last), (begin + 20 * SECOND, begin + 29 * SECOND));
    assert_eq!(router.statistics().address_list_errors, 30, "each is counted");
}

#[test]
fn each_neighbour_has_its_own_differences() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let list = |octet: u8| Config { addresses: vec![[10, 0, 0, octet].into()], ..config() };
    drop(router.receive(&packet(&list(7), 150, HIGH), begin));
    drop(router.receive(&packet(&list(8), 150, LOW), begin));
    drop(router.receive(&packet(&config(), 150, "10.0.0.4"), begin));
    let sources: Vec<_> = router.differences().iter().map(|one| one.source).collect();
    assert_eq!(sources, [address(HIGH), address(LOW)]);
    drop(router.receive(&packet(&config(), 150, HIGH), begin));
    let sources: Vec<_> = router.differences().iter().map(|one| one.source).collect();
    assert_eq!(sources, [address(LOW)]);
}

#[test]
fn a_flood_of_differing_strangers_does_not_push_out_a_steady_one_and_is_told_once_a_second() {
    let begin = start_of_time();
    let mut router = started(config(), begin);
    let wide = Config { addresses: vec![address("10.0.0.9")], ..config() };
    let mut told = 0;
    for number in 0..5_000_u32 {
        let now = begin + number * SECOND / 1000;
        let source = format!("10.1.{}.{}", number / 250, number % 250);
        told += router.receive(&packet(&wide, 150, &source), now).len();
        if number % 1000 == 0 {
            told += router.receive(&packet(&wide, 150, HIGH), now).len();
            told += router.receive(&packet(&wide, 150, HIGH), now).len();
        }
        assert!(router.differences().len() <= MAX_DIFFERENCES);
    }
    assert!(told <= 5, "{told} pieces of news in 5 s");
    assert!(router.differences().iter().any(|one| one.source == address(HIGH)));
}

fn wrong() -> Config {
    Config { authentication: password("wrong"), ..config() }
}
