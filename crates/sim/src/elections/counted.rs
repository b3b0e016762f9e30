//! What was seen of a router, to compare with what its machine has counted.

use lockstep_vrrp::{MAX_NEIGHBOURS, VirtualRouter};

/// What the world has seen, to compare with what the machine has counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Counted {
    pub(super) became_master: u64,
    pub(super) sent: u64,
    pub(super) sent_zero: u64,
    heeded: u64,
    heeded_zero: u64,
    refused: u64,
}

impl Counted {
    pub(super) fn note_heard(&mut self, heeded: bool, priority: u8) {
        self.heeded += u64::from(heeded);
        self.heeded_zero += u64::from(heeded && priority == 0);
        self.refused += u64::from(!heeded);
    }

    /// What the machine has counted is what the world has seen.
    pub(super) fn check(&self, election: &VirtualRouter) -> Result<(), String> {
        let statistics = election.statistics();
        let named = statistics.named();
        let refusals = named.iter().filter(|(name, _)| !NO_REFUSALS.contains(name));
        let counted = Self {
            became_master: statistics.master_transitions,
            sent: statistics.advertisements_sent,
            sent_zero: statistics.priority_zero_sent,
            heeded: statistics.advertisements_received,
            heeded_zero: statistics.priority_zero_received,
            refused: refusals.map(|(_, count)| count).sum(),
        };
        if counted != *self {
            return Err(format!("it counts {counted:?}, and it was {self:?}"));
        }
        if election.misunderstood().len() > MAX_NEIGHBOURS {
            return Err("it remembers too many neighbours".to_owned());
        }
        Ok(())
    }
}

/// Counters of something else than a refused packet.
const NO_REFUSALS: [&str; 11] = [
    "address-list-errors",
    "advertisement-rcvd",
    "advertisement-sent",
    "checksum-differences",
    "conflicts",
    "interval-differences",
    "master-transitions",
    "overslept",
    "priority-zero-pkts-rcvd",
    "priority-zero-pkts-sent",
    "takeovers-withheld",
];
