//! SCTP: the router checks the verification tags of an association, so the second router has to know them.
//!
//! Both ends are written here over raw sockets, because not every kernel with a tracker of SCTP has SCTP itself: an
//! association is set up, and a chunk of data goes each way.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use lockstep_ctnetlink::ProtocolState;
use lockstep_lab::{Lab, Node};
use lockstep_tests::{tables, wait};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Pair, WAYS};

const CLIENT_PORT: u16 = 3868;
const SERVER_PORT: u16 = 2905;
/// What the client wants to see in packets to it, and the server likewise. Each byte matters: a tag that is known in part
/// is as wrong as any other.
const CLIENT_TAG: u32 = 0x8877_6655;
const SERVER_TAG: u32 = 0x1122_3344;

#[test]
fn an_sctp_association_goes_on_both_ways_with_its_verification_tags() {
    for way in WAYS {
        let mut pair = Pair::new(way, |_| {});
        let mut client = End::open(pair.lab.client(), CLIENT_PORT, SERVER_PORT);
        let mut server = End::open(pair.lab.server(), SERVER_PORT, CLIENT_PORT);
        client.target = SocketAddr::new(Lab::SERVER.into(), 0);
        server.target = SocketAddr::new(Lab::WAN_VIRTUAL.into(), 0);
        associate(&mut client, &mut server);
        pair.wait_until_told("the association", |flow| {
            flow["state"] == "ESTABLISHED" && flow["protocol"] == 132
        });

        pair.fail_over();

        let known = tables::read(pair.b()).into_iter().find_map(|flow| match flow.protocol_state {
            ProtocolState::Sctp { vtag_orig, vtag_reply, .. } => Some((vtag_orig, vtag_reply)),
            ProtocolState::None | ProtocolState::Tcp(_) | ProtocolState::Dccp { .. } => None,
        });
        assert_eq!(known, Some((SERVER_TAG, CLIENT_TAG)), "{way}");
        // From outside first: only a known association lets it in.
        wait::until(&format!("{way}: the server's data arrives"), || {
            server.send(CLIENT_TAG, DATA, &data(b"down"));
            client.hears(DATA)
        });
        wait::until(&format!("{way}: the client's data arrives"), || {
            client.send(SERVER_TAG, DATA, &data(b"up"));
            server.hears(DATA)
        });
        server.send(CLIENT_TAG ^ 0xff00, DATA, &data(b"forged"));
        assert!(!client.hears(DATA), "{way}: another tag is still refused");
    }
}

/// The four ways of the handshake (RFC 9260 §5.1).
#[track_caller]
fn associate(client: &mut End, server: &mut End) {
    client.send(0, INIT, &init(CLIENT_TAG));
    assert!(server.hears(INIT));
    let cookie = [init(SERVER_TAG), vec![0, 7, 0, 8, b'c', b'o', b'o', b'k']].concat();
    server.send(CLIENT_TAG, INIT_ACK, &cookie);
    assert!(client.hears(INIT_ACK));
    client.send(SERVER_TAG, COOKIE_ECHO, b"cook");
    assert!(server.hears(COOKIE_ECHO));
    server.send(CLIENT_TAG, COOKIE_ACK, &[]);
    assert!(client.hears(COOKIE_ACK));
}

/// One end of the association.
struct End {
    socket: Socket,
    ports: [u16; 2],
    target: SocketAddr,
}

impl End {
    fn open(node: &Node, own: u16, other: u16) -> Self {
        let socket = node
            .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(SCTP))))
            .expect("the host")
            .expect("a raw socket");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let target = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { socket, ports: [own, other], target }
    }

    /// Sends one chunk in a packet with this tag.
    fn send(&self, tag: u32, kind: u8, content: &[u8]) {
        let [own, other] = self.ports.map(u16::to_be_bytes);
        let flags = if kind == DATA { WHOLE } else { 0 };
        let length = (4 + content.len() as u16).to_be_bytes();
        let mut packet =
            [&own[..], &other, &tag.to_be_bytes(), &[0; 4], &[kind, flags], &length, content]
                .concat();
        packet.resize(packet.len().next_multiple_of(4), 0);
        let checksum = crc32c(&packet);
        packet[8..12].copy_from_slice(&checksum.to_le_bytes());
        // While nobody serves there is no way; the caller tries again.
        let _ = self.socket.send_to(&packet, &self.target.into());
    }

    /// Whether a chunk of this kind arrives.
    fn hears(&mut self, kind: u8) -> bool {
        let mut packet = [0; 2048];
        while let Ok(length) = self.socket.read(&mut packet) {
            // An IPv4 header and SCTP's common one come before the chunk.
            if packet[..length].get(20 + 12) == Some(&kind) {
                return true;
            }
        }
        false
    }
}

/// What an INIT says: its tag, a window, one stream each way, the first number.
fn init(tag: u32) -> Vec<u8> {
    [&tag.to_be_bytes()[..], &65_535_u32.to_be_bytes(), &[0, 1, 0, 1], &1_u32.to_be_bytes()]
        .concat()
}

/// What a DATA chunk says: number, stream, payload protocol, and the payload.
fn data(payload: &[u8]) -> Vec<u8> {
    [&1_u32.to_be_bytes()[..], &[0; 4], &[0; 4], payload].concat()
}

/// CRC-32C (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 }
        })
    };
    !bytes.iter().fold(u32::MAX, step)
}

const SCTP: i32 = 132;
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
/// A message in one chunk.
const WHOLE: u8 = 3;
