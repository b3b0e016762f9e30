//! A commit on the real kernel's table, in namespaces of the tests' own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
mod conntrack_support;
mod peer;

use std::time::Instant;

use conntrack_support::*;
use lockstep_ctnetlink::{Batch, Family, Flow, HelperName, Tuple};
use lockstep_kernel::conntrack::{Committer, EventSocket, TableSocket};
use lockstep_replicator::{Commit, CommitReport};

/// Commits what the peer has told.
fn commit(table: &mut TableSocket, told: &[Flow]) -> CommitReport {
    let backup = peer::backup_told(told);
    let (mut commit, mut committer) = (Commit::default(), Committer::new());
    while committer.advance(table, &mut commit, &backup, Instant::now()).unwrap() {}
    commit.report().clone()
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
