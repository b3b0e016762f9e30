//! What the kernel need not tell: a packet filter on the event socket.
//!
//! A classic BPF program is shown every event as a netlink message and looks its attributes up by
//! name. It asks what the replicator asks again of every flow: the protocol, and the two
//! ends, which are the sources of both tuples. What it does not understand passes.
//!
//! The TCP state is not asked here. An event says only what has changed, so a flow whose beginning
//! was not heard would be without its master, helper and labels for ever; and what peers know of
//! already is told on in whatever state.

use std::net::IpAddr;

use ipnet::IpNet;
use lockstep_replicator::Filter;
use socket2::SockFilter;

use crate::bpf::{
    AND, COPY_TO_X, EVERYTHING, JUMP, JUMP_ANY_BIT, JUMP_EQUAL, LOAD, LOAD_BYTE, LOAD_BYTE_AT_X,
    LOAD_HALF, LOAD_STORED, LOAD_WORD, LOAD_WORD_AT_X, LOAD_X, NOTHING, RETURN, SHIFT_RIGHT_X,
    STORE, jump, op, place_in_set,
};

/// What is not to be heard.
#[derive(Clone, Copy, Debug)]
pub struct Unwanted<'a> {
    /// Flows that this leaves out.
    pub filter: &'a Filter,
    /// The router's own addresses: flows with an end there are left out unless the filter includes
    /// them.
    pub local: &'a [IpAddr],
    /// Netlink ports ([`TableSocket::port_id`](crate::conntrack::TableSocket::port_id)): what requests of
    /// these sockets have caused is left out.
    pub ports: &'a [u32],
}

/// Where events are left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Filtering {
    /// Nothing is to be left out.
    Nothing,
    /// In the kernel, which does not even put them into the receive buffer.
    Kernel {
        /// Length of the program.
        instructions: usize,
    },
    /// Nowhere: the kernel cannot, and every event comes.
    Unfiltered {
        /// Why.
        reason: String,
    },
}

/// Most instructions of a program (`BPF_MAXINSNS`).
const MOST: usize = 4096;

/// The program that leaves these out; empty when nothing is.
///
/// # Errors
/// Its length, when the kernel would not take it.
pub(super) fn program(unwanted: &Unwanted<'_>) -> Result<Vec<SockFilter>, usize> {
    let filter = unwanted.filter;
    let mut program = Vec::new();
    for port in unwanted.ports {
        program.extend([
            op(LOAD_WORD, MESSAGE_PORT),
            jump(JUMP_EQUAL, port.to_be(), 0, 1),
            op(RETURN, NOTHING),
        ]);
    }
    let protocols = protocols(filter);
    let all_protocols = protocols.iter().all(|word| *word == u32::MAX);
    let mut ignored = filter.ignore_addresses.clone();
    if !filter.include_local {
        ignored.extend(unwanted.local.iter().map(|address| IpNet::from(*address)));
    }
    let all_addresses = filter.addresses.is_empty() && ignored.is_empty();
    if !(all_protocols && all_addresses) {
        program.extend([
            op(LOAD_HALF, MESSAGE_TYPE),
            jump(JUMP_EQUAL, u32::from(FLOW_NEW.to_be()), 2, 0),
            jump(JUMP_EQUAL, u32::from(FLOW_DELETE.to_be()), 1, 0),
            op(RETURN, EVERYTHING),
        ]);
        if !all_protocols {
            program.extend(of_protocols(&protocols));
        }
        if !all_addresses {
            program.extend(of_addresses(&filter.addresses, &ignored));
        }
    }
    if !program.is_empty() {
        program.push(op(RETURN, EVERYTHING));
    }
    if program.len() > MOST { Err(program.len()) } else { Ok(program) }
}

/// A bit for each protocol that is wanted.
fn protocols(filter: &Filter) -> [u32; 8] {
    let mut set = [if filter.protocols.is_empty() { u32::MAX } else { 0 }; 8];
    for protocol in &filter.protocols {
        set[usize::from(*protocol) / 32] |= 1 << (protocol % 32);
    }
    for protocol in &filter.ignore_protocols {
        set[usize::from(*protocol) / 32] &= !(1 << (protocol % 32));
    }
    set
}

/// Goes on with flows of these protocols.
fn of_protocols(set: &[u32; 8]) -> Vec<SockFilter> {
    const EACH: u32 = 6;
    let mut program = attribute(&[TUPLE_ORIG, TUPLE_PROTOCOL, PROTOCOL_NUMBER]);
    program.extend([op(COPY_TO_X, 0), op(LOAD_BYTE_AT_X, VALUE)]);
    program.extend(place_in_set());
    for (number, word) in (0..).zip(set) {
        program.extend([
            jump(JUMP_EQUAL, number, 0, EACH as u8 - 1),
            op(LOAD, *word),
            op(SHIFT_RIGHT_X, 0),
            jump(JUMP_ANY_BIT, 1, 0, 1),
            op(JUMP, (7 - number) * EACH + 1),
            op(RETURN, NOTHING),
        ]);
    }
    program
}

/// Goes on with flows that have an end in one of `wanted`, if there are any, and none in
/// `ignored`.
fn of_addresses(wanted: &[IpNet], ignored: &[IpNet]) -> Vec<SockFilter> {
    let mut v4 = ends(ADDRESS_V4, 1);
    v4.extend(of_networks(wanted, ignored, 1));
    let mut v6 = ends(ADDRESS_V6, 4);
    v6.extend(of_networks(wanted, ignored, 4));
    let mut program = vec![
        op(LOAD_BYTE, FAMILY),
        jump(JUMP_EQUAL, AF_INET6, 0, 1),
        op(JUMP, v4.len() as u32 + 3),
        jump(JUMP_EQUAL, AF_INET, 1, 0),
        op(RETURN, EVERYTHING),
    ];
    program.extend(v4);
    program.push(op(RETURN, EVERYTHING));
    program.extend(v6);
    program
}

/// Stores both ends, `words` words each, one after the other.
fn ends(address: u32, words: u32) -> Vec<SockFilter> {
    let mut program = Vec::new();
    for (end, tuple) in (0..).zip([TUPLE_ORIG, TUPLE_REPLY]) {
        program.extend(attribute(&[tuple, TUPLE_IP, address]));
        program.push(op(COPY_TO_X, 0));
        for word in 0..words {
            program.extend([op(LOAD_WORD_AT_X, VALUE + 4 * word), op(STORE, end * words + word)]);
        }
    }
    program
}

fn of_networks(wanted: &[IpNet], ignored: &[IpNet], words: u32) -> Vec<SockFilter> {
    let in_family = |network: &&IpNet| network.addr().is_ipv4() == (words == 1);
    let mut program = Vec::new();
    for network in ignored.iter().filter(in_family) {
        for end in 0..2 {
            program.extend(contains(network, end * words));
            program.push(op(RETURN, NOTHING));
        }
    }
    if wanted.is_empty() {
        return program;
    }
    let tests: Vec<_> = wanted
        .iter()
        .filter(in_family)
        .flat_map(|network| [contains(network, 0), contains(network, words)])
        .collect();
    // Each test that succeeds jumps over those after it and over the refusal.
    let mut after: usize = tests.iter().map(|test| test.len() + 1).sum();
    for test in tests {
        after -= test.len() + 1;
        program.extend(test);
        program.push(op(JUMP, after as u32 + 1));
    }
    program.push(op(RETURN, NOTHING));
    program
}

/// Goes on with the next instruction if the address stored from `first` on is in the network, and
/// with the one after it if not.
fn contains(network: &IpNet, first: u32) -> Vec<SockFilter> {
    let (value, length): (Vec<u8>, _) = match network {
        IpNet::V4(network) => (network.network().octets().to_vec(), network.prefix_len()),
        IpNet::V6(network) => (network.network().octets().to_vec(), network.prefix_len()),
    };
    let mut tests = Vec::new();
    for (number, bytes) in (0..).zip(value.as_chunks::<4>().0) {
        let bits = u32::from(length).saturating_sub(number * 32).min(32);
        if bits == 0 {
            break;
        }
        let value = u32::from_be_bytes(*bytes);
        let mut test = vec![op(LOAD_STORED, first + number)];
        if bits < 32 {
            test.push(op(AND, u32::MAX << (32 - bits)));
        }
        tests.push((test, value));
    }
    let mut after: usize = tests.iter().map(|(test, _)| test.len() + 1).sum();
    let mut program = Vec::new();
    for (test, value) in tests {
        after -= test.len() + 1;
        program.extend(test);
        program.push(jump(JUMP_EQUAL, value, 0, after as u8 + 1));
    }
    program
}

/// Finds an attribute inside others, and leaves where it begins in the accumulator. What does not
/// have it passes.
fn attribute(path: &[u32]) -> Vec<SockFilter> {
    let mut program = vec![op(LOAD, ATTRIBUTES)];
    for (depth, kind) in path.iter().enumerate() {
        let find = if depth == 0 { FIND } else { FIND_INSIDE };
        program.extend([
            op(LOAD_X, *kind),
            op(LOAD_WORD, find),
            jump(JUMP_EQUAL, 0, 0, 1),
            op(RETURN, EVERYTHING),
        ]);
    }
    program
}

/// Where the type is in a netlink message, in the machine's byte order; loads take the network's.
const MESSAGE_TYPE: u32 = 4;
/// Where the port is of who has asked for what is told.
const MESSAGE_PORT: u32 = 12;
/// Where a netfilter message has its address family.
const FAMILY: u32 = 16;
/// Where its attributes begin.
const ATTRIBUTES: u32 = 20;
/// Where an attribute's value begins.
const VALUE: u32 = 4;
/// `IPCTNL_MSG_CT_NEW` and `_DELETE` with their subsystem.
const FLOW_NEW: u16 = 1 << 8;
const FLOW_DELETE: u16 = 1 << 8 | 2;
/// `CTA_TUPLE_ORIG`, `CTA_TUPLE_REPLY`.
const TUPLE_ORIG: u32 = 1;
const TUPLE_REPLY: u32 = 2;
/// `CTA_TUPLE_IP`, `CTA_TUPLE_PROTO`.
const TUPLE_IP: u32 = 1;
const TUPLE_PROTOCOL: u32 = 2;
/// `CTA_IP_V4_SRC`, `CTA_IP_V6_SRC`.
const ADDRESS_V4: u32 = 1;
const ADDRESS_V6: u32 = 3;
/// `CTA_PROTO_NUM`.
const PROTOCOL_NUMBER: u32 = 1;
const AF_INET: u32 = libc::AF_INET as u32;
const AF_INET6: u32 = libc::AF_INET6 as u32;
/// `SKF_AD_OFF + SKF_AD_NLATTR` and `SKF_AD_NLATTR_NEST`: the place, after that in the
/// accumulator, of the attribute whose type is in the index register; 0 when there is none.
const FIND: u32 = (-0x1000_i32 + 12) as u32;
const FIND_INSIDE: u32 = (-0x1000_i32 + 16) as u32;
