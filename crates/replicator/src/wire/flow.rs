//! The attributes of a flow message ⇄ [`Flow`].
//!
//! The reply tuple is not on the wire. It is the inverse of the original tuple, changed by the
//! translation attributes. Translated ports and ICMP identifiers are little-endian, because a
//! little-endian conntrackd swaps them once too often; see [`decode_flow`] for mixed pairs.

mod decode;
mod encode;

pub use decode::decode_flow;
pub use encode::encode_flow;

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
