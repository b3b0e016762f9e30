//! A commit ends in bounded time, whatever is still to be done.

#![allow(clippy::unwrap_used, reason = "test")]

mod common;

use common::{A, B, FAIR, World, config};
use lockstep_replicator::{COMMIT_LIMIT, Config, Standby};

#[test]
fn a_commit_ends_when_its_time_is_over_and_says_how_many_flows_are_left() {
    for standby in [Standby::Cache, Standby::Kernel] {
        let mut world = World::with(1, FAIR, &Config { standby, ..config() });
        world.activate(A);
        for number in 0..100 {
            world.create(A, number);
        }
        world.run_s(2);
        let mut commit = world.nodes[B].begin_commit();
        let begin = world.now;
        for now in [begin, begin + COMMIT_LIMIT / 100 * 99] {
            for _ in 0..20 {
                let planned = commit.next(&world.nodes[B], now).unwrap();
                commit.done(&planned);
            }
        }
        let over = begin + COMMIT_LIMIT;
        assert!(commit.next(&world.nodes[B], over).is_none(), "{standby:?}");
        assert!(commit.next_expectation(&world.nodes[B], over).is_none());
        let report = commit.report().clone();
        assert_eq!((report.committed(), report.left), (40, 60), "{standby:?}");
        assert!(report.to_string().contains("60"), "{report}");

        world.nodes[B].end_commit(&report);
        assert_eq!(world.nodes[B].last_committed(), 40);
        // What is left is still there for another one.
        let mut again = world.nodes[B].begin_commit();
        let rest = std::iter::from_fn(|| again.next(&world.nodes[B], over));
        assert!(rest.count() >= 60, "{standby:?}");
    }
}
