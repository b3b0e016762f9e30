//! What `status` and `replication` show of flow replication.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Flow replication.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Replication {
    /// `active` or `backup`.
    pub role: String,
    /// conntrackd's mode: `ftfw`, `notrack`, `alarm`.
    #[serde(default)]
    pub mode: String,
    /// Where a backup keeps the flows: `cache` or `kernel`.
    #[serde(default)]
    pub standby: String,
    /// The peers heard.
    pub peers: Vec<Peer>,
    /// The dedicated links, in the order of the configuration.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Whether the peer's state has arrived in full.
    pub in_sync: bool,
    /// Why (not).
    pub reason: String,
    /// Flows in the internal cache.
    pub internal: u64,
    /// Flows in the external cache.
    pub external: u64,
    /// Expectations in the internal cache.
    #[serde(default)]
    pub internal_expectations: u64,
    /// Expectations in the external cache.
    #[serde(default)]
    pub external_expectations: u64,
    /// Most flows that fit into each cache.
    #[serde(default)]
    pub cache_limit: u64,
    /// Flows put into the kernel by the last commit.
    pub committed: u64,
    /// How the last commit went.
    #[serde(default)]
    pub last_commit: Option<Commit>,
    /// What stands by in the kernel, when it does.
    #[serde(default)]
    pub injection: Option<Injection>,
    /// Long work under way.
    #[serde(default)]
    pub jobs: Vec<Job>,
    /// Why the flows of the time as master stay in the kernel although the purge timeout has passed.
    #[serde(default)]
    pub purge_put_off: Option<String>,
    /// The kernel's table and how its events are heard.
    #[serde(default)]
    pub kernel: Kernel,
    /// Seconds since replication began.
    #[serde(default)]
    pub uptime_s: u64,
    /// Counters by name.
    pub statistics: BTreeMap<String, u64>,
}

/// A replication peer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Peer {
    /// Its address.
    pub address: String,
    /// The interface it was heard on last.
    #[serde(default)]
    pub interface: Option<String>,
    /// Milliseconds since it was last heard; `None` when it never was.
    pub heard_ms: Option<u64>,
    /// Milliseconds since then or, when it never was, since replication began.
    #[serde(default)]
    pub unheard_ms: u64,
    /// Whether that is so long that it counts as gone.
    #[serde(default)]
    pub silent: bool,
    /// Messages it has not acknowledged.
    pub unacknowledged: u64,
    /// Messages in line to be sent to it.
    #[serde(default)]
    pub waiting: u64,
    /// How far what it knows of us is behind: messages it has not acknowledged or been sent.
    #[serde(default)]
    pub behind: u64,
    /// The same in milliseconds: the age of the oldest of these.
    #[serde(default)]
    pub behind_ms: u64,
    /// How far we are behind it: messages that are missing.
    #[serde(default)]
    pub missing: u64,
    /// The same in milliseconds: since when the oldest of these is missing.
    #[serde(default)]
    pub missing_ms: u64,
    /// Messages of it that were missing when a later one came, since the start.
    #[serde(default)]
    pub lost: u64,
    /// Whether a full copy of its flows has arrived since it was heard.
    #[serde(default)]
    pub initial_copy: bool,
    /// Where the full copy of its flows stands: `unneeded` (this router is active), `wanted`,
    /// `wanted-again` (something of it was lost), `arriving`, `arrived`.
    #[serde(default)]
    pub copy: String,
    /// In what it seems to be set up otherwise.
    #[serde(default)]
    pub differs: Option<String>,
}

/// A dedicated link.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Link {
    /// Its interface.
    pub interface: String,
    /// `multicast`, `udp` or `tcp`.
    pub transport: String,
    /// The group, or the peers' addresses.
    pub to: Vec<String>,
    /// The port.
    pub port: u16,
    /// `active` (used to send), `standby` (usable) or `down`.
    pub state: String,
    /// Why it is down, or why nobody answers although it is up.
    pub reason: Option<String>,
    /// Largest datagram payload in bytes; 0 while the link is down.
    pub max_datagram: u64,
    /// Counters by name.
    pub statistics: BTreeMap<String, u64>,
}

/// Long work, done in pieces between which everybody else is served.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Job {
    /// `read`, `read-expectations`, `commit`, `inject`, `purge`, `flush-kernel`, `refresh`.
    pub name: String,
    /// Entries dealt with.
    pub done: u64,
    /// Entries to be dealt with, as far as is known.
    pub total: Option<u64>,
}

/// What a backup keeps in its kernel, and what becomes of it after a takeover.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Injection {
    /// Flows in the kernel that this router does not serve.
    pub in_kernel: u64,
    /// Flows that wait to be put in or taken out or, after a takeover, to get their own timeouts.
    pub waiting: u64,
    /// Flows that the kernel does not take now.
    pub refused: u64,
    /// Since the start, entries by what has become of them.
    pub counts: BTreeMap<String, u64>,
    /// Since the start, refused entries by reason.
    pub refusals: BTreeMap<String, u64>,
    /// The first refused entries, in words.
    pub samples: Vec<String>,
}

/// How a commit went.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Commit {
    /// When it ended, RFC 3339 in UTC with milliseconds.
    pub at: String,
    /// Milliseconds it took.
    pub took_ms: u64,
    /// Whether everything was tried.
    pub complete: bool,
    /// The same in a sentence.
    pub summary: String,
    /// Entries by what has become of them.
    pub counts: BTreeMap<String, u64>,
    /// Refused entries by reason.
    pub refused: BTreeMap<String, u64>,
    /// The first refused entries, in words.
    pub samples: Vec<String>,
}

/// The kernel's connection tracking.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Kernel {
    /// Flows in the table, `None` when it cannot be read.
    pub entries: Option<u64>,
    /// Most flows that fit.
    pub limit: Option<u64>,
    /// Receive buffer for events in bytes.
    pub event_buffer: u64,
    /// What it may grow to.
    pub event_buffer_limit: u64,
    /// What is wrong with it now: full, or entries refused, and why.
    pub trouble: Option<String>,
    /// The kernel's own counters by name (`conntrack -S`, summed over the processors).
    pub statistics: BTreeMap<String, u64>,
}
