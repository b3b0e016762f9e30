//! Flows on two and three nodes in bad weather, seed after seed.
//!
//! `LOCKSTEP_SIM_SEED=n cargo test -p lockstep-sim --test replication -- --nocapture` runs one seed
//! again and prints what happens; `LOCKSTEP_SIM_SEEDS=n` runs another number of them, and
//! `LOCKSTEP_SIM_FIRST=n` begins at another one.

#![expect(clippy::print_stdout, reason = "a seed's run is told to the person who asked for it")]

mod seeds;

use std::time::Instant;

use lockstep_sim::{Replication, ReplicationOutcome, Violation};

/// Seeds in an ordinary run.
const SEEDS: u64 = 500;

#[test]
fn every_node_that_stands_by_ends_with_the_flows_of_the_one_that_serves() {
    if let Some(seed) = seeds::number("LOCKSTEP_SIM_SEED") {
        let world = Replication::new(seed, Instant::now(), true);
        return seeds::run_one(seed, world, Replication::run, Replication::trace);
    }
    let (seeds, total) = seeds::run_all("replication", SEEDS, run, ReplicationOutcome::add);
    println!("{seeds} seeds: {total:?}");
    let ReplicationOutcome { changes, takeovers, faults, lost, flows, taken_up, splits, .. } =
        total;
    assert!(changes > 100 * seeds && flows > 10 * seeds, "without traffic nothing is shown");
    assert!(takeovers >= seeds && faults > 2 * seeds, "without trouble nothing is shown");
    assert!(splits > seeds / 3 && taken_up > seeds, "without two masters nothing is shown");
    assert!(lost > seeds, "a world that loses nothing shows nothing");
}

#[test]
fn the_same_seed_gives_the_same_replication() {
    let run = || run(7).map_err(|violation| violation.to_string());
    assert_eq!(run(), run());
}

fn run(seed: u64) -> Result<ReplicationOutcome, Violation> {
    Replication::new(seed, Instant::now(), false).run()
}
