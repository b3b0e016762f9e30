//! TOML text to a checked [`Config`], or every diagnostic at once.
//!
//! Owns the configuration's words and their meaning. Reads no files: the caller brings the text
//! and its [`Surroundings`] (names of routing tables, the contents of secret files), and gets
//! values that cannot be wrong.
//!
//! ```
//! use lockstep_config::{Surroundings, parse, render};
//!
//! let text = "[vrrp.inside]\ninterface = \"eth0\"\nvrid = 0\naddresses = [\"10.1.1.1/24\"]\n";
//! let problems = parse("lockstep.toml", text, &Surroundings::default()).unwrap_err();
//! assert_eq!((problems[0].line, problems[0].column), (3, 8));
//! assert!(render(&problems[0], text, false).starts_with("error: 0 is out of range"));
//! ```

mod address;
mod announce;
mod authentication;
mod changes;
mod defaults;
mod diagnostic;
mod findings;
mod group;
mod mask;
mod network;
mod next_hop;
mod parse;
mod places;
mod problem;
mod reader;
mod replication;
mod route;
mod rt_tables;
mod rule;
mod schema;
mod script;
mod surroundings;
mod track;
mod transport;
mod virtual_mac;
mod virtual_router;
mod words;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_failover as failover;
use lockstep_replicator as replicator;
use lockstep_routes as routes;
use lockstep_vrrp as vrrp;

pub use changes::{Changes, Leaving, addresses_of_routers};
pub use defaults::STATE_DIRECTORY as DEFAULT_STATE_DIRECTORY;
pub use diagnostic::{Diagnostic, Severity, render, render_all};
pub use parse::{Checked, parse};
pub use rt_tables::routing_tables;
pub use script::{NotifyFifo, referenced_programs};
pub use surroundings::{Doubt, Program, Secret, Surroundings, referenced_files};

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
    /// How the thread that advertises is scheduled.
    pub scheduling: Scheduling,
    /// By interface: least time between two announcements there. None where it is not named.
    pub announcement_intervals: BTreeMap<String, Duration>,
    /// Where the daemon keeps what has to outlive it, an absolute path. Unless the file sets it, it
    /// is [`Surroundings::state_directory`], and without that [`DEFAULT_STATE_DIRECTORY`].
    pub state_directory: PathBuf,
    /// The pipe that every new state is written to, when there is one.
    pub notify_fifo: Option<NotifyFifo>,
    /// Whether programs that others could replace are run all the same.
    pub allow_insecure_scripts: bool,
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
    /// The address to advertise from; the interface's first of the family (IPv6: link-local)
    /// unless set. It need not be on any interface.
    pub source: Option<IpAddr>,
    /// The name of the interface with the virtual MAC address, one of
    /// [`routes::Declared::virtual_links`], when the virtual router has one: it advertises, and has
    /// its addresses, there, and listens on [`VirtualRouter::interface`].
    pub virtual_link: Option<String>,
    /// The other interfaces that have addresses of it, each once: it cannot serve where one of them
    /// is missing.
    pub carriers: Vec<String>,
    /// Which of the two advertises to the group; without a virtual MAC address there is no choice.
    pub advertise_from: AdvertiseFrom,
    /// Whether packets to the virtual addresses themselves are let in (RFC 9568 §6.1 `Accept_Mode`);
    /// an address owner always does.
    pub accept: bool,
    /// How the addresses are announced.
    pub announce: Announce,
}

/// Which interface of a virtual router with a virtual MAC address advertises.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AdvertiseFrom {
    /// That with the virtual MAC address, from which switches learn it (RFC 9568 §7.3).
    #[default]
    VirtualMac,
    /// The one below, for neighbours that do not hear their own virtual MAC address.
    Interface,
}

impl VirtualRouter {
    /// The interface that advertises to the group.
    pub fn advertising_interface(&self) -> &str {
        match (&self.virtual_link, self.advertise_from) {
            (Some(link), AdvertiseFrom::VirtualMac) => link,
            (Some(_), AdvertiseFrom::Interface) | (None, _) => &self.interface,
        }
    }
}

/// How often the virtual addresses are announced by gratuitous ARP or unsolicited neighbour
/// advertisements.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Announce {
    /// When announcements are made, counted from becoming master; the first is 0.
    pub after: Vec<Duration>,
    /// Time between announcements of a master that has made all of those; `None` for no more.
    pub refresh: Option<Duration>,
}

impl Default for Announce {
    /// At once, and again for neighbours that lost one.
    fn default() -> Self {
        let after = [0, 100, 1_000, 5_000].map(Duration::from_millis).to_vec();
        Self { after, refresh: None }
    }
}

/// How the thread that advertises is scheduled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scheduling {
    /// Its `SCHED_RR` priority, 1 to 99; `None` for ordinary scheduling.
    pub real_time: Option<u8>,
    /// Whether its memory may not be paged out.
    pub lock_memory: bool,
}
