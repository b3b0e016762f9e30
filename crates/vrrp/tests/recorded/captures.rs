//! The captures, each with the settings of the routers in it.

use std::net::IpAddr;
use std::time::Duration;

use lockstep_vrrp::{
    Authentication, ChecksumDialect, Config, Family, KeyId, Password, Trailer, TrailerKey,
    Transport, Version, Vrid,
};

use crate::frames::{Frame, frames};

/// What was recorded of two routers, A and B.
pub(crate) struct Capture {
    /// The file without its extension.
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Frame>,
    config: Config,
}

impl Capture {
    /// The settings with which everything in it is heeded.
    pub(crate) fn receiver(&self) -> Config {
        self.config.clone()
    }

    /// The settings with which `source` sent, apart from its priority.
    pub(crate) fn sender(&self, source: IpAddr) -> Config {
        let mut config = self.config.clone();
        if self.name == "v3-ipv4-checksum-rfc9568" && source == address("10.51.0.11") {
            config.checksum = ChecksumDialect::MessageAlone;
        }
        if let Transport::Unicast { peers, .. } = &mut config.transport {
            peers.retain(|peer| *peer != source);
        }
        config
    }
}

macro_rules! capture {
    ($name:literal, $config:expr) => {
        Capture {
            name: $name,
            frames: frames(include_bytes!(concat!("../vectors/", $name, ".pcap"))),
            config: $config,
        }
    };
}

/// All of them.
pub(crate) fn captures() -> Vec<Capture> {
    let tenth = Duration::from_millis(100);
    vec![
        capture!("v2-noauth", v2(Authentication::None)),
        capture!("v2-pass", v2(pass())),
        capture!("v2-ah-cloudstack", v2(header())),
        capture!("v2-prio0-shutdown", v2(pass())),
        capture!("v2-25-vips", v2(pass())),
        capture!("v2-255-vips-clamped", v2(pass())),
        capture!("v2-lower-prio-advert", v2(Authentication::None)),
        capture!("v2-tie-equal-priority", v2(Authentication::None)),
        capture!("v2-owner-255", v2(Authentication::None)),
        capture!("v2-unicast-pass", unicast(v2(pass()), 255)),
        capture!("v2-unicast-ah", unicast(v2(header()), 255)),
        capture!("v2-vmac", v2(Authentication::None)),
        capture!("v3-ipv4-100ms", Config { advertisement_interval: tenth, ..v3(Family::Ipv4) }),
        capture!("v3-ipv4-checksum-rfc9568", v3(Family::Ipv4)),
        capture!(
            "v3-ipv4-padded-synthetic",
            Config { advertisement_interval: tenth, ..v3(Family::Ipv4) }
        ),
        capture!("v3-ipv6", v3(Family::Ipv6)),
        capture!("v3-unicast-ipv4", unicast(v3(Family::Ipv4), 255)),
        capture!("v3-unicast-ipv6", unicast(v3(Family::Ipv6), 64)),
        capture!("v3-vmac-ipv6", v3(Family::Ipv6)),
        capture!("v3-hmac-trailer", Config { trailer: Some(trailer()), ..v3(Family::Ipv4) }),
    ]
}

fn v2(authentication: Authentication) -> Config {
    Config { authentication, ..Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4) }
}

fn v3(family: Family) -> Config {
    Config::new(Vrid::new(51).unwrap(), Version::V3, family)
}

fn pass() -> Authentication {
    Authentication::Pass(Password::new("9YasrrhZ").unwrap())
}

fn header() -> Authentication {
    Authentication::Header(Password::new("9YasrrhZ").unwrap())
}

/// Both are listed: the one hears the other.
fn unicast(config: Config, ttl: u8) -> Config {
    let peers = match config.family {
        Family::Ipv4 => ["10.51.0.11", "10.51.0.12"],
        Family::Ipv6 => ["fe80::ff:fe00:a", "fe80::ff:fe00:b"],
    };
    let peers = peers.map(address).to_vec();
    Config { transport: Transport::Unicast { peers, ttl, minimum_ttl: 0 }, ..config }
}

fn trailer() -> Trailer {
    let key: Vec<u8> = (0..32).collect();
    Trailer::new(KeyId::new(1).unwrap(), TrailerKey::new(&key).unwrap())
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}
