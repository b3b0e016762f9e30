//! What is tracked: what makes a group unfit, what weighs on priorities, and whom an event concerns.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test may panic and has a clock"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lockstep_failover::tracking::{Seen, Verdict};
use lockstep_failover::{
    Action, Check, Config, Event, Failover, Group, Outcome, State, Step, Subject, Track,
    VirtualRouter, VirtualRouterEvent,
};
use proptest::prelude::*;

#[path = "tracking/members.rs"]
mod members;
#[path = "tracking/reloading.rs"]
mod reloading;

fn interface(name: &str) -> Subject {
    Subject::Interface(name.to_owned())
}

fn file() -> Subject {
    Subject::File(PathBuf::from("/run/lockstep/drain"))
}

fn weighing(subject: Subject, weight: i16) -> Track {
    Track { subject, weight: Some(weight) }
}

fn member(name: &str, priority: u8, track: Vec<Track>) -> VirtualRouter {
    VirtualRouter { priority, track, ..VirtualRouter::new(name, "eth0") }
}

fn group(name: &str, members: Vec<VirtualRouter>, track: Vec<Track>) -> Group {
    Group { name: name.to_owned(), virtual_routers: members, track, ..Group::default() }
}

fn check(name: &str) -> Check {
    Check {
        name: name.to_owned(),
        command: vec!["/bin/true".to_owned()],
        user: None,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 1,
    }
}

struct World {
    failover: Failover,
    now: Instant,
}

impl World {
    fn new(groups: Vec<Group>, checks: &[&str]) -> Self {
        let now = Instant::now();
        let config = Config { groups, checks: checks.iter().map(|name| check(name)).collect() };
        let mut world = Self { failover: Failover::new(&config, now), now };
        world.feed(Event::Start);
        world
    }

    fn feed(&mut self, event: Event) -> Vec<Action> {
        self.failover.handle(event, self.now)
    }

    fn see(&mut self, subject: Subject, seen: Seen) -> Vec<Action> {
        self.feed(Event::Tracked { subject, seen, detail: "as seen".to_owned() })
    }

    fn check(&mut self, name: &str, success: bool) -> Vec<Action> {
        let detail = "exit status".to_owned();
        self.feed(Event::Check { name: name.to_owned(), success, detail })
    }

    fn usable(&mut self, name: &str) {
        let _ = self.feed(Event::Interface { virtual_router: name.to_owned(), usable: Ok(()) });
    }

    fn state(&self, group: &str) -> State {
        self.failover.group(group).unwrap().state()
    }

    fn reason(&self, group: &str) -> String {
        self.failover.group(group).unwrap().reason()
    }
}

fn priority(virtual_router: &str, priority: u8) -> Action {
    Action::Priority { virtual_router: virtual_router.to_owned(), priority }
}

#[test]
fn a_tracked_thing_without_weight_is_waited_for_and_its_loss_is_a_fault() {
    let track = vec![Track::unfit(interface("eth2"))];
    let mut world = World::new(vec![group("g", vec![member("a", 100, track)], Vec::new())], &[]);
    world.usable("a");
    assert_eq!(world.state("g"), State::Init);
    assert_eq!(world.reason("g"), "waiting for the first look at interface eth2");
    world.see(interface("eth2"), Seen::Good);
    assert_eq!(world.state("g"), State::Backup);
    let detail = "eth2 has no carrier".to_owned();
    let _ = world.feed(Event::Tracked { subject: interface("eth2"), seen: Seen::Bad, detail });
    assert_eq!(world.state("g"), State::Fault);
    assert_eq!(world.reason("g"), "eth2 has no carrier");
    world.see(interface("eth2"), Seen::Good);
    assert_eq!(world.state("g"), State::Backup);
}

#[test]
fn a_file_without_weight_is_a_fault_while_it_holds_anything_but_0() {
    let track = vec![Track::unfit(file())];
    let mut world = World::new(vec![group("g", vec![member("a", 100, Vec::new())], track)], &[]);
    world.usable("a");
    world.see(file(), Seen::Number(0));
    assert_eq!(world.state("g"), State::Backup);
    world.see(file(), Seen::Number(-1));
    assert_eq!(world.state("g"), State::Fault);
    assert_eq!(world.reason("g"), "file /run/lockstep/drain: as seen");
}

#[test]
fn a_weight_is_never_waited_for_and_never_a_fault() {
    let track = vec![weighing(interface("eth2"), -20)];
    let mut world = World::new(vec![group("g", vec![member("a", 100, track)], Vec::new())], &[]);
    world.usable("a");
    assert_eq!(world.state("g"), State::Backup);
    assert_eq!(world.see(interface("eth2"), Seen::Bad), [priority("a", 80)]);
    assert_eq!(world.state("g"), State::Backup);
    assert_eq!(world.see(interface("eth2"), Seen::Bad), [], "as before is no news");
    assert_eq!(world.see(interface("eth2"), Seen::Good), [priority("a", 100)]);
}

#[test]
fn a_positive_weight_is_added_while_good_and_a_negative_one_taken_away_while_bad() {
    let track = vec![weighing(interface("eth2"), 20), weighing(Subject::Check("dns".into()), -30)];
    let group = group("g", vec![member("a", 100, track)], Vec::new());
    let mut world = World::new(vec![group], &["dns"]);
    assert_eq!(world.failover.priority("a"), Some(100), "what was not seen counts for nothing");
    assert_eq!(world.see(interface("eth2"), Seen::Good), [priority("a", 120)]);
    assert_eq!(world.check("dns", true), []);
    assert_eq!(world.check("dns", false), [priority("a", 90)]);
    assert_eq!(world.see(interface("eth2"), Seen::Bad), [priority("a", 70)]);
    assert_eq!(world.failover.priority("a"), Some(70));
}

#[test]
fn the_sum_is_limited_to_1_and_254_and_nothing_moves_an_owner() {
    let track = vec![weighing(file(), -1)];
    let members = vec![member("a", 100, Vec::new()), member("owner", 255, Vec::new())];
    let mut world = World::new(vec![group("g", members, track)], &[]);
    assert_eq!(world.see(file(), Seen::Number(250)), [priority("a", 1)]);
    assert_eq!(world.see(file(), Seen::Number(i64::MAX)), []);
    assert_eq!(world.see(file(), Seen::Number(i64::MIN)), [priority("a", 254)]);
    assert_eq!(world.failover.priority("owner"), Some(255));
}

#[test]
fn the_group_weighs_on_every_member_and_all_have_the_priority_of_the_worst() {
    let members =
        vec![member("a", 100, vec![weighing(interface("eth2"), -5)]), member("b", 50, Vec::new())];
    let track = vec![weighing(interface("eth2"), -20)];
    let mut world = World::new(vec![group("g", members, track)], &[]);
    world.see(interface("eth2"), Seen::Bad);
    assert_eq!((world.failover.priority("a"), world.failover.priority("b")), (Some(30), Some(30)));
}

#[test]
fn members_of_different_priority_have_the_lowest_from_the_start_except_an_owner() {
    let members = vec![
        member("a", 150, vec![weighing(interface("eth2"), -60)]),
        member("b", 100, Vec::new()),
        member("c", 255, Vec::new()),
    ];
    let now = Instant::now();
    let config = Config { groups: vec![group("g", members, Vec::new())], checks: Vec::new() };
    let mut world = World { failover: Failover::new(&config, now), now };
    let told: Vec<Action> = world
        .feed(Event::Start)
        .into_iter()
        .filter(|action| matches!(action, Action::Priority { .. }))
        .collect();
    assert_eq!(told, [priority("a", 100)]);
    let bad = world.see(interface("eth2"), Seen::Bad);
    assert_eq!(bad, [priority("a", 90), priority("b", 90)]);
    assert_eq!(world.failover.priority("c"), Some(255));
    assert_eq!(world.see(interface("eth2"), Seen::Good), [priority("a", 100), priority("b", 100)]);
}

#[test]
fn other_priorities_count_with_what_is_tracked_already() {
    let track = || vec![weighing(interface("eth2"), -20)];
    let members = |priority| vec![member("a", priority, track()), member("b", 200, Vec::new())];
    let mut world = World::new(vec![group("g", members(100), Vec::new())], &[]);
    world.see(interface("eth2"), Seen::Bad);
    assert_eq!(world.failover.priority("a"), Some(80));
    let wanted = Config { groups: vec![group("g", members(150), Vec::new())], checks: Vec::new() };
    let actions = world.failover.configure(&wanted, world.now);
    assert_eq!(actions, [priority("a", 130), priority("b", 130)]);
}

#[test]
fn status_has_every_tracked_thing_with_its_effect() {
    let track = vec![Track::unfit(interface("eth2")), weighing(file(), -2)];
    let group = Group {
        checks: vec!["dns".to_owned()],
        ..group("g", vec![member("a", 100, vec![weighing(interface("eth3"), 7)])], track)
    };
    let mut world = World::new(vec![group], &["dns"]);
    world.see(interface("eth2"), Seen::Bad);
    world.see(file(), Seen::Number(3));
    world.see(interface("eth3"), Seen::Good);
    let shown: Vec<_> = world
        .failover
        .tracked("g")
        .map(|one| {
            let (verdict, weight, effect) = (one.verdict, one.weight, one.effect);
            (
                one.subject.to_string(),
                one.virtual_router.map(str::to_owned),
                verdict,
                weight,
                effect,
            )
        })
        .collect();
    let expected = [
        ("check dns", None, Verdict::Unknown, None, 0),
        ("interface eth2", None, Verdict::Bad, None, 0),
        ("file /run/lockstep/drain", None, Verdict::Bad, Some(-2), -6),
        ("interface eth3", Some("a"), Verdict::Good, Some(7), 7),
    ];
    let expected = expected.map(|(subject, router, verdict, weight, effect)| {
        (subject.to_owned(), router.map(str::to_owned), verdict, weight, effect)
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_late_answer_of_one_group_moves_no_other() {
    let groups =
        ["a", "b"].map(|name| group(name, vec![member(name, 100, Vec::new())], Vec::new()));
    let mut world = World::new(groups.to_vec(), &[]);
    let first_step = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Step { id, step, .. } => Some((id, step)),
            _ => None,
        })
    };
    let usable = |name: &str| Event::Interface { virtual_router: name.to_owned(), usable: Ok(()) };
    let (of_a, _) = first_step(world.feed(usable("a"))).unwrap();
    let (of_b, _) = first_step(world.feed(usable("b"))).unwrap();
    let down = Err("eth0 is down".to_owned());
    let cut = world.feed(Event::Interface { virtual_router: "a".to_owned(), usable: down });
    assert!(first_step(cut).is_some());
    let done = || Outcome::Done(String::new());
    assert_eq!(world.feed(Event::Stepped { id: of_a, outcome: done() }), [], "it was cut");
    let next = first_step(world.feed(Event::Stepped { id: of_b, outcome: done() }));
    assert_eq!(next.unwrap().1, Step::AddressesDown);
}

#[test]
fn thousands_of_groups_have_one_deadline_and_only_those_that_are_due_act() {
    let names: Vec<String> = (0..4_000).map(|number| format!("g{number}")).collect();
    let groups =
        names.iter().map(|name| group(name, vec![member(name, 100, Vec::new())], Vec::new()));
    let mut world = World::new(groups.collect(), &[]);
    assert_eq!(world.failover.next_deadline(), None);
    for name in &names {
        world.usable(name);
        world.now += Duration::from_micros(1);
    }
    // Every group waits for the answer to its first step; the first was given out first.
    let first = world.failover.next_deadline().unwrap();
    world.now = first;
    let acted: Vec<String> = world
        .feed(Event::Timeout)
        .into_iter()
        .filter_map(|action| match action {
            Action::Step { group, .. } => Some(group),
            _ => None,
        })
        .collect();
    assert_eq!(acted, ["g0"]);
    assert_eq!(world.failover.next_deadline(), Some(first + Duration::from_micros(1)));
    assert!(world.failover.journal().transitions().count() <= lockstep_failover::JOURNAL_LIMIT);
}

/// Three groups, of one, two and three members; every member and group may track each of four things.
fn tracks() -> impl Strategy<Value = Vec<(usize, Option<usize>, usize, Option<i16>)>> {
    let weight = prop::option::weighted(0.8, -253_i16..=253);
    let one = (0_usize..3, prop::option::of(0_usize..3), 0_usize..4, weight);
    prop::collection::vec(one, 0..12)
}

fn subject(number: usize) -> Subject {
    match number {
        0 => interface("eth1"),
        1 => interface("eth2"),
        2 => file(),
        _ => Subject::Check("dns".to_owned()),
    }
}

proptest! {
    #[test]
    fn priorities_and_fitness_follow_from_what_was_seen_last(
        tracks in tracks(),
        priorities in prop::collection::vec(1_u8..=255, 6),
        seen in prop::collection::vec((0_usize..4, any::<bool>(), -300_i64..300), 0..60),
    ) {
        let name = |place: usize, member: usize| format!("r{place}{member}");
        let mut configured = BTreeMap::new();
        let mut groups = Vec::new();
        for place in 0..3 {
            let of = |member: Option<usize>| -> Vec<Track> {
                let mine = tracks.iter().filter(|track| track.0 == place && track.1 == member);
                mine.map(|track| Track { subject: subject(track.2), weight: track.3 }).collect()
            };
            let members = (0..=place).map(|index| {
                let priority = priorities[place * (place + 1) / 2 + index];
                configured.insert(name(place, index), (place, index, priority));
                member(&name(place, index), priority, of(Some(index)))
            }).collect();
            groups.push(group(&format!("g{place}"), members, of(None)));
        }
        let mut world = World::new(groups, &["dns"]);
        for router in configured.keys() {
            world.usable(router);
        }
        // What a group says at its start is in the state.
        let mut told: BTreeMap<String, u8> = configured
            .keys()
            .map(|name| (name.clone(), world.failover.priority(name).unwrap()))
            .collect();
        let mut last: BTreeMap<usize, Seen> = BTreeMap::new();
        for (number, good, value) in seen {
            let now = match (number, good) {
                (2, _) => Seen::Number(value),
                (_, true) => Seen::Good,
                (_, false) => Seen::Bad,
            };
            let actions =
                if number == 3 { world.check("dns", good) } else { world.see(subject(number), now) };
            last.insert(number, now);
            for action in actions {
                if let Action::Priority { virtual_router, priority } = action {
                    prop_assert_ne!(told.insert(virtual_router, priority), Some(priority));
                }
            }
        }
        let mut worst: BTreeMap<usize, i64> = BTreeMap::new();
        for (place, index, priority) in configured.values() {
            let counts = |track: &&(usize, Option<usize>, usize, Option<i16>)| {
                track.0 == *place && track.1.is_none_or(|member| member == *index)
            };
            let effect = |track: &(usize, Option<usize>, usize, Option<i16>)| {
                let weight = i64::from(track.3.unwrap_or(0));
                match last.get(&track.2) {
                    Some(Seen::Good) => weight.max(0),
                    Some(Seen::Bad) => weight.min(0),
                    Some(Seen::Number(number)) => (number * weight).clamp(-254, 254),
                    None => 0,
                }
            };
            let sum: i64 = tracks.iter().filter(counts).map(effect).sum();
            if *priority != 255 {
                let own = (i64::from(*priority) + sum).clamp(1, 254);
                let worst = worst.entry(*place).or_insert(own);
                *worst = own.min(*worst);
            }
        }
        for (router, (place, _, priority)) in &configured {
            let expected = if *priority == 255 { 255 } else { worst[place] };
            prop_assert_eq!(i64::from(told[router]), expected);
            prop_assert_eq!(world.failover.priority(router), Some(told[router]));
        }
        for place in 0..3 {
            let needed = tracks.iter().filter(|track| {
                track.0 == place && track.3.is_none() && track.1.is_none_or(|member| member <= place)
            });
            let verdicts: Vec<Verdict> = needed
                .map(|track| last.get(&track.2).map(|seen| seen.verdict()).unwrap_or_default())
                .collect();
            let state = world.state(&format!("g{place}"));
            if verdicts.contains(&Verdict::Bad) {
                prop_assert_eq!(state, State::Fault);
            } else if verdicts.iter().all(|verdict| *verdict == Verdict::Good) {
                prop_assert_eq!(state, State::Backup);
            } else {
                prop_assert!(matches!(state, State::Init | State::Fault));
            }
        }
    }
}

#[test]
fn a_master_keeps_its_mastership_when_only_its_priority_falls() {
    let track = vec![weighing(interface("eth2"), -50)];
    let mut world = World::new(vec![group("g", vec![member("a", 100, track)], Vec::new())], &[]);
    world.usable("a");
    let reason = "silence".to_owned();
    let event = VirtualRouterEvent::Elected { reason };
    let _ = world.feed(Event::VirtualRouter { name: "a".to_owned(), event });
    assert_eq!(world.state("g"), State::Master);
    assert_eq!(world.see(interface("eth2"), Seen::Bad), [priority("a", 50)]);
    assert_eq!(world.state("g"), State::Master);
}
