//! How fast routes get into the kernel, are looked at, replaced and removed, and what they cost while nothing happens: ours
//! beside `ip -batch`, in one run.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench routes [-- WHAT… ROUTES…]`, as root. WHAT is `apply`
//! (plan and changes as the daemon makes them), `daemon` (an interface up until its routes are installed, reconciliation after
//! a flap, memory, an idle stretch) or `quick`;
//! without any of them, everything. ROUTES are the numbers of routes.
//!
//! Each measurement has a namespace of its own, and contenders take turns.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

mod apply;
#[path = "../common/cost.rs"]
mod cost;
mod daemon;
mod link_up;
mod load;

/// Routes, unless the command line says otherwise.
const COUNTS: [usize; 3] = [1_000, 10_000, 100_000];
/// Tables that they are spread over.
const TABLES: [usize; 3] = [1, 16, 256];

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("routes: skipped, network namespaces need root");
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let said = |word: &str| words.iter().any(|said| said == word);
    let quick = said("quick");
    let all = !said("apply") && !said("daemon");
    let mut counts: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    if counts.is_empty() {
        counts = if quick { vec![1_000, 10_000] } else { COUNTS.to_vec() };
    }
    if all || said("apply") {
        apply::measure(&counts, &TABLES, if quick { 1 } else { 3 });
    }
    if all || said("daemon") {
        link_up::measure(if quick { 10 } else { 50 });
        daemon::measure(&counts, if quick { 5 } else { 60 });
    }
}
