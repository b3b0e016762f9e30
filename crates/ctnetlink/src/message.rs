//! The messages in a receive buffer, seen in place.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::attribute::Attributes;
use crate::{Details, Expectation, Flow, decode, expectation};

/// Why bytes from a netlink socket have no meaning here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than a header.
    #[error("the message ends inside a header")]
    Truncated,
    /// The length in the message header is smaller than the header or larger than what is there.
    #[error("message length {length} with {available} bytes there")]
    MessageLength {
        /// As stated.
        length: usize,
        /// What the buffer holds.
        available: usize,
    },
    /// An attribute's length does not fit its type or what surrounds it.
    #[error("attribute {attribute} with length {length}")]
    AttributeLength {
        /// Its type inside its nest.
        attribute: u16,
        /// As stated, with the attribute's header.
        length: usize,
    },
    /// Something every flow has is not there.
    #[error("no {0}")]
    Missing(&'static str),
    /// The message does not describe a flow.
    #[error("message type {0:#06x} does not describe a flow")]
    NotAFlow(u16),
    /// The message does not describe an expectation.
    #[error("message type {0:#06x} does not describe an expectation")]
    NotAnExpectation(u16),
}

/// The netlink header (`struct nlmsghdr`), in the machine's byte order.
///
/// ```text
/// 0               2               4 octets
/// +-------------------------------+
/// |            length             |  with this header
/// +---------------+---------------+
/// |     type      |     flags     |
/// +---------------+---------------+
/// |           sequence            |
/// +-------------------------------+
/// |            port id            |  of who asked; 0 when the kernel itself did
/// +-------------------------------+
/// ```
#[derive(Clone, Copy, Debug, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]
#[repr(C)]
pub struct Header {
    /// Bytes of the message with this header, without padding after it.
    pub length: u32,
    /// The message type: subsystem in the high byte, operation in the low one.
    pub message_type: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// The number given by who asked; in events 0.
    pub sequence: u32,
    /// The netlink port of who asked, also in the events that the request caused.
    pub port_id: u32,
}

impl Header {
    /// Bytes of a header.
    pub const LENGTH: usize = size_of::<Self>();
}

/// `struct nfgenmsg`, which every netfilter message begins with.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Netfilter {
    /// `AF_*`.
    pub(crate) family: u8,
    /// Always 0.
    pub(crate) version: u8,
    /// Not used by connection tracking.
    pub(crate) resource: [u8; 2],
}

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1;
/// `IPCTNL_MSG_CT_NEW` with its subsystem.
pub(crate) const CT_NEW: u16 = SUBSYSTEM << 8;
/// `IPCTNL_MSG_CT_GET`.
pub(crate) const CT_GET: u16 = SUBSYSTEM << 8 | 1;
/// `IPCTNL_MSG_CT_DELETE`.
pub(crate) const CT_DELETE: u16 = SUBSYSTEM << 8 | 2;

/// `NFNL_SUBSYS_CTNETLINK_EXP`.
const EXPECTATIONS: u16 = 2;
/// `IPCTNL_MSG_EXP_NEW` with its subsystem.
pub(crate) const EXP_NEW: u16 = EXPECTATIONS << 8;
/// `IPCTNL_MSG_EXP_GET`.
pub(crate) const EXP_GET: u16 = EXPECTATIONS << 8 | 1;
/// `IPCTNL_MSG_EXP_DELETE`.
pub(crate) const EXP_DELETE: u16 = EXPECTATIONS << 8 | 2;

const NLMSG_NOOP: u16 = 1;
pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;

/// `NLM_F_*`.
pub(crate) mod flags {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const MULTI: u16 = 0x2;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const EXCLUSIVE: u16 = 0x200;
    pub(crate) const CREATE: u16 = 0x400;
    /// Only in replies: the request is not echoed beyond its header.
    pub(crate) const CAPPED: u16 = 0x100;
    /// Only in replies: attributes follow the echoed request.
    pub(crate) const ACK_TLVS: u16 = 0x200;
}

/// The messages in one receive buffer, in order. Ends after the first broken header.
#[derive(Clone, Debug)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Looks at `buffer`, which holds whole datagrams, each a multiple of 4 bytes long.
    pub fn new(buffer: &'a [u8]) -> Self {
        Self(buffer)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let Ok((header, _)) = Header::read_from_prefix(bytes) else {
            return Some(Err(DecodeError::Truncated));
        };
        let length = header.length as usize;
        let Some(payload) = bytes.get(Header::LENGTH..length) else {
            return Some(Err(DecodeError::MessageLength { length, available: bytes.len() }));
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok(Message { header, payload }))
    }
}

/// One message, borrowed from the receive buffer. Its header is checked, its content is not yet.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    header: Header,
    payload: &'a [u8],
}

/// What a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind<'a> {
    /// Event: a flow has been made.
    New,
    /// Event: a flow has changed.
    Update,
    /// Event: a flow has gone.
    Destroy,
    /// One entry of a dump, or the answer to [`get`](crate::get).
    Entry,
    /// Event: something new is expected.
    ExpectationNew,
    /// Event: an expectation has changed.
    ExpectationUpdate,
    /// Event: an expectation has gone, be it fulfilled or given up.
    ExpectationDestroy,
    /// One entry of a dump of expectations, or the answer to
    /// [`get_expectation`](crate::get_expectation).
    ExpectationEntry,
    /// The answer to a request; the message's sequence number says to which.
    Answer(Answer<'a>),
    /// The end of a dump; the kernel's error number, 0 when all is told.
    Done(i32),
    /// Messages were lost (`NLMSG_OVERRUN`).
    Overrun,
    /// To be skipped (`NLMSG_NOOP`).
    Noop,
    /// A type that is not known here.
    Unknown,
}

/// What the kernel answered to a request (`NLMSG_ERROR`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer<'a> {
    /// 0 when it was carried out, else a positive error number such as `EEXIST`.
    pub errno: i32,
    /// The kernel's own words about it.
    pub text: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// The netlink header.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Whether the dump this entry belongs to has missed changes (`NLM_F_DUMP_INTR`).
    pub fn interrupted(&self) -> bool {
        self.header.flags & flags::DUMP_INTERRUPTED != 0
    }

    /// What the message is.
    ///
    /// # Errors
    /// When the error number of an answer is cut off.
    pub fn kind(&self) -> Result<Kind<'a>, DecodeError> {
        let carries = |bits| self.header.flags & bits != 0;
        Ok(match self.header.message_type {
            CT_NEW if carries(flags::MULTI) => Kind::Entry,
            CT_NEW if carries(flags::CREATE | flags::EXCLUSIVE) => Kind::New,
            CT_NEW => Kind::Update,
            CT_DELETE => Kind::Destroy,
            EXP_NEW if carries(flags::MULTI) => Kind::ExpectationEntry,
            EXP_NEW if carries(flags::CREATE | flags::EXCLUSIVE) => Kind::ExpectationNew,
            EXP_NEW => Kind::ExpectationUpdate,
            EXP_DELETE => Kind::ExpectationDestroy,
            NLMSG_ERROR => Kind::Answer(Answer { errno: self.errno()?, text: self.answer_text() }),
            // A kernel that has nothing to say leaves the number out.
            NLMSG_DONE => Kind::Done(self.errno().unwrap_or(0)),
            NLMSG_OVERRUN => Kind::Overrun,
            NLMSG_NOOP => Kind::Noop,
            _ => Kind::Unknown,
        })
    }

    /// The flow that the message is about.
    pub fn flow(&self) -> Result<Flow, DecodeError> {
        decode::flow(self.attributes()?)
    }

    /// What the message tells besides the flow: counters and the use count.
    pub fn details(&self) -> Result<Details, DecodeError> {
        decode::details(self.attributes()?)
    }

    /// The expectation that the message is about.
    pub fn expectation(&self) -> Result<Expectation, DecodeError> {
        if !matches!(self.header.message_type, EXP_NEW | EXP_DELETE) {
            return Err(DecodeError::NotAnExpectation(self.header.message_type));
        }
        expectation::decode(self.content()?)
    }

    /// The attributes, when they are a flow's.
    fn attributes(&self) -> Result<Attributes<'a>, DecodeError> {
        if !matches!(self.header.message_type, CT_NEW | CT_DELETE) {
            return Err(DecodeError::NotAFlow(self.header.message_type));
        }
        self.content()
    }

    fn content(&self) -> Result<Attributes<'a>, DecodeError> {
        let bytes = self.payload.get(size_of::<Netfilter>()..).ok_or(DecodeError::Truncated)?;
        Ok(Attributes::new(bytes))
    }

    fn errno(&self) -> Result<i32, DecodeError> {
        let (number, _) =
            i32::read_from_prefix(self.payload).map_err(|_| DecodeError::Truncated)?;
        Ok(number.wrapping_neg())
    }

    /// The extended acknowledgement's text; it follows the echoed request, which may be capped.
    fn answer_text(&self) -> Option<&'a str> {
        const TEXT: u16 = 1;
        if self.header.flags & flags::ACK_TLVS == 0 {
            return None;
        }
        let echoed = self.payload.get(4..)?;
        let length = if self.header.flags & flags::CAPPED != 0 {
            Header::LENGTH
        } else {
            (Header::read_from_prefix(echoed).ok()?.0.length as usize)
                .checked_next_multiple_of(4)?
        };
        let text = Attributes::new(echoed.get(length..)?)
            .map_while(Result::ok)
            .find(|attribute| attribute.kind == TEXT)?;
        std::str::from_utf8(text.value).ok().map(|text| text.trim_end_matches('\0'))
    }
}
