//! What passes between the replicator and its caller.

use std::net::IpAddr;
use std::time::Duration;

/// Whose flows count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// This router serves; its kernel's flows are told to the peer.
    Active,
    /// The peer serves, or nobody yet.
    Backup,
}

impl Role {
    /// The word in status output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backup => "backup",
        }
    }
}

/// What a pure machine cannot know by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// The first message's number: the Unix time in seconds, so that a restart counts on.
    pub first_sequence: u32,
    /// Keys the hash of the caches, because strangers choose what is in them.
    pub secret: u64,
    /// Largest datagram payload: MTU − 28.
    pub max_datagram: usize,
}

/// Where a datagram came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The link it came in by, as an index of [`crate::Config::links`].
    pub link: usize,
    /// The router that sent it.
    pub source: IpAddr,
    /// Whether it was sent to the group, and not to this router alone.
    pub to_group: bool,
}

impl Origin {
    /// Sent to the group of this link by `source`.
    pub fn group(link: usize, source: IpAddr) -> Self {
        Self { link, source, to_group: true }
    }
}

/// A datagram, or a piece of a stream, has been put into the buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// The link to send it by, as an index of [`crate::Config::links`].
    pub link: usize,
    /// The router to send it to; `None` for the group.
    pub to: Option<IpAddr>,
    /// Messages in it.
    pub messages: u32,
}

/// What the caller should know.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A peer was heard for the first time, after a silence, or in another's place.
    PeerAppeared {
        /// Its address.
        address: IpAddr,
    },
    /// The peer says that it has started again.
    PeerRestarted,
    /// The peer has said nothing for [`crate::PEER_SILENT`].
    PeerSilent,
    /// The peer's flows have arrived and the external cache holds nothing else.
    ResyncCompleted {
        /// How many.
        flows: usize,
    },
    /// Whether this router holds every flow the peer has told has changed, or the reason has.
    Sync(SyncState),
    /// What was ours is to be removed from the kernel: see [`crate::Replicator::begin_purge`].
    PurgeDue,
}

/// Whether this router holds every flow the peer has told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyncState {
    /// Whether.
    pub in_sync: bool,
    /// Why (not), for people.
    pub reason: String,
}

impl SyncState {
    pub(crate) fn never_heard() -> Self {
        Self { in_sync: false, reason: "no peer has been heard".to_owned() }
    }
}

/// The peer, for `status`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerState {
    /// Its address.
    pub address: IpAddr,
    /// Time since it was last heard.
    pub heard: Duration,
    /// Whether that is too long.
    pub silent: bool,
    /// Messages it has not acknowledged.
    pub unacknowledged: usize,
    /// Messages waiting to be sent to it.
    pub waiting: usize,
}
