//! The external cache, without a replicator around it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use lockstep_ctnetlink::{L4, Tuple};
use proptest::prelude::*;

use super::*;

fn flow(number: u16) -> Flow {
    let orig = Tuple {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 6,
        l4: L4::Ports { source: number, destination: 80 },
    };
    Flow::new(orig, orig.inverse())
}

/// Drops what the peer's current generation has not confirmed; how much that was.
fn sweep(external: &mut External, peer: u8) -> usize {
    external.begin_sweep(peer, external.generation(peer));
    let mut dropped = 0;
    while external.is_sweeping() {
        dropped += external.sweep_on(3);
    }
    dropped
}

struct Cache {
    external: External,
    counters: Counters,
}

impl Cache {
    fn new() -> Self {
        Self { external: External::new(100, 1, false), counters: Counters::default() }
    }

    fn tell(&mut self, peer: u8, change: Change, number: u16, now_s: u32) -> Applied {
        self.external.apply(peer, change, &flow(number), now_s, &mut self.counters)
    }

    fn sweep(&mut self, peer: u8) -> usize {
        sweep(&mut self.external, peer)
    }

    fn has(&self, number: u16) -> bool {
        self.external.table.find(&Key::of(&flow(number))).is_some()
    }
}

#[test]
fn a_flow_ends_when_the_peer_that_told_it_last_says_so() {
    let mut cache = Cache::new();
    cache.tell(0, Change::New, 1, 0);
    assert_eq!(cache.tell(1, Change::Delete, 1, 0), Applied::Nothing);
    assert!(cache.has(1));
    cache.tell(1, Change::Update, 1, 0);
    assert_eq!(cache.tell(0, Change::Delete, 1, 0), Applied::Nothing);
    assert_eq!(cache.counters.external_foreign_destroyed, 2);
    assert_eq!(cache.tell(1, Change::Delete, 1, 0), Applied::Ended(Key::of(&flow(1))));
    assert!(!cache.has(1));
    assert_eq!(cache.counters.external_destroyed, 1);
}

#[test]
fn a_resync_sweeps_what_its_own_peer_has_not_confirmed() {
    let mut cache = Cache::new();
    cache.tell(0, Change::New, 1, 0);
    cache.tell(0, Change::New, 2, 0);
    cache.tell(1, Change::New, 3, 0);
    cache.tell(0, Change::New, 4, 0);
    cache.external.begin_generation(0);
    cache.tell(0, Change::Update, 1, 0);
    cache.tell(1, Change::Update, 4, 0);
    assert_eq!(cache.external.confirmed(0), 1);
    assert_eq!(cache.sweep(0), 1);
    assert!(cache.has(1) && !cache.has(2) && cache.has(3) && cache.has(4));
    cache.external.begin_generation(1);
    assert_eq!((cache.sweep(1), cache.sweep(0)), (2, 0));
    assert!(cache.has(1));
}

#[test]
fn what_nobody_speaks_of_is_dropped_piece_by_piece() {
    let mut cache = Cache::new();
    for number in 0..10 {
        cache.tell(0, Change::New, number, u32::from(number));
    }
    let mut cursor = 0;
    assert_eq!(cache.external.drop_unheard(&mut cursor, 4, (6, 8)), 4);
    assert_eq!(cache.external.drop_unheard(&mut cursor, 4, (6, 8)), 2);
    assert_eq!(cache.external.drop_unheard(&mut cursor, 4, (6, 8)), 0);
    assert_eq!(
        cache.external.drop_unheard(&mut cursor, 4, (9, 9)),
        0,
        "round again, from the first"
    );
    assert_eq!(cache.external.table.len(), 4);
}

#[test]
fn an_incomplete_flow_is_counted_and_not_kept() {
    let mut cache = Cache::new();
    let mut gre = flow(1);
    gre.orig.protocol = 47;
    gre.reply.protocol = 47;
    gre.orig.l4 = L4::None;
    let applied = cache.external.apply(0, Change::New, &gre, 0, &mut cache.counters);
    assert_eq!((applied, cache.external.table.len()), (Applied::Nothing, 0));
    assert_eq!(cache.counters.external_incomplete, 1);
}

#[test]
fn the_same_tuple_in_two_zones_ends_in_one() {
    let mut cache = Cache::new();
    let mut zoned = flow(1);
    zoned.zone = 7;
    cache.tell(0, Change::New, 1, 0);
    cache.external.apply(0, Change::New, &zoned, 0, &mut cache.counters);
    assert_eq!(cache.external.table.len(), 2);
    cache.external.apply(0, Change::Delete, &zoned, 0, &mut cache.counters);
    assert!(cache.has(1));
    assert_eq!(cache.external.table.len(), 1);
}

#[test]
fn a_flow_told_anew_keeps_nothing_of_the_one_before() {
    let mut cache = Cache::new();
    let mut labelled = flow(1);
    labelled.labels = Some([1, 2, 3, 4]);
    labelled.mark = Some(9);
    cache.external.apply(0, Change::New, &labelled, 0, &mut cache.counters);
    let Applied::Put(slot) = cache.tell(0, Change::New, 1, 0) else { panic!("it is kept") };
    let known = cache.external.table.get(slot).map(|entry| entry.stored.flow()).unwrap();
    assert_eq!((known.labels, known.mark), (None, None));
}

/// A flow as a map of whole flows would keep it.
struct Modelled {
    flow: Flow,
    peer: u8,
    generation: u32,
}

proptest! {
    /// Two peers tell, change, end and confirm flows at random, more than the cache has room for
    /// and the same tuples in two zones. What is kept is what a map of whole flows would keep.
    #[test]
    fn the_packed_cache_keeps_what_a_map_of_whole_flows_would(
        steps in proptest::collection::vec((0..2u8, 0..8u8, 0..40u16, 0..2u16, any::<u8>()), 1..300),
    ) {
        const LIMIT: usize = 32;
        let mut external = External::new(LIMIT, 1, false);
        let mut counters = Counters::default();
        let mut model: BTreeMap<Key, Modelled> = BTreeMap::new();
        let mut generations = [0u32; 2];
        let mut rows = [0u32; 2];
        for (peer, action, number, zone, value) in steps {
            let mut told = flow(number);
            told.zone = zone;
            told.mark = (value & 1 != 0).then_some(u32::from(value));
            told.labels = (value & 2 != 0).then_some([u32::from(value) | 1, 0, 0, 0]);
            told.status.0 = u32::from(value & 4);
            if value & 8 != 0 {
                told.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, value));
            }
            let key = Key::of(&told);
            let generation = generations[usize::from(peer)];
            let has_room = model.len() < LIMIT;
            match action {
                0..=2 => {
                    external.apply(peer, Change::New, &told, 0, &mut counters);
                    if has_room || model.contains_key(&key) {
                        model.insert(key, Modelled { flow: told, peer, generation });
                    }
                }
                3 | 4 => {
                    external.apply(peer, Change::Update, &told, 0, &mut counters);
                    if let Some(known) = model.get_mut(&key) {
                        told.mark = told.mark.or(known.flow.mark);
                        told.labels = told.labels.or(known.flow.labels);
                        *known = Modelled { flow: told, peer, generation };
                    } else if has_room {
                        model.insert(key, Modelled { flow: told, peer, generation });
                    }
                }
                5 | 6 => {
                    external.apply(peer, Change::Delete, &told, 0, &mut counters);
                    if model.get(&key).is_some_and(|known| known.peer == peer) {
                        model.remove(&key);
                    }
                }
                _ if value & 16 != 0 => {
                    generations[usize::from(peer)] = external.continue_row(peer);
                }
                _ => {
                    sweep(&mut external, peer);
                    model.retain(|_, known| known.peer != peer || known.generation == generation);
                    let begun = external.begin_generation(peer);
                    (generations[usize::from(peer)], rows[usize::from(peer)]) = (begun, begun);
                }
            }
            prop_assert_eq!(external.table.len(), model.len());
            for peer in [0, 1] {
                let of = |known: &&Modelled| known.peer == peer;
                let current =
                    |known: &&Modelled| of(known) && known.generation == generations[usize::from(peer)];
                prop_assert_eq!(external.told(peer), model.values().filter(of).count());
                prop_assert_eq!(external.confirmed(peer), model.values().filter(current).count());
                let row = rows[usize::from(peer)];
                let of_row = |known: &&Modelled| of(known) && known.generation >= row;
                let gathered = model.values().filter(of_row).count();
                prop_assert_eq!(external.gathered(peer), (row as u16, gathered));
            }
            prop_assert_eq!(external.table.find(&key).is_some(), model.contains_key(&key));
        }
        let kept: BTreeMap<Key, Flow> =
            external.table.iter().map(|e| (e.stored.key(), e.stored.flow())).collect();
        let wanted: BTreeMap<Key, Flow> =
            model.into_iter().map(|(key, known)| (key, known.flow)).collect();
        prop_assert_eq!(kept, wanted);
    }
}
