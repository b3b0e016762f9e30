//! What one router sends, another with the same settings hears: for every combination of version,
//! family, transport, authentication, checksum and signature.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arrival;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use arrival::arrive;
use lockstep_vrrp::{
    Advertisement, Authentication, ChecksumDialect, Config, Encoder, Family, Format, KeyId,
    PROTOCOL, PROTOCOL_AH, Password, Trailer, TrailerKey, TrailerMode, Transport, Version, Vrid,
    judge,
};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_with_some_settings_is_heeded_with_the_same_ones(
        (config, priority, sequence) in settings(),
        source in any::<u128>(),
        utc in (0..u64::from(u32::MAX), 0..1_000_000_000_u32),
    ) {
        let source = address_of(config.family, source | 1);
        let utc = Duration::new(utc.0, utc.1);
        let mut advertisement = Advertisement::of(&config, priority);
        let mut expected_protocol = PROTOCOL;
        if let (Authentication::Header(_), Format::V2(authentication)) =
            (&config.authentication, &mut advertisement.format)
        {
            authentication.sequence = sequence;
            expected_protocol = PROTOCOL_AH;
        }
        let mut encoder = Encoder::new(&config);
        let mut before = None;
        for _ in 0..2 {
            let packets = encoder.packets(&advertisement, source, utc);
            let receivers = receivers(&config, source);
            prop_assert_eq!(packets.len(), receivers.len());
            let mut stamps = Vec::new();
            for (packet, receiver) in packets.iter().zip(&receivers) {
                prop_assert_eq!(packet.destination, receiver.0);
                let datagram = arrive(&packet.bytes, utc);
                prop_assert_eq!(datagram.protocol, expected_protocol);
                prop_assert_eq!(datagram.vrid(), Some(config.vrid));
                let judged = judge(&receiver.1, &datagram).unwrap();
                prop_assert_eq!(&judged.advertisement, &advertisement);
                let both = (config.version, config.family) == (Version::V3, Family::Ipv4);
                prop_assert!(judged.dialect.is_none_or(|dialect| both && dialect == config.checksum));
                stamps.push(judged.stamp);
            }
            let signing = config.trailer.as_ref().is_some_and(|t| t.mode != TrailerMode::ReceiveOnly);
            prop_assert!(stamps.iter().all(|stamp| stamp.is_some() == signing));
            stamps.dedup();
            prop_assert_eq!(stamps.len(), 1, "one advertisement, one stamp");
            prop_assert!(!signing || stamps[0] > before, "it grows while the clock stands still");
            before = stamps[0];
        }
    }

    #[test]
    fn what_is_said_again_differs_from_the_first_time_in_what_is_counted_alone(
        (config, priority, sequence) in settings(),
        (other, _, _) in settings(),
        sources in any::<[u128; 2]>(),
        said in vec((any::<bool>(), any::<bool>(), 0..3_u8), 1..8),
    ) {
        let mut one = Advertisement::of(&config, priority);
        if let Format::V2(authentication) = &mut one.format {
            authentication.sequence = sequence;
        }
        let another = Advertisement { addresses: other.addresses, ..one.clone() };
        let sources = sources.map(|bits| address_of(config.family, bits));
        let (mut remembers, mut forgets) = (Encoder::new(&config), Encoder::new(&config));
        for (which, source, mtu) in said {
            let advertisement = if which { &one } else { &another };
            let source = sources[usize::from(source)];
            if mtu == 0 {
                remembers.set_mtu(1500);
                forgets.set_mtu(1500);
            }
            forgets.configure(&config);
            let packets = forgets.packets(advertisement, source, Duration::from_hours(1));
            prop_assert_eq!(
                remembers.packets(advertisement, source, Duration::from_hours(1)),
                packets
            );
        }
    }

    #[test]
    fn whatever_arrives_is_judged_without_a_panic(
        (config, priority, _) in settings(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        length in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let source = address_of(config.family, 77);
        let advertisement = Advertisement::of(&config, priority);
        for packet in Encoder::new(&config).packets(&advertisement, source, Duration::ZERO) {
            let mut datagram = arrive(&packet.bytes, Duration::ZERO);
            for (position, value) in &damage {
                let position = position.index(datagram.payload.len());
                datagram.payload[position] = *value;
            }
            if cut {
                datagram.payload.truncate(length.index(datagram.payload.len()));
            }
            let _ = judge(&config, &datagram);
            let _ = datagram.vrid();
        }
    }
}

/// Who hears an advertisement from `source`, and with which settings.
fn receivers(config: &Config, source: IpAddr) -> Vec<(IpAddr, Config)> {
    match &config.transport {
        Transport::Multicast => vec![(config.family.group(), config.clone())],
        Transport::Unicast { peers, ttl, .. } => peers
            .iter()
            .map(|peer| {
                let transport =
                    Transport::Unicast { peers: vec![source], ttl: *ttl, minimum_ttl: *ttl };
                (*peer, Config { transport, ..config.clone() })
            })
            .collect(),
    }
}

/// Settings that a router may have, a priority, and a number for the authentication header.
fn settings() -> impl Strategy<Value = (Config, u8, u32)> {
    let kind = prop_oneof![
        Just((Version::V2, Family::Ipv4)),
        Just((Version::V3, Family::Ipv4)),
        Just((Version::V3, Family::Ipv6)),
    ];
    let dialect =
        prop_oneof![Just(ChecksumDialect::PseudoHeader), Just(ChecksumDialect::MessageAlone)];
    let rest = (1..=255_u8, any::<u8>(), 1..4096_u64, any::<u32>());
    (kind, rest, dialect, 0..3_u8, prop::option::of(trailer())).prop_flat_map(
        |((version, family), (vrid, priority, interval, sequence), checksum, kind, trailer)| {
            let password = Password::new("9YasrrhZ").unwrap();
            let authentication = match (version, kind) {
                (Version::V3, _) | (Version::V2, 0) => Authentication::None,
                (Version::V2, 1) => Authentication::Pass(password),
                (Version::V2, _) => Authentication::Header(password),
            };
            let advertisement_interval = match version {
                Version::V2 => Duration::from_secs(interval % 255 + 1),
                Version::V3 => Duration::from_millis(interval * 10),
            };
            let config = Config {
                checksum,
                authentication,
                advertisement_interval,
                trailer,
                ..Config::new(Vrid::new(vrid).unwrap(), version, family)
            };
            let addresses = vec(any::<u128>(), 0..=255);
            (addresses, transport(family)).prop_map(move |(addresses, transport)| {
                let addresses =
                    addresses.into_iter().map(|bits| address_of(family, bits)).collect();
                (Config { addresses, transport, ..config.clone() }, priority, sequence)
            })
        },
    )
}

fn transport(family: Family) -> impl Strategy<Value = Transport> {
    // Not of class D or above, and not ff00::/8.
    let peers = vec(any::<u128>(), 1..4).prop_map(move |peers| {
        let low = |bits: u128| bits & !(7 << 125) & !(7 << 29);
        peers.into_iter().map(|bits| address_of(family, low(bits))).collect()
    });
    prop_oneof![
        Just(Transport::Multicast),
        (peers, 1..=255_u8).prop_map(|(peers, ttl)| Transport::Unicast {
            peers,
            ttl,
            minimum_ttl: 0
        }),
    ]
}

fn trailer() -> impl Strategy<Value = Trailer> {
    let mode = prop_oneof![
        Just(TrailerMode::Enforce),
        Just(TrailerMode::Permissive),
        Just(TrailerMode::ReceiveOnly),
    ];
    (1..=255_u8, vec(any::<u8>(), 32..=64), mode).prop_map(|(id, key, mode)| Trailer {
        mode,
        ..Trailer::new(KeyId::new(id).unwrap(), TrailerKey::new(&key).unwrap())
    })
}

fn address_of(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::Ipv6 => Ipv6Addr::from_bits(bits).into(),
    }
}
