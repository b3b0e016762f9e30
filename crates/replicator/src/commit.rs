//! What a commit does with each flow of the external cache, and what a purge removes.
//!
//! Neither touches the kernel. The caller asks for the next flow, carries it out, and brings back
//! refusals; a refusal may lead to another attempt. The order is that of the cache's slots, with
//! flows that were expected by another one after those that were not.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use lockstep_ctnetlink::{Flow, ProtocolState, Status};

use crate::external::Told;
use crate::key::Key;
use crate::replicator::Replicator;
use crate::table::Slot;
use crate::timeout;

/// Most refusals whose text is kept.
const SAMPLES: usize = 3;

/// Most attempts for one flow.
const MAX_ATTEMPTS: u8 = 4;

/// Longest chain of flows that expected each other.
const MAX_DEPTH: u8 = 8;

/// What to do with one flow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Planned {
    /// What.
    pub action: Action,
    /// The flow as it is to be in the kernel, with its timeout.
    pub flow: Flow,
    attempts: u8,
}

/// What a commit asks of the kernel for one flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Create it; it must not exist.
    Create,
    /// Bring the existing flow up to date. Translation, helper and master stay as they are.
    Update,
    /// Delete the existing flow of the same tuple, then create this one: another translation.
    Replace,
    /// Delete it: it has ended since the commit began.
    Delete,
}

/// What follows from a refusal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Retry {
    /// Try this instead.
    With(Planned),
    /// Ask the kernel for the flow of the same original tuple and zone, and give it to
    /// [`Commit::compare`].
    Look(Planned),
    /// Nothing more can be done; the refusal has been counted, unless there was nothing to do.
    GiveUp,
}

/// A commit under way.
#[derive(Debug, Default)]
pub struct Commit {
    next: Slot,
    related: Vec<(u8, Slot)>,
    related_next: usize,
    meanwhile_next: usize,
    report: CommitReport,
}

/// How a commit went.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CommitReport {
    /// Flows created.
    pub created: u64,
    /// Flows that were there and have been brought up to date.
    pub updated: u64,
    /// Flows that took the place of one with another translation.
    pub replaced: u64,
    /// Flows removed because they ended while the commit was under way.
    pub deleted: u64,
    /// Flows left alone because the kernel has newer.
    pub unchanged: u64,
    /// Refused flows by error number.
    pub refused: BTreeMap<i32, u64>,
    /// The first refused flows, in words.
    pub samples: Vec<String>,
}

impl CommitReport {
    /// Flows that are in the kernel because of this commit.
    pub fn committed(&self) -> u64 {
        self.created + self.updated + self.replaced
    }

    /// Flows that are not.
    pub fn refused(&self) -> u64 {
        self.refused.values().sum()
    }
}

impl fmt::Display for CommitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} flows committed", self.committed())?;
        if self.updated > 0 {
            write!(f, ", {} of them brought up to date", self.updated)?;
        }
        if self.replaced > 0 {
            write!(f, ", {} of them with another translation than before", self.replaced)?;
        }
        if self.deleted > 0 {
            write!(f, ", {} removed because they ended meanwhile", self.deleted)?;
        }
        if self.unchanged > 0 {
            write!(f, ", {} left alone because the kernel has newer", self.unchanged)?;
        }
        if self.refused() > 0 {
            write!(f, ", {} refused: {}", self.refused(), self.samples.join("; "))?;
            if self.refused() > self.samples.len() as u64 {
                f.write_str("; …")?;
            }
        }
        Ok(())
    }
}

impl Commit {
    /// The next flow; `None` when all have been handed out, also those of which the peer has told
    /// since the commit began.
    pub fn next(&mut self, replicator: &Replicator, now: Instant) -> Option<Planned> {
        let table = &replicator.external().table;
        while self.next < table.slots() {
            let slot = self.next;
            self.next += 1;
            let Some(entry) = table.get(slot) else { continue };
            if entry.stored.has_master() {
                self.related.push((depth(replicator, slot), slot));
                continue;
            }
            if let Some(planned) = self.plan(replicator, slot, now) {
                return Some(planned);
            }
        }
        if self.related_next == 0 {
            self.related.sort_unstable();
        }
        while let Some((_, slot)) = self.related.get(self.related_next).copied() {
            self.related_next += 1;
            if let Some(planned) = self.plan(replicator, slot, now) {
                return Some(planned);
            }
        }
        // The table reuses places behind the walk, and changes those that it has been past.
        while let Some(told) = replicator.external().meanwhile().get(self.meanwhile_next).copied() {
            self.meanwhile_next += 1;
            let planned = match (table.find(&told.key), told.ended) {
                (Some(slot), _) => self.plan(replicator, slot, now),
                (None, Some(heard_s)) => plan_deletion(replicator, &told, heard_s),
                (None, None) => None,
            };
            if planned.is_some() {
                return planned;
            }
        }
        None
    }

    /// The kernel did what was planned.
    pub fn done(&mut self, planned: &Planned) {
        match planned.action {
            Action::Create => self.report.created += 1,
            Action::Update => self.report.updated += 1,
            Action::Replace => self.report.replaced += 1,
            Action::Delete => self.report.deleted += 1,
        }
    }

    /// The kernel refused with `errno`, in its own words `reason`.
    pub fn refused(&mut self, mut planned: Planned, errno: i32, reason: &str) -> Retry {
        planned.attempts += 1;
        if planned.attempts < MAX_ATTEMPTS {
            match (planned.action, errno) {
                // It has ended here as well.
                (Action::Delete, ENOENT) => return Retry::GiveUp,
                (Action::Create, EEXIST) => return Retry::Look(planned),
                (Action::Update, ENOENT) => {
                    planned.action = Action::Create;
                    return Retry::With(planned);
                }
                (Action::Update, EBUSY | EOPNOTSUPP | EINVAL) => {
                    planned.action = Action::Replace;
                    return Retry::With(planned);
                }
                // A helper this kernel does not have, or a master that is gone: the flow alone is
                // worth more than nothing.
                (Action::Create | Action::Replace, EOPNOTSUPP | ENOENT)
                    if planned.flow.helper.is_some() =>
                {
                    planned.flow.helper = None;
                    return Retry::With(planned);
                }
                (Action::Create | Action::Replace, EOPNOTSUPP | ENOENT)
                    if planned.flow.master.is_some() =>
                {
                    planned.flow.master = None;
                    return Retry::With(planned);
                }
                _ => {}
            }
        }
        self.give_up(&planned, errno, reason);
        Retry::GiveUp
    }

    /// Decides between the replica and what the kernel has under the same original tuple, `None`
    /// being nothing: then another flow occupies the translated addresses.
    pub fn compare(&mut self, mut planned: Planned, existing: Option<&Flow>) -> Option<Planned> {
        let Some(existing) = existing else {
            self.give_up(&planned, EEXIST, "another flow has its translated addresses");
            return None;
        };
        if existing.reply == planned.flow.reply {
            planned.action = Action::Update;
            planned.flow.status = update_status(existing.status, planned.flow.status);
        } else {
            planned.action = Action::Replace;
        }
        Some(planned)
    }

    /// How it went so far.
    pub fn report(&self) -> &CommitReport {
        &self.report
    }

    fn give_up(&mut self, planned: &Planned, errno: i32, reason: &str) {
        *self.report.refused.entry(errno).or_default() += 1;
        if self.report.samples.len() < SAMPLES {
            let tuple = &planned.flow.orig;
            self.report.samples.push(format!(
                "protocol {} {} to {} ({:?}): {reason}",
                tuple.protocol, tuple.source, tuple.destination, tuple.l4
            ));
        }
    }

    fn plan(&mut self, replicator: &Replicator, slot: Slot, now: Instant) -> Option<Planned> {
        let remote = replicator.external().table.get(slot)?;
        let mut flow = remote.stored.flow();
        let age_s = replicator.seconds(now).saturating_sub(remote.heard_s);
        flow.timeout_s = Some(timeout::committed_s(&flow, age_s));
        flow.status = create_status(flow.status);
        flow.id = None;
        be_liberal(&mut flow);
        let internal = &replicator.internal().table;
        let local = internal.find(&Key::of(&flow)).and_then(|slot| internal.get(slot));
        let action = match local.filter(|local| local.stage.is_alive()) {
            None => Action::Create,
            Some(local) if local.changed_s > remote.heard_s => {
                self.report.unchanged += 1;
                return None;
            }
            Some(local) if local.stored.reply() == flow.reply => {
                flow.status = update_status(local.stored.status(), flow.status);
                Action::Update
            }
            Some(_) => Action::Replace,
        };
        Some(Planned { action, flow, attempts: 0 })
    }
}

/// Removal of the flows that were this router's when it left the active role.
#[derive(Debug, Default)]
pub struct Purge {
    next: Slot,
}

impl Purge {
    /// The next flow to delete, by tuple, zone and id, so that a newer one of the same tuple is
    /// left alone; `None` when all have been handed out.
    pub fn next(&mut self, replicator: &Replicator) -> Option<Flow> {
        let table = &replicator.internal().table;
        while self.next < table.slots() {
            let slot = self.next;
            self.next += 1;
            if let Some(entry) = table.get(slot).filter(|e| e.ours && e.stage.is_alive()) {
                return Some(entry.stored.flow());
            }
        }
        None
    }
}

/// A flow that ended during the commit leaves the kernel, unless the kernel has newer.
fn plan_deletion(replicator: &Replicator, told: &Told, heard_s: u32) -> Option<Planned> {
    let internal = &replicator.internal().table;
    let local = internal.find(&told.key).and_then(|slot| internal.get(slot));
    if local.is_some_and(|local| local.stage.is_alive() && local.changed_s > heard_s) {
        return None;
    }
    let orig = told.key.orig();
    let mut flow = Flow::new(orig, orig.inverse());
    flow.zone = told.key.zone;
    flow.zone_direction = told.key.direction();
    Some(Planned { action: Action::Delete, flow, attempts: 0 })
}

/// How many flows stand between this one and one that was not expected.
fn depth(replicator: &Replicator, slot: Slot) -> u8 {
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

/// The bits a flow may be created with. The kernel sets the translation bits itself, and takes
/// EXPECTED from the master.
fn create_status(status: Status) -> Status {
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
fn update_status(existing: Status, wanted: Status) -> Status {
    Status(existing.0 | wanted.0 & (Status::SEEN_REPLY | Status::ASSURED))
}

/// Without the window data of the old master the tracker would take the next packets for invalid.
/// TCP only: the same bytes mean other things for other protocols.
fn be_liberal(flow: &mut Flow) {
    const BE_LIBERAL: u8 = 0x08;
    if let ProtocolState::Tcp(tcp) = &mut flow.protocol_state {
        let [orig, reply] = tcp.flags.unwrap_or_default();
        tcp.flags = Some([orig | BE_LIBERAL, reply | BE_LIBERAL]);
    }
}

const ENOENT: i32 = 2;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;
