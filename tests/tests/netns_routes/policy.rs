//! A cloud's policy routing carries real packets the right way: by mark, by source, past `throw`, and by the other public
//! network while one is away.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;

use crate::{installed, ip, parsed};

/// The configuration as it is shipped, with a shorter interval: a test need not wait for it.
const SHIPPED: &str = include_str!("../../../examples/policy-routing/lockstep.toml");
/// A host somewhere beyond both public networks; whoever is asked answers with its name.
const FAR: &str = "192.0.2.80";
/// The ports whose packets are marked for each public network, and one that is not marked.
const BY_ETH2: u16 = 5002;
const BY_ETH3: u16 = 5003;
const UNMARKED: u16 = 5000;

struct Site {
    router: Node,
    client: Node,
    _others: Vec<Node>,
}

impl Site {
    /// The router between guests, management and two public networks, each with somebody who answers.
    fn new() -> Self {
        let lans: [Lan; 4] = std::array::from_fn(|_| Lan::new().expect("a LAN"));
        let router = Node::new("router").expect("a namespace");
        let addresses = ["10.1.1.11/24", "10.2.0.10/24", "203.0.113.10/24", "198.51.100.10/24"];
        for (number, (lan, address)) in lans.iter().zip(addresses).enumerate() {
            let interface = Interface::new(&format!("eth{number}")).address(parsed(address));
            router.attach(lan, &interface).expect("an interface");
        }
        router.set("net/ipv4/ip_forward", "1").expect("it forwards");
        let client = host("client", &lans[0], "10.1.1.20/24", "10.1.1.1");
        let management = host("management", &lans[1], "10.2.0.20/24", "10.2.0.10");
        let first = host("first", &lans[2], "203.0.113.1/24", "203.0.113.10");
        let second = host("second", &lans[3], "198.51.100.1/24", "198.51.100.10");
        for gateway in [&first, &second] {
            ip(gateway, &format!("address add {FAR}/32 dev eth0"));
        }
        answer(&management, "10.2.0.20", "management");
        answer(&first, FAR, "first");
        answer(&second, FAR, "second");
        mark(&router);
        Self { router, client, _others: vec![management, first, second] }
    }

    /// Who answers the client.
    fn client_reaches(&self, to: &str, port: u16) -> Option<String> {
        ask(&self.client, "10.1.1.20", to, port)
    }

    /// Who answers the router itself when it asks from this address.
    fn router_reaches(&self, from: &str) -> Option<String> {
        ask(&self.router, from, FAR, UNMARKED)
    }
}

fn host(name: &str, lan: &Lan, address: &str, gateway: &str) -> Node {
    let node = Node::new(name).expect("a namespace");
    node.attach(lan, &Interface::new("eth0").address(parsed(address))).expect("an interface");
    ip(&node, &format!("route add default via {gateway}"));
    node
}

/// Answers every datagram to each port with a name.
fn answer(node: &Node, at: &str, name: &'static str) {
    let at: IpAddr = at.parse().expect("an address");
    for port in [UNMARKED, BY_ETH2, BY_ETH3] {
        let socket = node.run(|| UdpSocket::bind((at, port))).expect("the node").expect("a socket");
        // Ends with the process: a socket whose namespace is gone hears nothing.
        std::thread::spawn(move || {
            let mut question = [0; 64];
            while let Ok((_, asker)) = socket.recv_from(&mut question) {
                if socket.send_to(name.as_bytes(), asker).is_err() {
                    return;
                }
            }
        });
    }
}

fn ask(node: &Node, from: &str, to: &str, port: u16) -> Option<String> {
    let from: IpAddr = from.parse().expect("an address");
    let to = SocketAddr::new(to.parse().expect("an address"), port);
    node.run(|| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        socket.send_to(b"who is there?", to).ok()?;
        let mut answer = [0; 64];
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        String::from_utf8(answer[..length].to_vec()).ok()
    })
    .expect("the node")
}

/// Marks by port what the guests send, as the cloud's own rules mark by connection.
fn mark(router: &Node) {
    let rules = format!(
        "add table ip mangle\n\
         add chain ip mangle prerouting {{ type filter hook prerouting priority -150; }}\n\
         add rule ip mangle prerouting iifname eth0 udp dport {BY_ETH2} meta mark set 102\n\
         add rule ip mangle prerouting iifname eth0 udp dport {BY_ETH3} meta mark set 103\n"
    );
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rules");
    std::fs::write(&path, rules).expect("the rules");
    let mut command = Command::new("nft");
    command.arg("-f").arg(&path);
    let output = router.output(command).expect("nft runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn packets_go_by_mark_by_source_past_throw_and_by_the_other_network_when_one_is_away() {
    let site = Site::new();
    let lockstep = Lockstep::start(&site.router, &SHIPPED.replace("\"1s\"", "\"100ms\""));
    lockstep.wait_for_state("gateway", "master");
    wait::until("everything is there", || installed(&lockstep));

    let answered = |who: Option<String>, by: &str| who.as_deref() == Some(by);
    wait::until("a guest reaches the world by the first network", || {
        answered(site.client_reaches(FAR, UNMARKED), "first")
    });
    assert!(answered(site.client_reaches(FAR, BY_ETH2), "first"));
    assert!(answered(site.client_reaches(FAR, BY_ETH3), "second"), "the mark decides");
    assert!(answered(site.router_reaches("203.0.113.10"), "first"));
    assert!(answered(site.router_reaches("198.51.100.10"), "second"), "the source decides");
    for port in [UNMARKED, BY_ETH2, BY_ETH3] {
        let who = site.client_reaches("10.2.0.20", port);
        assert!(answered(who, "management"), "`throw` leads back to the main table");
    }

    site.router.unplug("eth3").expect("the cable is pulled");
    ip(&site.router, "link set eth3 down");
    wait::until("on the master the link is up again, and its routes are there", || {
        installed(&lockstep) || lockstep.ask(&["routes"]).to_string().contains("carrier")
    });
    site.router.plug("eth3").expect("the cable is put back");
    wait::until("everything is there again", || installed(&lockstep));
    wait::until("the second network carries its own again", || {
        answered(site.client_reaches(FAR, BY_ETH3), "second")
    });

    ip(&site.router, "address del 203.0.113.10/24 dev eth2");
    wait::until("without its address the first network is left out", || {
        answered(site.client_reaches(FAR, UNMARKED), "second")
    });
    ip(&site.router, "address add 203.0.113.10/24 dev eth2");
    wait::until("with it everything is as before", || {
        installed(&lockstep) && answered(site.client_reaches(FAR, UNMARKED), "first")
    });
}
