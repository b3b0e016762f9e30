//! How long packets stall when a master hands over, and where that time is.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench switchover [-- ROUNDS FLOWS]`, as root.
//!
//! Two routers, advertisements each second, with live connections through their NAT and further flows
//! in the master's kernel. A host asks a thousand times a second; the stall is the longest time without an
//! answer. Mastership goes to and fro with `lockstep switchover`.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

use std::time::Instant;

use lockstep_lab::RouterId;
use lockstep_lab::traffic::flows;
use lockstep_tests::daemon::number;
use lockstep_tests::gateway::{Gateway, wait_until_told};

/// Switchovers, and flows, unless the command line says otherwise.
const ROUNDS: usize = 10;
const FLOWS: u32 = 10_000;

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("switchover: skipped, network namespaces need root");
        return;
    }
    let mut numbers = std::env::args().filter_map(|word| word.parse::<u32>().ok());
    let rounds = numbers.next().map_or(ROUNDS, |rounds| rounds as usize);
    let count = numbers.next().unwrap_or(FLOWS);
    println!("{rounds} switchovers with {count} flows, in ms: median and longest");
    println!("{:<8} {:>16} {:>16} {:>16} {:>6}", "standby", "claimed", "served", "stall", "lost");
    for standby in ["cache", "kernel"] {
        let gateway = Gateway::new(standby);
        flows::install(gateway.lab.router(RouterId::A).unwrap(), count).unwrap();
        let (a, b) = gateway.pair();
        let traffic = gateway.traffic();
        let (mut claimed, mut served, mut stalls) = (Vec::new(), Vec::new(), Vec::new());
        let mut lost = 0;
        for round in 0..rounds {
            let (from, to) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
            wait_until_told(from);
            let begin = Instant::now();
            let switched = from.ask(&["switchover", "gateway"]);
            to.wait_for_state("gateway", "master");
            let outage = traffic.outage(begin);
            claimed.push(number(&switched["claimed-us"]));
            served.push(number(&switched["served-us"]));
            stalls.push(outage.duration_us);
            lost += outage.lost;
        }
        let [claimed, served, stalls] = [claimed, served, stalls].map(show);
        println!("{standby:<8} {claimed:>16} {served:>16} {stalls:>16} {lost:>6}");
    }
}

fn show(mut times_us: Vec<u64>) -> String {
    times_us.sort_unstable();
    let ms = |us: u64| us as f64 / 1000.0;
    let median = times_us[times_us.len() / 2];
    format!("{:.1} {:.1}", ms(median), ms(times_us[times_us.len() - 1]))
}
