//! The sockets of a dedicated link on the real kernel: two namespaces with two cables between them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use lockstep_kernel::namespace::Namespace;
use lockstep_kernel::replication::{LinkError, LinkSocket};
use lockstep_replicator::Link;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkUnspec, LinkVeth};
use tokio::runtime::{Builder, Handle};
use tokio::time::{sleep, timeout};

/// Longest wait for something that must come.
const SOON: Duration = Duration::from_secs(10);
/// Time after which a datagram is sent again: the link may not have been ready.
const AGAIN: Duration = Duration::from_millis(50);

const A: &str = "10.99.0.1";
const B: &str = "10.99.0.2";
const OTHER_A: &str = "10.98.0.1";
const OTHER_B: &str = "10.98.0.2";

#[test]
fn datagrams_reach_the_other_side_and_not_the_sender() {
    with_cables(async |a, b| {
        for group in ["225.0.0.50", "ff02::4242"] {
            let sender = a.open_soon(&link("va", group)).await;
            let receiver = b.open_soon(&link("vb", group)).await;
            let (payload, source) = deliver(&sender, b"flows", &receiver).await;
            assert_eq!(payload, b"flows");
            let address: IpAddr = A.parse().unwrap();
            assert!(source == address || source.is_ipv6(), "{source}");
            assert_eq!(sender.try_receive(&mut [0; 100]).unwrap(), None);
        }
    });
}

#[test]
fn only_the_group_on_the_link_is_heard() {
    with_cables(async |a, b| {
        let receiver = b.open(&link("vb", "225.0.0.50")).unwrap();
        let stranger = a.namespace.run(|| UdpSocket::bind((A, 0)).unwrap()).unwrap();
        let elsewhere = a.open(&link("wa", "225.0.0.50")).unwrap();
        let sender = a.open(&link("va", "225.0.0.50")).unwrap();
        // Unicast to the port, on the link and past it, and the group on another link. They are
        // sent before the marker on the same cable, so they would come before it.
        for target in [B, OTHER_B] {
            let target: SocketAddr = format!("{target}:3780").parse().unwrap();
            // A refusal comes back as an error, and is what is wanted.
            drop(stranger.send_to(b"unicast", target));
        }
        elsewhere.writable().await.unwrap();
        assert!(elsewhere.try_send(b"elsewhere").unwrap());
        let (payload, _) = deliver(&sender, b"marker", &receiver).await;
        assert_eq!(payload, b"marker");
        while let Some((length, _)) = receiver.try_receive(&mut [0; 100]).unwrap() {
            assert_eq!(length, b"marker".len(), "nothing but repeated markers");
        }
    });
}

#[test]
fn a_port_that_somebody_has_is_said_in_one_line() {
    with_cables(async |a, _| {
        let first = a.open(&link("va", "225.0.0.50")).unwrap();
        let error = a.open(&link("va", "225.0.0.50")).unwrap_err();
        assert!(matches!(error, LinkError::InUse { .. }) && !error.is_temporary());
        assert_eq!(error.to_string(), "port 3780 on va is in use");
        drop(first);
        a.open(&link("va", "225.0.0.50")).unwrap();
    });
}

#[test]
fn what_cannot_be_opened_is_told_apart_from_what_is_not_there_yet() {
    with_cables(async |a, _| {
        let error = a.open(&link("vx", "225.0.0.50")).unwrap_err();
        assert_eq!(error.to_string(), "there is no interface vx");
        assert!(error.is_temporary());
        let error = a.open(&link("va", "10.99.0.2")).unwrap_err();
        assert_eq!(error.to_string(), "10.99.0.2 is not a multicast address");
        assert!(!error.is_temporary());
    });
}

#[test]
fn the_largest_datagram_follows_the_mtu() {
    with_cables(async |a, _| {
        let socket = a.open(&link("va", "225.0.0.50")).unwrap();
        assert_eq!(socket.max_datagram().unwrap(), 1472);
        let smaller = LinkUnspec::new_with_name("va").mtu(1400).build();
        a.links.link().set(smaller).execute().await.unwrap();
        assert_eq!(socket.max_datagram().unwrap(), 1372);
        let socket = a.open_soon(&link("va", "ff02::4242")).await;
        assert_eq!(socket.max_datagram().unwrap(), 1232);
    });
}

#[test]
fn an_interface_made_anew_is_noticed_and_can_be_used() {
    with_cables(async |a, b| {
        let before = a.open(&link("va", "225.0.0.50")).unwrap();
        assert!(a.within(|| before.is_current()));
        a.links.link().del(a.index("va")).execute().await.unwrap();
        assert!(!a.within(|| before.is_current()));
        lay(a, b, "va", "vb").await;
        assert!(!a.within(|| before.is_current()), "the same name is not the same interface");
        drop(before);
        a.add_address("va", A).await;
        let sender = a.open(&link("va", "225.0.0.50")).unwrap();
        let receiver = b.open(&link("vb", "225.0.0.50")).unwrap();
        let (payload, _) = deliver(&sender, b"again", &receiver).await;
        assert_eq!(payload, b"again");
    });
}

#[test]
fn checksums_can_be_left_out_and_buffers_asked_for() {
    with_cables(async |a, b| {
        let mut plain = link("va", "225.0.0.50");
        plain.checksum = false;
        plain.send_buffer = Some(1_249_280);
        plain.receive_buffer = Some(1_249_280);
        let sender = a.open(&plain).unwrap();
        let receiver = b.open(&link("vb", "225.0.0.50")).unwrap();
        let (payload, _) = deliver(&sender, b"unsummed", &receiver).await;
        assert_eq!(payload, b"unsummed");
    });
}

/// Sends until something arrives, since the other side's interface may need a moment.
async fn deliver(sender: &LinkSocket, payload: &[u8], receiver: &LinkSocket) -> (Vec<u8>, IpAddr) {
    let mut buffer = [0; 2048];
    let arrival = async {
        loop {
            // An interface that has no address yet of the family refuses for a moment.
            drop(sender.try_send(payload));
            tokio::select! {
                received = receiver.receive(&mut buffer) => return received.unwrap(),
                () = sleep(AGAIN) => {}
            }
        }
    };
    let (length, source) = timeout(SOON, arrival).await.unwrap();
    (buffer[..length].to_vec(), source)
}

fn link(interface: &str, group: &str) -> Link {
    Link::multicast(interface, group.parse().unwrap())
}

struct Side {
    namespace: Namespace,
    links: rtnetlink::Handle,
}

fn with_cables(test: impl AsyncFnOnce(&Side, &Side)) {
    let (a, b) = match (Namespace::new(), Namespace::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("skipped: no network namespace can be made: {error}");
            return;
        }
    };
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (a, b) = (Side::new(a), Side::new(b));
        lay(&a, &b, "va", "vb").await;
        lay(&a, &b, "wa", "wb").await;
        for (side, name, address) in
            [(&a, "va", A), (&b, "vb", B), (&a, "wa", OTHER_A), (&b, "wb", OTHER_B)]
        {
            side.add_address(name, address).await;
        }
        test(&a, &b).await;
    });
}

async fn lay(a: &Side, b: &Side, name_a: &str, name_b: &str) {
    a.links.link().add(LinkVeth::new(name_a, name_b).build()).execute().await.unwrap();
    let other = b.namespace.as_fd().as_raw_fd();
    let moved = LinkUnspec::new_with_name(name_b).setns_by_fd(other).build();
    a.links.link().set(moved).execute().await.unwrap();
    a.links.link().set(LinkUnspec::new_with_name(name_a).up().build()).execute().await.unwrap();
    b.links.link().set(LinkUnspec::new_with_name(name_b).up().build()).execute().await.unwrap();
}

impl Side {
    fn new(namespace: Namespace) -> Self {
        let runtime = Handle::current();
        let links = namespace.run(|| {
            let _entered = runtime.enter();
            let (connection, links, _) = rtnetlink::new_connection().unwrap();
            runtime.spawn(connection);
            links
        });
        Self { links: links.unwrap(), namespace }
    }

    fn open(&self, link: &Link) -> Result<LinkSocket, LinkError> {
        let runtime = Handle::current();
        self.within(|| {
            let _entered = runtime.enter();
            LinkSocket::open(link)
        })
    }

    /// Once the interface's own address is usable: IPv6 looks for duplicates first.
    async fn open_soon(&self, link: &Link) -> LinkSocket {
        let opened = async {
            loop {
                match self.open(link) {
                    Ok(socket) => return socket,
                    Err(error) => assert!(error.is_temporary(), "{error}"),
                }
                sleep(AGAIN).await;
            }
        };
        timeout(SOON, opened).await.unwrap()
    }

    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    fn index(&self, name: &str) -> u32 {
        self.within(|| if_nametoindex(name).unwrap())
    }

    async fn add_address(&self, name: &str, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.links.address().add(self.index(name), address, 24).execute().await.unwrap();
    }
}
