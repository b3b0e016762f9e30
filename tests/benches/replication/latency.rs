//! How long after a flow was made the peer could know of it.
//!
//! From the moment at which the flow is asked of the kernel to the moment at which the kernel
//! stamps the datagram that tells of it, on its arrival at the peer's interface.

use std::collections::HashMap;
use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lockstep_lab::Node;
use lockstep_replicator::wire::{Change, Kind as MessageKind, Messages, decode_flow};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::contender::{Kind, Pair, Standby};
use crate::load::{self, Load};
use crate::report::ratio;

/// After the load, for the last to arrive.
const SETTLE: Duration = Duration::from_millis(500);
/// At most so long without looking whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Of the socket that sees the datagrams.
const BUFFER: usize = 64 << 20;
const ETH_P_IP: u16 = 0x0800;

/// Prints the table.
pub(crate) fn measure(loads: &[Load], rounds: usize) {
    println!("\nfrom a flow's making to the datagram at the peer, microseconds");
    println!(
        "{:>8} {:<12} {:>9} {:>6} {:>9} {:>6} {:>9}",
        "flows/s", "", "p50", "ratio", "p99", "ratio", "never"
    );
    for load in loads {
        let mut delays = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (kind, delays) in Kind::BOTH.into_iter().zip(&mut delays) {
                delays.extend(contender(kind, *load));
            }
        }
        let mut theirs = None;
        for (kind, delays) in Kind::BOTH.into_iter().zip(&mut delays) {
            let asked = rounds * load.flows as usize;
            let never = asked - delays.len();
            delays.sort_by(f64::total_cmp);
            let [p50, p99] = [50, 99].map(|percent| delays[(delays.len() - 1) * percent / 100]);
            let [of50, of99] = *theirs.get_or_insert([p50, p99]);
            println!(
                "{:>8} {:<12} {p50:>9.0} {:>6} {p99:>9.0} {:>6} {never:>9}",
                load.per_second,
                kind.name(),
                ratio(p50, of50),
                ratio(p99, of99),
            );
        }
    }
}

/// The delays of all flows that arrived.
fn contender(kind: Kind, load: Load) -> Vec<f64> {
    let pair = Pair::new();
    let _daemons = pair.start(kind, Standby::Cache, 4 * load.flows as usize);
    thread::sleep(SETTLE);
    let made: Vec<AtomicI64> = (0..load.flows).map(|_| AtomicI64::new(0)).collect();
    let watch = Watch::start(&pair.nodes[1]);
    load.run(&pair.nodes[0], Some(&made));
    thread::sleep(SETTLE);
    let arrived = watch.end();
    let delay = |number: u32| {
        let arrived = arrived.get(&number)?;
        Some((arrived - made[number as usize].load(Ordering::Relaxed)) as f64 / 1e3)
    };
    (0..load.flows).filter_map(delay).collect()
}

/// Sees every datagram that arrives at a node, and looks into them afterwards.
struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<HashMap<u32, i64>>>,
}

impl Watch {
    fn start(node: &Node) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&over);
        let socket = node.run(socket).unwrap();
        let watch = move || first_told(&receive(&socket, &shared));
        Self { over, thread: node.spawn("watch", watch).unwrap() }
    }

    /// When each flow was told for the first time.
    fn end(self) -> HashMap<u32, i64> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

fn socket() -> Socket {
    let protocol = Protocol::from(i32::from(ETH_P_IP.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol)).unwrap();
    let index = if_nametoindex("eth2").unwrap();
    socket.bind(&lockstep_sys::packet::link_address(index, ETH_P_IP)).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
    socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    socket
}

/// Datagrams with the moments of their arrival.
fn receive(socket: &Socket, over: &AtomicBool) -> Vec<(i64, Vec<u8>)> {
    let mut received = Vec::new();
    let mut packet = vec![0; 65_536];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    while !over.load(Ordering::Relaxed) {
        let mut parts = [IoSliceMut::new(&mut packet)];
        let message =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty());
        let Ok(message) = message else { continue };
        let stamp = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(Duration::from(stamp)),
            _ => None,
        });
        let (length, stamp) = (message.bytes, stamp.expect("a time stamp").as_nanos() as i64);
        received.push((stamp, packet[..length].to_vec()));
    }
    received
}

fn first_told(packets: &[(i64, Vec<u8>)]) -> HashMap<u32, i64> {
    /// IPv4 without options, and UDP.
    const HEADERS: usize = 28;
    let mut told = HashMap::new();
    for (stamp, packet) in packets {
        let Some(payload) = packet.get(HEADERS..) else { continue };
        for message in Messages::of(payload).map_while(Result::ok) {
            if message.kind != Some(MessageKind::Flow(Change::New)) {
                continue;
            }
            let Ok(flow) = decode_flow(message.body) else { continue };
            if let Some(number) = load::number(&flow.orig) {
                told.entry(number).or_insert(*stamp);
            }
        }
    }
    told
}
