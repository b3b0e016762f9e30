//! Elections in bad weather, seed after seed.
//!
//! `LOCKSTEP_SIM_SEED=n cargo test -p lockstep-sim --test elections -- --nocapture` runs one seed
//! again and prints what happens; `LOCKSTEP_SIM_SEEDS=n` runs another number of them, and
//! `LOCKSTEP_SIM_FIRST=n` begins at another one.

#![expect(clippy::print_stdout, reason = "a seed's run is told to the person who asked for it")]

mod seeds;

use std::time::Instant;

use lockstep_sim::{Elections, ElectionsOutcome, Violation};

/// Seeds in an ordinary run.
const SEEDS: u64 = 20_000;

#[test]
fn elections_keep_their_promises_whatever_goes_wrong() {
    if let Some(seed) = seeds::number("LOCKSTEP_SIM_SEED") {
        let world = Elections::new(seed, Instant::now(), true);
        return seeds::run_one(seed, world, Elections::run, Elections::trace);
    }
    let (seeds, total) = seeds::run_all("elections", SEEDS, run, ElectionsOutcome::add);
    let ElectionsOutcome { takeovers, faults, lost, heard, steps, .. } = total;
    println!(
        "{seeds} seeds: {faults} faults, {takeovers} takeovers, {heard} packets heard, {lost} lost, {steps} steps"
    );
    assert!(takeovers >= 2 * seeds, "a world in which nobody takes over shows nothing");
    assert!(lost > seeds, "a world that loses nothing shows nothing");
}

#[test]
fn the_same_seed_gives_the_same_election() {
    let run = || run(7).map_err(|violation| violation.to_string());
    assert_eq!(run(), run());
}

fn run(seed: u64) -> Result<ElectionsOutcome, Violation> {
    Elections::new(seed, Instant::now(), false).run()
}
