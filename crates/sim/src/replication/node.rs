//! One node: a replicator, its kernel, its sockets, and what the daemon's thread does with them.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Flow, Tuple};
use lockstep_replicator::{
    Config, Event, KernelEvent, LinkState, Origin, Replicator, Role, Start, Transmit,
};

use super::model::Table;
use crate::kernel::Injecting;

/// Least time between two readings of the table after lost events.
const REDUMP: Duration = Duration::from_secs(1);
/// Time between two parts of a reading.
const PART_EVERY: Duration = Duration::from_micros(200);
/// Changes of the kernel's table in one turn, and how long they take.
const BATCH: usize = 64;
const BATCH_TIME: Duration = Duration::from_micros(500);

/// A node, with what is on its way into it.
pub(super) struct Node {
    pub(super) replicator: Replicator,
    pub(super) table: Table,
    pub(super) serves: bool,
    /// Flows of which packets had passed before the last takeover, though the daemon stood by.
    pub(super) passed: BTreeSet<Tuple>,
    /// Flows that were put into the kernel since this was last looked at while the node served.
    pub(super) taken_up: Vec<Tuple>,
    /// When its kernel last told less than it should have.
    pub(super) lost_events_at: Option<Instant>,
    /// Nothing is done before.
    pub(super) stalled_until: Option<Instant>,
    socket: VecDeque<(Origin, Rc<[u8]>)>,
    waiting: usize,
    socket_limit: usize,
    reading: Reading,
    read_at: Option<Instant>,
    worked_at: Instant,
    /// Until when the timeouts of the kernel's table have run down.
    ran_down: Instant,
}

/// Where the reading of the kernel's table stands.
enum Reading {
    None,
    /// After this flow the next part begins.
    After(Option<Tuple>),
}

/// What a node has to send.
pub(super) type Sent = Vec<(Transmit, Rc<[u8]>)>;

impl Node {
    pub(super) fn new(config: Config, start: Start, limits: (usize, usize), now: Instant) -> Self {
        let (event_limit, socket_limit) = limits;
        Self {
            replicator: begin(config, start, now),
            table: Table::new(event_limit),
            serves: false,
            passed: BTreeSet::new(),
            taken_up: Vec::new(),
            lost_events_at: None,
            stalled_until: None,
            socket: VecDeque::new(),
            waiting: 0,
            socket_limit,
            reading: Reading::None,
            read_at: Some(now),
            worked_at: now,
            ran_down: now,
        }
    }

    /// The process starts again; its kernel goes on.
    pub(super) fn restart(&mut self, config: Config, start: Start, now: Instant) {
        self.replicator = begin(config, start, now);
        self.table.unheard();
        self.serves = false;
        self.socket.clear();
        self.waiting = 0;
        self.reading = Reading::None;
        self.read_at = Some(now);
        self.stalled_until = None;
    }

    /// A datagram arrives in the socket; `false` when that is full.
    pub(super) fn arrive(&mut self, origin: Origin, bytes: Rc<[u8]>) -> bool {
        // The kernel counts more than the payload.
        let cost = bytes.len() + 512;
        if self.waiting + cost > self.socket_limit {
            return false;
        }
        self.waiting += cost;
        self.socket.push_back((origin, bytes));
        true
    }

    pub(super) fn runs(&self, now: Instant) -> bool {
        self.stalled_until.is_none_or(|until| now >= until)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let own = self.replicator.next_deadline();
        let injection = self.replicator.next_injection(self.worked_at);
        // A batch takes its time.
        let injection = injection.map(|at| at.max(self.worked_at + BATCH_TIME));
        let earliest = own.into_iter().chain(self.read_at).chain(injection).min();
        match self.stalled_until {
            Some(until) => Some(earliest.map_or(until, |at| at.max(until))),
            None => earliest,
        }
    }

    /// The kernel's timeouts run down, in whole seconds.
    fn run_down(&mut self, now: Instant) {
        let seconds = now.duration_since(self.ran_down).as_secs();
        if seconds > 0 {
            self.table.pass_time(seconds as u32);
            self.ran_down += Duration::from_secs(seconds);
        }
    }

    /// One turn of the daemon's thread.
    pub(super) fn work(&mut self, now: Instant, sent: &mut Sent) {
        self.run_down(now);
        if !self.runs(now) {
            return;
        }
        self.stalled_until = None;
        self.worked_at = now;
        while let Some((origin, bytes)) = self.socket.pop_front() {
            self.replicator.handle_datagram(origin, &bytes, now);
        }
        self.waiting = 0;
        self.listen(now);
        if self.read_at.is_some_and(|at| now >= at) {
            self.read(now);
        }
        if self.replicator.next_deadline().is_some_and(|at| now >= at) {
            self.replicator.handle_timeout(now);
        }
        self.purge();
        self.inject(now);
        self.speak(now, sent);
        while let Some(event) = self.replicator.poll_event() {
            drop::<Event>(event);
        }
    }

    fn listen(&mut self, now: Instant) {
        while let Some(change) = self.table.next_event() {
            let event = KernelEvent { change: change.change, flow: &change.flow, own: change.own };
            self.replicator.handle_kernel_event(event, now);
        }
        if self.table.take_overrun() {
            self.lost_events_at = Some(now);
            self.replicator.events_lost(now);
            self.reading = Reading::None;
            self.read_at = Some(now + REDUMP);
        }
    }

    /// Reads a part of the table.
    fn read(&mut self, now: Instant) {
        let from = match self.reading {
            Reading::None => {
                self.replicator.begin_dump();
                None
            }
            Reading::After(from) => from,
        };
        let (flows, next) = self.table.read(from);
        for flow in &flows {
            self.replicator.dumped(flow, now);
        }
        if next.is_some() {
            self.reading = Reading::After(next);
            self.read_at = Some(now + PART_EVERY);
            return;
        }
        self.reading = Reading::None;
        let trusted = self.replicator.end_dump(now);
        self.read_at = (!trusted).then(|| now + REDUMP);
    }

    fn purge(&mut self) {
        let Some(mut purge) = self.replicator.begin_purge() else { return };
        let mut removed = 0;
        while let Some(flow) = purge.next(&self.replicator) {
            removed += u64::from(self.table.remove(&flow));
        }
        self.replicator.end_purge(removed);
    }

    /// What stands by goes into the kernel, as much as a turn's batch takes.
    fn inject(&mut self, now: Instant) {
        for _ in 0..BATCH {
            let Some(planned) = self.replicator.poll_injection(now) else { break };
            let mut injecting = Injecting { replicator: &mut self.replicator, now };
            let made = self.table.inject(&mut injecting, planned);
            if self.role() == Role::Active {
                self.taken_up.extend(made);
            }
        }
    }

    fn speak(&mut self, now: Instant, sent: &mut Sent) {
        let mut buffer = Vec::new();
        while let Some(transmit) = self.replicator.poll_transmit(now, &mut buffer) {
            sent.push((transmit, buffer.as_slice().into()));
        }
    }

    /// Traffic of this node's kernel, whatever its daemon does.
    pub(super) fn traffic(&mut self, number: u32, state: u8, mark: u32, nth: u64) -> Flow {
        if self.serves {
            self.table.traffic(number, state, mark, nth)
        } else {
            self.table.pass_by(number, state, mark, nth)
        }
    }

    /// Takes over: the peer's flows go into the kernel, then this node serves.
    pub(super) fn take_over(&mut self, now: Instant) {
        let mut commit = self.replicator.begin_commit();
        while let Some(planned) = commit.next(&self.replicator, now) {
            self.table.commit(&mut commit, planned);
        }
        self.replicator.end_commit(commit.report());
        self.serves = true;
        self.passed = self.table.take_passed();
        self.replicator.activate(now);
        self.reading = Reading::None;
        self.read_at = Some(now);
    }

    /// Stands by again. What its kernel has told until now was about flows that it served.
    pub(super) fn step_down(&mut self, now: Instant) {
        self.listen(now);
        self.serves = false;
        self.replicator.deactivate(now);
    }

    pub(super) fn link(&mut self, link: usize, state: LinkState, now: Instant) {
        self.replicator.link_changed(link, state, now);
    }

    pub(super) fn role(&self) -> Role {
        self.replicator.role()
    }
}

fn begin(config: Config, start: Start, now: Instant) -> Replicator {
    Replicator::new(config, start, now)
}
