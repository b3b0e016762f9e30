//! Expectations in their caches, without a replicator around them.

use std::net::{IpAddr, Ipv4Addr};

use lockstep_ctnetlink::{HelperName, L4, Tuple};
use proptest::prelude::*;

use super::*;
use crate::internal::Learned;
use crate::statistics::Counters;
use crate::wire::Change;

fn expectation(number: u16) -> Expectation {
    let tuple = |source, destination| Tuple {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 6,
        l4: L4::Ports { source, destination },
    };
    let mut expectation = Expectation::new(tuple(2000, 21), tuple(0, number), tuple(0, 0xffff));
    expectation.helper = HelperName::new(b"ftp");
    expectation
}

#[test]
fn only_the_time_left_and_the_number_may_differ_in_one_expectation() {
    let first = expectation(1);
    let mut later = first.clone();
    (later.timeout_s, later.id) = (Some(9), Some(7));
    assert!(Identity::of(&first).is_of(&later) && Identity::of(&first) == Identity::of(&later));
    let mut changed = [first.clone(), first.clone(), first.clone(), first.clone(), first.clone()];
    changed[0].flags = 1;
    changed[1].class = 1;
    changed[2].helper = None;
    changed[3].zone = 1;
    changed[4].mask.l4 = L4::None;
    assert!(changed.iter().all(|other| !Identity::of(&first).is_of(other)));
}

#[test]
fn helpers_are_wanted_by_the_beginning_of_their_name_in_any_case() {
    let ftp = expectation(1);
    let of = |names: &[&str]| Expectations::Of(names.iter().map(|n| (*n).to_owned()).collect());
    assert!(is_wanted(&Expectations::All, &ftp) && !is_wanted(&Expectations::Off, &ftp));
    assert!(is_wanted(&of(&["sip", "FTP"]), &ftp) && is_wanted(&of(&["f"]), &ftp));
    assert!(!is_wanted(&of(&["tftp", "ftp-2121"]), &ftp));
    let nameless = Expectation { helper: None, ..ftp };
    assert!(is_wanted(&Expectations::All, &nameless) && !is_wanted(&of(&["ftp"]), &nameless));
}

#[test]
fn a_reading_finds_what_is_gone_and_not_what_ended_meanwhile() {
    let mut counters = Counters::default();
    let mut cache = LocalExpectations::new(1);
    for number in 0..3 {
        cache.put(&expectation(number), false, &mut counters);
    }
    cache.begin_reading();
    assert_eq!(cache.read(&expectation(0), &mut counters), Learned::Nothing);
    let ended = cache.destroy(&expectation(1), false, &mut counters);
    assert_eq!(cache.read(&expectation(1), &mut counters), Learned::Nothing, "read too early");
    assert_eq!(ended, Learned::Tell(1));
    assert!(cache.end_reading());
    assert_eq!(cache.stale(), [2]);
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_dead_expectation_leaves_when_the_last_conversation_lets_go() {
    let mut counters = Counters::default();
    let mut cache = LocalExpectations::new(1);
    let Learned::Tell(slot) = cache.put(&expectation(1), false, &mut counters) else { panic!() };
    cache.table.hold(slot);
    cache.table.hold(slot);
    cache.destroy(&expectation(1), false, &mut counters);
    cache.table.let_go(slot);
    assert_eq!(cache.change(slot).map(|(change, _)| change), Some(Change::Delete));
    cache.table.let_go(slot);
    assert!(cache.change(slot).is_none());
    assert_eq!((cache.len(), cache.table.len()), (0, 0));
}

#[test]
fn each_cache_has_a_limit_of_its_own() {
    let mut counters = Counters::default();
    let mut local = LocalExpectations::new(1);
    let mut remote = RemoteExpectations::new(1);
    for number in 0..=MAX_EXPECTATIONS {
        let mut expectation = expectation(number as u16);
        expectation.class = (number >> 16) as u32;
        local.put(&expectation, false, &mut counters);
        remote.apply((0, 0), Change::New, &expectation, 0, &mut counters);
    }
    assert_eq!((local.len(), remote.table.len()), (MAX_EXPECTATIONS, MAX_EXPECTATIONS));
    let full = (counters.internal_expectations_full, counters.external_expectations_full);
    assert_eq!(full, (1, 1));
}

proptest! {
    /// Peers tell, end and confirm at random; what is kept is what a list would keep.
    #[test]
    fn the_external_cache_keeps_what_the_last_teller_has_not_ended(
        steps in proptest::collection::vec((0..2u8, 0..3u8, 0..4u16, 0..2u32), 1..60),
    ) {
        let mut counters = Counters::default();
        let mut cache = RemoteExpectations::new(1);
        let mut model: Vec<(Expectation, u8, u16)> = Vec::new();
        let mut generations = [0u16; 2];
        for (peer, action, number, class) in steps {
            let mut it = expectation(number);
            it.class = class;
            let generation = generations[usize::from(peer)];
            let known = model.iter().position(|(known, ..)| *known == it);
            match action {
                0 => {
                    cache.apply((peer, generation), Change::New, &it, 0, &mut counters);
                    if let Some(at) = known {
                        model.remove(at);
                    }
                    model.push((it, peer, generation));
                }
                1 => {
                    cache.apply((peer, generation), Change::Delete, &it, 0, &mut counters);
                    model.retain(|(known, teller, _)| *known != it || *teller != peer);
                }
                _ => {
                    let generation = &mut generations[usize::from(peer)];
                    cache.sweep(peer, *generation);
                    model.retain(|(_, teller, of)| *teller != peer || of == generation);
                    *generation += 1;
                }
            }
            let mut kept: Vec<_> = cache.table.iter().map(|entry| entry.expectation.clone()).collect();
            let mut wanted: Vec<_> = model.iter().map(|(known, ..)| known.clone()).collect();
            let order = |it: &Expectation| (it.tuple, it.class);
            kept.sort_by_key(order);
            wanted.sort_by_key(order);
            prop_assert_eq!(kept, wanted);
        }
    }
}
