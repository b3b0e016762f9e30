//! Packets: whatever arrives is refused with a reason, or means something that can be sent again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use lockstep_vrrp::{
    Advertisement, Config, Datagram, DecodeError, Encoder, Endpoints, Family, Format, Rejection,
    Version, judge,
};

use crate::input::Input;
use crate::settings::{UTC, dialects, routers};

/// The first byte says how the rest is to be read: as an IP packet as it is, as one whose checksum
/// is put right first, or as changes to a packet that one of our routers sends. A decoder that
/// rests on checksums and signatures would hide from random bytes what comes after them.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let configs = dialects();
    match input.byte() % 3 {
        0 => judge_with_all(&configs, parse(input.rest())),
        1 => judge_with_all(&configs, parse(input.rest()).map(with_right_checksum)),
        _ => {
            let sender = input.pick(&configs);
            for datagram in sent(sender, &mut input) {
                judge_with_all(&configs, Some(datagram));
            }
        }
    }
}

/// An IP packet as the sockets hand it over.
pub fn parse(bytes: &[u8]) -> Option<Datagram> {
    if bytes.first().is_some_and(|byte| byte >> 4 == 6) {
        let (header, payload) = bytes.split_first_chunk::<40>()?;
        let address = |at: usize| -> Option<IpAddr> {
            Some(IpAddr::from(*header[at..].first_chunk::<16>()?))
        };
        return Some(Datagram {
            endpoints: Endpoints::between(address(8)?, address(24)?)?,
            ttl: header[7],
            identification: 0,
            protocol: header[6],
            payload: payload.to_vec(),
            received: UTC,
        });
    }
    let datagram = Datagram::from_ipv4(bytes, UTC).ok()?;
    assert!(datagram.payload.len() + 20 <= bytes.len(), "no more than was received");
    Some(datagram)
}

/// The decoder says itself what the checksum should be.
fn with_right_checksum(mut datagram: Datagram) -> Datagram {
    let decoded = Advertisement::decode(&datagram.payload, &datagram.endpoints);
    if let Err(DecodeError::Checksum { expected, .. }) = decoded {
        datagram.payload[6..8].copy_from_slice(&expected.to_be_bytes());
        let again = Advertisement::decode(&datagram.payload, &datagram.endpoints);
        assert!(!matches!(again, Err(DecodeError::Checksum { .. })), "it said {expected:#06x}");
    }
    datagram
}

/// What a router with these settings sends, with some bytes of it changed on the way.
fn sent(sender: &Config, input: &mut Input<'_>) -> Vec<Datagram> {
    let mut advertisement = Advertisement::of(sender, input.byte());
    if let Format::V2(authentication) = &mut advertisement.format {
        authentication.sequence = u32::from(input.number()) << 16 | u32::from(input.number());
    }
    let mut encoder = Encoder::new(sender);
    let mtu = input.number();
    if mtu != 0 {
        encoder.set_mtu(mtu.into());
    }
    let source = *input.pick(&routers(sender.family));
    let packets = encoder.packets(&advertisement, source, UTC);
    let changes: Vec<_> = (0..input.byte() % 8).map(|_| (input.number(), input.byte())).collect();
    packets
        .into_iter()
        .filter_map(|packet| {
            let mut bytes = packet.bytes;
            for (position, value) in &changes {
                let length = bytes.len();
                bytes[usize::from(*position) % length] = *value;
            }
            parse(&bytes)
        })
        .collect()
}

fn judge_with_all(configs: &[Config], datagram: Option<Datagram>) {
    let Some(datagram) = datagram else { return };
    let versions: BTreeSet<_> =
        configs.iter().filter(|config| heed(config, &datagram)).map(|c| c.version).collect();
    assert!(versions.len() <= 1, "a packet is of one version");
}

fn heed(config: &Config, datagram: &Datagram) -> bool {
    let judged = match judge(config, datagram) {
        Ok(judged) => judged,
        Err(rejection) => {
            check_words(&rejection);
            return false;
        }
    };
    let heard = &judged.advertisement;
    assert_eq!((heard.vrid, heard.version()), (config.vrid, config.version));
    assert_eq!(datagram.vrid(), Some(config.vrid), "found without a look at the rest");
    assert!(!heard.interval.is_zero());
    assert!(config.version == Version::V3 || heard.interval == config.advertisement_interval);
    let family = datagram.endpoints.family();
    assert!(heard.addresses.iter().all(|address| Family::of(*address) == family));
    assert!(config.trailer.is_some() || judged.stamp.is_none());
    assert!(judged.dialect.is_none() || (config.version, family) == (Version::V3, Family::Ipv4));
    send_again(config, datagram, &judged.advertisement);
    true
}

/// What is understood can be said, and is then understood as the same.
fn send_again(config: &Config, datagram: &Datagram, heard: &Advertisement) {
    let message = heard.encode_in(config.checksum, &datagram.endpoints);
    let again = Advertisement::decode(&message, &datagram.endpoints);
    let mut plain = heard.clone();
    if let Format::V2(authentication) = &mut plain.format {
        authentication.sequence = 0;
    }
    assert_eq!(again, Ok(plain));
}

fn check_words(rejection: &Rejection) {
    let words = rejection.to_string();
    assert!(!words.is_empty() && words.len() < 200, "{words}");
    assert!(!words.contains("9Yasrrh"), "a password is not shown: {words}");
    assert!(rejection.is_like(rejection));
}
