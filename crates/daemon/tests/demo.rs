//! `lockstep demo` from end to end, as root and as an ordinary user.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// `nobody` on most systems; any other ordinary user would do.
const ORDINARY_USER: u32 = 65534;

#[test]
fn every_connection_survives_a_power_cut_and_the_return_of_the_router() {
    let Some(report) = run(&["--failure", "kill", "--failback"], None) else { return };
    assert_eq!(report["firewall"], "strict");
    assert_survived(&report, &[("failover", "B"), ("failback", "A")]);
    let failover = &report["events"][0];
    assert_ne!(failover["outage"]["lost"], 0, "a power cut is noticed only by silence");
    let steps: Vec<_> = failover["steps"].as_array().unwrap().iter().collect();
    let position = |name| steps.iter().position(|step| step["step"] == name).unwrap();
    assert!(position("commit flows") < position("addresses"), "{steps:?}");
}

#[test]
fn every_connection_survives_a_stop_and_the_return_of_the_router_for_an_ordinary_user() {
    let arguments = ["--failure", "stop", "--failback", "--firewall", "default"];
    let Some(report) = run(&arguments, Some(ORDINARY_USER)) else { return };
    assert_eq!(report["firewall"], "default");
    assert_survived(&report, &[("failover", "B"), ("failback", "A")]);
}

#[test]
fn a_router_that_returns_with_its_old_flows_waits_and_then_serves_the_newer_ones() {
    // Slow enough and with flows enough that its own table is read again before it takes over.
    let arguments = ["--failure", "stop", "--failback", "--advertisement-interval", "1s"];
    let arguments = [&arguments[..], &["--flows", "10000"]].concat();
    let Some(report) = run(&arguments, None) else { return };
    assert_survived(&report, &[("failover", "B"), ("failback", "A")]);
}

#[test]
fn every_connection_survives_a_pulled_cable_and_a_failed_check() {
    for failure in ["link", "check"] {
        let Some(report) = run(&["--failure", failure], None) else { return };
        assert_survived(&report, &[("failover", "B")]);
    }
}

#[test]
fn flows_that_do_not_fit_the_kernel_are_refused_with_the_number_that_does() {
    if !may_make_networks() {
        return;
    }
    let output = demo(&["--flows", "4000000000"], None);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("4000000000 flows do not fit"), "{message}");
    assert!(message.contains("nf_conntrack_max"), "{message}");
}

#[test]
fn an_impossible_interval_is_a_usage_error() {
    let output = demo(&["--advertisement-interval", "5ms"], None);
    assert_eq!(output.status.code(), Some(2));
}

fn assert_survived(report: &Value, changes: &[(&str, &str)]) {
    assert_eq!(report["survived"], true, "{report:#}");
    let events = report["events"].as_array().expect("a list");
    assert_eq!(events.len(), changes.len());
    for (event, (change, master)) in events.iter().zip(changes) {
        assert_eq!((&event["change"], &event["master"]), (&(*change).into(), &(*master).into()));
        assert_eq!(event["connections"]["alive"], 20, "{event:#}");
        assert_eq!(event["flows-carried"], report["flows"], "{event:#}");
    }
}

/// Runs the demo to its verdict; `None`, with a word about it, where networks cannot be made.
fn run(arguments: &[&str], user: Option<u32>) -> Option<Value> {
    if !may_make_networks() {
        return None;
    }
    // Slower than the default, so that a loaded machine does not look like a dead router.
    let usual =
        [["--connections", "20"], ["--flows", "2000"], ["--advertisement-interval", "300ms"]];
    let usual = usual.iter().filter(|usual| !arguments.contains(&usual[0])).flatten().copied();
    let arguments: Vec<_> = ["--json"].into_iter().chain(usual).chain(arguments.to_vec()).collect();
    let output = demo(&arguments, user);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}{}", String::from_utf8_lossy(&output.stdout));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn demo(arguments: &[&str], user: Option<u32>) -> Output {
    let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) else {
        return command(Path::new(env!("CARGO_BIN_EXE_lockstep")), arguments)
            .output()
            .expect("it starts");
    };
    // An ordinary user may not reach the directory of the build.
    let directory = tempfile::tempdir().expect("a directory");
    let program = directory.path().join("lockstep");
    fs::copy(env!("CARGO_BIN_EXE_lockstep"), &program).expect("a copy");
    for path in [directory.path(), &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    loop {
        match command(&program, arguments).uid(user).gid(user).output() {
            Ok(output) => return output,
            // A user namespace with one user has nobody else; then the user it stands for is meant.
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                return command(&program, arguments).output().expect("it starts");
            }
            // A process started by another test holds the file open for writing until its exec.
            Err(error) => assert_eq!(error.kind(), ErrorKind::ExecutableFileBusy),
        }
    }
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.arg("demo").args(arguments).current_dir("/");
    command
}

fn may_make_networks() -> bool {
    let ability = lockstep_lab::available();
    let forbidden = ability.is_err() && nix::unistd::geteuid().is_root();
    if forbidden {
        eprintln!("skipped: no network namespaces here: {ability:?}");
    }
    !forbidden
}
