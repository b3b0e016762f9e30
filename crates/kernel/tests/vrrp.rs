//! VRRP sockets on the real kernel: two namespaces with a cable between them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use lockstep_kernel::namespace::Namespace;
use lockstep_kernel::vrrp::{AdvertisementSocket, Announcer};
use lockstep_sys::packet::link_address;
use lockstep_vrrp::{
    Advertisement, Authentication, Config, Datagram, Encoder, Endpoints, Family, PROTOCOL_AH,
    Packet, Password, Rejection, Version, Vrid, gratuitous_arp, judge, neighbour_advertisement,
};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkUnspec, LinkVeth};
use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;

/// Longest wait for something that must come.
const SOON: Duration = Duration::from_secs(10);
/// Longest wait for a packet that may have been sent before the link was ready.
const RETRY: Duration = Duration::from_millis(200);
const A: &str = "10.51.0.11";
const B: &str = "10.51.0.12";
const ETHERNET_HEADER: usize = 14;

#[test]
fn an_advertisement_over_ipv4_arrives_byte_for_byte() {
    with_cable(async |cable| {
        let config = password();
        let packet = advertise(&config, A);
        let sender = cable.a.open("va", Family::Ipv4);
        let mut receiver = cable.b.open("vb", Family::Ipv4);
        let wire = cable.b.capture("vb", libc::ETH_P_IP);

        let heard = exchange(&sender, &packet, &mut receiver).await;
        assert_eq!(heard, Datagram::from_ipv4(&packet.bytes, heard.received).unwrap());
        assert_eq!(judge(&config, &heard).unwrap().advertisement, Advertisement::of(&config, 150));

        let frame = wire.next(|frame| frame[ETHERNET_HEADER + 9] == 112).await;
        assert_eq!(frame[ETHERNET_HEADER..], packet.bytes);
        assert_eq!(frame[..6], [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12]);
    });
}

#[test]
fn an_advertisement_over_ipv6_arrives_byte_for_byte() {
    with_cable(async |cable| {
        let config = version_3_over_ipv6();
        let packet = advertise(&config, "fe80::ff:fe00:a");
        let sender = cable.a.open("va", Family::Ipv6);
        let mut receiver = cable.b.open("vb", Family::Ipv6);
        let wire = cable.b.capture("vb", libc::ETH_P_IPV6);

        let heard = exchange(&sender, &packet, &mut receiver).await;
        assert_eq!(heard.endpoints, Endpoints::to_group("fe80::ff:fe00:a".parse().unwrap()));
        assert_eq!(heard.ttl, 255);
        assert_eq!(judge(&config, &heard).unwrap().advertisement, Advertisement::of(&config, 150));

        let frame = wire.next(|frame| frame[ETHERNET_HEADER + 6] == 112).await;
        assert_eq!(frame[ETHERNET_HEADER..], packet.bytes);
        assert_eq!(frame[..6], [0x33, 0x33, 0x00, 0x00, 0x00, 0x12]);
    });
}

#[test]
fn a_socket_hears_its_own_interface_only_and_never_itself() {
    with_cable(async |cable| {
        cable.lay("wa", "wb").await;
        for (family, config, source) in [
            (Family::Ipv4, password(), A),
            (Family::Ipv6, version_3_over_ipv6(), "fe80::ff:fe00:a"),
        ] {
            let packet = advertise(&config, source);
            let mut sender = cable.a.open("va", family);
            let mut receiver = cable.b.open("vb", family);
            let mut elsewhere = cable.b.open("wb", family);
            let _ = exchange(&sender, &packet, &mut receiver).await;
            assert_eq!(sender.try_receive().unwrap(), None);
            assert_eq!(elsewhere.try_receive().unwrap(), None);
        }
    });
}

#[test]
fn what_is_waiting_is_read_without_waiting() {
    with_cable(async |cable| {
        let config = password();
        let packet = advertise(&config, A);
        let sender = cable.a.open("va", Family::Ipv4);
        let mut receiver = cable.b.open("vb", Family::Ipv4);
        let _ = exchange(&sender, &packet, &mut receiver).await;
        while receiver.try_receive().unwrap().is_some() {}
        // A veth hands its packets over before `send` returns or in a soft interrupt soon after:
        // the third is read when all have come.
        for _ in 0..3 {
            sender.send(&packet).unwrap();
        }
        let mut count = 0;
        let all = async {
            while count < 3 {
                match receiver.try_receive().unwrap() {
                    Some(_) => count += 1,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        timeout(SOON, all).await.unwrap();
        assert_eq!(receiver.try_receive().unwrap(), None);
    });
}

#[test]
fn a_neighbour_that_uses_the_authentication_header_is_heard_and_named() {
    with_cable(async |cable| {
        let capture = include_bytes!("../../vrrp/tests/vectors/v2-ah-cloudstack.pcap");
        let frame = recorded(capture).into_iter().find(|frame| frame[23] == PROTOCOL_AH).unwrap();
        let announcer = cable.a.announcer("va");
        let mut receiver = cable.b.open("vb", Family::Ipv4);
        let heard = until_it_arrives(async || {
            announcer.send(&frame).unwrap();
            receiver.receive().await.unwrap()
        });
        let heard = heard.await;
        assert_eq!(heard.vrid(), Vrid::new(51));
        let expected = Rejection::AuthenticationHeader { ours: 1 };
        assert_eq!(judge(&password(), &heard), Err(expected));
    });
}

#[test]
fn announcements_arrive_as_they_were_made() {
    with_cable(async |cable| {
        let announcer = cable.a.announcer("va");
        let mac = [0x02, 0, 0, 0, 0, 0x0a];
        let arp = gratuitous_arp("10.51.0.1".parse().unwrap(), mac);
        let neighbour = neighbour_advertisement("fe80::51:1".parse().unwrap(), mac, true);
        for (frame, ethertype) in [(arp, libc::ETH_P_ARP), (neighbour, libc::ETH_P_IPV6)] {
            let wire = cable.b.capture("vb", ethertype);
            let seen = until_it_arrives(async || {
                announcer.send(&frame).unwrap();
                wire.next(|seen| seen[6..12] == mac).await
            });
            assert_eq!(seen.await, frame);
        }
    });
}

#[test]
fn after_the_interface_was_deleted_and_made_again_new_sockets_serve() {
    with_cable(async |cable| {
        let packet = advertise(&password(), A);
        let sender = cable.a.open("va", Family::Ipv4);
        let announcer = cable.a.announcer("va");
        cable.cut("va").await;
        assert!(sender.send(&packet).is_err(), "told, not swallowed");
        assert!(announcer.send(&[0; 60]).is_err(), "told, not swallowed");

        cable.lay("va", "vb").await;
        let again = cable.a.open("va", Family::Ipv4);
        assert_ne!(again.index(), sender.index(), "another interface of the same name");
        let mut receiver = cable.b.open("vb", Family::Ipv4);
        let heard = exchange(&again, &packet, &mut receiver).await;
        assert!(judge(&password(), &heard).is_ok());
    });
}

#[test]
fn a_link_that_goes_down_and_up_needs_no_new_socket() {
    with_cable(async |cable| {
        let packet = advertise(&password(), A);
        let sender = cable.a.open("va", Family::Ipv4);
        let mut receiver = cable.b.open("vb", Family::Ipv4);
        let _ = exchange(&sender, &packet, &mut receiver).await;
        cable.b.set("vb", false).await;
        cable.b.set("vb", true).await;
        while receiver.try_receive().unwrap().is_some() {}
        let heard = exchange(&sender, &packet, &mut receiver).await;
        assert!(judge(&password(), &heard).is_ok());
    });
}

#[test]
fn a_missing_interface_is_named() {
    with_cable(async |cable| {
        let error = cable.a.try_open("nowhere", 4711, Family::Ipv4).unwrap_err();
        assert_eq!(error.to_string(), "failed to bind the VRRP socket on nowhere");
        assert_eq!(error.source.raw_os_error(), Some(libc::ENODEV));
        assert!(cable.a.namespace.run(|| Announcer::open(4711)).unwrap().is_err());
    });
}

/// Sends an advertisement and returns what is heard of it.
async fn exchange(
    sender: &AdvertisementSocket,
    packet: &Packet,
    receiver: &mut AdvertisementSocket,
) -> Datagram {
    until_it_arrives(async || {
        // While the link has no carrier or no route yet, the kernel refuses.
        let _ = sender.send(packet);
        receiver.receive().await.unwrap()
    })
    .await
}

/// Sends and receives again and again: a link that has just come up takes a packet and loses it.
async fn until_it_arrives<T>(mut attempt: impl AsyncFnMut() -> T) -> T {
    let arrival = async {
        loop {
            if let Ok(arrived) = timeout(RETRY, attempt()).await {
                return arrived;
            }
        }
    };
    timeout(SOON, arrival).await.expect("what is sent arrives")
}

/// Two namespaces with `va` in the one and `vb` in the other.
struct Cable {
    a: Side,
    b: Side,
}

struct Side {
    namespace: Namespace,
    links: rtnetlink::Handle,
}

/// Runs a test between two fresh namespaces; where none may be made it says so and passes.
fn with_cable(test: impl AsyncFnOnce(&Cable)) {
    let (a, b) = match (Namespace::new(), Namespace::new()) {
        (Ok(a), Ok(b)) => (a, b),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("skipped: no network namespace can be made: {error}");
            return;
        }
    };
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let cable = Cable { a: Side::new(a), b: Side::new(b) };
        cable.lay("va", "vb").await;
        cable.a.add_address("va", A).await;
        cable.b.add_address("vb", B).await;
        test(&cable).await;
    });
}

impl Cable {
    async fn lay(&self, a: &str, b: &str) {
        let links = self.a.links.link();
        links.add(LinkVeth::new(a, b).build()).execute().await.unwrap();
        let other = self.b.namespace.as_fd().as_raw_fd();
        let moved = LinkUnspec::new_with_name(b).setns_by_fd(other).build();
        self.a.links.link().set(moved).execute().await.unwrap();
        self.a.set(a, true).await;
        self.b.set(b, true).await;
    }

    async fn cut(&self, a: &str) {
        self.a.links.link().del(self.a.index(a)).execute().await.unwrap();
    }
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

    async fn set(&self, name: &str, up: bool) {
        let link = LinkUnspec::new_with_name(name);
        let link = if up { link.up() } else { link.down() };
        self.links.link().set(link.build()).execute().await.unwrap();
    }

    async fn add_address(&self, name: &str, address: &str) {
        let address: IpAddr = address.parse().unwrap();
        self.links.address().add(self.index(name), address, 24).execute().await.unwrap();
    }

    fn index(&self, name: &str) -> u32 {
        self.namespace.run(|| if_nametoindex(name).unwrap()).unwrap()
    }

    fn open(&self, name: &str, family: Family) -> AdvertisementSocket {
        self.try_open(name, self.index(name), family).unwrap()
    }

    fn try_open(
        &self,
        name: &str,
        index: u32,
        family: Family,
    ) -> Result<AdvertisementSocket, lockstep_kernel::vrrp::OpenError> {
        let runtime = Handle::current();
        let open = || {
            let _entered = runtime.enter();
            AdvertisementSocket::open(name, index, family)
        };
        self.namespace.run(open).unwrap()
    }

    fn announcer(&self, name: &str) -> Announcer {
        let index = self.index(name);
        self.namespace.run(|| Announcer::open(index)).unwrap().unwrap()
    }

    fn capture(&self, name: &str, ethertype: i32) -> Capture {
        let index = self.index(name);
        let socket = self.namespace.run(|| {
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None).unwrap();
            socket.bind(&link_address(index, ethertype as u16)).unwrap();
            socket
        });
        Capture { socket: watch(socket.unwrap()) }
    }
}

/// Every frame that comes in on an interface.
struct Capture {
    socket: AsyncFd<Socket>,
}

impl Capture {
    /// The next frame of which `wanted` holds.
    async fn next(&self, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
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

/// The frames of a classic little-endian capture.
fn recorded(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &pcap[24..];
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        frames.push(rest[16..16 + length].to_vec());
        rest = &rest[16 + length..];
    }
    frames
}

fn advertise(config: &Config, source: &str) -> Packet {
    let advertisement = Advertisement::of(config, 150);
    Encoder::new(config).packets(&advertisement, source.parse().unwrap(), Duration::ZERO).remove(0)
}

fn password() -> Config {
    Config {
        authentication: Authentication::Pass(Password::new("9YasrrhZ").unwrap()),
        addresses: vec!["10.51.0.1".parse().unwrap()],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

fn version_3_over_ipv6() -> Config {
    Config {
        version: Version::V3,
        family: Family::Ipv6,
        authentication: Authentication::None,
        addresses: vec!["fe80::51:1".parse().unwrap(), "2001:db8:51::1".parse().unwrap()],
        ..password()
    }
}
