//! A flow as a cache keeps it: what every flow has in place, what few have behind one pointer.
//!
//! Both families take the same room. An IPv4 flow keeps its reply addresses where an IPv6 flow has
//! the rest of its own, so that translation costs IPv4 nothing. IPv6 flows that are translated keep
//! their reply tuple with what is rare.

use lockstep_ctnetlink::{
    Flow, HelperName, ProtocolState, SequenceAdjustment, Status, Synproxy, TcpState, Tuple,
};

use crate::key::{Key, Shape, pack_l4, read_v4, unpack_l4, write_v4};

/// A [`Flow`] in 80 bytes.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// IPv4: source, destination, and source and destination of the answers. IPv6: source,
    /// destination; the answers have them the other way round.
    addresses: [u32; 8],
    l4: u32,
    reply_l4: u32,
    status: Status,
    timeout_s: u32,
    mark: u32,
    id: u32,
    rare: Option<Box<Rare>>,
    zone: u16,
    known: Known,
    protocol: u8,
    shape: Shape,
    tracker: Tracker,
}

/// What the protocol's tracker holds, in bytes without alignment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tracker {
    None,
    Tcp { state: u8, window_scale: [u8; 2], flags: [u8; 2] },
    Sctp { state: u8, vtag_orig: [u8; 4], vtag_reply: [u8; 4] },
    Dccp { state: u8, role: u8, handshake_sequence: [u8; 8] },
}

/// Which of the fields in place have been told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Known(u8);

impl Known {
    const TIMEOUT: u8 = 1;
    const MARK: u8 = 2;
    const ID: u8 = 4;
    const WINDOW_SCALE: u8 = 8;
    const TCP_FLAGS: u8 = 16;

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    fn set(&mut self, bit: u8, known: bool) {
        self.0 = if known { self.0 | bit } else { self.0 & !bit };
    }
}

/// What only flows with helpers, labels or SYNPROXY have, and translated ones of IPv6.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Rare {
    /// The reply tuple, when there is no room for it in place.
    reply: Option<Tuple>,
    master: Option<Tuple>,
    helper: Option<HelperName>,
    labels: Option<[u32; 4]>,
    sequence_adjustment: Option<[SequenceAdjustment; 2]>,
    synproxy: Option<Synproxy>,
}

impl Stored {
    /// By what a cache finds its entries.
    pub(crate) fn key(&self) -> Key {
        let mut addresses = self.addresses;
        if !self.shape.is_v6() {
            addresses[2..].fill(0);
        }
        let Self { l4, zone, protocol, shape, .. } = *self;
        Key { addresses, l4, zone, protocol, shape }
    }

    /// Whether the flow's key is this one.
    pub(crate) fn is(&self, key: &Key) -> bool {
        let words = if self.shape.is_v6() { 8 } else { 2 };
        self.l4 == key.l4
            && self.addresses[..words] == key.addresses[..words]
            && (self.zone, self.protocol, self.shape) == (key.zone, key.protocol, key.shape)
    }

    pub(crate) fn orig(&self) -> Tuple {
        self.key().orig()
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    pub(crate) fn timeout_s(&self) -> Option<u32> {
        self.known.has(Known::TIMEOUT).then_some(self.timeout_s)
    }

    pub(crate) fn mark(&self) -> Option<u32> {
        self.known.has(Known::MARK).then_some(self.mark)
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.known.has(Known::ID).then_some(self.id)
    }

    pub(crate) fn reply(&self) -> Tuple {
        if let Some(reply) = self.rare.as_ref().and_then(|rare| rare.reply) {
            return reply;
        }
        let orig = self.orig();
        let (source, destination) = if self.shape.is_v6() {
            (orig.destination, orig.source)
        } else {
            (read_v4(self.addresses[2]), read_v4(self.addresses[3]))
        };
        let l4 = unpack_l4(self.shape.kind(), self.reply_l4);
        Tuple { source, destination, protocol: self.protocol, l4 }
    }

    pub(crate) fn has_master(&self) -> bool {
        self.master().is_some()
    }

    pub(crate) fn master(&self) -> Option<&Tuple> {
        self.rare.as_ref()?.master.as_ref()
    }

    /// The key of the flow that this one was expected by. A master is in the same zone.
    pub(crate) fn master_key(&self) -> Option<Key> {
        Some(Key::new(self.master()?, self.zone, self.key().direction()))
    }

    pub(crate) fn has_helper(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.helper.is_some())
    }

    /// What the tracker of its protocol holds.
    pub(crate) fn protocol_state(&self) -> ProtocolState {
        match self.tracker {
            Tracker::None => ProtocolState::None,
            Tracker::Tcp { state, window_scale, flags } => ProtocolState::Tcp(TcpState {
                state,
                window_scale: self.known.has(Known::WINDOW_SCALE).then_some(window_scale),
                flags: self.known.has(Known::TCP_FLAGS).then_some(flags),
            }),
            Tracker::Sctp { state, vtag_orig, vtag_reply } => ProtocolState::Sctp {
                state,
                vtag_orig: u32::from_le_bytes(vtag_orig),
                vtag_reply: u32::from_le_bytes(vtag_reply),
            },
            Tracker::Dccp { state, role, handshake_sequence } => ProtocolState::Dccp {
                state,
                role,
                handshake_sequence: u64::from_le_bytes(handshake_sequence),
            },
        }
    }

    /// The flow, written out.
    pub(crate) fn flow(&self) -> Flow {
        let key = self.key();
        let mut flow = Flow::new(key.orig(), self.reply());
        flow.zone = self.zone;
        flow.zone_direction = key.direction();
        flow.status = self.status;
        flow.timeout_s = self.timeout_s();
        flow.mark = self.mark();
        flow.id = self.id();
        flow.protocol_state = self.protocol_state();
        if let Some(rare) = &self.rare {
            flow.master = rare.master;
            flow.helper = rare.helper;
            flow.labels = rare.labels;
            flow.sequence_adjustment = rare.sequence_adjustment;
            flow.synproxy = rare.synproxy;
        }
        flow
    }

    /// Takes over what `newer` says and keeps what it does not mention. The tuples and the status
    /// are always said. Returns whether that changes anything that a peer is told, the timeout
    /// aside.
    pub(crate) fn merge(&mut self, newer: &Flow) -> bool {
        debug_assert!(self.is(&Key::of(newer)));
        let mut changed = self.set_reply(&newer.reply);
        changed |= self.status != newer.status;
        self.status = newer.status;
        if let Some(timeout_s) = newer.timeout_s {
            self.set_timeout(Some(timeout_s));
        }
        if let Some(mark) = newer.mark {
            changed |= self.mark().unwrap_or(0) != mark;
            self.set_mark(Some(mark));
        }
        if let Some(id) = newer.id {
            self.set_id(Some(id));
        }
        let before = self.protocol_state();
        let now = merge_state(before, newer.protocol_state);
        if now != before {
            changed = true;
            self.set_protocol_state(now);
        }
        changed | self.merge_rare(newer)
    }

    /// The same for a flow that is told whole, as in a reading of the kernel's table, which leaves
    /// out a mark and labels of 0 and adjustments that are not there.
    pub(crate) fn merge_whole(&mut self, newer: &Flow) -> bool {
        let known = self.rare.as_deref();
        let labels = known.and_then(|rare| rare.labels);
        let adjustment = known.and_then(|rare| rare.sequence_adjustment);
        let synproxy = known.and_then(|rare| rare.synproxy);
        let mark = self.mark();
        if (newer.labels.is_some() || labels.is_none())
            && (newer.sequence_adjustment.is_some() || adjustment.is_none())
            && (newer.synproxy.is_some() || synproxy.is_none())
            && (newer.mark.is_some() || mark.is_none())
        {
            return self.merge(newer);
        }
        let mut whole = newer.clone();
        whole.labels = newer.labels.or(labels.map(|_| [0; 4]));
        whole.sequence_adjustment =
            newer.sequence_adjustment.or(adjustment.map(|_| Default::default()));
        whole.synproxy = newer.synproxy.or(synproxy.map(|_| Synproxy::default()));
        whole.mark = newer.mark.or(mark.map(|_| 0));
        self.merge(&whole)
    }

    fn merge_rare(&mut self, newer: &Flow) -> bool {
        let said = Rare::of(newer, self.labels().is_some());
        let clears = newer.sequence_adjustment.is_some() || newer.synproxy.is_some();
        if said == Rare::default() && !(clears && self.rare.is_some()) {
            return false;
        }
        let rare = self.rare.get_or_insert_default();
        let mut changed = take_over(&mut rare.master, said.master);
        changed |= take_over(&mut rare.helper, said.helper);
        changed |= take_over(&mut rare.labels, said.labels);
        if newer.sequence_adjustment.is_some() {
            changed |= rare.sequence_adjustment != said.sequence_adjustment;
            rare.sequence_adjustment = said.sequence_adjustment;
        }
        if newer.synproxy.is_some() {
            changed |= rare.synproxy != said.synproxy;
            rare.synproxy = said.synproxy;
        }
        self.drop_empty_rare();
        changed
    }

    /// Whether the kernel numbers `flow` differently: it has been made anew with the same tuple.
    pub(crate) fn is_another_than(&self, flow: &Flow) -> bool {
        flow.id.is_some_and(|id| self.id().is_some_and(|known| known != id))
    }

    /// Whether a peer would be told the same of both, the timeout aside.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        let Self { addresses, l4, reply_l4, status, mark, rare, zone, .. } = self;
        (*addresses, *l4, *reply_l4) == (other.addresses, other.l4, other.reply_l4)
            && (*status, *mark, *zone) == (other.status, other.mark, other.zone)
            && *rare == other.rare
            && self.tracker == other.tracker
    }

    fn labels(&self) -> Option<[u32; 4]> {
        self.rare.as_ref()?.labels
    }

    fn set_timeout(&mut self, timeout_s: Option<u32>) {
        self.known.set(Known::TIMEOUT, timeout_s.is_some());
        self.timeout_s = timeout_s.unwrap_or(0);
    }

    fn set_mark(&mut self, mark: Option<u32>) {
        self.known.set(Known::MARK, mark.is_some());
        self.mark = mark.unwrap_or(0);
    }

    fn set_id(&mut self, id: Option<u32>) {
        self.known.set(Known::ID, id.is_some());
        self.id = id.unwrap_or(0);
    }

    /// Returns whether it was another before.
    fn set_reply(&mut self, reply: &Tuple) -> bool {
        if self.fits_in_place(reply) {
            let (_, l4) = pack_l4(reply.l4);
            let mut addresses = self.addresses;
            if !self.shape.is_v6() {
                write_v4(reply, &mut addresses[2..4]);
            }
            let elsewhere = self.rare.as_mut().and_then(|rare| rare.reply.take()).is_some();
            if elsewhere {
                self.drop_empty_rare();
            }
            let changed = elsewhere || l4 != self.reply_l4 || addresses != self.addresses;
            self.reply_l4 = l4;
            self.addresses = addresses;
            return changed;
        }
        let rare = self.rare.get_or_insert_default();
        rare.reply.replace(*reply) != Some(*reply)
    }

    fn fits_in_place(&self, reply: &Tuple) -> bool {
        let (kind, _) = pack_l4(reply.l4);
        if kind != self.shape.kind() || reply.protocol != self.protocol {
            return false;
        }
        if self.shape.is_v6() {
            let orig = self.orig();
            return (reply.source, reply.destination) == (orig.destination, orig.source);
        }
        reply.source.is_ipv4() && reply.destination.is_ipv4()
    }

    fn set_protocol_state(&mut self, state: ProtocolState) {
        self.known.set(Known::WINDOW_SCALE, false);
        self.known.set(Known::TCP_FLAGS, false);
        self.tracker = match state {
            ProtocolState::None => Tracker::None,
            ProtocolState::Tcp(TcpState { state, window_scale, flags }) => {
                self.known.set(Known::WINDOW_SCALE, window_scale.is_some());
                self.known.set(Known::TCP_FLAGS, flags.is_some());
                let (window_scale, flags) =
                    (window_scale.unwrap_or_default(), flags.unwrap_or_default());
                Tracker::Tcp { state, window_scale, flags }
            }
            ProtocolState::Sctp { state, vtag_orig, vtag_reply } => Tracker::Sctp {
                state,
                vtag_orig: vtag_orig.to_le_bytes(),
                vtag_reply: vtag_reply.to_le_bytes(),
            },
            ProtocolState::Dccp { state, role, handshake_sequence } => {
                Tracker::Dccp { state, role, handshake_sequence: handshake_sequence.to_le_bytes() }
            }
        };
    }

    fn drop_empty_rare(&mut self) {
        if self.rare.as_deref().is_some_and(|rare| *rare == Rare::default()) {
            self.rare = None;
        }
    }
}

impl From<&Flow> for Stored {
    fn from(flow: &Flow) -> Self {
        let Key { addresses, l4, zone, protocol, shape } = Key::of(flow);
        let rare = Rare::of(flow, false);
        let mut stored = Self {
            addresses,
            l4,
            reply_l4: 0,
            status: flow.status,
            timeout_s: 0,
            mark: 0,
            id: 0,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
            zone,
            known: Known(0),
            protocol,
            shape,
            tracker: Tracker::None,
        };
        stored.set_reply(&flow.reply);
        stored.set_timeout(flow.timeout_s);
        stored.set_mark(flow.mark);
        stored.set_id(flow.id);
        stored.set_protocol_state(flow.protocol_state);
        stored
    }
}

impl Rare {
    /// What means nothing is left out. Zero labels mean something over known ones: a clearing,
    /// which the peer has to be told.
    fn of(flow: &Flow, zero_labels: bool) -> Self {
        Self {
            reply: None,
            master: flow.master,
            helper: flow.helper,
            labels: flow.labels.filter(|labels| zero_labels || *labels != [0; 4]),
            sequence_adjustment: flow
                .sequence_adjustment
                .filter(|both| *both != [SequenceAdjustment::default(); 2]),
            synproxy: flow.synproxy.filter(|synproxy| *synproxy != Synproxy::default()),
        }
    }
}

/// Overwrites what is there when something new is said; returns whether it was another.
fn take_over<T: Copy + PartialEq>(place: &mut Option<T>, said: Option<T>) -> bool {
    let changed = said.is_some() && *place != said;
    if said.is_some() {
        *place = said;
    }
    changed
}

/// The newer state; window scale and flags that it does not mention stay.
fn merge_state(older: ProtocolState, newer: ProtocolState) -> ProtocolState {
    match (older, newer) {
        (_, ProtocolState::None) => older,
        (ProtocolState::Tcp(before), ProtocolState::Tcp(mut now)) => {
            now.window_scale = now.window_scale.or(before.window_scale);
            now.flags = now.flags.or(before.flags);
            ProtocolState::Tcp(now)
        }
        (_, newer) => newer,
    }
}

#[cfg(test)]
mod tests;
