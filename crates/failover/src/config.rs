//! What the state machine is told: groups, their members, checks and hooks.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::State;

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
    /// What else is tracked for every member.
    pub track: Vec<Track>,
    /// Hooks to run after a transition.
    pub notify: Notify,
    /// Whether this is a virtual router that is named in no group: hooks are told of the virtual
    /// router then, and of no group.
    pub alone: bool,
    /// Whether flows are replicated for this group: then a commit belongs to becoming master, and
    /// preemption waits until the peer's state has arrived.
    pub replicated: bool,
    /// Whether what would begin a flow is not passed on while flows are committed, for routers that
    /// packets reach without an address of the group. Of no effect without replication.
    pub holds_forwarding: bool,
    /// How long it waits for others.
    pub limits: Limits,
    /// How long a master that hands over serves on after its successor has claimed, unless that is
    /// heard to serve.
    pub hand_over_limit: Duration,
}

/// Unless a group says otherwise: long enough for the commit of a few hundred thousand flows.
pub const HAND_OVER_LIMIT: Duration = Duration::from_secs(5);

impl Default for Group {
    fn default() -> Self {
        Self {
            name: String::new(),
            virtual_routers: Vec::new(),
            checks: Vec::new(),
            track: Vec::new(),
            notify: Notify::default(),
            replicated: false,
            holds_forwarding: false,
            limits: Limits::default(),
            alone: false,
            hand_over_limit: HAND_OVER_LIMIT,
        }
    }
}

/// How long a group waits for what is not its own to hurry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest a commit may hold back the addresses; then the rest goes on, and the commit
    /// beside it.
    pub commit: Duration,
    /// The longest that a working master of lower priority is let be because its flows have not
    /// arrived; `None` to wait as long as it takes. A dead master is replaced at once.
    pub preempt_without_flows: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { commit: Duration::from_secs(30), preempt_without_flows: None }
    }
}

/// One member of a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualRouter {
    /// Its name.
    pub name: String,
    /// The interface whose loss is a fault.
    pub interface: String,
    /// The configured priority, 1 to 255; 255 is never changed.
    pub priority: u8,
    /// What is tracked for this member: its priority follows; what has no weight is a fault of the
    /// whole group.
    pub track: Vec<Track>,
    /// Hooks of its own, beside those of its group.
    pub notify: Notify,
}

impl VirtualRouter {
    /// A member of the usual priority, 100 (RFC 9568 §6.1), for which nothing is tracked.
    pub fn new(name: impl Into<String>, interface: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            interface: interface.into(),
            priority: 100,
            track: Vec::new(),
            notify: Notify::default(),
        }
    }
}

/// Something that is watched, and what follows from it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Track {
    /// What is watched.
    pub subject: Subject,
    /// −253 to 253 and not 0: a positive weight is added to the priority while the thing is good, a
    /// negative one takes its magnitude away while it is bad. A file's number is multiplied by it.
    /// `None`: the group cannot serve while the thing is bad (a file: not 0).
    pub weight: Option<i16>,
}

impl Track {
    /// A thing without which the group cannot serve.
    pub fn unfit(subject: Subject) -> Self {
        Self { subject, weight: None }
    }
}

/// Something that is watched for groups and virtual routers.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A check, by its name.
    Check(String),
    /// An interface: good while it is up and has carrier.
    Interface(String),
    /// A file that holds an integer; one that is not there holds 0.
    File(PathBuf),
    /// Processes.
    Process(Process),
}

/// Running processes: good while there are enough.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Process {
    /// The name of the program, or its path when there is a `/` in it.
    pub program: String,
    /// How many must run at least, from 1.
    pub quorum: u32,
    /// How long it must be otherwise before that is believed: a restart is no failure.
    pub delay: Duration,
}

impl Subject {
    /// The word for its kind in the configuration and in status output.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Interface(_) => "interface",
            Self::File(_) => "file",
            Self::Process(_) => "process",
        }
    }

    /// Why a group cannot serve while this is bad, in a sentence.
    pub(crate) fn complaint(&self, detail: &str) -> String {
        match self {
            Self::Check(name) => format!("check {name} failed: {detail}"),
            // Its detail names it.
            Self::Interface(_) => detail.to_owned(),
            Self::File(_) | Self::Process(_) => format!("{self}: {detail}"),
        }
    }
}

/// Its kind and name: `interface eth2`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(name) => write!(f, "check {name}"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Process(process) => write!(f, "process {}", process.program),
        }
    }
}

/// A command whose exit status says whether this router can serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The command and its arguments; no shell.
    pub command: Vec<String>,
    /// Who runs it; the daemon's own user without.
    pub user: Option<RunAs>,
    /// Time from start to start.
    pub interval: Duration,
    /// A run that takes longer is ended and has failed. The interval unless set.
    pub timeout: Duration,
    /// Successes in a row that end a failure.
    pub rise: u32,
    /// Failures in a row that make one.
    pub fall: u32,
}

/// Who runs a command.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RunAs {
    /// The name of a user, whose supplementary groups come with it.
    pub user: String,
    /// The name of a group in place of the user's own.
    pub group: Option<String>,
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
    /// After every one of these, with what it is about appended: see
    /// [`Notice::arguments`](crate::hooks::Notice::arguments).
    pub every: Option<Vec<String>>,
    /// A run that takes longer is ended: SIGTERM, then SIGKILL to its process group.
    pub timeout: Option<Duration>,
    /// Who runs them; the daemon's own user without.
    pub user: Option<RunAs>,
    /// What becomes of the group when one of them fails.
    pub on_failure: OnFailure,
}

/// What becomes of a group whose hook fails.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnFailure {
    /// Nothing; it is shown and logged.
    #[default]
    Ignore,
    /// It falls into fault, if it is still in the state that the hook was run for.
    Fault,
}

impl Notify {
    /// The command of a state alone.
    pub fn of_state(&self, state: State) -> Option<&[String]> {
        match state {
            State::Init => None,
            State::Backup => self.backup.as_deref(),
            State::Master => self.master.as_deref(),
            State::Fault => self.fault.as_deref(),
            State::Stopped => self.stop.as_deref(),
        }
    }

    /// Whether there is no command at all.
    pub fn is_empty(&self) -> bool {
        let Self { master, backup, fault, stop, every, timeout: _, user: _, on_failure: _ } = self;
        [master, backup, fault, stop, every].into_iter().all(Option::is_none)
    }
}
