//! What the tests on the real kernel share: routers, peers, and ways to look and to wait.
//!
//! The networks are `lockstep-lab`'s. Everything here panics with a sentence when it cannot go on: it is
//! called by tests only.

pub mod compare;
pub mod conntrackd;
pub mod daemon;
pub mod frames;
pub mod gateway;
pub mod inject;
pub mod keepalived;
pub mod pair;
pub mod relay;
pub mod replicas;
pub mod rights;
pub mod router;
pub mod segment;
pub mod setting;
pub mod story;
pub mod systemd;
pub mod tables;
pub mod wait;
