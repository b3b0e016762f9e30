//! A host between two routers that passes their datagrams on, loses some of them and brings others out of order.
//!
//! Each router knows the relay as its peer: what arrives on one side is sent on from the relay's own address on the other.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_lab::Node;
use socket2::{Domain, Protocol, Socket, Type};

/// What happens to datagrams on their way. In thousandths, and changed at any time.
#[derive(Debug, Default)]
pub struct Weather {
    /// Lost.
    pub lost: AtomicU32,
    /// Held back until up to four later ones have passed.
    pub late: AtomicU32,
}

/// One side of the relay.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// The relay's interface.
    pub interface: &'static str,
    /// The relay's address there.
    pub address: IpAddr,
    /// The router's address, or the group that the router has joined.
    pub towards: IpAddr,
}

/// A relay at work. Dropped, it ends.
#[derive(Debug)]
pub struct Relay {
    /// Its weather.
    pub weather: Arc<Weather>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<io::Result<()>>>>,
}

impl Relay {
    /// Passes on, between both sides, what arrives on `port`.
    ///
    /// # Panics
    /// When its sockets cannot be opened.
    #[track_caller]
    pub fn start(node: &Node, sides: [Side; 2], port: u16) -> Self {
        let (weather, stop) = (Arc::new(Weather::default()), Arc::new(AtomicBool::new(false)));
        let sockets = node
            .run(|| sides.map(|side| open(&side, port)))
            .expect("the relay's host can be entered")
            .map(|socket| socket.expect("a socket for the relay"));
        let sockets = Arc::new(sockets);
        let threads = [(0, 1), (1, 0)].map(|(from, to)| {
            let (weather, stop) = (Arc::clone(&weather), Arc::clone(&stop));
            let sockets = Arc::clone(&sockets);
            let target = SocketAddr::new(sides[to].towards, port);
            node.spawn("relay", move || {
                pass_on([&sockets[from], &sockets[to]], target, &weather, &stop)
            })
            .expect("a thread for the relay")
        });
        Self { weather, stop, threads: threads.into() }
    }

    /// From now on loses and delays these thousandths of the datagrams.
    pub fn spoil(&self, lost: u32, late: u32) {
        self.weather.lost.store(lost, Ordering::Relaxed);
        self.weather.late.store(late, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Bound to the interface, so that a group's datagrams of the other side are not heard here.
fn open(side: &Side, port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(side.address, port)),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    socket.bind_device(Some(side.interface.as_bytes()))?;
    socket.set_recv_buffer_size(BUFFER)?;
    let any: IpAddr = match (side.address, side.towards) {
        (IpAddr::V4(own), IpAddr::V4(group)) => {
            if group.is_multicast() {
                socket.join_multicast_v4(&group, &own)?;
                socket.set_multicast_if_v4(&own)?;
                socket.set_multicast_loop_v4(false)?;
            }
            Ipv4Addr::UNSPECIFIED.into()
        }
        (IpAddr::V6(_), IpAddr::V6(group)) => {
            socket.set_only_v6(true)?;
            if group.is_multicast() {
                let index = nix::net::if_::if_nametoindex(side.interface)?;
                socket.join_multicast_v6(&group, index)?;
                socket.set_multicast_if_v6(index)?;
                socket.set_multicast_loop_v6(false)?;
            }
            Ipv6Addr::UNSPECIFIED.into()
        }
        _ => return Err(io::Error::other("both addresses of a side are of one family")),
    };
    socket.bind(&SocketAddr::new(any, port).into())?;
    socket.set_read_timeout(Some(HOLD))?;
    Ok(socket.into())
}

/// Passes on one way. What is held back has with it how many others still pass before it.
fn pass_on(
    [from, to]: [&UdpSocket; 2],
    target: SocketAddr,
    weather: &Weather,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ u64::from(target.is_ipv6()) ^ 1);
    let mut held: VecDeque<(u32, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 65_536];
    // A router that is being restarted refuses: that is a loss like any other.
    let send = |datagram: &[u8]| drop(to.send_to(datagram, target));
    while !stop.load(Ordering::Acquire) {
        let length = match from.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                held.drain(..).for_each(|(_, datagram)| send(&datagram));
                continue;
            }
            // What was refused before is told here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        if chance.is(weather.lost.load(Ordering::Relaxed)) {
            continue;
        }
        if chance.is(weather.late.load(Ordering::Relaxed)) {
            held.push_back((1 + chance.next() % 4, buffer[..length].to_vec()));
            continue;
        }
        send(&buffer[..length]);
        held.retain_mut(|(passing, datagram)| {
            *passing -= 1;
            if *passing == 0 {
                send(datagram);
            }
            *passing > 0
        });
    }
    Ok(())
}

/// A generator of numbers, the same in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    fn is(&mut self, thousandths: u32) -> bool {
        self.next() % 1000 < thousandths
    }
}

/// How long a datagram is held back when no other comes.
const HOLD: Duration = Duration::from_millis(5);
const BUFFER: usize = 8 << 20;
