//! UDP: a stream that lives by being refreshed, of which the kernel tells nobody.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use lockstep_lab::Lab;
use lockstep_tests::wait;

use crate::{Pair, WAYS};

/// What a stream lives without a packet.
const TIMEOUT_S: u32 = 4;

#[test]
fn a_udp_stream_older_than_its_timeout_goes_on_and_the_server_may_speak_first() {
    for way in WAYS {
        let mut pair = Pair::new(way, |router| {
            for setting in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                router
                    .set(&format!("net/netfilter/{setting}"), &TIMEOUT_S.to_string())
                    .expect("a timeout");
            }
        });
        let server = bound(&pair, SocketAddr::new(Lab::SERVER.into(), 5000), false);
        let client = bound(&pair, SocketAddr::new(Lab::CLIENT.into(), 5001), true);
        let to = server.local_addr().expect("its address");
        client.send_to(b"hello", to).expect("it can be sent");
        let seen = receive(&server).expect("the server hears the client");
        assert_eq!(seen.ip(), Lab::WAN_VIRTUAL, "translated");

        // The stream outlives its timeout three times over because packets refresh it.
        let began = Instant::now();
        wait::until("the stream is old", || {
            client.send_to(b"more", to).expect("it can be sent");
            receive(&server).expect("the server hears the client");
            server.send_to(b"answer", seen).expect("it can be sent");
            receive(&client).expect("the client hears the server");
            began.elapsed() > Duration::from_secs(3 * u64::from(TIMEOUT_S))
        });

        pair.fail_over();

        // Nothing from outside gets in unless it belongs to a flow.
        let mut first = None;
        wait::until(&format!("{way}: the server's own words reach the client"), || {
            server.send_to(b"are you there", seen).expect("it can be sent");
            first = receive(&client);
            first.is_some()
        });
        assert_eq!(first, Some(to));
        client.send_to(b"yes", to).expect("it can be sent");
        assert_eq!(receive(&server), Some(seen), "{way}: with the same translation");
    }
}

fn bound(pair: &Pair, address: SocketAddr, at_client: bool) -> UdpSocket {
    let node = if at_client { pair.lab.client() } else { pair.lab.server() };
    let socket = node.run(|| UdpSocket::bind(address)).expect("the host").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    socket
}

fn receive(socket: &UdpSocket) -> Option<SocketAddr> {
    socket.recv_from(&mut [0; 64]).ok().map(|(_, from)| from)
}
