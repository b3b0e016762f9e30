//! Two sides with two cables between them, and replication links over those.

#![allow(dead_code, reason = "each file of tests needs a part of it")]

use std::net::IpAddr;
use std::time::Duration;

use lockstep_kernel::replication::{Direction, Heard, LinkError, LinkSockets};
use lockstep_replicator::Link;
use tokio::time::{sleep, timeout};

use crate::sides::{Side, lay, with_sides};

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

/// Attends to `links` until `done` with what the first has told, all of which it returns.
pub(crate) async fn attend(
    links: &mut [(&Side, &mut LinkSockets)],
    mut done: impl FnMut(&[Told]) -> bool,
) -> Vec<Told> {
    let mut told = Vec::new();
    let all = async {
        loop {
            for (number, (side, link)) in links.iter_mut().enumerate() {
                // Connections are made in the namespace of the side.
                let taken = side.run(|| take(link));
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

/// Runs a test on two sides with two cables between them.
pub(crate) fn with_cables(test: impl AsyncFnOnce(&Side, &Side)) {
    with_sides(async |a, b| {
        for side in [&a, &b] {
            // Addresses are usable at once: nobody else is there who could have them.
            for which in ["all", "default"] {
                let setting = format!("net/ipv6/conf/{which}/accept_dad");
                side.run(|| lockstep_kernel::sysctl::write(&setting, "0").unwrap());
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

impl Side {
    pub(crate) fn open(&self, link: &Link) -> Result<LinkSockets, LinkError> {
        self.run(|| LinkSockets::open(0, link))
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
}
