//! The part of `nf_tables` that a router of the lab needs, as netlink messages.
//!
//! A [`Batch`] is one transaction: all of it takes effect, or none. The published netlink crates
//! know `nf_tables` without connection tracking, NAT, `notrack` and `numgen`, which are what a
//! stateful firewall is made of; hence these few pages.

use std::io;
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

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

/// One expression of a rule. A rule's expressions are carried out in order until one does not
/// match.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expression {
    /// The packet came in by this interface.
    InputInterface(String),
    /// The packet goes out by this interface.
    OutputInterface(String),
    /// The packet is IPv4.
    Ipv4,
    /// The IPv4 source address is in this network.
    Ipv4Source(ipnet::Ipv4Net),
    /// The protocol above IP.
    Protocol(u8),
    /// The destination port, of a protocol that has ports (say which one first).
    DestinationPort(u16),
    /// The source port, likewise.
    SourcePort(u16),
    /// One of these connection tracking states, as a set of [`ct_state`] bits.
    TrackingState(u32),
    /// This share of packets, in thousandths, by chance.
    Chance(u32),
    /// Leave the packet out of connection tracking.
    Notrack,
    /// Put this IPv4 address in place of the source.
    SourceNat(std::net::Ipv4Addr),
    /// Let the packet pass this chain.
    Accept,
    /// Drop the packet.
    Drop,
}

/// Bits of [`Expression::TrackingState`].
pub mod ct_state {
    /// Belongs to no connection and cannot begin one.
    pub const INVALID: u32 = 1;
    /// Of a known connection.
    pub const ESTABLISHED: u32 = 1 << 1;
    /// Expected by a known connection.
    pub const RELATED: u32 = 1 << 2;
    /// The first of a connection.
    pub const NEW: u32 = 1 << 3;
    /// Left out of tracking.
    pub const UNTRACKED: u32 = 1 << 6;
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

    /// Sends the transaction to the namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's first refusal; nothing of the batch is in place then.
    pub fn commit(mut self) -> io::Result<()> {
        self.message(BATCH_END, NLM_F_REQUEST, 0, SUBSYSTEM, |_| {});
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket2::SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
        socket.send(&self.bytes, 0)?;
        // The begin and the end of a batch are not acknowledged.
        let mut outstanding = self.messages - 2;
        while outstanding > 0 {
            let (answer, _) = socket.recv_from_full()?;
            outstanding = outstanding.saturating_sub(check(&answer)?);
        }
        Ok(())
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

impl Expression {
    fn encode(&self, message: &mut Message<'_>) {
        match self {
            Self::InputInterface(name) => {
                load_meta(message, META_INPUT_NAME);
                compare(message, EQUAL, &interface_name(name));
            }
            Self::OutputInterface(name) => {
                load_meta(message, META_OUTPUT_NAME);
                compare(message, EQUAL, &interface_name(name));
            }
            Self::Ipv4 => {
                load_meta(message, META_NFPROTO);
                compare(message, EQUAL, &[FAMILY_IPV4]);
            }
            Self::Ipv4Source(network) => {
                load_payload(message, NETWORK_HEADER, 12, 4);
                mask(message, &network.netmask().octets());
                compare(message, EQUAL, &network.network().octets());
            }
            Self::Protocol(number) => {
                load_meta(message, META_L4PROTO);
                compare(message, EQUAL, &[*number]);
            }
            Self::SourcePort(port) => {
                load_payload(message, TRANSPORT_HEADER, 0, 2);
                compare(message, EQUAL, &port.to_be_bytes());
            }
            Self::DestinationPort(port) => {
                load_payload(message, TRANSPORT_HEADER, 2, 2);
                compare(message, EQUAL, &port.to_be_bytes());
            }
            Self::TrackingState(bits) => {
                message.expression("ct", |data| {
                    data.number(1, REGISTER);
                    data.number(2, CT_STATE);
                });
                mask(message, &bits.to_ne_bytes());
                compare(message, NOT_EQUAL, &[0; 4]);
            }
            Self::Chance(thousandths) => {
                message.expression("numgen", |data| {
                    data.number(1, REGISTER);
                    data.number(2, 1000);
                    data.number(3, NUMGEN_RANDOM);
                });
                // The register holds a number of this machine's byte order, and comparisons are of bytes.
                message.expression("byteorder", |data| {
                    data.number(1, REGISTER);
                    data.number(2, REGISTER);
                    data.number(3, HOST_TO_NETWORK);
                    data.number(4, 4);
                    data.number(5, 4);
                });
                compare(message, LESS, &thousandths.to_be_bytes());
            }
            Self::Notrack => message.expression("notrack", |_| {}),
            Self::SourceNat(address) => {
                message.expression("immediate", |data| {
                    data.number(1, REGISTER);
                    data.nested(2, |value| value.bytes(1, &address.octets()));
                });
                message.expression("nat", |data| {
                    data.number(1, NAT_SOURCE);
                    data.number(2, u32::from(FAMILY_IPV4));
                    data.number(3, REGISTER);
                });
            }
            Self::Accept => verdict(message, 1),
            Self::Drop => verdict(message, 0),
        }
    }
}

/// The tail of a message being written: attributes are appended to it.
struct Message<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Message<'_> {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = (ATTRIBUTE_HEADER + value.len()) as u16;
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Message<'_>)) {
        let start = self.bytes.len();
        self.bytes(kind | NESTED, &[]);
        fill(&mut Message { bytes: self.bytes });
        let length = (self.bytes.len() - start) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Message<'_>)) {
        self.nested(1, |element| {
            element.text(1, name);
            element.nested(2, fill);
        });
    }
}

fn load_meta(message: &mut Message<'_>, key: u32) {
    message.expression("meta", |data| {
        data.number(1, REGISTER);
        data.number(2, key);
    });
}

fn load_payload(message: &mut Message<'_>, base: u32, offset: u32, length: u32) {
    message.expression("payload", |data| {
        data.number(1, REGISTER);
        data.number(2, base);
        data.number(3, offset);
        data.number(4, length);
    });
}

fn compare(message: &mut Message<'_>, operator: u32, value: &[u8]) {
    message.expression("cmp", |data| {
        data.number(1, REGISTER);
        data.number(2, operator);
        data.nested(3, |data| data.bytes(1, value));
    });
}

fn mask(message: &mut Message<'_>, mask: &[u8]) {
    message.expression("bitwise", |data| {
        data.number(1, REGISTER);
        data.number(2, REGISTER);
        data.number(3, mask.len() as u32);
        data.nested(4, |data| data.bytes(1, mask));
        data.nested(5, |data| data.bytes(1, &vec![0; mask.len()]));
    });
}

fn verdict(message: &mut Message<'_>, code: u32) {
    message.expression("immediate", |data| {
        data.number(1, VERDICT_REGISTER);
        data.nested(2, |data| data.nested(2, |verdict| verdict.number(1, code)));
    });
}

/// An interface name as the kernel keeps it: padded to IFNAMSIZ.
fn interface_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    let length = name.len().min(15);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
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

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NESTED: u16 = 0x8000;
const ATTRIBUTE_HEADER: usize = 4;

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;

const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const LESS: u32 = 2;
const META_INPUT_NAME: u32 = 6;
const META_OUTPUT_NAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const CT_STATE: u32 = 0;
const NUMGEN_RANDOM: u32 = 1;
const HOST_TO_NETWORK: u32 = 1;
const NAT_SOURCE: u32 = 0;
