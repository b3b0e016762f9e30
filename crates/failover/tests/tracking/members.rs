//! Groups and members that come and go while others are at work.

use super::*;

impl World {
    /// Takes other groups of these members, after what goes has been told to leave and the steps that
    /// follow have been done; what was asked for.
    fn take(&mut self, groups: Vec<Group>, leaving: &[&str], released: &[&str]) -> Vec<Action> {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut given = self.failover.leave(&names(leaving), &names(released), self.now);
        given.extend(self.complete(&given));
        assert!(self.failover.has_left());
        let actions = self.failover.configure(&Config { groups, checks: Vec::new() }, self.now);
        given.extend(actions);
        given
    }

    /// Answers every step until nothing is asked for any more; what was asked for meanwhile.
    fn complete(&mut self, actions: &[Action]) -> Vec<Action> {
        let mut all = Vec::new();
        let mut open: Vec<Action> = actions.to_vec();
        while let Some(action) = open.pop() {
            if let Action::Step { id, group, step, .. } = action {
                if step == Step::Hooks {
                    all.extend(self.feed(Event::HooksBegun { group, id }));
                }
                let outcome = Outcome::Done("done".to_owned());
                let next = self.feed(Event::Stepped { id, outcome });
                all.extend(next.iter().cloned());
                open.extend(next);
            }
        }
        all
    }

    fn elect(&mut self, name: &str) -> Vec<Action> {
        let event = VirtualRouterEvent::Elected { reason: "silence".to_owned() };
        let mut actions = self.feed(Event::VirtualRouter { name: name.to_owned(), event });
        actions.extend(self.complete(&actions.clone()));
        actions
    }

    /// The same, of one that is usable.
    fn serve(&mut self, name: &str) -> Vec<Action> {
        let usable = Event::Interface { virtual_router: name.to_owned(), usable: Ok(()) };
        let mut actions = self.feed(usable);
        actions.extend(self.complete(&actions.clone()));
        actions.extend(self.elect(name));
        actions
    }

    fn transitions_of(&self, group: &str) -> usize {
        self.failover.journal().transitions().filter(|one| one.group == group).count()
    }
}

fn of(name: &str, members: &[&str]) -> Group {
    let members = members.iter().map(|name| member(name, 100, Vec::new())).collect();
    group(name, members, Vec::new())
}

fn startup(virtual_router: &str) -> Action {
    Action::Startup { virtual_router: virtual_router.to_owned() }
}

fn withdraw(virtual_router: &str) -> Action {
    Action::Withdraw { virtual_router: virtual_router.to_owned() }
}

fn claim(virtual_router: &str) -> Action {
    Action::Claim { virtual_router: virtual_router.to_owned() }
}

fn steps(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Step { .. })).count()
}

#[test]
fn a_member_that_comes_to_a_master_listens_first_and_is_claimed_when_it_is_elected() {
    let mut world = World::new(vec![of("g", &["a"])], &[]);
    world.serve("a");
    let before = world.transitions_of("g");
    let actions = world.take(vec![of("g", &["b", "a"])], &[], &[]);
    assert_eq!(steps(&actions), 0, "{actions:?}");
    assert!(!actions.contains(&startup("b")), "its interface is not known yet");
    let served = Action::Serves { group: "g".to_owned() };
    assert!(actions.contains(&served), "{actions:?}");

    let usable = Event::Interface { virtual_router: "b".to_owned(), usable: Ok(()) };
    assert_eq!(world.feed(usable.clone()), [startup("b")]);
    assert_eq!(world.feed(usable), [], "once");
    assert_eq!(world.elect("b"), [claim("b")]);
    assert_eq!((world.state("g"), world.transitions_of("g")), (State::Master, before));
    let event = VirtualRouterEvent::Superseded { reason: "a better one".to_owned() };
    let _ = world.feed(Event::VirtualRouter { name: "b".to_owned(), event });
    assert_eq!(world.state("g"), State::Backup, "it is one of the group");
}

#[test]
fn a_member_that_is_elected_before_a_takeover_has_ended_is_claimed_at_its_end() {
    let mut world = World::new(vec![of("g", &["a"])], &[]);
    world.usable("a");
    let event = VirtualRouterEvent::Elected { reason: "silence".to_owned() };
    let open = world.feed(Event::VirtualRouter { name: "a".to_owned(), event: event.clone() });
    let _ = world.take(vec![of("g", &["a", "b"])], &[], &[]);
    world.usable("b");
    let now = world.feed(Event::VirtualRouter { name: "b".to_owned(), event });
    assert!(!now.contains(&claim("b")), "the plan is under way");
    assert!(world.complete(&open).contains(&claim("b")));
    assert_eq!(world.state("g"), State::Master);
}

#[test]
fn a_backup_becomes_master_once_the_member_that_came_is_elected_too() {
    let mut world = World::new(vec![of("g", &["a"])], &[]);
    world.usable("a");
    let _ = world.take(vec![of("g", &["a", "b"])], &[], &[]);
    world.elect("a");
    assert_eq!(world.state("g"), State::Backup);
    world.serve("b");
    assert_eq!(world.state("g"), State::Master);
}

#[test]
fn a_member_that_cannot_serve_is_a_fault_of_the_group() {
    let mut world = World::new(vec![of("g", &["a"])], &[]);
    world.serve("a");
    let _ = world.take(vec![of("g", &["a", "b"])], &[], &[]);
    let usable = Err("eth1 is down".to_owned());
    let _ = world.feed(Event::Interface { virtual_router: "b".to_owned(), usable });
    assert_eq!((world.state("g"), world.reason("g").as_str()), (State::Fault, "eth1 is down"));
    let usable = Event::Interface { virtual_router: "b".to_owned(), usable: Ok(()) };
    let actions = world.feed(usable);
    let startups = actions.iter().filter(|action| matches!(action, Action::Startup { .. }));
    assert_eq!(startups.count(), 2, "each once: {actions:?}");
}

#[test]
fn a_member_that_goes_leaves_its_election_and_the_group_stays_what_it_is() {
    let mut world = World::new(vec![of("g", &["a", "b", "c"])], &[]);
    for name in ["a", "b", "c"] {
        world.usable(name);
    }
    for name in ["a", "b", "c"] {
        world.elect(name);
    }
    let before = world.transitions_of("g");
    let actions = world.take(vec![of("g", &["c", "a"])], &[], &["b"]);
    assert!(actions.contains(&withdraw("b")));
    assert_eq!((world.state("g"), world.transitions_of("g")), (State::Master, before));
    let members: Vec<&str> = world.failover.members("g").collect();
    assert_eq!(members, ["c", "a"]);
    let _ = world.feed(Event::Interface {
        virtual_router: "b".to_owned(),
        usable: Err("eth0 is down".to_owned()),
    });
    assert_eq!(world.state("g"), State::Master, "it is nobody's any more");
    let _ = world.feed(Event::Interface {
        virtual_router: "c".to_owned(),
        usable: Err("eth2 is down".to_owned()),
    });
    assert_eq!(world.reason("g"), "eth2 is down");
}

#[test]
fn a_fault_of_a_member_ends_when_it_goes() {
    let mut world = World::new(vec![of("g", &["a", "b"])], &[]);
    world.usable("a");
    let usable = Err("eth1 is down".to_owned());
    let _ = world.feed(Event::Interface { virtual_router: "b".to_owned(), usable });
    assert_eq!(world.state("g"), State::Fault);
    let actions = world.take(vec![of("g", &["a"])], &[], &["b"]);
    assert_eq!(world.state("g"), State::Backup);
    assert!(actions.contains(&startup("a")) && !actions.contains(&startup("b")));
}

#[test]
fn a_group_that_leaves_stops_and_is_gone_and_no_other_moves() {
    let groups = || vec![of("f", &["x"]), of("g", &["a"]), of("h", &["y"])];
    let mut world = World::new(groups(), &[]);
    for name in ["x", "a", "y"] {
        world.serve(name);
    }
    let before = (world.transitions_of("f"), world.transitions_of("h"));
    let actions = world.take(vec![of("h", &["y"]), of("f", &["x"])], &["g"], &["a"]);
    assert!(actions.contains(&Action::Stopped { group: "g".to_owned() }));
    let last = world.failover.journal().transitions().next_back().unwrap();
    assert_eq!((last.group.as_str(), last.to), ("g", State::Stopped));
    assert_eq!(last.reason, "left by another configuration");
    assert!(world.failover.group("g").is_none() && world.failover.group_of("a").is_none());
    assert_eq!((world.transitions_of("f"), world.transitions_of("h")), before);
    // Each is still found by its name, and its members with it.
    let usable = Err("eth0 is down".to_owned());
    let _ = world.feed(Event::Interface { virtual_router: "y".to_owned(), usable });
    assert_eq!((world.state("h"), world.state("f")), (State::Fault, State::Master));
    let actions = world.feed(Event::Stop);
    let _ = world.complete(&actions);
    assert!(world.failover.has_ended());
}

#[test]
fn a_group_has_left_when_its_hooks_have_had_their_turn() {
    let mut world = World::new(vec![of("g", &["a"])], &[]);
    world.serve("a");
    let mut open = world.failover.leave(&["g".to_owned()], &[], world.now);
    let mut hooks = None;
    while let Some(Action::Step { id, step, .. }) = open.pop() {
        hooks = (step == Step::Hooks).then_some(id).or(hooks);
        open = world.feed(Event::Stepped { id, outcome: Outcome::Done("done".to_owned()) });
        open.retain(|action| matches!(action, Action::Step { .. }));
    }
    assert_eq!(world.state("g"), State::Stopped);
    assert!(world.failover.has_let_go() && !world.failover.has_left());
    let id = hooks.expect("it has hooks");
    let _ = world.feed(Event::HooksBegun { group: "g".to_owned(), id });
    assert!(world.failover.has_left());
}

#[test]
fn a_group_that_comes_knows_what_it_has_missed() {
    let mut world = World::new(vec![of("f", &["x"])], &[]);
    world.serve("x");
    let _ = world.feed(Event::InSync(true));
    let new = Group { replicated: true, ..of("g", &["a"]) };
    let groups = vec![new.clone(), of("f", &["x"])];
    let actions = world.take(groups.clone(), &[], &[]);
    let allowed = Action::PreemptAllowed { virtual_router: "a".to_owned(), allowed: true };
    assert!(actions.contains(&allowed), "{actions:?}");
    assert_eq!((world.state("g"), world.state("f")), (State::Init, State::Master));
    world.serve("a");
    assert_eq!(world.state("g"), State::Master);
    // One that leaves and is wanted again begins anew.
    let actions = world.take(groups, &["g"], &["a"]);
    assert!(actions.contains(&Action::Stopped { group: "g".to_owned() }));
    assert_eq!((world.state("g"), world.state("f")), (State::Init, State::Master));
}

#[test]
fn the_steps_of_a_group_are_its_own_at_another_place() {
    let mut world = World::new(vec![of("f", &["x"]), of("g", &["a"])], &[]);
    world.usable("a");
    let event = VirtualRouterEvent::Elected { reason: "silence".to_owned() };
    let open = world.feed(Event::VirtualRouter { name: "a".to_owned(), event });
    let _ = world.take(vec![of("g", &["a"])], &["f"], &["x"]);
    assert!(!world.failover.group("g").unwrap().is_settled());
    let _ = world.complete(&open);
    assert!(world.failover.group("g").unwrap().is_settled());
    assert_eq!(world.failover.next_deadline(), None, "nothing of either is waited for");
}

#[test]
fn a_member_that_was_let_go_and_is_wanted_after_all_begins_anew() {
    let mut world = World::new(vec![of("g", &["a", "b"])], &[]);
    world.usable("a");
    world.usable("b");
    world.elect("a");
    world.elect("b");
    assert_eq!(world.state("g"), State::Master);
    let actions = world.take(vec![of("g", &["a", "b"])], &[], &["b"]);
    assert!(actions.contains(&withdraw("b")));
    let usable = Event::Interface { virtual_router: "b".to_owned(), usable: Ok(()) };
    assert_eq!(world.feed(usable), [startup("b")]);
    assert_eq!(world.elect("b"), [claim("b")]);
    assert_eq!(world.transitions_of("g"), 2);
}

#[test]
fn a_group_that_comes_while_everything_ends_ends_too() {
    let mut world = World::new(vec![of("g", &["a"])], &[]);
    world.serve("a");
    let stop = world.feed(Event::Stop);
    let actions = world.take(vec![of("g", &["a"]), of("h", &["b"])], &[], &[]);
    assert!(!actions.iter().any(|action| matches!(action, Action::Startup { .. })));
    let _ = world.complete(&stop);
    let _ = world.complete(&actions);
    assert_eq!(world.state("h"), State::Stopped);
    assert!(world.failover.has_ended());
}
