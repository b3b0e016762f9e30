//! How long a committed flow lives before its first packet.
//!
//! The wire carries the timeout as it was at the flow's last *change*. A flow that goes on without
//! changing is refreshed by every packet, but nobody tells: so "timeout minus age" would give a
//! TCP connection that has been busy for days no time at all. What is known for certain is that the
//! flow had not expired on the peer, or its end would have been told. It gets what is left by the
//! clock, and not less than a time in which a living flow shows itself:
//!
//! | flow | at least | why |
//! |---|---|---|
//! | TCP established, DCCP open | 2 h 4 min, but not over what the peer gave it | RFC 5382 REQ-5, RFC 5597 |
//! | TCP opening or closing | 1 min | retransmission times |
//! | TCP closed | 10 s | the kernel's own |
//! | UDP, UDP-Lite, both directions seen | what the peer gave it, from 2 min to 2 h 4 min | RFC 4787 REQ-5 |
//! | SCTP established | 3 min 30 s | the kernel's own: seven heartbeats |
//! | protocols without states of their own | what the peer gave it, from 30 s to 10 min | the kernel's |
//! | everything else | 30 s | the kernel's shortest for a living flow |
//!
//! A flow whose timeout packets do not refresh gets what is left by the clock and no more.
//!
//! A configured commit timeout stands above all of this. The flows that a backup keeps in its kernel
//! are *parked*: their timeout is longer than any the kernel gives by itself, and so tells them from
//! the flows that have seen a packet.

use std::time::Duration;

use lockstep_ctnetlink::{Flow, ProtocolState, Status};

/// Seconds that a parked flow is given: six days. Bounds what a daemon that dies leaves behind.
pub const PARKED_S: u32 = 6 * DAY_S;

/// The kernel's longest timeout by default, that of an established TCP connection: five days.
/// What lives longer is parked.
const LONGEST_S: u32 = 5 * DAY_S;

const DAY_S: u32 = 86_400;

/// Whether a timeout read from the kernel is a parked one.
pub fn is_parked(timeout_s: u32) -> bool {
    timeout_s > LONGEST_S
}

/// Seconds for a flow of which the peer last spoke `age_s` seconds ago. Never 0.
pub(crate) fn committed_s(flow: &Flow, age_s: u32, configured: Option<Duration>) -> u32 {
    if let Some(configured) = configured {
        return u32::try_from(configured.as_secs()).unwrap_or(LONGEST_S).clamp(1, LONGEST_S);
    }
    let left = flow.timeout_s.map_or(0, |told| told.min(LONGEST_S).saturating_sub(age_s));
    if flow.status.contains(Status::FIXED_TIMEOUT) {
        return left.max(1);
    }
    left.max(floor_s(flow)).max(1)
}

fn floor_s(flow: &Flow) -> u32 {
    const UDP: u8 = 17;
    const UDP_LITE: u8 = 136;
    match flow.protocol_state {
        ProtocolState::Tcp(tcp) => match tcp.state {
            TCP_ESTABLISHED => long_lived_s(flow),
            TCP_CLOSE => 10,
            _ => 60,
        },
        ProtocolState::Dccp { state, .. } if state == DCCP_OPEN => long_lived_s(flow),
        ProtocolState::Sctp { state, .. } if state == SCTP_ESTABLISHED => 210,
        ProtocolState::Sctp { .. } | ProtocolState::Dccp { .. } => 30,
        ProtocolState::None => {
            let told = flow.timeout_s.unwrap_or(0);
            match flow.orig.protocol {
                UDP | UDP_LITE if flow.status.contains(Status::ASSURED) => {
                    told.clamp(120, ESTABLISHED_S)
                }
                _ => told.clamp(30, 600),
            }
        }
    }
}

const ESTABLISHED_S: u32 = 7440;

/// An administrator may have set shorter times on the peer; a reading of the table late in an idle
/// period must not be taken for that, hence five minutes at least.
fn long_lived_s(flow: &Flow) -> u32 {
    ESTABLISHED_S.min(flow.timeout_s.unwrap_or(ESTABLISHED_S).max(300))
}

const TCP_ESTABLISHED: u8 = 3;
const TCP_CLOSE: u8 = 8;
const DCCP_OPEN: u8 = 4;
const SCTP_ESTABLISHED: u8 = 4;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use lockstep_ctnetlink::{L4, TcpState, Tuple};

    use super::*;

    fn flow(protocol: u8, state: ProtocolState, told: Option<u32>) -> Flow {
        let orig = Tuple {
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
            protocol,
            l4: L4::Ports { source: 1, destination: 2 },
        };
        let mut flow = Flow::new(orig, orig.inverse());
        flow.protocol_state = state;
        flow.timeout_s = told;
        flow
    }

    fn tcp(state: u8) -> ProtocolState {
        ProtocolState::Tcp(TcpState { state, ..TcpState::default() })
    }

    #[test]
    fn a_connection_that_has_been_established_for_days_is_not_about_to_expire() {
        let old = flow(6, tcp(3), Some(432_000));
        assert_eq!(committed_s(&old, 5 * 86_400, None), 7440);
        assert_eq!(committed_s(&old, 60, None), 431_940);
    }

    #[test]
    fn a_shorter_time_set_by_the_administrator_is_not_exceeded() {
        assert_eq!(committed_s(&flow(6, tcp(3), Some(600)), 3600, None), 600);
    }

    #[test]
    fn a_flow_without_a_told_timeout_can_be_committed_at_any_age() {
        assert_eq!(committed_s(&flow(6, tcp(3), None), 0, None), 7440);
        assert_eq!(committed_s(&flow(17, ProtocolState::None, None), 10, None), 30);
    }

    #[test]
    fn a_udp_stream_near_its_end_gets_the_time_of_a_living_one() {
        let mut stream = flow(17, ProtocolState::None, Some(9));
        stream.status = Status(Status::ASSURED | Status::SEEN_REPLY);
        assert_eq!(committed_s(&stream, 3, None), 120);
    }

    #[test]
    fn a_udp_stream_that_an_administrator_gives_longer_keeps_that_until_its_next_packet() {
        let mut tunnel = flow(17, ProtocolState::None, Some(600));
        tunnel.status = Status(Status::ASSURED | Status::SEEN_REPLY);
        assert_eq!(committed_s(&tunnel, 3600, None), 600);
        let unknown_protocol = flow(50, ProtocolState::None, Some(600));
        assert_eq!(committed_s(&unknown_protocol, 3600, None), 600);
    }

    #[test]
    fn a_timeout_that_packets_do_not_refresh_goes_by_the_clock() {
        let mut fixed = flow(6, tcp(3), Some(100));
        fixed.status = Status(Status::FIXED_TIMEOUT);
        assert_eq!(committed_s(&fixed, 40, None), 60);
        assert_eq!(committed_s(&fixed, 400, None), 1);
    }

    #[test]
    fn a_configured_timeout_stands_above_all_and_is_never_a_parked_one() {
        let established = flow(6, tcp(3), Some(432_000));
        assert_eq!(committed_s(&established, 1, Some(Duration::from_mins(3))), 180);
        assert_eq!(committed_s(&established, 1, Some(Duration::ZERO)), 1);
        assert!(!is_parked(committed_s(&established, 1, Some(Duration::MAX))));
    }

    #[test]
    fn no_flow_of_an_active_router_is_given_a_parked_timeout() {
        let parked = flow(17, ProtocolState::None, Some(PARKED_S));
        assert!(!is_parked(committed_s(&parked, 0, None)));
        assert!(is_parked(PARKED_S) && !is_parked(432_000));
    }

    #[test]
    fn a_closed_connection_does_not_linger() {
        assert_eq!(committed_s(&flow(6, tcp(8), Some(10)), 100, None), 10);
    }
}
