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
//! Steps travel many to a message, so that thousands of groups fit through a channel. An actor
//! answers each exactly once, in whatever [`CoreEvent::Stepped`], and carries the steps of one group
//! out in the order they came; questions may wait.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_ctnetlink::{Expectation, Flow};
use lockstep_failover::hooks::Member;
use lockstep_failover::tracking::Seen;
use lockstep_failover::{Outcome, State, Step, StepId, Subject};
use lockstep_kernel::own_table::Rules;
use lockstep_routes::Address;
use tokio::sync::oneshot;

use crate::control::protocol::{Cache, Caches, Done, Stored, Switched, What};
use crate::network::Snapshot;
use crate::status;

/// Most messages waiting in one channel. A full channel makes the sender wait, except the core
/// thread: it keeps the steps back and goes on.
pub(crate) const QUEUE: usize = 256;

/// What reaches the core thread.
#[derive(Debug)]
pub(crate) enum CoreEvent {
    /// Steps have ended: which, and how.
    Stepped(Vec<(StepId, Outcome)>),
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
    /// A tracked file or process was looked at and is other than before.
    Tracked {
        /// What.
        subject: Subject,
        /// How it is.
        seen: Seen,
        /// The same for people.
        detail: String,
    },
    /// Whether the peer's state has arrived in full, and why not.
    InSync {
        /// Whether this router holds every flow the peer told it to expect.
        in_sync: bool,
        /// For people.
        reason: String,
    },
    /// Another router had served as well: what it served has come to this one.
    Merged {
        /// For people.
        reason: String,
    },
    /// A virtual address of a group that is master was gone and has been put back.
    Restored {
        /// The group.
        group: String,
    },
    /// A group that is master has a virtual address more.
    Extended {
        /// The group.
        group: String,
    },
    /// None of the hooks of a transition waits any more.
    HooksBegun {
        /// The group.
        group: String,
        /// The step that asked for them.
        id: StepId,
    },
    /// A hook has ended.
    HookEnded {
        /// The group it was run for.
        group: String,
        /// The state it was run for.
        state: State,
        /// Exit status, signal or time-out, for people; of a failure a whole sentence.
        result: Result<String, String>,
        /// Whether the group cannot do without it, and no newer one waits in its place.
        matters: bool,
    },
    /// Groups, virtual routers and punctuality, for `status`.
    Status(oneshot::Sender<status::Core>),
    /// Why each group is what it is, for `explain`.
    Explain(oneshot::Sender<Vec<status::Explanation>>),
    /// The last transitions, oldest first, for `journal`.
    Journal(oneshot::Sender<Vec<status::Transition>>),
    /// Let go of what another configuration does not have, and say when it has left.
    Leave(lockstep_config::Leaving, oneshot::Sender<()>),
    /// Take what another configuration says of groups, virtual routers, limits and announcements, and
    /// say so. What it does not have has left; these virtual routers come to groups that go on.
    Configure(Box<lockstep_config::Config>, Vec<String>, oneshot::Sender<()>),
    /// Hand the mastership of a group over to a peer, and say how it went.
    Switchover {
        /// The group.
        group: String,
        /// Whether a peer need not hold every flow.
        force: bool,
        /// Who asks.
        asker: oneshot::Sender<Result<Switched, String>>,
    },
    /// A group is not to be master from now on, or no more.
    Maintenance(MaintenanceChange),
    /// Hand over and end; said twice, end.
    Stop,
}

/// An order about the maintenance of a group.
#[derive(Debug)]
pub(crate) struct MaintenanceChange {
    /// The group.
    pub group: String,
    /// Since when, for people; `None` ends it.
    pub since: Option<String>,
    /// Who asks; told when it is backup.
    pub asker: Option<oneshot::Sender<Result<Switched, String>>>,
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
#[derive(Clone, Debug, Default, Eq, PartialEq)]
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
    /// The interface's own addresses, in the kernel's order, virtual ones left out. All are usable.
    pub addresses: Vec<std::net::IpAddr>,
    /// Own IPv6 addresses that are not usable yet: whether another host has them is being found out.
    pub tentative: Vec<std::net::IpAddr>,
    /// Own IPv6 addresses that are not usable because another host has them.
    pub duplicate: Vec<std::net::IpAddr>,
}

/// What the network thread is asked.
#[derive(Debug)]
pub(crate) enum NetworkRequest {
    /// Bring each group's objects of the step's kind in place, or remove them: `LinksUp`,
    /// `AddressesUp`, `RoutesUp`, `AddressesDown`, `RoutesDown`, `LinksDown`.
    Steps(Vec<GroupStep>),
    /// What is wanted and what is there, as a look shows it that begins after the request.
    Look(oneshot::Sender<Snapshot>),
    /// The same; what is known already will do where a look would take long and nothing has been
    /// announced since the last.
    Status(oneshot::Sender<Snapshot>),
    /// Want this from now on, and say so when what can be done for it at once is done.
    Configure(Box<Wanted>, oneshot::Sender<Result<(), String>>),
    /// The addresses of these virtual routers follow their groups from now on.
    Admit(Vec<String>),
    /// Remove the interfaces of our own, answer nothing more, end.
    Stop,
}

/// What a configuration wants of the network thread.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    /// Links, addresses, routes and rules.
    pub declared: lockstep_routes::Declared,
    /// The interfaces that the core wants to know about.
    pub interfaces: BTreeSet<String>,
    /// What the nftables table is to hold.
    pub rules: Rules,
    /// The failover groups: a side that was settled for another one is forgotten.
    pub groups: BTreeSet<String>,
    /// Virtual routers that come to a group which may be master: their addresses stay down until they
    /// are [admitted](NetworkRequest::Admit).
    pub arriving: BTreeSet<String>,
    /// The addresses of each virtual router.
    pub addresses: BTreeMap<String, Vec<Address>>,
}

/// What the checks and whoever looks at files and processes are told.
#[derive(Debug)]
pub(crate) enum WatchRequest {
    /// End every check that this configuration does not have as it is, and say so when nothing
    /// more is told of them.
    End(Box<lockstep_config::Config>, oneshot::Sender<()>),
    /// Check and look at what this configuration has, and say so when that has begun.
    Begin(Box<lockstep_config::Config>, oneshot::Sender<Result<(), String>>),
}

/// A step of one group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct GroupStep {
    /// To be answered with.
    pub id: StepId,
    /// The group.
    pub group: String,
    /// What.
    pub step: Step,
}

/// What the replicator thread is asked.
#[derive(Debug)]
pub(crate) enum ReplicatorRequest {
    /// `CommitFlows`, `ReplicateActive`, `ReplicateBackup` or `Barrier`, each with what it is to be answered
    /// with.
    Steps(Vec<GroupStep>),
    /// Role, peers, caches, counters.
    Status(oneshot::Sender<status::Replication>),
    /// Do what a person asks, and say how it went when it has ended.
    Command(Command, oneshot::Sender<Result<Done, String>>),
    /// Put these settings in force, and say so when what they let in has been read.
    Configure(Box<lockstep_replicator::Config>, oneshot::Sender<Result<Done, String>>),
    /// A part of a cache.
    Dump(Asked, oneshot::Sender<Entries>),
    /// End.
    Stop,
}

/// What people have the replicator do, see [`crate::control::protocol::Request`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Command {
    /// Put what the peers have told into the kernel.
    Commit(What),
    /// Empty caches.
    Flush(Caches),
    /// Ask the peers for everything.
    Resync,
    /// Tell the peers everything.
    Bulk,
    /// Read the kernel's tables.
    Reread(What),
    /// Remove what is replicated from the kernel when the purge timeout has passed.
    Purge,
    /// Remove what is replicated from the kernel now.
    KernelFlush(What),
}

/// Which part of a cache is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Asked {
    /// Which cache.
    pub cache: Cache,
    /// What of it.
    pub kind: Stored,
    /// [`Entries::next`] of the part before.
    pub after: Option<u64>,
    /// Most entries.
    pub limit: usize,
}

/// A part of a cache.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    /// Flows, when these were asked for, each with the seconds since it last changed.
    pub flows: Vec<(Flow, u32)>,
    /// Expectations, when these were asked for.
    pub expectations: Vec<Expectation>,
    /// Where the rest begins.
    pub next: Option<u64>,
}

/// What the control thread is asked by the core.
#[derive(Debug)]
pub(crate) enum ControlRequest {
    /// Run the hooks of new states after those that run now; a state that is no longer its
    /// group's newest is skipped. Groups without hooks are not among them, unless there is a pipe
    /// for new states.
    Hooks(Vec<HookRequest>),
    /// Take what another configuration says of hooks and their pipe, and say so. A hook that runs goes
    /// on.
    Configure(Box<lockstep_config::Config>, oneshot::Sender<()>),
    /// The daemon ends: give a running hook its bounded time.
    Stop,
}

/// The hook of a group's new state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct HookRequest {
    /// To be answered with, once the hook has been queued or started.
    pub id: StepId,
    /// The group.
    pub group: String,
    /// The state left.
    pub from: State,
    /// The state entered.
    pub to: State,
    /// Why, for the environment of the hook.
    pub reason: String,
    /// The group's virtual routers with their priorities in force, in the order of the configuration.
    pub members: Vec<Member>,
}
