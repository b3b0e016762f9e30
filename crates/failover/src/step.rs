//! The steps of a transition.

use std::fmt;

/// One step of a transition, in the order of a group becoming master and then of leaving it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// The members advertise mastership.
    Claim,
    /// The external cache goes into the kernel.
    CommitFlows,
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
            Self::Claim => "claim",
            Self::CommitFlows => "commit flows",
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
}

/// Names one run of one step, so that a late answer is not taken for another's.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StepId(pub u64);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
