//! A conntrackd and two Locksteps in one group. conntrackd has no acknowledgements from more than one peer, so it is in
//! NOTRACK.

use std::collections::BTreeSet;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::conntrackd::{Conntrackd, Flows, conntrack, insert_flows, kernel_flows};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::replicas::external;
use lockstep_tests::wait;

const SYNC: &str = "  Mode NOTRACK { }
  Multicast {
    IPv4_address 225.0.0.50
    Group 3780
    IPv4_interface 192.168.77.4
    Interface eth2
    Checksum on
  }
";

#[test]
fn two_locksteps_and_a_conntrackd_have_each_others_flows() {
    let sync = Lan::new().expect("a LAN (the tests need the right to make network namespaces)");
    let [serving, standing_by, theirs] = [2, 3, 4].map(|host| router(&sync, host));
    let conntrackd = Conntrackd::configured(&theirs, SYNC, "");
    let active = Lockstep::start(&serving, &configuration("0s"));
    active.wait_for_state("gateway", "master");
    let mut backup = Lockstep::start(&standing_by, &configuration("1h"));
    backup.wait_for_state("gateway", "backup");

    insert_flows(&serving, 10_000, 200);
    insert_flows(&theirs, 20_000, 200);
    let told = |backup: &Lockstep| {
        let [ours, theirs] = [&serving, &theirs].map(|node| kernel_flows(node, "tcp"));
        wait::until("conntrackd has what the active Lockstep has", || {
            conntrackd.external() == ours
        });
        wait::until("the active Lockstep has what conntrackd has", || flows(&active) == theirs);
        let all: Flows = ours.union(&theirs).cloned().collect();
        wait::until("the one that stands by has all of it", || flows(backup) == all);
    };
    told(&backup);

    for (node, first) in [(&serving, 10_000), (&theirs, 20_000)] {
        for port in first..first + 20 {
            conntrack(node, &["-D", "-p", "tcp", "--sport", &port.to_string()]);
        }
    }
    told(&backup);

    backup.kill();
    insert_flows(&serving, 11_000, 20);
    insert_flows(&theirs, 21_000, 20);
    drop(backup);
    told(&Lockstep::start(&standing_by, &configuration("1h")));
}

fn flows(lockstep: &Lockstep) -> Flows {
    external(lockstep).into_keys().collect::<BTreeSet<_>>()
}

fn router(sync: &Lan, host: u8) -> Node {
    let node = Node::new("router").expect("a namespace");
    let lan = Lan::new().expect("a LAN");
    for (lan, interface, address) in
        [(&lan, "eth0", "10.51.0.2/24".to_owned()), (sync, "eth2", format!("192.168.77.{host}/24"))]
    {
        let interface = Interface::new(interface).address(address.parse().expect("an address"));
        node.attach(lan, &interface).expect("an interface");
    }
    // Flows that were made before anybody listened must be told later, too.
    node.set("net/netfilter/nf_conntrack_events", "1").expect("events are on");
    node
}

fn configuration(startup_limit: &str) -> String {
    format!(
        r#"
[vrrp.gateway]
interface = "eth0"
vrid = 51
advertisement-interval = "100ms"
startup-limit = "{startup_limit}"
addresses = ["10.51.0.1/24"]

[replication]
protocol = "conntrackd"
mode = "notrack"

[[replication.link]]
interface = "eth2"
multicast = "225.0.0.50"
port = 3780
"#
    )
}
