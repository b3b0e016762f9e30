//! Flow replication: ours, conntrackd's, and what the kernel allows, in one run.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench replication [-- WHAT… FLOWS…]`,
//! as root, with conntrackd 1.4.7 installed. WHAT is `steady`, `burst`, `latency`, `tables` or
//! `takeover`; without any of them, everything. FLOWS are the sizes of tables, and with `/s` behind
//! the rate at which flows come. `quick` makes
//! everything small, for about a minute; `cache` leaves the standby in the kernel out of `steady`.
//!
//! Each run has two routers of its own, namespaces with a cable between them, and the same daemon
//! on both with the same sizes of buffers. Contenders take turns, so that a machine that slows down
//! slows all of them down; the median of several runs counts. Flows are made by netlink requests of a
//! thread that neither daemon knows, at an even pace.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

mod burst;
#[path = "../common/cable.rs"]
mod cable;
mod contender;
#[path = "../common/cost.rs"]
mod cost;
mod floor;
mod latency;
mod load;
mod machine;
#[path = "../common/raised.rs"]
mod raised;
mod report;
mod steady;
mod tables;
mod takeover;

use contender::Standby;
use load::Load;
use machine::room_for;

/// What can be asked for.
const PARTS: [&str; 5] = ["steady", "burst", "latency", "tables", "takeover"];
/// Flows in a table, unless the command line says otherwise.
const COUNTS: [usize; 4] = [10_000, 100_000, 500_000, 1_000_000];

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("replication: skipped, network namespaces need root");
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let said = |word: &str| words.iter().any(|said| said == word);
    let quick = said("quick");
    let all = !PARTS.into_iter().any(said);
    let wanted = |part: &str| all || said(part);
    let mut counts: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if counts.is_empty() {
        counts = if quick { vec![10_000] } else { COUNTS.to_vec() };
    }
    let _raised = room_for(150_000);
    let rounds = if quick { 1 } else { 3 };
    if wanted("steady") {
        let loads = loads(
            &words,
            [(1_000, if quick { 3 } else { 10 }), (20_000, if quick { 1 } else { 4 })],
        );
        let standbys = [Standby::Cache, Standby::Kernel];
        steady::measure(&loads, rounds, if said("cache") { &standbys[..1] } else { &standbys });
    }
    if wanted("burst") {
        burst::measure(if quick { 2 } else { usize::MAX });
    }
    if wanted("latency") {
        let loads =
            loads(&words, [(100, if quick { 2 } else { 10 }), (20_000, if quick { 1 } else { 3 })]);
        latency::measure(&loads, rounds);
    }
    if wanted("tables") {
        tables::measure(&counts, rounds);
    }
    if wanted("takeover") {
        takeover::measure(&counts);
    }
}

/// The loads of a part: of so many flows a second, for so many seconds; other rates on the command
/// line stand for both, for the longest of the times.
fn loads(words: &[String], usual: [(u32, u32); 2]) -> Vec<Load> {
    let rates = words.iter().filter_map(|word| word.strip_suffix("/s")?.parse().ok());
    let seconds = usual.map(|(_, seconds)| seconds).into_iter().max().unwrap_or_default();
    let mut loads: Vec<(u32, u32)> = rates.map(|rate| (rate, seconds)).collect();
    if loads.is_empty() {
        loads = usual.to_vec();
    }
    let load = |(per_second, seconds)| Load { flows: per_second * seconds, per_second };
    loads.into_iter().map(load).collect()
}
