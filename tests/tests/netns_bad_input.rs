//! What a stranger or an operator gets wrong: a running daemon counts and goes on, a starting one says one clear line.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::{Lockstep, binary, number, text};
use lockstep_tests::inject::{VrrpBytes, VrrpSender, replication_sender};
use lockstep_tests::pair::{PASSWORD, Pair, THEIRS};
use lockstep_tests::wait;
use nix::sys::signal::Signal;
use tempfile::TempDir;

const GROUP: &str = "225.0.0.50:3780";

#[test]
fn each_kind_of_bad_advertisement_is_counted_and_changes_nothing() {
    let pair = Pair::new();
    let lockstep = Lockstep::start(&pair.ours, &config("eth0", ""));
    lockstep.wait_for_state("gateway", "master");
    let sender = VrrpSender::new(&pair.theirs, THEIRS);
    // Of higher priority: whatever of it were heeded would end our mastership.
    let good = || VrrpBytes::new(51, 200, Ipv4Addr::new(10, 51, 0, 1), PASSWORD);
    let other_password = VrrpBytes::new(51, 200, Ipv4Addr::new(10, 51, 0, 1), "password");
    let mut too_long = good().with(3, 255).0;
    too_long.resize(1400, 0xa5);

    let cases: [(&str, Vec<u8>, u32); 10] = [
        ("packet-length-errors", good().summed()[..7].to_vec(), 255),
        ("packet-length-errors", good().with(3, 2).summed(), 255),
        ("checksum-errors", good().with(6, 0xba).with(7, 0xad).0, 255),
        ("checksum-errors", too_long, 255),
        ("version-errors", good().with(0, 0x71).summed(), 255),
        ("invalid-type-pkts-rcvd", good().with(0, 0x22).summed(), 255),
        ("ip-ttl-errors", good().summed(), 64),
        ("authentication-type-errors", good().with(4, 0).summed(), 255),
        ("authentication-failures", other_password.summed(), 255),
        ("interval-errors", good().with(5, 9).summed(), 255),
    ];
    for (counter, packet, ttl) in cases {
        let before = statistic(&lockstep, counter);
        sender.send(&packet, ttl);
        wait::until(&format!("{counter} counts {packet:02x?}"), || {
            statistic(&lockstep, counter) == before + 1
        });
        assert_eq!(lockstep.state("gateway"), "master", "after {packet:02x?}");
    }

    let rejected = lockstep.virtual_router("gateway")["rejected"].clone();
    let rejected = rejected.as_array().expect("a list");
    assert!(rejected.iter().any(|why| text(why).contains(&THEIRS.to_string())), "{rejected:?}");

    sender.send(&good().summed(), 255);
    lockstep.wait_for_state("gateway", "backup");
}

#[test]
fn a_flood_of_bad_advertisements_neither_silences_the_master_nor_fills_its_log() {
    let pair = Pair::new();
    let lockstep = Lockstep::start(&pair.ours, &config("eth0", ""));
    lockstep.wait_for_state("gateway", "master");
    let lines = |lockstep: &Lockstep| lockstep.log().lines().count();
    let before = lines(&lockstep);

    let spoiled = VrrpBytes::new(51, 200, Ipv4Addr::new(10, 51, 0, 1), PASSWORD).with(6, 1).0;
    let flood = Flood::start(|| {
        let sender = VrrpSender::new(&pair.theirs, THEIRS);
        let spoiled = spoiled.clone();
        move || sender.send(&spoiled, 255)
    });
    wait::until("the flood arrives", || statistic(&lockstep, "checksum-errors") > 1000);
    let advertised = || statistic(&lockstep, "advertisement-sent");
    let first = advertised();
    wait::until("in the middle of it the master advertises and answers", || {
        advertised() >= first + 3
    });
    let flooded = flood.end();

    assert_eq!(lockstep.state("gateway"), "master");
    let grown = lines(&lockstep) - before;
    assert!(grown < 200, "the log grew by {grown} lines in a flood of {flooded} packets");
}

#[test]
fn a_flood_on_the_replication_link_does_not_keep_a_router_from_taking_over() {
    let pair = Pair::new();
    let flood = Flood::start(|| {
        let sender = replication_sender(&pair.theirs, THEIRS);
        let group: SocketAddr = GROUP.parse().expect("an address");
        // Refused by the kernel only when its own buffers are full, which a flood may cause.
        move || drop(sender.send_to(&message(9, NEW, 16, &[0; 8]), group))
    });

    let lockstep = Lockstep::start(&pair.ours, &config("eth0", REPLICATION));
    lockstep.wait_for_state("gateway", "master");
    wait::until("it counts the flood and still answers", || refused(&lockstep) > 1000);
    flood.end();

    for transition in lockstep.journal("gateway") {
        for step in transition["steps"].as_array().expect("steps") {
            assert_eq!(step["outcome"], "done", "in the flood: {transition:#}");
        }
    }
}

#[test]
fn each_kind_of_bad_replication_datagram_is_counted_and_changes_nothing() {
    let pair = Pair::new();
    let lockstep = Lockstep::start(&pair.ours, &config("eth0", REPLICATION));
    lockstep.wait_for_state("gateway", "master");
    let sender = replication_sender(&pair.theirs, THEIRS);
    let group: SocketAddr = GROUP.parse().expect("an address");

    let cases: [(&str, Vec<u8>); 8] = [
        ("one byte", vec![0x10]),
        ("half a header", vec![0x10, 0, 0]),
        ("another version", message(9, NEW, 16, &[0; 8])),
        ("a type that does not exist", message(1, 7, 8, &[])),
        ("a length beyond the datagram", message(1, NEW, 4000, &[0; 8])),
        ("a length shorter than the header", message(1, NEW, 3, &[0; 8])),
        ("a flow whose attributes are noise", message(1, NEW, 72, &[0xff; 64])),
        ("a flow without any attribute", message(1, NEW, 8, &[])),
    ];
    for (sequence, (what, mut datagram)) in (1..).zip(cases) {
        // A number that has been seen would make the message a repeat, which is dropped unread.
        if let Some(place) = datagram.get_mut(7) {
            *place = sequence;
        }
        let before = refused(&lockstep);
        sender.send_to(&datagram, group).expect("a datagram can be sent");
        wait::until(&format!("{what} is counted"), || refused(&lockstep) > before);
    }
    sender.send_to(&[], group).expect("an empty datagram can be sent");
    sender.send_to(&vec![0xff; 60_000], group).expect("a datagram can be sent");
    wait::until("an oversized datagram is counted", || {
        let link = &lockstep.status()["replication"]["links"][0];
        number(&link["statistics"]["datagrams-truncated"]) == 1
    });

    let replication = lockstep.status()["replication"].clone();
    assert_eq!(number(&replication["external"]), 0, "nothing of it was taken for a flow");
    assert_eq!(lockstep.state("gateway"), "master");
}

#[test]
fn an_interface_that_is_missing_is_a_fault_until_it_appears() {
    let lan = Lan::new().expect("a LAN");
    let node = Node::new("ours").expect("a namespace");
    let lockstep = Lockstep::start(&node, &config("eth0", ""));
    lockstep.wait_for_state("gateway", "fault");
    let reason = text(&lockstep.group("gateway")["reason"]);
    assert!(reason.contains("eth0"), "the reason names the interface: {reason}");

    let interface = Interface::new("eth0").address("10.51.0.11/24".parse().expect("an address"));
    node.attach(&lan, &interface).expect("the interface appears");

    lockstep.wait_for_state("gateway", "master");
    assert!(Pair::has_virtual_address(&node));
}

#[test]
fn without_the_privilege_it_says_so_in_one_line() {
    let node = Node::new("ours").expect("a namespace");
    let directory = TempDir::new().expect("a directory");
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]);
    let output = run(&node, command, &directory, &config("eth0", ""));

    assert_eq!(output.status.code(), Some(1));
    let line = only_line(&output);
    assert!(line.contains("CAP_NET_ADMIN") && line.contains("root"), "{line}");
}

#[test]
fn a_port_in_use_is_named_in_one_line() {
    let pair = Pair::new();
    let holder = pair
        .ours
        .run(|| UdpSocket::bind("0.0.0.0:3780"))
        .expect("the node can be entered")
        .expect("the port is free");
    let directory = TempDir::new().expect("a directory");
    let command = Command::new("env");
    let output = run(&pair.ours, command, &directory, &config("eth0", REPLICATION));
    drop(holder);

    assert_eq!(output.status.code(), Some(1));
    let line = only_line(&output);
    assert!(line.contains("3780") && line.contains("in use"), "{line}");
    assert!(!Pair::has_virtual_address(&pair.ours));
}

#[test]
fn a_second_daemon_is_refused_whatever_its_socket_and_the_first_goes_on() {
    let pair = Pair::new();
    let first = Lockstep::start(&pair.ours, &config("eth0", ""));
    first.wait_for_state("gateway", "master");

    for socket in ["socket", "another-socket"] {
        let mut second = Command::new(binary());
        second.arg("run").arg("--config").arg(first.directory().join("lockstep.toml"));
        second.arg("--socket").arg(first.directory().join(socket));
        let output = pair.ours.output(second).expect("the binary runs");

        assert_eq!(output.status.code(), Some(1));
        let line = only_line(&output);
        assert!(line.contains("another lockstep"), "{line}");
        assert_eq!(first.state("gateway"), "master", "the first one still answers");
        assert!(Pair::has_virtual_address(&pair.ours), "and keeps its address");
    }
}

#[test]
fn a_daemon_that_starts_while_the_one_before_ends_waits_for_it() {
    let pair = Pair::new();
    let name = UnixAddress::from_abstract_name("lockstep").expect("a name");
    let ending = pair.ours.run(|| UnixListener::bind_addr(&name)).expect("it runs");
    let ending = ending.expect("nobody else has it");
    let next = Lockstep::launch(&pair.ours, &config("eth0", ""));
    wait::until("it waits", || next.log().contains("waits for the end of another lockstep"));
    drop(ending);
    next.wait_until_it_answers();
    next.wait_for_state("gateway", "master");
}

#[test]
fn a_daemon_can_be_started_straight_after_a_kill() {
    let pair = Pair::new();
    let mut before = Lockstep::start(&pair.ours, &config("eth0", ""));
    before.process().signal(Signal::SIGKILL).expect("it can be signalled");
    let next = Lockstep::start(&pair.ours, &config("eth0", ""));
    next.wait_for_state("gateway", "master");
}

#[test]
fn a_bad_configuration_ends_with_78_and_names_line_and_column() {
    let node = Node::new("ours").expect("a namespace");
    let directory = TempDir::new().expect("a directory");
    let bad = config("eth0", "").replace("priority = 150", "priorty = 150");
    let output = run(&node, Command::new("env"), &directory, &bad);

    assert_eq!(output.status.code(), Some(78));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = bad.lines().position(|line| line.contains("priorty")).expect("the line") + 1;
    assert!(said.contains(&format!("lockstep.toml:{line}:")), "{said}");
    assert!(said.contains("priorty") && said.contains("priority"), "{said}");
}

/// Threads that send as fast as they can, until it ends.
struct Flood {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<u64>>,
}

impl Flood {
    /// More than one: a single sender is not faster than the daemon.
    const SENDERS: usize = 3;

    fn start<S: FnMut() + Send + 'static>(sender: impl Fn() -> S) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let (ended, mut send) = (Arc::clone(&ended), sender());
            thread::spawn(move || {
                let mut sent = 0;
                while !ended.load(Ordering::Relaxed) {
                    send();
                    sent += 1;
                }
                sent
            })
        };
        let threads = (0..Self::SENDERS).map(thread).collect();
        Self { ended, threads }
    }

    /// Ends it and tells how much was sent.
    fn end(mut self) -> u64 {
        self.ended.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        threads.into_iter().map(|thread| thread.join().expect("a sender does not fail")).sum()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

const REPLICATION: &str = r#"
[replication]
group = "gateway"
protocol = "conntrackd"
mode = "ftfw"

[[replication.link]]
interface = "eth0"
multicast = "225.0.0.50"
port = 3780
checksum = true
"#;

fn config(interface: &str, more: &str) -> String {
    format!(
        r#"[router]
id = "ours"

[vrrp.gateway]
interface = "{interface}"
vrid = 51
version = 2
priority = 150
advertisement-interval = "1s"
authentication = {{ type = "pass", password = "{PASSWORD}" }}
addresses = ["10.51.0.1/24"]
{more}"#
    )
}

/// Runs `PREFIX lockstep run` to its end, with logging as an operator has it.
fn run(node: &Node, mut prefix: Command, directory: &TempDir, config: &str) -> Output {
    let path = directory.path().join("lockstep.toml");
    fs::write(&path, config).expect("a configuration");
    prefix.arg(binary()).arg("run").arg("--config").arg(path);
    prefix.arg("--socket").arg(directory.path().join("socket")).env("LOCKSTEP_LOG", "warn");
    node.output(prefix).expect("the program runs")
}

fn only_line(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "one line, not: {said}");
    said
}

fn statistic(lockstep: &Lockstep, name: &str) -> u64 {
    number(&lockstep.virtual_router("gateway")["statistics"][name])
}

/// Replication messages that were not taken, for whatever reason.
fn refused(lockstep: &Lockstep) -> u64 {
    let statistics = lockstep.status()["replication"]["statistics"].clone();
    number(&statistics["malformed-messages"]) + number(&statistics["external-incomplete"])
}

/// conntrackd's message type of a new flow.
const NEW: u8 = 0;

/// A message of conntrackd's protocol with sequence number 0.
fn message(version: u8, kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    const NO_FLAGS: u8 = 0;
    let mut bytes = vec![version << 4 | kind, NO_FLAGS];
    bytes.extend(length.to_be_bytes());
    bytes.extend(0_u32.to_be_bytes());
    bytes.extend(body);
    bytes
}
