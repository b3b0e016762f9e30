//! What a flow costs in each cache, counted in allocated bytes, and what an event allocates.

#![expect(clippy::print_stdout, reason = "the figures are for people, too")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use allocation_counter::{AllocationInfo, measure};
use lockstep_ctnetlink::{Flow, HelperName, L4, ProtocolState, Status, TcpState, Tuple};

use crate::external::External;
use crate::internal::{Internal, Learned, Object};
use crate::statistics::Counters;
use crate::wire::Change;

const FLOWS: u32 = 1_000_000;

/// What a conversation keeps of each slot: where it stands, and its share of the resend ring.
const SEND_STATE: u64 = 8;

/// The limit for one flow in one cache, with its share of everything.
const GOAL: u64 = 200;

fn tcp(number: u32, six: bool, translated: bool) -> Flow {
    let host = |network: u16, host: u32| {
        if six {
            let [high, low] = [(host >> 16) as u16, host as u16];
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, high, low))
        } else {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(network) << 24 | host))
        }
    };
    let orig = Tuple {
        source: host(10, number >> 12),
        destination: host(198, 1),
        protocol: 6,
        l4: L4::Ports { source: 1024 + (number & 0xfff) as u16, destination: 80 },
    };
    let mut reply = orig.inverse();
    if translated {
        reply.destination = host(203, 9);
        reply.l4 = L4::Ports { source: 8080, destination: number as u16 };
    }
    let mut flow = Flow::new(orig, reply);
    flow.status = Status(0x19e);
    (flow.timeout_s, flow.mark, flow.id) = (Some(432_000), Some(0), Some(number));
    flow.protocol_state = ProtocolState::Tcp(TcpState {
        state: 3,
        window_scale: Some([7, 7]),
        flags: Some([0x23, 0x23]),
    });
    flow
}

fn helped(number: u32) -> Flow {
    let mut flow = tcp(number, false, true);
    flow.helper = HelperName::new(b"ftp");
    flow
}

/// Bytes for each flow in the internal and in the external cache.
fn bytes_per_flow(of: impl Fn(u32) -> Flow) -> [u64; 2] {
    let mut counters = Counters::default();
    let mut internal = Internal::new(FLOWS as usize, 1);
    let told = measure(|| {
        for number in 0..FLOWS {
            internal.put(Change::New, &of(number), false, 0, &mut counters);
        }
    });
    assert_eq!(internal.len(), FLOWS as usize);
    let mut external = External::new(FLOWS as usize, 1, false);
    let heard = measure(|| {
        for number in 0..FLOWS {
            external.apply(0, Change::New, &of(number), 0, &mut counters);
        }
    });
    assert_eq!(external.table.len(), FLOWS as usize);
    [told, heard].map(|info: AllocationInfo| (info.bytes_current as u64).div_ceil(u64::from(FLOWS)))
}

fn within_the_goal(kind: &str, of: impl Fn(u32) -> Flow) {
    let [internal, external] = bytes_per_flow(of);
    println!("{kind}: internal {internal} + {SEND_STATE} for each peer, external {external} bytes");
    assert!(internal + SEND_STATE < GOAL, "{kind}, internal: {internal}");
    assert!(external < GOAL, "{kind}, external: {external}");
}

#[test]
fn a_flow_of_ipv4_stays_far_under_two_hundred_bytes_in_each_cache() {
    within_the_goal("IPv4 TCP", |number| tcp(number, false, false));
    within_the_goal("IPv4 TCP translated", |number| tcp(number, false, true));
}

#[test]
fn a_flow_of_ipv6_stays_far_under_two_hundred_bytes_in_each_cache() {
    within_the_goal("IPv6 TCP", |number| tcp(number, true, false));
}

#[test]
fn what_is_rare_costs_its_own_flows_alone() {
    let [plain, _] = bytes_per_flow(|number| tcp(number, false, true));
    let [one_in_a_hundred, _] = bytes_per_flow(|number| match number % 100 {
        0 => helped(number),
        _ => tcp(number, false, true),
    });
    let [every, _] = bytes_per_flow(helped);
    println!("every flow with a helper: {every} bytes; IPv6 translated: the same");
    assert!(every < plain + 210, "{every}");
    println!("one flow in a hundred with a helper: {one_in_a_hundred} bytes each");
    assert!(one_in_a_hundred <= plain + 4, "{one_in_a_hundred}");
}

#[test]
fn flows_that_come_and_go_leave_no_memory_behind() {
    let mut counters = Counters::default();
    let mut external = External::new(FLOWS as usize, 1, false);
    let all = measure(|| {
        for number in 0..FLOWS {
            external.apply(0, Change::New, &tcp(number, false, true), 0, &mut counters);
        }
        for number in 0..3 * FLOWS {
            external.apply(0, Change::Delete, &tcp(number, false, true), 0, &mut counters);
            external.apply(0, Change::New, &tcp(FLOWS + number, false, true), 0, &mut counters);
        }
    });
    assert_eq!(external.table.len(), FLOWS as usize);
    let each = (all.bytes_current as u64).div_ceil(u64::from(FLOWS));
    println!("after three generations: external {each} bytes");
    assert!(each < GOAL - 60, "{each}");
    let cleared = measure(|| external.clear());
    assert_eq!(cleared.bytes_current, -all.bytes_current, "all of it is given back");
}

#[test]
fn in_the_steady_state_no_event_allocates() {
    let mut caches = Caches::new();
    // The index makes room once for the traces of what has been removed.
    for round in 0..4 {
        caches.replace_all(round);
    }
    let info = measure(|| {
        for round in 4..12 {
            caches.replace_all(round);
        }
    });
    assert_eq!(caches.internal.len(), KNOWN as usize);
    assert_eq!(caches.external.table.len(), KNOWN as usize);
    assert_eq!(info.count_total, 0, "{info:?}");
}

const KNOWN: u32 = 10_000;

struct Caches {
    internal: Internal,
    external: External,
    counters: Counters,
}

impl Caches {
    fn new() -> Self {
        let internal = Internal::new(FLOWS as usize, 1);
        let external = External::new(FLOWS as usize, 1, false);
        Self { internal, external, counters: Counters::default() }
    }

    /// Both families, IPv4 with and without translation.
    fn flow(round: u32, number: u32) -> Flow {
        let six = number.is_multiple_of(2);
        tcp(round * KNOWN + number, six, !six && number.is_multiple_of(3))
    }

    /// Every flow ends, and another begins and changes.
    fn replace_all(&mut self, round: u32) {
        for number in 0..KNOWN {
            if round > 0 {
                self.learn(Change::Delete, &Self::flow(round - 1, number));
            }
            let flow = Self::flow(round, number);
            self.learn(Change::New, &flow);
            self.learn(Change::Update, &flow);
        }
    }

    fn learn(&mut self, change: Change, flow: &Flow) {
        let counters = &mut self.counters;
        self.external.apply(0, change, flow, 0, counters);
        if change != Change::Delete {
            self.internal.put(change, flow, false, 0, counters);
        } else if let Learned::Tell(slot) = self.internal.destroy(flow, false, counters) {
            // No conversation is about it.
            self.internal.release(Object::Flow(slot));
        }
    }
}
