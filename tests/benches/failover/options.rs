//! What can be asked for.

use std::time::Duration;

use lockstep_lab::Firewall;
use lockstep_lab::traffic::flows;

/// How the master fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// A power cut: processes killed, links cut, memory lost.
    Crash,
    /// The daemons are told to end, as before an upgrade.
    Stop,
    /// The cable to the LAN is pulled.
    Link,
    /// A health check fails.
    Check,
}

impl Failure {
    const ALL: [Self; 4] = [Self::Crash, Self::Stop, Self::Link, Self::Check];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Stop => "stop",
            Self::Link => "link",
            Self::Check => "check",
        }
    }
}

/// What all sides go through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Experiment {
    /// Established flows beside those with traffic.
    pub(crate) flows: u32,
    pub(crate) firewall: Firewall,
    pub(crate) failure: Failure,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Options {
    /// Between advertisements.
    pub(crate) interval: Duration,
    pub(crate) experiments: Vec<Experiment>,
}

impl Options {
    /// Reads the command line; what is not said about an experiment is every value of it.
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut interval = Duration::from_secs(1);
        let (mut counts, mut failures, mut firewalls) = (Vec::new(), Vec::new(), Vec::new());
        let mut everything = false;
        for word in words {
            if let Some(text) = word.strip_prefix("flows=") {
                for number in text.split(',') {
                    counts.push(count(number)?);
                }
            } else if let Some(text) = word.strip_prefix("interval=") {
                interval = time(text)?;
            } else if let Some(failure) = Failure::ALL.iter().find(|it| it.name() == word) {
                failures.push(*failure);
            } else if let Some(firewall) = FIREWALLS.iter().find(|it| firewall_name(**it) == word) {
                firewalls.push(*firewall);
            } else if word == "all" {
                everything = true;
            } else {
                return Err(format!("{word} is none of {WORDS}"));
            }
        }
        let usual = counts.is_empty() && failures.is_empty() && firewalls.is_empty();
        if usual && !everything {
            return Ok(Self { interval, experiments: usual_experiments() });
        }
        let counts = or_all(counts, &COUNTS);
        let failures = or_all(failures, &Failure::ALL);
        let firewalls = or_all(firewalls, &FIREWALLS);
        let mut experiments = Vec::new();
        for failure in failures {
            for firewall in &firewalls {
                for flows in &counts {
                    experiments.push(Experiment { flows: *flows, firewall: *firewall, failure });
                }
            }
        }
        Ok(Self { interval, experiments })
    }
}

fn usual_experiments() -> Vec<Experiment> {
    let crash = |(firewall, flows)| Experiment { flows, firewall, failure: Failure::Crash };
    let crashes = FIREWALLS.iter().flat_map(|firewall| COUNTS.map(|flows| (*firewall, flows)));
    let other = |failure| Experiment { flows: COUNTS[1], firewall: Firewall::Default, failure };
    crashes.map(crash).chain(Failure::ALL.into_iter().skip(1).map(other)).collect()
}

fn or_all<T: Clone>(chosen: Vec<T>, all: &[T]) -> Vec<T> {
    if chosen.is_empty() { all.to_vec() } else { chosen }
}

fn count(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|count| *count <= flows::MOST)
        .ok_or_else(|| format!("{text} is no number of flows up to {}", flows::MOST))
}

/// Whole centiseconds, as version 3 counts them in 12 bits.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').unwrap_or_default(), 1000),
    };
    let milliseconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    milliseconds
        .filter(|time| (10..=40_950).contains(time) && time.is_multiple_of(10))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text} is no time of 10ms to 40s in steps of 10ms"))
}

pub(crate) fn firewall_name(firewall: Firewall) -> &'static str {
    match firewall {
        Firewall::Strict => "strict",
        Firewall::Default => "default",
    }
}

const FIREWALLS: [Firewall; 2] = [Firewall::Default, Firewall::Strict];
/// Flows in the table, unless the command line says otherwise.
const COUNTS: [u32; 2] = [0, 10_000];
const WORDS: &str = "flows=N,… crash stop link check strict default interval=TIME all";
