//! What the command line says, where it says it, and its exit status.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;

use lockstep_lab::{Firewall, Lab, Node};
use lockstep_tests::daemon::binary;
use lockstep_tests::wait;
use serde_json::Value;
use snapbox::{assert_data_eq, str};
use tempfile::TempDir;

/// A directory with files, in which commands run.
struct Place(TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        for (name, text) in files {
            fs::write(directory.path().join(name), text).expect("a file");
        }
        Self(directory)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.0.path()).env_remove("LOCKSTEP_LOG");
        command
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("an exit status")
}

const GOOD: &str = r#"
[router]
id = "r-17-VM"

[check.heartbeat]
command = ["true"]
interval = "5s"

[vrrp.inside]
interface = "eth0"
vrid = 51
addresses = ["10.1.1.1/24"]
checks = ["heartbeat"]

[group.gateway]
virtual-routers = ["inside"]

[[route]]
to = "10.2.0.0/16"
via = "10.1.1.254"
"#;

const BAD: &str = r#"[vrrp.inside]
interface = "eth0"
vrid = 0
adresses = ["10.1.1.1/24"]

[group.gateway]
virtual-routers = ["outside"]
"#;

#[test]
fn check_says_that_a_good_file_is_good() {
    let place = Place::new(&[("lockstep.toml", GOOD)]);
    let output = place.run(&["check", "lockstep.toml"]);
    assert_eq!(status(&output), 0, "{output:?}");
    assert_data_eq!(
        stdout(&output),
        str![[r"
lockstep.toml: no errors, 1 virtual router, 1 group, 1 check, 1 route

"]]
    );
    assert_eq!(stderr(&output), "");
}

#[test]
fn check_shows_all_problems_at_once_with_line_and_column() {
    let place = Place::new(&[("lockstep.toml", BAD)]);
    let output = place.run(&["check", "lockstep.toml"]);
    assert_eq!(status(&output), 78);
    assert_eq!(stdout(&output), "");
    assert_data_eq!(
        stderr(&output),
        str![[r#"
error: 0 is out of range
 --> lockstep.toml:3:8
  |
3 | vrid = 0
...
error: unknown key `adresses`[..]
 --> lockstep.toml:4:1
...
help: did you mean `addresses`?

error: unknown virtual router "outside"
 --> lockstep.toml:7:20
...
"#]]
    );
}

#[test]
fn run_refuses_a_bad_configuration_like_check() {
    let place = Place::new(&[("lockstep.toml", BAD)]);
    let check = place.run(&["check", "lockstep.toml"]);
    let run = place.run(&["run", "--config", "lockstep.toml", "--socket", "socket"]);
    assert_eq!(status(&run), 78);
    assert_eq!(stderr(&run), stderr(&check));
    assert!(!place.0.path().join("socket").exists());
}

#[test]
fn check_of_a_file_that_is_not_there_is_one_line() {
    let output = Place::new(&[]).run(&["check", "lockstep.toml"]);
    assert_eq!(status(&output), 1);
    assert_data_eq!(
        stderr(&output),
        str![[r"
lockstep: cannot read lockstep.toml: No such file or directory (os error 2)

"]]
    );
}

#[test]
fn a_password_file_that_others_may_read_is_a_problem_of_the_configuration() {
    let place = Place::new(&[("password", "9YasrrhZ\n")]);
    let password = place.0.path().join("password");
    let authentication =
        format!("authentication = {{ type = \"pass\", password-file = {password:?} }}");
    let text = GOOD.replace("vrid = 51", &format!("vrid = 51\nversion = 2\n{authentication}"));
    fs::write(place.0.path().join("lockstep.toml"), text).expect("a file");
    let check = |mode| {
        fs::set_permissions(&password, fs::Permissions::from_mode(mode)).expect("chmod");
        place.run(&["check", "lockstep.toml"])
    };
    let open = check(0o644);
    assert_eq!(status(&open), 78);
    assert!(stderr(&open).contains("others may use it (mode 0644)"), "{}", stderr(&open));
    assert!(!stderr(&open).contains("9Yas"), "the secret is shown");
    let closed = check(0o600);
    assert_eq!(status(&closed), 0, "{closed:?}");
}

#[test]
fn a_call_that_is_not_understood_is_a_usage_error() {
    let place = Place::new(&[]);
    for arguments in [
        &["frobnicate"][..],
        &[],
        &["check"],
        &["status", "--frobnicate"],
        &["replication"],
        &["replication", "frobnicate"],
        &["conntrack", "list", "--family", "ipx"],
    ] {
        let output = place.run(arguments);
        assert_eq!(status(&output), 2, "{arguments:?}: {output:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        let text = stderr(&output);
        assert!(
            text.contains("Usage: lockstep") || text.starts_with("error: "),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let place = Place::new(&[]);
    let help = place.run(&["--help"]);
    assert_eq!(status(&help), 0);
    assert!(stdout(&help).contains("Usage: lockstep"));
    let version = place.run(&["--version"]);
    assert_eq!(status(&version), 0);
    assert_eq!(stdout(&version), format!("lockstep {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_daemon_every_question_fails_with_one_line() {
    let place = Place::new(&[]);
    for question in [
        &["status"][..],
        &["journal"],
        &["routes"],
        &["replication", "status"],
        &["replication", "statistics"],
    ] {
        for format in [&[][..], &["--json"]] {
            let arguments = [question, format, &["--socket", "nobody"]].concat();
            let output = place.run(&arguments);
            assert_eq!(status(&output), 1, "{arguments:?}");
            assert_eq!(stdout(&output), "", "{arguments:?}");
            assert_eq!(
                stderr(&output),
                "lockstep: no lockstep daemon listens at nobody: No such file or directory (os error 2)\n"
            );
        }
    }
}

#[test]
fn a_log_level_that_is_not_understood_is_one_line() {
    let place = Place::new(&[("lockstep.toml", GOOD)]);
    let output = place.run(&["--log", "lockstep=loud", "check", "lockstep.toml"]);
    assert_eq!(status(&output), 1);
    let text = stderr(&output);
    assert!(text.starts_with("lockstep: bad value \"lockstep=loud\" of --log: "), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::new(&[("lockstep.toml", GOOD)]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = place
        .command(&["check", "lockstep.toml"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
        .wait_with_output()
        .expect("it ends");
    assert_eq!(status(&output), 0);
    assert_eq!(stderr(&output), "");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let place = Place::new(&[("lockstep.toml", GOOD)]);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let output = place
        .command(&["check", "lockstep.toml"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
        .wait_with_output()
        .expect("it ends");
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).starts_with("lockstep: cannot write to standard output: "));
}

/// A host that tracks the packets it sends itself.
fn tracking_host() -> Node {
    let node = Node::new("host").expect("a host");
    Firewall::Default.install(&node, &Lab::nat()).expect("a firewall");
    node
}

/// Sends one datagram to nobody, from a port of its own; the port.
fn send_datagram(node: &Node) -> u16 {
    node.run(|| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.send_to(b"flow", (Ipv4Addr::LOCALHOST, 9)).expect("a datagram");
        socket.local_addr().expect("its address").port()
    })
    .expect("in the host's namespace")
}

fn conntrack(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("conntrack").args(arguments);
    command
}

#[test]
fn conntrack_list_shows_the_kernels_flows_without_a_daemon() {
    let node = tracking_host();
    let port = send_datagram(&node);
    let list = |arguments: &[&str]| {
        let output = node.output(conntrack(arguments)).expect("the binary runs");
        assert_eq!(status(&output), 0, "{output:?}");
        stdout(&output)
    };
    let text = list(&["list"]);
    let part = format!("src=127.0.0.1 dst=127.0.0.1 sport={port} dport=9 [UNREPLIED]");
    let line = text.lines().find(|line| line.contains(&part));
    assert!(line.is_some_and(|line| line.starts_with("udp      17 ")), "{text}");

    let json: Value = serde_json::from_str(&list(&["list", "--json"])).expect("JSON");
    let flows = json.as_array().expect("a list");
    let flow = flows.iter().find(|flow| flow["orig"]["source-port"] == port);
    assert_eq!(flow.expect("our flow")["orig"]["destination"], "127.0.0.1");

    assert_eq!(list(&["list", "--family", "ipv6"]), "");
    assert_eq!(list(&["list", "--family", "ipv6", "--json"]), "[]\n");
}

#[test]
fn conntrack_events_shows_flows_as_they_are_made() {
    let node = tracking_host();
    for arguments in [&["events"][..], &["events", "--json"]] {
        let mut command = conntrack(arguments);
        command.stdout(Stdio::piped());
        let mut process = node.start(command).expect("the binary runs");
        let output = process.child().stdout.take().expect("its output");
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let first = wait::some("an event of a new flow", || {
            // Sent again and again, since nobody can see from outside when it listens.
            send_datagram(&node);
            lines.try_recv().ok()
        });
        if arguments.contains(&"--json") {
            let event: Value = serde_json::from_str(&first).expect("one event a line");
            assert_eq!(event["event"], "new", "{first}");
            assert_eq!(event["orig"]["destination-port"], 9, "{first}");
        } else {
            assert!(first.starts_with("    [NEW] udp"), "{first}");
            assert!(first.contains("dport=9"), "{first}");
        }
        process.kill().expect("it ends");
        reader.join().expect("the reader");
    }
}
