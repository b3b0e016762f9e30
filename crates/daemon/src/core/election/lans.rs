//! Where advertisements come in: one receiver for each interface and family, and which virtual
//! router a packet is for.

use std::collections::HashMap;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Instant;

use lockstep_kernel::vrrp::{Batch, Receiver, VridSet};
use lockstep_vrrp::{Datagram, Family, Vrid};
use tracing::debug;

use crate::messages::LinkState;

/// Most packets heard in one turn: the timers and the other threads have theirs.
const MOST: usize = 4096;

/// Every interface and family that virtual routers listen on.
pub(super) struct Lans {
    all: Vec<Lan>,
    places: HashMap<(String, Family), usize>,
    batch: Batch,
    /// Whose turn it is to be heard first, so that a flood on one does not silence the others.
    first: usize,
    /// What receivers that are closed have missed.
    missed_before: u64,
}

struct Lan {
    interface: String,
    family: Family,
    receiver: Option<Receiver>,
    vrids: VridSet,
    /// The place of the virtual router with each VRID.
    routers: Box<[Option<usize>; 256]>,
    /// Whether the runtime says that something is waiting.
    ready: bool,
    /// Why there are no sockets although there is an interface.
    trouble: Option<String>,
}

/// Which sockets are read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::core) enum Which {
    /// Those of which the runtime has said that something waits.
    Ready,
    /// All of them, for what the runtime may not have noticed yet.
    All,
}

impl Lans {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            places: HashMap::new(),
            batch: Batch::new(),
            first: 0,
            missed_before: 0,
        }
    }

    /// The virtual router at `router` listens there for its VRID.
    pub(super) fn add(&mut self, interface: &str, family: Family, vrid: Vrid, router: usize) {
        let key = (interface.to_owned(), family);
        let place = *self.places.entry(key).or_insert_with(|| {
            self.all.push(Lan {
                interface: interface.to_owned(),
                family,
                receiver: None,
                vrids: VridSet::new(),
                routers: Box::new([None; 256]),
                ready: false,
                trouble: None,
            });
            self.all.len() - 1
        });
        let lan = &mut self.all[place];
        lan.vrids.insert(vrid);
        lan.routers[usize::from(vrid.value())] = Some(router);
    }

    /// Goes on with the sockets of others, which let in the VRIDs of these from now on; what waits in
    /// them is heard. Returns whether some could not be opened, to be tried again.
    pub(super) fn go_on_from(&mut self, before: &mut Self) -> bool {
        self.missed_before = before.missed_before;
        let mut failed = false;
        for old in std::mem::take(&mut before.all) {
            if let Some(&place) = self.places.get(&(old.interface, old.family)) {
                let lan = &mut self.all[place];
                (lan.receiver, lan.trouble) = (old.receiver, old.trouble);
                lan.let_in();
                failed |= lan.trouble.is_some();
            } else if let Some(receiver) = old.receiver {
                self.missed_before += receiver.dropped().unwrap_or(0);
            }
        }
        failed
    }

    /// Opens or closes the sockets as the interface is there or not; one made anew needs new ones.
    /// Returns whether some could not be opened, to be tried again.
    pub(super) fn interface(&mut self, interface: &str, link: Option<&LinkState>) -> bool {
        let index = link.map(|link| link.index);
        let mut failed = false;
        for lan in self.all.iter_mut().filter(|lan| lan.interface == interface) {
            if lan.receiver.as_ref().map(Receiver::index) == index {
                continue;
            }
            if let Some(before) = lan.receiver.take() {
                self.missed_before += before.dropped().unwrap_or(0);
            }
            lan.open(index);
            failed |= lan.trouble.is_some();
        }
        failed
    }

    /// Why nothing can be heard there although there is an interface.
    pub(super) fn trouble(&self, interface: &str, family: Family) -> Option<&str> {
        let mut all = self.all.iter();
        all.find(|lan| lan.interface == interface && lan.family == family)?.trouble.as_deref()
    }

    /// Waits until something can be heard. May be given up half way.
    pub(super) async fn readable(&mut self) {
        poll_fn(|context| self.poll_ready(context)).await;
    }

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut any = false;
        for lan in &mut self.all {
            let Some(receiver) = &mut lan.receiver else { continue };
            // An error means that the runtime ends, and with it whoever waits.
            lan.ready = matches!(receiver.poll_ready(context), Poll::Ready(Ok(())));
            any |= lan.ready;
        }
        if any { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reads what waits, each packet with the place of the virtual router it is for; about [`MOST`]
    /// packets. What is left waits for the next turn.
    pub(super) fn hear(&mut self, which: Which, mut each: impl FnMut(usize, &Datagram, Instant)) {
        let count = self.all.len();
        let mut heard = 0;
        for offset in 0..count {
            let place = (self.first + offset) % count;
            let lan = &mut self.all[place];
            let Some(receiver) = &mut lan.receiver else { continue };
            if which == Which::Ready && !std::mem::take(&mut lan.ready) {
                continue;
            }
            let read = match which {
                Which::Ready => receiver.receive(&mut self.batch),
                Which::All => receiver.try_receive(&mut self.batch),
            };
            if let Err(error) = read {
                // The kernel reports an error once; the next look reads on.
                debug!(interface = lan.interface, family = ?lan.family, %error, "VRRP socket");
            }
            let now = Instant::now();
            for datagram in self.batch.datagrams() {
                let vrid = datagram.vrid().map_or(0, Vrid::value);
                if let Some(router) = lan.routers[usize::from(vrid)] {
                    each(router, datagram, now);
                }
            }
            heard += self.batch.datagrams().len();
            if heard >= MOST {
                self.first = (place + 1) % count;
                return;
            }
        }
    }

    /// Packets for our VRIDs that the kernel has thrown away because they were not read in time.
    pub(super) fn missed(&self) -> u64 {
        let open = self.all.iter().filter_map(|lan| lan.receiver.as_ref());
        self.missed_before + open.map(|receiver| receiver.dropped().unwrap_or(0)).sum::<u64>()
    }
}

impl Lan {
    /// Has the sockets let in its VRIDs.
    fn let_in(&mut self) {
        let Some(receiver) = &mut self.receiver else { return };
        if *receiver.vrids() == self.vrids {
            return;
        }
        if let Err(error) = receiver.set_vrids(&self.vrids) {
            debug!(interface = self.interface, %error, "VRRP sockets are opened again");
            let index = receiver.index();
            self.receiver = None;
            self.open(Some(index));
        }
    }

    fn open(&mut self, index: Option<u32>) {
        self.ready = false;
        self.trouble = None;
        let Some(index) = index else { return };
        match Receiver::open(&self.interface, index, self.family, &self.vrids) {
            Ok(receiver) => self.receiver = Some(receiver),
            Err(error) => self.trouble = Some(format!("{error}: {}", error.source)),
        }
    }
}
