//! The shared state machine: groups, tracking, the ordered transition plan, hooks, the journal.
//!
//! Owns when a failover group is master, backup or in fault, and the order in which everything
//! that follows from it happens. It receives what the others *observed* and gives out *steps*;
//! each step's outcome comes back as an event. Knows nothing of packets or netlink.

mod config;
mod explain;
mod fitness;
pub mod group;
mod handover;
mod hold;
pub mod hooks;
mod journal;
mod machine;
mod maintenance;
mod membership;
mod plan;
mod preemption;
mod queue;
mod reloading;
mod step;
pub mod tracking;

pub use config::{
    Check, Config, Group, HAND_OVER_LIMIT, Limits, Notify, OnFailure, Process, RunAs, Subject,
    Track, VirtualRouter,
};
pub use explain::Explanation;
pub use handover::HandedOver;
pub use journal::{JOURNAL_LIMIT, Journal, StepRecord, Transition};
pub use machine::{Action, CheckStatus, Event, Failover, Tracked, VirtualRouterEvent};
pub use step::{OVERTAKEN, Outcome, Step, StepId};

/// The state of a failover group.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum State {
    /// Not yet started.
    Init,
    /// Another router is master, or none is yet.
    Backup,
    /// This router serves the group's addresses (RFC 9568 calls it Active).
    Master,
    /// This router cannot serve the group.
    Fault,
    /// Shut down on purpose.
    Stopped,
}

impl State {
    /// The word in status output, hooks and journal.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Backup => "backup",
            Self::Master => "master",
            Self::Fault => "fault",
            Self::Stopped => "stopped",
        }
    }
}
