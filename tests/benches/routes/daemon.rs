//! The daemon with many routes: how long until it has put them back after a flap, what they take of memory, and what it costs
//! while nothing happens. Beside it `ip -batch`, which somebody would have to run.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use lockstep_lab::Node;
use lockstep_tests::daemon::Lockstep;

use crate::apply::router;
use crate::cost::Cost;
use crate::load::{DEV, Deed, Load};

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_mins(2);
/// Tables of this measurement.
const TABLES: usize = 16;

/// Prints the table; nothing happens for `idle` seconds.
pub(crate) fn measure(counts: &[usize], idle: u64) {
    println!("\nthe daemon with routes in {TABLES} tables, after its link went down and up");
    println!(
        "{:>8} {:>14} {:>14} {:>6} {:>10} {:>14} {:>16}",
        "routes",
        "ip -batch, ms",
        "all back, ms",
        "ratio",
        "CPU, ms",
        "bytes/route",
        "idle, CPU ms/min"
    );
    let none = memory_of_none();
    for routes in counts {
        let load = Load { routes: *routes, tables: TABLES };
        let theirs = by_ip(load);
        let node = router();
        let mut lockstep = Lockstep::start_as_on_a_router(&node, &load.config());
        wait(&node, load, load.routes);
        let process = lockstep.process().id();
        let before = Cost::of(&[process]);
        let flap = Instant::now();
        node.set_link(DEV, false).unwrap();
        node.set_link(DEV, true).unwrap();
        wait(&node, load, load.routes);
        let back = flap.elapsed();
        // The look after it, which finds nothing to do, is a part of the price.
        thread::sleep(Duration::from_secs(2));
        let after = Cost::of(&[process]);
        thread::sleep(Duration::from_secs(idle));
        let at_rest = Cost::of(&[process]);
        let per_minute =
            at_rest.processor.saturating_sub(after.processor).as_secs_f64() / idle as f64 * 60e3;
        println!(
            "{:>8} {:>14.0} {:>14.0} {:>6.2} {:>10.0} {:>14.0} {:>16.1}",
            routes,
            theirs.as_secs_f64() * 1e3,
            back.as_secs_f64() * 1e3,
            back.as_secs_f64() / theirs.as_secs_f64(),
            after.processor.saturating_sub(before.processor).as_secs_f64() * 1e3,
            at_rest.memory.saturating_sub(none) as f64 / *routes as f64,
            per_minute,
        );
    }
}

fn memory_of_none() -> u64 {
    let node = router();
    let mut lockstep =
        Lockstep::start_as_on_a_router(&node, &Load { routes: 1, tables: 1 }.config());
    Cost::of(&[lockstep.process().id()]).memory
}

/// After a flap, run by hand at once.
fn by_ip(load: Load) -> Duration {
    let node = router();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("routes");
    fs::write(&path, load.batch(Deed::Install)).unwrap();
    let run = || {
        let mut command = Command::new("ip");
        command.arg("-batch").arg(&path);
        assert!(node.output(command).unwrap().status.success());
    };
    run();
    let began = Instant::now();
    node.set_link(DEV, false).unwrap();
    node.set_link(DEV, true).unwrap();
    run();
    let took = began.elapsed();
    assert_eq!(present(&node, load), load.routes);
    took
}

/// Waits until so many of the load's routes are there.
fn wait(node: &Node, load: Load, routes: usize) {
    let deadline = Instant::now() + LIMIT;
    // The last table is filled last: counting everything would cost more than what is measured.
    let last = Load { routes: load.routes.div_ceil(load.tables), tables: 1 };
    loop {
        let table = load.numbers_of_tables().last().unwrap();
        if count(node, table) >= last.routes - 1 && present(node, load) == routes {
            return;
        }
        assert!(Instant::now() < deadline, "{} of {routes} are there", present(node, load));
        thread::sleep(Duration::from_millis(1));
    }
}

fn present(node: &Node, load: Load) -> usize {
    load.numbers_of_tables().map(|table| count(node, table)).sum()
}

fn count(node: &Node, table: u32) -> usize {
    let mut command = Command::new("ip");
    command.args(["-4", "route", "show", "table", &table.to_string()]).stderr(Stdio::null());
    let output = node.output(command).unwrap();
    output.stdout.split(|byte| *byte == b'\n').count() - 1
}
