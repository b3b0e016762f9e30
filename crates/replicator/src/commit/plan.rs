//! What is asked of the kernel for one flow, and what follows from its refusals.

use lockstep_ctnetlink::{Flow, Key, ProtocolState, Status, TcpState, ZoneDirection};

use super::left_over::{LeftOver, is_refreshed};
use super::report::named;
use super::{CommitReport, EAGAIN, EBUSY, EEXIST, EINVAL, ENOBUFS, ENOENT, ENOMEM, EOPNOTSUPP};
use crate::table::Slot;

/// Most attempts for one flow.
const MAX_ATTEMPTS: u8 = 5;

/// The kernel's number of the state of an established TCP connection.
const TCP_ESTABLISHED: u8 = 3;

/// A flow that lacks less than this part of the time it should have is left as it is.
const NEARLY: u32 = 10;

/// What to do with one flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Planned {
    /// What.
    pub action: Action,
    /// The flow as it is to be in the kernel, with its timeout.
    pub flow: Flow,
    attempts: u8,
    /// Where the cache has it; `None` for a flow that has left the cache.
    pub(crate) slot: Option<Slot>,
    /// To be removed because only this router's kernel still has it, and no packet has passed.
    pub(super) left_over: Option<LeftOver>,
    /// Set where this router serves while it is done.
    beside: Option<BesideOwn>,
}

/// The kernel may have a flow under the same tuple that lives here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct BesideOwn {
    /// What is there already stays as it is.
    only_new: bool,
    /// Of one that was there and that no event has touched since.
    untouched: Option<Untouched>,
}

/// What is known of a flow that no event has touched for a while.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Untouched {
    /// The longest that it had left to live then, where that is known.
    pub(super) timeout_s: Option<u32>,
    /// Seconds since.
    pub(super) age_s: u32,
}

impl BesideOwn {
    /// Whether what the kernel has can be given up for another flow of the same tuple: no packet has
    /// set its timeout again.
    fn is_idle(self, existing: &Flow) -> bool {
        let idle = |it: Untouched| !is_refreshed(it.timeout_s, existing.timeout_s, it.age_s);
        self.untouched.is_some_and(idle)
    }
}

/// What is asked of the kernel for one flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Create it. What is known to be there in the same state is created as well: the kernel's
    /// refusal costs little, and what it has is newer than what is known of it.
    Create,
    /// Bring the existing flow up to date. Translation, helper and master stay as they are.
    Update,
    /// Delete the existing flow of the same tuple, then create this one: another translation.
    Replace,
    /// Delete it, if the kernel has it with the identifier that is said, or if none is.
    Delete,
    /// Give the existing flow this timeout and nothing else: packets may be changing the rest.
    SetTimeout,
    /// Have the existing TCP flow accept what its windows do not say, and nothing else: they may be
    /// old, and packets may be changing the rest.
    BeLiberal,
}

/// What follows from a refusal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Retry {
    /// Try this instead.
    With(Planned),
    /// Ask the kernel for the flow of the same original tuple and zone, or if there is none for
    /// the one that has [`Planned::reply_key`], and give it to the `compare` beside `refused`.
    Look(Planned),
    /// Nothing more can be done; the refusal has been counted, unless there was nothing to do.
    GiveUp,
}

/// What a refusal means.
#[expect(clippy::large_enum_variant, reason = "lives for a moment, one at a time")]
pub(crate) enum Refusal {
    /// Try that.
    Retry(Retry),
    /// There was nothing to do.
    Needless,
    /// It may be accepted later.
    Later,
    /// It will not be.
    Final,
}

/// What follows from looking at what the kernel has.
pub(crate) enum Compared {
    /// Do this.
    Do(Planned),
    /// The kernel has the same already.
    Same,
    /// The kernel has the same, and would drop it sooner.
    Sooner {
        /// What would bring it up to date.
        planned: Planned,
        /// Seconds that it has there.
        left_s: u32,
    },
    /// Another flow has one of its tuples; says which.
    Clash(String),
}

impl Planned {
    pub(crate) fn new(action: Action, flow: Flow, slot: Option<Slot>) -> Self {
        Self { action, flow, attempts: 0, slot, left_over: None, beside: None }
    }

    /// To be created unless the kernel has it; what it has is never set back.
    pub(super) fn beside_own(flow: Flow, slot: Slot, untouched: Option<Untouched>) -> Self {
        let beside = Some(BesideOwn { only_new: false, untouched });
        Self { beside, ..Self::new(Action::Create, flow, Some(slot)) }
    }

    /// To be created unless the kernel has it; what it has stays as it is.
    pub(crate) fn only_new(flow: Flow) -> Self {
        let beside = Some(BesideOwn { only_new: true, untouched: None });
        Self { beside, ..Self::new(Action::Create, flow, None) }
    }

    /// What the kernel has is to accept packets outside its windows.
    pub(crate) fn liberal(flow: Flow) -> Self {
        Self { action: Action::BeLiberal, ..Self::only_new(flow) }
    }

    /// Whether this router serves while it is done.
    pub(crate) fn is_beside_own(&self) -> bool {
        self.beside.is_some()
    }

    /// Whether the kernel is to be asked for the flow before anything is done, and what it has
    /// given to the `compare` beside `refused`, which says what is to be done then, if anything.
    pub fn is_looked_for_first(&self) -> bool {
        self.left_over.is_some()
    }

    /// By what a flow that has the planned one's reply tuple is found.
    pub fn reply_key(&self) -> Key {
        let Flow { reply, zone, zone_direction, .. } = self.flow;
        // The zone of a direction goes with its tuple.
        let (zone, zone_direction) = match zone_direction {
            ZoneDirection::Both => (zone, ZoneDirection::Both),
            ZoneDirection::Orig => (0, ZoneDirection::Both),
            ZoneDirection::Reply => (zone, ZoneDirection::Orig),
        };
        Key { orig: reply, zone, zone_direction }
    }

    /// What a refusal with `errno` means. What is given up for the next attempt is counted.
    pub(crate) fn refused(mut self, errno: i32, report: &mut CommitReport) -> (Self, Refusal) {
        self.attempts += 1;
        match (self.action, errno) {
            // It has ended here as well.
            (Action::Delete | Action::SetTimeout | Action::BeLiberal, ENOENT) => {
                return (self, Refusal::Needless);
            }
            (_, ENOMEM | ENOBUFS | EAGAIN) => return (self, Refusal::Later),
            _ => {}
        }
        if self.attempts >= MAX_ATTEMPTS {
            return (self, Refusal::Final);
        }
        let retry = match (self.action, errno) {
            (Action::Create | Action::Replace, EEXIST) => Retry::Look(self.clone()),
            (Action::Update, ENOENT) => self.again(Action::Create),
            // What it has seen of the flow is more than was said: that has to be said again.
            (Action::Update, EBUSY) if self.attempts == 1 => Retry::Look(self.clone()),
            // To make it anew could end a connection that passes here.
            (Action::Update, EBUSY | EOPNOTSUPP | EINVAL) if self.beside.is_some() => {
                return (self, Refusal::Final);
            }
            (Action::Update, EBUSY | EOPNOTSUPP | EINVAL) => self.again(Action::Replace),
            // A helper this kernel does not have, or a master that is gone: the flow alone is
            // worth more than nothing.
            (Action::Create | Action::Replace, EOPNOTSUPP) if self.flow.helper.is_some() => {
                report.without_helper += 1;
                self.flow.helper = None;
                self.again(Action::Create)
            }
            (Action::Create | Action::Replace, ENOENT | EOPNOTSUPP)
                if self.flow.master.is_some() =>
            {
                report.without_master += 1;
                self.flow.master = None;
                self.again(Action::Create)
            }
            _ => return (self, Refusal::Final),
        };
        (self, Refusal::Retry(retry))
    }

    /// Decides between what is planned and what the kernel has under its original tuple, or else
    /// under its reply tuple.
    pub(crate) fn compare(mut self, existing: Option<&Flow>) -> Compared {
        let Some(existing) = existing else {
            return Compared::Clash("another flow has its translated addresses".to_owned());
        };
        if existing.orig != self.flow.orig {
            return Compared::Clash(format!("the kernel has {} instead", named(existing)));
        }
        if existing.reply != self.flow.reply {
            if self.beside.is_some_and(|beside| !beside.is_idle(existing)) {
                return Compared::Clash(format!("{} lives here", named(existing)));
            }
            self.action = Action::Replace;
            return Compared::Do(self);
        }
        if self.beside.is_some_and(|beside| beside.only_new) {
            return Compared::Same;
        }
        if self.beside.is_some() {
            self.spare(existing);
        }
        let same = says_as_much(existing, &self.flow);
        if same && existing.timeout_s >= self.flow.timeout_s {
            return Compared::Same;
        }
        self.action = Action::Update;
        self.flow.status = update_status(existing.status, self.flow.status);
        if same {
            let left_s = existing.timeout_s.unwrap_or_default();
            return Compared::Sooner { planned: self, left_s };
        }
        Compared::Do(self)
    }

    /// Takes over what must not be lost of a flow that may live here: that its connection stands, and
    /// the time it has.
    fn spare(&mut self, existing: &Flow) {
        let stands = |state: ProtocolState| match state {
            ProtocolState::Tcp(tcp) => tcp.state == TCP_ESTABLISHED,
            ProtocolState::None | ProtocolState::Sctp { .. } | ProtocolState::Dccp { .. } => false,
        };
        if stands(existing.protocol_state) && !stands(self.flow.protocol_state) {
            self.flow.protocol_state = existing.protocol_state;
            be_liberal(&mut self.flow);
        }
        self.flow.timeout_s = self.flow.timeout_s.max(existing.timeout_s);
    }

    /// What is left of it when the kernel has the same for `left_s` more seconds.
    pub(crate) fn for_longer_than(mut self, left_s: u32) -> Option<Self> {
        let wanted_s = self.flow.timeout_s.unwrap_or_default();
        // What a commit has set runs down, and is nearly as good a moment later. What packets do
        // not refresh goes by the clock in both kernels.
        let enough = left_s.saturating_add(wanted_s / NEARLY + 1) >= wanted_s;
        if enough || self.flow.status.contains(Status::FIXED_TIMEOUT) {
            return None;
        }
        self.action = Action::SetTimeout;
        Some(self)
    }

    fn again(&self, action: Action) -> Retry {
        Retry::With(Self { action, ..self.clone() })
    }
}

/// Whether an update with `wanted` would change nothing but how long the flow lives.
pub(super) fn says_as_much(existing: &Flow, wanted: &Flow) -> bool {
    let said = wanted.status.0 & (Status::SEEN_REPLY | Status::ASSURED);
    existing.status.contains(said)
        && wanted.mark.is_none_or(|mark| existing.mark.unwrap_or(0) == mark)
        && same_state(existing.protocol_state, wanted.protocol_state)
        && wanted.labels.is_none_or(|labels| existing.labels.unwrap_or_default() == labels)
        && (wanted.sequence_adjustment.is_none()
            || existing.sequence_adjustment == wanted.sequence_adjustment)
        && (wanted.synproxy.is_none() || existing.synproxy == wanted.synproxy)
}

fn same_state(existing: ProtocolState, wanted: ProtocolState) -> bool {
    match (existing, wanted) {
        (_, ProtocolState::None) => true,
        // The scale is not told by every peer. An entry that is not liberal may be as old as its
        // windows, which nobody can see: the next packets would be invalid to it.
        (ProtocolState::Tcp(existing), ProtocolState::Tcp(wanted)) => {
            let liberal = |flags: [u8; 2]| flags.iter().all(|it| it & TcpState::BE_LIBERAL != 0);
            existing.flags.is_some_and(liberal)
                && existing.state == wanted.state
                && wanted.window_scale.is_none_or(|scale| existing.window_scale == Some(scale))
        }
        (existing, wanted) => existing == wanted,
    }
}

/// The bits a flow may be created with. The kernel sets the translation bits itself, and takes
/// EXPECTED from the master.
pub(crate) fn create_status(status: Status) -> Status {
    const KEPT: u32 = Status::SEEN_REPLY
        | Status::ASSURED
        | Status::SRC_NAT
        | Status::DST_NAT
        | Status::SRC_NAT_DONE
        | Status::DST_NAT_DONE
        | Status::SEQ_ADJUST
        | Status::FIXED_TIMEOUT;
    Status(status.0 & KEPT | Status::CONFIRMED)
}

/// The bits for an existing flow: the kernel refuses to take any of these away.
pub(crate) fn update_status(existing: Status, wanted: Status) -> Status {
    Status(existing.0 | wanted.0 & (Status::SEEN_REPLY | Status::ASSURED))
}

/// Without the window data of the old master the tracker would take the next packets for invalid.
/// TCP only: the same bytes mean other things for other protocols. A peer that tells window scales
/// without flags means that they were agreed on, and the kernel takes them only with that flag.
pub(crate) fn be_liberal(flow: &mut Flow) {
    if let ProtocolState::Tcp(tcp) = &mut flow.protocol_state {
        let agreed = if tcp.window_scale.is_some() { TcpState::WINDOW_SCALE } else { 0 };
        let flags = tcp.flags.unwrap_or([agreed; 2]);
        tcp.flags = Some(flags.map(|flags| flags | TcpState::BE_LIBERAL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(flags: Option<[u8; 2]>) -> ProtocolState {
        ProtocolState::Tcp(TcpState { state: 3, window_scale: None, flags })
    }

    #[test]
    fn an_entry_whose_windows_may_be_old_is_not_the_same_until_it_is_liberal() {
        let wanted = tcp(Some([TcpState::BE_LIBERAL; 2]));
        assert!(same_state(wanted, wanted));
        for old in [None, Some([0; 2]), Some([TcpState::BE_LIBERAL, 0])] {
            assert!(!same_state(tcp(old), wanted), "{old:?}");
        }
    }
}
