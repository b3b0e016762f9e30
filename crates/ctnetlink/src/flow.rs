//! What a tracked connection is: two tuples, status, timers, and what NAT and helpers added.

use std::net::IpAddr;

/// One tracked connection, as `nf_conntrack` describes it. What the kernel did not say is `None`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flow {
    /// The tuple of the first packet.
    pub orig: Tuple,
    /// The tuple expected in answers; differs from the inverse of `orig` by NAT.
    pub reply: Tuple,
    /// The zone of the flow; 0 is the default zone.
    pub zone: u16,
    /// The direction whose packets are looked up in `zone`; the other one is in zone 0.
    pub zone_direction: ZoneDirection,
    /// The kernel's status bits.
    pub status: Status,
    /// Seconds left when the kernel spoke.
    pub timeout_s: Option<u32>,
    /// The packet mark kept with the flow.
    pub mark: Option<u32>,
    /// The state of the transport protocol.
    pub protocol_state: ProtocolState,
    /// The original tuple of the connection that this one was expected by.
    pub master: Option<Tuple>,
    /// The helper's name.
    pub helper: Option<HelperName>,
    /// The 128 label bits, bit n in `labels[n / 32]`.
    pub labels: Option<[u32; 4]>,
    /// Sequence adjustments made by NAT helpers: original direction, reply direction.
    pub sequence_adjustment: Option<[SequenceAdjustment; 2]>,
    /// SYNPROXY's offsets.
    pub synproxy: Option<Synproxy>,
    /// The kernel's identifier of this entry; not carried between routers.
    pub id: Option<u32>,
}

impl Flow {
    /// A flow of which nothing but the tuples is known.
    pub fn new(orig: Tuple, reply: Tuple) -> Self {
        Self {
            orig,
            reply,
            zone: 0,
            zone_direction: ZoneDirection::Both,
            status: Status::default(),
            timeout_s: None,
            mark: None,
            protocol_state: ProtocolState::None,
            master: None,
            helper: None,
            labels: None,
            sequence_adjustment: None,
            synproxy: None,
            id: None,
        }
    }

    /// Whether source NAT applies: answers do not go to where the flow came from.
    pub fn source_translated(&self) -> bool {
        let direct = self.orig.inverse();
        self.reply.destination != direct.destination
            || match (self.reply.l4, direct.l4) {
                (L4::Ports { destination: seen, .. }, L4::Ports { destination: expected, .. }) => {
                    seen != expected
                }
                (L4::Icmp { id: seen, .. }, L4::Icmp { id: expected, .. }) => seen != expected,
                (L4::None | L4::Ports { .. } | L4::Icmp { .. }, _) => false,
            }
    }

    /// Whether destination NAT applies: answers do not come from where the flow went.
    pub fn destination_translated(&self) -> bool {
        let direct = self.orig.inverse();
        self.reply.source != direct.source
            || match (self.reply.l4, direct.l4) {
                (L4::Ports { source: seen, .. }, L4::Ports { source: expected, .. }) => {
                    seen != expected
                }
                (L4::None | L4::Ports { .. } | L4::Icmp { .. }, _) => false,
            }
    }
}

/// Which direction of a flow its zone applies to.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ZoneDirection {
    /// Both.
    #[default]
    Both,
    /// The original direction.
    Orig,
    /// The reply direction.
    Reply,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address, of the same family.
    pub destination: IpAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// What tells flows of one protocol between the same hosts apart.
    pub l4: L4,
}

impl Tuple {
    /// The tuple of the answers when there is no NAT. An ICMP type that has no answer stays.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let l4 = match self.l4 {
            L4::None => L4::None,
            L4::Ports { source, destination } => {
                L4::Ports { source: destination, destination: source }
            }
            L4::Icmp { kind, code, id } => {
                L4::Icmp { kind: icmp_answer(self.protocol, kind), code, id }
            }
        };
        Self { source: self.destination, destination: self.source, protocol: self.protocol, l4 }
    }
}

/// The ICMP or ICMPv6 type that answers `kind`, or that `kind` answers.
fn icmp_answer(protocol: u8, kind: u8) -> u8 {
    const PAIRS: [(u8, u8, u8); 6] =
        [(1, 0, 8), (1, 13, 14), (1, 15, 16), (1, 17, 18), (58, 128, 129), (58, 139, 140)];
    for (of, first, second) in PAIRS {
        if of == protocol && kind == first {
            return second;
        }
        if of == protocol && kind == second {
            return first;
        }
    }
    kind
}

/// The transport part of a tuple.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum L4 {
    /// Protocols the kernel tracks by addresses alone.
    None,
    /// TCP, UDP, UDP-Lite, SCTP, DCCP ports, and GRE keys.
    Ports {
        /// Source port or key.
        source: u16,
        /// Destination port or key.
        destination: u16,
    },
    /// ICMP and ICMPv6 queries.
    Icmp {
        /// The ICMP type.
        kind: u8,
        /// The ICMP code.
        code: u8,
        /// The identifier.
        id: u16,
    },
}

/// Status bits of a flow (`enum ip_conntrack_status`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Status(pub u32);

impl Status {
    /// The flow was expected by another.
    pub const EXPECTED: u32 = 0x1;
    /// Packets were seen in both directions.
    pub const SEEN_REPLY: u32 = 0x2;
    /// The flow is not dropped early when the table is full.
    pub const ASSURED: u32 = 0x4;
    /// The first packet has left the box.
    pub const CONFIRMED: u32 = 0x8;
    /// Source NAT applies.
    pub const SRC_NAT: u32 = 0x10;
    /// Destination NAT applies.
    pub const DST_NAT: u32 = 0x20;
    /// Sequence numbers are adjusted.
    pub const SEQ_ADJUST: u32 = 0x40;
    /// The source NAT hook has been passed.
    pub const SRC_NAT_DONE: u32 = 0x80;
    /// The destination NAT hook has been passed.
    pub const DST_NAT_DONE: u32 = 0x100;
    /// The flow is being removed.
    pub const DYING: u32 = 0x200;
    /// The timeout is not refreshed by packets.
    pub const FIXED_TIMEOUT: u32 = 0x400;
    /// A helper was attached by a rule or over netlink.
    pub const HELPER: u32 = 0x2000;
    /// Packets take the flow table of the kernel.
    pub const OFFLOAD: u32 = 0x4000;
    /// Packets take the flow table of the network card.
    pub const HW_OFFLOAD: u32 = 0x8000;

    /// Whether all `bits` are set.
    pub fn contains(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// What the kernel's tracker of the flow's protocol holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ProtocolState {
    /// A protocol without state, or none told.
    #[default]
    None,
    /// TCP.
    Tcp(TcpState),
    /// SCTP.
    Sctp {
        /// `enum sctp_conntrack`.
        state: u8,
        /// The verification tag expected in the original direction, as a number; 0 when not
        /// told, as in the event of the flow's end.
        vtag_orig: u32,
        /// The verification tag expected in the reply direction, likewise.
        vtag_reply: u32,
    },
    /// DCCP.
    Dccp {
        /// The tracker's state.
        state: u8,
        /// 0 client, 1 server.
        role: u8,
        /// The handshake sequence number, 0 when unknown.
        handshake_sequence: u64,
    },
}

/// TCP's tracking state. Scale and flags are `None` when the kernel or the peer did not tell them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TcpState {
    /// `enum tcp_conntrack`, an index into [`TcpState::NAMES`].
    pub state: u8,
    /// Window scale of the original and the reply direction.
    pub window_scale: Option<[u8; 2]>,
    /// `IP_CT_TCP_FLAG_*` of the original and the reply direction.
    pub flags: Option<[u8; 2]>,
}

impl TcpState {
    /// What the states are called.
    pub const NAMES: [&str; 10] = [
        "NONE",
        "SYN_SENT",
        "SYN_RECV",
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "LAST_ACK",
        "TIME_WAIT",
        "CLOSE",
        "SYN_SENT2",
    ];
    /// The sender offered window scaling (`IP_CT_TCP_FLAG_WINDOW_SCALE`).
    pub const WINDOW_SCALE: u8 = 0x01;
    /// The sender permits selective acknowledgements.
    pub const SACK_PERMITTED: u8 = 0x02;
    /// The sender sent the first FIN.
    pub const CLOSE_INIT: u8 = 0x04;
    /// The windows of this direction are not checked.
    pub const BE_LIBERAL: u8 = 0x08;
}

/// The name of a connection tracking helper: at most 15 bytes (`NF_CT_HELPER_NAME_LEN` is 16).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HelperName {
    bytes: [u8; 15],
    len: u8,
}

impl HelperName {
    /// `None` when `name` is empty, longer than 15 bytes or not printable ASCII.
    pub fn new(name: &[u8]) -> Option<Self> {
        if name.is_empty() || name.len() > 15 || !name.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; 15];
        bytes[..name.len()].copy_from_slice(name);
        Some(Self { bytes, len: name.len() as u8 })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

/// `CTA_SEQADJ_*`: what a NAT helper added to the sequence numbers of one direction.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SequenceAdjustment {
    /// Sequence number of the last correction.
    pub correction_position: u32,
    /// Offset before that position.
    pub offset_before: u32,
    /// Offset after it.
    pub offset_after: u32,
}

/// `CTA_SYNPROXY_*`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Synproxy {
    /// Initial timestamp.
    pub its: u32,
    /// Initial sequence number.
    pub isn: u32,
    /// Timestamp offset.
    pub tsoff: u32,
}
