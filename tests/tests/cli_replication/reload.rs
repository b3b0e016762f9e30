//! Settings of replication change while flows are replicated: all that the file says, or nothing.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use lockstep_lab::{Node, Process};
use lockstep_tests::conntrackd::{conntrack, insert_flows};
use lockstep_tests::daemon::binary;
use lockstep_tests::wait;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::two::{FLOWS, Two, alone, configuration, replication, status, stderr, stdout};

/// Leaves out the flows that the master has from the start.
const FILTER: &str = "[replication.filter]\nignore-addresses = [\"10.10.0.0/16\"]\n";

/// With the filter, and with these settings of replication.
fn filtered(settings: &str) -> String {
    let before = "protocol = \"conntrackd\"\n";
    let text = configuration(150).replace(before, &format!("{before}{settings}"));
    text + FILTER
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
    assert_eq!(two.master.take(&filtered("")), "replication.filter is in force\n");
    two.wait_for_external(0);

    insert_flows(&two.master_node, 20_000, 5);
    another_flow_arrives(&two, 1, 1);
    assert_eq!(replication(&two.master)["internal"], 1, "the others are left out");

    two.master.configure(&configuration(150));
    let told = two.master.ask(&["reload"]);
    assert_eq!(told["changed"], serde_json::json!(["replication.filter"]), "{told}");
    assert_eq!(replication(&two.master)["internal"], FLOWS + 6, "read when the answer comes");
    two.wait_for_external(FLOWS + 6);
    let said = two.master.take(&configuration(150));
    assert_eq!(said, "the configuration is in force already\n");
    two.wait_for_sync();
    assert_eq!(two.master.state("gateway"), "master");
}

#[test]
fn limits_buffers_and_times_change_together() {
    let two = Two::new();
    let settings = "ack-window = 10\nresend-queue = 100\ncache-limit = 1000\ncommit-timeout = \"9s\"\n\
                    event-buffer = 65536\nevent-buffer-limit = 131072\nexpectations = false\n";
    two.master.configure(&filtered(settings));
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
    two.master.configure(&filtered("cache-limit = 0\nmode = \"fast\"\n"));
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
    two.master.configure(&other);
    let output = two.master.command(&["reload"]);
    assert_eq!((status(&output), stdout(&output).as_str()), (1, ""), "{output:?}");
    assert_eq!(
        stderr(&output),
        "lockstep: nothing is changed; a restart is needed for: replication.standby\n"
    );
    assert_eq!(two.master.ask(&["status"])["virtual-routers"][0]["vrid"], 51);
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
        two.master.configure(text);
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

/// systemd in a namespace of the test's own: it hears what the daemon has to say.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
    process: Process,
}

impl Manager {
    fn start(node: &Node) -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("lockstep.toml"), configuration(150)).expect("a configuration");
        let socket = UnixDatagram::bind(path("notify")).expect("a socket");
        socket.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).arg("run");
        command.arg("--config").arg(path("lockstep.toml")).arg("--socket").arg(path("socket"));
        command.env("NOTIFY_SOCKET", path("notify"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = node.start(command).expect("setpriv can be started");
        Self { socket, directory, process }
    }

    fn configure(&self, text: &str) {
        fs::write(self.directory.path().join("lockstep.toml"), text).expect("a configuration");
    }

    /// The exit status of `lockstep reload`.
    fn reload(&self) -> i32 {
        let mut command = Command::new(binary());
        command.arg("reload").arg("--socket").arg(self.directory.path().join("socket"));
        status(&command.output().expect("the binary runs"))
    }

    #[track_caller]
    fn hear(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.socket.recv(&mut bytes).expect("the daemon says something");
        String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned()
    }

    /// `Type=notify-reload` wants both, with the moment at which the reload began.
    #[track_caller]
    fn hear_of_a_reload(&self) {
        let beginning = self.hear();
        let moment = beginning.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let moment = moment.unwrap_or_else(|| panic!("it begins with {beginning:?}"));
        assert!(moment.parse::<u64>().is_ok_and(|moment| moment > 0), "{beginning:?}");
        assert_eq!(self.hear(), "READY=1");
    }
}

#[test]
fn the_service_manager_hears_when_a_reload_begins_and_when_it_is_over() {
    let (mut daemon, node, _lan) = alone();
    assert!(daemon.stop().success());
    let mut manager = Manager::start(&node);
    assert_eq!(manager.hear(), "READY=1");

    assert_eq!(manager.reload(), 0, "nothing has changed");
    manager.hear_of_a_reload();
    manager.configure(&filtered("cache-limit = 900\n"));
    assert_eq!(manager.reload(), 0, "settings change");
    manager.hear_of_a_reload();
    manager.configure("this is no configuration");
    assert_eq!(manager.reload(), 78, "the file has errors");
    manager.hear_of_a_reload();
    manager.process.signal(Signal::SIGHUP).expect("it can be signalled");
    manager.hear_of_a_reload();

    manager.process.signal(Signal::SIGTERM).expect("it can be signalled");
    assert_eq!(manager.hear(), "STOPPING=1");
    let ended = manager.process.wait(wait::PATIENCE).expect("it can be waited for");
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
}
