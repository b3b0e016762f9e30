//! An echo request each millisecond, and when the answers came.

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lockstep_lab::Node;
use socket2::{Domain, Protocol, Socket, Type};

/// Between two questions.
const EVERY: Duration = Duration::from_millis(1);

/// Asks until it is dropped.
pub(crate) struct Echo {
    answers: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Echo {
    pub(crate) fn start(host: &Node, address: Ipv4Addr) -> Self {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (kept, stopped) = (Arc::clone(&answers), Arc::clone(&stop));
        let thread = host.spawn("echo", move || ask(address, &kept, &stopped)).unwrap();
        Self { answers, stop, thread: Some(thread) }
    }

    /// Waits until answers have come without a gap for some time.
    pub(crate) fn wait_for_calm(&self, calm: Duration, limit: Duration) {
        let deadline = Instant::now() + limit + calm;
        loop {
            thread::sleep(EVERY * 10);
            let now = Instant::now();
            assert!(now < deadline, "the virtual address does not answer for {calm:?}");
            let times = self.answers.lock().unwrap();
            let recent = times.partition_point(|time| now - *time > calm);
            let mut row = times[recent..].iter().copied().chain([now]);
            let Some(first) = row.next() else { continue };
            let full = now - first + EVERY * 50 > calm;
            if full && longest_gap(std::iter::once(first).chain(row)) < EVERY * 50 {
                return;
            }
        }
    }

    /// The longest time without an answer that began after `since`, once answers have come for
    /// `calm`.
    pub(crate) fn outage_since(&self, since: Instant, calm: Duration, limit: Duration) -> Duration {
        self.wait_for_calm(calm, limit);
        let times = self.answers.lock().unwrap();
        let first = times.partition_point(|time| *time < since).saturating_sub(1);
        longest_gap(times[first..].iter().copied()).saturating_sub(EVERY)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn longest_gap(times: impl Iterator<Item = Instant> + Clone) -> Duration {
    let next = times.clone().skip(1);
    times.zip(next).map(|(one, next)| next - one).max().unwrap_or_default()
}

fn ask(address: Ipv4Addr, answers: &Mutex<Vec<Instant>>, stop: &AtomicBool) {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    socket.set_read_timeout(Some(EVERY)).unwrap();
    let to = SocketAddrV4::new(address, 0).into();
    let mut due = Instant::now();
    while !stop.load(Ordering::Acquire) {
        if Instant::now() >= due {
            // Nobody there is an answer that did not come.
            let _ = socket.send_to(&REQUEST, &to);
            due = (due + EVERY).max(Instant::now());
        }
        let mut packet = [MaybeUninit::uninit(); 256];
        let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
        let from_there = from.as_socket_ipv4().is_some_and(|from| *from.ip() == address);
        if from_there && length > HEADER {
            answers.lock().unwrap().push(Instant::now());
        }
    }
}

/// Bytes of the IPv4 header in front of what a raw socket delivers.
const HEADER: usize = 20;
/// Type 8, code 0, checksum, identifier 0x4c53, sequence 1, no data.
const REQUEST: [u8; 8] = [8, 0, 0xab, 0xab, 0x4c, 0x53, 0, 1];
