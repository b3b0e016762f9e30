//! Flows come, change and go in a router's kernel, as somebody else's doing.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockstep_ctnetlink::{Batch, Family, Flow, L4, ProtocolState, Status, TcpState, Tuple};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_kernel::scheduling::set_real_time;
use lockstep_kernel::sysctl;
use lockstep_lab::Node;

/// Of the threads that make flows or only read them: above those that hear of them.
const PRIORITY: u8 = 60;
/// A flow changes, and ends, so long after the step before.
const STEP: Duration = Duration::from_millis(250);
/// The requests of so much time are made at once, so that the one who makes them is no bottleneck.
const PAUSE: Duration = Duration::from_micros(100);

/// So many flows are made in a second; each is changed once and then removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) flows: u32,
    pub(crate) per_second: u32,
}

impl Load {
    /// New, update, destroy.
    pub(crate) fn events(self) -> u32 {
        3 * self.flows
    }

    /// Runs it on a node; returns the events in a second that have come to be. `made`, when there
    /// is one, is told when each flow was asked for.
    pub(crate) fn run(self, node: &Node, made: Option<&[AtomicI64]>) -> f64 {
        node.run(|| {
            set_real_time(PRIORITY).unwrap();
            self.make(made)
        })
        .unwrap()
    }

    fn make(self, made: Option<&[AtomicI64]>) -> f64 {
        let mut table = TableSocket::open().unwrap();
        let mut batch = Batch::new();
        let steps = self.steps();
        let rate = 3.0 * f64::from(self.per_second);
        let (mut done, mut asked) = (0, 0);
        let began = Instant::now();
        while done < steps {
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            batch.clear();
            let now = moment();
            while done < steps.min(due) && !batch.is_full() {
                self.step(done, &mut batch, made, now);
                done += 1;
            }
            if batch.is_empty() {
                thread::sleep(PAUSE);
                continue;
            }
            asked += batch.len();
            assert_eq!(table.execute(&mut batch).unwrap(), []);
        }
        asked as f64 / began.elapsed().as_secs_f64()
    }

    /// Steps before the first change, and between that and the end.
    fn lag(self) -> u64 {
        (f64::from(self.per_second) * STEP.as_secs_f64()) as u64
    }

    fn steps(self) -> u64 {
        3 * (u64::from(self.flows) + 2 * self.lag())
    }

    fn step(self, step: u64, batch: &mut Batch, made: Option<&[AtomicI64]>, now: i64) {
        let kind = step % 3;
        let Some(number) = (step / 3).checked_sub(kind * self.lag()) else { return };
        if number >= u64::from(self.flows) {
            return;
        }
        let added = match kind {
            0 => {
                if let Some(made) = made {
                    made[number as usize].store(now, Ordering::Relaxed);
                }
                batch.create(&young(number as u32))
            }
            1 => batch.update(&flow(number as u32)),
            _ => batch.delete(&flow(number as u32).key(), None),
        };
        assert!(added, "there was room");
    }
}

/// Nanoseconds since 1970, by the clock with which the kernel stamps packets.
pub(crate) fn moment() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

/// An established connection from one of 4 096 hosts to one of 256 servers.
pub(crate) fn flow(number: u32) -> Flow {
    const TCP: u8 = 6;
    const ESTABLISHED: u8 = 3;
    let client = Ipv4Addr::from(0x0a00_0000 + number % 4096);
    let server = Ipv4Addr::from(0xc633_6400 + number / 4096 % 256);
    let orig = Tuple {
        source: IpAddr::V4(client),
        destination: IpAddr::V4(server),
        protocol: TCP,
        l4: L4::Ports { source: (1024 + number / 4096) as u16, destination: 443 },
    };
    let mut flow = Flow::new(orig, orig.inverse());
    flow.status = Status(Status::CONFIRMED | Status::SEEN_REPLY | Status::ASSURED);
    flow.timeout_s = Some(432_000);
    flow.mark = Some(0);
    flow.protocol_state =
        ProtocolState::Tcp(TcpState { state: ESTABLISHED, ..TcpState::default() });
    flow
}

/// The number of a flow of [`flow`], by its original tuple.
pub(crate) fn number(orig: &Tuple) -> Option<u32> {
    match (orig.source, orig.l4) {
        (IpAddr::V4(client), L4::Ports { source, .. }) => {
            let row = u32::from(source).checked_sub(1024)?;
            Some(row * 4096 + (client.to_bits() & 0xfff))
        }
        _ => None,
    }
}

/// The same, before it was answered.
fn young(number: u32) -> Flow {
    const SYN_SENT: u8 = 1;
    let mut flow = flow(number);
    flow.status = Status(Status::CONFIRMED);
    flow.timeout_s = Some(120);
    flow.protocol_state = ProtocolState::Tcp(TcpState { state: SYN_SENT, ..TcpState::default() });
    flow
}

/// A flow that no load has, to see whether anybody tells of it.
pub(crate) const PROBE: u32 = 200_000_000;

/// Makes the probe, or removes it.
pub(crate) fn probe(node: &Node, present: bool) {
    node.run(|| {
        let mut batch = Batch::new();
        let probe = flow(PROBE);
        assert!(if present { batch.create(&probe) } else { batch.delete(&probe.key(), None) });
        assert_eq!(TableSocket::open().unwrap().execute(&mut batch).unwrap(), []);
    })
    .unwrap();
}

/// Puts the first `count` flows into a node's kernel, prepared beforehand; how long it took.
pub(crate) fn fill(node: &Node, count: usize) -> Duration {
    let flows: Vec<Flow> = (0..count as u32).map(flow).collect();
    node.run(|| {
        set_real_time(PRIORITY).unwrap();
        let mut batches: Vec<Batch> = flows
            .chunks(Batch::CAPACITY)
            .map(|chunk| {
                let mut batch = Batch::new();
                assert!(chunk.iter().all(|flow| batch.create(flow)));
                batch
            })
            .collect();
        let mut table = TableSocket::open().unwrap();
        let began = Instant::now();
        for batch in &mut batches {
            assert_eq!(table.execute(batch).unwrap(), []);
        }
        let took = began.elapsed();
        assert_eq!(count_here(), count);
        took
    })
    .unwrap()
}

/// Reads a node's table without looking at it; how long it took.
pub(crate) fn read(node: &Node) -> Duration {
    node.run(|| {
        set_real_time(PRIORITY).unwrap();
        let mut table = TableSocket::open().unwrap();
        let mut buffer = Vec::new();
        let began = Instant::now();
        let mut dump = table.dump(Family::Any).unwrap();
        while dump.read(&mut buffer).unwrap() {}
        began.elapsed()
    })
    .unwrap()
}

/// Removes the flows of a node, and waits until they are gone: left-overs would share the hash
/// table of the next run.
pub(crate) fn empty(node: &Node) {
    let mut command = Command::new("conntrack");
    command.arg("-F");
    assert!(node.output(command).unwrap().status.success());
    while count(node) > 0 {
        thread::yield_now();
    }
}

/// Flows in a node's kernel.
pub(crate) fn count(node: &Node) -> usize {
    node.run(count_here).unwrap()
}

fn count_here() -> usize {
    sysctl::read("net/netfilter/nf_conntrack_count").unwrap().parse().unwrap()
}
