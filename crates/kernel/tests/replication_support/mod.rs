//! Two namespaces with two cables between them, and links over those.

#![allow(dead_code, reason = "each file of tests needs a part of it")]

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use lockstep_kernel::namespace::Namespace;
use lockstep_kernel::replication::{Direction, Heard, LinkError, LinkSockets};
use lockstep_replicator::Link;
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::runtime::{Builder, Handle};
use tokio::time::{sleep, timeout};

/// Longest wait for something that must come.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Time after which something is tried again: the link may not have been ready.
pub(crate) const AGAIN: Duration = Duration::from_millis(50);

pub(crate) const A: &str = "10.99.0.1";
pub(crate) const B: &str = "10.99.0.2";
pub(crate) const OTHER_A: &str = "10.98.0.1";
pub(crate) const OTHER_B: &str = "10.98.0.2";
pub(crate) const A6: &str = "fd00:99::1";
pub(crate) const B6: &str = "fd00:99::2";

/// What a link has told, kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    Datagram { source: IpAddr, to_group: bool, bytes: Vec<u8> },
    Stream { source: IpAddr, bytes: Vec<u8> },
    Began(Direction),
    Ended(Direction),
}

impl Told {
    pub(crate) fn of(heard: Heard<'_>) -> Self {
        match heard {
            Heard::Datagram { origin, bytes } => {
                let (source, to_group) = (origin.source, origin.to_group);
                Self::Datagram { source, to_group, bytes: bytes.to_vec() }
            }
            Heard::Stream { origin, bytes } => {
                Self::Stream { source: origin.source, bytes: bytes.to_vec() }
            }
            Heard::Began { direction, .. } => Self::Began(direction),
            Heard::Ended { direction, .. } => Self::Ended(direction),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Datagram { bytes, .. } | Self::Stream { bytes, .. } => bytes,
            Self::Began(_) | Self::Ended(_) => &[],
        }
    }
}

/// What has come, without waiting.
pub(crate) fn take(link: &mut LinkSockets) -> Vec<Told> {
    let mut told = Vec::new();
    link.receive_many(usize::MAX, |heard| told.push(Told::of(heard))).unwrap();
    told
}

/// What has come; connections are made in the namespace of the side.
fn take_within(side: &Side, link: &mut LinkSockets) -> Vec<Told> {
    let runtime = Handle::current();
    side.within(|| {
        let _entered = runtime.enter();
        take(link)
    })
}

/// Attends to `links` until `done` with what the first has told, all of which it returns.
pub(crate) async fn attend(
    links: &mut [(&Side, &mut LinkSockets)],
    mut done: impl FnMut(&[Told]) -> bool,
) -> Vec<Told> {
    let mut told = Vec::new();
    let all = async {
        loop {
            for (number, (side, link)) in links.iter_mut().enumerate() {
                let taken = take_within(side, link);
                if number == 0 {
                    told.extend(taken);
                }
                link.flush();
            }
            if done(&told) {
                return;
            }
            let ready = std::future::poll_fn(|context| {
                let any = links.iter_mut().any(|(_, link)| link.poll_ready(context).is_ready());
                if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            // Others may write to these links too, and are given their turn.
            drop(timeout(AGAIN, ready).await);
        }
    };
    timeout(SOON, all).await.expect("it should have come by now");
    told
}

/// Sends until something arrives, since the other side's interface may need a moment.
pub(crate) async fn deliver(
    sender: &mut LinkSockets,
    to: Option<IpAddr>,
    payload: &[u8],
    receiver: &mut LinkSockets,
) -> Vec<Told> {
    let arrival = async {
        loop {
            assert!(sender.send(to, payload));
            sender.flush();
            drop(timeout(AGAIN, receiver.ready()).await);
            let told = take(receiver);
            if !told.is_empty() {
                return told;
            }
        }
    };
    timeout(SOON, arrival).await.expect("it should have arrived by now")
}

pub(crate) struct Side {
    pub(crate) namespace: Namespace,
    pub(crate) links: rtnetlink::Handle,
}

pub(crate) fn with_cables(test: impl AsyncFnOnce(&Side, &Side)) {
    let (a, b) = match (Namespace::new(), Namespace::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("skipped: no network namespace can be made: {error}");
            return;
        }
    };
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let (a, b) = (Side::new(a), Side::new(b));
        for side in [&a, &b] {
            // Addresses are usable at once: nobody else is there who could have them.
            for which in ["all", "default"] {
                let setting = format!("net/ipv6/conf/{which}/accept_dad");
                side.within(|| lockstep_kernel::sysctl::write(&setting, "0").unwrap());
            }
        }
        lay(&a, &b, "va", "vb").await;
        lay(&a, &b, "wa", "wb").await;
        for (side, name, address) in [
            (&a, "va", A),
            (&b, "vb", B),
            (&a, "va", A6),
            (&b, "vb", B6),
            (&a, "wa", OTHER_A),
            (&b, "wb", OTHER_B),
        ] {
            side.add_address(name, address).await;
        }
        test(&a, &b).await;
    });
}

pub(crate) async fn lay(a: &Side, b: &Side, name_a: &str, name_b: &str) {
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

    pub(crate) fn open(&self, link: &Link) -> Result<LinkSockets, LinkError> {
        let runtime = Handle::current();
        self.within(|| {
            let _entered = runtime.enter();
            LinkSockets::open(0, link)
        })
    }

    /// Once the interface's own address is usable.
    pub(crate) async fn open_soon(&self, link: &Link) -> LinkSockets {
        let opened = async {
            loop {
                match self.open(link) {
                    Ok(sockets) => return sockets,
                    Err(error) => assert!(error.is_temporary(), "{error:?}"),
                }
                sleep(AGAIN).await;
            }
        };
        timeout(SOON, opened).await.expect("the link should be there by now")
    }

    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    pub(crate) fn index(&self, name: &str) -> u32 {
        self.within(|| if_nametoindex(name).unwrap())
    }

    pub(crate) async fn set(&self, link: LinkMessageBuilder<LinkUnspec>) {
        self.links.link().set(link.build()).execute().await.unwrap();
    }

    pub(crate) async fn add_address(&self, name: &str, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        let length = if address.is_ipv4() { 24 } else { 64 };
        self.links.address().add(self.index(name), address, length).execute().await.unwrap();
    }
}
