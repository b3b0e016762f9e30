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

/// What is known of a link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LinkState {
    /// It can be used.
    Up {
        /// Largest datagram payload, or piece of a stream: MTU − 28 for UDP over IPv4.
        max_datagram: usize,
    },
    /// It cannot.
    Down {
        /// Why, for people.
        reason: String,
    },
}

/// A link, for `status`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LinkView {
    /// Whether it can be used and, if not, why.
    pub state: LinkState,
    /// Whether a peer is spoken to on it.
    pub active: bool,
    /// Datagrams (pieces of streams) handed out for it, and their bytes.
    pub sent: (u64, u64),
    /// Datagrams (pieces of streams) of peers that came in by it, and their bytes.
    pub received: (u64, u64),
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

/// Who speaks over a connection: each is used one way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The peer, which has opened it.
    Incoming,
    /// This router.
    Outgoing,
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

/// A cache, in what is said of its limit.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Cache {
    /// Flows of this router's kernel.
    Internal,
    /// Flows that peers have told.
    External,
    /// Expectations of this router's kernel.
    InternalExpectations,
    /// Expectations that peers have told.
    ExternalExpectations,
}

impl Cache {
    /// The words in messages and status output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal cache",
            Self::External => "external cache",
            Self::InternalExpectations => "internal expectation cache",
            Self::ExternalExpectations => "external expectation cache",
        }
    }
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
    PeerRestarted {
        /// Its address.
        address: IpAddr,
    },
    /// The peer has said nothing for [`crate::PEER_SILENT`].
    PeerSilent {
        /// Its address.
        address: IpAddr,
    },
    /// The peer is spoken to on another link from now on.
    LinkChanged {
        /// Its address on that link, as far as it is known.
        address: Option<IpAddr>,
        /// The link before.
        from: usize,
        /// The link now.
        to: usize,
    },
    /// The peer's flows have arrived and the external cache holds nothing else of it.
    ResyncCompleted {
        /// Its address.
        address: IpAddr,
        /// How many.
        flows: usize,
    },
    /// Whether this router holds every flow the peer has told has changed, or the reason has.
    Sync(SyncState),
    /// What was ours is to be removed from the kernel: see [`crate::Replicator::begin_purge`].
    PurgeDue,
    /// A peer that had served beside this router for a while, where only one is to serve, stands by.
    GaveWay {
        /// Which.
        address: IpAddr,
    },
    /// Flows of a router that serves them no more have been put into the kernel beside those that
    /// this router serves; said once a second at most.
    TakenUp {
        /// How many since it was said last.
        flows: u64,
        /// How many of them the kernel refused, or found their place taken.
        refused: u64,
        /// The last of these, in words.
        example: Option<String>,
    },
    /// A cache has reached its limit and refuses what is new; said once until it had room.
    CacheFull {
        /// Which.
        cache: Cache,
    },
    /// A cache that was full takes entries again.
    CacheHasRoom {
        /// Which.
        cache: Cache,
    },
}

/// Whether this router holds every flow the peer has told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SyncState {
    /// Whether.
    pub in_sync: bool,
    /// Why (not), for people.
    pub reason: String,
}

/// How far one router is behind another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lag {
    /// Messages that have not arrived.
    pub messages: u64,
    /// Since when the oldest of them has been missing.
    pub time: Duration,
}

/// Where the copy of everything a peer has stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CopyState {
    /// Not wanted: this router is the active one.
    Unneeded,
    /// The peer has not been asked for it yet.
    Wanted,
    /// Something of it was lost; it is asked for again.
    WantedAgain,
    /// It is arriving.
    Arriving,
    /// It has arrived.
    Arrived,
}

/// A peer, for `status`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerState {
    /// Its address, on the link on which it is spoken to if it is known there.
    pub address: IpAddr,
    /// That link, as an index of [`crate::Config::links`].
    pub link: usize,
    /// Whether it is spoken to alone, and not by way of the group.
    pub unicast: bool,
    /// Whether it has ever been heard.
    pub ever_heard: bool,
    /// Time since it was last heard, or since the start.
    pub heard: Duration,
    /// Whether that is too long.
    pub silent: bool,
    /// Whether both routers know each other, so that flows pass.
    pub established: bool,
    /// Messages it has not acknowledged.
    pub unacknowledged: usize,
    /// Messages waiting to be sent to it.
    pub waiting: usize,
    /// Where the copy of its flows stands.
    pub copy: CopyState,
    /// How far we are behind it.
    pub behind: Lag,
    /// How far it is behind us.
    pub peer_behind: Lag,
    /// Its messages that were missing when a later one came, most of them repeated since.
    pub lost: u64,
    /// What is suspected when it does not behave as a peer with the same settings does; for people.
    pub suspicion: Option<String>,
}
