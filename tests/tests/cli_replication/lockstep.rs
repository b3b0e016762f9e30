//! `lockstep replication …` and `lockstep metrics`.

use lockstep_tests::conntrackd::kernel_flows;
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;
use serde_json::Value;

use crate::two::{FLOWS, Two, alone, replication, status, stderr, stdout};

#[track_caller]
fn done(daemon: &Lockstep, words: &[&str]) -> String {
    let output = daemon.command(&[&["replication"], words].concat());
    assert_eq!(status(&output), 0, "{words:?}: {output:?}");
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

#[test]
fn caches_are_shown_as_conntrack_writes_flows_or_as_json() {
    let two = Two::new();
    for (daemon, cache) in [(&two.master, "internal"), (&two.backup, "external")] {
        let text = done(daemon, &[cache]);
        assert_eq!(text.lines().count() as u64, FLOWS, "{text}");
        let line = text.lines().find(|line| line.contains("sport=10003 ")).expect("a flow");
        assert!(
            line.starts_with("tcp      6 ESTABLISHED src=10.10.0.77 dst=203.0.113.77 "),
            "{line}"
        );
        assert!(line.contains("[active since "), "{line}");

        let json: Value = serde_json::from_str(&done(daemon, &[cache, "--json"])).expect("JSON");
        let flows = json.as_array().expect("a list");
        assert_eq!(flows.len() as u64, FLOWS);
        assert!(flows.iter().any(|flow| flow["orig"]["source-port"] == 10_003));
        assert_eq!(done(daemon, &[cache, "--expectations"]), "");
        assert_eq!(done(daemon, &[cache, "--expectations", "--json"]), "[]\n");
    }
}

#[test]
fn a_commit_ends_when_the_flows_are_in_the_kernel() {
    let two = Two::new();
    assert_eq!(kernel_flows(&two.backup_node, "tcp").len(), 0);
    let told = done(&two.backup, &["commit"]);
    assert!(!told.trim().is_empty(), "what has happened is said");
    assert_eq!(kernel_flows(&two.backup_node, "tcp").len() as u64, FLOWS);
    let json = two.backup.ask(&["replication", "commit", "flows"]);
    assert!(json["summary"].is_string(), "{json}");
}

#[test]
fn a_second_commit_leaves_what_is_equal_as_it_is() {
    let two = Two::new();
    let first = two.backup.ask(&["replication", "commit"]);
    assert_eq!(first["counts"]["created"], FLOWS, "{first}");
    let second = || {
        let told = two.backup.ask(&["replication", "commit"]);
        let counts = &told["counts"];
        assert_eq!(counts["committed"], 0, "{told}");
        assert_eq!(counts["retimed"], 0, "{told}");
        assert_eq!(counts["unchanged"], FLOWS, "{told}");
    };
    second();
    wait::until("the committed flows have been read", || {
        replication(&two.backup)["internal"] == FLOWS
    });
    second();
}

#[test]
fn what_was_flushed_comes_back_with_a_resync_and_with_a_bulk() {
    let two = Two::new();
    for bring_back in ["resync", "bulk"] {
        done(&two.backup, &["flush", "external"]);
        let asked = if bring_back == "resync" { &two.backup } else { &two.master };
        done(asked, &[bring_back]);
        two.wait_for_external(FLOWS);
    }
}

#[test]
fn a_flushed_internal_cache_is_read_again_from_the_kernel() {
    let two = Two::new();
    done(&two.master, &["flush", "internal"]);
    done(&two.master, &["reread"]);
    wait::until("the kernel's flows are known again", || {
        replication(&two.master)["internal"] == FLOWS
    });
    assert_eq!(replication(&two.backup)["external"], FLOWS, "the peer is told nothing of it");
}

#[test]
fn statistics_are_grouped_and_metrics_have_the_same_numbers() {
    let two = Two::new();
    let text = done(&two.master, &["statistics"]);
    for heading in ["REPLICATION", "INTERNAL CACHE", "MESSAGES", "TRAFFIC", "KERNEL"] {
        assert!(text.lines().any(|line| line == heading), "{heading} in {text}");
    }
    let json = two.master.ask(&["replication", "statistics"]);
    assert!(json["messages-sent"].as_u64() >= Some(FLOWS), "{json}");
    assert_eq!(json["internal"], FLOWS);

    let output = two.backup.command(&["metrics"]);
    assert_eq!(status(&output), 0, "{output:?}");
    let metrics = stdout(&output);
    let flows = format!("lockstep_replication_flows{{cache=\"external\"}} {FLOWS}.0");
    assert!(metrics.lines().any(|line| line == flows), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[test]
fn without_a_peer_nobody_can_be_asked_or_told_and_the_exit_status_says_so() {
    let (daemon, _node, _lan) = alone();
    for word in ["resync", "bulk"] {
        let output = daemon.command(&["replication", word]);
        assert_eq!(status(&output), 1, "{word}: {output:?}");
        assert!(stderr(&output).starts_with("lockstep: "), "{output:?}");
        assert_eq!(stdout(&output), "");
    }
    for words in [&["flush", "both"][..], &["commit", "everything"], &["forget"]] {
        assert_eq!(status(&daemon.command(&[&["replication"], words].concat())), 2, "{words:?}");
    }
}

#[test]
fn a_router_that_replicates_nothing_says_so_whatever_is_asked() {
    let (_, node, _lan) = alone();
    let text = "[vrrp.gateway]\ninterface = \"eth0\"\nvrid = 52\naddresses = [\"10.52.0.1/24\"]\n";
    let daemon = Lockstep::start(&node, text);
    let asked: [&[&str]; 4] = [
        &["replication", "status"],
        &["replication", "commit"],
        &["replication", "flush"],
        &["replication", "internal"],
    ];
    for words in asked {
        let output = daemon.command(words);
        assert_eq!(status(&output), 1, "{words:?}: {output:?}");
        assert_eq!(stderr(&output), "lockstep: replication is not configured\n");
    }
}
