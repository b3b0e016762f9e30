//! A master falls into a fault for longer than the purge timeout, with and without another router
//! that serves in its place.

use std::process::Command;

use lockstep_lab::Node;
use lockstep_tests::conntrackd::{insert_flows, kernel_flows};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;

use crate::two::{FLOWS, Two, alone, configuration, replication};

/// Has the daemon purge after a second.
#[track_caller]
fn purge_soon(daemon: &Lockstep) {
    let soon = configuration(150).replace("purge-timeout = \"1h\"", "purge-timeout = \"1s\"");
    daemon.take(&soon);
}

/// The switch of the LAN goes away, or comes back.
#[track_caller]
fn set_lan(node: &Node, state: &str) {
    let mut ip = Command::new("ip");
    ip.args(["link", "set", "eth0", state]);
    let output = node.output(ip).expect("ip runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_master_without_a_peer_comes_out_of_a_long_fault_with_all_its_connections() {
    let (daemon, node, _lan) = alone();
    purge_soon(&daemon);
    insert_flows(&node, 10_000, FLOWS as u16);
    wait::until("the flows are known", || replication(&daemon)["internal"] == FLOWS);
    let before = kernel_flows(&node, "tcp");

    set_lan(&node, "down");
    daemon.wait_for_state("gateway", "fault");
    wait::until("the time of the purge has passed", || {
        let why = replication(&daemon)["purge-put-off"].clone();
        why == "no peer is there, so nobody else is known to serve"
    });
    set_lan(&node, "up");
    daemon.wait_for_state("gateway", "master");

    assert_eq!(kernel_flows(&node, "tcp"), before, "every connection lives on");
    wait::until("they are told again", || replication(&daemon)["internal"] == FLOWS);
    let replication = replication(&daemon);
    assert_eq!(replication["statistics"]["purged"], 0, "{replication:#}");
    assert!(replication["purge-put-off"].is_null(), "{replication:#}");
}

#[test]
fn a_master_in_a_fault_is_rid_of_the_connections_that_another_router_serves() {
    let two = Two::new();
    purge_soon(&two.master);
    two.wait_for_sync();

    set_lan(&two.master_node, "down");
    two.backup.wait_for_state("gateway", "master");
    wait::until("what the other router serves is purged", || {
        kernel_flows(&two.master_node, "tcp").is_empty()
    });
    let replication = replication(&two.master);
    assert_eq!(replication["statistics"]["purged"], FLOWS, "{replication:#}");
    assert!(replication["purge-put-off"].is_null(), "{replication:#}");
    assert_eq!(kernel_flows(&two.backup_node, "tcp").len() as u64, FLOWS);
}
