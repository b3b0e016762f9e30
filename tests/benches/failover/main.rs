//! What a failover costs the connections: keepalived and conntrackd with the usual script between
//! them, and ours, in the same run.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench failover [-- WORDS…]`, as root, with
//! keepalived 2.2.7 and conntrackd 1.4.7 installed. WORDS: `flows=N,…` (further established flows in
//! the table), `crash`, `stop`, `link`, `check` (how the master fails), `strict`, `default` (the
//! firewall), `interval=TIME` between advertisements, `all` for every combination. Without any, a
//! crash with 0 and 10 000 flows under both firewalls, and the other failures with 10 000 under the
//! kernel's default.
//!
//! A client and a server transfer over 50 connections through the source NAT of two routers, each
//! byte checked, and a datagram each millisecond asks whether there is service at all. The master
//! fails, the other router takes over; then the first one comes back and takes its place again. At
//! each of the two changes are told the connections that were lost, the longest time in which a
//! surviving one delivered nothing (TCP tries again later and later, so it may be twice the time
//! without service), and where the time went. A connection is lost when an end was told so, or when
//! it still delivers nothing long after service is back.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/addresses.rs"]
#[expect(dead_code, reason = "another benchmark counts them")]
mod addresses;
mod options;
mod ours;
#[path = "../common/raised.rs"]
mod raised;
mod report;
mod scene;
mod side;
mod theirs;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use options::{Experiment, Options};
use raised::Raised;
use scene::Scene;
use side::Side;

fn main() -> ExitCode {
    if !nix::unistd::Uid::effective().is_root() {
        println!("failover: skipped, network namespaces need root");
        return ExitCode::SUCCESS;
    }
    let words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let options = match Options::parse(words) {
        Ok(options) => options,
        Err(problem) => {
            println!("failover: {problem}");
            return ExitCode::from(USAGE);
        }
    };
    let flows = options.experiments.iter().map(|experiment| experiment.flows).max().unwrap_or(0);
    let room = flows.max(LEAST_ROOM) as usize;
    let _raised = Raised::for_flows(4 * room, 2 * room);
    report::introduce(&options);
    let mut failed = 0;
    for experiment in options.experiments.iter().copied() {
        report::head(experiment);
        for side in Side::ALL {
            failed += usize::from(!run(side, experiment, &options));
        }
    }
    if failed == 0 {
        return ExitCode::SUCCESS;
    }
    println!("\n{failed} could not be run to their end; what they said is above");
    ExitCode::FAILURE
}

/// One side of an experiment; whether it could be run to its end.
fn run(side: Side, experiment: Experiment, options: &Options) -> bool {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut scene = Scene::build(side, experiment, options.interval);
        report::change(side, "failover", &scene.fail_over());
        report::change(side, "failback", &scene.fail_back());
    }));
    if played.is_err() {
        report::error(side);
    }
    played.is_ok()
}

/// Exit code of a command line that is not understood.
const USAGE: u8 = 2;
/// Room for flows, however few are asked for: the transfers, and what others on the machine track.
const LEAST_ROOM: u32 = 50_000;
