//! Expectations: what helpers of the kernel expect, told to the peers like flows.
//!
//! Only those are taken whose master is in the internal cache, so the filter of flows counts for
//! them, too, and whose helper is among the replicated ones.

use std::time::Instant;

use lockstep_ctnetlink::{Expectation, ZoneDirection};

use super::Replicator;
use super::peer::Peer;
use crate::config::Expectations;
use crate::expectations::is_wanted;
use crate::internal::{Learned, Object};
use crate::key::Key;
use crate::wire::{Change, Malformed, decode_expectation};

/// One change of the kernel's list of expectations.
#[derive(Clone, Copy, Debug)]
pub struct ExpectationEvent<'a> {
    /// What happened.
    pub change: Change,
    /// To which expectation.
    pub expectation: &'a Expectation,
    /// Whether this daemon asked for it.
    pub own: bool,
}

impl Replicator {
    /// The kernel expects a flow, or no more. Feed events in the order in which the kernel tells
    /// them among those of flows, so that masters come first.
    pub fn handle_expectation_event(&mut self, event: ExpectationEvent<'_>, _now: Instant) {
        let ExpectationEvent { change, expectation, own } = event;
        let learned = match change {
            Change::Delete => {
                self.internal.expectations.destroy(expectation, own, &mut self.counters)
            }
            Change::New | Change::Update if self.wants_expectation(expectation) => {
                self.internal.expectations.put(expectation, own, &mut self.counters)
            }
            Change::New | Change::Update => {
                self.counters.internal_expectations_filtered += 1;
                return;
            }
        };
        self.tell_expectation(learned);
    }

    /// The kernel's expectations are about to be read, which is done after its table of flows.
    /// Events may be fed in between.
    pub fn begin_expectation_dump(&mut self) {
        self.internal.expectations.begin_reading();
    }

    /// One expectation of the list.
    pub fn dumped_expectation(&mut self, expectation: &Expectation, _now: Instant) {
        if !self.wants_expectation(expectation) {
            self.counters.internal_expectations_filtered += 1;
            return;
        }
        let learned = self.internal.expectations.read(expectation, &mut self.counters);
        self.tell_expectation(learned);
    }

    /// The list has been read to its end: what was not in it is gone. Returns `false` when so much
    /// has changed meanwhile that it has to be read once more.
    #[must_use = "an untrustworthy reading has to be repeated"]
    pub fn end_expectation_dump(&mut self, now: Instant) -> bool {
        let made_up = self.internal.expectations.are_lacking();
        let trusted = self.internal.expectations.end_reading();
        for slot in self.internal.expectations.stale() {
            let learned = self.internal.expectations.bury(slot, false, &mut self.counters);
            self.tell_expectation(learned);
        }
        if trusted && made_up && !self.is_silent() {
            for peer in self.peers.iter_mut().filter(|peer| peer.present()) {
                peer.conversation.catch_up();
            }
        }
        self.settle(now);
        trusted
    }

    /// Whether some of what our kernel expects is not in the cache. Where expectations are not
    /// replicated (any more) none is missing.
    pub(super) fn lacks_expectations(&self) -> bool {
        self.config.expectations != Expectations::Off && self.internal.expectations.are_lacking()
    }

    /// Expectations in the internal cache.
    pub fn internal_expectations_len(&self) -> usize {
        self.internal.expectations.len()
    }

    /// Expectations in the external cache.
    pub fn external_expectations_len(&self) -> usize {
        self.external.expectations.table.len()
    }

    /// What our kernel expects, in the order of the cache.
    pub fn internal_expectations(&self) -> impl Iterator<Item = &Expectation> {
        let alive = self.internal.expectations.table.iter().filter(|e| e.stage.is_alive());
        alive.map(|entry| &entry.expectation)
    }

    /// What peers' kernels expect, in the order of the cache.
    pub fn external_expectations(&self) -> impl Iterator<Item = &Expectation> {
        self.external.expectations.table.iter().map(|entry| &entry.expectation)
    }

    /// Whether the expectation's master is among the flows that peers have told. The wire carries
    /// no zone of an expectation, hence it is one of the default zone.
    pub fn has_external_master(&self, expectation: &Expectation) -> bool {
        let key = Key::new(&expectation.master, expectation.zone, ZoneDirection::Both);
        self.external.table.find(&key).is_some()
    }

    /// A peer has told of an expectation.
    pub(super) fn heed_expectation(
        &mut self,
        peer: u8,
        change: Change,
        body: &[u8],
        now: Instant,
    ) -> Result<(), Malformed> {
        let expectation = decode_expectation(body).map_err(|_| Malformed::BadPayload)?;
        if !is_wanted(&self.config.expectations, &expectation) {
            self.counters.expectations_ignored += 1;
            return Ok(());
        }
        let now_s = self.seconds(now);
        let counters = &mut self.counters;
        self.external.apply_expectation(peer, change, &expectation, now_s, counters);
        Ok(())
    }

    /// After a change of the settings.
    pub(super) fn end_unwanted_expectations(&mut self) {
        let all = self.internal.expectations.slots(|_| true);
        for slot in all {
            let Some(entry) = self.internal.expectations.table.get(slot) else { continue };
            if !self.wants_expectation(&entry.expectation) {
                let learned = self.internal.expectations.bury(slot, false, &mut self.counters);
                self.tell_expectation(learned);
            }
        }
    }

    fn wants_expectation(&self, expectation: &Expectation) -> bool {
        is_wanted(&self.config.expectations, expectation) && self.knows_master(expectation)
    }

    /// The kernel names the zone of the master and not its direction.
    fn knows_master(&self, expectation: &Expectation) -> bool {
        let table = &self.internal.table;
        [ZoneDirection::Both, ZoneDirection::Orig, ZoneDirection::Reply].iter().any(|direction| {
            let key = Key::new(&expectation.master, expectation.zone, *direction);
            let entry = table.find(&key).and_then(|slot| table.get(slot));
            entry.is_some_and(|entry| entry.stage.is_alive())
        })
    }

    fn tell_expectation(&mut self, learned: Learned) {
        let silent = self.tells_nothing();
        let (object, wanted) = match learned {
            Learned::Tell(slot) => (Object::Expectation(slot), !silent),
            Learned::Forget(slot) => (Object::Expectation(slot), false),
            Learned::Nothing => return,
        };
        let overheard = self.peers.iter().any(Peer::overhears);
        for peer in &mut self.peers {
            if wanted {
                peer.tell(object, overheard, &mut self.internal);
            } else {
                peer.conversation.forget(object, &mut self.internal);
            }
        }
        self.internal.release(object);
    }
}
