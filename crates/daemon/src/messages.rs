//! What the threads of the daemon say to each other; every channel is bounded by [`QUEUE`].
//!
//! ```text
//!                 ┌──────────── core: vrrp + failover ────────────┐
//!                 │ NetworkRequest      ReplicatorRequest          │ ControlRequest
//!                 ▼                     ▼                          ▼
//!   network: links, addresses,   replicator: caches, peer,   control: socket, hooks,
//!   routes, rules                commit                      checks
//!                 └──────────── CoreEvent ─────────────────────────┘
//! ```
//!
//! An actor answers every request that carries a [`StepId`] with exactly one
//! [`CoreEvent::Stepped`], and carries steps out in the order they came; questions may wait.

use lockstep_failover::{Outcome, State, Step, StepId};
use tokio::sync::oneshot;

use crate::status;

/// Most messages waiting in one channel. A full channel makes the sender wait, except on the core
/// thread, which takes the step for failed rather than wait.
pub(crate) const QUEUE: usize = 256;

/// What reaches the core thread.
#[derive(Debug)]
pub(crate) enum CoreEvent {
    /// A step has ended.
    Stepped {
        /// Which.
        id: StepId,
        /// How.
        outcome: Outcome,
    },
    /// What an interface is now; sent at start for each interface of a virtual router (also when
    /// it is missing) and after each change.
    Interface(InterfaceState),
    /// A check has run.
    Check {
        /// Its name.
        name: String,
        /// Whether it succeeded.
        success: bool,
        /// Exit status, signal or time-out, for people.
        detail: String,
    },
    /// Whether the peer's state has arrived in full, and why not.
    InSync {
        /// Whether this router holds every flow the peer told it to expect.
        in_sync: bool,
        /// For people.
        reason: String,
    },
    /// A virtual address of a group that is master was gone and has been put back.
    Restored {
        /// The group.
        group: String,
    },
    /// A hook has ended.
    HookEnded {
        /// The group it was run for.
        group: String,
        /// Exit status, signal or time-out, for people.
        result: Result<String, String>,
    },
    /// Groups and virtual routers, for `status`.
    Status(oneshot::Sender<(Vec<status::Group>, Vec<status::VirtualRouter>)>),
    /// The last transitions, oldest first, for `journal`.
    Journal(oneshot::Sender<Vec<status::Transition>>),
    /// Hand over and end.
    Stop,
}

/// An interface as the kernel has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct InterfaceState {
    /// Its name.
    pub name: String,
    /// What it is, or `None` when there is no such interface.
    pub link: Option<LinkState>,
}

/// The part of an interface's state that an election needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct LinkState {
    /// The kernel's number of the interface.
    pub index: u32,
    /// Administratively up.
    pub up: bool,
    /// Carrier present (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// MTU in bytes.
    pub mtu: u32,
    /// The interface's own addresses, in the kernel's order, virtual ones left out.
    pub addresses: Vec<std::net::IpAddr>,
}

/// What the network thread is asked.
#[derive(Debug)]
pub(crate) enum NetworkRequest {
    /// Bring the group's objects of this step's kind in place, or remove them: `LinksUp`,
    /// `AddressesUp`, `RoutesUp`, `AddressesDown`, `RoutesDown`, `LinksDown`.
    Step {
        /// To be answered with.
        id: StepId,
        /// The group.
        group: String,
        /// What.
        step: Step,
    },
    /// Every declared object and how it stands.
    Status(oneshot::Sender<status::Network>),
    /// Remove nothing more, answer nothing more, end.
    Stop,
}

/// What the replicator thread is asked.
#[derive(Debug)]
pub(crate) enum ReplicatorRequest {
    /// `CommitFlows`, `ReplicateActive` or `ReplicateBackup`.
    Step {
        /// To be answered with.
        id: StepId,
        /// What.
        step: Step,
    },
    /// Role, peers, caches, counters.
    Status(oneshot::Sender<status::Replication>),
    /// End.
    Stop,
}

/// What the control thread is asked by the core.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    /// Run the hooks of a group's new state after those that run now; a state that is no longer
    /// the newest is skipped.
    Hook {
        /// To be answered with, once the hook has been queued or started.
        id: StepId,
        /// The group.
        group: String,
        /// The state left.
        from: State,
        /// The state entered.
        to: State,
        /// Why, for the environment of the hook.
        reason: String,
        /// The group's priority, for the environment of the hook.
        priority: u8,
    },
    /// The daemon ends: give a running hook its bounded time.
    Stop,
}
