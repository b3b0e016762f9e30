//! The advertisements that come in on one interface over one family.

use std::future::poll_fn;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use lockstep_sys::option::dropped;
use lockstep_sys::packet::refuse_everything;
use lockstep_vrrp::{Family, PROTOCOL, PROTOCOL_AH};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::OpenError;
use super::batch::Batch;
use super::filter;
use super::vrids::VridSet;

/// Receives the advertisements of every virtual router on one interface over one family, whether
/// sent to the group or to an address of this router.
///
/// Raw IP sockets bound to the interface and members of the group there, behind the operator's
/// firewall. Over IPv4 a second one receives packets wrapped in an authentication header. A filter
/// in the kernel lets in only our VRIDs: a flood of others costs no wake-up and no room.
///
/// When the interface is deleted it falls silent for good: drop it, and open another when the
/// interface is back (its index differs from [`Receiver::index`]). A link that merely goes down
/// and up, or loses its carrier, needs nothing.
#[derive(Debug)]
pub struct Receiver {
    family: Family,
    index: u32,
    vrids: VridSet,
    ears: Vec<Ear>,
    /// Set while all sockets are registered to ring it.
    bell: Option<Arc<Bell>>,
}

/// Stands between the runtime and whoever waits, so that a caller with a thousand receivers who
/// asks each at every wake-up pays a glance for those that have not rung, and no lock.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    caller: Waker,
    /// Of the waker that `caller` was cloned from: [`Waker::will_wake`] between a waker and its own
    /// clone may say no, because a compiler may place the same table of functions twice.
    identity: (usize, usize),
}

impl Bell {
    fn new(caller: &Waker) -> Self {
        let rung = AtomicBool::new(false);
        Self { rung, caller: caller.clone(), identity: identity(caller) }
    }

    /// Whether it has not rung, and would wake this caller.
    fn is_silent_for(&self, caller: &Waker) -> bool {
        !self.rung.load(Ordering::Acquire) && self.identity == identity(caller)
    }
}

/// Tells a waker from every other that exists at the same time.
fn identity(waker: &Waker) -> (usize, usize) {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.caller.wake_by_ref();
    }
}

/// A socket, and whether it may have something to read.
#[derive(Debug)]
struct Ear {
    protocol: u8,
    socket: AsyncFd<Socket>,
    /// Set from the wake-up until the socket has been read empty.
    waiting: bool,
}

impl Receiver {
    /// Most packets that one [`Receiver::receive`] or [`Receiver::try_receive`] takes from a
    /// socket, so that a flood cannot hold the caller.
    pub const MOST: usize = 1024;

    /// Opens the sockets on the interface with this name and number; inside a tokio runtime.
    ///
    /// # Errors
    /// The step the kernel refused: without privilege the first, without such an interface the
    /// binding.
    pub fn open(
        interface: &str,
        index: u32,
        family: Family,
        vrids: &VridSet,
    ) -> Result<Self, OpenError> {
        let protocols: &[u8] = match family {
            Family::Ipv4 => &[PROTOCOL, PROTOCOL_AH],
            Family::Ipv6 => &[PROTOCOL],
        };
        let ear = |&protocol| {
            let socket = open_raw(interface, index, family, protocol, vrids)?;
            Ok(Ear { protocol, socket, waiting: true })
        };
        let ears = protocols.iter().map(ear).collect::<Result<_, _>>()?;
        Ok(Self { family, index, vrids: *vrids, ears, bell: None })
    }

    /// The family it was opened for.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The number of the interface it was opened on.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The VRIDs it lets in.
    pub fn vrids(&self) -> &VridSet {
        &self.vrids
    }

    /// Lets in these VRIDs from now on, and no others. What is waiting stays.
    ///
    /// # Errors
    /// When the kernel refuses the filter (`ENOMEM`); then the VRIDs before may still be in force.
    pub fn set_vrids(&mut self, vrids: &VridSet) -> io::Result<()> {
        for ear in &self.ears {
            let program = filter::program(self.family, ear.protocol, vrids);
            ear.socket.get_ref().attach_filter(&program)?;
        }
        self.vrids = *vrids;
        Ok(())
    }

    /// Waits until [`Receiver::receive`] may bring something. Nothing is lost when the future is
    /// dropped.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_ready(context)).await
    }

    /// Like [`Receiver::readable`], for a caller with several of these. Once it has said so it is
    /// ready until [`Receiver::receive`] has read everything.
    ///
    /// # Errors
    /// When the runtime shuts down.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ears.iter().any(|ear| ear.waiting) {
            return Poll::Ready(Ok(()));
        }
        let caller = context.waker();
        if self.bell.as_ref().is_some_and(|bell| bell.is_silent_for(caller)) {
            return Poll::Pending;
        }
        let bell = Arc::new(Bell::new(caller));
        let waker = Waker::from(Arc::clone(&bell));
        for ear in &mut self.ears {
            if let Poll::Ready(guard) = ear.socket.poll_read_ready(&mut Context::from_waker(&waker))
            {
                // What arrives from here on wakes anew; what is here is read until nothing is left.
                guard?.clear_ready();
                ear.waiting = true;
            }
        }
        if self.ears.iter().any(|ear| ear.waiting) {
            self.bell = None;
            return Poll::Ready(Ok(()));
        }
        self.bell = Some(bell);
        Poll::Pending
    }

    /// Reads what is waiting, according to [`Receiver::poll_ready`], in place of what the batch
    /// held; returns how many packets that is. Does not wait.
    ///
    /// # Errors
    /// What the kernel reports of a socket; it reports it once, and what was read before it is in
    /// the batch.
    pub fn receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
        batch.clear();
        for ear in self.ears.iter_mut().filter(|ear| ear.waiting) {
            ear.waiting = batch.read(ear.socket.get_ref(), self.family, Self::MOST)?;
        }
        Ok(batch.datagrams().len())
    }

    /// Reads what is waiting now, whether or not the runtime has noticed: for a timer that is
    /// overdue, because the packet that refutes it may be in the queue.
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub fn try_receive(&mut self, batch: &mut Batch) -> io::Result<usize> {
        for ear in &mut self.ears {
            ear.waiting = true;
        }
        self.receive(batch)
    }

    /// How many packets for our VRIDs the kernel has thrown away since the sockets were opened,
    /// because they were not read in time.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn dropped(&self) -> io::Result<u64> {
        self.ears.iter().map(|ear| dropped(ear.socket.get_ref()).map(u64::from)).sum()
    }
}

fn open_raw(
    interface: &str,
    index: u32,
    family: Family,
    protocol: u8,
    vrids: &VridSet,
) -> Result<AsyncFd<Socket>, OpenError> {
    let failed = |step| move |source| OpenError { interface: interface.to_owned(), step, source };
    let domain = match family {
        Family::Ipv4 => Domain::IPV4,
        Family::Ipv6 => Domain::IPV6,
    };
    let socket =
        Socket::new(domain, Type::RAW.nonblocking(), Some(Protocol::from(i32::from(protocol))))
            .map_err(failed("open a raw socket for VRRP"))?;
    refuse_everything(&socket).map_err(failed("filter the VRRP socket"))?;
    socket.bind_device(Some(interface.as_bytes())).map_err(failed("bind the VRRP socket"))?;
    set_options(&socket, family).map_err(failed("set the options of the VRRP socket"))?;
    join(&socket, family, index).map_err(failed("join the VRRP multicast group"))?;
    drain(&socket).map_err(failed("read the VRRP socket"))?;
    let program = filter::program(family, protocol, vrids);
    socket.attach_filter(&program).map_err(failed("filter the VRRP socket"))?;
    watch(socket).map_err(failed("watch the VRRP socket"))
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe because a type may change its descriptor; `Socket` owns one and keeps it"
)]
fn watch(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

fn set_options(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        Family::Ipv4 => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(false)?;
        }
        Family::Ipv6 => {
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_recv_hoplimit_v6(true)?;
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
    }
    // Beyond the system's limit only with privilege; without it, as much as there is.
    if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    Ok(())
}

fn join(socket: &Socket, family: Family, index: u32) -> io::Result<()> {
    match family.group() {
        IpAddr::V4(group) => {
            socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(index))
        }
        IpAddr::V6(group) => socket.join_multicast_v6(&group, index),
    }
}

/// Throws away what came before the filter, from whatever interface.
fn drain(socket: &Socket) -> io::Result<()> {
    loop {
        match (&*socket).read(&mut [0]) {
            Ok(_) => (),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Bytes of receive buffer: some seconds of a thousand virtual routers on one interface.
const RECEIVE_BUFFER: usize = 1 << 20;
