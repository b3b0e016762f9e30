//! A router comes back with the flows of before in its kernel, and takes over.

use std::net::UdpSocket;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::conntrackd::{conntrack, insert_flows, kernel_flows};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;

use crate::two::{FLOWS, Two, configuration, replication};

/// Flows that end, and that begin, while the router is away.
const ENDED: u64 = 5;
const BEGUN: u64 = 3;
/// What the kernel gives a UDP flow without answers here.
const UDP_TIMEOUT_S: u32 = 600;

#[test]
fn what_ended_while_a_router_was_away_leaves_its_kernel_and_what_lives_stays() {
    let mut two = Two::new();
    let passer = Passer::beside(&two.master_node);
    two.master.kill();
    two.backup.wait_for_state("gateway", "master");
    for port in 10_000..10_000 + ENDED {
        let port = port.to_string();
        conntrack(&two.backup_node, &["-D", "-p", "tcp", "--sport", &port]);
    }
    insert_flows(&two.backup_node, 20_000, BEGUN as u16);
    wait::until("the other router knows what lives", || {
        replication(&two.backup)["internal"] == FLOWS - ENDED + BEGUN
    });

    // From before the daemon starts: a connection of the router itself, what passes only this
    // router, and what once did.
    insert(&two.master_node, "tcp", "10.51.0.11", 22, &["--state", "ESTABLISHED"]);
    insert(&two.master_node, "udp", "10.60.0.8", 7001, &[]);
    passer.send();
    let left_s = || left_s(&two.master_node);
    wait::until("it is tracked", || left_s().is_some());
    let returned = Lockstep::start(&two.master_node, &configuration(90));
    returned.wait_for_state("gateway", "backup");
    wait::until("it has everything", || {
        let replication = replication(&returned);
        replication["in-sync"] == true && replication["external"] == FLOWS - ENDED + BEGUN
    });
    // And from after that: what begins, and a packet of what passes.
    insert(&two.master_node, "udp", "10.60.0.9", 7002, &[]);
    wait::until("its last packet is some seconds old", || left_s() < Some(UDP_TIMEOUT_S - 5));
    passer.send();
    wait::until("another has passed", || left_s() >= Some(UDP_TIMEOUT_S - 2));

    two.backup.kill();
    returned.wait_for_state("gateway", "master");

    let lives = kernel_flows(&two.backup_node, "tcp");
    let mut ours = kernel_flows(&two.master_node, "tcp");
    assert!(ours.remove("6 10.51.0.11:22 203.0.113.77:443 0"), "its own is left alone: {ours:?}");
    assert_eq!(ours, lives, "what the other router served, and nothing else");
    let udp = kernel_flows(&two.master_node, "udp");
    let is_there = |flow: &str| udp.iter().any(|other| other.starts_with(flow));
    assert!(is_there("17 10.60.0.2:7000 "), "packets have shown that it lives: {udp:?}");
    assert!(is_there("17 10.60.0.9:7002 "), "it is newer than the daemon: {udp:?}");
    assert!(!is_there("17 10.60.0.8:7001 "), "nothing has shown that it lives: {udp:?}");
    let commit = &replication(&returned)["last-commit"];
    assert_eq!(commit["counts"]["left-over"], ENDED + 1, "{commit:#}");
}

/// The one that gives the role up asks at once, when the other is only about to serve.
#[test]
fn the_log_says_how_many_flows_there_are_and_not_how_many_came_first() {
    let mut two = Two::new();
    two.master.kill();
    two.backup.wait_for_state("gateway", "master");
    insert_flows(&two.backup_node, 20_000, BEGUN as u16);
    let _returned = Lockstep::start(&two.master_node, &configuration(150));
    two.backup.wait_for_state("gateway", "backup");
    let flows = format!(" flows={}", FLOWS + BEGUN);
    wait::until("the number of all flows is told", || {
        let log = two.backup.log();
        log.lines().any(|line| {
            let copy = line.contains("the copy of the peer's flows is complete");
            (copy || line.contains("flows of the peers are known now")) && line.contains(&flows)
        })
    });
}

/// A host whose packets pass one router alone.
struct Passer {
    socket: UdpSocket,
    _host: Node,
    _lan: Lan,
}

impl Passer {
    fn beside(router: &Node) -> Self {
        let lan = Lan::new().expect("a LAN");
        let host = Node::new("host").expect("a namespace");
        for (node, interface, address) in
            [(router, "eth3", "10.60.0.1/24"), (&host, "eth0", "10.60.0.2/24")]
        {
            let interface = Interface::new(interface).address(address.parse().expect("an address"));
            node.attach(&lan, &interface).expect("an interface");
        }
        let everything = "10.51.0.0/24".parse().expect("a network");
        host.add_route(everything, [10, 60, 0, 1].into()).expect("a route");
        router.set("net/ipv4/ip_forward", "1").expect("it forwards");
        let timeout = UDP_TIMEOUT_S.to_string();
        router.set("net/netfilter/nf_conntrack_udp_timeout", &timeout).expect("a timeout");
        let mut nft = std::process::Command::new("nft");
        nft.arg(
            "add table ip tracking; add chain ip tracking forward { type filter hook forward \
             priority 0; }; add rule ip tracking forward ct state invalid drop",
        );
        let output = router.output(nft).expect("nft runs");
        assert!(output.status.success(), "{output:?}");
        let open = || UdpSocket::bind("10.60.0.2:7000");
        let socket = host.run(open).expect("the host can be entered").expect("a socket");
        Self { socket, _host: host, _lan: lan }
    }

    fn send(&self) {
        self.socket.send_to(b"passes", "10.51.0.12:9").expect("a datagram can be sent");
    }
}

/// Seconds that the passer's flow has left in a router's kernel.
fn left_s(router: &Node) -> Option<u32> {
    let list = conntrack(router, &["-L", "-p", "udp", "--sport", "7000"]);
    list.split_whitespace().nth(2)?.parse().ok()
}

fn insert(router: &Node, protocol: &str, source: &str, port: u16, more: &[&str]) {
    let port = port.to_string();
    let flow = ["-I", "-p", protocol, "-s", source, "-d", "203.0.113.77", "--sport", &port];
    let rest = ["--dport", "443", "-u", "SEEN_REPLY", "-t", "1000"];
    conntrack(router, &[&flow[..], &rest, more].concat());
}
