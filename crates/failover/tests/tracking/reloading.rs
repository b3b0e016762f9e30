//! Other checks and other tracked things for groups at work.

use super::*;

impl World {
    fn reload(&mut self, groups: Vec<Group>, checks: Vec<Check>) -> Vec<Action> {
        self.failover.configure(&Config { groups, checks }, self.now)
    }

    fn elected(&mut self, name: &str) {
        let event = VirtualRouterEvent::Elected { reason: "a test".to_owned() };
        let _ = self.feed(Event::VirtualRouter { name: name.to_owned(), event });
    }
}

/// Group `g` with member `a` of priority 100, and these checks.
fn with_checks(checks: &[&str]) -> Vec<Group> {
    let checks = checks.iter().map(|name| (*name).to_owned()).collect();
    vec![Group { checks, ..group("g", vec![member("a", 100, Vec::new())], Vec::new()) }]
}

fn with_track(track: Vec<Track>) -> Vec<Group> {
    vec![group("g", vec![member("a", 100, track)], Vec::new())]
}

fn dns() -> Subject {
    Subject::Check("dns".to_owned())
}

fn master(groups: Vec<Group>, checks: &[&str]) -> World {
    let mut world = World::new(groups, checks);
    world.usable("a");
    for name in checks {
        world.check(name, true);
    }
    world.elected("a");
    assert_eq!(world.state("g"), State::Master);
    world
}

fn transitions(world: &World) -> usize {
    world.failover.journal().transitions().count()
}

#[test]
fn a_new_check_moves_no_master_before_it_has_failed() {
    let mut world = master(with_checks(&[]), &[]);
    let before = transitions(&world);
    let actions = world.reload(with_checks(&["dns"]), vec![check("dns")]);
    assert_eq!(actions, [priority("a", 100)], "nothing but what the election has been told");
    assert_eq!((world.state("g"), transitions(&world)), (State::Master, before));
    world.check("dns", true);
    assert_eq!((world.state("g"), transitions(&world)), (State::Master, before));
    world.check("dns", false);
    assert_eq!(world.state("g"), State::Fault);
    assert_eq!(world.reason("g"), "check dns failed: exit status");
}

#[test]
fn a_new_check_that_fails_at_once_is_a_fault() {
    let mut world = master(with_checks(&[]), &[]);
    let _ = world.reload(with_checks(&["dns"]), vec![check("dns")]);
    world.check("dns", false);
    assert_eq!(world.state("g"), State::Fault);
}

#[test]
fn a_backup_waits_for_the_first_run_of_a_new_check_and_serves_then() {
    let mut world = World::new(with_checks(&[]), &[]);
    world.usable("a");
    assert_eq!(world.state("g"), State::Backup);
    let _ = world.reload(with_checks(&["dns"]), vec![check("dns")]);
    world.elected("a");
    assert_eq!(world.state("g"), State::Backup);
    world.check("dns", true);
    assert_eq!(world.state("g"), State::Master);
}

#[test]
fn a_check_that_is_gone_counts_no_more() {
    let mut world = master(with_checks(&["dns"]), &["dns"]);
    world.check("dns", false);
    assert_eq!(world.state("g"), State::Fault);
    let _ = world.reload(with_checks(&[]), Vec::new());
    assert_eq!(world.state("g"), State::Backup);
    assert_eq!(world.check("dns", false), [], "nobody knows it");
    assert!(world.failover.checks().is_empty());
}

#[test]
fn a_check_that_stays_the_same_goes_on_counting() {
    let patient = || Check { fall: 3, ..check("dns") };
    let mut world = World::new(with_checks(&[]), &[]);
    let _ = world.reload(with_checks(&["dns"]), vec![patient()]);
    world.usable("a");
    world.check("dns", true);
    world.check("dns", false);
    world.check("dns", false);
    let _ = world.reload(with_checks(&["more", "dns"]), vec![check("more"), patient()]);
    world.check("dns", false);
    assert_eq!(world.state("g"), State::Fault);
}

#[test]
fn what_a_changed_check_said_holds_until_it_has_run() {
    let heavy = || with_track(vec![weighing(dns(), 20)]);
    let mut world = master(heavy(), &["dns"]);
    assert_eq!(world.failover.priority("a"), Some(120));
    let changed = Check { interval: Duration::from_secs(9), fall: 5, ..check("dns") };
    let actions = world.reload(heavy(), vec![changed.clone()]);
    assert_eq!(actions, [priority("a", 120)]);
    assert_eq!(world.check("dns", false), [priority("a", 100)], "its first run decides");

    let mut world = master(with_checks(&["dns"]), &["dns"]);
    world.check("dns", false);
    let _ = world.reload(with_checks(&["dns"]), vec![changed]);
    assert_eq!(world.state("g"), State::Fault);
    assert_eq!(world.reason("g"), "check dns failed: exit status");
    world.check("dns", true);
    assert_eq!(world.state("g"), State::Backup);
}

#[test]
fn another_weight_holds_for_what_was_seen_last() {
    let mut world = master(with_track(vec![weighing(interface("eth2"), -20)]), &[]);
    world.see(interface("eth2"), Seen::Bad);
    assert_eq!(world.failover.priority("a"), Some(80));
    let actions = world.reload(with_track(vec![weighing(interface("eth2"), -30)]), Vec::new());
    assert_eq!(actions, [priority("a", 70)]);
    let more = vec![weighing(interface("eth2"), -30), weighing(file(), 2)];
    let _ = world.reload(with_track(more), Vec::new());
    assert_eq!(world.see(file(), Seen::Number(5)), [priority("a", 80)]);
    let _ = world.reload(with_track(vec![Track::unfit(interface("eth2"))]), Vec::new());
    assert_eq!(world.state("g"), State::Fault, "what it cannot serve without is bad");
    assert_eq!(world.reason("g"), "as seen");
    let _ = world.reload(with_track(Vec::new()), Vec::new());
    assert_eq!(world.state("g"), State::Backup);
    assert_eq!(world.failover.priority("a"), Some(100));
}

/// Something tracked: of the group (`None`) or of its member, one of three, with or without weight.
type Tracked = (bool, usize, Option<i16>);

fn tracked() -> impl Strategy<Value = Vec<Tracked>> {
    let weight = prop::option::of((-253_i16..254).prop_filter("not 0", |weight| *weight != 0));
    prop::collection::vec((any::<bool>(), 0_usize..3, weight), 0..6)
}

fn groups_of(tracked: &[Tracked]) -> Vec<Group> {
    let subject = |number: usize| match number {
        0 => interface("eth2"),
        1 => file(),
        _ => dns(),
    };
    let of = |member: bool| -> Vec<Track> {
        let own = tracked.iter().filter(|one| one.0 == member);
        own.map(|one| Track { subject: subject(one.1), weight: one.2 }).collect()
    };
    vec![group("g", vec![member("a", 100, of(true)), member("b", 120, Vec::new())], of(false))]
}

proptest! {
    /// However often it is reloaded, what follows from what is tracked is what a router makes of it
    /// that has had the last configuration from its beginning.
    #[test]
    fn after_a_reload_everything_counts_as_if_it_had_always_been_tracked(
        configurations in prop::collection::vec(tracked(), 1..4),
        seen in prop::collection::vec((0_usize..3, any::<bool>(), -9_i64..9), 0..6),
        is_all_seen in any::<bool>(),
    ) {
        let see = |world: &mut World, (number, good, value): (usize, bool, i64)| {
            let said = if good { Seen::Good } else { Seen::Bad };
            let _ = match number {
                0 => world.see(interface("eth2"), said),
                1 => world.see(file(), Seen::Number(value)),
                _ => world.check("dns", good),
            };
        };
        // What nobody tracks is not heard of, so everything is tracked to begin with.
        let all = [(true, 0, Some(1)), (true, 1, Some(1)), (true, 2, Some(1))];
        let mut world = World::new(groups_of(&all), &["dns"]);
        let last = configurations.last().cloned().unwrap_or_default();
        let mut fresh = World::new(groups_of(&last), &["dns"]);
        for router in ["a", "b"] {
            world.usable(router);
            fresh.usable(router);
        }
        let rest = (0..3).filter(|_| is_all_seen).map(|number| (number, number != 1, -4));
        for one in seen.into_iter().chain(rest) {
            see(&mut world, one);
            see(&mut fresh, one);
        }
        for configuration in configurations {
            let everywhere: Vec<_> = configuration.iter().copied().chain(all).collect();
            let _ = world.reload(groups_of(&everywhere), vec![check("dns")]);
        }
        let actions = world.reload(groups_of(&last), vec![check("dns")]);
        for router in ["a", "b"] {
            let in_force = fresh.failover.priority(router).unwrap();
            prop_assert_eq!(world.failover.priority(router), Some(in_force));
            prop_assert!(actions.contains(&priority(router, in_force)), "{:?}", actions);
        }
        // Which of the two was in fault before it waits for a first look is the past's matter.
        if is_all_seen {
            prop_assert_eq!(world.state("g"), fresh.state("g"));
        }
        let shown = |world: &World| -> Vec<_> {
            let all = world.failover.tracked("g");
            all.map(|one| (one.subject.clone(), one.weight, one.verdict, one.effect)).collect()
        };
        prop_assert_eq!(shown(&world), shown(&fresh));
    }
}
