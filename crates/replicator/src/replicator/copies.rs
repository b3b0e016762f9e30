//! The copies of everything the peers have: asked for, arriving, complete.

use std::time::Instant;

use super::Replicator;
use crate::event::{Event, Role};
use crate::resync::{Cause, Resync};

impl Replicator {
    /// Asks the peers for everything they have (`conntrackd -n`).
    pub fn request_resync(&mut self, now: Instant) {
        for peer in &mut self.peers {
            peer.resync = Resync::wanted(Cause::Command);
        }
        self.settle(now);
    }

    /// Sends the peers everything we have (`conntrackd -B`).
    pub fn send_everything(&mut self) {
        for peer in &mut self.peers {
            peer.conversation.want_copy();
        }
    }

    pub(super) fn want_resync(&mut self, place: usize, cause: Cause) {
        if self.role == Role::Backup {
            self.peers[place].resync = Resync::wanted(cause);
        }
    }

    pub(super) fn step_resync(&mut self, place: usize, now: Instant) {
        let peer = &mut self.peers[place];
        match peer.resync {
            Resync::Wanted { at, cause, attempts } => {
                let may_ask = peer.present() && peer.conversation.established();
                if may_ask && at.is_none_or(|at| now >= at) {
                    let generation = self.external.begin_generation(peer.index);
                    peer.conversation.ask_for_everything(generation, &mut self.counters);
                    peer.sweep_at = None;
                    peer.resync = Resync::Asked {
                        generation,
                        asked_at: now,
                        progress_at: now,
                        cause,
                        attempts,
                    };
                }
            }
            Resync::Asked { generation, cause, attempts, .. } => {
                let open = peer.conversation.resync_open(generation);
                if !open && peer.conversation.gaps() == 0 {
                    self.resync_ended(place, cause, attempts, now);
                }
            }
            Resync::Unneeded | Resync::Complete => {}
        }
    }

    fn resync_ended(&mut self, place: usize, cause: Cause, attempts: u32, now: Instant) {
        let peer = &mut self.peers[place];
        if peer.conversation.take_doubt() {
            peer.resync = Resync::again(cause, attempts, now);
            return;
        }
        peer.resync = Resync::Complete;
        self.counters.resyncs_completed += 1;
        // A router that has just booted has nothing to say, and what it told before is still the
        // best that is known of its connections: it is kept as long as a purge would take.
        let index = peer.index;
        let confirmed = self.external.confirmed(index);
        let told_before = || self.external.table.iter().any(|entry| entry.peer == index);
        if cause == Cause::Restarted && confirmed == 0 && told_before() {
            peer.sweep_at = Some(now + self.config.purge_timeout);
        } else {
            self.counters.external_swept += self.external.sweep(index) as u64;
        }
        if let Some(address) = peer.address() {
            self.push(Event::ResyncCompleted { address, flows: confirmed });
        }
        self.purge_left_overs(now);
    }
}
