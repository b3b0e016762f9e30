//! The steps of a transition.

use std::fmt;

/// One step of a transition, in the order of a group becoming master and then of leaving it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// Packets that would begin a flow are not passed on, so that none of a flow that is still to be
    /// committed is taken for another's.
    HoldForwarding,
    /// The members advertise mastership.
    Claim,
    /// The external cache goes into the kernel.
    CommitFlows,
    /// Packets that begin a flow are passed on again.
    PassForwarding,
    /// Links that are up on the master go up.
    LinksUp,
    /// The group's addresses are added.
    AddressesUp,
    /// The group's routes and rules are installed.
    RoutesUp,
    /// Gratuitous ARP and unsolicited neighbour advertisements.
    Announce,
    /// The replicator tells its flows to the peer.
    ReplicateActive,
    /// The members stop advertising, with priority 0 where the peer should know.
    StopClaiming,
    /// The group's addresses are removed.
    AddressesDown,
    /// The group's routes and rules are removed.
    RoutesDown,
    /// Links that are down on the backup go down.
    LinksDown,
    /// The replicator takes its backup role.
    ReplicateBackup,
    /// The hooks of the new state are started.
    Hooks,
    /// A peer acknowledges every change of a flow that it has been told.
    Barrier,
    /// The members tell the others that the next may claim, and serve on.
    Retire,
    /// Another router is heard as master of every member. Nobody has to do anything for it.
    PeerClaims,
    /// Another router is heard to announce the group's addresses.
    PeerServes,
}

impl Step {
    /// The word in the journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HoldForwarding => "hold forwarding",
            Self::Claim => "claim",
            Self::CommitFlows => "commit flows",
            Self::PassForwarding => "pass forwarding",
            Self::LinksUp => "links up",
            Self::AddressesUp => "addresses",
            Self::RoutesUp => "routes and rules",
            Self::Announce => "announce",
            Self::ReplicateActive => "replicate as active",
            Self::StopClaiming => "stop claiming",
            Self::AddressesDown => "remove addresses",
            Self::RoutesDown => "remove routes and rules",
            Self::LinksDown => "links down",
            Self::ReplicateBackup => "replicate as backup",
            Self::Hooks => "hooks",
            Self::Barrier => "barrier",
            Self::Retire => "retire",
            Self::PeerClaims => "peer claims",
            Self::PeerServes => "peer serves",
        }
    }

    /// Whether this step, not yet begun, is of no use any more when `newer` of the same group waits
    /// behind it: whoever was held up does not go through what was wanted meanwhile. A role
    /// taken and left again would make it forget what the peers have told, which the next commit needs.
    pub fn is_overtaken_by(self, newer: Self) -> bool {
        match self {
            Self::LinksUp | Self::AddressesUp | Self::RoutesUp => newer == Self::AddressesDown,
            Self::HoldForwarding => newer == Self::PassForwarding,
            Self::CommitFlows => newer == Self::ReplicateBackup,
            Self::ReplicateActive => {
                matches!(newer, Self::ReplicateActive | Self::ReplicateBackup)
            }
            Self::Claim
            | Self::PassForwarding
            | Self::Announce
            | Self::StopClaiming
            | Self::AddressesDown
            | Self::RoutesDown
            | Self::LinksDown
            | Self::ReplicateBackup
            | Self::Hooks
            | Self::Barrier
            | Self::Retire
            | Self::PeerClaims
            | Self::PeerServes => false,
        }
    }
}

/// Names one run of one step, so that a late answer is not taken for another's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StepId(pub u64);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a step ended that [was overtaken](Step::is_overtaken_by).
pub const OVERTAKEN: &str = "overtaken by a newer step";

/// How a step ended. The text is for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// All of it is in place.
    Done(String),
    /// What could be done is done; the rest waits for something and is put in place when it comes.
    Pending(String),
    /// It could not be done.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Step; 19] = [
        Step::HoldForwarding,
        Step::Claim,
        Step::CommitFlows,
        Step::PassForwarding,
        Step::LinksUp,
        Step::AddressesUp,
        Step::RoutesUp,
        Step::Announce,
        Step::ReplicateActive,
        Step::StopClaiming,
        Step::AddressesDown,
        Step::RoutesDown,
        Step::LinksDown,
        Step::ReplicateBackup,
        Step::Hooks,
        Step::Barrier,
        Step::Retire,
        Step::PeerClaims,
        Step::PeerServes,
    ];

    #[test]
    fn what_leads_to_mastership_is_overtaken_by_what_leaves_it_and_nothing_else_is() {
        let overtaken = |newer| -> Vec<Step> {
            ALL.into_iter().filter(|step| step.is_overtaken_by(newer)).collect()
        };
        for newer in ALL {
            let expected: &[Step] = match newer {
                Step::AddressesDown => &[Step::LinksUp, Step::AddressesUp, Step::RoutesUp],
                Step::PassForwarding => &[Step::HoldForwarding],
                Step::ReplicateBackup => &[Step::CommitFlows, Step::ReplicateActive],
                Step::ReplicateActive => &[Step::ReplicateActive],
                _ => &[],
            };
            assert_eq!(overtaken(newer), expected, "{newer:?}");
        }
    }
}
