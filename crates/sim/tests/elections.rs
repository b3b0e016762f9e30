//! Elections in bad weather, seed after seed.
//!
//! `LOCKSTEP_SIM_SEED=n cargo test -p lockstep-sim --test elections -- --nocapture` runs one seed
//! again and prints what happens; `LOCKSTEP_SIM_SEEDS=n` runs another number of them.

#![expect(clippy::print_stdout, reason = "a seed's run is told to the person who asked for it")]

use std::time::Instant;

use lockstep_sim::{Elections, ElectionsOutcome};

/// Seeds in an ordinary run.
const SEEDS: u64 = 20_000;
/// Failures that are told.
const TOLD: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn elections_keep_their_promises_whatever_goes_wrong() {
    if let Some(seed) = number("LOCKSTEP_SIM_SEED") {
        return run_one(seed);
    }
    let seeds = number("LOCKSTEP_SIM_SEEDS").unwrap_or(SEEDS);
    let (total, mut failures) = run_all(seeds);
    failures.sort();
    for (seed, error) in failures.iter().take(TOLD) {
        println!(
            "seed {seed}: {error}\n  LOCKSTEP_SIM_SEED={seed} cargo test -p lockstep-sim --test elections -- --nocapture"
        );
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
    let ElectionsOutcome { takeovers, faults, lost, heard, steps, .. } = total;
    println!(
        "{seeds} seeds: {faults} faults, {takeovers} takeovers, {heard} packets heard, {lost} lost, {steps} steps"
    );
    assert!(takeovers >= 2 * seeds, "a world in which nobody takes over shows nothing");
    assert!(lost > seeds, "a world that loses nothing shows nothing");
}

#[test]
fn the_same_seed_gives_the_same_election() {
    assert_eq!(run(7), run(7));
}

/// The sum of all runs, and what failed.
fn run_all(seeds: u64) -> (ElectionsOutcome, Vec<(u64, String)>) {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let work = |worker: u64| {
        let mut total = ElectionsOutcome::default();
        let mut failures = Vec::new();
        for seed in (worker..seeds).step_by(workers as usize) {
            match run(seed) {
                Ok(outcome) => total.add(&outcome),
                Err(error) => failures.push((seed, error)),
            }
        }
        (total, failures)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let mut sum = (ElectionsOutcome::default(), Vec::new());
        for thread in threads {
            let (total, failures) = thread.join().expect("no panic");
            sum.0.add(&total);
            sum.1.extend(failures);
        }
        sum
    })
}

fn run(seed: u64) -> Result<ElectionsOutcome, String> {
    Elections::new(seed, Instant::now(), false).run().map_err(|violation| violation.to_string())
}

fn run_one(seed: u64) {
    let mut world = Elections::new(seed, Instant::now(), true);
    let result = world.run();
    for line in world.trace() {
        println!("{line}");
    }
    match result {
        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}
