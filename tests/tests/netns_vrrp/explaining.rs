//! Why a router is master or not, now; and what it did before its daemon was started the last time.

use super::*;

/// All that `explain` says of our group, `because` or `would-change`.
#[track_caller]
fn sentences(daemon: &Lockstep, list: &str) -> Vec<String> {
    let explained = daemon.ask(&["explain", "gateway"]);
    explained[0][list].as_array().expect("a list").iter().map(text).collect()
}

#[test]
fn each_router_says_why_it_is_what_it_is_and_what_would_change_that() {
    let mut segment = beside_keepalived();
    let setting = Setting::version_3();
    segment.start_master(OTHER, &setting.priority(150));
    segment.start_backup(OURS, &setting);
    wait_for_advertisements(&segment, OTHER, 1);
    let other = lockstep_tests::segment::ipv4(OTHER);
    wait::until("our backup names the master", || {
        let expected = format!("gateway: {other} is master with priority 150, heard ");
        sentences(ours(&mut segment), "because").iter().any(|why| why.starts_with(&expected))
    });
    let changes = sentences(ours(&mut segment), "would-change");
    assert!(changes.contains(&"gateway: our priority is above 150".to_owned()), "{changes:?}");

    segment.stop(OTHER);
    segment.wait_for_master(OURS);
    let why = sentences(ours(&mut segment), "because");
    assert!(why[0].contains("stopped (priority 0)"), "{why:?}");
    segment.node(OURS).unplug("eth0").expect("the cable can be pulled");
    segment.wait_for(OURS, Role::Fault);
    let why = sentences(ours(&mut segment), "because");
    assert_eq!(why[0], "eth0 has no carrier");
    let unknown = ours(&mut segment).command(&["explain", "elsewhere"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn the_journal_goes_on_after_a_stop_and_after_a_kill() {
    let segment = alone();
    let state = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[router]\nstate-directory = \"{}\"\n\
         [vrrp.gateway]\ninterface = \"eth0\"\nvrid = 51\nadvertisement-interval = \"50ms\"\n\
         startup-limit = \"0s\"\naddresses = [\"10.51.0.1/24\"]\n",
        state.path().display()
    );
    let numbers = |daemon: &Lockstep| -> Vec<u64> {
        daemon.journal("gateway").iter().map(|entry| number(&entry["number"])).collect()
    };
    let mut daemon = Lockstep::start(segment.node(OURS), &config);
    daemon.wait_for_state("gateway", "master");
    assert_eq!(numbers(&daemon), [1, 2]);
    assert!(daemon.stop().success());

    let mut daemon = Lockstep::start(segment.node(OURS), &config);
    daemon.wait_for_state("gateway", "master");
    let journal = daemon.journal("gateway");
    let to: Vec<String> = journal.iter().map(|entry| text(&entry["to"])).collect();
    assert_eq!(to, ["backup", "master", "stopped", "backup", "master"]);
    assert_eq!(numbers(&daemon), [1, 2, 3, 4, 5]);
    let ended = |entry: &serde_json::Value| {
        let steps = entry["steps"].as_array().expect("a list");
        entry["is-over"] == true && steps.iter().all(|step| step["took-us"].is_u64())
    };
    wait::until("all is over", || daemon.journal("gateway").iter().all(ended));
    // What is shown may be ahead of the file by a moment.
    let file = state.path().join("journal.jsonl");
    wait::until("the end of the last is written", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let last = text.lines().next_back().unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(last)
            .is_ok_and(|entry| entry["number"] == 5 && entry["is-over"] == true)
    });
    daemon.kill();

    let daemon = Lockstep::start(segment.node(OURS), &config);
    wait::until("it goes on with the next number", || {
        numbers(&daemon).starts_with(&[1, 2, 3, 4, 5, 6])
    });
    assert!(daemon.journal("gateway")[..5].iter().all(ended));
}
