//! Lockstep and a real conntrackd as each other's peer.

mod commit;
mod expectations;
mod failover;
mod links;
mod loss;
mod matrix;
mod restart;
mod three;
