//! A backup that stands by in its kernel, against a model of that kernel.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{A, B, FAIR, World, config, flow, tcp};
use lockstep_ctnetlink::{Flow, ProtocolState, Status, Tuple};
use lockstep_replicator::{
    Action, Change, Commit, Config, Event, Mode, PARKED_S, Planned, Retry, Standby, is_parked,
};

const ENOENT: i32 = 2;
const ENOMEM: i32 = 12;
const EEXIST: i32 = 17;
const EOPNOTSUPP: i32 = 95;

/// B's kernel.
#[derive(Default)]
struct Kernel {
    flows: BTreeMap<Tuple, Flow>,
    /// Requests so far.
    asked: Vec<(Action, Tuple)>,
    /// Most flows it takes.
    room: Option<usize>,
}

impl Kernel {
    /// Carries out what B has for its kernel now.
    fn serve(&mut self, world: &mut World) {
        while let Some(planned) = world.nodes[B].poll_injection(world.now) {
            let mut next = Some(planned);
            while let Some(planned) = next.take() {
                next = self.ask(world, planned);
            }
        }
        world.drain(B);
    }

    fn ask(&mut self, world: &mut World, planned: Planned) -> Option<Planned> {
        self.asked.push((planned.action, planned.flow.orig));
        let Err(errno) = self.carry_out(&planned) else {
            world.nodes[B].injected(&planned);
            return None;
        };
        match world.nodes[B].injection_refused(planned, errno, "refused", world.now) {
            Retry::With(planned) => Some(planned),
            Retry::Look(planned) => {
                let other = self.flows.values().find(|flow| flow.reply == planned.flow.reply);
                let existing = self.flows.get(&planned.flow.orig).or(other).cloned();
                world.nodes[B].compare_injection(planned, existing.as_ref())
            }
            Retry::GiveUp => None,
        }
    }

    fn carry_out(&mut self, planned: &Planned) -> Result<(), i32> {
        let flow = &planned.flow;
        let exists = self.flows.contains_key(&flow.orig);
        let taken =
            self.flows.values().any(|other| other.orig != flow.orig && other.reply == flow.reply);
        let makes = matches!(planned.action, Action::Create | Action::Replace);
        match planned.action {
            Action::Create if exists => return Err(EEXIST),
            _ if makes && taken => return Err(EEXIST),
            _ if makes && self.room.is_some_and(|room| self.flows.len() >= room) => {
                return Err(ENOMEM);
            }
            _ if makes && flow.helper.is_some() => return Err(EOPNOTSUPP),
            Action::Update | Action::Delete | Action::SetTimeout | Action::BeLiberal if !exists => {
                return Err(ENOENT);
            }
            Action::BeLiberal => panic!("a router that stands by does not serve"),
            Action::Delete => drop(self.flows.remove(&flow.orig)),
            Action::SetTimeout => {
                self.flows.get_mut(&flow.orig).unwrap().timeout_s = flow.timeout_s;
            }
            Action::Create | Action::Replace | Action::Update => {
                self.flows.insert(flow.orig, flow.clone());
            }
        }
        Ok(())
    }

    /// B reads its kernel's table.
    fn read(&self, world: &mut World) {
        world.nodes[B].begin_dump();
        for flow in self.flows.values() {
            world.nodes[B].dumped(flow, world.now);
        }
        assert!(world.nodes[B].end_dump(world.now));
        world.drain(B);
    }

    fn timeout_s(&self, number: u32) -> u32 {
        self.flows[&flow(number).orig].timeout_s.unwrap()
    }
}

fn standing_by() -> Config {
    Config { standby: Standby::Kernel, ..config() }
}

/// A is active and has told `flows`, which are in B's kernel.
fn told(flows: &[Flow]) -> (World, Kernel) {
    told_in(&standing_by(), flows)
}

fn told_in(config: &Config, flows: &[Flow]) -> (World, Kernel) {
    let mut world = World::with(1, FAIR, config);
    let mut kernel = Kernel::default();
    world.run_s(1);
    world.activate(A);
    for flow in flows {
        world.event(A, Change::New, flow, false);
    }
    world.run_s(2);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), flows.len());
    (world, kernel)
}

/// Carries out what a commit of B has to do now.
fn carry_out(world: &World, kernel: &mut Kernel, commit: &mut Commit) {
    while let Some(planned) = commit.next(&world.nodes[B], world.now) {
        let mut next = Some(planned);
        while let Some(planned) = next.take() {
            kernel.asked.push((planned.action, planned.flow.orig));
            let Err(errno) = kernel.carry_out(&planned) else {
                commit.done(&planned);
                break;
            };
            next = match commit.refused(planned, errno, "refused") {
                Retry::With(planned) => Some(planned),
                Retry::Look(planned) => {
                    let existing = kernel.flows.get(&planned.flow.orig);
                    commit.compare(planned, existing)
                }
                Retry::GiveUp => None,
            };
        }
    }
}

/// A takeover by B, as the daemon does it.
fn take_over(world: &mut World, kernel: &mut Kernel) -> u64 {
    let mut commit = world.nodes[B].begin_commit();
    carry_out(world, kernel, &mut commit);
    let settled = commit.report().settled();
    assert_eq!(commit.report().refused(), 0);
    world.nodes[B].end_commit(commit.report());
    world.nodes[B].activate(world.now);
    settled
}

/// What A has been told by B.
fn heard_by_a(world: &World) -> usize {
    world.nodes[A].external_len()
}

#[test]
fn what_the_peer_tells_is_in_the_kernel_with_parked_timeouts_and_leaves_when_it_ends() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    assert_eq!(kernel.timeout_s(1), PARKED_S);
    assert!(is_parked(PARKED_S));
    let mut changed = flow(1);
    changed.protocol_state = tcp(7);
    world.event(A, Change::Update, &changed, false);
    world.event(A, Change::Delete, &flow(2), false);
    world.run_s(1);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), 1);
    let ProtocolState::Tcp(state) = kernel.flows[&flow(1).orig].protocol_state else { panic!() };
    assert_eq!((state.state, kernel.timeout_s(1)), (7, PARKED_S));
    assert_eq!(world.nodes[B].injection().in_kernel, 1);
    assert_eq!(world.nodes[B].internal_len(), 0, "it is not B's");
}

#[test]
fn only_the_newest_state_waits_and_a_flow_that_came_and_went_is_never_asked_for() {
    let (mut world, mut kernel) = told(&[]);
    let mut changing = flow(1);
    for state in 1..6 {
        changing.protocol_state = tcp(state);
        let change = if state == 1 { Change::New } else { Change::Update };
        world.event(A, change, &changing, false);
        world.run_s(1);
    }
    world.event(A, Change::New, &flow(2), false);
    world.run_s(1);
    world.event(A, Change::Delete, &flow(2), false);
    world.run_s(1);
    assert_eq!(world.nodes[B].injection().waiting, 2);
    kernel.serve(&mut world);
    assert_eq!(kernel.asked, [(Action::Create, flow(1).orig)]);
}

#[test]
fn a_tuple_that_ended_and_is_used_again_with_another_translation_ends_as_the_new_one() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    let mut again = flow(1);
    again.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
    world.event(A, Change::Delete, &flow(1), false);
    world.event(A, Change::New, &again, false);
    let mut moved = flow(2);
    moved.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 78));
    world.event(A, Change::New, &moved, false);
    world.run_s(1);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows[&again.orig].reply, again.reply);
    assert_eq!(kernel.flows[&moved.orig].reply, moved.reply);
}

#[test]
fn every_flow_is_parked_again_long_before_it_would_run_out() {
    let flows: Vec<_> = (0..500).map(flow).collect();
    let (mut world, mut kernel) = told(&flows);
    for flow in kernel.flows.values_mut() {
        flow.timeout_s = Some(1);
    }
    let end = world.now + Duration::from_hours(4);
    while world.now < end {
        world.run(Duration::from_mins(5));
        assert!(world.nodes[B].next_injection(world.now).is_some());
        kernel.serve(&mut world);
    }
    assert!(kernel.flows.values().all(|flow| flow.timeout_s == Some(PARKED_S)));
    let rest = kernel.asked.split_off(flows.len());
    assert!(rest.iter().all(|(action, _)| *action == Action::SetTimeout));
    assert!(rest.len() < 2 * flows.len(), "{} requests", rest.len());
}

#[test]
fn a_copy_that_expires_or_is_deleted_by_others_is_put_back_and_nobody_is_told() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2), flow(3)]);
    let gone = kernel.flows.remove(&flow(1).orig).unwrap();
    world.event(B, Change::Delete, &gone, false);
    world.run_s(1);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), 3);
    assert_eq!(world.nodes[B].injection().report.put_back, 1);

    // Without an event: seen when the table is read, or when the flow is to be parked again.
    kernel.flows.remove(&flow(2).orig);
    kernel.read(&mut world);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), 3);
    kernel.flows.remove(&flow(3).orig);
    for _ in 0..2 {
        world.run(Duration::from_hours(3));
        kernel.serve(&mut world);
    }
    assert_eq!(kernel.flows.len(), 3);
    assert_eq!(world.nodes[A].internal_len(), 3, "A's flows live");
    assert_eq!(heard_by_a(&world), 0, "and nothing was said about them");
}

#[test]
fn a_backup_tells_nothing_of_its_own_flows_either_not_even_when_it_is_asked() {
    let (mut world, _) = told(&[flow(1)]);
    world.event(B, Change::New, &flow(50), false);
    world.run_s(2);
    world.nodes[A].request_resync(world.now);
    world.drain(A);
    world.run_s(5);
    world.nodes[B].send_everything();
    world.drain(B);
    world.run_s(2);
    assert_eq!(world.nodes[B].internal_len(), 1);
    assert_eq!(heard_by_a(&world), 0);
}

#[test]
fn what_a_full_table_drops_is_put_back_at_a_bounded_rate() {
    let mut flows: Vec<_> = (0..6_000).map(flow).collect();
    for flow in &mut flows[3_000..] {
        flow.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
    }
    let (mut world, mut kernel) = told(&flows);
    for flow in &flows {
        let gone = kernel.flows.remove(&flow.orig).unwrap();
        world.event(B, Change::Delete, &gone, false);
    }
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), 5_000);
    let again = world.nodes[B].next_injection(world.now).unwrap();
    assert!(again > world.now);
    world.run(again - world.now);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), 6_000);
}

#[test]
fn a_kernel_without_room_is_asked_again_later_and_then_takes_the_flow() {
    let (mut world, mut kernel) = told(&[flow(1)]);
    kernel.room = Some(1);
    world.event(A, Change::New, &flow(2), false);
    world.run_s(1);
    let before = kernel.asked.len();
    kernel.serve(&mut world);
    assert_eq!(kernel.asked.len(), before + 1, "it is not asked on and on");
    let state = world.nodes[B].injection();
    assert_eq!((state.waiting, state.in_kernel), (1, 1));
    assert_eq!(state.report.refused, BTreeMap::from([(ENOMEM, 1)]));
    kernel.room = None;
    world.run_s(2);
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.len(), 2);
}

#[test]
fn a_clash_is_reported_with_both_flows_and_tried_again_by_the_commit() {
    let (mut world, mut kernel) = told(&[]);
    let mut own = flow(9);
    own.reply = flow(1).reply;
    kernel.flows.insert(own.orig, own.clone());
    world.event(A, Change::New, &flow(1), false);
    world.run_s(1);
    kernel.serve(&mut world);
    let state = world.nodes[B].injection();
    assert_eq!((state.refused, state.in_kernel), (1, 0));
    let said = state.report.to_string();
    assert!(said.contains("ports 1025 to 80") && said.contains("ports 1033 to 80"), "{said}");
    // The other flow has ended by the time of the takeover.
    kernel.flows.remove(&own.orig);
    assert_eq!(take_over(&mut world, &mut kernel), 1);
    assert!(kernel.flows.contains_key(&flow(1).orig));
}

#[test]
fn a_flow_whose_helper_is_unknown_is_put_in_without_it() {
    let mut helped = flow(1);
    helped.helper = lockstep_ctnetlink::HelperName::new(b"ftp");
    let (world, kernel) = told(&[helped]);
    assert_eq!(kernel.flows[&flow(1).orig].helper, None);
    assert_eq!(world.nodes[B].injection().report.without_helper, 1);
}

#[test]
fn a_takeover_commits_what_waits_and_nothing_else() {
    let flows: Vec<_> = (0..1_000).map(flow).collect();
    let (mut world, mut kernel) = told(&flows);
    let before = kernel.asked.len();
    for number in 1_000..1_003 {
        world.event(A, Change::New, &flow(number), false);
    }
    world.event(A, Change::Delete, &flow(0), false);
    world.run_s(1);
    assert_eq!(take_over(&mut world, &mut kernel), 4);
    assert_eq!(kernel.asked.len(), before + 4);
    assert_eq!(kernel.flows.len(), 1_002);
    assert!(!is_parked(kernel.timeout_s(1_001)), "it goes straight into service");
}

#[test]
fn after_a_takeover_flows_that_are_still_parked_get_their_own_timeouts_and_nothing_else() {
    let mut stream = flow(2);
    stream.orig.protocol = 17;
    stream.reply.protocol = 17;
    stream.protocol_state = ProtocolState::None;
    stream.timeout_s = Some(180);
    let (mut world, mut kernel) = told(&[flow(1), stream.clone(), flow(3)]);
    world.run_s(1_000);
    take_over(&mut world, &mut kernel);
    // A packet has come for one of them.
    kernel.flows.get_mut(&flow(3).orig).unwrap().timeout_s = Some(432_000);
    let before = kernel.asked.len();
    kernel.read(&mut world);
    assert!(world.nodes[B].internal_flows().all(|flow| !is_parked(flow.timeout_s.unwrap())));
    kernel.serve(&mut world);
    let asked: Vec<_> = kernel.asked.split_off(before);
    assert_eq!(asked, [(Action::SetTimeout, flow(1).orig), (Action::SetTimeout, stream.orig)]);
    let left = kernel.timeout_s(1);
    assert!((432_000 - 1_100..432_000 - 900).contains(&left), "{left}");
    assert_eq!(kernel.flows[&stream.orig].timeout_s, Some(180), "a stream goes on as it was");
    assert_eq!(kernel.timeout_s(3), 432_000);
    // Then the memory of what A had told is given back, and there is nothing left to do.
    while world.nodes[B].next_injection(world.now).is_some() {
        kernel.serve(&mut world);
    }
    assert_eq!(kernel.asked.len(), before);
}

#[test]
fn a_flow_that_changes_between_being_read_and_its_turn_keeps_the_kernels_timeout() {
    let (mut world, mut kernel) = told(&[flow(1)]);
    take_over(&mut world, &mut kernel);
    kernel.read(&mut world);
    let mut closing = flow(1);
    closing.protocol_state = tcp(7);
    closing.timeout_s = Some(120);
    world.event(B, Change::Update, &closing, false);
    let before = kernel.asked.len();
    kernel.serve(&mut world);
    assert_eq!(kernel.asked.len(), before);
}

#[test]
fn a_parked_timeout_is_never_told() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    take_over(&mut world, &mut kernel);
    // An event of a flow that is still parked, before the table is read.
    let mut marked = kernel.flows[&flow(2).orig].clone();
    marked.mark = Some(7);
    world.event(B, Change::Update, &marked, false);
    world.nodes[A].deactivate(world.now);
    kernel.read(&mut world);
    world.run_s(10);
    let told: Vec<_> = world.nodes[A].external_flows().collect();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|flow| !is_parked(flow.timeout_s.unwrap_or_default())), "{told:?}");
}

#[test]
fn going_back_to_backup_parks_what_the_new_active_tells_and_removes_the_rest() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    world.nodes[A].deactivate(world.now);
    take_over(&mut world, &mut kernel);
    kernel.flows.insert(flow(3).orig, flow(3));
    kernel.read(&mut world);
    kernel.serve(&mut world);
    world.run_s(3);
    assert_eq!(world.nodes[B].internal_len(), 3);

    // A serves again, and one of the flows has ended meanwhile.
    world.kernels[A] = [1, 3].into();
    world.nodes[B].deactivate(world.now);
    world.drain(B);
    world.activate(A);
    world.run_s(5);
    kernel.serve(&mut world);
    assert_eq!(kernel.timeout_s(1), PARKED_S);
    assert_eq!(kernel.timeout_s(3), PARKED_S);
    assert!(!is_parked(kernel.timeout_s(2)));
    world.run_s(70);
    assert!(world.events[B].contains(&Event::PurgeDue));
    let mut purge = world.nodes[B].begin_purge().unwrap();
    let mut purged = Vec::new();
    while let Some(flow) = purge.next(&world.nodes[B]) {
        purged.push(flow.orig);
    }
    assert_eq!(purged, [flow(2).orig]);
}

#[test]
fn nothing_is_removed_before_the_new_active_has_told_everything() {
    let (mut world, mut kernel) = told(&[flow(1)]);
    take_over(&mut world, &mut kernel);
    kernel.read(&mut world);
    world.cut();
    world.nodes[B].deactivate(world.now);
    world.run_s(300);
    assert!(!world.events[B].contains(&Event::PurgeDue));
    assert!(world.nodes[B].begin_purge().is_none());
}

#[test]
fn what_an_earlier_life_left_parked_is_taken_over_or_removed() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    world.restart(B, &standing_by());
    // Flow 2 ends while B's daemon is away.
    world.event(A, Change::Delete, &flow(2), false);
    kernel.flows.insert(flow(3).orig, flow(3));
    kernel.read(&mut world);
    world.run_s(10);
    kernel.serve(&mut world);
    assert_eq!(world.nodes[B].injection().in_kernel, 1);
    world.run_s(70);
    let mut purge = world.nodes[B].begin_purge().unwrap();
    let purged: Vec<_> = std::iter::from_fn(|| purge.next(&world.nodes[B])).collect();
    assert_eq!(purged.len(), 1, "flow 3 was never parked and is not touched");
    assert_eq!(purged[0].orig, flow(2).orig);
}

#[test]
fn a_takeover_that_does_not_come_leaves_the_flows_parked_again() {
    let (mut world, mut kernel) = told(&[flow(1)]);
    world.event(A, Change::New, &flow(2), false);
    world.run_s(1);
    let mut commit = world.nodes[B].begin_commit();
    assert_eq!(world.nodes[B].poll_injection(world.now), None, "one at a time");
    carry_out(&world, &mut kernel, &mut commit);
    world.nodes[B].end_commit(commit.report());
    world.nodes[B].deactivate(world.now);
    kernel.serve(&mut world);
    assert_eq!((kernel.timeout_s(1), kernel.timeout_s(2)), (PARKED_S, PARKED_S));
    assert_eq!(world.nodes[B].injection().in_kernel, 2);
}

#[test]
fn what_the_peer_tells_during_the_commit_of_a_takeover_is_part_of_it() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    world.event(A, Change::New, &flow(3), false);
    world.run_s(1);
    let mut commit = world.nodes[B].begin_commit();
    carry_out(&world, &mut kernel, &mut commit);
    let mut changed = flow(3);
    changed.protocol_state = tcp(7);
    world.event(A, Change::Update, &changed, false);
    world.event(A, Change::Delete, &flow(1), false);
    world.event(A, Change::New, &flow(4), false);
    world.run_s(1);
    carry_out(&world, &mut kernel, &mut commit);
    let left: Vec<_> = kernel.flows.keys().copied().collect();
    assert_eq!(left, [flow(2).orig, flow(3).orig, flow(4).orig]);
    let ProtocolState::Tcp(state) = kernel.flows[&flow(3).orig].protocol_state else { panic!() };
    assert_eq!(state.state, 7);
}

#[test]
fn a_flow_whose_timeout_may_not_be_changed_is_not_parked() {
    let mut fixed = flow(1);
    fixed.status = Status(fixed.status.0 | Status::FIXED_TIMEOUT);
    fixed.timeout_s = Some(100);
    let (mut world, mut kernel) = told(&[fixed]);
    assert!(kernel.timeout_s(1) <= 100);
    world.run(Duration::from_hours(4));
    kernel.serve(&mut world);
    assert_eq!(kernel.asked.len(), 1);
}

#[test]
fn flushing_the_external_cache_empties_the_kernel_of_it() {
    let (mut world, mut kernel) = told(&[flow(1), flow(2)]);
    kernel.flows.insert(flow(9).orig, flow(9));
    world.nodes[B].flush_external();
    kernel.serve(&mut world);
    assert_eq!(kernel.flows.keys().copied().collect::<Vec<_>>(), [flow(9).orig]);
}

/// In the modes without acknowledgements nobody says that a copy is complete, and in ALARM only
/// silence says that a flow has ended if its end was lost.
#[test]
fn standing_by_in_the_kernel_works_in_every_mode() {
    for mode in [Mode::Ftfw, Mode::Notrack, Mode::Alarm] {
        let config = Config { mode, ..standing_by() };
        let flows: Vec<_> = (1..=20).map(flow).collect();
        let (mut world, mut kernel) = told_in(&config, &flows);
        kernel.serve(&mut world);
        assert_eq!(kernel.flows.len(), 20, "{mode:?}");
        world.event(A, Change::Delete, &flow(20), false);
        world.run_s(2);
        kernel.serve(&mut world);
        assert!(!kernel.flows.contains_key(&flow(20).orig), "{mode:?}: the end follows");
        // Nothing is dropped that lives, however long nothing happens to it.
        for _ in 0..30 {
            world.run_s(20);
            kernel.serve(&mut world);
        }
        assert_eq!(kernel.flows.len(), 19, "{mode:?}");
        assert!(kernel.flows.values().all(|flow| flow.timeout_s.is_some_and(is_parked)));

        world.nodes[A].deactivate(world.now);
        take_over(&mut world, &mut kernel);
        kernel.read(&mut world);
        kernel.serve(&mut world);
        assert_eq!((world.nodes[B].internal_len(), kernel.flows.len()), (19, 19), "{mode:?}");
        assert!(!kernel.flows.values().any(|flow| flow.timeout_s.is_some_and(is_parked)));

        // A serves again, and all but two of the flows have ended meanwhile.
        world.kernels[A] = [1, 3].into();
        world.nodes[B].deactivate(world.now);
        world.drain(B);
        world.activate(A);
        let mut purge = None;
        for _ in 0..60 {
            world.run_s(5);
            kernel.serve(&mut world);
            purge = purge.or_else(|| world.nodes[B].begin_purge());
        }
        let mut purge = purge.unwrap_or_else(|| panic!("{mode:?}: nothing is removed"));
        let purged = std::iter::from_fn(|| purge.next(&world.nodes[B])).count();
        assert_eq!(purged, 17, "{mode:?}");
        assert_eq!((kernel.timeout_s(1), kernel.timeout_s(3)), (PARKED_S, PARKED_S), "{mode:?}");
    }
}
