//! What a person reads of links over which nobody can be reached, and of peers that were never there.

use std::array;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::conntrackd::{insert_flows, kernel_flows};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;
use serde_json::Value;

use crate::two::{replication, status, stdout};

const NETWORKS: [(&str, &str); 3] =
    [("eth0", "10.51.0"), ("eth2", "192.168.9"), ("eth3", "192.168.10")];

/// Both links, with a group on each.
const GROUPS: &str = "[[replication.link]]\ninterface = \"eth2\"\nmulticast = \"225.0.0.50\"\n\
                      [[replication.link]]\ninterface = \"eth3\"\nmulticast = \"225.0.0.50\"\n";

/// Routers with two dedicated links, on which nothing runs yet.
struct Routers<const COUNT: usize> {
    nodes: [Node; COUNT],
    _lans: [Lan; 3],
}

impl<const COUNT: usize> Routers<COUNT> {
    fn new() -> Self {
        let lans = [(); 3].map(|()| Lan::new().expect("a LAN"));
        let nodes = array::from_fn(|index| {
            let host = 11 + index;
            let node = Node::new("router").expect("a namespace");
            for (lan, (interface, network)) in lans.iter().zip(NETWORKS) {
                let address = format!("{network}.{host}/24").parse().expect("an address");
                let interface = Interface::new(interface).address(address);
                node.attach(lan, &interface).expect("an interface");
            }
            node
        });
        Self { nodes, _lans: lans }
    }

    /// Starts one of them, with these links.
    fn start(&self, index: usize, links: &str) -> Lockstep {
        let text = format!(
            "[vrrp.gateway]\ninterface = \"eth0\"\nvrid = 51\npriority = {}\n\
             advertisement-interval = \"250ms\"\naddresses = [\"10.51.0.1/24\"]\n\
             [replication]\nprotocol = \"conntrackd\"\n{links}",
            150 - 50 * index
        );
        Lockstep::start(&self.nodes[index], &text)
    }
}

/// A link from address to address, seen from one of the routers.
fn between(index: usize, transport: &str) -> String {
    let [own, peer] = if index == 0 { [11, 12] } else { [12, 11] };
    format!(
        "[[replication.link]]\ninterface = \"eth2\"\ntransport = \"{transport}\"\n\
         local = \"192.168.9.{own}\"\npeers = [\"192.168.9.{peer}\"]\n"
    )
}

fn shown(daemon: &Lockstep) -> String {
    let output = daemon.command(&["replication", "status"]);
    assert_eq!(status(&output), 0, "{output:?}");
    stdout(&output)
}

#[track_caller]
fn line<'a>(text: &'a str, beginning: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(beginning))
        .unwrap_or_else(|| panic!("no line begins with {beginning}: {text}"))
}

#[test]
fn a_peer_that_was_never_there_is_not_said_to_have_been_heard() {
    for transport in ["tcp", "udp"] {
        let routers = Routers::<2>::new();
        let daemon = routers.start(0, &between(0, transport));
        let link = || replication(&daemon)["links"][0].clone();
        let said = || link()["reason"].as_str().unwrap_or_default().to_owned();
        let refused = "192.168.9.12 takes no connection (";
        wait::until("it is said why nobody answers", || {
            let said = said();
            let never = said.contains("192.168.9.12 has never been heard (");
            never && (transport == "udp" || said.contains(refused))
        });
        if transport == "tcp" {
            assert!(said().ends_with("s): Connection refused"), "{}", said());
        }

        let peer = replication(&daemon)["peers"][0].clone();
        assert_eq!(peer["heard-ms"], Value::Null, "{peer}");
        assert!(peer["unheard-ms"].is_u64(), "{peer}");
        assert_eq!(peer["silent"], true, "{peer}");
        let text = shown(&daemon);
        assert!(line(&text, "192.168.9.12").contains("never ("), "{text}");
        assert!(line(&text, "eth2").contains("has never been heard"), "{text}");
        let metrics = stdout(&daemon.command(&["metrics"]));
        assert!(!metrics.contains("peer_heard_ago_seconds{"), "{metrics}");
        let text = stdout(&daemon.command(&["replication", "statistics"]));
        assert!(text.lines().any(|line| line.trim_start().starts_with("heard  ")), "{text}");
        assert!(text.contains("never ("), "{text}");

        let _peer = routers.start(1, &between(1, transport));
        wait::until("both hear each other", || {
            let peer = &replication(&daemon)["peers"][0];
            peer["heard-ms"].is_u64() && peer["silent"] == false && link()["reason"].is_null()
        });
        assert!(line(&shown(&daemon), "192.168.9.12").contains(" s ago"));
    }
}

#[test]
fn with_every_link_down_the_reason_names_them_all() {
    let routers = Routers::<2>::new();
    let [daemon, _peer] = [0, 1].map(|index| routers.start(index, GROUPS));
    wait::until("both hear each other", || replication(&daemon)["in-sync"] == true);
    for interface in ["eth2", "eth3"] {
        routers.nodes[0].unplug(interface).expect("its cable can be pulled");
    }
    let mut reason = String::new();
    wait::until("no flows pass", || {
        let replication = replication(&daemon);
        reason = replication["reason"].as_str().unwrap_or_default().to_owned();
        replication["in-sync"] == false && reason.contains("no flows pass: ")
    });
    wait::until(&format!("both are named, not only: {reason}"), || {
        reason = replication(&daemon)["reason"].as_str().unwrap_or_default().to_owned();
        reason.ends_with("no flows pass: eth2 has no carrier; eth3 has no carrier")
    });
}

#[test]
fn a_master_of_three_whose_link_goes_down_is_followed_and_no_flow_is_lost() {
    const EACH: u16 = 200;
    let routers = Routers::<3>::new();
    let [mut master, second, third] = [0, 1, 2].map(|index| routers.start(index, GROUPS));
    master.wait_for_state("gateway", "master");
    let node = &routers.nodes[0];
    let mut flows = 0;
    let mut grow = |while_what: &str| {
        insert_flows(node, 10_000 + flows, EACH);
        flows += EACH;
        wait::until(&format!("both backups have every flow {while_what}"), || {
            [&second, &third].iter().all(|backup| {
                let replication = replication(backup);
                replication["external"] == flows && replication["in-sync"] == true
            })
        });
        wait::until(&format!("the master has told all {while_what}"), || {
            replication(&master)["in-sync"] == true
        });
    };
    grow("on the first link");
    node.unplug("eth2").expect("its cable can be pulled");
    grow("on the second link");
    node.plug("eth2").expect("its cable can be plugged in");
    node.unplug("eth3").expect("its cable can be pulled");
    grow("on the first link again");

    master.kill();
    second.wait_for_state("gateway", "master");
    let served = kernel_flows(node, "tcp");
    assert_eq!(served.len(), usize::from(flows));
    wait::until("the next master serves every flow", || {
        kernel_flows(&routers.nodes[1], "tcp") == served
    });
}
