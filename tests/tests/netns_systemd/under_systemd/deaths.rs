//! Whatever is killed or hangs, the service comes back, and no address stays that nobody serves.

use lockstep_tests::pair::Pair;
use lockstep_tests::systemd::Machine;
use lockstep_tests::wait;
use nix::sys::signal::Signal;

use super::{config, master};

/// Waits until the guard has told systemd of as many workers.
#[track_caller]
fn started_again(machine: &Machine, times: u32) {
    wait::until("systemd knows of it", || {
        machine.property("StatusText").starts_with(&format!("started again {times} times"))
    });
    // It says so when the last one has died: the next does not listen yet.
    machine.lockstep().wait_until_it_answers();
    machine.lockstep().wait_for_state("gateway", "master");
    assert_eq!(
        (machine.property("ActiveState"), machine.property("NRestarts")),
        ("active".into(), "0".into())
    );
}

/// Waits until systemd has started the service once more, and it serves.
#[track_caller]
fn restarted(machine: &Machine, times: u32) {
    wait::until("systemd has started it again", || {
        machine.property("NRestarts") == times.to_string()
            && machine.property("ActiveState") == "active"
    });
    machine.lockstep().wait_for_state("gateway", "master");
}

#[test]
fn a_worker_that_is_killed_or_hangs_is_its_guard_s_affair_and_its_end_is_systemd_s() {
    let pair = Pair::new();
    let machine = master(&pair.ours, &config(""));
    let guard = machine.guard();
    machine.signal(machine.worker().expect("a worker"), Signal::SIGKILL);
    started_again(&machine, 1);
    machine.signal(machine.worker().expect("a worker"), Signal::SIGSTOP);
    started_again(&machine, 2);
    assert!(machine.systemctl(&["status", "lockstep"]).contains("started again 2 times"));
    assert_eq!(machine.guard(), guard);
    let warnings = machine.run(&["journalctl", "--unit=lockstep", "--priority=warning"]).stdout;
    let warnings = String::from_utf8_lossy(&warnings).into_owned();
    assert!(warnings.contains("the daemon has died"), "{warnings}");
    assert!(!warnings.contains("INFO") && !warnings.contains("<4>"), "{warnings}");

    let worker = machine.worker().expect("a worker");
    machine.signal(guard, Signal::SIGKILL);
    restarted(&machine, 1);
    assert!(!std::path::Path::new(&format!("/proc/{worker}")).exists(), "it ended with its guard");
    let journal = machine.lockstep().journal("gateway");
    assert!(journal.iter().any(|entry| entry["from"] == "master"), "it has given up: {journal:?}");
}

#[test]
fn guard_and_worker_killed_together_leave_nothing_and_come_back() {
    let pair = Pair::new();
    let machine = master(&pair.ours, &config(""));
    // A guard that dies first lets its worker hand over.
    let (guard, worker) = (machine.guard(), machine.worker().expect("a worker"));
    machine.signal(guard, Signal::SIGSTOP);
    machine.signal(worker, Signal::SIGKILL);
    machine.signal(guard, Signal::SIGKILL);
    restarted(&machine, 1);
    let journal = machine.journal();
    assert!(journal.contains("remove address 10.51.0.1/24 dev eth0"), "before it is started again");
}

#[test]
fn a_guard_that_hangs_is_ended_by_the_watchdog() {
    let pair = Pair::new();
    let machine = master(&pair.ours, &config(""));
    let guard = machine.guard();
    machine.signal(guard, Signal::SIGSTOP);
    restarted(&machine, 1);
    assert_ne!(machine.guard(), guard);
    assert!(machine.journal().contains("watchdog"));
}

#[test]
fn a_service_whose_configuration_has_become_bad_leaves_nothing_and_is_not_started_again() {
    let pair = Pair::new();
    let machine = master(&pair.ours, &config(""));
    machine.configure("nonsense");
    machine.signal(machine.worker().expect("a worker"), Signal::SIGKILL);
    wait::until("the service has failed", || machine.property("ActiveState") == "failed");
    assert_eq!(machine.property("ExecMainStatus"), "78");
    assert!(!Pair::has_virtual_address(&pair.ours));
    assert_eq!(machine.property("NRestarts"), "0");

    machine.configure(&config(""));
    machine.systemctl(&["start", "lockstep"]);
    machine.lockstep().wait_for_state("gateway", "master");
}
