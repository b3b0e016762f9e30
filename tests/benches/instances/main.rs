//! What many virtual routers cost, and how soon all of them have been taken over: ours and
//! keepalived's, in the same run.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench instances [-- COUNT…]`, as root.
//!
//! Two routers with as many cables between them as the virtual routers need, 255 to a cable, each virtual router with
//! one address and a group of its own, version 3. Once all addresses are on the better router, the
//! time that both daemons spend on a processor is taken over some seconds; then the better one is
//! killed, and the time runs until the last address is in the other's kernel. Both daemons run with
//! their defaults otherwise, one pair after the other.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/addresses.rs"]
mod addresses;
#[path = "../common/contender.rs"]
#[expect(dead_code, reason = "another benchmark stops its daemons")]
mod contender;
#[path = "../common/cost.rs"]
mod cost;
mod report;

use std::process::Command;
use std::time::{Duration, Instant};

use lockstep_lab::Node;

use addresses::Addresses;
use contender::{Daemon, Kind, VirtualRouter};

/// Virtual routers, unless the command line says otherwise.
const COUNTS: [usize; 4] = [1, 255, 1_000, 4_000];
/// Between advertisements.
const INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(100)];
/// VRIDs on one LAN.
const PER_LAN: usize = 255;
/// After all addresses are up, until the costs are taken: announcements are repeated for so long.
const REST: Duration = Duration::from_secs(7);
/// Over which the costs are taken.
const WINDOW: Duration = Duration::from_secs(10);
/// Longest wait for all addresses.
const PATIENCE: Duration = Duration::from_mins(1);

/// One pair, measured.
pub(crate) struct Measured {
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) interval: Duration,
    /// From the start of the better router until it has all addresses.
    pub(crate) started: Option<Duration>,
    /// Share of one processor, master and backup.
    pub(crate) load: [f64; 2],
    /// Bytes, master and backup.
    pub(crate) memory: [u64; 2],
    /// From the kill until the other one has all addresses.
    pub(crate) takeover: Option<Duration>,
}

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("instances: skipped, network namespaces need root");
        return;
    }
    let named: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    let counts = if named.is_empty() { COUNTS.to_vec() } else { named };
    report::heading();
    for interval in INTERVALS {
        for count in &counts {
            let measured = Kind::BOTH.map(|kind| measure(kind, *count, interval));
            report::print(&measured);
        }
    }
}

fn measure(kind: Kind, count: usize, interval: Duration) -> Measured {
    let [better, other] = ["better", "other"].map(|name| Node::new(name).unwrap());
    for lan in 0..count.div_ceil(PER_LAN) {
        connect(&better, &other, lan);
    }
    let mut addresses = [&better, &other].map(Addresses::watch);
    let began = Instant::now();
    let master = Daemon::start(kind, &better, &routers(count, interval, 150), "");
    let up = addresses[0].wait_for(count, PATIENCE);
    let backup = Daemon::start(kind, &other, &routers(count, interval, 100), "");
    std::thread::sleep(REST);

    let before = [master.cost(), backup.cost()];
    let window = Instant::now();
    std::thread::sleep(WINDOW);
    let (window, after) = (window.elapsed(), [master.cost(), backup.cost()]);
    let load = [0, 1].map(|which| {
        let spent = after[which].processor.saturating_sub(before[which].processor);
        spent.as_secs_f64() / window.as_secs_f64()
    });

    // Whoever has taken an address meanwhile was not kept informed in time.
    let early = addresses[1].present();
    if early > 0 {
        println!("{}: {early} of {count} had two masters before the kill", kind.name());
    }
    let killed = Instant::now();
    master.kill();
    let taken = addresses[1].wait_for(count, PATIENCE);
    if taken.is_none() {
        println!("{}: {} of {count} taken over", kind.name(), addresses[1].present());
    }
    Measured {
        kind,
        count,
        interval,
        started: up.map(|up| up - began),
        load,
        memory: after.map(|cost| cost.memory),
        takeover: taken.map(|taken| taken - killed),
    }
}

/// A cable between both, without a bridge: what one costs would be in everybody's figures.
fn connect(better: &Node, other: &Node, lan: usize) {
    let name = format!("eth{lan}");
    let mut command = Command::new("ip");
    command.args(["link", "add", &name, "type", "veth", "peer", "name", &name, "netns"]);
    command.arg(other.path());
    let output = better.output(command);
    assert!(output.as_ref().unwrap().status.success(), "{output:?}");
    for (last, node) in [(1, better), (2, other)] {
        node.set_link(&name, true).unwrap();
        let address = format!("10.{}.0.{last}/16", 64 + lan).parse().unwrap();
        node.add_address(&name, address).unwrap();
    }
}

fn routers(count: usize, interval: Duration, priority: u8) -> Vec<VirtualRouter> {
    (0..count)
        .map(|number| {
            let (lan, vrid) = (number / PER_LAN, (number % PER_LAN + 1) as u8);
            VirtualRouter {
                interface: format!("eth{lan}"),
                vrid,
                address: format!("10.{}.1.{vrid}/32", 64 + lan),
                version: 3,
                priority,
                interval,
                check: None,
            }
        })
        .collect()
}
