//! What a commit does with each flow of the external cache, and what a purge removes.
//!
//! Neither touches the kernel. The caller asks for the next flow, carries it out, and brings back
//! refusals; a refusal may lead to another attempt. The order is that of the cache's slots, with
//! flows that were expected by another one after those that were not. A router that stands by in
//! its kernel commits only what waits for injection, in the order in which it was told. What only
//! this router's kernel still has from before comes last, and is removed.

mod expectations;
mod left_over;
mod plan;
mod purge;
mod report;

use std::time::{Duration, Instant};

use lockstep_ctnetlink::{Flow, Status};

pub use expectations::PlannedExpectation;
use left_over::LeftOvers;
pub(crate) use left_over::is_refreshed;
pub use plan::{Action, Planned, Retry};
pub(crate) use plan::{Compared, Refusal, be_liberal, create_status, update_status};
use plan::{Untouched, says_as_much};
pub use purge::Purge;
pub use report::CommitReport;
pub(crate) use report::named;

use crate::internal::Local;
use crate::key::Key;
use crate::replicator::Replicator;
use crate::standby::Has;
use crate::stored::Stored;
use crate::table::Slot;
use crate::timeout;

/// How long a commit may take. What is not in the kernel then is reported as left; the addresses
/// have waited long enough. A million flows take two to four seconds.
pub const COMMIT_LIMIT: Duration = Duration::from_secs(30);

/// Longest chain of flows that expected each other.
const MAX_DEPTH: usize = 8;

/// Most entries that one step of a commit or a purge looks at.
pub const MAX_LOOKS: u32 = 128;

/// A commit under way.
#[derive(Debug, Default)]
pub struct Commit {
    part: CommitPart,
    looks: Looks,
    next: Slot,
    /// Flows that were expected by others, by how many stand before them.
    related: [Vec<Slot>; MAX_DEPTH],
    related_next: (usize, usize),
    meanwhile_next: usize,
    waiting_next: usize,
    left_overs: LeftOvers,
    next_expected: Slot,
    expected_meanwhile: usize,
    expected_ended: usize,
    /// When the first flow was asked for.
    began: Option<Instant>,
    progress: Progress,
    report: CommitReport,
}

/// What of the external cache a commit is about.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CommitPart {
    /// Flows, then expectations.
    #[default]
    All,
    /// Flows only.
    Flows,
    /// Expectations only, of flows that the kernel has.
    Expectations,
}

/// How far a commit is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Flows that nothing more is done about.
    pub done: u64,
    /// Flows there are, as far as is known: the peer may tell of more.
    pub total: u64,
}

impl Commit {
    pub(crate) fn of(part: CommitPart) -> Self {
        let report = CommitReport { part, ..CommitReport::default() };
        Self { part, report, ..Self::default() }
    }

    /// The next flow; `None` when all have been handed out, also those of which the peer has told
    /// since the commit began, or when [`COMMIT_LIMIT`] is over. However long that takes: see
    /// [`Commit::step`].
    pub fn next(&mut self, replicator: &Replicator, now: Instant) -> Option<Planned> {
        loop {
            let planned = self.step(replicator, now);
            if planned.is_some() || !self.has_more() {
                return planned;
            }
        }
    }

    /// Looks for the next flow at [`MAX_LOOKS`] entries at most, so that there is time for others
    /// where little is to be done for many. `None` when there was none among them, or when
    /// [`Commit::next`] would say so.
    pub fn step(&mut self, replicator: &Replicator, now: Instant) -> Option<Planned> {
        self.looks.begin();
        self.began.get_or_insert(now);
        self.progress.total = total(replicator, self.part) + self.left_overs.len();
        if self.is_over(now) {
            self.report.left = self.progress.total.saturating_sub(self.progress.done);
            return None;
        }
        let planned = if self.part == CommitPart::Expectations {
            None
        } else if replicator.external().injection.enabled() {
            self.find_waiting(replicator, now)
        } else {
            self.find_next(replicator, now)
        };
        let planned = match planned {
            None if !self.has_more() => self.find_left_over(replicator, now),
            planned => planned,
        };
        self.progress.done += u64::from(planned.is_some());
        planned
    }

    /// Whether the last [`Commit::step`] has looked at so much that it left the rest for the next.
    pub fn has_more(&self) -> bool {
        self.looks.enough
    }

    /// Places of its walks that are behind it.
    #[cfg(test)]
    pub(crate) fn looked_at(&self) -> u64 {
        let (depth, next) = self.related_next;
        let related: usize = self.related.iter().take(depth).map(Vec::len).sum();
        let told = self.meanwhile_next + self.waiting_next;
        u64::from(self.next) + (related + next + told) as u64 + self.left_overs.looked_at()
    }

    fn is_over(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now.saturating_duration_since(began) >= COMMIT_LIMIT)
    }

    fn find_next(&mut self, replicator: &Replicator, now: Instant) -> Option<Planned> {
        let table = &replicator.external().table;
        while self.next < table.slots() {
            self.looks.take()?;
            let slot = self.next;
            self.next += 1;
            let Some(entry) = table.get(slot) else { continue };
            if entry.stored.has_master() {
                self.related[depth(replicator, slot).saturating_sub(1)].push(slot);
                continue;
            }
            if let Some(planned) = self.plan(replicator, slot, now) {
                return Some(planned);
            }
        }
        while let Some(slot) = self.next_related() {
            self.looks.take()?;
            self.related_next.1 += 1;
            if let Some(planned) = self.plan(replicator, slot, now) {
                return Some(planned);
            }
        }
        // The table reuses places behind the walk, and changes those that it has been past.
        while let Some(told) = replicator.external().meanwhile().get(self.meanwhile_next).copied() {
            self.looks.take()?;
            self.meanwhile_next += 1;
            let planned = match (table.find(&told.key), told.ended) {
                (Some(slot), _) => self.plan(replicator, slot, now),
                (None, Some(heard_s)) => plan_deletion(replicator, &told.key, heard_s),
                (None, None) => None,
            };
            if planned.is_some() {
                return planned;
            }
        }
        None
    }

    /// Those that fewer stand before come first.
    fn next_related(&mut self) -> Option<Slot> {
        while let Some(slots) = self.related.get(self.related_next.0) {
            if let Some(slot) = slots.get(self.related_next.1) {
                return Some(*slot);
            }
            self.related_next = (self.related_next.0 + 1, 0);
        }
        None
    }

    /// Of a router that stands by in its kernel: what has ended, then what waits, each in the order
    /// in which it was told, also what is told meanwhile.
    fn find_waiting(&mut self, replicator: &Replicator, now: Instant) -> Option<Planned> {
        let injection = &replicator.external().injection;
        loop {
            if let Some((key, heard_s)) = injection.ended(self.meanwhile_next) {
                self.looks.take()?;
                self.meanwhile_next += 1;
                let planned = plan_deletion(replicator, &key, heard_s);
                if planned.is_some() {
                    return planned;
                }
                self.progress.done += 1;
                continue;
            }
            let slot = injection.waiting(self.waiting_next)?;
            self.looks.take()?;
            self.waiting_next += 1;
            if replicator.external().table.get(slot).is_none() {
                // What has left the cache meanwhile is among what has ended.
                self.progress.done += 1;
            } else if let Some(planned) = self.plan(replicator, slot, now) {
                return Some(planned);
            }
        }
    }

    /// The kernel did what was planned.
    pub fn done(&mut self, planned: &Planned) {
        self.report.count_planned(planned);
    }

    /// The kernel refused with `errno`, in its own words `reason`.
    pub fn refused(&mut self, mut planned: Planned, errno: i32, reason: &str) -> Retry {
        if planned.action == Action::SetTimeout && errno == ENOENT {
            // It ran out a moment ago.
            planned.action = Action::Create;
            return Retry::With(planned);
        }
        let (planned, refusal) = planned.refused(errno, &mut self.report);
        match refusal {
            Refusal::Retry(retry) => return retry,
            Refusal::Needless => self.report.note_removed(&planned),
            Refusal::Later | Refusal::Final => {
                self.report.refuse_flow(&planned.flow, errno, reason);
            }
        }
        Retry::GiveUp
    }

    /// Decides between the replica and what the kernel has under its original tuple, or else under
    /// its reply tuple.
    pub fn compare(&mut self, planned: Planned, existing: Option<&Flow>) -> Option<Planned> {
        if let Some(left_over) = planned.left_over {
            let Some(existing) = existing else {
                self.report.note_removed(&planned);
                return None;
            };
            let lives = left_over.lives(&planned.flow, existing);
            self.report.unchanged += u64::from(lives);
            return (!lives).then_some(planned);
        }
        let flow = planned.flow.clone();
        match planned.compare(existing) {
            Compared::Do(planned) => Some(planned),
            Compared::Same => {
                self.report.unchanged += 1;
                None
            }
            Compared::Sooner { planned, left_s } => {
                let longer = planned.for_longer_than(left_s);
                self.report.unchanged += u64::from(longer.is_none());
                longer
            }
            Compared::Clash(reason) => {
                self.report.refuse_flow(&flow, EEXIST, &reason);
                None
            }
        }
    }

    /// How it went so far.
    pub fn report(&self) -> &CommitReport {
        &self.report
    }

    pub(crate) fn take_removed(&mut self) -> Vec<(Slot, Key)> {
        std::mem::take(&mut self.report.removed)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    fn plan(&mut self, replicator: &Replicator, slot: Slot, now: Instant) -> Option<Planned> {
        let external = replicator.external();
        if external.table.get(slot).is_some_and(|entry| external.is_stale(entry)) {
            self.progress.done += 1;
            return None;
        }
        let planned = plan_flow(replicator, slot, external.injection.has(slot), now);
        if planned.is_none() {
            self.report.unchanged += 1;
            self.progress.done += 1;
        }
        planned
    }
}

/// What is to be done for the entry of a slot that is in use, of which the kernel `has` what was put
/// there; `None` when the kernel has newer.
pub(crate) fn plan_flow(
    replicator: &Replicator,
    slot: Slot,
    has: Has,
    now: Instant,
) -> Option<Planned> {
    let remote = replicator.external().table.get(slot)?;
    let mut flow = to_create(replicator, &remote.stored, remote.heard_s, now);
    if replicator.spares_own() {
        return plan_beside_own(replicator, slot, flow, now);
    }
    let internal = &replicator.internal().table;
    let local = internal.find(&Key::of(&flow)).and_then(|slot| internal.get(slot));
    let action = match local.filter(|local| local.stage.is_alive()) {
        None => match has {
            Has::Unknown => Action::Create,
            Has::Moved => Action::Replace,
            Has::Older => {
                let expected = if flow.master.is_some() { Status::EXPECTED } else { 0 };
                flow.status = Status(flow.status.0 | expected);
                Action::Update
            }
        },
        Some(local) if local.changed_s > remote.heard_s => return None,
        Some(local) if local.stored.reply() == flow.reply => {
            if says_as_much(&local.stored.flow(), &flow) {
                return Some(Planned::new(Action::Create, flow, Some(slot)));
            }
            flow.status = update_status(local.stored.status(), flow.status);
            Action::Update
        }
        Some(_) => Action::Replace,
    };
    Some(Planned::new(action, flow, Some(slot)))
}

/// What a peer told at that second since the start, as the kernel can be asked to create it.
pub(crate) fn to_create(
    replicator: &Replicator,
    stored: &Stored,
    heard_s: u32,
    now: Instant,
) -> Flow {
    let mut flow = stored.flow();
    let age_s = replicator.seconds(now).saturating_sub(heard_s);
    flow.timeout_s = Some(timeout::committed_s(&flow, age_s, replicator.config().commit_timeout));
    flow.status = create_status(flow.status);
    flow.id = None;
    be_liberal(&mut flow);
    flow
}

/// The same where this router serves: nothing of a flow that may pass here is set back.
fn plan_beside_own(
    replicator: &Replicator,
    slot: Slot,
    flow: Flow,
    now: Instant,
) -> Option<Planned> {
    let heard_s = replicator.external().table.get(slot)?.heard_s;
    let internal = replicator.internal();
    let local = internal.table.find(&Key::of(&flow)).and_then(|slot| internal.table.get(slot));
    let local = local.filter(|local| local.stage.is_alive());
    let newer = |local: &Local| local.stored.reply() == flow.reply && local.changed_s > heard_s;
    if local.is_some_and(newer) {
        return None;
    }
    let untouched = local.and_then(|local| {
        let since_s = internal.untouched_since_s(local)?;
        let age_s = replicator.seconds(now).saturating_sub(since_s);
        Some(Untouched { timeout_s: local.stored.timeout_s(), age_s })
    });
    Some(Planned::beside_own(flow, slot, untouched))
}

/// A flow that has ended leaves the kernel, unless the kernel has newer.
pub(crate) fn plan_deletion(replicator: &Replicator, key: &Key, heard_s: u32) -> Option<Planned> {
    let internal = &replicator.internal().table;
    let local = internal.find(key).and_then(|slot| internal.get(slot));
    let newer = |local: &Local| replicator.spares_own() || local.changed_s > heard_s;
    if local.is_some_and(|local| local.stage.is_alive() && newer(local)) {
        return None;
    }
    let orig = key.orig();
    let mut flow = Flow::new(orig, orig.inverse());
    flow.zone = key.zone;
    flow.zone_direction = key.direction();
    Some(Planned::new(Action::Delete, flow, None))
}

fn total(replicator: &Replicator, part: CommitPart) -> u64 {
    let external = replicator.external();
    let flows = if part == CommitPart::Expectations {
        0
    } else if external.injection.enabled() {
        external.injection.to_commit()
    } else {
        external.table.len() + external.meanwhile().len()
    };
    let expected = match part {
        CommitPart::All => external.expectations.table.len() + external.expectations.noted(),
        CommitPart::Expectations => external.expectations.table.len(),
        CommitPart::Flows => 0,
    };
    (flows + expected) as u64
}

/// How many entries a step has looked at.
#[derive(Debug, Default)]
struct Looks {
    taken: u32,
    /// One more was wanted than a step may take.
    enough: bool,
}

impl Looks {
    fn begin(&mut self) {
        *self = Self::default();
    }

    /// Another one; `None` when that would be too many.
    fn take(&mut self) -> Option<()> {
        self.enough = self.taken == MAX_LOOKS;
        self.taken += u32::from(!self.enough);
        (!self.enough).then_some(())
    }
}

/// How many flows stand between this one and one that was not expected, the latter included;
/// [`MAX_DEPTH`] at most.
fn depth(replicator: &Replicator, slot: Slot) -> usize {
    let table = &replicator.external().table;
    let mut depth = 0;
    let mut at = table.get(slot);
    while let Some(master) = at.and_then(|entry| entry.stored.master_key()) {
        depth += 1;
        if depth == MAX_DEPTH {
            break;
        }
        at = table.find(&master).and_then(|slot| table.get(slot));
    }
    depth
}

pub(crate) const ENOENT: i32 = 2;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EBUSY: i32 = 16;
pub(crate) const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EMFILE: i32 = 24;
const EOPNOTSUPP: i32 = 95;
const ENOBUFS: i32 = 105;
