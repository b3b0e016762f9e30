//! What may change while a replicator runs: its settings, and what follows for the flows it knows.

use std::time::{Duration, Instant};

use lockstep_ctnetlink::Flow;

use super::Replicator;
use crate::config::Config;
use crate::event::{Cache, Event};
use crate::key::Key;
use crate::resync::{Cause, Resync};
use crate::table::Notice;
use crate::wire::Change;

/// Least time between two copies that are asked for because there is room again: a cache at its limit
/// has room again and again, and a copy costs both routers.
const ROOM_INTERVAL: Duration = Duration::from_secs(10);

impl Replicator {
    /// Whether [`Replicator::configure`] can make these settings its own. Other groups, another language,
    /// mode, way of standing by, or other links need a new replicator.
    pub fn can_take(&self, config: &Config) -> bool {
        let Config { groups, protocol, mode, standby, links, .. } = &self.config;
        *groups == config.groups
            && *protocol == config.protocol
            && *mode == config.mode
            && *standby == config.standby
            && *links == config.links
    }

    /// Puts these settings in force, all but those that need a new replicator, which stay as they
    /// are. Flows that are not wanted any more are told to the peers as ended and forgotten.
    ///
    /// Returns whether the kernel's table has to be read again ([`Replicator::begin_dump`]),
    /// because flows or expectations may be wanted that were left out before.
    #[must_use = "flows that are wanted now are still only in the kernel"]
    pub fn configure(&mut self, config: Config, now: Instant) -> bool {
        let before = std::mem::replace(&mut self.config, config);
        let now_in_force = &mut self.config;
        now_in_force.groups = before.groups;
        now_in_force.protocol = before.protocol;
        now_in_force.mode = before.mode;
        now_in_force.standby = before.standby;
        now_in_force.links = before.links;
        let filters = now_in_force.filter != before.filter;
        let helpers = now_in_force.expectations != before.expectations;
        let raised = now_in_force.cache_limit > before.cache_limit;
        for peer in &mut self.peers {
            peer.configure(&self.config);
        }
        self.internal.table.set_limit(self.config.cache_limit);
        self.external.table.set_limit(self.config.cache_limit);
        if filters {
            self.selection.configure(&self.config.filter);
            self.end_unwanted();
        }
        if filters || helpers {
            self.end_unwanted_expectations();
        }
        self.settle(now);
        filters || helpers || raised
    }

    /// Peers need not keep what is not kept up to date any more.
    fn end_unwanted(&mut self) {
        for slot in 0..self.internal.table.slots() {
            let unwanted = self.internal.table.get(slot).is_some_and(|entry| {
                let key = entry.stored.key();
                let ends = [key.orig().source, entry.stored.reply().source];
                entry.stage.is_alive() && !self.selection.takes_ends(key.protocol, ends)
            });
            if unwanted {
                self.counters.internal_unwanted += 1;
                let learned = self.internal.bury(slot, false, &mut self.counters);
                self.tell(learned);
            }
        }
    }

    /// Whether the filter lets this change of a flow through. Its end passes always, and so does
    /// everything of a flow that is known.
    pub(super) fn wants(&self, change: Change, flow: &Flow) -> bool {
        self.selection.takes(flow)
            && (change == Change::Delete || self.selection.takes_state(flow) || self.knows(flow))
    }

    /// Whether the internal cache has this flow, alive.
    pub(super) fn knows(&self, flow: &Flow) -> bool {
        let table = &self.internal.table;
        let entry = table.find(&Key::of(flow)).and_then(|slot| table.get(slot));
        entry.is_some_and(|entry| entry.stage.is_alive())
    }

    /// Peers have told what there was no room for, and do not tell it again unasked.
    pub(super) fn ask_for_what_was_refused(&mut self, now: Instant) {
        if !std::mem::take(&mut self.room_again) || !self.hears() {
            return;
        }
        // However long the wait after what was lost before: that was for want of room.
        let at = self.room_asked_at.map_or(now, |last| now.max(last + ROOM_INTERVAL));
        self.room_asked_at = Some(at);
        for place in 0..self.peers.len() {
            let resync = &mut self.peers[place].resync;
            let sooner = match resync {
                Resync::Wanted { at: planned, .. } => planned.is_some_and(|planned| planned > at),
                _ => true,
            };
            if sooner {
                *resync = Resync::later(Cause::Room, at);
                self.step_resync(place, now);
            }
        }
    }

    /// Events about the caches' limits.
    pub(super) fn look_at_limits(&mut self) {
        let notices = [
            (Cache::Internal, self.internal.table.take_notice()),
            (Cache::External, self.external.table.take_notice()),
            (Cache::InternalExpectations, self.internal.expectations.table.take_notice()),
            (Cache::ExternalExpectations, self.external.expectations.table.take_notice()),
        ];
        for (cache, notice) in notices {
            match notice {
                Some(Notice::Full) => self.push(Event::CacheFull { cache }),
                Some(Notice::HasRoom) => {
                    self.room_again |=
                        matches!(cache, Cache::External | Cache::ExternalExpectations);
                    self.push(Event::CacheHasRoom { cache });
                }
                None => {}
            }
        }
    }
}
