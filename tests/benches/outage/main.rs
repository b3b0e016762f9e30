//! How long a virtual address does not answer when its master is lost: ours and keepalived's, in
//! the same run.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench outage [-- ROUNDS LOSS]`, as root;
//! LOSS is the beginning of one of the names in the table.
//!
//! Two routers and a host on a LAN. The host asks the virtual address for an echo each millisecond;
//! the outage is the longest time between two answers around the loss, less the interval of the
//! questions. The master is killed, stopped as systemd does, loses its link, or fails its check
//! (run ten times a second); version 2 at one second, version 3 below.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../common/addresses.rs"]
#[expect(dead_code, reason = "another benchmark counts them")]
mod addresses;
#[path = "../common/contender.rs"]
#[expect(dead_code, reason = "another benchmark has a line for each")]
mod contender;
#[path = "../common/cost.rs"]
mod cost;
mod echo;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::keepalived;
use tempfile::TempDir;

use addresses::Addresses;
use contender::{Daemon, Kind, VirtualRouter};
use cost::Cost;
use echo::Echo;

/// What all of them share.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 1);
/// Version and time between advertisements.
const SCHEDULES: [(u8, Duration); 3] =
    [(2, Duration::from_secs(1)), (3, Duration::from_millis(100)), (3, Duration::from_millis(10))];
/// Losses of each kind, unless the command line says otherwise.
const ROUNDS: usize = 3;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Answers without a gap, after which a pair counts as settled.
const CALM: Duration = Duration::from_secs(1);
/// The same for a pair, after its backup was started.
const SETTLED: Duration = Duration::from_secs(3);

/// How a master is lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Loss {
    Kill,
    Stop,
    LinkDown,
    FailedCheck,
}

impl Loss {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Kill, "killed"),
        (Self::Stop, "stopped"),
        (Self::LinkDown, "link down"),
        (Self::FailedCheck, "check fails"),
    ];
}

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("outage: skipped, network namespaces need root");
        return;
    }
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(ROUNDS);
    println!(
        "{} and lockstep; outage in ms, median and longest of {rounds}",
        keepalived::version()
    );
    println!(
        "{:<12} {:>9}  {:>11} {:>9}  {:>9} {:>9}  {:>6}",
        "master is", "interval", "keepalived", "longest", "lockstep", "longest", "ratio"
    );
    let asked = std::env::args().skip(1).find(|word| word.starts_with(char::is_alphabetic));
    let is_asked = |name: &str| asked.as_ref().is_none_or(|asked| name.starts_with(asked.as_str()));
    for (loss, name) in Loss::ALL.into_iter().filter(|(_, name)| is_asked(name)) {
        for (version, interval) in SCHEDULES {
            let mut outages = [Vec::new(), Vec::new()];
            for _ in 0..rounds {
                for (kind, outages) in Kind::BOTH.into_iter().zip(&mut outages) {
                    outages.push(measure(kind, loss, version, interval));
                }
            }
            let [theirs, ours] = outages.map(|mut outages| {
                outages.sort();
                [outages[outages.len() / 2], outages[outages.len() - 1]]
                    .map(|outage: Duration| outage.as_secs_f64() * 1000.0)
            });
            println!(
                "{name:<12} {:>9}  {:>11.1} {:>9.1}  {:>9.1} {:>9.1}  {:>6.2}",
                format!("{} ms", interval.as_millis()),
                theirs[0],
                theirs[1],
                ours[0],
                ours[1],
                ours[0] / theirs[0]
            );
        }
    }
}

fn measure(kind: Kind, loss: Loss, version: u8, interval: Duration) -> Duration {
    let lan = Lan::new().unwrap();
    let [host, better, other] = [("host", 9), ("better", 11), ("other", 12)].map(|(name, last)| {
        let node = Node::new(name).unwrap();
        let address = format!("10.51.0.{last}/24").parse().unwrap();
        node.attach(&lan, &Interface::new("eth0").address(address)).unwrap();
        node
    });
    let directory = TempDir::new().unwrap();
    let unfit = directory.path().join("unfit");
    let check = (loss == Loss::FailedCheck).then(|| format!("test ! -e {}", unfit.display()));
    let router = |priority, check| {
        let vrid = 51;
        let (interface, address) = ("eth0".to_owned(), format!("{VIRTUAL}/24"));
        [VirtualRouter { interface, vrid, address, version, priority, interval, check }]
    };
    let echo = Echo::start(&host, VIRTUAL);
    let mut master = Daemon::start(kind, &better, &router(150, check), "");
    echo.wait_for_calm(CALM, PATIENCE);
    let backup = Daemon::start(kind, &other, &router(100, None), "");
    echo.wait_for_calm(SETTLED, PATIENCE);

    let mut taken_over = Addresses::watch(&other);
    let lost = Instant::now();
    let mut kept = None;
    match loss {
        Loss::Kill => {
            master.kill();
            // A killed router keeps its address; a machine that is gone does not.
            better.unplug("eth0").unwrap();
        }
        Loss::Stop => {
            master.terminate();
            kept = Some(master);
        }
        Loss::LinkDown => {
            better.set_link("eth0", false).unwrap();
            kept = Some(master);
        }
        Loss::FailedCheck => {
            std::fs::write(&unfit, "").unwrap();
            kept = Some(master);
        }
    }
    assert!(taken_over.wait_for(1, PATIENCE).is_some(), "nobody takes over");
    let outage = echo.outage_since(lost, CALM, PATIENCE);
    debug_assert!(backup.cost().processor > Cost::default().processor);
    drop(kept);
    outage
}
