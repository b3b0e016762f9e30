//! How fast flows get into the kernel: its limit, each way of ours, and conntrackd's, in one run.
//!
//! `cargo bench -p lockstep-tests --bench commit [-- FLOWS…]`, as root. Every measurement has a
//! network namespace of its own and takes turns with the others, so that a machine that slows down
//! slows all of them down. `nf_conntrack_max` and the size of the hash table hold for the whole
//! machine; they are raised for the run and put back at its end.
//!
//! A kernel builds an event for each flow as soon as anybody listens, in whatever namespace, and
//! then takes nearly twice the time: on a machine where other connection tracking daemons run, the
//! limit is lower, and the row with a listener differs little from the others.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../../../crates/kernel/tests/peer/mod.rs"]
mod peer;
#[path = "../common/raised.rs"]
mod raised;
mod theirs;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Batch, Flow, L4, ProtocolState, Status, TcpState, Tuple};
use lockstep_kernel::conntrack::{Committer, EventSocket, TableSocket};
use lockstep_kernel::namespace::Namespace;
use lockstep_kernel::sysctl;
use lockstep_replicator::{Commit, CommitReport, Replicator};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::time::ClockId;

use raised::Raised;

/// A way to get flows into the kernel.
struct Contender {
    name: &'static str,
    /// Prepares what may be prepared, runs, and returns how long the run took.
    run: fn(&Load) -> Took,
}

/// What is to be put into the kernel.
struct Load {
    flows: Vec<Flow>,
    /// Has the same flows in its external cache.
    backup: Replicator,
}

/// How long a run took.
#[derive(Clone, Copy, Debug)]
struct Took {
    elapsed: Duration,
    /// The time of the processor spent by the thread, also in the kernel: what is left when
    /// others keep the machine busy.
    processor: Duration,
}

/// The first is what the others are measured against.
const CONTENDERS: [Contender; 5] = [
    Contender { name: "kernel's limit: prepared messages", run: prepared_messages },
    Contender { name: "flows, encoded and executed", run: encode_and_execute },
    Contender { name: "the daemon's commit", run: commit_as_the_daemon },
    Contender { name: "the same with a listener to events", run: commit_with_a_listener },
    Contender { name: "the daemon's, all there already", run: commit_again },
];

/// The daemon's, in bytes.
const EVENT_BUFFER: usize = 8 << 20;

/// Each is measured so often; the median counts.
const ROUNDS: usize = 5;

/// Sends what was prepared, 256 messages to a call, and reads one answer for each call.
fn prepared_messages(load: &Load) -> Took {
    let prepared: Vec<Vec<u8>> = load
        .flows
        .chunks(Batch::CAPACITY)
        .map(|chunk| {
            let mut batch = Batch::new();
            assert!(chunk.iter().all(|flow| batch.create(flow)));
            batch.seal(1).to_vec()
        })
        .collect();
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    let kernel = SocketAddr::new(0, 0);
    let mut answer = Vec::with_capacity(4096);
    let clock = Clock::start(processor_time);
    for messages in &prepared {
        socket.send_to(messages, &kernel, 0).unwrap();
        answer.clear();
        socket.recv(&mut answer, 0).unwrap();
    }
    clock.stop()
}

/// Without the caches and the decisions of a commit.
fn encode_and_execute(load: &Load) -> Took {
    let mut table = TableSocket::open().unwrap();
    let mut batch = Batch::new();
    let clock = Clock::start(processor_time);
    for chunk in load.flows.chunks(Batch::CAPACITY) {
        batch.clear();
        assert!(chunk.iter().all(|flow| batch.create(flow)));
        let failures = table.execute(&mut batch).unwrap();
        assert!(failures.is_empty(), "{:?}", failures.first());
    }
    clock.stop()
}

/// From the cache filled by the peer into the kernel, with the daemon's event socket, which pauses.
fn commit_as_the_daemon(load: &Load) -> Took {
    with_event_socket(|events| {
        events.pause().unwrap();
        let took = commit(load);
        events.resume().unwrap();
        took
    })
}

/// The kernel builds an event for each flow, as it must when somebody else listens (conntrack -E).
fn commit_with_a_listener(load: &Load) -> Took {
    with_event_socket(|_| commit(load))
}

fn with_event_socket(work: impl FnOnce(&mut EventSocket) -> Took) -> Took {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _context = runtime.enter();
    work(&mut EventSocket::open(EVENT_BUFFER).unwrap())
}

/// Everything is in the kernel already, as a commit has left it there.
fn commit_again(load: &Load) -> Took {
    commit(load);
    let (took, report) = advance(load);
    assert_eq!(report.unchanged, load.flows.len() as u64, "{report}");
    took
}

fn commit(load: &Load) -> Took {
    let (took, report) = advance(load);
    assert_eq!(report.created, load.flows.len() as u64, "{report}");
    took
}

fn advance(load: &Load) -> (Took, CommitReport) {
    let mut table = TableSocket::open().unwrap();
    let clock = Clock::start(processor_time);
    let mut commit = Commit::default();
    let mut committer = Committer::new();
    while committer.advance(&mut table, &mut commit, &load.backup, Instant::now()).unwrap() {}
    (clock.stop(), commit.report().clone())
}

/// Measures a run, given a way to know the time of the processor that it takes.
struct Clock<F> {
    started: Instant,
    processor: F,
    before: Duration,
}

impl<F: Fn() -> Duration> Clock<F> {
    fn start(processor: F) -> Self {
        Self { before: processor(), processor, started: Instant::now() }
    }

    fn stop(self) -> Took {
        let elapsed = self.started.elapsed();
        Took { elapsed, processor: (self.processor)().saturating_sub(self.before) }
    }
}

/// Of the calling thread.
fn processor_time() -> Duration {
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("commit: skipped, a network namespace needs root");
        return;
    }
    let mut counts: Vec<usize> =
        std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![100_000, 1_000_000];
    }
    let most = counts.iter().max().copied().unwrap_or_default();
    // As many buckets as flows is what a router of that size has.
    let _raised = Raised::for_flows(2 * most, most);
    println!(
        "{:>9}  {:<5}  {:<34} {:>10} {:>6}  {:>14} {:>6}",
        "flows", "nat", "way", "flows/s", "ratio", "flows/s of CPU", "ratio"
    );
    for count in counts {
        for nat in [false, true] {
            let flows: Vec<Flow> = (0..count as u32).map(|number| flow(number, nat)).collect();
            let backup = peer::backup_told(&flows);
            measure(&Load { flows, backup }, if nat { "snat" } else { "plain" });
        }
    }
}

fn measure(load: &Load, nat: &str) {
    let mut times = CONTENDERS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..CONTENDERS.len() {
            let index = (round + turn) % CONTENDERS.len();
            times[index].push(in_namespace(load, CONTENDERS[index].run));
        }
    }
    let limit = rates(load, &times[0]);
    let print = |name, times: &[Took]| {
        let [rate, of_cpu] = rates(load, times);
        println!(
            "{:>9}  {nat:<5}  {name:<34} {rate:>10.0} {:>5.0}%  {of_cpu:>14.0} {:>5.0}%",
            load.flows.len(),
            100.0 * rate / limit[0],
            100.0 * of_cpu / limit[1],
        );
    };
    for (contender, times) in CONTENDERS.iter().zip(&times) {
        print(contender.name, times);
    }
    // Only now: with a conntrackd on the machine the kernel tells everybody's events.
    if load.flows.len() <= theirs::MOST {
        print("conntrackd's commit", &theirs::commits(&load.flows, ROUNDS));
    }
}

/// Flows in a second: of the clock's, and of the processor's.
fn rates(load: &Load, times: &[Took]) -> [f64; 2] {
    [median(times, |took| took.elapsed), median(times, |took| took.processor)]
        .map(|time| load.flows.len() as f64 / time.as_secs_f64())
}

fn median(times: &[Took], of: fn(&Took) -> Duration) -> Duration {
    let mut times: Vec<Duration> = times.iter().map(of).collect();
    times.sort();
    times[times.len() / 2]
}

/// Runs one contender against an empty table, and sees to it that all flows are in and then gone.
fn in_namespace(load: &Load, run: fn(&Load) -> Took) -> Took {
    let namespace = Namespace::new().unwrap();
    namespace
        .run(|| {
            let time = run(load);
            assert_eq!(table_count(), load.flows.len());
            empty_table();
            time
        })
        .unwrap()
}

fn table_count() -> usize {
    sysctl::read("net/netfilter/nf_conntrack_count").unwrap().parse().unwrap()
}

/// Left-overs would share the hash table of the next run.
fn empty_table() {
    flush();
    while table_count() > 0 {
        std::thread::yield_now();
    }
}

/// A deletion that names no flow removes all of them.
fn flush() {
    const DELETE: u16 = 0x102;
    const REQUEST_AND_ACK: u16 = 0x5;
    let mut message = 20_u32.to_ne_bytes().to_vec();
    message.extend(DELETE.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.resize(20, 0);
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.send_to(&message, &SocketAddr::new(0, 0), 0).unwrap();
    socket.recv(&mut Vec::with_capacity(4096), 0).unwrap();
}

/// An established connection from one of 4 096 hosts to one of 256 servers.
fn flow(number: u32, nat: bool) -> Flow {
    const TCP: u8 = 6;
    let client = Ipv4Addr::from(0x0a00_0000 + number % 4096);
    let server = Ipv4Addr::from(0xc633_6400 + number / 4096 % 256);
    let port = (1024 + number / 4096) as u16;
    let orig = Tuple {
        source: IpAddr::V4(client),
        destination: IpAddr::V4(server),
        protocol: TCP,
        l4: L4::Ports { source: port, destination: 443 },
    };
    let mut reply = orig.inverse();
    if nat {
        // 32 public addresses with 60 000 ports each.
        let public = Ipv4Addr::from(0xcb00_7100 + number / 60_000);
        reply.destination = IpAddr::V4(public);
        reply.l4 = L4::Ports { source: 443, destination: (2000 + number % 60_000) as u16 };
    }
    let mut flow = Flow::new(orig, reply);
    flow.status = Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED);
    flow.timeout_s = Some(432_000);
    flow.mark = Some(0);
    flow.protocol_state = ProtocolState::Tcp(TcpState { state: 3, ..TcpState::default() });
    flow
}
