//! Links, addresses, routes and rules: what is wanted, what is there, and the way from one to the
//! other.
//!
//! Owns the model and [`plan`], a function without history: it is run again after every change.
//! Says of each wanted object whether it is installed, pending (why), foreign or failed. Knows
//! nothing of VRRP or flows and does no IO.

mod model;

pub use model::*;
