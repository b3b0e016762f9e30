//! Two masters that cannot hear each other: when they can again, one stays and has the flows of both.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use lockstep_lab::traffic::{Connections, Pace};
use lockstep_lab::{Lab, Node, RouterId, Selector, lose, lose_nothing};
use lockstep_tests::daemon::{Lockstep, number, text};
use lockstep_tests::gateway::{Gateway, wait_until_told};
use lockstep_tests::wait;

const FLOWS: u16 = 200;

/// Connections that are opened through each router.
const CONNECTIONS: usize = 10;

/// How long connections that both know go by the one that will give way.
const BY_B: Duration = Duration::from_secs(5);

/// For connections whose packets were lost to go on.
const LIMIT: Duration = Duration::from_mins(1);

/// A router takes flows of which it knows that they began when it ran already; how exactly that is
/// known is 20 s.
const ENDS_KNOWN_S: u64 = 22;

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

/// Waits until the router has run for long enough to say of a flow that it has not ended.
fn wait_until_ends_are_known(daemon: &Lockstep) {
    wait::until("it has run for long enough", || {
        number(&daemon.status()["replication"]["uptime-s"]) >= ENDS_KNOWN_S
    });
}

fn run(node: &Node, program: &str, words: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(words);
    let output = node.output(command).expect("the program runs");
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Client and server send to this router, whatever is announced to them.
fn send_by(gateway: &Gateway, id: RouterId) {
    let router = gateway.lab.router(id).expect("the router is on");
    for (host, gateway_address, interface) in sides(gateway) {
        let link = run(router, "ip", &["-o", "link", "show", "dev", interface]);
        let mut words = link.split_whitespace();
        words.find(|word| *word == "link/ether").expect("an Ethernet");
        let mac = words.next().expect("its address");
        let address = gateway_address.to_string();
        let entry =
            ["neigh", "replace", &address, "lladdr", mac, "nud", "permanent", "dev", "eth0"];
        run(host, "ip", &entry);
    }
}

/// Client and server ask who has the address, as they always do.
fn send_as_announced(gateway: &Gateway) {
    for (host, address, _) in sides(gateway) {
        run(host, "ip", &["neigh", "del", &address.to_string(), "dev", "eth0"]);
    }
}

/// The hosts, by which address each reaches the other one, and the routers' interface there.
fn sides(gateway: &Gateway) -> [(&Node, Ipv4Addr, &'static str); 2] {
    let (client, server) = (gateway.lab.client(), gateway.lab.server());
    [(client, Lab::LAN_VIRTUAL, "eth0"), (server, Lab::WAN_VIRTUAL, "eth1")]
}

fn connect(gateway: &Gateway, port: u16) -> Connections {
    let (client, server) = (gateway.lab.client(), gateway.lab.server());
    let at = SocketAddr::new(Lab::SERVER.into(), port);
    Connections::open(client, server, at, CONNECTIONS, Pace::default())
        .expect("connections through the routers")
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
    wait_until_ends_are_known(&a);

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

#[test]
fn connections_through_either_of_two_masters_survive_when_one_gives_way() {
    let gateway = Gateway::new("cache");
    let (a, b) = gateway.pair();
    wait_until_ends_are_known(&a);
    send_by(&gateway, RouterId::A);
    let before = connect(&gateway, 7002);
    wait_until_told(&a);

    cut(&gateway);
    b.wait_for_state("gateway", "master");
    send_by(&gateway, RouterId::A);
    let by_a = connect(&gateway, 7000);
    send_by(&gateway, RouterId::B);
    let by_b = connect(&gateway, 7001);
    // For longer than a window: A knows nothing of what is said meanwhile.
    let since = Instant::now();
    while since.elapsed() < BY_B {
        assert!(before.settle(Instant::now(), LIMIT).all_survived(), "they go on by B");
    }
    assert_eq!(a.state("gateway"), "master", "both serve: nobody can hear the other");

    heal(&gateway);
    b.wait_for_state("gateway", "backup");
    assert_eq!(a.state("gateway"), "master");
    send_as_announced(&gateway);
    // Neither router picks up a connection whose beginning it has not seen.
    for (which, connections) in [("by A", &by_a), ("by B", &by_b), ("before", &before)] {
        let verdict = connections.settle(Instant::now(), LIMIT);
        assert!(verdict.all_survived(), "{which}: {verdict:?}");
    }
    let taken_up = statistic(&a, "taken-up");
    assert!(taken_up >= CONNECTIONS as u64, "{taken_up}");
    wait::until("the log tells of it", || a.log().contains("are taken into the kernel"));
}
