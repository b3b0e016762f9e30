//! What a commit plans, against a model of the kernel.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use common::{A, B, FAIR, World, flow, tcp};
use lockstep_ctnetlink::{Flow, HelperName, L4, ProtocolState, Status, Tuple};
use lockstep_replicator::{Action, Change, Commit, Planned, Retry};

const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EOPNOTSUPP: i32 = 95;

/// B is backup and has what A told.
fn backup_of(flows: &[Flow]) -> World {
    let mut world = World::new(1, FAIR);
    world.run_s(1);
    world.activate(A);
    for flow in flows {
        world.event(A, Change::New, flow, false);
    }
    world.run_s(2);
    assert_eq!(world.nodes[B].external_len(), flows.len());
    world
}

fn plan(world: &mut World) -> Vec<Planned> {
    let mut commit = world.nodes[B].begin_commit();
    let mut all = Vec::new();
    while let Some(planned) = commit.next(&world.nodes[B], world.now) {
        all.push(planned);
    }
    all
}

fn tcp_state(flow: &Flow) -> u8 {
    let ProtocolState::Tcp(tcp) = flow.protocol_state else { panic!("not TCP: {flow:?}") };
    tcp.state
}

#[test]
fn every_external_flow_is_created_in_a_stable_order() {
    let flows: Vec<_> = (0..100).map(flow).collect();
    let mut world = backup_of(&flows);
    let planned = plan(&mut world);
    assert_eq!(planned.len(), 100);
    assert!(planned.iter().all(|planned| planned.action == Action::Create));
    let again = plan(&mut world);
    assert_eq!(planned, again);
    assert_eq!(planned[0].flow.reply, flows[0].reply, "the translation is part of it");
}

#[test]
fn status_is_what_the_kernel_takes_and_tcp_does_not_insist_on_windows() {
    let mut expected = flow(1);
    expected.status = Status(0x0001 | 0x0200 | 0x4000 | 0x19e);
    let mut sctp = flow(2);
    sctp.orig.protocol = 132;
    sctp.reply.protocol = 132;
    sctp.protocol_state = ProtocolState::Sctp { state: 4, vtag_orig: 1, vtag_reply: 2 };
    let mut world = backup_of(&[expected, sctp.clone()]);
    let planned = plan(&mut world);
    assert_eq!(planned[0].flow.status, Status(0x19e));
    assert!(matches!(planned[0].flow.protocol_state,
        ProtocolState::Tcp(tcp) if tcp.flags == Some([8, 8])));
    assert_eq!(planned[1].flow.protocol_state, sctp.protocol_state, "tags are not touched");
}

#[test]
fn a_flow_comes_after_the_one_that_expected_it() {
    let master = flow(1);
    let mut related = flow(2);
    related.master = Some(master.orig);
    let mut related_to_that = flow(3);
    related_to_that.master = Some(related.orig);
    let mut world = backup_of(&[related_to_that.clone(), related.clone(), master.clone()]);
    let order: Vec<_> = plan(&mut world).into_iter().map(|planned| planned.flow.orig).collect();
    assert_eq!(order, [master.orig, related.orig, related_to_that.orig]);
}

#[test]
fn flows_the_kernel_has_are_updated_replaced_or_left_alone() {
    let same = flow(1);
    let other_translation = flow(2);
    let newer_here = flow(3);
    let mut world = backup_of(&[same.clone(), other_translation.clone(), newer_here.clone()]);
    let mut before = same.clone();
    before.protocol_state = tcp(1);
    before.status = Status(0x8);
    let mut elsewhere = other_translation.clone();
    elsewhere.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
    // What our kernel has from before, older than what the peer says now …
    let mut world = {
        let now = world.now;
        for flow in [&before, &elsewhere] {
            world.event(B, Change::New, flow, true);
        }
        world.run_s(2);
        for flow in [&same, &other_translation] {
            world.event(A, Change::Update, flow, false);
        }
        world.run_s(2);
        assert!(world.now > now);
        // … and one flow that the kernel has changed since.
        world.event(B, Change::New, &newer_here, false);
        world
    };
    let planned = plan(&mut world);
    let actions: BTreeMap<_, _> = planned.iter().map(|p| (p.flow.orig, p.action)).collect();
    assert_eq!(actions.len(), 2);
    assert_eq!(actions[&same.orig], Action::Update);
    assert_eq!(actions[&other_translation.orig], Action::Replace);
    let update = planned.iter().find(|planned| planned.action == Action::Update).unwrap();
    assert_eq!(update.flow.status, Status(0x8 | 0x6), "seen and assured are added");
}

#[test]
fn a_flow_that_was_only_read_from_the_kernel_does_not_outrank_the_replica() {
    let told = flow(1);
    let mut world = backup_of(std::slice::from_ref(&told));
    // What an earlier life of this router left is read after the peer has spoken.
    let mut left = told.clone();
    left.protocol_state = tcp(1);
    world.nodes[B].begin_dump();
    world.nodes[B].dumped(&left, world.now);
    assert!(world.nodes[B].end_dump(world.now));
    let planned = plan(&mut world);
    assert_eq!(planned.len(), 1);
    assert_eq!(planned[0].action, Action::Update);
}

#[test]
fn a_flow_that_exists_unexpectedly_is_looked_at_and_compared() {
    let mut world = backup_of(&[flow(1), flow(2), flow(3)]);
    let mut commit = world.nodes[B].begin_commit();
    let mut next = || commit.next(&world.nodes[B], world.now).unwrap();
    let [first, second, third] = [next(), next(), next()];

    let Retry::Look(first) = commit.refused(first, EEXIST, "File exists") else { panic!() };
    let mut existing = flow(1);
    existing.status = Status(0x8);
    let update = commit.compare(first, Some(&existing)).unwrap();
    assert_eq!((update.action, update.flow.status), (Action::Update, Status(0x8 | 0x6)));
    let Retry::With(create) = commit.refused(update, ENOENT, "gone meanwhile") else { panic!() };
    assert_eq!(create.action, Action::Create);
    commit.done(&create);

    let Retry::Look(second) = commit.refused(second, EEXIST, "File exists") else { panic!() };
    existing = flow(2);
    existing.reply.destination = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
    let replace = commit.compare(second, Some(&existing)).unwrap();
    assert_eq!(replace.action, Action::Replace);
    commit.done(&replace);

    let Retry::Look(third) = commit.refused(third, EEXIST, "File exists") else { panic!() };
    assert_eq!(commit.compare(third, None), None);
    assert_eq!(commit.report().refused(), 1);
    let report = commit.report().to_string();
    assert!(
        report.starts_with("2 flows committed, 1 of them with another translation"),
        "{report}"
    );
    assert!(
        report.contains("1 refused (1 EEXIST): protocol 6 10.0.0.0 to 198.51.100.1"),
        "{report}"
    );
    assert!(report.contains("another flow has its translated addresses"), "{report}");
}

#[test]
fn what_the_peer_tells_during_a_commit_is_part_of_it() {
    let flows: Vec<_> = (0..20).map(flow).collect();
    let mut world = backup_of(&flows);
    let mut commit = world.nodes[B].begin_commit();
    let mut kernel = BTreeMap::new();
    let mut carry_out = |world: &World, commit: &mut Commit, most: usize| {
        for _ in 0..most {
            let Some(planned) = commit.next(&world.nodes[B], world.now) else { return };
            if planned.action == Action::Delete {
                if kernel.remove(&planned.flow.orig).is_none() {
                    assert_eq!(commit.refused(planned, ENOENT, "no such entry"), Retry::GiveUp);
                    continue;
                }
            } else {
                kernel.insert(planned.flow.orig, tcp_state(&planned.flow));
            }
            commit.done(&planned);
        }
    };
    carry_out(&world, &mut commit, 10);
    // The first ones have been handed out: two end, their places are taken, and one changes.
    for gone in &flows[..2] {
        world.event(A, Change::Delete, gone, false);
    }
    let mut changed = flows[5].clone();
    changed.protocol_state = tcp(7);
    world.event(A, Change::Update, &changed, false);
    for new in [flow(100), flow(101)] {
        world.event(A, Change::New, &new, false);
    }
    // A flow that comes and goes again leaves nothing.
    world.event(A, Change::New, &flow(102), false);
    world.run_s(1);
    world.event(A, Change::Delete, &flow(102), false);
    world.run_s(1);
    carry_out(&world, &mut commit, 15);
    world.event(A, Change::New, &flow(103), false);
    world.run_s(1);
    carry_out(&world, &mut commit, 1_000);
    let left: BTreeMap<_, _> =
        world.nodes[B].external_flows().map(|flow| (flow.orig, tcp_state(&flow))).collect();
    assert_eq!(left.len(), 21);
    assert_eq!(kernel, left);
    assert_eq!(kernel[&flows[5].orig], 7);
    assert!(commit.next(&world.nodes[B], world.now).is_none());
    let report = commit.report().clone();
    assert_eq!(report.deleted, 2);
    assert!(report.to_string().contains("2 removed because they ended meanwhile"), "{report}");
    world.nodes[B].end_commit(&report);
    assert_eq!(world.nodes[B].counters().committed_deleted, 2);
}

#[test]
fn a_flow_that_ended_here_as_well_is_no_refusal() {
    let mut world = backup_of(&[flow(1)]);
    let mut commit = world.nodes[B].begin_commit();
    let created = commit.next(&world.nodes[B], world.now).unwrap();
    commit.done(&created);
    world.event(A, Change::Delete, &flow(1), false);
    world.run_s(1);
    let planned = commit.next(&world.nodes[B], world.now).unwrap();
    assert_eq!((planned.action, planned.flow.orig), (Action::Delete, flow(1).orig));
    assert_eq!(commit.refused(planned, ENOENT, "no such entry"), Retry::GiveUp);
    assert_eq!(commit.report().refused(), 0);
}

#[test]
fn the_changes_heeded_during_a_commit_are_bounded() {
    let mut world = backup_of(&[flow(1)]);
    let mut commit = world.nodes[B].begin_commit();
    let mut changed = flow(1);
    for round in 0..263_000_u32 {
        changed.protocol_state = tcp((round % 7) as u8);
        world.event(A, Change::Update, &changed, false);
        world.run(Duration::from_micros(10));
    }
    world.run_s(1);
    let mut planned = 0;
    while commit.next(&world.nodes[B], world.now).is_some() {
        planned += 1;
    }
    assert!(world.nodes[B].counters().commit_too_late > 0);
    assert_eq!(planned, 1 + 262_144);
}

#[test]
fn without_helper_or_master_a_flow_is_still_worth_committing() {
    let mut helped = flow(1);
    helped.helper = HelperName::new(b"ftp");
    let mut orphan = flow(2);
    orphan.master = Some(flow(99).orig);
    let mut world = backup_of(&[helped, orphan]);
    let mut commit = world.nodes[B].begin_commit();
    let mut next = || commit.next(&world.nodes[B], world.now).unwrap();
    let [helped, orphan] = [next(), next()];
    let Retry::With(helped) = commit.refused(helped, EOPNOTSUPP, "no such helper") else {
        panic!()
    };
    assert_eq!(helped.flow.helper, None);
    let Retry::With(orphan) = commit.refused(orphan, ENOENT, "no such master") else { panic!() };
    assert_eq!(orphan.flow.master, None);
}

#[test]
fn refusals_are_counted_by_error_and_only_the_first_are_kept_in_words() {
    let flows: Vec<_> = (0..50).map(flow).collect();
    let mut world = backup_of(&flows);
    let mut commit = world.nodes[B].begin_commit();
    while let Some(planned) = commit.next(&world.nodes[B], world.now) {
        assert_eq!(commit.refused(planned, 12, "Cannot allocate memory"), Retry::GiveUp);
    }
    let report = commit.report().clone();
    assert_eq!(report.refused, BTreeMap::from([(12, 50)]));
    assert_eq!(report.samples.len(), 3);
    assert!(report.to_string().ends_with('…'));
    world.nodes[B].end_commit(&report);
    assert_eq!(world.nodes[B].counters().commit_refused, 50);
}

#[test]
fn a_flow_that_cannot_be_told_apart_is_never_committed() {
    let mut world = backup_of(&[]);
    let tuple = Tuple { l4: L4::None, protocol: 47, ..flow(1).orig };
    let gre = Flow::new(tuple, tuple.inverse());
    world.event(A, Change::New, &gre, false);
    world.run_s(1);
    assert_eq!(world.nodes[B].external_len(), 0);
    assert_eq!(world.nodes[A].counters().internal_incomplete, 1);
    assert_eq!(plan(&mut world), []);
}

#[test]
fn an_old_connection_is_committed_with_time_to_live() {
    let mut world = backup_of(&[flow(1)]);
    world.run_s(3600);
    let planned = plan(&mut world);
    let left = planned[0].flow.timeout_s.unwrap();
    assert!((432_000 - 3700..=432_000 - 3600).contains(&left), "{left}");
    let mut commit = Commit::default();
    assert!(commit.next(&world.nodes[B], world.now).is_some());
}

#[test]
fn what_a_commit_has_done_does_not_outrank_what_the_peer_says_next() {
    let mut told = flow(1);
    told.protocol_state = tcp(3);
    let mut world = backup_of(&[told.clone(), flow(2)]);
    // The kernel has it from an earlier life, in another state.
    let older = Flow { protocol_state: tcp(1), ..told.clone() };
    world.nodes[B].begin_dump();
    world.nodes[B].dumped(&older, world.now);
    assert!(world.nodes[B].end_dump(world.now));
    world.run_s(2);
    let mut commit = world.nodes[B].begin_commit();
    let mut updated = false;
    while let Some(planned) = commit.next(&world.nodes[B], world.now) {
        updated |= planned.action == Action::Update && planned.flow.orig == told.orig;
        commit.done(&planned);
    }
    assert!(updated);
    world.nodes[B].end_commit(commit.report());
    // A reading before the role comes finds it changed, and one event of our doing is heard.
    world.nodes[B].begin_dump();
    world.nodes[B].dumped(&told, world.now);
    assert!(world.nodes[B].end_dump(world.now));
    world.event(B, Change::New, &flow(2), true);
    world.event(A, Change::Delete, &told, false);
    world.event(A, Change::Delete, &flow(2), false);
    world.run_s(1);
    world.nodes[B].activate(world.now);
    world.drain(B);
    assert_eq!(world.nodes[B].late_flows(), 2);
    let deleted: Vec<_> =
        plan(&mut world).iter().map(|planned| (planned.action, planned.flow.orig)).collect();
    assert_eq!(deleted, [(Action::Delete, told.orig), (Action::Delete, flow(2).orig)]);
}

#[test]
fn what_the_kernel_itself_has_changed_since_outranks_the_end_the_peer_told() {
    let mut world = backup_of(&[flow(1)]);
    world.run_s(2);
    let commit = world.nodes[B].begin_commit();
    world.nodes[B].end_commit(commit.report());
    world.event(B, Change::New, &flow(1), false);
    world.event(A, Change::Delete, &flow(1), false);
    world.run_s(1);
    world.nodes[B].activate(world.now);
    world.drain(B);
    assert_eq!(plan(&mut world), []);
}
