//! What one flow costs in each part of the replicator, without the kernel.
//!
//! `cargo bench -p lockstep-replicator -- [FLOWS]`. For orientation: the kernel needs about 1 µs to
//! tell of an event and 1.6 µs to insert a flow in a batch.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads clocks")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Batch, Flow, ProtocolState, TcpState};
use lockstep_replicator::{Change, Config, KernelEvent, Origin, Replicator, Start};

fn main() {
    let flows = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let flows: u32 = flows.unwrap_or(100_000);
    let flows: Vec<Flow> = (0..flows).map(flow).collect();
    let now = Instant::now();
    let [mut sender, mut receiver] = [1, 2].map(|first| {
        let start = Start { first_sequence: first, secret: 7, max_datagram: 1472 };
        Replicator::new(config(flows.len()), start, now)
    });
    let mut datagrams = 0;
    exchange(&mut sender, &mut receiver, now, &mut datagrams);

    let before = memory();
    let learn = time(|| {
        for flow in &flows {
            let event = KernelEvent { change: Change::New, flow, own: true };
            sender.handle_kernel_event(event, now);
        }
    });
    let internal = memory() - before;
    let before = memory();
    sender.send_everything();
    datagrams = 0;
    let copy = time(|| exchange(&mut sender, &mut receiver, now, &mut datagrams));
    let external = memory() - before;
    assert_eq!(receiver.external_len(), flows.len(), "the copy is complete");

    let mut commit = receiver.begin_commit();
    let mut batch = Batch::new();
    let mut planned = 0;
    let plan = time(|| {
        while let Some(next) = commit.next(&receiver, now) {
            assert!(batch.create(&next.flow));
            commit.done(&next);
            planned += 1;
            if batch.is_full() {
                black_box(batch.seal(1));
                batch.clear();
            }
        }
    });
    assert_eq!(planned, flows.len());

    let each = |elapsed: Duration| elapsed.as_nanos() as f64 / flows.len() as f64;
    println!("{} flows", flows.len());
    println!("kernel event into the internal cache   {:7.0} ns", each(learn));
    println!("full copy, both ends, {datagrams:6} datagrams {:7.0} ns", each(copy));
    println!("commit planned and encoded             {:7.0} ns", each(plan));
    println!("memory, internal cache                 {:7.0} bytes", per_flow(internal, &flows));
    println!("memory, external cache                 {:7.0} bytes", per_flow(external, &flows));
    drop((sender, receiver));
    internal_cache(&flows, now);
}

/// The price of each kind of event in the internal cache, with nobody to tell: what was not known,
/// a change, a change to what is known already, the same read from the table, and the end.
fn internal_cache(flows: &[Flow], now: Instant) {
    let start = Start { first_sequence: 1, secret: 7, max_datagram: 1472 };
    let mut alone = Replicator::new(config(flows.len()), start, now);
    let changed: Vec<Flow> = flows.iter().map(closing).collect();
    let mut row = |what: &str, work: &mut dyn FnMut(&mut Replicator)| {
        let mut info = allocation_counter::AllocationInfo::default();
        let elapsed = time(|| info = allocation_counter::measure(|| work(&mut alone)));
        let each = elapsed.as_nanos() as f64 / flows.len() as f64;
        let bytes = info.bytes_current as f64 / flows.len() as f64;
        println!("{what:38} {each:7.0} ns {bytes:7.1} bytes {:7} allocations", info.count_total);
    };
    let feed = |change, flows: &[Flow], replicator: &mut Replicator| {
        for flow in flows {
            let event = KernelEvent { change, flow, own: false };
            replicator.handle_kernel_event(event, now);
        }
    };
    row("internal cache: new", &mut |r| feed(Change::New, flows, r));
    row("internal cache: update", &mut |r| feed(Change::Update, &changed, r));
    row("internal cache: update that says nothing", &mut |r| feed(Change::Update, &changed, r));
    row("internal cache: read from the table", &mut |r| {
        r.begin_dump();
        for flow in &changed {
            r.dumped(flow, now);
        }
        assert!(r.end_dump(now));
    });
    row("internal cache: destroy", &mut |r| feed(Change::Delete, &changed, r));
    row("internal cache: new where others were", &mut |r| feed(Change::New, flows, r));
    row("internal cache: destroy again", &mut |r| feed(Change::Delete, flows, r));
    assert_eq!(alone.internal_len(), 0);
}

/// The same flow on its way to its end.
fn closing(flow: &Flow) -> Flow {
    let mut flow = flow.clone();
    flow.timeout_s = Some(120);
    flow.protocol_state = ProtocolState::Tcp(TcpState { state: 4, ..TcpState::default() });
    flow
}

/// Passes datagrams to and fro until there are none.
fn exchange(a: &mut Replicator, b: &mut Replicator, now: Instant, datagrams: &mut u64) {
    let [of_a, of_b] = [1, 2].map(|host| IpAddr::V4(Ipv4Addr::new(10, 99, 0, host)));
    let mut buffer = Vec::new();
    loop {
        let before = *datagrams;
        while a.poll_transmit(now, &mut buffer).is_some() {
            *datagrams += 1;
            b.handle_datagram(Origin::group(0, of_a), &buffer, now);
        }
        while b.poll_transmit(now, &mut buffer).is_some() {
            *datagrams += 1;
            a.handle_datagram(Origin::group(0, of_b), &buffer, now);
        }
        if *datagrams == before {
            return;
        }
    }
}

/// Processor time, so that what else runs on the machine does not count.
fn time(work: impl FnOnce()) -> Duration {
    let start = processor_time();
    work();
    processor_time().saturating_sub(start)
}

fn processor_time() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(spent.split(' ').next().unwrap().parse().unwrap())
}

/// Resident bytes of the process.
fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: f64 = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096.0
}

fn per_flow(bytes: f64, flows: &[Flow]) -> f64 {
    bytes / flows.len() as f64
}

fn flow(number: u32) -> Flow {
    Flow { mark: Some(0), ..common::flow(number) }
}

fn config(flows: usize) -> Config {
    Config { cache_limit: flows, ..common::config() }
}
