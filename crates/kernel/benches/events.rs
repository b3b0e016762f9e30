//! What reading the kernel's events and its table costs, and how much of that is the kernel's.
//!
//! Needs root. Prints nanoseconds of the processor per event: first the floor, which is one `recv`
//! each into the same memory without a look at it, then reading many at once, with and without
//! decoding. Events are read in portions, as at load, and not from a heap of cold ones.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use lockstep_ctnetlink::{Batch, Family, Flow, L4, Messages, Tuple};
use lockstep_kernel::conntrack::{EventSocket, TableSocket};
use lockstep_kernel::namespace::Namespace;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

/// Flows made, and so events of each kind.
const FLOWS: u32 = 50_000;
/// How many of them are made and removed before their events are read.
const PORTION: u32 = 250;
/// Room for a portion.
const BUFFER: usize = 8 << 20;
/// Instances of each measurement, of which the smallest is printed: others use the machine too.
const TIMES: usize = 5;

fn main() {
    let Ok(namespace) = Namespace::new() else {
        println!("skipped: no network namespace can be made");
        return;
    };
    namespace.run(run).unwrap();
}

fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let mut table = TableSocket::open().unwrap();
    println!("nanoseconds per event, {FLOWS} new and {FLOWS} destroyed");
    print("one recv each, not looked at", || plain(&mut table));
    print("take, headers only", || portions(&mut table, |events| take(events, false)));
    print("take, decoded", || portions(&mut table, |events| take(events, true)));
    print("receive into a buffer, decoded", || portions(&mut table, receive));
    for flow in 0..FLOWS / PORTION {
        fill(&mut table, flow);
    }
    println!("nanoseconds per flow, {FLOWS} in the table");
    print("dump, not looked at", || dump(&mut table, |_| 0));
    print("dump, decoded", || dump(&mut table, decode));
}

/// Prints the best of some.
fn print(what: &str, mut measure: impl FnMut() -> (Duration, u32)) {
    let all = (0..TIMES).map(|_| {
        let (time, count) = measure();
        time.as_nanos() / u128::from(count)
    });
    println!("  {:>7} {what}", all.min().unwrap_or(0));
}

/// Has a way of reading take the events of flows that come and go.
fn portions(table: &mut TableSocket, read: impl Fn(&mut EventSocket) -> u32) -> (Duration, u32) {
    let mut events = EventSocket::open(BUFFER).unwrap();
    let (mut time, mut count) = (Duration::ZERO, 0);
    for portion in 0..FLOWS / PORTION {
        fill(table, portion);
        empty(table, portion);
        let begun = processor_time();
        count += read(&mut events);
        time += processor_time().saturating_sub(begun);
    }
    assert_eq!(count, 2 * FLOWS);
    (time, count)
}

fn dump(table: &mut TableSocket, each: impl Fn(&[u8]) -> u32) -> (Duration, u32) {
    let begun = processor_time();
    let (mut dump, mut buffer) = (table.dump(Family::Any).unwrap(), Vec::new());
    while dump.read(&mut buffer).unwrap() {
        black_box(each(&buffer));
    }
    (processor_time().saturating_sub(begun), FLOWS)
}

/// How much of a processor this thread has had.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// The floor: it needs a socket of its own, which the kernel tells the same.
fn plain(table: &mut TableSocket) -> (Duration, u32) {
    let mut socket = Socket::new(netlink_sys::protocols::NETLINK_NETFILTER).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
    socket.bind(&SocketAddr::new(0, 0)).unwrap();
    for group in [1, 2, 3] {
        socket.add_membership(group).unwrap();
    }
    socket.set_non_blocking(true).unwrap();
    let (mut buffer, mut count, mut time) = ([0; 4096], 0, Duration::ZERO);
    for portion in 0..FLOWS / PORTION {
        fill(table, portion);
        empty(table, portion);
        let begun = processor_time();
        while let Ok(length) = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            black_box(&buffer[..length]);
            count += 1;
        }
        time += processor_time().saturating_sub(begun);
    }
    (time, count)
}

fn take(events: &mut EventSocket, decoded: bool) -> u32 {
    let mut count = 0;
    loop {
        let taken = events.take(|message| {
            count += 1;
            if decoded {
                black_box(message.flow().unwrap());
            } else {
                black_box((message.kind().unwrap(), message.header().port_id));
            }
        });
        let taken = taken.unwrap();
        assert!(!taken.overrun);
        if taken.messages == 0 {
            return count;
        }
    }
}

fn receive(events: &mut EventSocket) -> u32 {
    let (mut count, mut buffer) = (0, Vec::new());
    while events.try_receive(&mut buffer).unwrap().is_some() {
        count += decode(&buffer);
    }
    count
}

fn decode(buffer: &[u8]) -> u32 {
    let mut count = 0;
    for message in Messages::new(buffer) {
        if let Ok(flow) = message.unwrap().flow() {
            black_box(flow);
            count += 1;
        }
    }
    count
}

fn fill(table: &mut TableSocket, portion: u32) {
    let mut batch = Batch::new();
    for number in 0..PORTION {
        assert!(batch.create(&flow(portion * PORTION + number)));
    }
    assert_eq!(table.execute(&mut batch).unwrap(), []);
}

fn empty(table: &mut TableSocket, portion: u32) {
    let mut batch = Batch::new();
    for number in 0..PORTION {
        assert!(batch.delete(&flow(portion * PORTION + number).key(), None));
    }
    assert_eq!(table.execute(&mut batch).unwrap(), []);
}

fn flow(number: u32) -> Flow {
    let orig = Tuple {
        source: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
        destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        protocol: 17,
        l4: L4::Ports { source: 1000, destination: 53 },
    };
    let mut flow = Flow::new(orig, orig.inverse());
    flow.timeout_s = Some(600);
    flow
}
