//! A third world: the flows of one router that serves, on two or three others that stand by.
//!
//! Each node is a real [`lockstep_replicator::Replicator`] beside a model of its kernel, joined by
//! real datagrams over one or two links. A seed draws the number of nodes, the mode, the transport,
//! how each node stands by, the sizes of windows, queues and datagrams, and then what goes wrong:
//! loss to 40 %, reordering, duplication, links that go down, events that the kernel loses, nodes
//! that stand still for seconds while their sockets overflow, processes that start again, kernels
//! that lose their table, takeovers in the middle of all that, and where flows are left to another
//! node also two that serve at once. Then everything is put right.
//!
//! # What must hold
//!
//! - In the end every node that stands by holds the flows of the kernel that serves, each in its
//!   newest state, and nothing else: in its cache, and in its kernel too where it stands by so.
//! - It says that it is in sync then, and so does the one that serves.
//! - A takeover then has exactly these flows in the new kernel, none parked, and all is in order
//!   again soon after it.
//! - The kernel that serves never loses a flow to what is told on the wire, and gets none but those
//!   that another kernel has made and that have not ended since in either, as they were last.
//! - When two have served with everything else in order, but perhaps without hearing each other, the
//!   one that stays has the flows of both.
//! - At every moment what waits for a peer is bounded by the queues that were configured.

mod merging;
mod model;
mod node;
mod plan;
mod world;

pub use world::{Replication, ReplicationOutcome};
