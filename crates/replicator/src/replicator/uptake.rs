//! Flows that reach a serving router from one that serves no more, or not all that it did: they are
//! put into the kernel beside those that live here.
//!
//! A router tells its last changes when its successor has committed already. Two that could not hear
//! each other both serve; the one that gives way then tells the other all it has. And who hands one
//! of several groups over serves on, so that for a moment nobody can say whose flows it tells. In
//! each case the flows go into the kernel of the router that serves, one by one, and never at the
//! cost of a flow that lives there ([`Replicator::spares_own`]).
//!
//! All this is for several groups. With one, a late copy would set back what the new master has
//! changed since: see [`super::inheritance`] for what is done there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lockstep_ctnetlink::Flow;

use super::Replicator;
use super::inheritance::Bequeathed;
use super::strays::Strays;
use crate::claim::Claim;
use crate::commit::{
    Action, Compared, EEXIST, MAX_LOOKS, Planned, Refusal, Retry, named, plan_flow,
};
use crate::event::{Event, Role};
use crate::internal::Learned;
use crate::key::Key;
use crate::resync::Cause;
use crate::standby::Has;
use crate::table::Slot;
use crate::wire::Change;

/// How long a router that has handed a group over may still tell of its flows.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long an old master may go on to serve when a new one does.
pub(super) const HAND_OVER: Duration = Duration::from_secs(5);

/// How long the role may take to come after its commit.
const ROLE: Duration = Duration::from_secs(10);

/// Least time between two tellings of what has been taken up.
const TELL: Duration = Duration::from_secs(1);

/// Most flows that are remembered one by one; with more the whole cache is looked through.
const MAX_QUEUE: usize = 65_536;

/// What of the external cache is to go into the kernel of a router that serves.
#[derive(Debug, Default)]
pub(super) struct Uptake {
    queue: VecDeque<Slot>,
    /// Where looking through the cache goes on.
    walk: Option<Slot>,
    /// A group is being taken over, or was a moment ago: whatever is told may be of it.
    open: bool,
    closes_at: Option<Instant>,
    /// The commit that it was opened for has ended.
    committed: bool,
    /// Since when this router has served.
    serves_since: Option<Instant>,
    /// What has been done that nobody has been told of, and when that is due.
    done: Done,
    tells_at: Option<Instant>,
    /// Of one group: what is left to this router.
    pub(super) inheritance: VecDeque<Bequeathed>,
    /// Which of this router's own flows have gone by the other one meanwhile.
    pub(super) strays: Strays,
}

#[derive(Debug, Default)]
struct Done {
    flows: u64,
    refused: u64,
    example: Option<String>,
}

impl Uptake {
    /// This router serves from now on.
    pub(super) fn serve(&mut self, now: Instant) {
        self.serves_since.get_or_insert(now);
    }

    /// A group is being taken over.
    pub(super) fn open(&mut self) {
        (self.open, self.closes_at) = (true, None);
    }

    /// A commit has ended. The role comes next, or never.
    pub(super) fn commit_ends(&mut self) {
        self.committed = self.open;
    }

    /// Sees to it that it closes although the role does not come.
    pub(super) fn close_after_commit(&mut self, now: Instant) {
        if std::mem::take(&mut self.committed) && self.open {
            self.closes_at.get_or_insert(now + ROLE);
        }
    }

    /// Whether this router has served for longer than an old master may go on to.
    pub(super) fn serves_for_long(&self, now: Instant) -> bool {
        let for_long = |since| now.saturating_duration_since(since) >= HAND_OVER;
        self.serves_since.is_some_and(for_long)
    }

    /// This router serves no more; another role may be `coming`. Says since when it has served.
    pub(super) fn leave(&mut self, coming: bool) -> Option<Instant> {
        let since = self.serves_since.take();
        self.inheritance.clear();
        self.strays = Strays::default();
        if !coming {
            *self = Self::default();
        }
        since
    }

    /// Something has been done of which people are to be told.
    pub(super) fn tell_soon(&mut self, now: Instant) {
        self.tells_at.get_or_insert(now + TELL);
    }

    /// What is told from now on belongs to who tells it.
    pub(super) fn close(&mut self) {
        (self.open, self.closes_at) = (false, None);
    }

    /// When [`Uptake::close`] is due.
    pub(super) fn closes_at(&self) -> Option<Instant> {
        self.closes_at
    }

    /// When people are to be told what has been taken up.
    pub(super) fn tells_at(&self) -> Option<Instant> {
        self.tells_at
    }

    /// What has been told already is looked through, if that is `wanted`.
    pub(super) fn look_through(&mut self, wanted: bool) {
        if wanted {
            self.walk = Some(0);
        }
    }

    /// Whether something may be there to be taken up.
    pub(super) fn has_more(&self) -> bool {
        self.walk.is_some() || !self.queue.is_empty()
    }

    fn put(&mut self, slot: Slot) {
        if self.queue.len() < MAX_QUEUE {
            self.queue.push_back(slot);
        } else {
            self.walk = Some(0);
        }
    }
}

impl Replicator {
    /// This router serves one more of several groups. All that the peers have told is in its kernel;
    /// those of them that serve on tell it again, and the rest is forgotten.
    pub(super) fn begin_to_share(&mut self, now: Instant) {
        self.uptake.open();
        self.uptake.closes_at = Some(now + LAST_WORDS);
        for place in 0..self.peers.len() {
            let generation = self.external.begin_generation(self.peers[place].index);
            self.peers[place].taken = Some(generation as u16);
            self.want_resync(place, Cause::Role);
            if self.peers[place].silent {
                self.forget_what_was_taken(place, now);
            }
        }
    }

    /// The peer is not there to say what of its flows it serves on.
    pub(super) fn forget_what_was_taken(&mut self, place: usize, now: Instant) {
        if let Some(generation) = self.peers[place].taken.take() {
            let index = self.peers[place].index;
            self.sweep(index, generation, now);
        }
    }

    /// Has peers that serve now be told what this router has served and they do not know.
    pub(super) fn note_heirs(&mut self, served_since: Option<Instant>) {
        if !self.config.shares() {
            return self.note_heir(served_since);
        }
        for peer in &mut self.peers {
            let conversation = &peer.conversation;
            let knows_all = peer.present()
                && conversation.established()
                && conversation.has_told_all()
                && !conversation.copying()
                && !peer.forgot;
            peer.heir = peer.heard_at.is_some() && !knows_all;
        }
    }

    /// A peer that served stands by. In a hand-over the old master still serves for a moment; two
    /// for longer than that could not hear each other's elections.
    pub(super) fn note_who_gave_way(&mut self, place: usize, now: Instant) {
        if let Some(address) = self.peers[place].address()
            && self.uptake.serves_for_long(now)
        {
            self.counters.gave_way += 1;
            self.uptake.strays.look_through(now);
            self.push(Event::GaveWay { address });
        }
    }

    /// The peer has told of a flow.
    pub(super) fn consider_uptake(&mut self, place: usize, slot: Slot) {
        if !self.config.shares() {
            return;
        }
        if self.uptake.open
            || (self.role == Role::Active && self.stands_by(self.peers[place].index))
        {
            self.uptake.put(slot);
        }
    }

    fn stands_by(&self, index: u8) -> bool {
        let stands_by = |claim| claim == Some(Claim::StandsBy);
        self.peers.iter().any(|peer| peer.index == index && stands_by(peer.claim))
    }

    /// The next flow to put into the kernel; `None` when there is none, or for the moment.
    pub(super) fn next_to_take_up(&mut self, now: Instant) -> Option<Planned> {
        while let Some(slot) = self.uptake.queue.pop_front() {
            let planned = self.plan_uptake(slot, now);
            if planned.is_some() {
                return planned;
            }
        }
        let from = self.uptake.walk?;
        let slots = self.external.table.slots();
        let end = slots.min(from.saturating_add(MAX_LOOKS));
        for slot in from..end {
            let told_by = self.external.table.get(slot).map(|entry| entry.peer);
            if told_by.is_some_and(|peer| self.uptake.open || self.stands_by(peer)) {
                let planned = self.plan_uptake(slot, now);
                if planned.is_some() {
                    self.uptake.walk = Some(slot + 1);
                    return planned;
                }
            }
        }
        self.uptake.walk = (end < slots).then_some(end);
        None
    }

    /// What one that stands by has told is this router's from now on.
    fn plan_uptake(&mut self, slot: Slot, now: Instant) -> Option<Planned> {
        let peer = self.external.table.get(slot)?.peer;
        let planned = plan_flow(self, slot, Has::Unknown, now);
        if self.stands_by(peer) {
            self.external.remove(slot);
        }
        if planned.is_some() {
            self.uptake.tell_soon(now);
        }
        planned
    }

    /// The kernel has it: it is this router's, and told to all.
    pub(super) fn taken_up(&mut self, planned: &Planned) {
        self.counters.made_liberal += u64::from(planned.action == Action::BeLiberal);
        let made = matches!(planned.action, Action::Create | Action::Replace);
        let counts = u64::from(made);
        self.counters.taken_up += counts;
        self.uptake.done.flows += counts;
        let flow = &planned.flow;
        if !self.wants(Change::New, flow) {
            return;
        }
        let change = match planned.action {
            Action::Create | Action::Replace => Change::New,
            Action::Update => Change::Update,
            Action::SetTimeout | Action::Delete | Action::BeLiberal => return,
        };
        self.internal.put(change, flow, true, 0, &mut self.counters);
        if let Some(slot) = self.internal.table.find(&Key::of(flow)) {
            self.tell(Learned::Tell(slot));
        }
    }

    pub(super) fn uptake_refused(&mut self, planned: Planned, errno: i32, reason: &str) -> Retry {
        let report = &mut self.external.injection.report;
        let (planned, refusal) = planned.refused(errno, report);
        match refusal {
            Refusal::Retry(retry) => return retry,
            Refusal::Needless => {}
            Refusal::Later | Refusal::Final => {
                report.refuse_flow(&planned.flow, errno, reason);
                self.note_refused(&planned.flow, reason);
            }
        }
        Retry::GiveUp
    }

    pub(super) fn compare_uptake(
        &mut self,
        planned: Planned,
        existing: Option<&Flow>,
    ) -> Option<Planned> {
        let flow = planned.flow.clone();
        match planned.compare(existing) {
            Compared::Do(planned) => Some(planned),
            Compared::Sooner { planned, left_s } => planned.for_longer_than(left_s),
            Compared::Same => None,
            Compared::Clash(reason) => {
                self.external.injection.report.refuse_flow(&flow, EEXIST, &reason);
                self.note_refused(&flow, &reason);
                None
            }
        }
    }

    pub(super) fn note_refused(&mut self, flow: &Flow, reason: &str) {
        self.counters.taken_up_refused += 1;
        self.uptake.done.refused += 1;
        self.uptake.done.example = Some(format!("{}: {reason}", named(flow)));
    }

    /// Says what has been taken up.
    pub(super) fn tell_of_uptake(&mut self) {
        self.uptake.tells_at = None;
        let Done { flows, refused, example } = std::mem::take(&mut self.uptake.done);
        if flows + refused > 0 {
            self.push(Event::TakenUp { flows, refused, example });
        }
    }
}
