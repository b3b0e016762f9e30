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
//! | UDP, UDP-Lite, both directions seen | 2 min | RFC 4787 REQ-5 |
//! | SCTP established | 3 min 30 s | the kernel's own: seven heartbeats |
//! | everything else | 30 s | the kernel's shortest for a living flow |

use lockstep_ctnetlink::{Flow, ProtocolState, Status};

/// Seconds for a flow of which the peer last spoke `age_s` seconds ago. Never 0.
pub(crate) fn committed_s(flow: &Flow, age_s: u32) -> u32 {
    let left = flow.timeout_s.map_or(0, |told| told.saturating_sub(age_s));
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
        ProtocolState::None => match flow.orig.protocol {
            UDP | UDP_LITE if flow.status.contains(Status::ASSURED) => 120,
            _ => 30,
        },
    }
}

/// An administrator may have set shorter times on the peer; a reading of the table late in an idle
/// period must not be taken for that, hence five minutes at least.
fn long_lived_s(flow: &Flow) -> u32 {
    const ESTABLISHED_S: u32 = 7440;
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
        assert_eq!(committed_s(&old, 5 * 86_400), 7440);
        assert_eq!(committed_s(&old, 60), 431_940);
    }

    #[test]
    fn a_shorter_time_set_by_the_administrator_is_not_exceeded() {
        assert_eq!(committed_s(&flow(6, tcp(3), Some(600)), 3600), 600);
    }

    #[test]
    fn a_flow_without_a_told_timeout_can_be_committed_at_any_age() {
        assert_eq!(committed_s(&flow(6, tcp(3), None), 0), 7440);
        assert_eq!(committed_s(&flow(17, ProtocolState::None, None), 10), 30);
    }

    #[test]
    fn a_udp_stream_near_its_end_gets_the_time_of_a_living_one() {
        let mut stream = flow(17, ProtocolState::None, Some(9));
        stream.status = Status(Status::ASSURED | Status::SEEN_REPLY);
        assert_eq!(committed_s(&stream, 3), 120);
    }

    #[test]
    fn a_closed_connection_does_not_linger() {
        assert_eq!(committed_s(&flow(6, tcp(8), Some(10)), 100), 10);
    }
}
