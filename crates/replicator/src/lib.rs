//! Flow replication: the caches, the filter, the peer protocol, resynchronisation, the commit plan.
//!
//! Owns what this router's kernel has told (internal cache), what the peers have told (external
//! cache), and the conversations with the peers. Knows nothing of VRRP and opens no
//! sockets: the caller feeds kernel events and datagrams and sends what [`Replicator`] hands out.
//!
//! ```text
//!  kernel events, dumps ──▶ filter ──▶ internal cache ──▶ ┌──────────────┐ ──▶ datagrams
//!                                                         │ conversation │
//!  commit plan ◀───────────────────── external cache  ◀── └──────────────┘ ◀── datagrams
//! ```

mod claim;
mod commit;
mod complete;
mod config;
mod conversation;
mod early;
mod ends;
mod event;
mod expectations;
mod external;
mod filter;
mod internal;
mod key;
#[cfg(test)]
mod memory;
mod refresh;
mod replicator;
mod resync;
mod standby;
mod statistics;
mod stored;
mod table;
mod timeout;
pub mod wire;

pub use commit::{
    Action, COMMIT_LIMIT, Commit, CommitPart, CommitReport, MAX_LOOKS, Planned, PlannedExpectation,
    Progress, Purge, Retry,
};
pub use config::{Config, Expectations, Filter, Link, Mode, PeerProtocol, Standby, Transport};
pub use event::{
    Cache, CopyState, Direction, Event, Lag, LinkState, LinkView, Origin, PeerState, Role, Start,
    SyncState, Transmit,
};
pub use replicator::{ExpectationEvent, InjectionState, KernelEvent, PEER_SILENT, Replicator};
pub use statistics::Counters;
pub use timeout::{PARKED_S, is_parked};
pub use wire::Change;
