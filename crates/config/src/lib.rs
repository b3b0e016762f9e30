//! TOML text to a checked [`Config`], or every diagnostic at once.
//!
//! Owns the configuration's words and their meaning. Reads no files: the caller brings the text
//! (and the text of `rt_tables`), and gets values that cannot be wrong.

use lockstep_failover as failover;
use lockstep_replicator as replicator;
use lockstep_routes as routes;
use lockstep_vrrp as vrrp;

/// A checked configuration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The name of this router in status output and hooks.
    pub router_id: String,
    /// Every virtual router.
    pub virtual_routers: Vec<VirtualRouter>,
    /// Groups and checks, with a group for every virtual router that is named in none.
    pub failover: failover::Config,
    /// Flow replication, when configured.
    pub replication: Option<replicator::Config>,
    /// Links, addresses (the virtual routers' too), routes and rules.
    pub declared: routes::Declared,
}

/// One virtual router and where it lives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VirtualRouter {
    /// Its name: the key under `[vrrp]`.
    pub name: String,
    /// The failover group it belongs to.
    pub group: String,
    /// The interface on which it advertises.
    pub interface: String,
    /// Its election.
    pub vrrp: vrrp::Config,
}
