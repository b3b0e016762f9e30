//! A model of the kernel: the conntrack table and the virtual addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Status, TcpState, Tuple};
use lockstep_replicator::{Action, Change, Commit, Planned, Replicator, Retry};

/// What tells flows apart.
pub(crate) type Key = Tuple;

/// `errno` values the model answers with.
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;

/// One router's kernel. It outlives the daemon, but not a power cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) flows: BTreeMap<Key, Flow>,
    /// Whose reply tuple it is.
    replies: BTreeMap<Tuple, Key>,
    /// The last number of each virtual address that is there.
    pub(crate) addresses: BTreeSet<u8>,
    /// Whether a packet that would begin a flow is not passed on.
    pub(crate) holds_forwarding: bool,
}

/// A change to be told to whoever listens.
#[derive(Clone, Debug)]
pub(crate) struct KernelChange {
    pub(crate) change: Change,
    pub(crate) flow: Flow,
    pub(crate) own: bool,
}

/// Who is told how a request went, and decides what follows from a refusal.
pub(crate) trait Asker {
    fn done(&mut self, planned: &Planned);
    fn refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry;
    fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned>;
}

impl Asker for Commit {
    fn done(&mut self, planned: &Planned) {
        Self::done(self, planned);
    }

    fn refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry {
        Self::refused(self, planned, errno, reason)
    }

    fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned> {
        Self::compare(self, planned, existing)
    }
}

/// The injection of a router that stands by in its kernel.
pub(crate) struct Injecting<'a> {
    pub(crate) replicator: &'a mut Replicator,
    pub(crate) now: Instant,
}

impl Asker for Injecting<'_> {
    fn done(&mut self, planned: &Planned) {
        self.replicator.injected(planned);
    }

    fn refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry {
        self.replicator.injection_refused(planned, errno, reason, self.now)
    }

    fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned> {
        self.replicator.compare_injection(planned, existing)
    }
}

impl Kernel {
    /// Whether a packet for a virtual address is taken.
    pub(crate) fn serves(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// A flow appears, or becomes another.
    pub(crate) fn put(&mut self, flow: Flow) {
        let reply = flow.reply;
        self.replies.insert(reply, flow.orig);
        if let Some(before) = self.flows.insert(flow.orig, flow)
            && before.reply != reply
        {
            self.replies.remove(&before.reply);
        }
    }

    /// A flow goes.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Flow> {
        let flow = self.flows.remove(key)?;
        self.replies.remove(&flow.reply);
        Some(flow)
    }

    /// Seconds pass. A flow that nothing else ends stays for its last one.
    pub(crate) fn pass(&mut self, seconds: u32) {
        for timeout_s in self.flows.values_mut().filter_map(|flow| flow.timeout_s.as_mut()) {
            *timeout_s = timeout_s.saturating_sub(seconds).max(1);
        }
    }

    /// Nothing is left.
    pub(crate) fn clear(&mut self) {
        *self = Self { addresses: std::mem::take(&mut self.addresses), ..Self::default() };
    }

    /// Does what is asked for one flow, with the refusals of a real kernel.
    pub(crate) fn carry_out(
        &mut self,
        asker: &mut impl Asker,
        planned: Planned,
    ) -> Vec<KernelChange> {
        let mut changes = Vec::new();
        let mut next = if planned.is_looked_for_first() {
            let existing = self.flows.get(&planned.flow.orig).cloned();
            asker.compare(planned, existing.as_ref())
        } else {
            Some(planned)
        };
        while let Some(planned) = next.take() {
            let Some((errno, reason)) = self.refusal(&planned) else {
                let change = self.change(&planned);
                changes.push(KernelChange { change, flow: planned.flow.clone(), own: true });
                asker.done(&planned);
                continue;
            };
            next = match asker.refused(planned, errno, reason) {
                Retry::With(planned) => Some(planned),
                Retry::Look(planned) => {
                    let existing = self.flows.get(&planned.flow.orig).cloned();
                    asker.compare(planned, existing.as_ref())
                }
                Retry::GiveUp => None,
            };
        }
        changes
    }

    fn refusal(&self, planned: &Planned) -> Option<(i32, &'static str)> {
        let there = self.flows.contains_key(&planned.flow.orig);
        let taken =
            self.replies.get(&planned.flow.reply).is_some_and(|by| *by != planned.flow.orig);
        match (planned.action, there) {
            (Action::Create, true) => Some((EEXIST, "file exists")),
            (Action::Create | Action::Replace, _) if taken => Some((EEXIST, "file exists")),
            (Action::Update | Action::Delete | Action::SetTimeout | Action::BeLiberal, false) => {
                Some((ENOENT, "no such entry"))
            }
            (Action::Create | Action::Replace, _)
            | (Action::Update | Action::Delete | Action::SetTimeout | Action::BeLiberal, true) => {
                None
            }
        }
    }

    fn change(&mut self, planned: &Planned) -> Change {
        match planned.action {
            Action::Create | Action::Replace => {
                self.put(planned.flow.clone());
                Change::New
            }
            Action::Update => {
                self.put(planned.flow.clone());
                Change::Update
            }
            Action::SetTimeout => {
                if let Some(flow) = self.flows.get_mut(&planned.flow.orig) {
                    flow.timeout_s = planned.flow.timeout_s;
                }
                Change::Update
            }
            // No packet here has windows.
            Action::BeLiberal => Change::Update,
            Action::Delete => {
                self.remove(&planned.flow.orig);
                Change::Delete
            }
        }
    }
}

/// The router's own address, where its operator logs in.
pub(crate) fn own_address(router: usize) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, if router == 0 { 2 } else { 3 }).into()
}

/// A flow that begins at the router itself; `number` makes it unique.
pub(crate) fn own_flow(router: usize, number: u16) -> Flow {
    let (source, destination) = (own_address(router), Ipv4Addr::new(192, 0, 2, 100).into());
    let (high, low) = (20_000 + number, 22);
    let ports = |source, destination| L4::Ports { source, destination };
    let orig = Tuple { source, destination, protocol: 6, l4: ports(high, low) };
    let reply =
        Tuple { source: destination, destination: source, protocol: 6, l4: ports(low, high) };
    Flow {
        status: Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED),
        timeout_s: Some(600),
        protocol_state: ProtocolState::Tcp(TcpState { state: 3, ..TcpState::default() }),
        ..Flow::new(orig, reply)
    }
}

/// An established TCP flow through source NAT; `number` makes it and its translation unique.
pub(crate) fn flow(number: u32, state: u8) -> Flow {
    let [a, b, c, d] = number.to_be_bytes();
    let client = [10, 1, c, d].into();
    let server = [198, 51, a, b].into();
    let port = 1024 + (number % 60_000) as u16;
    let (orig, reply) = (
        Tuple {
            source: client,
            destination: server,
            protocol: 6,
            l4: L4::Ports { source: port, destination: 443 },
        },
        Tuple {
            source: server,
            destination: [203, 0, 113, 1].into(),
            protocol: 6,
            l4: L4::Ports { source: 443, destination: port },
        },
    );
    let done = Status::SRC_NAT | Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
    let seen = Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED;
    Flow {
        status: Status(done | seen),
        timeout_s: Some(600),
        protocol_state: ProtocolState::Tcp(TcpState { state, ..TcpState::default() }),
        ..Flow::new(orig, reply)
    }
}
