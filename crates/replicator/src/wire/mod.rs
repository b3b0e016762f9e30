//! conntrackd 1.4.7's messages: the frame around them, and what may be wrong with it.
//!
//! ```text
//!  0                   1                   2                   3
//! +-------+-------+---------------+-------------------------------+
//! |version| type  |     flags     |   length (header and body)    |
//! +-------+-------+---------------+-------------------------------+
//! |                        sequence number                        |
//! +---------------------------------------------------------------+
//! |    from      (control messages with ACK, NACK or RESYNC)      |
//! +---------------------------------------------------------------+
//! |    to                                                         |
//! +---------------------------------------------------------------+
//! ```
//!
//! Everything is big-endian. A datagram is a row of whole messages. No function here panics,
//! whatever the bytes are.

mod attribute;
mod expectation;
mod flow;

pub use attribute::{PayloadError, Unsendable};
pub use expectation::{decode_expectation, encode_expectation};
pub use flow::{bequest_age_s, decode_flow, encode_bequest, encode_flow};

use lockstep_ctnetlink::{Expectation, Flow};

/// The only version there has ever been.
pub const VERSION: u8 = 1;

/// Bytes of a header without range.
pub const HEADER: usize = 8;

/// Bytes of a control message that has a range.
pub const LONG_HEADER: usize = 16;

/// The flag bits of a message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(pub u8);

impl Flags {
    /// Control, from ours alone: I stand by. With [`Flags::SERVES`]: and you have been told all.
    pub const STANDS_BY: u8 = 0x01;
    /// Control: tell me everything you have.
    pub const RESYNC: u8 = 0x02;
    /// Control: these numbers did not arrive.
    pub const NACK: u8 = 0x04;
    /// Control: these numbers arrived.
    pub const ACK: u8 = 0x08;
    /// Control: I am here.
    pub const ALIVE: u8 = 0x10;
    /// Any message: I have started and have not been answered yet.
    pub const HELLO: u8 = 0x20;
    /// Any message: I have seen your hello.
    pub const HELLO_BACK: u8 = 0x40;
    /// Control, from ours alone: I serve.
    pub const SERVES: u8 = 0x80;

    /// Whether any of `bits` is set.
    pub fn has(self, bits: u8) -> bool {
        self.0 & bits != 0
    }
}

/// What a data message says about its object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is there; forget what was known of it.
    New,
    /// It is there; what is not mentioned stays.
    Update,
    /// It is gone.
    Delete,
}

/// The type of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A flow.
    Flow(Change),
    /// An expectation.
    Expectation(Change),
    /// Hello, acknowledgement, request.
    Control,
}

impl Kind {
    /// `None` for a number nobody has assigned.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Flow(Change::New),
            1 => Self::Flow(Change::Update),
            2 => Self::Flow(Change::Delete),
            3 => Self::Expectation(Change::New),
            4 => Self::Expectation(Change::Update),
            5 => Self::Expectation(Change::Delete),
            CONTROL => Self::Control,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::Flow(Change::New) => 0,
            Self::Flow(Change::Update) => 1,
            Self::Flow(Change::Delete) => 2,
            Self::Expectation(Change::New) => 3,
            Self::Expectation(Change::Update) => 4,
            Self::Expectation(Change::Delete) => 5,
            Self::Control => CONTROL,
        }
    }
}

/// One message as it stands in a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Message<'a> {
    /// The type; `None` when its number is not assigned.
    pub kind: Option<Kind>,
    /// The flags.
    pub flags: Flags,
    /// The sender's number of this message.
    pub sequence: u32,
    /// First and last number meant by ACK and NACK; 0 otherwise.
    pub range: (u32, u32),
    /// The attributes of a data message, empty for control messages.
    pub body: &'a [u8],
}

/// Why a message, or the rest of a datagram, was not taken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes left than a header has; ends the datagram.
    #[error("the datagram ends inside a header")]
    Truncated,
    /// The length field is smaller than the header or larger than what is left; ends the datagram.
    #[error("the length field does not fit the datagram")]
    BadSize,
    /// Not version 1; only this message is skipped.
    #[error("unknown protocol version")]
    WrongVersion,
    /// Type, flags or range that the mode does not know; only this message is skipped.
    #[error("type or flags are not acceptable")]
    BadHeader,
    /// The attributes cannot be understood; only this message is skipped.
    #[error("the attributes cannot be understood")]
    BadPayload,
}

/// The messages of one datagram, in order. After [`Malformed::Truncated`] and
/// [`Malformed::BadSize`] there are no more.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Of the payload of a datagram.
    pub fn of(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn split(&mut self) -> Result<Message<'a>, Malformed> {
        let bytes = self.rest;
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if length == 0 || length > bytes.len() {
            return Err(Malformed::BadSize);
        }
        let flags = Flags(header[1]);
        let number = header[0] & 0x0f;
        let ranged = number == CONTROL && flags.has(Flags::ACK | Flags::NACK | Flags::RESYNC);
        let minimum = if ranged { LONG_HEADER } else { HEADER };
        if bytes.len() < minimum {
            return Err(Malformed::Truncated);
        }
        if length < minimum {
            return Err(Malformed::BadSize);
        }
        let (message, rest) = bytes.split_at(length);
        self.rest = rest;
        if header[0] >> 4 != VERSION {
            return Err(Malformed::WrongVersion);
        }
        let kind = Kind::from_number(number);
        Ok(Message {
            kind,
            flags,
            sequence: word(message, 4),
            range: if ranged { (word(message, 8), word(message, 12)) } else { (0, 0) },
            body: if kind == Some(Kind::Control) { &[] } else { &message[HEADER..] },
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let result = self.split();
        if matches!(result, Err(Malformed::Truncated | Malformed::BadSize)) {
            self.rest = &[];
        }
        Some(result)
    }
}

/// Appends a control message without range.
pub fn encode_control(flags: Flags, sequence: u32, out: &mut Vec<u8>) {
    header(Kind::Control, flags, HEADER as u16, sequence, out);
}

/// Appends a control message with a range: ACK, NACK or RESYNC.
pub fn encode_ranged(flags: Flags, sequence: u32, range: (u32, u32), out: &mut Vec<u8>) {
    header(Kind::Control, flags, LONG_HEADER as u16, sequence, out);
    out.extend_from_slice(&range.0.to_be_bytes());
    out.extend_from_slice(&range.1.to_be_bytes());
}

/// Appends a flow message.
///
/// # Errors
/// When the wire has no way to say this flow; `out` is then as it was.
pub fn encode_flow_message(
    change: Change,
    flags: Flags,
    sequence: u32,
    flow: &Flow,
    out: &mut Vec<u8>,
) -> Result<(), Unsendable> {
    let kind = Kind::Flow(change);
    message(kind, flags, sequence, out, |out| encode_flow(flow, out))
}

/// Appends a message about a flow that began `age_s` seconds ago and is left to who serves now.
///
/// # Errors
/// When the wire has no way to say this flow; `out` is then as it was.
pub fn encode_bequest_message(
    change: Change,
    flags: Flags,
    sequence: u32,
    (flow, age_s): (&Flow, u32),
    out: &mut Vec<u8>,
) -> Result<(), Unsendable> {
    let kind = Kind::Flow(change);
    message(kind, flags, sequence, out, |out| encode_bequest(flow, age_s, out))
}

/// Appends an expectation message.
///
/// # Errors
/// When the wire has no way to say this expectation; `out` is then as it was.
pub fn encode_expectation_message(
    change: Change,
    flags: Flags,
    sequence: u32,
    expectation: &Expectation,
    out: &mut Vec<u8>,
) -> Result<(), Unsendable> {
    let kind = Kind::Expectation(change);
    message(kind, flags, sequence, out, |out| encode_expectation(expectation, out))
}

fn message(
    kind: Kind,
    flags: Flags,
    sequence: u32,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), Unsendable>,
) -> Result<(), Unsendable> {
    let start = out.len();
    header(kind, flags, 0, sequence, out);
    if let Err(reason) = body(out) {
        out.truncate(start);
        return Err(reason);
    }
    let length = (out.len() - start) as u16;
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn header(kind: Kind, flags: Flags, length: u16, sequence: u32, out: &mut Vec<u8>) {
    out.push(VERSION << 4 | kind.number());
    out.push(flags.0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
}

/// The big-endian word at `offset`, which the caller has checked to be inside.
fn word(bytes: &[u8], offset: usize) -> u32 {
    bytes[offset..].first_chunk().map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

const CONTROL: u8 = 10;
