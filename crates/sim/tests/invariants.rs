//! Whole routers in bad weather, seed after seed.
//!
//! `LOCKSTEP_SIM_SEED=n cargo test -p lockstep-sim --test invariants -- --nocapture` runs one seed
//! again and prints what happens; `LOCKSTEP_SIM_SEEDS=n` runs another number of them.

#![expect(clippy::print_stdout, reason = "a seed's run is told to the person who asked for it")]

use std::time::Instant;

use lockstep_sim::{Outcome, World};

/// Seeds in an ordinary run.
const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn invariants_hold_whatever_goes_wrong() {
    if let Some(seed) = number("LOCKSTEP_SIM_SEED") {
        return run_one(seed);
    }
    let seeds = number("LOCKSTEP_SIM_SEEDS").unwrap_or(SEEDS);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let outcomes: Vec<(u64, Result<Outcome, String>)> = std::thread::scope(|scope| {
        let work = |worker| {
            move || -> Vec<_> {
                (worker..seeds).step_by(workers as usize).map(|seed| (seed, run(seed))).collect()
            }
        };
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(work(worker))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    let mut failures: Vec<_> = outcomes
        .iter()
        .filter_map(|(seed, outcome)| outcome.as_ref().err().map(|error| (seed, error)))
        .collect();
    failures.sort();
    for (seed, error) in failures.iter().take(10) {
        println!(
            "seed {seed}: {error}\n  LOCKSTEP_SIM_SEED={seed} cargo test -p lockstep-sim --test invariants -- --nocapture"
        );
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
    let total = |count: fn(&Outcome) -> u64| -> u64 {
        outcomes.iter().filter_map(|(_, outcome)| outcome.as_ref().ok()).map(count).sum()
    };
    let (takeovers, faults, flows) =
        (total(|one| one.takeovers), total(|one| one.faults), total(|one| one.flows));
    println!(
        "{seeds} seeds: {faults} faults, {takeovers} takeovers, {flows} flows, {} packets lost, {} steps",
        total(|one| one.lost),
        total(|one| one.steps)
    );
    assert!(takeovers >= seeds, "a world in which nobody takes over shows nothing");
    assert!(flows > seeds * 100, "a world without traffic shows nothing");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(7), run(7));
}

fn run(seed: u64) -> Result<Outcome, String> {
    World::new(seed, Instant::now(), false).run().map_err(|violation| violation.to_string())
}

fn run_one(seed: u64) {
    let mut world = World::new(seed, Instant::now(), true);
    let result = world.run();
    for line in world.trace() {
        println!("{line}");
    }
    match result {
        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}
