//! One virtual router (RFC 9568, RFC 3768): packets, authentication, election.
//!
//! Owns what an advertisement means and when this router is master, backup or neither. Knows
//! nothing of netlink, flows or groups, does no IO and never asks the time: the caller brings
//! events and `now`, and carries out the actions in order.
//!
//! The users' word for RFC 9568's *Active* router is **master**; it is used throughout.

mod config;

pub use config::{Authentication, Config, Family, InvalidPassword, Password, Priority, Version, Vrid};
