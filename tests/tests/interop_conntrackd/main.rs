//! Lockstep and a real conntrackd as each other's peer.

mod commit;
mod failover;
mod loss;
mod matrix;
