//! Killed at random moments under live connections: nobody ever notices, or the neighbour takes over.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lockstep_lab::traffic::{Connections, Pace};
use lockstep_lab::{Firewall, Lab, Node, RouterId};
use lockstep_tests::daemon::{Lockstep, virtual_addresses};
use lockstep_tests::frames::{Capture, Content};
use lockstep_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::{Recorder, now};

/// How often the master is killed, unless the variable says otherwise.
const KILLS: usize = 20;
const VARIABLE: &str = "LOCKSTEP_KILLS";
/// A worker that lived for so long did not die of its start, so that its guard's patience begins anew.
const LONG_LIFE: Duration = Duration::from_millis(5_300);
/// Three intervals of a second, and the skew time of version 3 at priority 100.
const MASTER_DOWN: Duration = Duration::from_millis(3_609);

#[test]
fn killed_at_random_moments_a_master_loses_no_connection_and_never_has_an_address_twice() {
    let kills = std::env::var(VARIABLE).map_or(KILLS, |count| count.parse().expect("a number"));
    let lab = Lab::new(Firewall::Strict).expect("a lab");
    let [a, b] = RouterId::BOTH.map(|id| lab.router(id).expect("the router is on"));
    let recorder = Recorder::new();
    let ours = Lockstep::start_guarded(a, &config("a", 150, &recorder.notify()));
    ours.wait_for_state("gateway", "master");
    let theirs = Lockstep::start_guarded(b, &config("b", 100, ""));
    theirs.wait_for_state("gateway", "backup");
    wait::until("the routers hear each other", || {
        theirs.status()["replication"]["in-sync"] == true
    });
    wait::until("its hooks have run", || recorder.lines() == ["backup", "master"]);
    let capture = Capture::start(lab.client());
    let address = SocketAddr::new(Lab::SERVER.into(), 7000);
    let connections = Connections::open(lab.client(), lab.server(), address, 8, Pace::default())
        .expect("connections");

    let over = AtomicBool::new(false);
    let (moments, watched) = thread::scope(|scope| {
        let watch = scope.spawn(|| watch(a, b, &over));
        let moments = kill_again_and_again(&ours, kills);
        over.store(true, Ordering::Relaxed);
        (moments, watch.join().expect("the watch"))
    });
    wait::until("one of them serves", || {
        [&ours, &theirs].iter().any(|router| router.state("gateway") == "master")
    });

    let verdict = connections.settle(Instant::now(), Duration::from_mins(1));
    let gaps = gaps(&capture, &moments);
    let resumed = ours.log().matches("goes on as master").count();
    println!("{}", figures(&moments, &gaps, resumed, &watched, verdict.longest_gap_ms));
    assert!(verdict.all_survived(), "{verdict:?}");
    assert!(watched.looks > 10 * kills, "it was hardly looked at: {watched:?}");
    assert!(watched.both <= MASTER_DOWN, "two had the address: {watched:?}");
    if theirs.journal("gateway").len() == 1 {
        assert_eq!(watched.none, Duration::ZERO, "nobody had the address: {watched:?}");
        assert_eq!(recorder.lines(), ["backup", "master"], "no hook was run again");
    }
}

fn config(id: &str, priority: u8, more: &str) -> String {
    format!(
        r#"
        [router]
        id = "{id}"

        [vrrp.inside]
        interface = "eth0"
        vrid = 51
        priority = {priority}
        preempt = false
        advertisement-interval = "1s"
        addresses = {}

        [group.gateway]
        virtual-routers = ["inside"]

        [replication]
        group = "gateway"
        protocol = "conntrackd"

        [[replication.link]]
        interface = "eth2"
        multicast = "225.0.0.50"
        port = {}
        {more}
        "#,
        virtual_addresses(),
        Lab::REPLICATION_PORT,
    )
}

/// In pairs: the second at most a second after the first, often in the middle of the new worker's start.
fn kill_again_and_again(router: &Lockstep, kills: usize) -> Vec<Duration> {
    let mut state: u32 = 0x9e37_79b9;
    let mut moments = Vec::new();
    while moments.len() < kills {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let rest = if moments.len() % 2 == 0 { LONG_LIFE } else { Duration::ZERO };
        thread::sleep(rest + Duration::from_millis(u64::from(state % 1000)));
        let worker = wait::some("there is a worker", || router.worker());
        moments.push(now());
        // It may be between two.
        let _ = kill(worker, Signal::SIGKILL);
    }
    router.wait_until_it_answers();
    moments
}

/// How long, at the longest, both had the address, and nobody.
#[derive(Debug, Default)]
struct Watched {
    looks: usize,
    both: Duration,
    none: Duration,
}

fn watch(a: &Node, b: &Node, over: &AtomicBool) -> Watched {
    let mut watched = Watched::default();
    let mut since: BTreeMap<usize, Instant> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        let has = |node: &Node| {
            let addresses = node.addresses("eth0").expect("its addresses can be read");
            addresses.iter().any(|address| address.addr() == Lab::LAN_VIRTUAL)
        };
        let count = usize::from(has(a)) + usize::from(has(b));
        watched.looks += 1;
        since.retain(|kind, _| *kind == count);
        let length = since.entry(count).or_insert_with(Instant::now).elapsed();
        match count {
            0 => watched.none = watched.none.max(length),
            2 => watched.both = watched.both.max(length),
            _ => {}
        }
    }
    watched
}

/// From each kill to the next advertisement.
fn gaps(capture: &Capture, kills: &[Duration]) -> Vec<Duration> {
    let frames = capture.frames();
    let claims: Vec<Duration> = frames
        .iter()
        .filter(|frame| matches!(&frame.content, Content::Advertisement(seen) if seen.priority > 0))
        .map(|frame| frame.at)
        .collect();
    let next = |kill: &Duration| {
        claims.iter().find(|claim| *claim > kill).and_then(|claim| claim.checked_sub(*kill))
    };
    kills.iter().filter_map(next).collect()
}

fn figures(
    kills: &[Duration],
    gaps: &[Duration],
    resumed: usize,
    watched: &Watched,
    stall: u64,
) -> String {
    // Of two kills in a row the first has no advertisement of its own when the second comes first.
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let at = |part: usize| sorted.get(sorted.len() * part / 100).copied().unwrap_or_default();
    let mut text = format!(
        "{} kills, {resumed} times gone on as master; kill to advertisement: median {:?}, 95 % {:?}, longest {:?}; ",
        kills.len(),
        at(50),
        at(95),
        sorted.last().copied().unwrap_or_default(),
    );
    let _ = write!(
        text,
        "address twice {:?}, nowhere {:?} at the longest in {} looks; longest stall of a connection {stall} ms",
        watched.both, watched.none, watched.looks
    );
    text
}
