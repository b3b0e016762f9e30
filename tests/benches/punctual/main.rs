//! Whether advertisements are on time while the same daemon commits and resynchronises flows.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench punctual [-- FLOWS]`, as root.
//!
//! A pair on a schedule of 10 ms, the better router with a table full of flows, the other with all of
//! them in its cache. The better one dies; the other claims mastership, puts the flows into its
//! kernel, and hands them to the first one when that comes back with nothing. Measured is the time
//! between its advertisements, as its kernel stamps them on their way out, over a minute from the
//! claim, less the interval; then over ten quiet seconds, for comparison. `nf_conntrack_max` and
//! the size of the hash table are raised for the run and put back at its end.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/raised.rs"]
mod raised;
mod wire;

use std::time::{Duration, Instant};

use lockstep_lab::{Interface, Lan, Node, traffic};
use lockstep_tests::daemon::Lockstep;
use serde_json::Value;

use raised::Raised;
use wire::Wire;

/// Flows, unless the command line says otherwise.
const FLOWS: u32 = 1_000_000;
/// Between advertisements.
const INTERVAL: Duration = Duration::from_millis(10);
/// From the claim to the end of the measurement.
const BUSY: Duration = Duration::from_mins(1);
/// What it is compared with.
const QUIET: Duration = Duration::from_secs(10);
/// Longest wait for flows to arrive somewhere.
const PATIENCE: Duration = Duration::from_mins(3);

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("punctual: skipped, network namespaces need root");
        return;
    }
    let flows: u32 = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(FLOWS);
    // As many buckets as flows is what a router of that size has.
    let _raised = Raised::for_flows(4 * flows as usize, flows as usize);
    println!("lateness of a 10 ms schedule, ms; {flows} flows");
    println!(
        "{:<22} {:<22} {:>8} {:>7} {:>7} {:>7} {:>7}  {:>7} {:>7}",
        "scheduling", "", "sent", "median", "99 %", "99.9 %", "worst", "commit", "resync"
    );
    for real_time in [None, Some(50)] {
        measure(flows, real_time);
    }
}

fn measure(flows: u32, real_time: Option<u8>) {
    let (lan, sync) = (Lan::new().unwrap(), Lan::new().unwrap());
    let [better, other] = [1, 2].map(|last| {
        let node = Node::new(if last == 1 { "better" } else { "other" }).unwrap();
        for (interface, lan, network) in [("eth0", &lan, "10.51.0"), ("eth1", &sync, "172.31.255")]
        {
            let address = format!("{network}.{last}/24").parse().unwrap();
            node.attach(lan, &Interface::new(interface).address(address)).unwrap();
        }
        node
    });
    traffic::flows::install(&better, flows).unwrap();
    let mut first = Lockstep::start(&better, &config(150, real_time));
    first.wait_for_state("gateway", "master");
    let second = Lockstep::start(&other, &config(100, real_time));
    wait_for(&second, "its peer's flows", |status| holds(status, flows));

    let mut wire = Wire::tap(&other, "eth0");
    let killed = Instant::now();
    first.kill();
    wait_for(&second, "mastership", |status| {
        let group = &status["groups"][0];
        group["state"] == "master" && group["step"].is_null()
    });
    let committed = killed.elapsed();
    let back = Instant::now();
    let third = Lockstep::start(&better, &config(50, real_time));
    wait_for(&third, "the flows again", |status| holds(status, flows));
    let resynchronised = back.elapsed();
    let scheduling = real_time.map_or("ordinary".to_owned(), |rank| format!("SCHED_RR {rank}"));
    let busy = wire.gaps_until(killed + BUSY);
    let took = [committed, resynchronised].map(|took| format!("{:.1} s", took.as_secs_f64()));
    print(&scheduling, "commit and resync", &busy, &took);
    let quiet = wire.gaps_until(Instant::now() + QUIET);
    print("", "nothing else to do", &quiet, &[String::new(), String::new()]);
}

/// Whether a backup holds all flows.
fn holds(status: &Value, flows: u32) -> bool {
    let replication = &status["replication"];
    replication["in-sync"] == true && replication["external"].as_u64() >= Some(u64::from(flows))
}

fn wait_for(daemon: &Lockstep, what: &str, condition: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = daemon.status();
        if condition(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}: {status:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The time between advertisements, less the interval.
fn print(scheduling: &str, during: &str, gaps: &[Duration], took: &[String; 2]) {
    let mut late: Vec<f64> =
        gaps.iter().map(|gap| gap.saturating_sub(INTERVAL).as_secs_f64() * 1000.0).collect();
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "{scheduling:<22} {during:<22} {:>8} {:>7.2} {:>7.2} {:>7.2} {:>7.2}  {:>7} {:>7}",
        late.len(),
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        took[0],
        took[1]
    );
}

fn config(priority: u8, real_time: Option<u8>) -> String {
    let real_time = real_time.map_or(String::new(), |rank| format!("real-time = {rank}"));
    format!(
        r#"
        [router]
        id = "router"
        {real_time}

        [vrrp.gateway]
        interface = "eth0"
        vrid = 51
        version = 3
        priority = {priority}
        advertisement-interval = "{}ms"
        startup-limit = "0s"
        addresses = ["10.51.0.100/24"]

        [replication]
        protocol = "conntrackd"
        group = "gateway"
        cache-limit = 2000000

        [[replication.link]]
        interface = "eth1"
        multicast = "225.0.0.50"
        "#,
        INTERVAL.as_millis(),
    )
}
