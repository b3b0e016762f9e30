//! Standing by in the kernel: what is put there, and how a takeover makes it this router's own
//! (`docs/decisions/0009-two-ways-of-standing-by.md`).
//!
//! A backup hands out what its injection has waiting. An active router hands out the flows whose
//! timeout is still a parked one, as the reading of the kernel's table finds them, and then gives
//! the memory of what the peers had told back, a part at a time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use lockstep_ctnetlink::{Flow, Status};

use super::{KernelEvent, Replicator};
use crate::commit::{
    Action, CommitReport, Compared, EEXIST, Planned, Refusal, Retry, plan_deletion, plan_flow,
};
use crate::config::Standby;
use crate::event::Role;
use crate::external::Remote;
use crate::key::Key;
use crate::standby::Next;
use crate::table::{Slot, Table};
use crate::timeout::{self, PARKED_S, is_parked};
use crate::wire::Change;

/// The flows that were put into the kernel while this router was backup, on their way to be its own.
#[derive(Default)]
pub(super) struct Takeover {
    /// What the peers had told.
    told: Option<Table<Remote>>,
    /// Whether all of the kernel's table has been read since: nobody asks for `told` any more.
    read: bool,
    /// Flows of the internal cache that were found parked, and the timeout they are to get.
    parked: VecDeque<(Slot, u32)>,
}

/// What stands by in the kernel, for `status`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct InjectionState {
    /// Flows in the kernel that this router does not serve.
    pub in_kernel: usize,
    /// Flows that wait to be put in, taken out, or (after a takeover) to get a timeout of their own.
    pub waiting: usize,
    /// Flows that the kernel does not take.
    pub refused: usize,
    /// What has been done since the start.
    pub report: CommitReport,
}

impl Replicator {
    // ---- what is to be done ----

    /// The next change of the kernel's table that is due beside any commit: while this router stands
    /// by in its kernel, the flows that the peers tell; after a takeover, their timeouts. To be
    /// carried out in the order in which they come, and each answered with
    /// [`Replicator::injected`] or [`Replicator::injection_refused`].
    pub fn poll_injection(&mut self, now: Instant) -> Option<Planned> {
        match self.role {
            Role::Backup => self.next_for_standby(now),
            Role::Active => self
                .next_to_take_up(now)
                .or_else(|| self.next_to_inherit(now))
                .or_else(|| self.next_stray())
                .or_else(|| self.next_to_unpark()),
        }
    }

    /// When [`Replicator::poll_injection`] has something to give; valid until the next call of
    /// anything else.
    pub fn next_injection(&self, now: Instant) -> Option<Instant> {
        match self.role {
            Role::Backup => self.external.injection.next_at(self.external.table.slots(), now),
            Role::Active => {
                let takeover = &self.takeover;
                let tidy = takeover.read && takeover.told.is_some();
                let beside = self.uptake.has_more()
                    || self.has_inheritance()
                    || self.uptake.strays.are_looked_for();
                (tidy || beside || !takeover.parked.is_empty()).then_some(now)
            }
        }
    }

    /// The kernel did what was planned.
    pub fn injected(&mut self, planned: &Planned) {
        if planned.is_beside_own() {
            return self.taken_up(planned);
        }
        self.external.injection.report.count(planned.action);
        let puts = matches!(planned.action, Action::Create | Action::Update | Action::Replace);
        if puts && self.role == Role::Backup {
            // It is the peer's from now on, not this router's.
            let learned = self.internal.destroy(&planned.flow, true, &mut self.counters);
            self.tell(learned);
        }
    }

    /// The kernel refused with `errno`, in its own words `reason`.
    pub fn injection_refused(
        &mut self,
        planned: Planned,
        errno: i32,
        reason: &str,
        now: Instant,
    ) -> Retry {
        if planned.is_beside_own() {
            return self.uptake_refused(planned, errno, reason);
        }
        let slot = self.slot_of(&planned);
        let (planned, refusal) = planned.refused(errno, &mut self.external.injection.report);
        let injection = &mut self.external.injection;
        match (refusal, slot) {
            (Refusal::Needless, Some(slot)) if planned.action == Action::SetTimeout => {
                injection.lose(slot);
            }
            (Refusal::Needless, _) => {}
            (Refusal::Retry(retry), Some(_)) => return retry,
            (Refusal::Later, Some(slot)) => {
                injection.report.refuse_flow(&planned.flow, errno, reason);
                injection.later(slot, now);
            }
            // Whoever set a timeout that nothing may change wants it so.
            (Refusal::Final, _) if planned.action == Action::SetTimeout => {}
            (Refusal::Final, Some(slot)) => {
                injection.report.refuse_flow(&planned.flow, errno, reason);
                injection.refuse(slot);
            }
            // It has left the cache meanwhile.
            (Refusal::Retry(_) | Refusal::Later | Refusal::Final, None) => {}
        }
        Retry::GiveUp
    }

    /// Decides between what is planned and what the kernel has under its original tuple, or else
    /// under its reply tuple.
    pub fn compare_injection(
        &mut self,
        planned: Planned,
        existing: Option<&Flow>,
    ) -> Option<Planned> {
        if planned.is_beside_own() {
            return self.compare_uptake(planned, existing);
        }
        let slot = self.slot_of(&planned)?;
        let flow = planned.flow.clone();
        match planned.compare(existing) {
            Compared::Do(planned) | Compared::Sooner { planned, .. } => Some(planned),
            Compared::Same => {
                self.external.injection.report.unchanged += 1;
                None
            }
            Compared::Clash(reason) => {
                let injection = &mut self.external.injection;
                injection.report.refuse_flow(&flow, EEXIST, &reason);
                injection.refuse(slot);
                None
            }
        }
    }

    /// How the injection stands.
    pub fn injection(&self) -> InjectionState {
        let injection = &self.external.injection;
        InjectionState {
            in_kernel: injection.in_kernel(),
            waiting: injection.len() + self.takeover.parked.len(),
            refused: injection.refused(),
            report: injection.report.clone(),
        }
    }

    fn next_for_standby(&mut self, now: Instant) -> Option<Planned> {
        loop {
            let slots = self.external.table.slots();
            let planned = match self.external.injection.next(slots, now)? {
                Next::Remove(key, heard_s) => plan_deletion(self, &key, heard_s),
                Next::Put(slot) => self.plan_injection(slot, now),
                Next::Park(slot) => self.plan_parking(slot),
            };
            if planned.is_some() {
                return planned;
            }
        }
    }

    fn plan_injection(&mut self, slot: Slot, now: Instant) -> Option<Planned> {
        self.external.table.get(slot)?;
        let has = self.external.injection.has(slot);
        let Some(mut planned) = plan_flow(self, slot, has, now) else {
            self.external.injection.report.unchanged += 1;
            return None;
        };
        self.external.injection.hand_out(slot);
        park(&mut planned.flow);
        Some(planned)
    }

    fn plan_parking(&mut self, slot: Slot) -> Option<Planned> {
        let mut flow = self.external.table.get(slot)?.stored.flow();
        park(&mut flow);
        let parks = flow.timeout_s == Some(PARKED_S);
        parks.then(|| Planned::new(Action::SetTimeout, flow, Some(slot)))
    }

    /// The slot of the external cache, if it still has this flow.
    fn slot_of(&self, planned: &Planned) -> Option<Slot> {
        let slot = planned.slot?;
        let entry = self.external.table.get(slot)?;
        entry.stored.is(&Key::of(&planned.flow)).then_some(slot)
    }

    // ---- what the kernel tells a backup ----

    fn stands_by_in_kernel(&self) -> bool {
        self.role == Role::Backup && self.config.standby == Standby::Kernel
    }

    /// Whether nobody is given a copy of the flows: only who serves knows what they are. With more
    /// than two routers, what is left in one's kernel would end up in another's cache.
    pub(super) fn is_silent(&self) -> bool {
        self.role == Role::Backup
    }

    /// Whether changes are told to nobody either: nor is this router what neighbours still send to.
    pub(super) fn tells_nothing(&self) -> bool {
        self.is_silent() && self.tells_until.is_none()
    }

    /// Whether a flow is one that this router keeps for another: its end here is none.
    pub(super) fn is_passive(&self, flow: &Flow) -> bool {
        self.stands_by_in_kernel() && self.external.table.find(&Key::of(flow)).is_some()
    }

    /// Whether an event is about a flow that this router keeps for another and so changes nothing
    /// else. A flow that left the kernel without this router's doing is put back.
    pub(super) fn heed_passive(&mut self, event: &KernelEvent<'_>) -> bool {
        if !self.stands_by_in_kernel() {
            return false;
        }
        match (event.change, event.own) {
            (Change::New | Change::Update, own) => own,
            (Change::Delete, true) => false,
            (Change::Delete, false) => {
                if let Some(slot) = self.external.table.find(&Key::of(event.flow)) {
                    self.external.injection.lose(slot);
                }
                false
            }
        }
    }

    pub(super) fn begin_reading_passive(&mut self) {
        self.external.injection.begin_reading();
        self.takeover.parked.clear();
        self.takeover.read = false;
    }

    /// Whether a flow of the table is one that this router keeps for another.
    pub(super) fn read_passive(&mut self, flow: &Flow) -> bool {
        if !self.stands_by_in_kernel() {
            return false;
        }
        let table = &self.external.table;
        let Some(slot) = table.find(&Key::of(flow)) else { return false };
        let passive = flow.timeout_s.is_some_and(is_parked)
            && table.get(slot).is_some_and(|entry| entry.stored.reply() == flow.reply);
        if passive {
            self.external.injection.note_in_kernel(slot);
        }
        passive
    }

    pub(super) fn end_reading_passive(&mut self) {
        self.takeover.read = true;
        if self.stands_by_in_kernel() {
            self.external.injection.end_reading();
        }
    }

    /// Whether a flow that was read is a passive copy that an earlier life of this router has left.
    pub(super) fn is_left_over(&self, flow: &Flow) -> bool {
        self.stands_by_in_kernel() && flow.timeout_s.is_some_and(is_parked)
    }

    // ---- takeover and back ----

    /// What the peers told is this router's from now on.
    pub(super) fn hand_over(&mut self) {
        if self.config.standby == Standby::Kernel {
            self.takeover = Takeover { told: Some(self.external.take()), ..Takeover::default() };
            self.external.keep_late_expectations();
        } else if self.config.shares() {
            self.external.forget_late();
        } else {
            self.external.keep_late();
        }
        self.internal.set_silent(false);
    }

    pub(super) fn hand_back(&mut self) {
        self.takeover = Takeover::default();
        self.internal.set_silent(self.is_silent());
    }

    /// The flow with a timeout that may be told: a parked one says nothing about its protocol.
    pub(super) fn with_own_timeout<'a>(&self, flow: &'a Flow, now: Instant) -> Cow<'a, Flow> {
        if !flow.timeout_s.is_some_and(is_parked) {
            return Cow::Borrowed(flow);
        }
        let told = self.takeover.told.as_ref();
        let remote = told.and_then(|table| table.get(table.find(&Key::of(flow))?));
        let configured = self.config.commit_timeout;
        let timeout_s = if let Some(remote) = remote {
            let age_s = self.seconds(now).saturating_sub(remote.heard_s);
            timeout::committed_s(&remote.stored.flow(), age_s, configured)
        } else {
            let unknown = Flow { timeout_s: None, ..flow.clone() };
            timeout::committed_s(&unknown, 0, configured)
        };
        Cow::Owned(Flow { timeout_s: Some(timeout_s), ..flow.clone() })
    }

    /// A flow was read with a parked timeout; what is known of it now has another.
    pub(super) fn unpark(&mut self, flow: &Flow) {
        let slot = self.internal.table.find(&Key::of(flow));
        if let (Role::Active, Some(slot), Some(timeout_s)) = (self.role, slot, flow.timeout_s) {
            self.takeover.parked.push_back((slot, timeout_s));
        }
    }

    fn next_to_unpark(&mut self) -> Option<Planned> {
        while let Some((slot, timeout_s)) = self.takeover.parked.pop_front() {
            let Some(entry) = self.internal.table.get(slot) else { continue };
            // A change since has brought a timeout of the kernel's own.
            if entry.stage.is_alive() && entry.stored.timeout_s() == Some(timeout_s) {
                let flow = entry.stored.flow();
                return Some(Planned::new(Action::SetTimeout, flow, None));
            }
        }
        if self.takeover.read
            && let Some(told) = &mut self.takeover.told
            && !told.dismantle()
        {
            self.takeover.told = None;
        }
        None
    }
}

/// A timeout that packets do not refresh cannot be changed either.
fn park(flow: &mut Flow) {
    if !flow.status.contains(Status::FIXED_TIMEOUT) {
        flow.timeout_s = Some(PARKED_S);
    }
}
