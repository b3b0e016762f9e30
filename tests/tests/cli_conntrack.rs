//! `lockstep conntrack` beside the `conntrack` tool: the same table, the same lines.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use lockstep_ctnetlink::{
    Batch, Expectation, Flow, HelperName, L4, ProtocolState, Status, TcpState, Tuple,
};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_lab::Node;
use lockstep_tests::conntrackd::conntrack;
use lockstep_tests::daemon::binary;
use lockstep_tests::wait;
use serde_json::Value;

/// Flows of every kind that an option tells apart.
const FLOWS: [&str; 8] = [
    "-p tcp -s 10.1.0.1 -d 10.2.0.2 --sport 1000 --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -m 5 -w 3",
    "-p udp -s 10.1.0.1 -d 10.2.0.2 --sport 1000 --dport 53",
    "-p udp -s 10.1.0.1 -d 10.2.0.2 --sport 1001 --dport 53 -u SEEN_REPLY -m 4",
    "-p tcp -s 10.1.0.9 -d 10.2.0.2 --sport 1000 --dport 82 --state SYN_SENT -g 192.0.2.8",
    "-p tcp -s 10.1.0.9 -d 10.2.0.2 --sport 1000 --dport 83 --state SYN_SENT -n 192.0.2.9",
    "-p tcp -s fd00::1 -d fd00::2 --sport 1000 --dport 82 --state SYN_SENT",
    "-p udp -s 10.1.0.10 -d 10.2.0.2 --sport 1000 --dport 82 --orig-zone 7",
    "-p icmp -s 10.1.0.1 -d 10.2.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77",
];

/// Options that both programs have.
const OPTIONS: [&str; 28] = [
    "",
    "-f ipv4",
    "-f ipv6",
    "-s 10.1.0.1",
    "-s 10.1.0.0/28",
    "-d 10.2.0.2",
    "-r 192.0.2.8",
    "-q 192.0.2.9",
    "-p udp",
    "-p 6",
    "-p tcp --sport 1000",
    "-p tcp --dport 82",
    "-p udp --reply-port-src 53",
    "-p tcp --state SYN_SENT",
    "-m 5",
    "-m 4/4",
    "-m 0/1",
    "-w 3",
    "-w 0",
    "--orig-zone 7",
    "-n",
    "-g",
    "-j",
    "-j 192.0.2.8",
    "-u SEEN_REPLY",
    "-u ASSURED,SEEN_REPLY",
    "-u UNREPLIED",
    "-o extended,id",
];

fn tracking() -> Node {
    let node = Node::new("tracking").expect("a namespace");
    for flow in FLOWS {
        insert(&node, flow);
    }
    node
}

fn insert(node: &Node, flow: &str) {
    let words: Vec<&str> = ["-I", "-t", "100000"].into_iter().chain(flow.split(' ')).collect();
    conntrack(node, &words);
}

fn ours(node: &Node, words: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.arg("conntrack").args(words);
    let output = node.output(command).expect("the binary runs");
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn lines(text: &str) -> BTreeSet<String> {
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn what_means_nothing_is_a_usage_error_that_names_what_is_known() {
    for (words, said) in [
        ("list --state BOGUS", "known: NONE, SYN_SENT, SYN_RECV, ESTABLISHED"),
        ("events --state BOGUS", "known: NONE"),
        ("list -p tcp --state OPEN", "tcp has no state OPEN"),
        ("list -p udp --state ESTABLISHED", "udp has no states"),
        ("list -p bananas", "not a protocol"),
        ("list -s here", "not an address or a network"),
        ("list -f ipv6 -d 10.0.0.1", "one family"),
        ("list -w 65536", "65536"),
        ("list -m x", "not a number"),
        ("list -u BOGUS", "known: ASSURED"),
        ("list --dport http", "invalid digit"),
        ("list -p icmp --dport 5", "icmp has no ports"),
        ("list expect -u ASSURED", "expectations have nothing that --status"),
        ("events -e BOGUS", "possible values: ALL, NEW, UPDATES, DESTROY"),
    ] {
        let mut command = Command::new(binary());
        command.arg("conntrack").args(words.split(' '));
        let output = command.output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words}: {stderr}");
        assert!(stderr.contains(said), "{words}: {stderr}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}

#[test]
fn every_filter_lists_the_lines_that_conntrack_lists() {
    let node = tracking();
    for options in OPTIONS {
        let words: Vec<&str> = options.split_whitespace().collect();
        // Timeouts count down between the two: they are asked again until no second has passed.
        wait::until(&format!("the same lines with `{options}`"), || {
            let theirs = conntrack(&node, &[&["-L"], words.as_slice()].concat());
            lines(&theirs) == lines(&ours(&node, &[&["list"], words.as_slice()].concat()))
        });
    }
    let all: Value = serde_json::from_str(&ours(&node, &["list", "--json"])).expect("JSON");
    assert_eq!(all.as_array().expect("a list").len(), FLOWS.len());
    let none = ours(&node, &["list", "--json", "-s", "198.51.100.1"]);
    assert_eq!(none, "[]\n");
}

#[test]
fn a_mask_of_events_leaves_out_the_others() {
    let node = tracking();
    let mut command = Command::new(binary());
    command.args(["conntrack", "events", "-e", "DESTROY", "-p", "udp", "-o", "timestamp"]);
    command.stdout(Stdio::piped());
    let mut process = node.start(command).expect("the binary runs");
    let output = process.child().stdout.take().expect("its output");
    let (sender, heard) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let line = wait::some("an event of an ended flow", || {
        // Again and again: nobody can see from outside when it listens.
        insert(&node, "-p udp -s 10.1.0.77 -d 10.2.0.2 --sport 7 --dport 7");
        conntrack(&node, &["-D", "-p", "udp", "-s", "10.1.0.77"]);
        heard.try_recv().ok()
    });
    let (stamp, event) = line.split_once('\t').expect("a time before it");
    assert!(stamp.starts_with('[') && stamp.ends_with(']'), "{line}");
    assert!(
        event.starts_with("[DESTROY] udp      17 ") && event.contains("src=10.1.0.77"),
        "{line}"
    );
    process.kill().expect("it ends");
    reader.join().expect("the reader");
    let others = heard.try_iter().filter(|line| !line.contains("[DESTROY] udp "));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn what_helpers_expect_is_listed_as_conntrack_lists_it() {
    let node = Node::new("expecting").expect("a namespace");
    node.run(|| {
        let mut table = TableSocket::open().expect("the table");
        let tuple = |source: &str, destination: &str, l4| Tuple {
            source: source.parse().expect("an address"),
            destination: destination.parse().expect("an address"),
            protocol: 6,
            l4,
        };
        let ports = |source, destination| L4::Ports { source, destination };
        let orig = tuple("10.1.0.1", "10.2.0.2", ports(1000, 21));
        let mut flow = Flow::new(orig, orig.inverse());
        flow.status = Status(Status::SEEN_REPLY | Status::ASSURED | Status::CONFIRMED);
        flow.timeout_s = Some(100_000);
        flow.protocol_state =
            ProtocolState::Tcp(TcpState { state: 3, window_scale: None, flags: None });
        flow.helper = HelperName::new(b"ftp");
        let expected = tuple("10.2.0.2", "10.1.0.1", ports(0, 40_000));
        let mask = tuple("255.255.255.255", "255.255.255.255", ports(0, 0xffff));
        let mut expectation = Expectation::new(orig, expected, mask);
        expectation.timeout_s = Some(100_000);
        expectation.helper = flow.helper;
        let mut batch = Batch::new();
        assert!(batch.create(&flow) && batch.create_expectation(&expectation));
        assert_eq!(table.execute(&mut batch).expect("it is carried out"), []);
    })
    .expect("in the namespace");
    wait::until("the same expectations", || {
        let theirs = lines(&conntrack(&node, &["-L", "expect"]));
        theirs.len() == 1 && theirs == lines(&ours(&node, &["list", "expect"]))
    });
    let json: Value =
        serde_json::from_str(&ours(&node, &["list", "expect", "--json"])).expect("JSON");
    assert_eq!(json[0]["helper"], "ftp");
    assert_eq!(ours(&node, &["list", "expect", "-p", "udp"]), "");
}
