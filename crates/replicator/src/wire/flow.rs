//! The attributes of a flow message ⇄ [`Flow`].
//!
//! The reply tuple is not on the wire. It is the inverse of the original tuple, changed by the
//! translation attributes. Translated ports and ICMP identifiers are little-endian, because a
//! little-endian conntrackd swaps them once too often; see [`decode_flow`] for mixed pairs.

mod decode;
mod encode;

pub use decode::{bequest_age_s, decode_flow};
pub use encode::{encode_bequest, encode_flow};

const IPV4: u16 = 0;
const IPV6: u16 = 1;
const L4PROTO: u16 = 2;
const PORT: u16 = 3;
const TCP_STATE: u16 = 4;
const STATUS: u16 = 5;
const TIMEOUT: u16 = 6;
const MARK: u16 = 7;
const MASTER_IPV4: u16 = 8;
const MASTER_IPV6: u16 = 9;
const MASTER_L4PROTO: u16 = 10;
const MASTER_PORT: u16 = 11;
const SNAT_IPV4: u16 = 12;
const DNAT_IPV4: u16 = 13;
const SPAT_PORT: u16 = 14;
const DPAT_PORT: u16 = 15;
const SEQUENCE_ADJUSTMENT: u16 = 16;
const SCTP_STATE: u16 = 17;
const SCTP_VTAG_ORIG: u16 = 18;
const SCTP_VTAG_REPLY: u16 = 19;
const DCCP_STATE: u16 = 20;
const DCCP_ROLE: u16 = 21;
const ICMP_TYPE: u16 = 22;
const ICMP_CODE: u16 = 23;
const ICMP_ID: u16 = 24;
const TCP_WINDOW_SCALE_ORIG: u16 = 25;
const TCP_WINDOW_SCALE_REPLY: u16 = 26;
const HELPER_NAME: u16 = 27;
const LABELS: u16 = 28;
const SNAT_IPV6: u16 = 29;
const DNAT_IPV6: u16 = 30;
const SYNPROXY: u16 = 31;
const ZONE: u16 = 32;

/// From ours alone, and to ours alone: who serves this flow no more leaves it to who serves now. How
/// many seconds ago its kernel began to track it. conntrackd refuses a message with this number.
const BEGAN: u16 = 0xff00;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use lockstep_ctnetlink::{Flow, L4, Tuple};

    use super::*;
    use crate::wire::PayloadError;

    fn flow() -> Flow {
        let orig = Tuple {
            source: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            destination: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
            protocol: 6,
            l4: L4::Ports { source: 1024, destination: 80 },
        };
        Flow { timeout_s: Some(100), ..Flow::new(orig, orig.inverse()) }
    }

    #[test]
    fn a_flow_that_is_left_to_another_router_says_when_it_began_and_nothing_else_changes() {
        let (mut plain, mut bequest) = (Vec::new(), Vec::new());
        encode_flow(&flow(), &mut plain).unwrap();
        encode_bequest(&flow(), 77, &mut bequest).unwrap();
        assert_eq!(bequest[..plain.len()], plain);
        assert_eq!((bequest_age_s(&plain), bequest_age_s(&bequest)), (None, Some(77)));
        assert_eq!(decode_flow(&bequest), decode_flow(&plain));
    }

    #[test]
    fn a_beginning_of_another_size_is_refused() {
        let mut body = Vec::new();
        encode_bequest(&flow(), 77, &mut body).unwrap();
        let length = body.len() - 8;
        body[length + 1] = 7;
        let wrong = PayloadError::Size { number: BEGAN, size: 3 };
        assert_eq!(decode_flow(&body), Err(wrong));
        assert_eq!(bequest_age_s(&body), None);
        assert_eq!(bequest_age_s(&body[..length + 3]), None);
    }
}
