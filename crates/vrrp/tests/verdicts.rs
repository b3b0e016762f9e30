//! What is refused, for which named reason, and in which words.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrival;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use arrival::arrive;
use lockstep_vrrp::{
    Advertisement, Authentication, AuthenticationData, Config, Datagram, Encoder, Endpoints,
    Family, Format, InvalidTrailerKey, KeyId, PROTOCOL, PROTOCOL_AH, Password, Rejection, Trailer,
    TrailerKey, TrailerMode, Transport, Version, Vrid, judge,
};

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";
const C: &str = "10.0.0.3";

#[test]
fn an_authentication_header_brings_its_number_to_the_other_side() {
    let config = v2(header("secret"));
    let mut advertisement = Advertisement::of(&config, 150);
    let Format::V2(authentication) = &mut advertisement.format else { panic!("version 2") };
    authentication.sequence = 0xdead_beef;
    let heard = received(&config, &advertisement, A);
    assert_eq!(heard.protocol, PROTOCOL_AH);
    assert_eq!(judge(&config, &heard).unwrap().advertisement, advertisement);
}

#[test]
fn an_authentication_header_with_another_password_is_refused() {
    let heard = sent(&v2(header("secret")), A);
    let rejection = refused(&v2(header("Secret")), &heard, Rejection::IntegrityValue);
    assert_eq!(
        rejection,
        "an authentication header (AH) with another password than ours, or changed on its way"
    );
}

#[test]
fn an_authentication_header_of_another_sender_is_refused() {
    // As from a router whose address changed after the packet was made: the value fits, the SPI
    // does not. Nobody without the password can make one.
    let password = *b"secret\0\0";
    let mut heard = sent(&v2(header("secret")), A);
    heard.payload[4..8].copy_from_slice(&[10, 0, 0, 9]);
    let value = value_over(&heard, password);
    heard.payload[12..24].copy_from_slice(&value);
    let expected = Rejection::Spi { theirs: [10, 0, 0, 9].into() };
    let text = refused(&v2(header("secret")), &heard, expected);
    assert_eq!(text, "the SPI 10.0.0.9 in its authentication header, it must be its own address");
}

#[test]
fn an_authentication_header_is_refused_before_its_content_is_believed() {
    let config = v2(header("secret"));
    let mut heard = sent(&config, A);
    heard.payload[26] ^= 0xff;
    refused(&config, &heard, Rejection::IntegrityValue);
}

#[test]
fn an_authentication_header_we_do_not_use_is_named_with_our_type() {
    let heard = sent(&v2(header("secret")), A);
    let text = refused(&v2(pass("secret")), &heard, Rejection::AuthenticationHeader { ours: 1 });
    assert_eq!(text, "an authentication header (type 2, AH), ours is 1 (password)");
    refused(&v2(Authentication::None), &heard, Rejection::AuthenticationHeader { ours: 0 });
    let expected = Rejection::Version { theirs: 2, ours: 3 };
    refused(&v3(Family::Ipv4), &heard, expected);
}

#[test]
fn a_missing_authentication_header_is_named_with_their_type() {
    let config = v2(header("secret"));
    let heard = sent(&v2(pass("secret")), A);
    let text = refused(&config, &heard, Rejection::HeaderMissing { theirs: 1 });
    assert_eq!(text, "no authentication header and type 1 (password), ours is 2 (AH)");
    let heard = sent(&v2(Authentication::None), A);
    refused(&config, &heard, Rejection::HeaderMissing { theirs: 0 });
    let mut bare = sent(&config, A);
    bare.protocol = PROTOCOL;
    bare.payload.drain(..24);
    refused(&config, &bare, Rejection::HeaderMissing { theirs: 2 });
}

#[test]
fn an_authentication_header_of_the_wrong_shape_is_refused() {
    let config = v2(header("secret"));
    let good = sent(&config, A);
    let short = Datagram { payload: good.payload[..23].to_vec(), ..good.clone() };
    let text = refused(&config, &short, Rejection::HeaderLength { length: 23 });
    assert_eq!(text, "an authentication header of 23 bytes, it must have 24");
    let mut long = good.clone();
    long.payload[1] = 5;
    refused(&config, &long, Rejection::HeaderLength { length: 28 });
    let mut other = good.clone();
    other.payload[0] = 89;
    refused(&config, &other, Rejection::Protocol(89));
    let endpoints = Endpoints::to_group(address("fe80::1"));
    refused(
        &Config { family: Family::Ipv6, ..config.clone() },
        &Datagram { endpoints, ..good },
        Rejection::Protocol(PROTOCOL_AH),
    );
}

#[test]
fn the_type_inside_an_authentication_header_is_compared_too() {
    let ours = v2(header("secret"));
    let mut odd = Advertisement::of(&ours, 100);
    odd.format = Format::V2(AuthenticationData { kind: 1, data: *b"secret\0\0", sequence: 1 });
    let heard = received(&ours, &odd, A);
    refused(&ours, &heard, Rejection::AuthenticationType { theirs: 1, ours: 2 });
}

#[test]
fn unicast_is_heeded_from_peers_only() {
    let a = unicast(v2(pass("secret")), &[B], 255, 0);
    let b = unicast(v2(pass("secret")), &[A], 255, 0);
    let heard = sent(&a, A);
    assert_eq!(heard.endpoints, Endpoints::between(address(A), address(B)).unwrap());
    assert!(judge(&b, &heard).is_ok());
    let text = refused(&unicast(b, &[C], 255, 0), &heard, Rejection::NotAPeer);
    assert_eq!(text, "without being one of our unicast peers");
}

#[test]
fn multicast_and_unicast_refuse_each_other_and_say_so() {
    let multicast = v3(Family::Ipv4);
    let one_to_one = unicast(v3(Family::Ipv4), &[B], 255, 0);
    let group = address("224.0.0.18");
    let text = refused(
        &multicast,
        &sent(&one_to_one, A),
        Rejection::Destination { theirs: address(B), ours: group },
    );
    assert_eq!(text, "to 10.0.0.2 (unicast), ours is 224.0.0.18 (multicast)");
    let text = refused(
        &unicast(v3(Family::Ipv4), &[A], 255, 0),
        &sent(&multicast, A),
        Rejection::Multicast { theirs: group },
    );
    assert_eq!(text, "to 224.0.0.18 (multicast), ours is unicast");
    let endpoints = Endpoints::between(address(A), address("255.255.255.255")).unwrap();
    let everybody = Datagram { endpoints, ..sent(&multicast, A) };
    let expected = Rejection::Multicast { theirs: address("255.255.255.255") };
    let text = refused(&unicast(v3(Family::Ipv4), &[A], 255, 0), &everybody, expected);
    assert_eq!(text, "to 255.255.255.255 (broadcast), ours is unicast");
    let endpoints = Endpoints::between(address(A), address("224.0.0.5")).unwrap();
    let elsewhere = Datagram { endpoints, ..sent(&multicast, A) };
    let expected = Rejection::Destination { theirs: address("224.0.0.5"), ours: group };
    let text = refused(&multicast, &elsewhere, expected);
    assert_eq!(text, "to 224.0.0.5 (multicast), ours is 224.0.0.18 (multicast)");
}

#[test]
fn unicast_from_too_far_away_is_refused() {
    for family in [(Family::Ipv4, A, B), (Family::Ipv6, "fe80::1", "fe80::2")] {
        let (family, a, b) = family;
        let heard = sent(&unicast(v3(family), &[b], 64, 0), a);
        assert_eq!(heard.ttl, 64);
        assert!(judge(&unicast(v3(family), &[a], 255, 64), &heard).is_ok());
        let expected = Rejection::Distance { theirs: 64, least: 65 };
        let text = refused(&unicast(v3(family), &[a], 255, 65), &heard, expected);
        assert_eq!(text, "TTL 64, at least 65 is asked for");
    }
}

#[test]
fn an_authentication_header_in_unicast_may_lose_hops_and_in_multicast_not() {
    let a = unicast(v2(header("secret")), &[B], 64, 0);
    let b = unicast(v2(header("secret")), &[A], 64, 0);
    let heard = Datagram { ttl: 60, ..sent(&a, A) };
    assert!(judge(&b, &heard).is_ok());
    let multicast = v2(header("secret"));
    let heard = Datagram { ttl: 254, ..sent(&multicast, A) };
    refused(&multicast, &heard, Rejection::Ttl(254));
}

#[test]
fn all_copies_to_the_peers_are_one_advertisement() {
    let config = Config {
        trailer: Some(trailer(1, 7)),
        ..unicast(v2(header("secret")), &[B, "fe80::2", C], 255, 0)
    };
    let mut advertisement = Advertisement::of(&config, 150);
    let Format::V2(authentication) = &mut advertisement.format else { panic!("version 2") };
    authentication.sequence = 41;
    let mut encoder = Encoder::new(&config);
    for round in 1..=2_u16 {
        let packets = encoder.packets(&advertisement, address(A), NOON);
        let to: Vec<_> = packets.iter().map(|packet| packet.destination).collect();
        assert_eq!(to, [address(B), address(C)], "of the source's family, in order");
        let stamps: Vec<_> = packets
            .iter()
            .map(|packet| {
                let heard = Datagram::from_ipv4(&packet.bytes, NOON).unwrap();
                assert_eq!(heard.identification, round);
                assert_eq!(heard.endpoints.destination(), packet.destination);
                let judged = judge(&unicast(config.clone(), &[A], 255, 0), &heard).unwrap();
                assert_eq!(judged.advertisement, advertisement);
                judged.stamp.unwrap()
            })
            .collect();
        assert_eq!(stamps, [NOON.as_secs() << 32 | u64::from(round - 1); 2]);
    }
}

#[test]
fn other_settings_do_not_start_the_counting_anew() {
    let config = v2(Authentication::None);
    let advertisement = Advertisement::of(&config, 150);
    let mut encoder = Encoder::new(&config);
    drop(encoder.packets(&advertisement, address(A), NOON));
    encoder.configure(&v2(header("secret")));
    let packet = encoder.packets(&advertisement, address(A), NOON).remove(0);
    let heard = Datagram::from_ipv4(&packet.bytes, NOON).unwrap();
    assert_eq!((heard.identification, heard.protocol), (2, PROTOCOL_AH));
}

#[test]
fn a_signature_is_asked_for_when_it_is_enforced() {
    let heard = sent(&v3(Family::Ipv4), A);
    let text = refused(&signed(trailer(1, 7)), &heard, Rejection::TrailerMissing);
    assert_eq!(text, "no signature (HMAC trailer)");
    for mode in [TrailerMode::Permissive, TrailerMode::ReceiveOnly] {
        let judged = judge(&signed(Trailer { mode, ..trailer(1, 7) }), &heard).unwrap();
        assert_eq!(judged.stamp, None);
    }
}

#[test]
fn a_signature_that_is_there_has_to_be_right_in_every_mode() {
    let heard = sent(&signed(trailer(1, 7)), A);
    for mode in [TrailerMode::Enforce, TrailerMode::Permissive, TrailerMode::ReceiveOnly] {
        let ours = |trailer: Trailer| signed(Trailer { mode, ..trailer });
        assert!(judge(&ours(trailer(1, 7)), &heard).unwrap().stamp.is_some());
        let text = refused(&ours(trailer(1, 8)), &heard, Rejection::TrailerSignature { key_id: 1 });
        let expected =
            "a signature (HMAC trailer) with another key 1 than ours, or changed on its way";
        assert_eq!(text, expected);
        let text =
            refused(&ours(trailer(2, 7)), &heard, Rejection::TrailerKey { theirs: 1, ours: 2 });
        assert_eq!(text, "a signature (HMAC trailer) with key 1, ours is 2");
    }
}

#[test]
fn who_only_receives_signatures_sends_none() {
    for (mode, length) in
        [(TrailerMode::Enforce, 28), (TrailerMode::Permissive, 28), (TrailerMode::ReceiveOnly, 0)]
    {
        let heard = sent(&signed(Trailer { mode, ..trailer(1, 7) }), A);
        assert_eq!(heard.payload.len(), 12 + length);
    }
}

#[test]
fn a_new_key_is_rolled_out_router_by_router() {
    let old = trailer(1, 7);
    let both =
        Trailer { other_keys: BTreeMap::from([(KeyId::new(1).unwrap(), key(7))]), ..trailer(2, 8) };
    assert!(judge(&signed(both.clone()), &sent(&signed(old.clone()), A)).is_ok());
    assert!(judge(&signed(both.clone()), &sent(&signed(both.clone()), A)).is_ok());
    let expected = Rejection::TrailerKey { theirs: 2, ours: 1 };
    refused(&signed(old), &sent(&signed(both), A), expected);
}

#[test]
fn an_old_signature_and_one_from_the_future_are_refused() {
    let config = signed(trailer(1, 7));
    let heard = sent(&config, A);
    let at = |seconds: i64| {
        let received = Duration::from_secs(NOON.as_secs().checked_add_signed(seconds).unwrap());
        Datagram { received, ..heard.clone() }
    };
    assert!(judge(&config, &at(5)).is_ok());
    assert!(judge(&config, &at(-5)).is_ok());
    let text = refused(&config, &at(6), Rejection::TrailerStale { behind: 6, limit: 5 });
    assert_eq!(text, "a signature 6 s behind our clock, 5 s are allowed");
    let text = refused(&config, &at(-6), Rejection::TrailerStale { behind: -6, limit: 5 });
    assert_eq!(text, "a signature 6 s ahead of our clock, 5 s are allowed");
}

#[test]
fn freshness_follows_the_interval_unless_it_is_told() {
    let trailer = trailer(1, 7);
    assert_eq!(trailer.freshness(Duration::from_millis(100)), Duration::from_secs(5));
    assert_eq!(trailer.freshness(Duration::from_secs(10)), Duration::from_secs(30));
    let told = Trailer { freshness: Some(Duration::from_mins(1)), ..trailer };
    assert_eq!(told.freshness(Duration::from_secs(1)), Duration::from_mins(1));
}

#[test]
fn a_signature_of_an_unknown_type_is_refused() {
    let config = signed(trailer(1, 7));
    let mut heard = sent(&config, A);
    heard.payload[12] = 2;
    let text = refused(&config, &heard, Rejection::TrailerType(2));
    assert_eq!(text, "a signature (HMAC trailer) of type 2, only 1 is known");
}

#[test]
fn a_signature_does_not_move_to_another_router_or_another_sender() {
    let config = signed(trailer(1, 7));
    let heard = sent(&config, A);
    // With a checksum that fits, or it would be refused for that.
    let mut moved = Datagram { endpoints: Endpoints::to_group(address(C)), ..heard.clone() };
    resum(&mut moved);
    refused(&config, &moved, Rejection::TrailerSignature { key_id: 1 });
    let mut moved = heard;
    moved.payload[1] = 52;
    resum(&mut moved);
    let other = Config { vrid: Vrid::new(52).unwrap(), ..config };
    refused(&other, &moved, Rejection::TrailerSignature { key_id: 1 });
}

#[test]
fn a_signing_key_has_32_to_64_bytes_and_is_not_shown() {
    assert_eq!(TrailerKey::new(&[0; 31]), Err(InvalidTrailerKey { length: 31 }));
    assert_eq!(TrailerKey::new(&[0; 65]), Err(InvalidTrailerKey { length: 65 }));
    assert!(TrailerKey::new(&[0; 32]).is_ok() && TrailerKey::new(&[0; 64]).is_ok());
    assert_ne!(TrailerKey::new(&[0; 32]), TrailerKey::new(&[0; 33]));
    let shown = format!("{:?} {:?}", signed(trailer(1, 7)), v2(header("secret")));
    assert!(!shown.contains("secret") && !shown.contains("7, 7"), "{shown}");
}

#[test]
fn over_ipv6_the_checksum_may_or_may_not_cover_what_follows() {
    let config = Config { trailer: Some(trailer(1, 7)), ..v3(Family::Ipv6) };
    let mut heard = sent(&config, "fe80::1");
    assert_eq!(heard.payload.len(), 8 + 16 + 28);
    assert!(judge(&config, &heard).is_ok());
    // As a sender that computes it over the advertisement alone.
    let alone = Advertisement::of(&config, 150).encode(&heard.endpoints);
    assert_ne!(heard.payload[..24], alone, "the sums differ");
    heard.payload[..24].copy_from_slice(&alone);
    assert!(judge(&config, &heard).is_ok());
}

#[test]
fn addresses_that_do_not_fit_the_mtu_are_left_out_and_the_count_says_so() {
    let many_v4: Vec<_> =
        (0..310_u32).map(|n| IpAddr::from((0x0a01_0000 + n).to_be_bytes())).collect();
    let many_v6: Vec<_> = (0..310_u128).map(|n| IpAddr::from(n.to_be_bytes())).collect();
    let v2 = |authentication| Config { addresses: many_v4.clone(), ..v2(authentication) };
    let v3_4 = Config { addresses: many_v4.clone(), ..v3(Family::Ipv4) };
    let v3_6 = Config { addresses: many_v6, ..v3(Family::Ipv6) };
    let signed_6 = Config { trailer: Some(trailer(1, 7)), ..v3_6.clone() };
    let cases = [
        (v2(Authentication::None), A, 1500, 255),
        (v2(Authentication::None), A, 576, (576 - 20 - 16) / 4),
        (v2(header("secret")), A, 576, (576 - 20 - 24 - 16) / 4),
        (v3_4, A, 577, (576 - 20 - 8) / 4),
        (v3_6.clone(), "fe80::1", 1500, 90),
        (v3_6.clone(), "fe80::1", 1280, 77),
        (v3_6.clone(), "fe80::1", 9000, 255),
        (v3_6, "fe80::1", 20, 0),
        (signed_6, "fe80::1", 1500, 89),
    ];
    for (config, source, mtu, count) in cases {
        let mut encoder = Encoder::new(&config);
        encoder.set_mtu(mtu);
        let advertisement = Advertisement::of(&config, 150);
        let packet = encoder.packets(&advertisement, address(source), NOON).remove(0);
        assert!(packet.bytes.len() <= mtu.max(48), "{} of {mtu}", packet.bytes.len());
        let heard = judge(&config, &arrive(&packet.bytes, NOON)).unwrap().advertisement;
        assert_eq!(heard.addresses, config.addresses[..count], "{source} in {mtu}");
    }
}

/// What a router with these settings sends to the first it sends to, as it arrives.
fn sent(config: &Config, source: &str) -> Datagram {
    received(config, &Advertisement::of(config, 150), source)
}

fn received(config: &Config, advertisement: &Advertisement, source: &str) -> Datagram {
    let packet = Encoder::new(config).packets(advertisement, address(source), NOON).remove(0);
    arrive(&packet.bytes, NOON)
}

/// Refused for that reason; its words.
fn refused(config: &Config, datagram: &Datagram, expected: Rejection) -> String {
    assert_eq!(judge(config, datagram), Err(expected));
    expected.to_string()
}

/// The right checksum for a version 3 advertisement with one address, over what it says now.
fn resum(datagram: &mut Datagram) {
    let mut vector = datagram.payload[..12].to_vec();
    vector[6..8].fill(0);
    let [IpAddr::V4(source), IpAddr::V4(destination)] =
        [datagram.endpoints.source(), datagram.endpoints.destination()]
    else {
        panic!("IPv4")
    };
    let pseudo = [&source.octets()[..], &destination.octets(), &[0, 112, 0, 12], &vector].concat();
    let mut sum: u32 =
        pseudo.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    datagram.payload[6..8].copy_from_slice(&(!sum as u16).to_be_bytes());
}

/// HMAC-MD5-96 as a router with this password would have made it.
fn value_over(datagram: &Datagram, password: [u8; 8]) -> [u8; 12] {
    use hmac::{Hmac, KeyInit, Mac};
    let [IpAddr::V4(source), IpAddr::V4(destination)] =
        [datagram.endpoints.source(), datagram.endpoints.destination()]
    else {
        panic!("IPv4")
    };
    let length = (20 + datagram.payload.len()) as u16;
    let mut code = Hmac::<md5::Md5>::new_from_slice(&password).unwrap();
    code.update(&[0x45, 0]);
    code.update(&length.to_be_bytes());
    code.update(&datagram.identification.to_be_bytes());
    code.update(&[0, 0, datagram.ttl, 51, 0, 0]);
    code.update(&source.octets());
    code.update(&destination.octets());
    code.update(&datagram.payload[..12]);
    code.update(&[0; 12]);
    code.update(&datagram.payload[24..]);
    code.finalize().into_bytes()[..12].try_into().unwrap()
}

fn v2(authentication: Authentication) -> Config {
    Config {
        authentication,
        addresses: vec![address("10.0.0.100")],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

fn v3(family: Family) -> Config {
    let virtual_address = match family {
        Family::Ipv4 => "10.0.0.100",
        Family::Ipv6 => "fe80::100",
    };
    Config {
        addresses: vec![address(virtual_address)],
        ..Config::new(Vrid::new(51).unwrap(), Version::V3, family)
    }
}

fn signed(trailer: Trailer) -> Config {
    Config { trailer: Some(trailer), ..v3(Family::Ipv4) }
}

fn trailer(key_id: u8, byte: u8) -> Trailer {
    Trailer::new(KeyId::new(key_id).unwrap(), key(byte))
}

fn key(byte: u8) -> TrailerKey {
    TrailerKey::new(&[byte; 32]).unwrap()
}

fn unicast(config: Config, peers: &[&str], ttl: u8, minimum_ttl: u8) -> Config {
    let peers = peers.iter().map(|peer| address(peer)).collect();
    Config { transport: Transport::Unicast { peers, ttl, minimum_ttl }, ..config }
}

fn header(password: &str) -> Authentication {
    Authentication::Header(Password::new(password).unwrap())
}

fn pass(password: &str) -> Authentication {
    Authentication::Pass(Password::new(password).unwrap())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Some time of day.
const NOON: Duration = Duration::from_secs(1_795_262_401);
