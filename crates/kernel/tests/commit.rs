//! A commit on the real kernel's table, in namespaces of the tests' own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
mod conntrack_support;
mod peer;

use std::time::Instant;

use conntrack_support::*;
use lockstep_ctnetlink::{
    Batch, Expectation, ExpectedTranslation, Family, Flow, FunctionName, HelperName, Kind, L4,
    Messages, ProtocolState, Tuple,
};
use lockstep_kernel::conntrack::{Committer, EventSocket, TableSocket};
use lockstep_replicator::{Commit, CommitReport, Progress, Replicator};

/// Commits what the peer has told.
fn commit(table: &mut TableSocket, told: &[Flow]) -> CommitReport {
    commit_of(table, &peer::backup_told(told))
}

fn commit_of(table: &mut TableSocket, backup: &Replicator) -> CommitReport {
    let (mut commit, mut committer) = (Commit::default(), Committer::new());
    while committer.advance(table, &mut commit, backup, Instant::now()).unwrap() {}
    commit.report().clone()
}

/// What conntrackd's wire carries in full: not another identifier by which ICMP is translated.
fn carried() -> Vec<Flow> {
    let carried = |flow: &Flow| match flow.orig.l4 {
        L4::Icmp { .. } => flow.reply.l4 == flow.orig.inverse().l4,
        L4::None | L4::Ports { .. } => matches!(flow.orig.protocol, 6 | 17 | 132),
    };
    kinds().into_iter().filter(carried).collect()
}

/// What a peer's word says of a flow: conntrackd does not tell all that the kernel knows.
fn essence(flow: &Flow) -> (Tuple, Tuple, Option<u32>) {
    (flow.orig, flow.reply, flow.mark)
}

#[track_caller]
fn assert_kernel_has(table: &mut TableSocket, told: &[Flow]) {
    let mut found: Vec<_> = dump(table, Family::Any).iter().map(essence).collect();
    let mut told: Vec<_> = told.iter().map(essence).collect();
    found.sort();
    told.sort();
    assert_eq!(found, told);
}

#[test]
fn a_commit_of_several_batches_puts_every_flow_into_the_kernel() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let told: Vec<Flow> = (1..1000).map(|port| tcp(port, Nat::SourcePort)).collect();
        assert!(told.len() > 2 * Batch::CAPACITY);

        let report = commit(&mut table, &told);

        assert_eq!((report.created, report.refused()), (999, 0), "{report}");
        assert_kernel_has(&mut table, &told);
    });
}

#[test]
fn a_commit_gets_over_flows_the_kernel_has_already() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let there = [tcp(1, Nat::Source), tcp(2, Nat::Source)];
        assert_eq!(create(&mut table, &there), []);
        let mut told = vec![tcp(1, Nat::Source), tcp(2, Nat::SourcePort), tcp(3, Nat::Source)];
        told[0].mark = Some(7);

        let report = commit(&mut table, &told);

        assert_eq!((report.created, report.updated, report.replaced), (1, 1, 1), "{report}");
        assert_eq!(report.refused(), 0, "{report}");
        assert_kernel_has(&mut table, &told);
    });
}

#[test]
fn a_flow_whose_helper_this_kernel_does_not_have_is_committed_without_it() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut told = tcp(1, Nat::None);
        told.helper = HelperName::new(b"no-such-helper");

        let report = commit(&mut table, &[told.clone(), tcp(2, Nat::None)]);

        assert_eq!((report.created, report.refused()), (2, 0), "{report}");
        assert_eq!(table.get(&told.key()).unwrap().unwrap().helper, None);
    });
}

#[test]
fn every_kind_of_flow_is_committed_with_its_translation_and_its_tags() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut told = carried();
        let mut zoned = tcp(500, Nat::SourcePort);
        zoned.zone = 7;
        told.extend([tcp(500, Nat::SourcePort), zoned]);

        let report = commit(&mut table, &told);

        assert_eq!((report.created, report.refused()), (told.len() as u64, 0), "{report}");
        for wanted in &told {
            let found = table.get(&wanted.key()).unwrap().unwrap();
            assert_eq!((found.reply, found.zone), (wanted.reply, wanted.zone));
            if let ProtocolState::Sctp { .. } = wanted.protocol_state {
                assert_eq!(found.protocol_state, wanted.protocol_state);
            }
        }
    });
}

#[test]
fn a_translation_that_is_taken_is_reported_with_both_flows_and_no_other_port_is_picked() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let told = tcp(1, Nat::Source);
        assert_eq!(told.reply.l4, told.orig.inverse().l4, "no port is asked for");
        let mut other = tcp(2, Nat::SourcePort);
        other.reply = told.reply;
        assert_eq!(create(&mut table, std::slice::from_ref(&other)), []);

        let report = commit(&mut table, &[told.clone(), tcp(3, Nat::None)]);

        assert_eq!((report.created, report.refused()), (1, 1), "{report}");
        let words = report.to_string();
        assert!(words.contains("ports 1 to 80") && words.contains("ports 2 to 80"), "{words}");
        assert!(words.contains("EEXIST"), "{words}");
        assert_eq!(table.get(&told.key()).unwrap(), None);
        assert_eq!(table.get(&other.key()).unwrap().unwrap().reply, other.reply);
    });
}

#[test]
fn a_flow_of_the_other_direction_is_not_deleted_for_one_that_is_told() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        // Its answers have the tuple that the told flow begins with.
        let told = tcp(1, Nat::None);
        let opposite = Flow { orig: told.reply, reply: told.orig, ..told.clone() };
        assert_eq!(create(&mut table, std::slice::from_ref(&opposite)), []);

        let report = commit(&mut table, std::slice::from_ref(&told));

        assert_eq!((report.committed(), report.refused()), (0, 1), "{report}");
        let flows = dump(&mut table, Family::Any);
        assert_eq!((flows.len(), flows[0].orig), (1, opposite.orig));
    });
}

#[test]
fn an_entry_that_says_as_much_and_lives_longer_is_left_alone() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut there = tcp(1, Nat::Source);
        there.timeout_s = Some(432_100);
        assert_eq!(create(&mut table, std::slice::from_ref(&there)), []);
        let before = table.get(&there.key()).unwrap().unwrap();

        let report = commit(&mut table, &[tcp(1, Nat::Source)]);

        assert_eq!((report.unchanged, report.committed()), (1, 0), "{report}");
        assert_eq!(table.get(&there.key()).unwrap().unwrap().id, before.id);
    });
}

/// Whether the router has read its kernel's table since or not: it then knows of each flow.
#[test]
fn a_second_commit_changes_nothing_of_any_kind_of_flow() {
    for has_read in [false, true] {
        in_namespace_async(async || {
            let mut table = TableSocket::open().unwrap();
            let mut told = carried();
            told.extend((1..600).map(|port| tcp(3000 + port, Nat::SourcePort)));
            let mut backup = peer::backup_told(&told);
            let first = commit_of(&mut table, &backup);
            assert_eq!((first.created, first.refused()), (told.len() as u64, 0), "{first}");
            if has_read {
                backup.begin_dump();
                for flow in dump(&mut table, Family::Any) {
                    backup.dumped(&flow, Instant::now());
                }
                assert!(backup.end_dump(Instant::now()));
                assert_eq!(backup.internal_len(), told.len());
            }
            let mut events = EventSocket::open(1 << 20).unwrap();
            let timeless = |table: &mut TableSocket| -> Vec<Flow> {
                let flows = dump(table, Family::Any).into_iter();
                flows.map(|flow| Flow { timeout_s: None, ..flow }).collect()
            };
            let before = timeless(&mut table);

            let second = commit_of(&mut table, &backup);

            let changed = (second.committed(), second.retimed, second.refused());
            assert_eq!(changed, (0, 0, 0), "{second}");
            assert_eq!(second.unchanged, told.len() as u64, "{second}");
            assert_eq!(timeless(&mut table), before);
            let mut buffer = Vec::new();
            assert_eq!(events.try_receive(&mut buffer).unwrap(), None, "the kernel tells nothing");
        });
    }
}

/// Of a connection that goes on, packets of which nobody tells have set the timeout again.
#[test]
fn a_flow_that_runs_out_too_soon_gets_its_time_and_is_not_written_anew() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let told = tcp(1, Nat::Source);
        let mut there = told.clone();
        there.timeout_s = Some(100);
        assert_eq!(create(&mut table, std::slice::from_ref(&there)), []);
        let before = table.get(&told.key()).unwrap().unwrap();

        let report = commit(&mut table, std::slice::from_ref(&told));

        assert_eq!((report.retimed, report.committed(), report.unchanged), (1, 0, 0), "{report}");
        let words = report.to_string();
        assert!(words.contains("1 given their time again"), "{words}");
        let after = table.get(&told.key()).unwrap().unwrap();
        assert!(after.timeout_s > Some(1000), "{after:?}");
        assert_eq!(Flow { timeout_s: before.timeout_s, ..after }, before);
    });
}

/// What the kernel expects.
fn expected(table: &mut TableSocket) -> Vec<Expectation> {
    let mut found = Vec::new();
    let mut buffer = Vec::new();
    table.begin_expectation_dump(Family::Any).unwrap();
    while table.read_part(&mut buffer).unwrap() {
        for message in Messages::new(&buffer).map(Result::unwrap) {
            if message.kind().unwrap() == Kind::ExpectationEntry {
                found.push(message.expectation().unwrap());
            }
        }
    }
    found
}

/// A connection to an FTP server, and what is expected of it at this port.
fn ftp(port: u16) -> (Flow, Expectation) {
    let mut master = tcp(2000, Nat::Source);
    master.orig.l4 = L4::Ports { source: 2000, destination: 21 };
    master.reply.l4 = L4::Ports { source: 21, destination: 2000 };
    master.helper = HelperName::new(b"ftp");
    let data = Tuple {
        source: master.orig.destination,
        destination: master.reply.destination,
        protocol: 6,
        l4: L4::Ports { source: 0, destination: port },
    };
    let mask = Tuple {
        source: [0xff; 4].into(),
        destination: [0xff; 4].into(),
        l4: L4::Ports { source: 0, destination: 0xffff },
        ..data
    };
    let helper = master.helper;
    let expectation = Expectation::new(master.orig, data, mask);
    (master, Expectation { timeout_s: Some(200), helper, ..expectation })
}

/// The helper lets its connection expect one at a time.
#[test]
fn an_expectation_that_ends_during_a_commit_leaves_the_kernel_and_no_other_does() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let (master, ends) = ftp(40_000);
        let (_, ends_early) = ftp(40_001);
        let (_, stays) = ftp(40_002);
        let mut pair = peer::Pair::told(std::slice::from_ref(&master), &peer::config(1));
        pair.expect(&ends_early);
        pair.expect(&ends);
        let (mut commit, mut committer) = (pair.backup.begin_commit(), Committer::new());
        // It has not been handed out.
        pair.expect_no_more(&ends_early);
        let now = pair.now;
        let there =
            |table: &mut TableSocket| expected(table).iter().map(|it| it.tuple).collect::<Vec<_>>();
        while committer.advance(&mut table, &mut commit, &pair.backup, now).unwrap() {}
        assert_eq!(there(&mut table), [ends.tuple]);
        pair.expect_no_more(&ends);
        while committer.advance(&mut table, &mut commit, &pair.backup, now).unwrap() {}
        assert_eq!(there(&mut table), []);
        pair.expect(&stays);
        while committer.advance(&mut table, &mut commit, &pair.backup, now).unwrap() {}
        assert_eq!(there(&mut table), [stays.tuple]);
        let report = commit.report();
        assert_eq!((report.expectations, report.deleted, report.refused()), (2, 1, 0), "{report}");
    });
}

#[test]
fn expectations_follow_their_flows_with_class_translation_and_function() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let (master, plain) = ftp(40_000);
        let saved = Tuple {
            source: master.orig.source,
            destination: [0; 4].into(),
            protocol: 6,
            l4: L4::Ports { source: 40_000, destination: 0 },
        };
        let wanted = Expectation {
            translation: Some(ExpectedTranslation { tuple: saved, direction: 1 }),
            function: FunctionName::new(b"nat-follow-master"),
            ..plain
        };
        let mut pair = peer::Pair::told(std::slice::from_ref(&master), &peer::config(1));
        pair.expect(&wanted);
        let (mut commit, mut committer) = (Commit::default(), Committer::new());
        let now = pair.now;
        while committer.advance(&mut table, &mut commit, &pair.backup, now).unwrap() {}
        let report = commit.report();
        assert_eq!((report.created, report.expectations), (1, 1), "{report}");
        assert_eq!(commit.progress(), Progress { done: 2, total: 2 });

        let found = expected(&mut table);
        assert_eq!(found.len(), 1);
        assert!((190..=200).contains(&found[0].timeout_s.unwrap()), "{:?}", found[0]);
        let same = Expectation { timeout_s: wanted.timeout_s, id: None, ..found[0].clone() };
        assert_eq!(same.tuple, wanted.tuple);
        assert_eq!((same.class, same.function, same.helper), (0, wanted.function, wanted.helper));
        let translation = same.translation.unwrap();
        assert_eq!(translation.tuple.source, saved.source);
        let L4::Ports { source: port, .. } = translation.tuple.l4 else { panic!() };
        assert_eq!((port, translation.direction), (40_000, 1));

        // And again: what is there already is no refusal.
        let (mut commit, mut committer) = (Commit::default(), Committer::new());
        while committer.advance(&mut table, &mut commit, &pair.backup, now).unwrap() {}
        let report = commit.report();
        assert_eq!((report.expectations, report.refused()), (1, 0), "{report}");
    });
}

#[test]
fn a_paused_listener_is_told_only_what_was_before_and_what_comes_after() {
    in_namespace_async(async || {
        let mut table = TableSocket::open().unwrap();
        let mut events = EventSocket::open(1 << 20).unwrap();
        let mut make = |port| assert_eq!(create(&mut table, &[udp(port, Nat::None)]), []);

        make(1);
        events.pause().unwrap();
        make(2);
        events.resume().unwrap();
        make(3);

        let heard = hear(&mut events, 2).await;
        let keys: Vec<_> = heard.iter().map(|(_, flow, _)| flow.key()).collect();
        assert_eq!(keys, [1, 3].map(|port| udp(port, Nat::None).key()));
    });
}
