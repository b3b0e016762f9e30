//! Networks of the kernel's own: hosts, LANs, firewalls and traffic in namespaces.
//!
//! Owns the places where the demo, the tests and the benchmarks happen: a [`Node`] is a host in a
//! network namespace, a [`Lan`] an Ethernet segment in another, and [`Lab`] the usual topology of
//! both: a client, two routers, a server. [`Firewall`] gives a router its NAT and filter,
//! [`traffic`] opens connections through it and judges what a failover does to them.
//!
//! Nothing needs a name in the system, a package or a file; all of it ends when it is dropped.
//! It needs `CAP_NET_ADMIN` over the namespaces it makes: root has it, and everybody else gets it
//! from [`become_root_in_user_namespace`].
//!
//! ```no_run
//! use lockstep_lab::{Interface, Lan, Node};
//!
//! # fn main() -> anyhow::Result<()> {
//! let lan = Lan::new()?;
//! let (here, there) = (Node::new("here")?, Node::new("there")?);
//! here.attach(&lan, &Interface::new("eth0").address("10.0.0.1/24".parse()?))?;
//! there.attach(&lan, &Interface::new("eth0").address("10.0.0.2/24".parse()?))?;
//! let listener = there.run(|| std::net::TcpListener::bind("10.0.0.2:80"))??;
//! here.run(|| std::net::TcpStream::connect("10.0.0.2:80"))??;
//! # drop(listener);
//! # Ok(())
//! # }
//! ```

mod firewall;
mod lan;
mod netlink;
mod node;
mod process;
mod topology;
pub mod traffic;

pub use firewall::{Firewall, Nat, Selector, bypass_tracking, lose, lose_nothing};
pub use lan::Lan;
pub use lockstep_kernel::namespace::become_root_in_user_namespace;
pub use lockstep_kernel::nftables;
pub use node::{Interface, Node};
pub use process::Process;
pub use topology::{Lab, RouterId};

/// Whether this process may make networks, and why not; for tests that say so instead of failing
/// where the privilege is missing.
///
/// # Errors
/// The kernel's refusal.
pub fn available() -> std::io::Result<()> {
    lockstep_kernel::namespace::Namespace::new().map(drop)
}
