//! ICMP: a ping goes on, with the identifier that its translation had.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use lockstep_lab::Lab;
use lockstep_tests::{tables, wait};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{Pair, WAYS};

const IDENTIFIER: u16 = 0x1234;

#[test]
fn a_ping_goes_on_and_its_flow_was_there_before() {
    for way in WAYS {
        let mut pair = Pair::new(way, |_| {});
        let mut ping = open(&pair);
        let mut sequence = 0;
        let mut answered = |ping: &mut Socket| {
            sequence += 1;
            ask_and_hear(ping, sequence)
        };
        assert!(answered(&mut ping), "a first ping passes");
        pair.wait_until_told("the ping", |flow| flow["orig"]["icmp-id"] == IDENTIFIER);

        pair.fail_over();

        let flows = tables::read(pair.b());
        let flow = flows.iter().find(|flow| flow.orig.protocol == 1);
        let flow = flow.unwrap_or_else(|| panic!("{way}: B has the ping's flow: {flows:?}"));
        assert_eq!(flow.reply.destination, IpAddr::from(Lab::WAN_VIRTUAL));
        wait::until(&format!("{way}: the ping is answered"), || answered(&mut ping));
    }
}

fn open(pair: &Pair) -> Socket {
    let socket = pair
        .lab
        .client()
        .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))
        .expect("the client")
        .expect("a raw socket");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let server = SocketAddr::new(Lab::SERVER.into(), 0);
    socket.connect(&server.into()).expect("a way to the server");
    socket
}

/// Whether an echo request of this number is answered.
fn ask_and_hear(socket: &mut Socket, sequence: u16) -> bool {
    let mut request =
        [[8, 0, 0, 0].as_slice(), &IDENTIFIER.to_be_bytes(), &sequence.to_be_bytes()].concat();
    let checksum = internet_checksum(&request);
    request[2..4].copy_from_slice(&checksum.to_be_bytes());
    if socket.send(&request).is_err() {
        return false;
    }
    let mut packet = [0; 256];
    while let Ok(length) = socket.read(&mut packet) {
        // An IPv4 header, and behind it the answer.
        let answer = &packet[20.min(length)..length];
        if answer.first() == Some(&0) && answer.get(4..8) == Some(&request[4..8]) {
            return true;
        }
    }
    false
}

fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
