//! Runs a world for many seeds on all processors, and one seed again for whoever looks closer.

use std::fmt::{Debug, Display};

/// Failures that are told.
const TOLD: usize = 10;

/// A number from the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs the world of one seed, and prints all that happens and how it ends.
///
/// # Panics
/// When the run fails.
pub(crate) fn run_one<World, T: Debug, E: Display>(
    seed: u64,
    mut world: World,
    run: impl FnOnce(&mut World) -> Result<T, E>,
    trace: impl FnOnce(&World) -> &[String],
) {
    let result = run(&mut world);
    for line in trace(&world) {
        println!("{line}");
    }
    match result {
        Ok(outcome) => println!("seed {seed}: {outcome:?}"),
        Err(error) => panic!("seed {seed}: {error}"),
    }
}

/// Runs `LOCKSTEP_SIM_SEEDS` seeds, or else `usual`, from `LOCKSTEP_SIM_FIRST` on, or else from 0, and
/// returns how many and the sum of what the runs have seen.
///
/// # Panics
/// When a run failed; how to see it again is printed before.
pub(crate) fn run_all<T: Default + Send, E: Display>(
    test: &str,
    usual: u64,
    run: impl Fn(u64) -> Result<T, E> + Sync,
    add: impl Fn(&mut T, &T) + Sync,
) -> (u64, T) {
    let seeds = number("LOCKSTEP_SIM_SEEDS").unwrap_or(usual);
    let first = number("LOCKSTEP_SIM_FIRST").unwrap_or(0);
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let work = |worker: u64| {
        let mut total = T::default();
        let mut failures = Vec::new();
        for seed in (first + worker..first + seeds).step_by(workers as usize) {
            match run(seed) {
                Ok(outcome) => add(&mut total, &outcome),
                Err(error) => failures.push((seed, error.to_string())),
            }
        }
        (total, failures)
    };
    let (total, mut failures) = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let mut sum = (T::default(), Vec::new());
        for thread in threads {
            let (total, failures) = thread.join().expect("no panic");
            add(&mut sum.0, &total);
            sum.1.extend(failures);
        }
        sum
    });
    failures.sort();
    for (seed, error) in failures.iter().take(TOLD) {
        println!(
            "seed {seed}: {error}\n  LOCKSTEP_SIM_SEED={seed} cargo test -p lockstep-sim --test {test} -- --nocapture"
        );
    }
    assert!(failures.is_empty(), "{} of {seeds} seeds failed", failures.len());
    (seeds, total)
}
