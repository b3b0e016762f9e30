//! One scenario with several mixes of programs, each beside the others, and what came out of it compared.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;

use crate::router::Program;

/// What a scenario has seen, by aspect.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Observation(BTreeMap<String, String>);

impl Observation {
    /// Notes one aspect.
    pub fn note(&mut self, aspect: &str, seen: impl fmt::Debug) {
        self.0.insert(aspect.to_owned(), format!("{seen:#?}"));
    }
}

/// A behaviour in which Lockstep is meant to differ from keepalived 2.2.7.
#[derive(Clone, Copy, Debug)]
pub struct Difference {
    /// The scenario in which it is seen.
    pub scenario: &'static str,
    /// The mix in which it is seen, by the initials of the programs.
    pub mix: &'static str,
    /// The aspect that differs.
    pub aspect: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// keepalived alone, each role taken by Lockstep, and Lockstep alone.
pub const PAIRS: [&str; 4] = ["KK", "LK", "KL", "LL"];

/// Plays a scenario with each mix of programs at the same time, keepalived alone among them, and compares what was seen
/// with what keepalived alone shows.
///
/// # Panics
/// When one of them fails, when there is a difference that `expected` does not name, or none where it names one.
#[track_caller]
pub fn compare(
    scenario: &str,
    mixes: &[&str],
    expected: &[Difference],
    play: impl Fn(&[Program]) -> Observation + Sync,
) {
    let play = &play;
    let seen: Vec<(&str, thread::Result<Observation>)> = thread::scope(|scope| {
        let start = |mix| {
            let builder = thread::Builder::new().name(format!("{scenario}: {mix}"));
            let run = builder.spawn_scoped(scope, move || play(&programs(mix)));
            (mix, run.expect("a thread"))
        };
        let runs: Vec<_> = mixes.iter().copied().map(start).collect();
        runs.into_iter().map(|(mix, run)| (mix, run.join())).collect()
    });
    let failed: Vec<&str> =
        seen.iter().filter(|(_, seen)| seen.is_err()).map(|(mix, _)| *mix).collect();
    assert!(failed.is_empty(), "{scenario} fails with {failed:?}");
    let seen: BTreeMap<&str, Observation> =
        seen.into_iter().map(|(mix, seen)| (mix, seen.expect("none failed"))).collect();

    let alone = |mix: &str| mix.bytes().all(|initial| initial == b'K');
    let (_, reference) = seen.iter().find(|(mix, _)| alone(mix)).expect("keepalived alone");
    let mut problems = Vec::new();
    for (mix, observation) in seen.iter().filter(|(mix, _)| !alone(mix)) {
        for (aspect, theirs) in &reference.0 {
            let ours = observation.0.get(aspect).map_or("nothing", String::as_str);
            let known = expected.iter().find(|difference| {
                (difference.scenario, difference.mix, difference.aspect) == (scenario, *mix, aspect)
            });
            match known {
                None if ours != theirs => problems.push(format!(
                    "{aspect} with {mix}:\n{ours}\nwith keepalived alone:\n{theirs}"
                )),
                Some(Difference { reason, .. }) if ours == theirs => problems.push(format!(
                    "{aspect} with {mix} is as with keepalived alone, although {reason}"
                )),
                None | Some(_) => {}
            }
        }
    }
    assert!(problems.is_empty(), "{scenario}:\n{}", problems.join("\n\n"));
}

fn programs(mix: &str) -> Vec<Program> {
    let program = |initial| match initial {
        'K' => Program::Keepalived,
        'L' => Program::Lockstep,
        other => panic!("{other} is no program"),
    };
    mix.chars().map(program).collect()
}
