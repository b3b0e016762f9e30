//! Settings of every dialect, for one VRID.

use std::net::IpAddr;
use std::time::Duration;

use lockstep_vrrp::{
    Authentication, ChecksumDialect, Config, Family, KeyId, Password, Trailer, TrailerKey,
    TrailerMode, Transport, Version, Vrid, WhenMisunderstood,
};

/// The time of day of every packet: that of the recorded signatures.
pub const UTC: Duration = Duration::from_secs(1_795_288_783);

/// One of each dialect, as the recorded routers have them.
pub fn dialects() -> Vec<Config> {
    let v2 = |authentication| Config {
        authentication,
        addresses: vec![address("10.51.0.1")],
        ..Config::new(vrid(), Version::V2, Family::Ipv4)
    };
    let v3_4 = Config {
        addresses: vec![address("10.51.0.1")],
        ..Config::new(vrid(), Version::V3, Family::Ipv4)
    };
    let v3_6 = Config {
        addresses: vec![address("fe80::51:1"), address("2001:db8:51::1")],
        ..Config::new(vrid(), Version::V3, Family::Ipv6)
    };
    let alone = ChecksumDialect::MessageAlone;
    let signed = |config: &Config, mode| Config {
        trailer: Some(Trailer { mode, ..trailer() }),
        ..config.clone()
    };
    vec![
        v2(Authentication::None),
        v2(Authentication::Pass(password("9YasrrhZ"))),
        v2(Authentication::Header(password("9YasrrhZ"))),
        unicast(v2(Authentication::Pass(password("9YasrrhZ")))),
        unicast(v2(Authentication::Header(password("9YasrrhZ")))),
        signed(&v2(Authentication::None), TrailerMode::Enforce),
        v3_4.clone(),
        Config { checksum: alone, ..v3_4.clone() },
        unicast(v3_4.clone()),
        signed(&v3_4, TrailerMode::Enforce),
        signed(&v3_4, TrailerMode::Permissive),
        v3_6.clone(),
        unicast(v3_6.clone()),
        signed(&v3_6, TrailerMode::ReceiveOnly),
        Config {
            misunderstood: WhenMisunderstood::StayBackup,
            advertisement_interval: Duration::from_millis(10),
            ..v3_4
        },
    ]
}

/// The routers of the recordings, in either family.
pub fn routers(family: Family) -> [IpAddr; 3] {
    match family {
        Family::Ipv4 => ["10.51.0.11", "10.51.0.12", "10.51.0.13"].map(address),
        Family::Ipv6 => ["fe80::ff:fe00:a", "fe80::ff:fe00:b", "fe80::ff:fe00:c"].map(address),
    }
}

/// A password.
pub fn password(text: &str) -> Password {
    Password::new(text).expect("not empty")
}

fn vrid() -> Vrid {
    Vrid::new(51).expect("not 0")
}

fn unicast(config: Config) -> Config {
    let peers = routers(config.family).to_vec();
    Config { transport: Transport::Unicast { peers, ttl: 255, minimum_ttl: 0 }, ..config }
}

fn trailer() -> Trailer {
    let key: Vec<u8> = (0..32).collect();
    let id = KeyId::new(1).expect("not 0");
    Trailer::new(id, TrailerKey::new(&key).expect("32 bytes"))
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
