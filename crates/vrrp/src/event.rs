//! What goes into and comes out of the election, and its states.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::advertisement::Advertisement;
use crate::config::{Config, Priority};
use crate::differences::Differing;
use crate::verdict::Rejection;

/// RFC 9568 §6.4. Each state owns the timer that runs in it, so a stale timer cannot exist.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Not taking part.
    Initialize,
    /// Listening.
    Backup {
        /// When the master is taken for dead.
        master_down_at: Instant,
        /// The master's interval, learned in version 3.
        master_adver_interval: Duration,
        /// Since when this router listens.
        since: Instant,
        /// Whether [`Action::Elected`] was said and nothing has taken it back.
        elected: bool,
    },
    /// Advertising.
    Master {
        /// When the next advertisement is due.
        adver_at: Instant,
        /// When another master was last answered.
        answered_at: Option<Instant>,
        /// The router that has to give way and is answered by the next one.
        answering: Option<IpAddr>,
        /// How late the router was, while it listens on that account before it advertises.
        silent_for: Option<Duration>,
    },
}

/// The name of a [`State`].
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum StateName {
    /// [`State::Initialize`].
    Initialize,
    /// [`State::Backup`].
    Backup,
    /// [`State::Master`].
    Master,
}

impl State {
    /// Its name.
    pub fn name(&self) -> StateName {
        match self {
            Self::Initialize => StateName::Initialize,
            Self::Backup { .. } => StateName::Backup,
            Self::Master { .. } => StateName::Master,
        }
    }
}

impl StateName {
    /// The word in status output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Master => "master",
        }
    }
}

/// What the caller has seen or decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// The interface is up and has an address of the family.
    Startup {
        /// The interface's first address of the family (IPv6: link-local); breaks ties.
        primary: IpAddr,
    },
    /// Stop taking part: the daemon ends, or the router is in fault.
    Shutdown,
    /// The group has decided that this router becomes master.
    Claim,
    /// The group gives up mastership because of another member; nothing is said on the wire.
    Relinquish,
    /// The group hands mastership over: the others are told to hurry, this router becomes backup
    /// and says [`Action::Succeeded`] when another one has claimed. When none does, it says
    /// [`Action::Elected`] again. From now on it yields: see [`Event::MayReturn`].
    Retire,
    /// A router that has handed over may preempt its successor as any other may.
    MayReturn,
    /// [`crate::VirtualRouter::next_deadline`] is reached; harmless when it is not.
    Timeout,
    /// An advertisement that [`crate::judge`] lets through.
    Received {
        /// What it says.
        advertisement: Advertisement,
        /// Who says it.
        source: IpAddr,
    },
    /// Whether a working master of lower priority may be replaced. Until it is allowed, the
    /// router behaves as with `preempt = false`, an address owner too.
    PreemptAllowed(bool),
    /// The interface's primary address is another now.
    PrimaryAddress(IpAddr),
    /// The priority in force from now on: the configured one with what tracking adds and takes
    /// away. It never changes for an address owner.
    Priority(Priority),
    /// The settings are other ones now; VRID and family stay. Nothing on the wire and in the state
    /// changes that does not follow from the difference.
    Configure(Box<Config>),
}

/// What the caller does, in the order given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Send this to the group, from the primary address.
    Send(Advertisement),
    /// This router should be master: ask the group, and answer with [`Event::Claim`].
    Elected {
        /// Why, for people.
        reason: String,
    },
    /// A master was heard after all: the election that was said is void.
    Deferred,
    /// The state is another now.
    StateChanged {
        /// Before.
        from: StateName,
        /// After.
        to: StateName,
    },
    /// This router has retired, and another one is heard as master.
    Succeeded {
        /// Its address.
        by: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// A better router is master; this one is backup already and the group has to follow.
    Superseded {
        /// The better router's address.
        by: IpAddr,
        /// Its priority.
        priority: u8,
        /// Why, for people.
        reason: String,
    },
    /// A neighbour sends what this router refuses; said at most once a second.
    Rejected {
        /// The neighbour.
        source: IpAddr,
        /// What is wrong.
        rejection: Rejection,
    },
    /// A neighbour is heeded although it is set up otherwise; said once until that changes, and at
    /// most once a second.
    Differs {
        /// The neighbour.
        source: IpAddr,
        /// In what, with both values.
        differing: Differing,
    },
    /// This router should be master and is not, because a neighbour is heard that it does not
    /// understand ([`crate::WhenMisunderstood::StayBackup`]); said once until that changes.
    Withheld {
        /// Why, for people.
        reason: String,
    },
    /// This master heard another one that has to give way: announce the addresses again, because
    /// the link may have learned the wrong place.
    Conflict {
        /// The other master.
        with: IpAddr,
    },
    /// The router was not scheduled for so long that another may be master by now; it listens
    /// before it does what was due.
    Overslept {
        /// How late it was.
        late: Duration,
    },
}

/// Another master that this one has heard since it became master, and that has to give way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OtherMaster {
    /// Its primary address.
    pub address: IpAddr,
    /// The priority it sent last.
    pub priority: u8,
    /// When it was heard first.
    pub since: Instant,
    /// When it was heard last.
    pub at: Instant,
    /// How often it was heard.
    pub count: u64,
}

impl OtherMaster {
    /// For people: who, and when.
    pub fn sentence(&self, now: Instant) -> String {
        let Self { address, priority, since, at, count } = *self;
        let [first, last] = [since, at].map(|at| now.saturating_duration_since(at).as_secs_f64());
        let when = if count == 1 {
            format!("heard once, {last:.1} s ago")
        } else {
            format!("heard {count} times from {first:.1} s to {last:.1} s ago")
        };
        format!("{address} is or was master too (priority {priority}) and has to give way: {when}")
    }
}

/// The last router that was heard as master.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Heard {
    /// Its primary address.
    pub address: IpAddr,
    /// The last priority it sent that was not 0; 0 when it was never heard with another.
    pub priority: u8,
    /// The interval it advertises.
    pub interval: Duration,
    /// When it was last heard.
    pub at: Instant,
    /// Whether the last it sent was priority 0: it has stopped.
    pub resigned: bool,
}
