//! Planned hand-over on the real kernel: live connections through NAT, two of our routers, and one beside keepalived.

use std::time::Instant;

use lockstep_lab::RouterId;
use lockstep_tests::daemon::{Lockstep, text};
use lockstep_tests::gateway::{Gateway, Traffic, wait_until_told};
use lockstep_tests::router::Program;
use lockstep_tests::segment::Segment;
use lockstep_tests::setting::Setting;
use lockstep_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

/// No connection is lost; what was is told.
#[track_caller]
fn survived(traffic: &Traffic, what: &str, since: Instant) {
    let outage = traffic.outage(since);
    eprintln!("{what}: {} questions lost, {:?} without an answer", outage.lost, outage.duration());
}

/// The steps of the newest transition of the group.
fn last_steps(daemon: &Lockstep) -> Vec<String> {
    let journal = daemon.journal("gateway");
    let steps = journal.last().and_then(|entry| entry["steps"].as_array()).expect("steps");
    steps.iter().map(|step| text(&step["step"])).collect()
}

/// What a command that is refused says.
#[track_caller]
fn refused(daemon: &Lockstep, arguments: &[&str]) -> String {
    let output = daemon.command(arguments);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn switch(from: &Lockstep, to: &Lockstep) -> Value {
    wait_until_told(from);
    let switched = from.ask(&["switchover", "gateway"]);
    eprintln!("{switched}");
    assert_eq!(from.state("gateway"), "backup");
    to.wait_for_state("gateway", "master");
    switched
}

fn nothing_is_lost(standby: &'static str) {
    let gateway = Gateway::new(standby);
    let (a, b) = gateway.pair();
    let traffic = gateway.traffic();
    let begin = Instant::now();
    let switched = switch(&a, &b);
    assert_eq!(switched["announced"], true, "{switched}");
    survived(&traffic, "A to B", begin);
    let steps = last_steps(&a);
    let expected = ["barrier", "retire", "peer claims", "peer serves", "stop claiming"];
    assert_eq!(steps[..5], expected);
    // It has the higher priority and preempts.
    let waiting = text(&a.virtual_router("gateway")["waiting"]);
    assert!(waiting.contains("handed over"), "{waiting}");
    let begin = Instant::now();
    switch(&b, &a);
    survived(&traffic, "B to A", begin);
    assert_eq!(
        a.journal("gateway").len(),
        b.journal("gateway").len() + 1,
        "and nothing else moved"
    );
}

#[test]
fn a_switchover_and_one_back_lose_no_connection_when_flows_stand_by_in_the_cache() {
    nothing_is_lost("cache");
}

#[test]
fn a_switchover_and_one_back_lose_no_connection_when_flows_stand_by_in_the_kernel() {
    nothing_is_lost("kernel");
}

#[test]
fn a_switchover_without_a_peer_is_refused_and_by_force_called_off() {
    let gateway = Gateway::new("cache");
    let (a, mut b) = gateway.pair();
    let traffic = gateway.traffic();
    assert!(refused(&a, &["switchover", "nothing"]).contains("there is no group nothing"));
    assert!(refused(&b, &["switchover", "gateway"]).contains("is backup here, not master"));
    b.kill();
    let begin = Instant::now();
    wait::until("the peer has fallen silent", || a.status()["replication"]["in-sync"] == false);
    let why = refused(&a, &["switchover", "gateway"]);
    assert!(why.contains("no peer is there"), "{why}");
    let why = refused(&a, &["switchover", "gateway", "--force"]);
    assert!(why.contains("no advertisement heard"), "{why}");
    assert_eq!(a.state("gateway"), "master");
    survived(&traffic, "called off", begin);
    assert!(!last_steps(&a).contains(&"remove addresses".to_owned()));
}

#[test]
fn a_peer_that_does_not_answer_any_more_holds_a_switchover_back() {
    let gateway = Gateway::new("cache");
    let (a, mut b) = gateway.pair();
    let traffic = gateway.traffic();
    wait_until_told(&a);
    b.process().signal(Signal::SIGSTOP).expect("it can be stopped");
    let begin = Instant::now();
    let why = refused(&a, &["switchover", "gateway"]);
    eprintln!("{why}");
    assert_eq!(a.state("gateway"), "master");
    b.process().signal(Signal::SIGCONT).expect("it can go on");
    survived(&traffic, "refused", begin);
    switch(&a, &b);
}

#[test]
fn maintenance_is_kept_across_a_restart() {
    let gateway = Gateway::new("cache");
    let (mut a, b) = gateway.pair();
    let traffic = gateway.traffic();
    wait_until_told(&a);
    let begin = Instant::now();
    let maintained = a.ask(&["maintenance", "on", "gateway"]);
    eprintln!("{maintained}");
    assert_eq!(maintained[0]["handed-over"]["announced"], true, "{maintained}");
    b.wait_for_state("gateway", "master");
    survived(&traffic, "maintenance", begin);
    assert!(refused(&a, &["maintenance", "on", "nothing"]).contains("there is no group nothing"));
    assert!(a.stop().success());
    let a = gateway.start(RouterId::A);
    a.wait_for_state("gateway", "backup");
    let group = a.group("gateway");
    assert_eq!(group["maintenance"], maintained[0]["since"]);
    assert!(text(&group["reason"]).contains("in maintenance since"), "{group}");
    assert_eq!(a.virtual_router("gateway")["state"], "initialize");
    a.ask(&["maintenance", "off"]);
    assert_eq!(a.group("gateway")["maintenance"], Value::Null);
    // The higher priority counts again.
    a.wait_for_state("gateway", "master");
    b.wait_for_state("gateway", "backup");
    survived(&traffic, "maintenance and back", begin);
}

#[test]
fn a_daemon_that_is_stopped_hands_over() {
    let gateway = Gateway::new("cache");
    let (mut a, b) = gateway.pair();
    let traffic = gateway.traffic();
    wait_until_told(&a);
    let begin = Instant::now();
    assert!(a.stop().success());
    b.wait_for_state("gateway", "master");
    survived(&traffic, "SIGTERM", begin);
    assert!(a.log().contains("handed over"), "it waited for the other to serve");
}

#[test]
fn a_daemon_that_is_stopped_twice_ends_at_once() {
    let gateway = Gateway::new("cache");
    let (mut a, mut b) = gateway.pair();
    wait_until_told(&a);
    b.process().signal(Signal::SIGSTOP).expect("it can be stopped");
    a.process().signal(Signal::SIGTERM).expect("it can be signalled");
    wait::until("it hands over", || !a.group("gateway")["step"].is_null());
    assert!(a.stop().success());
    b.process().signal(Signal::SIGCONT).expect("it can go on");
    b.wait_for_state("gateway", "master");
}

#[test]
fn a_successor_is_heard_whatever_family_and_mac_address_it_serves_with() {
    let with_mac = |setting: Setting| Setting { virtual_mac: true, ..setting };
    let (v4, v6) = (Setting::version_3, Setting::version_3_ipv6);
    for setting in [v6(), with_mac(v4()), with_mac(v6())] {
        let mut segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
        let better = setting.clone().priority(110);
        segment.start_master(0, &better);
        segment.start_backup(1, &setting);
        for from in [0, 1] {
            let daemon = segment.router(from).lockstep().expect("it runs Lockstep");
            let switched = daemon.ask(&["switchover", "gateway", "--force"]);
            eprintln!("{switched}");
            assert_eq!(switched["announced"], true, "{switched}");
            segment.wait_for_only_master(1 - from);
        }
        let entered: Vec<usize> =
            segment.locksteps().map(|(_, daemon)| daemon.journal("gateway").len()).collect();
        assert_eq!(entered, [4, 3], "nothing else has moved");
    }
}

#[test]
fn members_come_to_a_pair_and_leave_it_without_a_lost_connection() {
    let more = "[vrrp.more]\ninterface = \"eth1\"\nvrid = 77\nstartup-limit = \"0s\"\n\
                addresses = [\"10.77.0.1/24\"]\n[group.gateway]\nvirtual-routers = [\"inside\", \"more\"]\n";
    let gateway = Gateway::new("cache");
    let file = |id, grouped: bool| {
        let file = gateway.config(id).replace("[vrrp.gateway]", "[vrrp.inside]");
        let alone = "[group.gateway]\nvirtual-routers = [\"inside\"]\n";
        format!("{file}\n{}", if grouped { more } else { alone })
    };
    let start = |id| {
        let node = gateway.lab.router(id).expect("the router is on");
        Lockstep::start(node, &file(id, false))
    };
    let a = start(RouterId::A);
    a.wait_for_state("gateway", "master");
    let b = start(RouterId::B);
    b.wait_for_state("gateway", "backup");
    let traffic = gateway.traffic();
    wait_until_told(&a);
    let begin = Instant::now();
    for grouped in [true, false, true] {
        for (daemon, id) in [(&b, RouterId::B), (&a, RouterId::A)] {
            daemon.take(&file(id, grouped));
        }
        wait::until("the master is master of it", || {
            let status = a.status();
            let routers = status["virtual-routers"].as_array().expect("a list");
            let states: Vec<_> = routers.iter().map(|one| one["state"].clone()).collect();
            states == if grouped { &["master", "master"][..] } else { &["master"][..] }
        });
    }
    survived(&traffic, "members", begin);
    assert_eq!((a.journal("gateway").len(), b.journal("gateway").len()), (2, 1));
    // A takeover moves all of them.
    switch(&a, &b);
    survived(&traffic, "members and a hand-over", begin);
    for daemon in [&a, &b] {
        let expected = if daemon.state("gateway") == "master" { "master" } else { "backup" };
        for name in ["inside", "more"] {
            assert_eq!(daemon.virtual_router(name)["state"], expected, "{name}");
        }
    }
}

#[test]
fn a_group_that_begins_anew_hands_its_connections_over_first() {
    let gateway = Gateway::new("cache");
    let (a, b) = gateway.pair();
    let traffic = gateway.traffic();
    wait_until_told(&a);
    let begin = Instant::now();
    // While nobody else claims anything: both would have the addresses.
    let file = gateway.config(RouterId::A);
    a.ask(&["maintenance", "on", "gateway"]);
    b.wait_for_state("gateway", "master");
    a.take(&file.replace("vrid = 51", "vrid = 52"));
    assert_eq!(a.state("gateway"), "backup");
    a.take(&file);
    a.ask(&["maintenance", "off"]);
    a.wait_for_state("gateway", "master");
    survived(&traffic, "another identity in maintenance", begin);
    wait_until_told(&a);
    // The group hands over as at the end of the daemon.
    let begin = Instant::now();
    a.take(
        &file.replace("vrid = 51", "vrid = 51\nadvertise-from = \"interface\"\nvirtual-mac = true"),
    );
    let stopped = a.journal("gateway").into_iter().rfind(|entry| entry["to"] == "stopped");
    let stopped = stopped.expect("it has stopped");
    let steps = stopped["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["step"] == "peer serves"), "{stopped}");
    a.wait_for_state("gateway", "master");
    b.wait_for_state("gateway", "backup");
    survived(&traffic, "another identity", begin);
}

#[test]
fn beside_keepalived_a_switchover_needs_force_and_works() {
    for setting in [Setting::version_2(), Setting::version_3()] {
        let mut segment = Segment::new(&[Program::Lockstep, Program::Keepalived]);
        segment.start_master(0, &setting.priority(110));
        segment.start_backup(1, &setting);
        let daemon = segment.router(0).lockstep().expect("it runs Lockstep");
        let why = refused(daemon, &["switchover", "gateway"]);
        assert!(why.contains("not replicated") && why.contains("--force"), "{why}");
        let switched = daemon.ask(&["switchover", "gateway", "--force"]);
        eprintln!("{switched}");
        assert_eq!(switched["announced"], true, "{switched}");
        assert_eq!(daemon.state("gateway"), "backup");
        segment.wait_for_only_master(1);
        segment.wait_for_masters("ab");
    }
}
