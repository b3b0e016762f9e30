//! Links that carry streams, on the real kernel: two namespaces with a cable between them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod replication_support;
mod sides;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use lockstep_kernel::replication::{Condition, Direction, LinkError, LinkSockets};
use lockstep_replicator::{Link, Transport};
use replication_support::*;
use sides::Side;
use socket2::{Domain, SockAddr, Socket, Type};

const BEGAN: Told = Told::Began(Direction::Incoming);
/// Another address on the cable.
const STALLED: &str = "10.99.0.77";
const ENDED: Told = Told::Ended(Direction::Incoming);

#[test]
fn each_side_speaks_over_a_connection_of_its_own() {
    with_cables(async |a, b| {
        for (near, far) in [(A, B), (A6, B6)] {
            let mut left = a.open_soon(&stream("va", near, far)).await;
            let mut right = b.open_soon(&stream("vb", far, near)).await;
            let both = [Told::Began(Direction::Outgoing), BEGAN];
            let begun = |told: &[Told]| both.iter().all(|it| told.contains(it));
            attend(&mut [(a, &mut left), (b, &mut right)], begun).await;
            assert!(left.send(Some(address(far)), b"to the right"));
            assert!(left.flush());
            let told =
                attend(&mut [(b, &mut right), (a, &mut left)], |told| !bytes(told).is_empty())
                    .await;
            assert_eq!(bytes(&told), b"to the right");
            assert!(right.send(Some(address(near)), b"to the left"));
            assert!(right.flush());
            let told =
                attend(&mut [(a, &mut left), (b, &mut right)], |told| !bytes(told).is_empty())
                    .await;
            assert_eq!(bytes(&told), b"to the left");
        }
    });
}

#[test]
fn what_was_handed_over_arrives_whole_whatever_the_buffers() {
    with_cables(async |a, b| {
        let mut small = stream("va", A, B);
        small.send_buffer = Some(4096);
        let mut slow = stream("vb", B, A);
        slow.receive_buffer = Some(4096);
        let mut left = a.open_soon(&small).await;
        let mut right = b.open_soon(&slow).await;
        let wanted = [Told::Began(Direction::Outgoing)];
        attend(&mut [(a, &mut left), (b, &mut right)], |told| told.contains(&wanted[0])).await;
        // Nobody reads while this is handed over, so it fills every buffer there is.
        let mut sent = Vec::new();
        let mut number = 0_u32;
        while left.has_room() {
            let datagram = number.to_be_bytes().repeat(350);
            assert!(left.send(Some(address(B)), &datagram));
            sent.extend(datagram);
            number += 1;
            assert!(number < 100_000, "memory is bounded");
        }
        assert!(!left.flush(), "some waits");
        let length = sent.len();
        let told =
            attend(&mut [(b, &mut right), (a, &mut left)], |told| bytes(told).len() >= length)
                .await;
        assert!(bytes(&told) == sent, "the same bytes in the same order");
        assert!(left.has_room() && left.flush());
        assert_eq!(left.counters().refused, 0);
    });
}

#[test]
fn without_a_connection_what_is_handed_over_is_counted_and_lost() {
    with_cables(async |a, b| {
        let mut left = a.open_soon(&stream("va", A, B)).await;
        for _ in 0..1000 {
            assert!(left.has_room());
            assert!(left.send(Some(address(B)), &[1; 1400]));
        }
        assert!(left.flush());
        assert_eq!((left.counters().refused, left.counters().sent_datagrams), (1000, 0));
        let mut right = b.open_soon(&stream("vb", B, A)).await;
        attend(&mut [(b, &mut right), (a, &mut left)], |told| told.contains(&BEGAN)).await;
        assert!(left.send(Some(address(B)), b"first"));
        let told =
            attend(&mut [(b, &mut right), (a, &mut left)], |told| !bytes(told).is_empty()).await;
        assert_eq!(bytes(&told), b"first");
    });
}

#[test]
fn a_peer_that_is_not_there_is_tried_again_at_most_once_a_second() {
    with_cables(async |a, b| {
        let mut left = a.open_soon(&stream("va", A, B)).await;
        let listener = b.run(|| TcpListener::bind((B, Link::PORT)).unwrap());
        listener.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        let mut accepted = 0;
        while accepted < 3 {
            let mut turns = 0;
            attend(&mut [(a, &mut left)], |_| std::mem::replace(&mut turns, 1) > 0).await;
            // Each is closed at once.
            accepted += listener.accept().map_or(0, |_| 1);
            assert!(begun.elapsed() < SOON);
        }
        assert!(begun.elapsed().as_millis() >= 1900, "{:?}", begun.elapsed());
    });
}

#[test]
fn the_end_of_a_connection_is_told_and_the_next_begins_afresh() {
    with_cables(async |a, b| {
        let mut left = a.open_soon(&stream("va", A, B)).await;
        let mut right = b.open_soon(&stream("vb", B, A)).await;
        attend(&mut [(b, &mut right), (a, &mut left)], |told| told.contains(&BEGAN)).await;
        assert!(left.send(Some(address(B)), b"half a mess"));
        attend(&mut [(b, &mut right), (a, &mut left)], |told| !bytes(told).is_empty()).await;
        drop(left);
        let told = attend(&mut [(b, &mut right)], |told| told.contains(&ENDED)).await;
        assert_eq!(bytes(&told), b"");
        let mut left = a.open_soon(&stream("va", A, B)).await;
        attend(&mut [(b, &mut right), (a, &mut left)], |told| told.contains(&BEGAN)).await;
        assert!(right.counters().connections_ended >= 1);
    });
}

#[test]
fn the_sender_is_told_that_its_connection_has_ended() {
    with_cables(async |a, b| {
        let mut left = a.open_soon(&stream("va", A, B)).await;
        let mut right = b.open_soon(&stream("vb", B, A)).await;
        let (began, ended) = (Told::Began(Direction::Outgoing), Told::Ended(Direction::Outgoing));
        attend(&mut [(a, &mut left), (b, &mut right)], |told| told.contains(&began)).await;
        drop(right);
        let told = attend(&mut [(a, &mut left)], |told| told.contains(&ended)).await;
        assert!(!told.contains(&began), "nobody is there");
    });
}

#[test]
fn a_new_connection_takes_the_place_of_the_old_one() {
    with_cables(async |a, b| {
        let mut right = b.open_soon(&stream("vb", B, A)).await;
        let mut old = connect(a, A);
        let told = attend(&mut [(b, &mut right)], |told| told.contains(&BEGAN)).await;
        assert_eq!(told.iter().filter(|it| matches!(it, Told::Began(_))).count(), 1);
        old.write_all(b"old").unwrap();
        let mut new = connect(a, A);
        new.write_all(b"new").unwrap();
        let told = attend(&mut [(b, &mut right)], |told| bytes(told).len() >= 6).await;
        let (old_bytes, end) = (position(&told, b"old"), position_of(&told, &ENDED));
        let (begin, new_bytes) = (position_of(&told, &BEGAN), position(&told, b"new"));
        assert!(old_bytes < end && end < begin && begin < new_bytes, "{told:?}");
        old.set_read_timeout(Some(SOON)).unwrap();
        assert!(matches!(old.read(&mut [0]), Ok(0) | Err(_)), "the old one is closed");
    });
}

#[test]
fn a_stranger_is_turned_away_and_counted() {
    with_cables(async |a, b| {
        a.add_address("va", "10.99.0.77").await;
        let mut right = b.open_soon(&stream("vb", B, A)).await;
        let mut stranger = connect(a, "10.99.0.77");
        stranger.write_all(b"let me in").unwrap();
        let mut friend = connect(a, A);
        friend.write_all(b"hello").unwrap();
        let told = attend(&mut [(b, &mut right)], |told| bytes(told).len() >= 5).await;
        assert_eq!(bytes(&told), b"hello");
        assert_eq!(right.counters().strangers, 1);
        stranger.set_read_timeout(Some(SOON)).unwrap();
        assert!(matches!(stranger.read(&mut [0]), Ok(0) | Err(_)), "it is closed");
    });
}

#[test]
fn a_peer_that_reads_nothing_is_given_up_and_nothing_grows() {
    with_cables(async |a, b| {
        let listener = b.run(|| TcpListener::bind((B, Link::PORT)).unwrap());
        let mut left = a.open_soon(&stream("va", A, B)).await;
        let began = Told::Began(Direction::Outgoing);
        attend(&mut [(a, &mut left)], |told| told.contains(&began)).await;
        let _silent = listener.accept().unwrap();
        let mut taken = 0;
        while left.has_room() {
            assert!(left.send(Some(address(B)), &[9; 1400]));
            taken += 1;
        }
        assert!(taken < 100_000);
        assert!(!left.send(Some(address(B)), &vec![9; 256 * 1024]), "there is no room");
        let ended = Told::Ended(Direction::Outgoing);
        attend(&mut [(a, &mut left)], |told| told.contains(&ended)).await;
        assert!(left.has_room(), "what waited went with the connection");
    });
}

#[test]
fn a_peer_that_reads_nothing_holds_up_nobody_else() {
    with_cables(async |a, b| {
        b.add_address("vb", STALLED).await;
        let listener = b.run(|| TcpListener::bind((STALLED, Link::PORT)).unwrap());
        let peers = vec![address(STALLED), address(B)];
        let transport = Transport::Tcp { local: address(A), peers };
        let mut left = a.open_soon(&Link::new("va", transport)).await;
        let mut right = b.open_soon(&stream("vb", B, A)).await;
        let began = Told::Began(Direction::Outgoing);
        let both = |told: &[Told]| told.iter().filter(|it| **it == began).count() == 2;
        attend(&mut [(a, &mut left), (b, &mut right)], both).await;
        let _silent = listener.accept().unwrap();
        while left.has_room_for(Some(address(STALLED))) {
            assert!(left.send(Some(address(STALLED)), &[9; 1400]));
        }
        assert!(!left.has_room(), "not everybody can be told");
        assert!(left.has_room_for(Some(address(B))));
        assert!(left.send(Some(address(B)), b"goes on"));
        left.flush();
        let told =
            attend(&mut [(b, &mut right), (a, &mut left)], |told| !bytes(told).is_empty()).await;
        assert_eq!(bytes(&told), b"goes on");
    });
}

#[test]
fn the_connection_of_one_peer_is_closed_and_no_other() {
    with_cables(async |a, b| {
        a.add_address("va", STALLED).await;
        let peers = vec![address(A), address(STALLED)];
        let transport = Transport::Tcp { local: address(B), peers };
        let mut right = b.open_soon(&Link::new("vb", transport)).await;
        let (mut good, mut bad) = (connect(a, A), connect(a, STALLED));
        let both = |told: &[Told]| told.iter().filter(|it| **it == BEGAN).count() == 2;
        attend(&mut [(b, &mut right)], both).await;
        assert!(right.end_incoming(address(STALLED)));
        assert!(!right.end_incoming(address(STALLED)), "it is closed");
        bad.set_read_timeout(Some(SOON)).unwrap();
        assert!(matches!(bad.read(&mut [0]), Ok(0) | Err(_)));
        good.write_all(b"goes on").unwrap();
        let told = attend(&mut [(b, &mut right)], |told| !bytes(told).is_empty()).await;
        assert_eq!(
            (bytes(&told).as_slice(), right.counters().connections_ended),
            (&b"goes on"[..], 1)
        );
    });
}

#[test]
fn a_port_in_use_and_the_state_of_the_link_are_told() {
    with_cables(async |a, _| {
        let link = stream("va", A, B);
        let first = a.open_soon(&link).await;
        let error = a.open(&link).unwrap_err();
        assert!(matches!(error, LinkError::InUse { .. }), "{error:?}");
        assert_eq!(first.condition(), Condition::Up { max_datagram: 1460 });
        a.set("va", false).await;
        let reason = "va is down".to_owned();
        assert_eq!(first.condition(), Condition::Down { reason });
        drop(first);
        a.set("va", true).await;
        a.open_soon(&link).await;
        let error = a.open(&stream("va", "10.97.0.1", B)).unwrap_err();
        assert!(error.is_temporary(), "the address may come");
    });
}

fn stream(interface: &str, local: &str, peer: &str) -> Link {
    let peers = vec![address(peer)];
    Link::new(interface, Transport::Tcp { local: address(local), peers })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bytes(told: &[Told]) -> Vec<u8> {
    told.iter().flat_map(Told::bytes).copied().collect()
}

fn position(told: &[Told], bytes: &[u8]) -> usize {
    told.iter().position(|it| it.bytes() == bytes).unwrap()
}

fn position_of(told: &[Told], wanted: &Told) -> usize {
    told.iter().position(|it| it == wanted).unwrap()
}

/// A plain connection to the other side's port.
fn connect(side: &Side, from: &str) -> TcpStream {
    side.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::from(SocketAddr::new(address(from), 0))).unwrap();
        let to = SockAddr::from(SocketAddr::new(address(B), Link::PORT));
        socket.connect_timeout(&to, SOON).unwrap();
        socket.into()
    })
}

/// The type that the tests are about is one that can be handed to another thread.
#[test]
fn a_link_can_move_to_the_thread_that_works_with_it() {
    fn is_send<T: Send>() {}
    is_send::<LinkSockets>();
}
