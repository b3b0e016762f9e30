//! Another host on a wire, that packets can be exchanged with.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use futures_util::TryStreamExt;
use lockstep_kernel::namespace::Namespace;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::neighbour::NeighbourAttribute;

use crate::world::World;

/// Another host, with `eth0` on a wire to an interface of the world.
pub(crate) struct Host {
    namespace: Namespace,
}

impl World {
    /// A host on a wire to the new interface `name`, with these addresses; both ends are up.
    pub(crate) async fn host_on(&self, name: &str, addresses: &[&str]) -> Host {
        let namespace = Namespace::new().unwrap();
        self.veth(name, "far").await;
        let far = LinkUnspec::new_with_index(self.index("far").await).name("eth0".to_owned());
        let far = far.setns_by_fd(namespace.as_fd().as_raw_fd()).build();
        self.others.link().change(far).execute().await.unwrap();
        self.set_link(name, true).await;
        let host = Host { namespace };
        host.run(async |host: &mut World| {
            // Duplicate detection takes longer than anybody here wants to wait.
            lockstep_kernel::sysctl::write("net/ipv6/conf/eth0/accept_dad", "0").unwrap();
            host.set_link("lo", true).await;
            host.set_link("eth0", true).await;
            for address in addresses {
                host.add_address("eth0", address).await;
            }
        });
        host
    }

    /// The Ethernet address under which a neighbour is known on an interface.
    pub(crate) async fn neighbour(&self, name: &str, address: IpAddr) -> Option<[u8; 6]> {
        let index = self.index(name).await;
        let mut neighbours = self.others.neighbours().get().execute();
        let mut found = None;
        while let Some(neighbour) = neighbours.try_next().await.unwrap() {
            let is_it = neighbour.header.ifindex == index
                && neighbour.attributes.contains(&NeighbourAttribute::Destination(address.into()));
            let mac = neighbour.attributes.iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => mac.as_slice().try_into().ok(),
                _ => None,
            });
            found = found.or(mac.filter(|_| is_it));
        }
        found
    }
}

impl Host {
    /// The calling thread's host.
    pub(crate) fn here() -> Self {
        Self { namespace: Namespace::current().unwrap() }
    }

    /// Does something there.
    pub(crate) fn run<T: Send>(&self, work: impl AsyncFnOnce(&mut World) -> T + Send) -> T {
        self.namespace.run(|| World::enter(work)).unwrap()
    }

    /// Whether something there answers a connection from this host, be it by refusing it.
    pub(crate) fn is_answered_by(&self, address: IpAddr, limit: Duration) -> bool {
        let there = SocketAddr::new(address, 9);
        let answer = self.namespace.run(|| TcpStream::connect_timeout(&there, limit)).unwrap();
        answer.is_ok() || answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }
}
