//! How a packet arrives.

use std::net::IpAddr;
use std::time::Duration;

use lockstep_vrrp::{Datagram, Endpoints};

/// A whole IP packet as a socket hands it over.
pub(crate) fn arrive(bytes: &[u8], received: Duration) -> Datagram {
    if bytes[0] >> 4 == 4 {
        return Datagram::from_ipv4(bytes, received).unwrap();
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap());
    Datagram {
        endpoints: Endpoints::between(address(8), address(24)).unwrap(),
        ttl: bytes[7],
        identification: 0,
        protocol: bytes[6],
        payload: bytes[40..].to_vec(),
        received,
    }
}
