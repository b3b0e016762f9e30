//! Who is compared, and what one router of it can be told and asked.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use lockstep_lab::{Node, RouterId};

use crate::ours::Ours;
use crate::theirs::Theirs;

/// A pair of routers with the same daemons on both.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    /// keepalived, conntrackd, and a script between them.
    Theirs,
    /// Lockstep that stands by with its flows in a cache.
    Cache,
    /// Lockstep that stands by with its flows in the kernel.
    Kernel,
}

impl Side {
    pub(crate) const ALL: [Self; 3] = [Self::Theirs, Self::Cache, Self::Kernel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Theirs => "keepalived + conntrackd",
            Self::Cache => "lockstep, cache",
            Self::Kernel => "lockstep, kernel",
        }
    }
}

/// What both sides are told.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// Between advertisements.
    pub(crate) interval: Duration,
    /// Most flows that are to be replicated.
    pub(crate) limit: u32,
    /// For each router the file that exists as long as it is healthy, when that is checked.
    pub(crate) health: Option<[PathBuf; 2]>,
}

impl Setting {
    /// The higher one is preferred.
    pub(crate) fn priority(id: RouterId) -> u8 {
        match id {
            RouterId::A => 150,
            RouterId::B => 100,
        }
    }

    /// The longest silence of a master after which router B takes over (RFC 9568 §6.1).
    pub(crate) fn detection(interval: Duration) -> Duration {
        let skew = interval * (256 - u32::from(Self::priority(RouterId::B))) / 256;
        3 * interval + skew
    }

    pub(crate) fn health(&self, id: RouterId) -> Option<&PathBuf> {
        self.health.as_ref().map(|files| &files[id as usize])
    }
}

/// The state of a router.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Master,
    Backup,
}

/// The beginning of what is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    pub(crate) instant: Instant,
    pub(crate) at: SystemTime,
}

/// Where the time of a takeover went, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Division {
    Theirs {
        /// From the addresses to the beginning of the script, negative when that was first.
        script_after: f64,
        /// Of the script, until the flows were committed.
        commit: f64,
        /// Of the whole script.
        script: f64,
        /// Calls in the script that failed.
        failed: usize,
    },
    Ours {
        /// Until the transition began.
        detection: f64,
        /// Of the transition: flows into the kernel.
        commit: f64,
        /// Addresses.
        addresses: f64,
        /// Gratuitous ARP.
        announce: f64,
    },
}

/// What runs on one router.
pub(crate) enum Router {
    Theirs(Theirs),
    Ours(Ours),
}

impl Router {
    /// Starts it; it may take a while until it is ready.
    pub(crate) fn start(side: Side, node: &Node, id: RouterId, setting: &Setting) -> Self {
        match side {
            Side::Theirs => Self::Theirs(Theirs::start(node, id, setting)),
            Side::Cache => Self::Ours(Ours::start(node, id, setting, "cache")),
            Side::Kernel => Self::Ours(Ours::start(node, id, setting, "kernel")),
        }
    }

    /// Waits until it is in this state, and has done what belongs to it.
    pub(crate) fn wait_for(&self, state: State) {
        match self {
            Self::Theirs(it) => it.wait_for(state),
            Self::Ours(it) => it.wait_for(state),
        }
    }

    /// How many flows it could take over now, `None` as long as it knows that it lacks some.
    pub(crate) fn known(&self, node: &Node) -> Option<u64> {
        match self {
            Self::Theirs(it) => Some(it.known()),
            Self::Ours(it) => it.known(node),
        }
    }

    /// How often it has become master.
    pub(crate) fn masteries(&self) -> usize {
        match self {
            Self::Theirs(it) => it.masteries(),
            Self::Ours(it) => it.masteries(),
        }
    }

    /// Waits until it has become master once more than `before` and done what belongs to it. Its
    /// addresses were there at `addresses`.
    pub(crate) fn division(&self, before: usize, since: Since, addresses: Instant) -> Division {
        match self {
            Self::Theirs(it) => it.division(before, since, addresses),
            Self::Ours(it) => it.division(before, since, addresses),
        }
    }

    /// Ends it at once, so that it says nothing.
    pub(crate) fn kill(self) {
        match self {
            Self::Theirs(it) => it.kill(),
            Self::Ours(it) => it.kill(),
        }
    }

    /// Ends it as systemd does.
    pub(crate) fn stop(self) {
        match self {
            Self::Theirs(it) => it.stop(),
            Self::Ours(it) => it.stop(),
        }
    }
}

/// For the daemons' socket buffers on the link between the routers, in bytes.
pub(crate) const LINK_BUFFER: u32 = 4 << 20;
/// Between two runs of the health check.
pub(crate) const CHECK_EVERY: Duration = Duration::from_millis(200);

/// In milliseconds.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
