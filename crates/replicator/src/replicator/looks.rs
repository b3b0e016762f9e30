//! How much one step of a commit looks at, whatever there is to be done.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Flow, L4, Tuple};

use super::{KernelEvent, Replicator};
use crate::commit::{Action, Commit, MAX_LOOKS, Planned};
use crate::config::{Config, Link};
use crate::event::Start;
use crate::wire::Change;

const FLOWS: u16 = 1_000;

fn flow(number: u16) -> Flow {
    let orig = Tuple {
        source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
        protocol: 17,
        l4: L4::Ports { source: number, destination: 80 },
    };
    Flow { timeout_s: Some(100), ..Flow::new(orig, orig.inverse()) }
}

/// A backup whose peer has told these and fallen silent.
fn backup(told: std::ops::Range<u16>) -> (Replicator, Instant) {
    #[expect(clippy::disallowed_methods, reason = "an arbitrary beginning")]
    let now = Instant::now();
    let group = IpAddr::V4(Ipv4Addr::new(225, 0, 0, 50));
    let config = Config::new("gateway", vec![Link::multicast("eth0", group)]);
    let start = Start { first_sequence: 1, secret: 1, max_datagram: 1472 };
    let mut replicator = Replicator::new(config, start, now);
    let peer = &mut replicator.peers[0];
    (peer.silent, peer.left_complete) = (true, true);
    let (external, counters) = (&mut replicator.external, &mut replicator.counters);
    for number in told {
        external.apply(0, Change::New, &flow(number), 0, counters);
    }
    (replicator, now)
}

/// Steps until there is something to do or nothing left; how many there were.
fn steps(commit: &mut Commit, replicator: &Replicator, now: Instant) -> (Option<Planned>, u32) {
    let mut steps = 0;
    loop {
        let before = commit.looked_at();
        let planned = commit.step(replicator, now);
        let looked = commit.looked_at() - before;
        assert!(looked <= u64::from(MAX_LOOKS), "{looked} in one step");
        steps += 1;
        if planned.is_some() || !commit.has_more() {
            return (planned, steps);
        }
    }
}

#[test]
fn a_step_of_a_commit_looks_at_a_limited_number_of_flows_that_are_left_alone() {
    let (mut replicator, now) = backup(0..FLOWS);
    let later = now + Duration::from_secs(5);
    for number in 0..FLOWS {
        let event = KernelEvent { change: Change::New, flow: &flow(number), own: false };
        replicator.handle_kernel_event(event, later);
    }
    let mut commit = replicator.begin_commit();
    let (planned, steps) = steps(&mut commit, &replicator, later);
    assert_eq!((planned, commit.report().unchanged), (None, u64::from(FLOWS)));
    // Both caches are looked at.
    assert_eq!(steps, (2 * u32::from(FLOWS)).div_ceil(MAX_LOOKS));
}

#[test]
fn what_is_left_over_is_found_and_forgotten_piece_by_piece() {
    let (mut replicator, now) = backup(0..FLOWS - 3);
    replicator.begin_dump();
    for number in 0..FLOWS {
        replicator.dumped(&flow(number), now);
    }
    assert!(replicator.end_dump(now));
    let mut commit = replicator.begin_commit();
    let mut removed = 0;
    let mut looks = 0;
    while let (Some(planned), more) = steps(&mut commit, &replicator, now) {
        looks += more;
        if planned.action != Action::Delete {
            continue;
        }
        // The last has gone by itself.
        removed += 1;
        if removed < 3 {
            commit.done(&planned);
        } else {
            assert_eq!(commit.compare(planned, None), None);
        }
        replicator.follow_commit(&mut commit);
        assert_eq!(replicator.internal_len(), usize::from(FLOWS) - removed);
    }
    assert_eq!((removed, commit.report().left_over), (3, 2));
    assert!(looks > u32::from(FLOWS) + u32::from(FLOWS) / MAX_LOOKS - 3, "{looks}");
    let report = commit.report().clone();
    replicator.end_commit(&report);
    assert_eq!(replicator.internal_len(), usize::from(FLOWS) - 3);
    assert_eq!(replicator.counters().committed_deleted, 2);
}

#[test]
fn a_flow_in_the_place_of_one_that_a_commit_removed_is_not_forgotten() {
    let (mut replicator, now) = backup(0..1);
    replicator.begin_dump();
    for number in 0..4 {
        replicator.dumped(&flow(number), now);
    }
    assert!(replicator.end_dump(now));
    let mut commit = replicator.begin_commit();
    while let Some(planned) = commit.next(&replicator, now) {
        commit.done(&planned);
    }
    assert_eq!(commit.report().left_over, 3);
    // Another flow has the place of the first that was removed, and the second is a new one.
    for (change, number) in
        [(Change::Delete, 1), (Change::New, 50), (Change::Delete, 2), (Change::New, 2)]
    {
        let event = KernelEvent { change, flow: &flow(number), own: false };
        replicator.handle_kernel_event(event, now);
    }
    replicator.end_commit(commit.report());
    let known: Vec<_> = [0, 1, 2, 3, 50].map(|number| replicator.knows(&flow(number))).into();
    assert_eq!(known, [true, false, true, false, true]);
}
