//! What an operator tells systemd to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lockstep_tests::pair::Pair;
use lockstep_tests::systemd::Machine;
use lockstep_tests::wait;

use super::{config, master};

/// Hooks that write down what they do; the one of a master takes its time until it is told to go on.
const HOOK: &str = "#!/bin/sh\ncd /var/lib/lockstep\necho \"begin $1\" >>lines\n\
    [ \"$1\" != master ] || until [ -e go ]; do sleep 0.05; done\necho \"end $1\" >>lines\n";

fn notify() -> String {
    let states = ["master", "backup", "fault", "stop"];
    let hooks = states.map(|state| format!("{state} = [\"/etc/lockstep/hook\", \"{state}\"]\n"));
    format!("[group.gateway.notify]\n{}", hooks.concat())
}

fn lines(machine: &Machine) -> Vec<String> {
    machine.read("/var/lib/lockstep/lines").lines().map(str::to_owned).collect()
}

#[test]
fn a_restart_lets_a_running_hook_be_and_a_stop_runs_the_stop_hooks_and_leaves_nothing() {
    let pair = Pair::new();
    let machine = Machine::boot(&pair.ours);
    machine.configure(&config(&notify()));
    fs::write(machine.path("/etc/lockstep/hook"), HOOK).expect("a hook");
    fs::set_permissions(machine.path("/etc/lockstep/hook"), PermissionsExt::from_mode(0o755))
        .expect("its mode");
    machine.start_service();
    wait::until("the master's hook runs", || lines(&machine).ends_with(&["begin master".into()]));

    machine.systemctl(&["restart", "lockstep"]);
    assert_eq!(lines(&machine).last().expect("a line"), "begin master", "it runs on");
    fs::write(machine.path("/var/lib/lockstep/go"), "").expect("the sign to go on");
    wait::until("it has ended, and the next ones have run", || {
        let lines = lines(&machine);
        lines.iter().filter(|line| *line == "end master").count() == 2
    });
    let lines_now = lines(&machine);
    for step in lines_now.chunks(2) {
        assert_eq!(step[0].replace("begin", "end"), step[1], "one at a time: {lines_now:?}");
    }

    machine.systemctl(&["stop", "lockstep"]);
    assert!(!Pair::has_virtual_address(&pair.ours));
    assert_eq!(lines(&machine).last().expect("a line"), "end stop");
    let states = ["ActiveState", "Result"].map(|name| machine.property(name));
    assert_eq!(states, ["inactive", "success"]);
    assert!(!machine.path("/run/lockstep").exists());
}

#[test]
fn a_reload_takes_effect_before_it_returns_and_a_bad_file_changes_nothing() {
    let pair = Pair::new();
    let machine = master(&pair.ours, &config(""));
    let has = |address: &str| {
        let addresses = pair.ours.addresses("eth0").expect("its addresses");
        addresses.iter().any(|there| there.to_string() == address)
    };
    let transitions = machine.lockstep().journal("gateway").len();
    let more = config("").replace("\"10.51.0.1/24\"", "\"10.51.0.1/24\", \"10.51.0.2/24\"");
    machine.configure(&more);
    machine.systemctl(&["reload", "lockstep"]);
    wait::until("the address is there", || has("10.51.0.2/24"));

    machine.configure("nonsense");
    let refused = machine.run(&["systemctl", "reload", "lockstep"]);
    assert!(!refused.status.success(), "{refused:?}");
    assert_eq!(machine.property("ActiveState"), "active");
    assert!(has("10.51.0.2/24") && has("10.51.0.1/24"));

    machine.configure(&config(""));
    machine.systemctl(&["kill", "--kill-whom=main", "--signal=HUP", "lockstep"]);
    wait::until("a signal does the same", || !has("10.51.0.2/24"));
    wait::until("and systemd knows that it is over", || {
        machine.property("ActiveState") == "active" && machine.property("SubState") == "running"
    });
    assert_eq!(machine.lockstep().journal("gateway").len(), transitions);
    assert_eq!(machine.property("NRestarts"), "0");
}

#[test]
fn a_bad_configuration_fails_the_start_with_its_reason() {
    let pair = Pair::new();
    let machine = Machine::boot(&pair.ours);
    machine.install("lockstep.service", "lockstep.service");
    machine.configure("nonsense");
    assert!(!machine.run(&["systemctl", "start", "lockstep"]).status.success());
    assert_eq!(machine.property("ActiveState"), "failed");
    assert_eq!(machine.property("ExecMainStatus"), "78");
    assert!(machine.journal().contains("/etc/lockstep/lockstep.toml"));
}
