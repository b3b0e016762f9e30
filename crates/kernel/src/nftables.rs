//! The part of `nf_tables` that a router of ours needs, as netlink messages.
//!
//! A [`Batch`] is one transaction: all of it takes effect, or none. The published netlink crates
//! know `nf_tables` without `notrack`, owned tables, connection tracking and NAT; hence these few
//! pages. (The latter two are what the lab's routers are made of.)

mod expression;
mod message;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};

use expression::{interface_name, octets};
use message::Message;

pub use expression::{AddressFamily, Expression, ct_state};

/// A transaction to be sent.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: u32,
}

/// Where in a packet's way a chain hangs (`enum nf_inet_hooks`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hook {
    /// Everything that comes in.
    Prerouting,
    /// What is for this host.
    Input,
    /// What is passed on.
    Forward,
    /// What this host sends.
    Output,
    /// Everything that goes out.
    Postrouting,
}

/// What a chain is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Accepts, drops, marks.
    Filter,
    /// Sees the first packet of each connection, and translates.
    Nat,
}

/// What a set holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetKind {
    /// Addresses of one family.
    Addresses(AddressFamily),
    /// Names of interfaces.
    Interfaces,
}

/// An element of a set; of the kind that the set holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Element {
    /// An address.
    Address(IpAddr),
    /// The name of an interface.
    Interface(String),
}

impl Batch {
    /// An empty transaction.
    #[expect(clippy::new_without_default, reason = "an empty batch is begun, not defaulted to")]
    pub fn new() -> Self {
        let mut batch = Self { bytes: Vec::new(), messages: 0 };
        batch.message(BATCH_BEGIN, NLM_F_REQUEST, 0, SUBSYSTEM, |_| {});
        batch
    }

    /// Makes a table for IPv4 and IPv6, unless it is there.
    pub fn table(&mut self, table: &str) {
        self.command(NEW_TABLE, NLM_F_CREATE, |message| message.text(1, table));
    }

    /// Makes a table that must not be there yet and that belongs to the socket that sends the
    /// transaction: nobody else can change it, and it is gone when the socket is closed (Linux
    /// 5.12).
    pub fn owned_table(&mut self, table: &str) {
        self.command(NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, |message| {
            message.text(1, table);
            message.number(2, TABLE_OWNER);
        });
    }

    /// Makes an empty set in a table.
    pub fn set(&mut self, table: &str, set: &str, kind: SetKind) {
        let id = self.messages;
        let (kind, length) = kind.type_and_length();
        self.command(NEW_SET, NLM_F_CREATE, |message| {
            message.text(1, table);
            message.text(2, set);
            message.number(4, kind);
            message.number(5, length);
            message.number(10, id);
        });
    }

    /// Puts elements into a set; those that are there are no error.
    pub fn insert(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(NEW_ELEMENTS, NLM_F_CREATE, table, set, elements);
    }

    /// Takes elements out of a set; all of them must be in it.
    pub fn remove(&mut self, table: &str, set: &str, elements: &[Element]) {
        self.elements(DELETE_ELEMENTS, 0, table, set, elements);
    }

    fn elements(&mut self, kind: u16, flags: u16, table: &str, set: &str, elements: &[Element]) {
        for some in elements.chunks(ELEMENTS) {
            self.command(kind, flags, |message| {
                message.text(1, table);
                message.text(2, set);
                message.nested(3, |list| {
                    for element in some {
                        list.nested(1, |one| {
                            one.nested(1, |key| key.bytes(1, &element.octets()));
                        });
                    }
                });
            });
        }
    }

    /// Removes a table with all that is in it.
    pub fn delete_table(&mut self, table: &str) {
        self.command(DELETE_TABLE, 0, |message| message.text(1, table));
    }

    /// Makes a chain that accepts what no rule decides. Lower priorities see a packet first.
    pub fn chain(&mut self, table: &str, chain: &str, kind: Kind, hook: Hook, priority: i32) {
        self.command(NEW_CHAIN, NLM_F_CREATE, |message| {
            message.text(1, table);
            message.text(3, chain);
            message.nested(4, |message| {
                message.number(1, hook as u32);
                message.number(2, priority as u32);
            });
            message.text(7, if kind == Kind::Nat { "nat" } else { "filter" });
        });
    }

    /// Appends a rule to a chain.
    pub fn rule(&mut self, table: &str, chain: &str, expressions: &[Expression]) {
        self.command(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, |message| {
            message.text(1, table);
            message.text(2, chain);
            message.nested(4, |message| {
                for expression in expressions {
                    expression.encode(message);
                }
            });
        });
    }

    /// Removes all rules of a chain.
    pub fn clear(&mut self, table: &str, chain: &str) {
        self.command(DELETE_RULES, 0, |message| {
            message.text(1, table);
            message.text(2, chain);
        });
    }

    /// Sends the transaction to the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's first refusal; nothing of the batch is in place then.
    pub fn commit(self) -> io::Result<()> {
        Connection::open()?.commit(self)
    }

    fn command(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Message<'_>)) {
        let kind = SUBSYSTEM << 8 | kind;
        self.message(kind, NLM_F_REQUEST | NLM_F_ACK | flags, FAMILY_INET, 0, fill);
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        fill: impl FnOnce(&mut Message<'_>),
    ) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&self.messages.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&[family, 0]);
        self.bytes.extend_from_slice(&resource.to_be_bytes());
        fill(&mut Message { bytes: &mut self.bytes });
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.messages += 1;
    }
}

impl SetKind {
    /// The type as the `nft` program knows it, which shows elements by it, and the length of one.
    fn type_and_length(self) -> (u32, u32) {
        match self {
            Self::Addresses(AddressFamily::Ipv4) => (7, 4),
            Self::Addresses(AddressFamily::Ipv6) => (8, 16),
            Self::Interfaces => (41, 16),
        }
    }
}

impl Element {
    fn octets(&self) -> Vec<u8> {
        match self {
            Self::Address(address) => octets(*address),
            Self::Interface(name) => interface_name(name).to_vec(),
        }
    }
}

/// A conversation with `nf_tables`; to it belong the [owned tables](Batch::owned_table) it makes.
pub struct Connection {
    socket: Socket,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Opens a conversation in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no netfilter.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
        // A transaction is one datagram, and sets may be large.
        if let Err(error) = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER) {
            tracing::debug!(%error, "large transactions will not be possible");
        }
        Ok(Self { socket })
    }

    /// Sends a transaction and waits until the kernel has carried it out.
    ///
    /// # Errors
    /// The kernel's first refusal; nothing of the batch is in place then.
    pub fn commit(&mut self, mut batch: Batch) -> io::Result<()> {
        batch.message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, |_| {});
        self.forget_answers();
        self.socket.send(&batch.bytes, 0)?;
        // The begin and the end of a batch are not acknowledged.
        let mut outstanding = batch.messages - 2;
        while outstanding > 0 {
            let (answer, _) = self.socket.recv_from_full()?;
            outstanding = outstanding.saturating_sub(check(&answer)?);
        }
        Ok(())
    }

    /// After a refusal the answers to the rest of that transaction are still waiting.
    fn forget_answers(&self) {
        let mut answer = Vec::with_capacity(ANSWER);
        while self.socket.recv(&mut answer, libc::MSG_DONTWAIT).is_ok() {
            answer.clear();
        }
    }
}

/// Counts the acknowledgements in an answer, or gives its first error.
fn check(mut answer: &[u8]) -> io::Result<u32> {
    let mut acknowledged = 0;
    while let Some((header, _)) = answer.split_first_chunk::<20>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let code = i32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
        if kind == NLMSG_ERROR && code != 0 {
            return Err(io::Error::from_raw_os_error(-code));
        }
        acknowledged += u32::from(kind == NLMSG_ERROR);
        answer = answer.get(length.max(20).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(acknowledged)
}

/// How long the kernel may take to answer; it does so before `send` returns.
const PATIENCE: Duration = Duration::from_secs(5);

/// Send buffer in bytes, for a transaction with thousands of elements.
const SEND_BUFFER: usize = 8 << 20;
/// Longest answer; the refused message is not repeated whole.
const ANSWER: usize = 64 * 1024;
/// Most elements in one message: an attribute is no longer than 64 KiB.
const ELEMENTS: usize = 1000;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const DELETE_RULES: u16 = 8;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const TABLE_OWNER: u32 = 0x2;
const FAMILY_INET: u8 = 1;
