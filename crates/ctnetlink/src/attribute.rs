//! Netlink attributes: walked in place, and written with their nests.

use crate::DecodeError;

/// `CTA_*`, `enum ctattr_type` and the enums of its nests.
pub(crate) mod kind {
    pub(crate) const TUPLE_ORIG: u16 = 1;
    pub(crate) const TUPLE_REPLY: u16 = 2;
    pub(crate) const STATUS: u16 = 3;
    pub(crate) const PROTOINFO: u16 = 4;
    pub(crate) const HELP: u16 = 5;
    pub(crate) const NAT_SRC: u16 = 6;
    pub(crate) const TIMEOUT: u16 = 7;
    pub(crate) const MARK: u16 = 8;
    pub(crate) const COUNTERS_ORIG: u16 = 9;
    pub(crate) const COUNTERS_REPLY: u16 = 10;
    pub(crate) const USE: u16 = 11;
    pub(crate) const ID: u16 = 12;
    pub(crate) const NAT_DST: u16 = 13;
    pub(crate) const TUPLE_MASTER: u16 = 14;
    pub(crate) const SEQ_ADJ_ORIG: u16 = 15;
    pub(crate) const SEQ_ADJ_REPLY: u16 = 16;
    pub(crate) const ZONE: u16 = 18;
    pub(crate) const LABELS: u16 = 22;
    pub(crate) const LABELS_MASK: u16 = 23;
    pub(crate) const SYNPROXY: u16 = 24;

    pub(crate) mod tuple {
        pub(crate) const IP: u16 = 1;
        pub(crate) const PROTO: u16 = 2;
        pub(crate) const ZONE: u16 = 3;
    }

    pub(crate) mod ip {
        pub(crate) const V4_SRC: u16 = 1;
        pub(crate) const V4_DST: u16 = 2;
        pub(crate) const V6_SRC: u16 = 3;
        pub(crate) const V6_DST: u16 = 4;
    }

    pub(crate) mod proto {
        pub(crate) const NUM: u16 = 1;
        pub(crate) const SRC_PORT: u16 = 2;
        pub(crate) const DST_PORT: u16 = 3;
        pub(crate) const ICMP_ID: u16 = 4;
        pub(crate) const ICMP_TYPE: u16 = 5;
        pub(crate) const ICMP_CODE: u16 = 6;
        pub(crate) const ICMPV6_ID: u16 = 7;
        pub(crate) const ICMPV6_TYPE: u16 = 8;
        pub(crate) const ICMPV6_CODE: u16 = 9;
    }

    pub(crate) mod protoinfo {
        pub(crate) const TCP: u16 = 1;
        pub(crate) const DCCP: u16 = 2;
        pub(crate) const SCTP: u16 = 3;

        pub(crate) const TCP_STATE: u16 = 1;
        pub(crate) const TCP_WSCALE_ORIG: u16 = 2;
        pub(crate) const TCP_WSCALE_REPLY: u16 = 3;
        pub(crate) const TCP_FLAGS_ORIG: u16 = 4;
        pub(crate) const TCP_FLAGS_REPLY: u16 = 5;

        pub(crate) const DCCP_STATE: u16 = 1;
        pub(crate) const DCCP_ROLE: u16 = 2;
        pub(crate) const DCCP_HANDSHAKE_SEQ: u16 = 3;

        pub(crate) const SCTP_STATE: u16 = 1;
        pub(crate) const SCTP_VTAG_ORIG: u16 = 2;
        pub(crate) const SCTP_VTAG_REPLY: u16 = 3;
    }

    pub(crate) mod counters {
        pub(crate) const PACKETS: u16 = 1;
        pub(crate) const BYTES: u16 = 2;
    }

    pub(crate) mod help {
        pub(crate) const NAME: u16 = 1;
    }

    pub(crate) mod nat {
        pub(crate) const V4_MINIP: u16 = 1;
        pub(crate) const V4_MAXIP: u16 = 2;
        pub(crate) const PROTO: u16 = 3;
        pub(crate) const V6_MINIP: u16 = 4;
        pub(crate) const V6_MAXIP: u16 = 5;

        pub(crate) const PORT_MIN: u16 = 1;
        pub(crate) const PORT_MAX: u16 = 2;
    }

    pub(crate) mod seqadj {
        pub(crate) const CORRECTION_POS: u16 = 1;
        pub(crate) const OFFSET_BEFORE: u16 = 2;
        pub(crate) const OFFSET_AFTER: u16 = 3;
    }

    pub(crate) mod synproxy {
        pub(crate) const ISN: u16 = 1;
        pub(crate) const ITS: u16 = 2;
        pub(crate) const TSOFF: u16 = 3;
    }
}

/// The two top bits of an attribute's type say "nest" and "network byte order".
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;
const HEADER: usize = 4;

/// The attributes of one nest, in place.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

/// One attribute, in place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
}

impl<'a> Attributes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

/// Ends after the first error.
impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(([l0, l1, k0, k1], _)) = self.0.split_first_chunk::<HEADER>() else {
            self.0 = &[];
            return Some(Err(DecodeError::Truncated));
        };
        let length = usize::from(u16::from_ne_bytes([*l0, *l1]));
        let kind = u16::from_ne_bytes([*k0, *k1]) & TYPE_MASK;
        let Some(value) = self.0.get(HEADER..length) else {
            self.0 = &[];
            return Some(Err(DecodeError::AttributeLength { attribute: kind, length }));
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Attribute { kind, value }))
    }
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub(crate) fn nest(self) -> Attributes<'a> {
        Attributes(self.value)
    }

    /// The value, when it has exactly `N` bytes.
    pub(crate) fn array<const N: usize>(self) -> Result<[u8; N], DecodeError> {
        self.value.try_into().map_err(|_| DecodeError::AttributeLength {
            attribute: self.kind,
            length: self.value.len() + HEADER,
        })
    }

    pub(crate) fn u8(self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn be16(self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn be32(self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// The bytes of a text, up to its final zero byte.
    pub(crate) fn text(self) -> &'a [u8] {
        self.value.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    pub(crate) fn be64(self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }
}

/// Appends attributes to a message.
pub(crate) struct Writer<'a>(&'a mut Vec<u8>);

impl<'a> Writer<'a> {
    pub(crate) fn new(buffer: &'a mut Vec<u8>) -> Self {
        Self(buffer)
    }

    /// Writes one attribute of a fixed size: header, value and padding in one go.
    pub(crate) fn fixed<const N: usize>(&mut self, kind: u16, value: [u8; N]) {
        self.header(kind, N);
        self.0.extend_from_slice(&value);
        self.0.extend_from_slice(&[0; 3][..N.next_multiple_of(4) - N]);
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.fixed(kind, [value]);
    }

    pub(crate) fn be16(&mut self, kind: u16, value: u16) {
        self.fixed(kind, value.to_be_bytes());
    }

    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.fixed(kind, value.to_be_bytes());
    }

    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.fixed(kind, value.to_be_bytes());
    }

    /// Writes `text` with the final zero byte that the kernel asks for.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let length = text.len() + 1;
        self.header(kind, length);
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(&[0; 4][..1 + length.next_multiple_of(4) - length]);
    }

    /// Writes a nest; its length is filled in afterwards.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Writer<'_>)) {
        let start = self.0.len();
        self.header(kind | NESTED, 0);
        inside(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn header(&mut self, kind: u16, value_length: usize) {
        let [l0, l1] = ((value_length + HEADER) as u16).to_ne_bytes();
        let [k0, k1] = kind.to_ne_bytes();
        self.0.extend_from_slice(&[l0, l1, k0, k1]);
    }
}
