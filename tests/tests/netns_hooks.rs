//! Notify hooks on a flapping router: one at a time, in order, the newest state last.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use lockstep_tests::daemon::{Lockstep, text};
use lockstep_tests::pair::Pair;
use lockstep_tests::wait;
use tempfile::TempDir;

#[test]
fn flapping_runs_hooks_one_at_a_time_and_the_newest_state_last() {
    let pair = Pair::new();
    let recorder = Recorder::new("sleep 0.2");
    let lockstep = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    wait::until("the first hook runs", || !recorder.lines().is_empty());

    for _ in 0..12 {
        pair.ours.set_link("eth0", false).expect("the interface goes down");
        lockstep.wait_for_state("gateway", "fault");
        pair.ours.set_link("eth0", true).expect("the interface comes back");
        wait::until("the group is fit again", || lockstep.state("gateway") != "fault");
    }
    lockstep.wait_for_state("gateway", "master");
    wait::until("the master hook has ended", || {
        recorder.lines().last().is_some_and(|line| line == "end --master")
    });
    wait::throughout(Duration::from_secs(1), "nothing runs after the newest state's hook", || {
        recorder.lines().last().is_some_and(|line| line == "end --master")
    });

    let lines = recorder.lines();
    for pair in lines.chunks(2) {
        let state = pair[0].strip_prefix("begin ").unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(pair[1], format!("end {state}"), "one ends before the next begins: {lines:?}");
    }
    let begun: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("begin ")).collect();
    assert_eq!(begun[0], "--backup", "the first state is backup");
    assert!(begun.windows(2).all(|pair| pair[0] != pair[1]), "no state is told twice: {begun:?}");
    let entered: Vec<String> = lockstep
        .journal("gateway")
        .iter()
        .map(|entry| format!("--{}", text(&entry["to"])))
        .collect();
    let mut states = entered.iter();
    assert!(
        begun.iter().all(|state| states.any(|entered| entered == state)),
        "in the order of the transitions: {begun:?} of {entered:?}"
    );
}

#[test]
fn a_hook_is_told_its_state_in_arguments_and_environment() {
    let pair = Pair::new();
    let recorder = Recorder::new("env | grep ^LOCKSTEP_ | sort >>\"$0.environment\"");
    let lockstep = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    lockstep.wait_for_state("gateway", "master");
    wait::until("the master hook has ended", || {
        recorder.lines() == ["begin --backup", "end --backup", "begin --master", "end --master"]
    });

    let environment =
        fs::read_to_string(recorder.file("hook.environment")).expect("it was written");
    for variable in [
        "LOCKSTEP_ROUTER=ours",
        "LOCKSTEP_GROUP=gateway",
        "LOCKSTEP_STATE=backup",
        "LOCKSTEP_STATE=master",
        "LOCKSTEP_PREVIOUS_STATE=backup",
        "LOCKSTEP_REASON=no advertisement",
    ] {
        assert!(environment.contains(variable), "{variable} is missing in {environment}");
    }
}

#[test]
fn when_a_master_hook_runs_its_address_is_there() {
    let pair = Pair::new();
    let recorder = Recorder::new("ip -o -4 address show dev eth0 >\"$0.addresses$1\"");
    let lockstep = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    lockstep.wait_for_state("gateway", "master");
    wait::until("the master hook has ended", || {
        recorder.lines().last().is_some_and(|line| line == "end --master")
    });

    let seen_by = |hook: &str| {
        fs::read_to_string(recorder.file(&format!("hook.addresses--{hook}")))
            .expect("it was written")
    };
    assert!(seen_by("master").contains("10.51.0.1/24"), "{}", seen_by("master"));
    assert!(!seen_by("backup").contains("10.51.0.1/24"), "{}", seen_by("backup"));
}

#[test]
fn a_hook_that_hangs_is_ended_and_the_next_one_runs() {
    let pair = Pair::new();
    let recorder = Recorder::new("[ \"$1\" = --master ] || exec sleep 600");
    let notify = format!("{}\ntimeout = \"500ms\"\n", recorder.notify());
    let lockstep = Lockstep::start(&pair.ours, &config(&notify));
    lockstep.wait_for_state("gateway", "master");

    wait::until("the master hook has run after the hanging one", || {
        recorder.lines() == ["begin --backup", "begin --master", "end --master"]
    });
}

#[test]
fn a_hook_that_fails_is_shown_with_its_status_and_changes_no_state() {
    let pair = Pair::new();
    let recorder = Recorder::new("[ \"$1\" != --master ] || { echo no dnsmasq here >&2; exit 3; }");
    let lockstep = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    lockstep.wait_for_state("gateway", "master");

    let hook = wait::some("the failed hook is in the status", || {
        let status = lockstep.status();
        let hooks = status["hooks"].as_array().expect("a list").clone();
        hooks.into_iter().find(|hook| hook["state"] == "master" && hook["result"] != "running")
    });
    assert!(text(&hook["result"]).contains('3'), "the exit status is told: {hook}");
    assert!(hook["output"].to_string().contains("no dnsmasq here"), "its words are kept: {hook}");
    assert_eq!(lockstep.state("gateway"), "master");
}

#[test]
fn a_hook_that_runs_when_the_daemon_stops_may_finish() {
    let pair = Pair::new();
    let recorder = Recorder::new("[ \"$1\" != --master ] || sleep 1");
    let mut lockstep = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    wait::until("the master hook has begun", || {
        recorder.lines().last().is_some_and(|line| line == "begin --master")
    });

    let status = lockstep.stop();

    assert!(status.success(), "{status}");
    let lines = recorder.lines();
    assert_eq!(lines[2..], ["begin --master", "end --master", "begin --stop", "end --stop"]);
}

/// A script that writes down when it is begun and ended, and with what argument.
struct Recorder {
    directory: TempDir,
}

impl Recorder {
    /// With these lines of shell in between.
    fn new(body: &str) -> Self {
        let recorder = Self { directory: TempDir::new().expect("a directory") };
        let script = recorder.file("hook");
        let log = recorder.file("lines").display().to_string();
        let text =
            format!("#!/bin/sh\necho begin \"$*\" >>{log}\n{body}\necho end \"$*\" >>{log}\n");
        fs::write(&script, text).expect("a script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its mode");
        recorder
    }

    /// The lines of `[group.gateway.notify]`, with the arguments that keepalived's users give.
    fn notify(&self) -> String {
        let script = self.file("hook");
        ["backup", "master", "fault", "stop"]
            .map(|state| format!("{state} = [\"{}\", \"--{state}\"]", script.display()))
            .join("\n")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file("lines")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

fn config(notify: &str) -> String {
    format!(
        r#"
        [router]
        id = "ours"

        [vrrp.inside_network]
        interface = "eth0"
        vrid = 51
        version = 2
        advertisement-interval = "1s"
        addresses = ["10.51.0.1/24"]

        [group.gateway]
        virtual-routers = ["inside_network"]

        [group.gateway.notify]
        {notify}
        "#
    )
}
