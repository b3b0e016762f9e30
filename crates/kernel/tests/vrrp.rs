//! VRRP sockets on the real kernel: two namespaces with a cable between them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "vrrp/cable.rs"]
mod cable;
#[path = "vrrp/hearing.rs"]
mod hearing;
#[path = "vrrp/links.rs"]
mod links;
#[path = "vrrp/made.rs"]
mod made;
#[path = "vrrp/receive.rs"]
mod receive;
#[path = "vrrp/send.rs"]
mod send;
mod sides;
#[path = "vrrp/unicast.rs"]
mod unicast;
