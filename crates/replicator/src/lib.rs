//! Flow replication: the caches, the filter, the peer protocol, resynchronisation, the commit plan.
//!
//! Owns what this router's kernel has told (internal cache), what the peer has told (external
//! cache), and the conversation between the two routers. Knows nothing of VRRP and opens no
//! sockets: the caller feeds kernel events and datagrams and sends what [`Replicator`] hands out.

mod config;

pub use config::{Config, Filter, Link, Mode, PeerProtocol};
