//! What leaves the kernel after this router has left the active role.

use lockstep_ctnetlink::Flow;

use crate::config::Standby;
use crate::internal::Local;
use crate::key::Key;
use crate::replicator::Replicator;
use crate::table::Slot;

/// Removal of the flows that were this router's when it left the active role. Where the router
/// stands by in its kernel, what the peer has told since is not among them.
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
    replicator.config().standby == Standby::Kernel
        && replicator.external().table.find(&Key::of(flow)).is_some()
}
