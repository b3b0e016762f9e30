//! The only IO towards the kernel: raw sockets, rtnetlink, ctnetlink, nftables, sysctl, namespaces.
//!
//! Each module turns one kernel interface into the types of a pure crate; rtnetlink's and
//! netlink's own types end here. Nothing is decided here.

mod bpf;
pub mod conntrack;
pub mod identity;
pub mod namespace;
pub mod network;
pub mod nftables;
pub mod own_table;
pub mod replication;
pub mod scheduling;
pub mod sysctl;
pub mod vrrp;
