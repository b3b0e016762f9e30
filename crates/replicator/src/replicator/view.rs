//! What can be seen of a replicator.

use std::collections::BTreeMap;

use lockstep_ctnetlink::Flow;

use super::Replicator;
use crate::conversation::Conversation;
use crate::statistics::Counters;

impl Replicator {
    /// Flows in the internal cache.
    pub fn internal_len(&self) -> usize {
        self.internal.len()
    }

    /// Flows in the external cache.
    pub fn external_len(&self) -> usize {
        self.external.table.len()
    }

    /// The flows our kernel has told, in the order of the cache.
    pub fn internal_flows(&self) -> impl Iterator<Item = Flow> {
        let alive = self.internal.table.iter().filter(|entry| entry.stage.is_alive());
        alive.map(|entry| entry.stored.flow())
    }

    /// The flows the peer has told, in the order of the cache.
    pub fn external_flows(&self) -> impl Iterator<Item = Flow> {
        self.external.table.iter().map(|entry| entry.stored.flow())
    }

    /// Flows put into the kernel by the last commit.
    pub fn last_committed(&self) -> u64 {
        self.last_committed
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The counters and the lengths of caches and queues, by name.
    pub fn statistics(&self) -> BTreeMap<&'static str, u64> {
        let mut all = self.counters.by_name();
        let sum = |one: fn(&Conversation) -> usize| {
            self.peers.iter().map(|peer| one(&peer.conversation) as u64).sum()
        };
        all.extend([
            ("internal-flows", self.internal.len() as u64),
            ("external-flows", self.external.table.len() as u64),
            ("internal-expectations", self.internal.expectations.len() as u64),
            ("external-expectations", self.external.expectations.table.len() as u64),
            ("resend-queue-length", sum(Conversation::unacknowledged)),
            ("transmit-queue-length", sum(Conversation::waiting_to_send)),
        ]);
        all
    }
}
