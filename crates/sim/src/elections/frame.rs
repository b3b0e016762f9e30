//! A packet on the LAN, and whether its receiver has to understand it.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use lockstep_vrrp::{Authentication, Config, Datagram, Endpoints, Transport, Version};

/// A packet on the LAN.
pub(super) struct Frame {
    pub(super) from: usize,
    pub(super) destination: IpAddr,
    pub(super) bytes: Vec<u8>,
    pub(super) priority: u8,
    pub(super) interval: Duration,
    /// The settings it was sent with.
    pub(super) sender: Rc<Config>,
    pub(super) source: IpAddr,
}

impl Frame {
    /// What the socket of the receiver delivers. Over IPv6 the kernel hands over the parts of the
    /// header apart from the payload.
    pub(super) fn datagram(&self, received: Duration) -> Option<Datagram> {
        match self.source {
            IpAddr::V4(_) => Datagram::from_ipv4(&self.bytes, received).ok(),
            IpAddr::V6(_) => {
                let address = |at: usize| -> Option<Ipv6Addr> {
                    let octets: [u8; 16] = self.bytes.get(at..at + 16)?.try_into().ok()?;
                    Some(octets.into())
                };
                let source = address(8)?;
                let destination = address(24)?;
                Some(Datagram {
                    endpoints: Endpoints::Ipv6 { source, destination },
                    ttl: *self.bytes.get(7)?,
                    identification: 0,
                    protocol: *self.bytes.get(6)?,
                    payload: self.bytes.get(40..)?.to_vec(),
                    received,
                })
            }
        }
    }
}

/// Whether a router with one setting has to heed what another sends.
pub(super) fn understands(receiver: &Config, sender: &Config) -> bool {
    receiver.version == sender.version
        && receiver.authentication == sender.authentication
        && receiver.trailer == sender.trailer
        && is_multicast(receiver) == is_multicast(sender)
        && (receiver.version == Version::V3
            || receiver.advertisement_interval == sender.advertisement_interval)
}

/// Whether what is old, or overtaken by something newer, may be refused.
pub(super) fn is_numbered(config: &Config) -> bool {
    config.trailer.is_some() || matches!(config.authentication, Authentication::Header(_))
}

fn is_multicast(config: &Config) -> bool {
    matches!(config.transport, Transport::Multicast)
}
