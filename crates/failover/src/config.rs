//! What the state machine is told: groups, their members, checks and hooks.

use std::time::Duration;

/// All groups and checks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// The failover groups; a virtual router named in none is a group of its own, with its name.
    pub groups: Vec<Group>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// Virtual routers that move together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its members.
    pub virtual_routers: Vec<VirtualRouter>,
    /// Checks that put the whole group in fault, the members' own among them.
    pub checks: Vec<String>,
    /// Hooks to run after a transition.
    pub notify: Notify,
    /// Whether flows are replicated for this group: then a commit belongs to becoming master, and
    /// preemption waits until the peer's state has arrived.
    pub replicated: bool,
}

/// One member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualRouter {
    /// Its name.
    pub name: String,
    /// The interface whose loss is a fault.
    pub interface: String,
}

/// A command whose exit status says whether this router can serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The command and its arguments; no shell.
    pub command: Vec<String>,
    /// Time from start to start.
    pub interval: Duration,
    /// A run that takes longer is ended and has failed. The interval unless set.
    pub timeout: Duration,
    /// Successes in a row that end a failure.
    pub rise: u32,
    /// Failures in a row that make one.
    pub fall: u32,
}

/// Commands run after a transition, one at a time, without a shell.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notify {
    /// After becoming master.
    pub master: Option<Vec<String>>,
    /// After becoming backup.
    pub backup: Option<Vec<String>>,
    /// After falling into fault.
    pub fault: Option<Vec<String>>,
    /// At shutdown.
    pub stop: Option<Vec<String>>,
    /// A run that takes longer is ended: SIGTERM, then SIGKILL to its process group.
    pub timeout: Option<Duration>,
}
