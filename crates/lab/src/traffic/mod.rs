//! Traffic across a failover, and what becomes of it.
//!
//! [`Connections`] are TCP connections that keep transferring both ways with their content
//! checked; [`Probe`] asks and is answered every millisecond, which measures the outage; [`flows`]
//! are established connections that exist only in a router's tracking table, for its weight.

mod connections;
pub mod flows;
mod ledger;
mod pattern;
mod probe;

pub use connections::{Connections, Pace};
pub use ledger::{ConnectionReport, Fate, Verdict};
pub use probe::{Outage, Probe};
