//! A deterministic world for the pure crates: a clock, a lossy LAN, model kernels, and routers that
//! run the real elections, groups and replicators.
//!
//! Owns nothing of the product: it plays the kernel, the network and the actors, each with the
//! delays, losses and crashes that a seed decides, and checks after every step what must always
//! hold (see [`World::step`]). The same seed gives the same run.

mod agenda;
mod elections;
mod faults;
mod invariants;
mod kernel;
mod lan;
mod replication;
mod router;
mod world;

pub use elections::{Elections, ElectionsOutcome, Loss, Setting, Times};
pub use faults::Weather;
pub use invariants::Violation;
pub use replication::{Replication, ReplicationOutcome};
pub use world::{Outcome, World};
