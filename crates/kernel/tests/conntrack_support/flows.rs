//! Flows of every kind.

use std::net::IpAddr;

use lockstep_ctnetlink::{Flow, L4, ProtocolState, Status, TcpState, Tuple};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;
const OSPF: u8 = 89;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// What is translated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Nat {
    None,
    Source,
    SourcePort,
    OwnAddressOtherPort,
    Destination,
    DestinationPort,
    Both,
    BothPorts,
}

const NATS: [Nat; 8] = [
    Nat::None,
    Nat::Source,
    Nat::SourcePort,
    Nat::OwnAddressOtherPort,
    Nat::Destination,
    Nat::DestinationPort,
    Nat::Both,
    Nat::BothPorts,
];

/// Every protocol with every translation, in both families.
pub(crate) fn kinds() -> Vec<Flow> {
    let mut flows = Vec::new();
    for v6 in [false, true] {
        for (port, nat) in (10_000..).zip(NATS) {
            let ports = L4::Ports { source: port, destination: 443 };
            let (icmp, query) = if v6 { (ICMPV6, 128) } else { (ICMP, 8) };
            let echo = L4::Icmp { kind: query, code: 0, id: port };
            let mut tcp = flow(v6, TCP, ports, nat);
            tcp.protocol_state = established();
            let mut sctp = flow(v6, SCTP, ports, nat);
            sctp.protocol_state =
                ProtocolState::Sctp { state: 4, vtag_orig: 0x0102_0304, vtag_reply: 0xf0e0_d0c0 };
            flows.extend([tcp, sctp]);
            flows.push(flow(v6, UDP, ports, nat));
            flows.push(flow(v6, UDP_LITE, ports, nat));
            flows.push(flow(v6, icmp, echo, nat));
            if matches!(nat, Nat::None | Nat::Source | Nat::Destination | Nat::Both) {
                // Keys are not translated; a protocol without ports has one flow per pair of hosts.
                flows.push(flow(v6, GRE, L4::Ports { source: port, destination: 7 }, nat));
                let mut plain = flow(v6, OSPF, L4::None, nat);
                let host = shifted(plain.orig.source, (port - 10_000) as u8 + 1);
                if plain.reply.destination == plain.orig.source {
                    plain.reply.destination = host;
                } else {
                    plain.reply.destination = shifted(plain.reply.destination, port as u8 % 100);
                }
                plain.orig.source = host;
                flows.push(plain);
            }
        }
    }
    flows
}

/// An established TCP flow over IPv4.
pub(crate) fn tcp(port: u16, nat: Nat) -> Flow {
    let mut flow = flow(false, TCP, L4::Ports { source: port, destination: 80 }, nat);
    flow.protocol_state = established();
    flow
}

/// A UDP flow over IPv4.
pub(crate) fn udp(port: u16, nat: Nat) -> Flow {
    flow(false, UDP, L4::Ports { source: port, destination: 53 }, nat)
}

fn established() -> ProtocolState {
    ProtocolState::Tcp(TcpState { state: 3, window_scale: Some([7, 2]), flags: Some([0x23, 0x23]) })
}

fn flow(v6: bool, protocol: u8, l4: L4, nat: Nat) -> Flow {
    let address = |v4: &str, alternative: &str| -> IpAddr {
        if v6 { alternative.parse().unwrap() } else { v4.parse().unwrap() }
    };
    let orig = Tuple {
        source: address("10.1.0.1", "fd00:1::1"),
        destination: address("10.2.0.1", "fd00:2::1"),
        protocol,
        l4,
    };
    let mut reply = orig.inverse();
    if matches!(nat, Nat::Source | Nat::SourcePort | Nat::Both | Nat::BothPorts) {
        reply.destination = address("192.0.2.1", "2001:db8::1");
    }
    if matches!(nat, Nat::Destination | Nat::DestinationPort | Nat::Both | Nat::BothPorts) {
        reply.source = address("10.3.0.1", "fd00:3::1");
    }
    let source_port = matches!(nat, Nat::SourcePort | Nat::OwnAddressOtherPort | Nat::BothPorts);
    let destination_port = matches!(nat, Nat::DestinationPort | Nat::BothPorts);
    match &mut reply.l4 {
        L4::None => {}
        L4::Ports { source, destination } => {
            if source_port {
                *destination = 60_000 + *destination % 1000;
            }
            if destination_port {
                *source = 8443;
            }
        }
        L4::Icmp { id, .. } => {
            if source_port {
                *id += 100;
            }
        }
    }
    let mut flow = Flow::new(orig, reply);
    flow.status = Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED);
    flow.timeout_s = Some(3600);
    flow.mark = Some(u32::from(protocol));
    flow
}

fn shifted(address: IpAddr, by: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mut octets = address.octets();
            octets[3] += by;
            octets.into()
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[15] += by;
            octets.into()
        }
    }
}
