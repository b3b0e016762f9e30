//! What nobody can do for less: the events are read, as many bytes as they become are sent, and
//! received, and nobody looks at any of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_kernel::scheduling::set_real_time;
use lockstep_lab::Node;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use nix::time::ClockId;
use socket2::SockRef;

use crate::contender::EVENT_BUFFER;

/// As the daemons'.
const PRIORITY: u8 = 50;
/// Of one event as a message.
const MESSAGE: usize = 80;
/// Most bytes of one datagram.
const DATAGRAM: usize = 1472;
const GROUP: Ipv4Addr = Ipv4Addr::new(225, 0, 0, 50);
const PORT: u16 = 3780;
/// At most so long without looking whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Threads on both nodes.
pub(crate) struct Floor {
    over: Arc<AtomicBool>,
    threads: [JoinHandle<io::Result<Duration>>; 2],
}

impl Floor {
    pub(crate) fn start(nodes: &[Node; 2]) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let [sends, receives] = [Arc::clone(&over), Arc::clone(&over)];
        let threads = [
            nodes[0].spawn("sender", move || send(&sends)).unwrap(),
            nodes[1].spawn("receiver", move || receive(&receives)).unwrap(),
        ];
        Self { over, threads }
    }

    /// Ends it; the time of the processor that each side has used.
    pub(crate) fn end(self) -> [Duration; 2] {
        self.over.store(true, Ordering::Relaxed);
        self.threads.map(|thread| thread.join().unwrap().unwrap())
    }
}

fn send(over: &AtomicBool) -> Duration {
    set_real_time(PRIORITY).unwrap();
    let mut events = Socket::new(NETLINK_NETFILTER).unwrap();
    setsockopt(&events, sockopt::RcvBufForce, &EVENT_BUFFER[1]).unwrap();
    events.bind_auto().unwrap();
    for group in [1, 2, 3] {
        events.add_membership(group).unwrap();
    }
    let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::new(172, 31, 255, 1), 0))).unwrap();
    socket.connect(SocketAddr::from((GROUP, PORT))).unwrap();
    SockRef::from(&events.as_fd()).set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let (mut event, datagram) = ([0; 4096], [0; DATAGRAM]);
    while !over.load(Ordering::Relaxed) {
        let mut bytes = 0;
        // The first is waited for.
        let mut flags = MsgFlags::empty();
        while bytes < DATAGRAM && recv(events.as_raw_fd(), &mut event, flags).is_ok() {
            bytes += MESSAGE;
            flags = MsgFlags::MSG_DONTWAIT;
        }
        while bytes > 0 {
            let length = bytes.min(DATAGRAM);
            socket.send(&datagram[..length]).unwrap();
            bytes -= length;
        }
    }
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}

fn receive(over: &AtomicBool) -> Duration {
    set_real_time(PRIORITY).unwrap();
    let socket = UdpSocket::bind(SocketAddr::from((GROUP, PORT))).unwrap();
    socket.join_multicast_v4(&GROUP, &Ipv4Addr::new(172, 31, 255, 2)).unwrap();
    socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let mut datagram = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        // Nothing within this time is no failure.
        let _ = socket.recv(&mut datagram);
    }
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap().into()
}
