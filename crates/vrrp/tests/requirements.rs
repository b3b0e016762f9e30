//! Requirements of RFC 9568 and RFC 3768 that no other test shows by itself; `docs/reference/
//! rfc-9568.md` lists all of them with their tests. Each is obeyed by one test and tempted by another.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use lockstep_vrrp::{
    Action, Advertisement, Authentication, Config, Datagram, DecodeError, Differing, Encoder,
    Endpoints, Event, Family, PROTOCOL, Password, Priority, Rejection, StateName, Version,
    VirtualRouter, Vrid, judge,
};

/// RFC 9568 §5.1.1.3, §5.1.2.3.
#[test]
fn everything_is_sent_to_the_group_with_a_ttl_or_hop_limit_of_255_and_protocol_112() {
    let ipv4 = sent(&version_3(Family::Ipv4));
    assert_eq!((ipv4[8], ipv4[9]), (255, 112));
    assert_eq!(ipv4[16..20], [224, 0, 0, 18]);
    let ipv6 = sent(&version_3(Family::Ipv6));
    assert_eq!((ipv6[7], ipv6[6]), (255, 112));
    assert_eq!(ipv6[24..40], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).octets());
}

/// RFC 9568 §5.1.1.3, §5.1.2.3.
#[test]
fn any_other_ttl_or_hop_limit_is_refused() {
    for config in [version_3(Family::Ipv4), version_3(Family::Ipv6), version_2()] {
        assert!(judge(&config, &datagram(&config)).is_ok());
        for ttl in 0..255 {
            let forwarded = Datagram { ttl, ..datagram(&config) };
            assert_eq!(judge(&config, &forwarded).unwrap_err(), Rejection::Ttl(ttl));
        }
    }
}

/// RFC 9568 §5.1.1.1, §5.1.2.1, §7.2.
#[test]
fn the_source_is_the_primary_address() {
    assert_eq!(sent(&version_3(Family::Ipv4))[12..16], [10, 0, 0, 3]);
    let IpAddr::V6(link_local) = theirs(Family::Ipv6) else { panic!("an IPv6 address") };
    assert_eq!(sent(&version_3(Family::Ipv6))[8..24], link_local.octets());
}

/// RFC 9568 §5.2.1, §7.1; RFC 3768 §5.3.1, §7.1.
#[test]
fn every_other_version_is_refused() {
    for config in [version_3(Family::Ipv4), version_3(Family::Ipv6), version_2()] {
        for version in (0..16).filter(|version| *version != config.version.number()) {
            let other = with(&config, |message| message[0] = version << 4 | 1);
            let refused = judge(&config, &other).unwrap_err();
            let ours = config.version.number();
            assert!(
                matches!(
                    refused,
                    Rejection::Version { .. }
                        // Its other fields are read by its own rules, and make no sense by them.
                        | Rejection::Malformed(
                            DecodeError::Checksum { .. } | DecodeError::Length { .. }
                        )
                ),
                "version {version} with ours {ours}: {refused:?}"
            );
        }
    }
}

/// RFC 9568 §5.2.2, §7.1.
#[test]
fn every_type_but_1_is_refused() {
    for config in [version_3(Family::Ipv4), version_3(Family::Ipv6), version_2()] {
        for kind in (0..16).filter(|kind| *kind != 1) {
            let number = config.version.number();
            let other = with(&config, |message| message[0] = number << 4 | kind);
            let expected = Rejection::Malformed(DecodeError::Type(kind));
            assert_eq!(judge(&config, &other).unwrap_err(), expected);
        }
    }
}

/// RFC 9568 §5.2.3, §7.1.
#[test]
fn every_other_vrid_is_refused() {
    let config = version_3(Family::Ipv4);
    for vrid in (1..=255).filter(|vrid| *vrid != 51) {
        let other = Config { vrid: Vrid::new(vrid).unwrap(), ..config.clone() };
        let expected = Rejection::Vrid { theirs: vrid, ours: 51 };
        assert_eq!(judge(&config, &datagram(&other)).unwrap_err(), expected);
    }
}

/// RFC 9568 §5.2.4.
#[test]
fn a_stopping_master_sends_priority_0_and_no_other_priority_does() {
    let begin = start_of_time();
    for priority in 1..=255 {
        let mut router = master(version_3(Family::Ipv4), priority, begin);
        assert_eq!(priorities(&router.handle(Event::Timeout, begin + SECOND)), [priority]);
        assert_eq!(priorities(&router.handle(Event::Shutdown, begin + SECOND)), [0]);
    }
}

/// RFC 9568 §5.2.5 and its erratum 8299 have it ignored. It is heeded, because keepalived sends it
/// when it has no addresses, and ignoring it would make a second master.
#[test]
fn an_advertisement_without_addresses_is_heeded_and_named() {
    let config = version_3(Family::Ipv4);
    let none = Config { addresses: Vec::new(), ..config.clone() };
    let begin = start_of_time();
    let mut router = VirtualRouter::new(config);
    drop(router.handle(Event::Startup { primary: ours(Family::Ipv4) }, begin));
    let actions = router.receive(&datagram(&none), begin + SECOND);
    assert!(matches!(&actions[..], [Action::Differs { differing: Differing::Addresses(_), .. }]));
    assert_eq!(router.next_deadline(), Some(begin + SECOND + router.master_down_interval()));
}

/// RFC 9568 §5.2.6.
#[test]
fn the_reserved_bits_are_sent_as_zero() {
    let longest = Duration::from_millis(40_950);
    let config = Config { advertisement_interval: longest, ..version_3(Family::Ipv4) };
    assert_eq!(datagram(&config).payload[4..6], [0x0f, 0xff]);
}

/// RFC 9568 §5.2.6.
#[test]
fn whatever_the_reserved_bits_are_they_are_ignored() {
    let config = version_3(Family::Ipv4);
    for bits in 0..16_u8 {
        let odd = with(&config, |message| message[4] |= bits << 4);
        let heeded = judge(&config, &odd).unwrap().advertisement;
        assert_eq!(heeded.interval, config.advertisement_interval);
    }
}

/// RFC 9568 §5.2.7 and its erratum 8301, §7.1.
#[test]
fn an_interval_of_zero_is_refused() {
    for config in [version_3(Family::Ipv4), version_3(Family::Ipv6)] {
        let endless = with(&config, |message| message[4..6].fill(0));
        let expected = Rejection::Malformed(DecodeError::Interval);
        assert_eq!(judge(&config, &endless).unwrap_err(), expected);
    }
    let endless = with(&version_2(), |message| message[5] = 0);
    let expected = Rejection::Malformed(DecodeError::Interval);
    assert_eq!(judge(&version_2(), &endless).unwrap_err(), expected);
}

/// RFC 9568 §5.2.8, §7.1.
#[test]
fn any_damage_to_the_message_is_found_by_the_checksum() {
    for config in [version_3(Family::Ipv4), version_3(Family::Ipv6), version_2()] {
        let whole = datagram(&config);
        for position in 6..whole.payload.len() {
            let mut damaged = whole.clone();
            damaged.payload[position] ^= 0x10;
            let refused = judge(&config, &damaged).unwrap_err();
            let expected = matches!(refused, Rejection::Malformed(DecodeError::Checksum { .. }));
            assert!(expected, "byte {position}: {refused:?}");
        }
    }
}

/// RFC 9568 §5.2.8: the pseudo header is part of the checksum over IPv6.
#[test]
fn over_ipv6_another_source_is_found_by_the_checksum() {
    let config = version_3(Family::Ipv6);
    let mut elsewhere = datagram(&config);
    elsewhere.endpoints = Endpoints::to_group("fe80::bad".parse().unwrap());
    let refused = judge(&config, &elsewhere).unwrap_err();
    assert!(matches!(refused, Rejection::Malformed(DecodeError::Checksum { .. })));
}

/// RFC 9568 §5.2.9 and its erratum 8300 have it checked. It is heeded, because only the list of
/// addresses is wrong, and refusing would make a second master; the configuration warns of ours.
#[test]
fn a_first_ipv6_address_that_is_not_link_local_is_heeded_and_named() {
    let config = version_3(Family::Ipv6);
    let addresses = vec!["2001:db8::1".parse().unwrap()];
    let global = Config { addresses, ..config.clone() };
    let begin = start_of_time();
    let mut router = VirtualRouter::new(config);
    drop(router.handle(Event::Startup { primary: ours(Family::Ipv6) }, begin));
    drop(router.receive(&datagram(&global), begin + SECOND));
    assert_eq!(router.differences().len(), 1);
    assert_eq!(router.next_deadline(), Some(begin + SECOND + router.master_down_interval()));
}

/// RFC 9568 §5.2.9.
#[test]
fn addresses_of_the_other_family_are_never_sent() {
    let mut config = version_3(Family::Ipv4);
    config.addresses.push("2001:db8::1".parse().unwrap());
    let heeded = judge(&config, &datagram(&config)).unwrap().advertisement;
    assert_eq!(heeded.addresses, version_3(Family::Ipv4).addresses);
}

/// RFC 9568 §6.1, RFC 3768 §6.1.
#[test]
fn skew_and_master_down_interval_are_those_of_each_version() {
    // (priority, milliseconds of the interval) and the milliseconds of skew in versions 2 and 3.
    let table = [
        (1, 1000, 996, 996),
        (100, 1000, 609, 609),
        (254, 1000, 7, 7),
        (255, 1000, 3, 3),
        (100, 2000, 609, 1218),
        (100, 10_000, 609, 6093),
    ];
    for (priority, interval, of_version_2, of_version_3) in table {
        let expected = [(version_2(), of_version_2), (version_3(Family::Ipv4), of_version_3)];
        for (config, skew) in expected {
            let interval = Duration::from_millis(interval);
            let router = VirtualRouter::new(Config {
                priority: Priority::new(priority).unwrap(),
                advertisement_interval: interval,
                ..config
            });
            assert_eq!(router.skew_time().as_millis(), skew);
            assert_eq!(router.master_down_interval(), 3 * interval + router.skew_time());
        }
    }
}

/// RFC 9568 §7.1.
#[test]
fn a_message_cut_short_anywhere_is_refused() {
    for config in [version_3(Family::Ipv4), version_3(Family::Ipv6), version_2()] {
        let whole = datagram(&config);
        for length in 0..whole.payload.len() {
            let mut short = whole.clone();
            short.payload.truncate(length);
            let refused = judge(&config, &short).unwrap_err();
            assert!(matches!(refused, Rejection::Malformed(DecodeError::Length { .. })));
        }
    }
}

/// RFC 9568 §7.1: whatever is refused is as if it had not been received.
#[test]
fn nothing_that_is_refused_changes_the_state_or_its_timer() {
    let config = version_3(Family::Ipv4);
    let refused = [
        Datagram { ttl: 1, ..datagram(&config) },
        with(&config, |message| message[0] = 0x32),
        with(&config, |message| message[1] = 7),
        with(&config, |message| message[4..6].fill(0)),
        datagram(&version_2()),
    ];
    let begin = start_of_time();
    let mut backup = VirtualRouter::new(config.clone());
    drop(backup.handle(Event::Startup { primary: ours(Family::Ipv4) }, begin));
    for router in [backup, master(config, 100, begin)] {
        for datagram in &refused {
            let mut router = router.clone();
            let before = (router.state(), router.next_deadline());
            drop(router.receive(datagram, begin + SECOND / 2));
            assert_eq!((router.state(), router.next_deadline()), before);
        }
    }
}

/// RFC 9568 §8.4: version 2 and 3 do not hear each other, and say so.
#[test]
fn a_router_speaks_the_version_it_is_told_and_no_other() {
    let (new, old) = (version_3(Family::Ipv4), version_2());
    assert_eq!(datagram(&new).payload[0], 0x31);
    assert_eq!(datagram(&old).payload[0], 0x21);
    let refused = judge(&new, &datagram(&old)).unwrap_err();
    assert_eq!(refused, Rejection::Version { theirs: 2, ours: 3 });
    let refused = judge(&old, &datagram(&new)).unwrap_err();
    assert_eq!(refused, Rejection::Version { theirs: 3, ours: 2 });
}

/// RFC 3768 §5.3.7.
#[test]
fn version_2_sends_whole_seconds() {
    for seconds in [1, 2, 255] {
        let advertisement_interval = Duration::from_secs(seconds);
        let config = Config { advertisement_interval, ..version_2() };
        assert_eq!(u64::from(datagram(&config).payload[5]), seconds);
    }
}

/// RFC 3768 §7.1.
#[test]
fn version_2_refuses_every_other_interval_and_version_3_learns_it() {
    for seconds in 2..=40 {
        let advertisement_interval = Duration::from_secs(seconds);
        let old = Config { advertisement_interval, ..version_2() };
        let expected = Rejection::Interval { theirs: advertisement_interval, ours: SECOND };
        assert_eq!(judge(&version_2(), &datagram(&old)).unwrap_err(), expected);
        let ours = version_3(Family::Ipv4);
        let new = Config { advertisement_interval, ..ours.clone() };
        let heeded = judge(&ours, &datagram(&new)).unwrap().advertisement;
        assert_eq!(heeded.interval, advertisement_interval);
    }
}

/// RFC 3768 §5.3.6 and RFC 2338 §5.3.6.
#[test]
fn version_2_refuses_every_other_authentication_type() {
    let password = || Password::new("9YasrrhZ").unwrap();
    let all = [
        Authentication::None,
        Authentication::Pass(password()),
        Authentication::Header(password()),
    ];
    for (number, ours) in all.iter().enumerate() {
        for (other, theirs) in all.iter().enumerate() {
            let config = |authentication: &Authentication| Config {
                authentication: authentication.clone(),
                ..version_2()
            };
            let heeded = judge(&config(ours), &datagram(&config(theirs))).is_ok();
            assert_eq!(heeded, number == other, "{ours:?} hears {theirs:?}");
        }
    }
}

/// RFC 3768 §5.3.8: the authentication data is part of the sum.
#[test]
fn in_version_2_the_authentication_data_is_always_there_and_summed() {
    let none = datagram(&version_2());
    assert_eq!(none.payload.len(), 8 + 4 + 8);
    let authentication = Authentication::Pass(Password::new("9YasrrhZ").unwrap());
    let password = datagram(&Config { authentication, ..version_2() });
    assert_ne!(none.payload[6..8], password.payload[6..8]);
}

const SECOND: Duration = Duration::from_secs(1);

fn version_2() -> Config {
    Config {
        addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
    }
}

fn version_3(family: Family) -> Config {
    let addresses = match family {
        Family::Ipv4 => vec![Ipv4Addr::new(10, 0, 0, 1).into()],
        Family::Ipv6 => vec!["fe80::51:1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    };
    Config { addresses, ..Config::new(Vrid::new(51).unwrap(), Version::V3, family) }
}

fn ours(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 0, 0, 2).into(),
        Family::Ipv6 => "fe80::2".parse().unwrap(),
    }
}

fn theirs(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::new(10, 0, 0, 3).into(),
        Family::Ipv6 => "fe80::3".parse().unwrap(),
    }
}

/// The packet in which a neighbour with these settings sends its advertisement.
fn sent(config: &Config) -> Vec<u8> {
    let advertisement = Advertisement::of(config, config.priority.value());
    let source = theirs(config.family);
    Encoder::new(config).packets(&advertisement, source, Duration::ZERO).remove(0).bytes
}

/// The same as it is received.
fn datagram(config: &Config) -> Datagram {
    let bytes = sent(config);
    match config.family {
        Family::Ipv4 => Datagram::from_ipv4(&bytes, Duration::ZERO).unwrap(),
        Family::Ipv6 => Datagram {
            endpoints: Endpoints::to_group(theirs(Family::Ipv6)),
            ttl: bytes[7],
            identification: 0,
            protocol: PROTOCOL,
            payload: bytes[40..].to_vec(),
            received: Duration::ZERO,
        },
    }
}

/// A changed one with the checksum that belongs to it: the other end of the sum that the change
/// makes is put right.
fn with(config: &Config, change: impl FnOnce(&mut [u8])) -> Datagram {
    let mut datagram = datagram(config);
    let sum = |message: &[u8]| -> u32 {
        message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum()
    };
    let before = sum(&datagram.payload);
    change(&mut datagram.payload);
    let added = sum(&datagram.payload).wrapping_sub(before).cast_signed();
    let checksum = u16::from_be_bytes([datagram.payload[6], datagram.payload[7]]);
    // One's complement: modulo 0xffff.
    let fixed = (i32::from(checksum) - added).rem_euclid(0xffff) as u16;
    datagram.payload[6..8].copy_from_slice(&fixed.to_be_bytes());
    datagram
}

fn master(config: Config, priority: u8, now: Instant) -> VirtualRouter {
    let primary = ours(config.family);
    let priority = Priority::new(priority).unwrap();
    let mut router = VirtualRouter::new(Config { priority, ..config });
    drop(router.handle(Event::Startup { primary }, now));
    drop(router.handle(Event::Claim, now));
    assert_eq!(router.state().name(), StateName::Master);
    router
}

fn priorities(actions: &[Action]) -> Vec<u8> {
    let priority = |action: &Action| match action {
        Action::Send(advertisement) => Some(advertisement.priority),
        _ => None,
    };
    actions.iter().filter_map(priority).collect()
}

#[expect(clippy::disallowed_methods, reason = "any instant will do; no clock is compared with it")]
fn start_of_time() -> Instant {
    Instant::now()
}
