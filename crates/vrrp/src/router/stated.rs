//! What a refused packet states all the same, by which its sender is known to be there.

use std::time::Duration;

use crate::advertisement::Advertisement;
use crate::authentication_header;
use crate::config::Transport;
use crate::packet::{Datagram, PROTOCOL_AH, TTL};

/// Two fields of a refused advertisement. Nobody vouches for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    pub(super) priority: u8,
    /// `None` for a version that is neither 2 nor 3, or when the packet ends before it.
    pub(super) interval: Option<Duration>,
}

impl Stated {
    /// Read from a packet whose sender can be on our link, or is one of our peers; nothing else of
    /// it has to be right. Whoever is further away can neither open the start-up gate nor withhold
    /// a takeover.
    pub(super) fn read(transport: &Transport, datagram: &Datagram) -> Option<Self> {
        let near = match transport {
            Transport::Multicast => datagram.ttl == TTL,
            Transport::Unicast { peers, minimum_ttl, .. } => {
                datagram.ttl >= *minimum_ttl && peers.contains(&datagram.endpoints.source())
            }
        };
        let start =
            if datagram.protocol == PROTOCOL_AH { authentication_header::LENGTH } else { 0 };
        let message = datagram.payload.get(start..).filter(|_| near)?;
        Some(Self { priority: *message.get(PRIORITY)?, interval: interval(message) })
    }

    /// Of one that is refused for something else than its form.
    pub(super) fn of(advertisement: &Advertisement) -> Self {
        let Advertisement { priority, interval, .. } = *advertisement;
        Self { priority, interval: Some(interval) }
    }
}

/// RFC 3768 §5.1: seconds in one byte. RFC 9568 §5.2: centiseconds in the 12 bits that end there.
fn interval(message: &[u8]) -> Option<Duration> {
    let [version_and_type, _, _, _, high, low, ..] = *message else { return None };
    match version_and_type >> 4 {
        2 => Some(Duration::from_secs(low.into())),
        3 => {
            let centiseconds = u16::from_be_bytes([high & 0x0f, low]);
            Some(Duration::from_millis(10) * centiseconds.into())
        }
        _ => None,
    }
}

/// Where an advertisement of either version states its priority.
const PRIORITY: usize = 2;
