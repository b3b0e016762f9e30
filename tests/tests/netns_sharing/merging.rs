//! Two masters that cannot hear each other: when they can again, one stays and has the flows of both.

use std::process::Command;

use lockstep_lab::{Lab, Node, RouterId, Selector, lose, lose_nothing};
use lockstep_tests::daemon::{Lockstep, number, text};
use lockstep_tests::gateway::{Gateway, wait_until_told};
use lockstep_tests::wait;

const FLOWS: u16 = 200;

/// An established connection of the client's, translated to the virtual address with this port.
fn insert(node: &Node, port: u16, translated: u16) {
    let mut command = Command::new("conntrack");
    command.args([
        "-I",
        "-p",
        "tcp",
        "-t",
        "7000",
        "--state",
        "ESTABLISHED",
        "-u",
        "SEEN_REPLY,ASSURED",
    ]);
    command.args(["-s", &Lab::CLIENT.to_string(), "-d", &Lab::SERVER.to_string()]);
    command.args(["-r", &Lab::SERVER.to_string(), "-q", &Lab::WAN_VIRTUAL.to_string()]);
    command.args(["--sport", &port.to_string(), "--dport", "80"]);
    command.args(["--reply-port-src", "80", "--reply-port-dst", &translated.to_string()]);
    let output = node.output(command).expect("conntrack runs");
    assert!(output.status.success(), "{output:?}");
}

/// The client's ports of the flows in a router's kernel, with those they are translated to.
fn ports(node: &Node) -> Vec<(u16, u16)> {
    let mut command = Command::new("conntrack");
    command.args(["-L", "-p", "tcp", "--orig-port-dst", "80"]);
    let output = node.output(command).expect("conntrack runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let port = |line: &str, key: &str, which: usize| {
        line.split_whitespace().filter_map(|word| word.strip_prefix(key)).nth(which)?.parse().ok()
    };
    let both = |line: &str| Some((port(line, "sport=", 0)?, port(line, "dport=", 1)?));
    let mut ports: Vec<_> = text.lines().filter_map(both).collect();
    ports.sort_unstable();
    ports
}

fn statistic(daemon: &Lockstep, name: &str) -> u64 {
    number(&daemon.status()["replication"]["statistics"][name])
}

/// Nothing that the routers say to each other arrives any more.
fn cut(gateway: &Gateway) {
    for id in RouterId::BOTH {
        let node = gateway.lab.router(id).expect("the router is on");
        lose(node, "eth0", Selector::Protocol(112), 1000).expect("a rule");
        lose(node, "eth2", Selector::Everything, 1000).expect("a rule");
    }
}

fn heal(gateway: &Gateway) {
    for id in RouterId::BOTH {
        lose_nothing(gateway.lab.router(id).expect("the router is on")).expect("no rule");
    }
}

#[test]
fn after_a_cut_the_router_that_stays_master_has_the_flows_of_both() {
    let gateway = Gateway::new("cache");
    let (a, b) = gateway.pair();
    let [node_a, node_b] = RouterId::BOTH.map(|id| gateway.lab.router(id).expect("it is on"));
    insert(node_a, 1000, 1000);
    wait_until_told(&a);

    cut(&gateway);
    b.wait_for_state("gateway", "master");
    assert_eq!(a.state("gateway"), "master", "both serve: nobody can hear the other");
    for port in 0..FLOWS {
        insert(node_a, 2000 + port, 2000 + port);
        insert(node_b, 3000 + port, 3000 + port);
    }
    // The same tuple, translated in two ways.
    insert(node_a, 5000, 5000);
    insert(node_b, 5000, 6000);
    wait::until("each knows that nobody hears it", || {
        [&a, &b].iter().all(|daemon| daemon.status()["replication"]["in-sync"] == false)
    });

    heal(&gateway);
    b.wait_for_state("gateway", "backup");
    assert_eq!(a.state("gateway"), "master");
    wait::until("the flows of both are in A's kernel", || {
        ports(node_a).len() == 2 * usize::from(FLOWS) + 2
    });
    assert!(ports(node_a).contains(&(5000, 5000)), "what lives at A stays as it is");
    assert_eq!(statistic(&a, "taken-up"), u64::from(FLOWS));
    assert!(statistic(&a, "taken-up-refused") >= 1, "once for each time it was told");
    wait::until("the log tells of it, and of the announcement", || {
        let log = a.log();
        let line = log.lines().find(|line| line.contains("are taken into the kernel"));
        line.is_some_and(|line| line.contains("is announced"))
            && log.contains("could not be: ")
            && log.contains("ports 5000 to 80")
    });
    // Whoever heard the other one first has seen it, counted or written it down.
    let seen = number(&a.virtual_router("gateway")["statistics"]["conflicts"]);
    let journal = b.journal("gateway");
    let why = text(&journal.last().expect("a transition")["reason"]);
    assert!(seen > 0 || why.contains("advertises priority 150"), "{seen} {why}");

    // And B has all of them for the next time.
    wait::until("both are in sync", || {
        [&a, &b].iter().all(|daemon| daemon.status()["replication"]["in-sync"] == true)
    });
    wait::until("B has them all", || {
        number(&b.status()["replication"]["external"]) == ports(node_a).len() as u64
    });
}
