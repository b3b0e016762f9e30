//! Whole routers in bad weather, seed after seed.
//!
//! `LOCKSTEP_SIM_SEED=n cargo test -p lockstep-sim --test invariants -- --nocapture` runs one seed
//! again and prints what happens; `LOCKSTEP_SIM_SEEDS=n` runs another number of them.

#![expect(clippy::print_stdout, reason = "a seed's run is told to the person who asked for it")]

mod seeds;

use std::time::Instant;

use lockstep_sim::{Outcome, Violation, World};

/// Seeds in an ordinary run.
const SEEDS: u64 = 2_000;

#[test]
fn invariants_hold_whatever_goes_wrong() {
    if let Some(seed) = seeds::number("LOCKSTEP_SIM_SEED") {
        let world = World::new(seed, Instant::now(), true);
        return seeds::run_one(seed, world, World::run, World::trace);
    }
    let (seeds, total) = seeds::run_all("invariants", SEEDS, run, Outcome::add);
    println!("{seeds} seeds: {total:?}");
    assert!(total.takeovers >= seeds, "a world in which nobody takes over shows nothing");
    assert!(total.flows > seeds * 100, "a world without traffic shows nothing");
    assert!(total.reloads > seeds, "nobody changes anything");
    let rare = [total.resumed, total.handovers];
    assert!(seeds < 100 || rare.iter().all(|count| *count > seeds / 10), "{rare:?} are too few");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || run(7).map_err(|violation| violation.to_string());
    assert_eq!(run(), run());
}

fn run(seed: u64) -> Result<Outcome, Violation> {
    World::new(seed, Instant::now(), false).run()
}
