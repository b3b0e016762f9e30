//! One node's kernel as its replicator sees it: the table, and the events that wait to be read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use lockstep_ctnetlink::{Flow, ProtocolState, Tuple};
use lockstep_replicator::{Change, Commit, Planned, is_parked};

use crate::kernel::{Injecting, Kernel, KernelChange, flow};

/// What one reading of a part of the table brings.
const PART: usize = 64;

/// A table whose changes are told until too many wait.
#[derive(Default)]
pub(super) struct Table {
    kernel: Kernel,
    events: VecDeque<KernelChange>,
    /// Events were lost since they were last read.
    overrun: bool,
    limit: usize,
    /// The kernel's number of the next flow.
    next_id: u32,
    /// Flows of which a packet has passed although the daemon that runs now stands by.
    passed: BTreeSet<Tuple>,
    /// What has become of the flows here.
    history: BTreeMap<Tuple, History>,
}

/// What has become of a flow in one kernel by itself, and not by what a daemon did: which of the
/// world's changes last made it, and which ended it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct History {
    pub(super) made_at: Option<u64>,
    pub(super) ended_at: Option<u64>,
}

/// What of a flow has to be the same on both sides.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Said {
    reply: Tuple,
    mark: u32,
    state: ProtocolState,
}

impl Said {
    pub(super) fn of(flow: &Flow) -> Self {
        let mut state = flow.protocol_state;
        if let ProtocolState::Tcp(tcp) = &mut state {
            // A commit makes the tracker liberal, which nobody is told.
            tcp.flags = None;
            tcp.window_scale = None;
        }
        Self { reply: flow.reply, mark: flow.mark.unwrap_or(0), state }
    }
}

impl Table {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    pub(super) fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.kernel.flows.values()
    }

    pub(super) fn len(&self) -> usize {
        self.kernel.flows.len()
    }

    /// The timeouts run down.
    pub(super) fn pass_time(&mut self, seconds: u32) {
        self.kernel.pass(seconds);
    }

    /// Traffic makes the flow of this number, or moves it on to another state.
    pub(super) fn traffic(&mut self, number: u32, state: u8, mark: u32, nth: u64) -> Flow {
        let mut made = flow(number, state);
        made.mark = Some(mark);
        let change = if let Some(known) = self.kernel.flows.get(&made.orig) {
            made.id = known.id;
            Change::Update
        } else {
            self.history.entry(made.orig).or_default().made_at = Some(nth);
            self.next_id += 1;
            made.id = Some(self.next_id);
            Change::New
        };
        self.kernel.put(made.clone());
        self.tell(KernelChange { change, flow: made.clone(), own: false });
        made
    }

    /// The same, although the daemon stands by.
    pub(super) fn pass_by(&mut self, number: u32, state: u8, mark: u32, nth: u64) -> Flow {
        let made = self.traffic(number, state, mark, nth);
        self.passed.insert(made.orig);
        made
    }

    /// What has become of a flow here.
    pub(super) fn history(&self, orig: &Tuple) -> History {
        self.history.get(orig).copied().unwrap_or_default()
    }

    /// The flow under this tuple.
    pub(super) fn get(&self, orig: &Tuple) -> Option<&Flow> {
        self.kernel.flows.get(orig)
    }

    /// Takes out what [`Table::pass_by`] has noted, as far as no daemon has replaced it since.
    pub(super) fn take_passed(&mut self) -> BTreeSet<Tuple> {
        std::mem::take(&mut self.passed)
    }

    /// The flow of this number has expired.
    pub(super) fn expire(&mut self, number: u32, nth: u64) -> Option<Flow> {
        let gone = self.kernel.remove(&flow(number, 0).orig)?;
        self.history.entry(gone.orig).or_default().ended_at = Some(nth);
        self.tell(KernelChange { change: Change::Delete, flow: gone.clone(), own: false });
        Some(gone)
    }

    /// A daemon's own removal.
    pub(super) fn remove(&mut self, flow: &Flow) -> bool {
        let same =
            self.kernel.flows.get(&flow.orig).is_some_and(|known| {
                flow.id.is_none_or(|id| known.id.is_none_or(|known| known == id))
            });
        if same && let Some(gone) = self.kernel.remove(&flow.orig) {
            self.tell(KernelChange { change: Change::Delete, flow: gone, own: true });
        }
        same
    }

    /// The machine was switched off.
    pub(super) fn forget(&mut self) {
        self.kernel.clear();
        self.events.clear();
        self.overrun = false;
    }

    /// A daemon has ended: nobody listens any more.
    pub(super) fn unheard(&mut self) {
        self.events.clear();
        self.passed.clear();
        self.overrun = false;
    }

    /// Does what a commit asks for one flow. Nobody listens meanwhile, as during a real one.
    pub(super) fn commit(&mut self, commit: &mut Commit, planned: Planned) {
        self.kernel.carry_out(commit, planned);
    }

    /// Does what a node asks for one flow beside any commit. Returns those that are new here.
    pub(super) fn inject(&mut self, injecting: &mut Injecting<'_>, planned: Planned) -> Vec<Tuple> {
        let changes = self.kernel.carry_out(injecting, planned);
        let made = changes.iter().filter(|change| change.change == Change::New);
        let made = made.map(|change| change.flow.orig).collect();
        for change in changes {
            self.tell(change);
        }
        made
    }

    /// Something else than the daemon removes a flow: a passive copy expires, or a person does it.
    pub(super) fn lose(&mut self, nth: usize) {
        let key = self.kernel.flows.keys().nth(nth).copied();
        if let Some(gone) = key.and_then(|key| self.kernel.remove(&key)) {
            self.tell(KernelChange { change: Change::Delete, flow: gone, own: false });
        }
    }

    /// What was this router's own expires on one that does not serve: no packet renews it.
    pub(super) fn expire_unrenewed(&mut self) {
        let own = |flow: &&Flow| !flow.timeout_s.is_some_and(is_parked);
        let keys: Vec<_> = self.kernel.flows.values().filter(own).map(|flow| flow.orig).collect();
        for gone in keys.iter().filter_map(|key| self.kernel.remove(key)).collect::<Vec<_>>() {
            self.tell(KernelChange { change: Change::Delete, flow: gone, own: false });
        }
    }

    fn tell(&mut self, change: KernelChange) {
        if change.own || change.change == Change::Delete {
            self.passed.remove(&change.flow.orig);
        }
        if self.events.len() >= self.limit {
            self.overrun = true;
        } else {
            self.events.push_back(change);
        }
    }

    /// The next event.
    pub(super) fn next_event(&mut self) -> Option<KernelChange> {
        self.events.pop_front()
    }

    /// Whether events were lost since this was last asked.
    pub(super) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.overrun)
    }

    /// A part of the table, and where the next one begins.
    pub(super) fn read(&self, from: Option<Tuple>) -> (Vec<Flow>, Option<Tuple>) {
        let from = from.map_or(Bound::Unbounded, Bound::Excluded);
        let part: Vec<_> = self.kernel.flows.range((from, Bound::Unbounded)).take(PART).collect();
        let next = (part.len() == PART).then(|| part.last().map(|(key, _)| **key)).flatten();
        (part.into_iter().map(|(_, flow)| flow.clone()).collect(), next)
    }
}
