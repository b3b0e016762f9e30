//! What helpers expect, beside a conntrackd that replicates it.

use std::collections::BTreeSet;

use lockstep_ctnetlink::{
    Batch, Expectation, Flow, HelperName, L4, ProtocolState, Status, TcpState, Tuple,
};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_lab::Node;
use lockstep_tests::conntrackd::{Conntrackd, conntrack};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::replicas::{Mode, Replicas, Serves, Setting, Transport};
use lockstep_tests::wait;

const SETTING: Setting = Setting { mode: Mode::Ftfw, transport: Transport::Multicast, v6: false };
const OPTIONS: &str = "  Options { ExpectationSync on }\n";
const OURS: u8 = 1;
const THEIRS: u8 = 2;
const COUNT: u16 = 5;

#[test]
fn what_helpers_expect_is_told_both_ways_and_so_is_its_end() {
    let replicas = Replicas::next_to_each_other(SETTING);
    let conntrackd = replicas.start_conntrackd_with(OPTIONS);
    let lockstep = replicas.start_lockstep(Serves::Ours);
    for (node, side) in [(&replicas.ours, OURS), (&replicas.theirs, THEIRS)] {
        (0..COUNT).for_each(|number| expect(node, side, number));
    }
    let all = |side| (0..COUNT).map(|number| port(side, number)).collect::<BTreeSet<_>>();
    wait::until("we have theirs", || ours(&lockstep) == all(THEIRS));
    wait::until("they have ours", || theirs(&conntrackd) == all(OURS));

    // An expectation ends with its master.
    for (node, side) in [(&replicas.ours, OURS), (&replicas.theirs, THEIRS)] {
        conntrack(node, &["-D", "-p", "tcp", "--sport", &master(side, 0).1.to_string()]);
    }
    let rest = |side| (1..COUNT).map(|number| port(side, number)).collect::<BTreeSet<_>>();
    wait::until("we have heard of the end of theirs", || ours(&lockstep) == rest(THEIRS));
    wait::until("they have heard of the end of ours", || theirs(&conntrackd) == rest(OURS));
}

#[test]
fn what_conntrackd_told_is_expected_by_our_kernel_after_a_takeover() {
    let replicas = Replicas::next_to_each_other(SETTING);
    let _conntrackd = replicas.start_conntrackd_with(OPTIONS);
    let lockstep = replicas.start_lockstep(Serves::Theirs);
    (0..COUNT).for_each(|number| expect(&replicas.theirs, THEIRS, number));
    wait::until("we have theirs", || ours(&lockstep).len() == usize::from(COUNT));

    let output = lockstep.command(&["replication", "commit"]);

    assert!(output.status.success(), "{output:?}");
    let [in_theirs, in_ours] =
        [&replicas.theirs, &replicas.ours].map(|node| conntrack(node, &["-L", "expect"]));
    assert_eq!(ports(&in_ours), ports(&in_theirs));
    assert_eq!(in_ours.matches("helper=ftp").count(), usize::from(COUNT), "{in_ours}");
}

fn ours(lockstep: &Lockstep) -> BTreeSet<u16> {
    let output = lockstep.command(&["replication", "external", "--expectations"]);
    assert!(output.status.success(), "{output:?}");
    ports(&String::from_utf8_lossy(&output.stdout))
}

fn theirs(conntrackd: &Conntrackd) -> BTreeSet<u16> {
    ports(&conntrackd.command(&["-e", "expect"]))
}

/// The ports that connections are expected at, in any program's list.
fn ports(list: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| word.strip_prefix("dport="))?.parse().ok()
    };
    list.lines().filter_map(port).collect()
}

/// A control connection, and its client's port.
fn master(side: u8, number: u16) -> (Flow, u16) {
    let port = 2000 + number;
    let orig = Tuple {
        source: [10, 100 + side, 1, 1].into(),
        destination: [10, 100 + side, 2, 1].into(),
        protocol: TCP,
        l4: L4::Ports { source: port, destination: 21 },
    };
    let mut flow = Flow::new(orig, orig.inverse());
    flow.status = Status(Status::SEEN_REPLY | Status::ASSURED);
    flow.timeout_s = Some(3600);
    flow.protocol_state = ProtocolState::Tcp(TcpState { state: 3, ..TcpState::default() });
    flow.helper = HelperName::new(b"ftp");
    (flow, port)
}

fn port(side: u8, number: u16) -> u16 {
    40_000 + 1000 * u16::from(side) + number
}

/// Has a router's kernel expect a data connection of a new control connection.
fn expect(router: &Node, side: u8, number: u16) {
    let (flow, _) = master(side, number);
    let tuple = Tuple {
        source: flow.orig.destination,
        destination: flow.orig.source,
        protocol: TCP,
        l4: L4::Ports { source: 0, destination: port(side, number) },
    };
    let mask = Tuple {
        source: [0xff; 4].into(),
        destination: [0xff; 4].into(),
        protocol: TCP,
        l4: L4::Ports { source: 0, destination: 0xffff },
    };
    let wanted = Expectation {
        helper: flow.helper,
        timeout_s: Some(300),
        ..Expectation::new(flow.orig, tuple, mask)
    };
    let failures = router.run(|| {
        let mut table = TableSocket::open().expect("a socket towards the table");
        let mut batch = Batch::new();
        assert!(batch.create(&flow) && batch.create_expectation(&wanted), "there is room");
        table.execute(&mut batch).expect("the kernel answers")
    });
    assert_eq!(failures.expect("the router can be entered"), [], "the kernel takes both");
}

const TCP: u8 = 6;
