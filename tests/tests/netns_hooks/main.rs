//! Notify hooks on a flapping router: one at a time, in order, the newest state last; across lives of
//! the daemon, as keepalived calls them, and with scripts as operators have them.

mod beside_keepalived;
mod operators;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lockstep_tests::daemon::{Lockstep, binary, text};
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
    assert_one_at_a_time(&lines);
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

#[test]
fn a_hook_left_by_a_killed_daemon_is_not_run_beside_the_next_ones() {
    let pair = Pair::new();
    let recorder =
        Recorder::new("[ \"$1\" != --master ] || until [ -e \"$0.go\" ]; do sleep 0.05; done");
    let mut first = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    wait::until("the master hook has begun", || {
        recorder.lines().last().is_some_and(|line| line == "begin --master")
    });
    first.kill();

    let state = first.directory().join("state");
    let settings = config(&recorder.notify())
        .replace("[router]", &format!("[router]\nstate-directory = \"{}\"", state.display()));
    let second = Lockstep::start(&pair.ours, &settings);
    second.wait_for_state("gateway", "master");
    let shown = second.status()["hooks"][0].clone();
    assert!(text(&shown["result"]).starts_with("left by an earlier life"), "{shown}");
    assert_eq!((text(&shown["group"]), text(&shown["state"])), ("gateway".into(), "master".into()));
    assert_eq!(recorder.lines().last().map(String::as_str), Some("begin --master"));
    fs::write(recorder.file("hook.go"), "").expect("the sign to go on");
    wait::until("the next life's hook has run", || recorder.lines().len() == 6);

    let lines = recorder.lines();
    assert_eq!(lines[2..], ["begin --master", "end --master", "begin --master", "end --master"]);
}

#[test]
fn a_hook_that_outlasts_a_stop_is_left_alone_and_waited_for_by_the_next_daemon() {
    let pair = Pair::new();
    let recorder =
        Recorder::new("[ \"$1\" != --master ] || until [ -e \"$0.go\" ]; do sleep 0.05; done");
    let mut first = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    wait::until("the master hook has begun", || {
        recorder.lines().last().is_some_and(|line| line == "begin --master")
    });
    assert!(first.stop().success());

    let state = first.directory().join("state");
    let settings = config(&recorder.notify())
        .replace("[router]", &format!("[router]\nstate-directory = \"{}\"", state.display()));
    let second = Lockstep::start(&pair.ours, &settings);
    second.wait_for_state("gateway", "backup");
    fs::write(recorder.file("hook.go"), "").expect("the sign to go on");
    second.wait_for_state("gateway", "master");
    wait::until("the newest hook has ended", || {
        let lines = recorder.lines();
        lines.len() >= 6 && lines.last().is_some_and(|line| line == "end --master")
    });
    assert_one_at_a_time(&recorder.lines());
}

#[test]
fn a_hook_that_matters_and_fails_is_a_fault_of_the_group() {
    let pair = Pair::new();
    let recorder = Recorder::new("[ \"$1\" != --master ] || { echo no dnsmasq here; exit 3; }");
    let notify = format!("{}\non-failure = \"fault\"\n", recorder.notify());
    let lockstep = Lockstep::start(&pair.ours, &config(&notify));
    let entry = wait::some("the group falls into fault", || {
        lockstep.journal("gateway").into_iter().find(|entry| entry["to"] == "fault")
    });
    let reason = text(&entry["reason"]);
    assert!(reason.contains("--master failed: exit status 3: no dnsmasq here"), "{reason}");
    assert!(reason.ends_with("tries again after 5 s"), "{reason}");
    assert!(!Pair::has_virtual_address(&pair.ours), "it does not serve");
    wait::until("it tries again", || {
        lockstep.journal("gateway").iter().filter(|entry| entry["to"] == "master").count() > 1
    });
}

#[test]
fn a_script_that_others_could_write_to_is_refused_with_the_reason() {
    let pair = Pair::new();
    let recorder = Recorder::new("true");
    fs::set_permissions(recorder.file("hook"), fs::Permissions::from_mode(0o777)).expect("a mode");
    let lockstep = Lockstep::start(&pair.ours, &config(&recorder.notify()));
    let hook = wait::some("the refusal is in the status", || {
        let hooks = lockstep.status()["hooks"].clone();
        let hooks = hooks.as_array().expect("a list").clone();
        hooks.into_iter().find(|hook| text(&hook["result"]).starts_with("not started"))
    });
    assert!(text(&hook["result"]).ends_with("is writable by everybody (mode 0777)"), "{hook}");
    assert!(lockstep.log().contains("`backup` cannot be run"), "it is said at the start");
    assert!(recorder.lines().is_empty());
    let file = lockstep.directory().join("lockstep.toml");
    let check = Command::new(binary()).arg("check").arg(&file).output().expect("it runs");
    assert_eq!(check.status.code(), Some(78), "{check:?}");

    fs::set_permissions(recorder.file("hook"), fs::Permissions::from_mode(0o755)).expect("a mode");
    lockstep.wait_for_state("gateway", "master");
    wait::until("a later hook is judged anew", || {
        pair.ours.set_link("eth0", false).expect("the interface goes down");
        pair.ours.set_link("eth0", true).expect("the interface comes back");
        !recorder.lines().is_empty()
    });
}

/// One hook ends before the next begins.
fn assert_one_at_a_time(lines: &[String]) {
    for pair in lines.chunks(2) {
        let state = pair[0].strip_prefix("begin ").unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(pair.get(1), Some(&format!("end {state}")), "one at a time: {lines:?}");
    }
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
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
        write_script(&script, &text);
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
