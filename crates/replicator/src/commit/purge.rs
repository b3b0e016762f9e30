//! What leaves the kernel after this router has left the active role.

use lockstep_ctnetlink::Flow;

use super::Looks;
use crate::config::Standby;
use crate::internal::Local;
use crate::key::Key;
use crate::replicator::Replicator;
use crate::table::Slot;

/// Removal of the flows that were this router's when it left the active role. Where the router
/// stands by in its kernel, what the peer has told since is not among them.
#[derive(Debug, Default)]
pub struct Purge {
    looks: Looks,
    next: Slot,
}

impl Purge {
    /// The next flow to delete, by tuple, zone and id, so that a newer one of the same tuple is
    /// left alone; `None` when all have been handed out.
    /// However long that takes: see [`Purge::step`].
    pub fn next(&mut self, replicator: &Replicator) -> Option<Flow> {
        loop {
            let flow = self.step(replicator);
            if flow.is_some() || !self.has_more() {
                return flow;
            }
        }
    }

    /// Whether the last [`Purge::step`] has looked at so much that it left the rest for the next.
    pub fn has_more(&self) -> bool {
        self.looks.enough
    }

    /// Looks for the next flow at [`super::MAX_LOOKS`] entries at most. `None` when there was none
    /// among them, or when [`Purge::next`] would say so.
    pub fn step(&mut self, replicator: &Replicator) -> Option<Flow> {
        self.looks.begin();
        let table = &replicator.internal().table;
        while self.next < table.slots() {
            self.looks.take()?;
            let slot = self.next;
            self.next += 1;
            let ours = |entry: &&Local| entry.past.is_ours() && entry.stage.is_alive();
            let Some(entry) = table.get(slot).filter(ours) else { continue };
            let flow = entry.stored.flow();
            if !is_kept(replicator, &flow) {
                return Some(flow);
            }
        }
        None
    }
}

fn is_kept(replicator: &Replicator, flow: &Flow) -> bool {
    replicator.config().standby == Standby::Kernel && replicator.external().knows(&Key::of(flow))
}
