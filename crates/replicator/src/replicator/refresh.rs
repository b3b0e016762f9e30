//! Flows of which the kernel has to be asked: see [`crate::refresh`].

use std::time::Instant;

use lockstep_ctnetlink::Flow;

use super::Replicator;
use crate::event::Role;
use crate::internal::Learned;
use crate::key::Key;
use crate::refresh::may_shift;

impl Replicator {
    /// The next flow to ask the kernel for, by original tuple and zone; its answer goes to
    /// [`Replicator::refreshed`]. Each comes about once a second, so the caller may stop at any
    /// number and go on later. `None` in a backup, which no packets pass.
    pub fn next_refresh(&mut self, now: Instant) -> Option<lockstep_ctnetlink::Key> {
        if self.role != Role::Active {
            return None;
        }
        let slot = self.refresh.next(&self.internal, now)?;
        let key = self.internal.table.get(slot)?.stored.key();
        let (orig, zone, zone_direction) = (key.orig(), key.zone, key.direction());
        Some(lockstep_ctnetlink::Key { orig, zone, zone_direction })
    }

    /// When to call [`Replicator::next_refresh`] again; not among [`Replicator::next_deadline`]'s.
    pub fn refresh_deadline(&self, now: Instant) -> Option<Instant> {
        self.refresh.next_deadline(now).filter(|_| self.role == Role::Active)
    }

    /// What the kernel has of a flow it was asked for. Peers are told only what differs; a flow
    /// that is not known (any more) is left to its events.
    pub fn refreshed(&mut self, flow: &Flow, now: Instant) {
        let table = &self.internal.table;
        let known = table.find(&Key::of(flow)).and_then(|slot| table.get(slot));
        if !known.is_some_and(|it| it.stage.is_alive() && !it.stored.is_another_than(flow)) {
            return;
        }
        self.counters.refreshed += 1;
        let now_s = self.seconds(now);
        let learned = self.internal.read(flow, false, now_s, &mut self.counters);
        if learned != Learned::Nothing {
            self.counters.refreshed_changed += 1;
        }
        self.tell(learned);
    }

    /// Remembers to look at the flow again if the kernel may change it without a word. `late`: its
    /// first event was left out.
    pub(super) fn consider_refresh(&mut self, flow: &Flow, late: bool, now: Instant) {
        let shifts = may_shift(flow);
        if !shifts && !late {
            return;
        }
        let Some(slot) = self.internal.table.find(&Key::of(flow)) else { return };
        let found_room =
            (!shifts || self.refresh.watch(slot, now)) && (!late || self.refresh.look_once(slot));
        if !found_room {
            self.counters.refresh_overflow += 1;
        }
    }
}
