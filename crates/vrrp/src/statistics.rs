//! What one virtual router has counted, in the words of RFC 8347.

use crate::advertisement::DecodeError;
use crate::verdict::Rejection;

/// Counters since the virtual router was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Statistics {
    /// Times this router became master.
    pub master_transitions: u64,
    /// Advertisements heeded or lawfully ignored, priority 0 included.
    pub advertisements_received: u64,
    /// Advertisements sent, priority 0 included.
    pub advertisements_sent: u64,
    /// Received with priority 0.
    pub priority_zero_received: u64,
    /// Sent with priority 0.
    pub priority_zero_sent: u64,
    /// Refused: version 2 with an interval other than ours, or interval 0.
    pub interval_errors: u64,
    /// Version 3: heeded with an interval other than ours.
    pub interval_differences: u64,
    /// Heeded with the other reading of the version 3 checksum.
    pub checksum_differences: u64,
    /// Heard as master: another master that has to give way.
    pub conflicts: u64,
    /// Times a timer was served so late that the router listened before it acted.
    pub overslept: u64,
    /// Times a takeover was withheld on account of a neighbour that is not understood.
    pub withheld: u64,
    /// Heeded with a list of addresses other than ours.
    pub address_list_errors: u64,
    /// Refused: neither type 1.
    pub invalid_type_received: u64,
    /// Refused: cut short.
    pub packet_length_errors: u64,
    /// Refused: checksum.
    pub checksum_errors: u64,
    /// Refused: version.
    pub version_errors: u64,
    /// Refused: VRID 0, or another than ours.
    pub vrid_errors: u64,
    /// Refused: TTL or hop limit.
    pub ip_ttl_errors: u64,
    /// Refused: authentication type; an authentication header or a trailer that is there or missing
    /// against our settings.
    pub authentication_type_errors: u64,
    /// Refused: password, authentication value, or signature.
    pub authentication_failures: u64,
    /// Refused: an authenticated advertisement heard before, or an older one.
    pub replayed_received: u64,
    /// Refused: not to the group, not from a peer, not VRRP, or from our own address.
    pub address_errors: u64,
}

impl Statistics {
    /// Every counter with its name in status output, in order of the names.
    pub fn named(&self) -> [(&'static str, u64); 22] {
        [
            ("address-errors", self.address_errors),
            ("address-list-errors", self.address_list_errors),
            ("advertisement-rcvd", self.advertisements_received),
            ("advertisement-sent", self.advertisements_sent),
            ("authentication-failures", self.authentication_failures),
            ("authentication-type-errors", self.authentication_type_errors),
            ("checksum-differences", self.checksum_differences),
            ("checksum-errors", self.checksum_errors),
            ("conflicts", self.conflicts),
            ("interval-differences", self.interval_differences),
            ("interval-errors", self.interval_errors),
            ("invalid-type-pkts-rcvd", self.invalid_type_received),
            ("ip-ttl-errors", self.ip_ttl_errors),
            ("master-transitions", self.master_transitions),
            ("overslept", self.overslept),
            ("packet-length-errors", self.packet_length_errors),
            ("priority-zero-pkts-rcvd", self.priority_zero_received),
            ("priority-zero-pkts-sent", self.priority_zero_sent),
            ("replayed-pkts-rcvd", self.replayed_received),
            ("takeovers-withheld", self.withheld),
            ("version-errors", self.version_errors),
            ("vrid-errors", self.vrid_errors),
        ]
    }

    /// Counts a refused packet under its reason.
    pub fn count(&mut self, rejection: &Rejection) {
        let counter = match rejection {
            Rejection::AuthenticationHeader { .. }
            | Rejection::HeaderLength { .. }
            | Rejection::HeaderMissing { .. }
            | Rejection::AuthenticationType { .. }
            | Rejection::TrailerMissing
            | Rejection::TrailerType(_) => &mut self.authentication_type_errors,
            Rejection::Protocol(_)
            | Rejection::Destination { .. }
            | Rejection::Multicast { .. }
            | Rejection::NotAPeer
            | Rejection::OwnAddress => &mut self.address_errors,
            Rejection::Ttl(_) | Rejection::Distance { .. } => &mut self.ip_ttl_errors,
            Rejection::Version { .. } | Rejection::Malformed(DecodeError::Version(_)) => {
                &mut self.version_errors
            }
            Rejection::Malformed(DecodeError::Length { .. }) => &mut self.packet_length_errors,
            Rejection::Malformed(DecodeError::Type(_)) => &mut self.invalid_type_received,
            Rejection::Malformed(DecodeError::Checksum { .. }) => &mut self.checksum_errors,
            Rejection::Vrid { .. } | Rejection::Malformed(DecodeError::Vrid) => {
                &mut self.vrid_errors
            }
            Rejection::Interval { .. } | Rejection::Malformed(DecodeError::Interval) => {
                &mut self.interval_errors
            }
            Rejection::Password
            | Rejection::IntegrityValue
            | Rejection::Spi { .. }
            | Rejection::TrailerKey { .. }
            | Rejection::TrailerSignature { .. }
            | Rejection::TrailerStale { .. } => &mut self.authentication_failures,
            Rejection::Sequence { .. } | Rejection::TrailerReplay => &mut self.replayed_received,
        };
        *counter += 1;
    }
}
