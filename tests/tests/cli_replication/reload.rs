//! Settings of replication change while flows are replicated: all that the file says, or nothing.

use std::fs;

use lockstep_tests::conntrackd::{conntrack, insert_flows};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;
use nix::sys::signal::Signal;

use crate::two::{FLOWS, Two, configuration, replication, status, stderr, stdout};

/// Leaves out the flows that the master has from the start.
const FILTER: &str = "[replication.filter]\nignore-addresses = [\"10.10.0.0/16\"]\n";

fn write(daemon: &Lockstep, text: &str) {
    fs::write(daemon.directory().join("lockstep.toml"), text).expect("another configuration");
}

/// With the filter, and with these settings of replication.
fn filtered(settings: &str) -> String {
    let before = "protocol = \"conntrackd\"\n";
    let text = configuration(150).replace(before, &format!("{before}{settings}"));
    text + FILTER
}

#[track_caller]
fn reload(daemon: &Lockstep) -> String {
    let output = daemon.command(&["reload"]);
    assert_eq!((status(&output), stderr(&output).as_str()), (0, ""), "{output:?}");
    stdout(&output)
}

/// A flow that no filter leaves out arrives, and whatever the master has told before it.
#[track_caller]
fn another_flow_arrives(two: &Two, port: u16, flows: u64) {
    let port = port.to_string();
    let flow = ["-I", "-p", "tcp", "-s", "10.20.0.77", "-d", "203.0.113.77", "--dport", "443"];
    let rest = ["--sport", &port, "--state", "ESTABLISHED", "-u", "SEEN_REPLY", "-t", "1000"];
    conntrack(&two.master_node, &[&flow[..], &rest].concat());
    two.wait_for_external(flows);
}

#[test]
fn a_changed_filter_takes_flows_away_and_brings_those_that_it_had_left_out() {
    let two = Two::new();
    write(&two.master, &filtered(""));
    assert_eq!(reload(&two.master), "replication.filter is in force\n");
    two.wait_for_external(0);

    insert_flows(&two.master_node, 20_000, 5);
    another_flow_arrives(&two, 1, 1);
    assert_eq!(replication(&two.master)["internal"], 1, "the others are left out");

    write(&two.master, &configuration(150));
    let told = two.master.ask(&["reload"]);
    assert_eq!(told["changed"], serde_json::json!(["replication.filter"]), "{told}");
    assert_eq!(replication(&two.master)["internal"], FLOWS + 6, "read when the answer comes");
    two.wait_for_external(FLOWS + 6);
    assert_eq!(reload(&two.master), "the configuration is in force already\n");
    two.wait_for_sync();
    assert_eq!(two.master.state("gateway"), "master");
}

#[test]
fn limits_buffers_and_times_change_together() {
    let two = Two::new();
    let settings = "ack-window = 10\nresend-queue = 100\ncache-limit = 1000\ncommit-timeout = \"9s\"\n\
                    event-buffer = 65536\nevent-buffer-limit = 131072\nexpectations = false\n";
    write(&two.master, &filtered(settings));
    let told = two.master.ask(&["reload"]);
    let keys = "filter expectations ack-window resend-queue cache-limit commit-timeout event-buffer \
                event-buffer-limit";
    let keys: Vec<_> = keys.split(' ').map(|key| format!("replication.{key}")).collect();
    assert_eq!(told["changed"], serde_json::json!(keys), "{told}");
    two.wait_for_external(0);
    another_flow_arrives(&two, 1, 1);
}

#[test]
fn a_file_with_errors_changes_nothing_and_all_of_them_are_told() {
    let two = Two::new();
    write(&two.master, &filtered("cache-limit = 0\nmode = \"fast\"\n"));
    let output = two.master.command(&["reload"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (78, ""), "{output:?}");
    let told = stderr(&output);
    for part in ["error: 0 is out of range", "unknown mode \"fast\"", "lockstep.toml:"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let log = two.master.log();
    assert_eq!(log.matches("unknown mode").count(), 1, "{log}");
    another_flow_arrives(&two, 1, FLOWS + 1);
}

#[test]
fn a_change_that_needs_a_restart_is_named_and_keeps_the_others_from_being_made() {
    let two = Two::new();
    let other = filtered("standby = \"kernel\"\n").replace("vrid = 51\n", "vrid = 52\n");
    write(&two.master, &other);
    let output = two.master.command(&["reload"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (1, ""), "{output:?}");
    assert_eq!(
        stderr(&output),
        "lockstep: nothing is changed; a restart is needed for: vrrp.gateway, replication.standby\n"
    );
    another_flow_arrives(&two, 1, FLOWS + 1);
    fs::remove_file(two.master.directory().join("lockstep.toml")).expect("its configuration");
    let output = two.master.command(&["reload"]);
    assert_eq!(status(&output), 1, "{output:?}");
    assert!(stderr(&output).starts_with("lockstep: cannot read "), "{output:?}");
    another_flow_arrives(&two, 2, FLOWS + 2);
}

#[test]
fn sighup_does_the_same_and_the_log_says_how_it_went() {
    let mut two = Two::new();
    let mut hang_up = |text: &str, logged: &str| {
        write(&two.master, text);
        two.master.process().signal(Signal::SIGHUP).expect("it can be signalled");
        wait::until(&format!("the log says {logged:?}"), || two.master.log().contains(logged));
    };
    hang_up(&filtered("mode = \"fast\"\n"), "the configuration in force stays");
    hang_up(
        &filtered("standby = \"kernel\"\n"),
        "nothing is changed; a restart is needed for: replication.standby",
    );
    hang_up(
        &filtered("cache-limit = 900\n"),
        "replication.filter, replication.cache-limit are in force",
    );
    assert!(two.master.log().contains("unknown mode \"fast\""));
    two.wait_for_external(0);
    another_flow_arrives(&two, 1, 1);
}
