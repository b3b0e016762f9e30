//! Two namespaces with a cable between them, and ears on it.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use futures_util::TryStreamExt;
use lockstep_kernel::vrrp::{
    Announcer, Batch, OpenError, Receiver, Sender, UnicastSocket, VridSet,
};
use lockstep_sys::packet::link_address;
use lockstep_vrrp::{Datagram, Family, Packet};
use rtnetlink::LinkMacVlan;
use rtnetlink::packet_route::link::{LinkFlags, MacVlanMode};
use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use crate::sides::{Side, lay, with_sides};

/// Longest wait for something that must come.
pub(crate) const SOON: Duration = Duration::from_secs(15);
/// From one attempt to the next at sending what is lost while a link comes up.
const RETRY: Duration = Duration::from_millis(100);
pub(crate) const A: &str = "10.51.0.11";
pub(crate) const B: &str = "10.51.0.12";
pub(crate) const A6: &str = "fe80::ff:fe00:a";
pub(crate) const ETHERNET_HEADER: usize = 14;

/// Two namespaces with `va` in the one and `vb` in the other.
pub(crate) struct Cable {
    pub(crate) a: Side,
    pub(crate) b: Side,
}

/// Runs a test between two fresh namespaces; where none may be made it says so and passes.
pub(crate) fn with_cable(test: impl AsyncFnOnce(&Cable)) {
    with_sides(async |a, b| {
        let cable = Cable { a, b };
        cable.lay("va", "vb").await;
        cable.a.add_address("va", A).await;
        cable.b.add_address("vb", B).await;
        test(&cable).await;
    });
}

impl Cable {
    pub(crate) async fn lay(&self, a: &str, b: &str) {
        lay(&self.a, &self.b, a, b).await;
    }

    pub(crate) async fn cut(&self, a: &str) {
        self.a.delete(a).await;
    }
}

impl Side {
    /// Waits until an interface has a carrier, or none.
    pub(crate) async fn until_carrier(&self, name: &str, wanted: bool) {
        let change = async {
            loop {
                let mut answer = self.links.link().get().match_name(name.to_owned()).execute();
                let link = answer.try_next().await.unwrap().unwrap();
                if link.header.flags.contains(LinkFlags::LowerUp) == wanted {
                    return;
                }
            }
        };
        timeout(SOON, change).await.expect("the carrier comes or goes");
    }

    /// Adds an interface with an address of its own on top of another.
    pub(crate) async fn add_macvlan(&self, name: &str, below: &str, mac: [u8; 6]) {
        let link = LinkMacVlan::new(name, self.index(below), MacVlanMode::Private);
        let link = link.address(mac.to_vec()).up().build();
        self.links.link().add(link).execute().await.unwrap();
    }

    pub(crate) fn receiver(&self, name: &str, family: Family, vrids: &[u8]) -> Ears {
        let set = set(vrids);
        let receiver = self.open_receiver(name, self.index(name), family, &set).unwrap();
        Ears { receiver, batch: Batch::new() }
    }

    pub(crate) fn open_receiver(
        &self,
        name: &str,
        index: u32,
        family: Family,
        vrids: &VridSet,
    ) -> Result<Receiver, OpenError> {
        self.run(|| Receiver::open(name, index, family, vrids))
    }

    pub(crate) fn sender(&self, name: &str) -> Sender {
        let index = self.index(name);
        self.run(|| Sender::open(index).unwrap())
    }

    pub(crate) fn unicast(&self, interface: Option<&str>, family: Family) -> UnicastSocket {
        let interface = interface.map(|name| (name, self.index(name)));
        self.run(|| UnicastSocket::open(interface, family).unwrap())
    }

    pub(crate) fn announcer(&self, name: &str) -> Announcer {
        let index = self.index(name);
        self.run(|| Announcer::open(index)).unwrap()
    }

    pub(crate) fn capture(&self, name: &str, ethertype: i32) -> Capture {
        let index = self.index(name);
        let socket = self.run(|| {
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).unwrap();
            socket.bind(&link_address(index, ethertype as u16)).unwrap();
            socket
        });
        Capture { socket: watch(socket) }
    }

    /// Sets a sysctl by its path below `/proc/sys/net`.
    pub(crate) fn set_sysctl(&self, path: &str, value: &str) {
        self.run(|| fs::write(format!("/proc/sys/net/{path}"), value).unwrap());
    }

    /// Loads nftables rules; says so and returns false where there is no `nft`.
    pub(crate) fn load_rules(&self, rules: &str) -> bool {
        self.run(|| {
            let nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn();
            let Ok(mut nft) = nft else {
                eprintln!("skipped: no nft here");
                return false;
            };
            nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
            assert!(nft.wait().unwrap().success(), "nft takes the rules");
            true
        })
    }

    /// Lets an interface send next to nothing, and queue some fifty advertisements; says so and
    /// returns false where there is no `tc`.
    pub(crate) fn throttle(&self, name: &str) -> bool {
        let line = format!("qdisc add dev {name} root tbf rate 8bit burst 1600 limit 3000");
        self.run(|| match Command::new("tc").args(line.split(' ')).status() {
            Ok(status) => {
                assert!(status.success(), "tc takes the queue");
                true
            }
            Err(error) => {
                eprintln!("skipped: no tc here: {error}");
                false
            }
        })
    }

    /// How many flows the kernel tracks.
    pub(crate) fn tracked_flows(&self) -> u32 {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        self.run(|| fs::read_to_string(path).unwrap().trim().parse().unwrap())
    }
}

pub(crate) fn set(vrids: &[u8]) -> VridSet {
    vrids.iter().copied().filter_map(lockstep_vrrp::Vrid::new).collect()
}

/// A receiver and its batch.
pub(crate) struct Ears {
    pub(crate) receiver: Receiver,
    batch: Batch,
}

impl Ears {
    /// Waits for packets and returns them; empty when it was woken for nothing.
    pub(crate) async fn wait(&mut self) -> Vec<Datagram> {
        timeout(SOON, self.receiver.readable()).await.expect("something arrives").unwrap();
        let count = self.receiver.receive(&mut self.batch).unwrap();
        assert_eq!(count, self.batch.datagrams().len());
        self.batch.datagrams().to_vec()
    }

    /// What is waiting now.
    pub(crate) fn waiting(&mut self) -> Vec<Datagram> {
        let count = self.receiver.try_receive(&mut self.batch).unwrap();
        assert_eq!(count, self.batch.datagrams().len());
        self.batch.datagrams().to_vec()
    }

    /// Waits until this many have come, and returns them.
    pub(crate) async fn collect(&mut self, count: usize) -> Vec<Datagram> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.wait().await);
        }
        all
    }

    /// Lets `send` try until something is heard, because a link that has just come up loses what
    /// it is given; then forgets what else was sent.
    pub(crate) async fn until_heard(&mut self, mut send: impl FnMut()) -> Datagram {
        let search = async {
            loop {
                send();
                if let Ok(result) = timeout(RETRY, self.receiver.readable()).await {
                    result.unwrap();
                    self.receiver.receive(&mut self.batch).unwrap();
                    if let Some(first) = self.batch.datagrams().first() {
                        return first.clone();
                    }
                }
            }
        };
        timeout(SOON, search).await.expect("what is sent arrives")
    }

    /// Returns once packets pass, with nothing waiting any more.
    pub(crate) async fn link_is_up(&mut self, sender: &mut Sender, packet: &Packet) {
        let packets = std::slice::from_ref(packet);
        self.until_heard(|| drop(sender.send(packets))).await;
        // Attempts that were only slow arrive before anything that is sent from here on: the
        // marker ends them.
        let mut marker = packet.clone();
        let last = marker.bytes.len() - 1;
        marker.bytes[last] ^= 0xff;
        assert!(sender.send(std::slice::from_ref(&marker)).is_empty());
        loop {
            let heard = self.wait().await;
            if heard.iter().any(|datagram| marker.bytes.ends_with(&datagram.payload)) {
                return;
            }
        }
    }
}

/// Every frame that passes an interface.
pub(crate) struct Capture {
    socket: AsyncFd<Socket>,
}

impl Capture {
    /// The next frame of which `wanted` holds.
    pub(crate) async fn next(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let search = async {
            let mut buffer = [0; 2048];
            loop {
                let mut ready = self.socket.readable().await.unwrap();
                let Ok(length) = ready.try_io(|socket| socket.get_ref().read(&mut buffer)) else {
                    continue;
                };
                let frame = &buffer[..length.unwrap()];
                if wanted(frame) {
                    return frame.to_vec();
                }
            }
        };
        timeout(SOON, search).await.expect("the frame arrives")
    }
}

#[expect(
    deprecated,
    reason = "its replacement is unsafe; `Socket` owns its descriptor and keeps it"
)]
fn watch(socket: Socket) -> AsyncFd<Socket> {
    AsyncFd::new(socket).unwrap()
}
