//! Packets that reach a router by a route and not by a virtual address come before its commit has ended. A firewall that
//! refuses what it does not know ends their connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use lockstep_lab::traffic::flows;
use lockstep_lab::{Lab, Node, RouterId};
use lockstep_tests::wait;
use serde_json::Value;

use crate::Pair;

/// So many other flows that a commit is noticed.
const FLOWS: u32 = 50_000;
/// Connections that are refused or not.
const CONNECTIONS: usize = 10;

#[test]
fn connections_that_come_by_a_route_during_the_commit_are_refused_unless_forwarding_is_held() {
    for hold in [true, false] {
        let mut pair = Pair::with(&format!("hold-forwarding = {hold}"), refuse_what_is_unknown);
        let a = pair.lab.router(RouterId::A).expect("router A is on");
        flows::install(a, FLOWS).expect("flows");
        let mut connections = connect(&pair);

        pair.take_a_away();
        wait::until("B commits", || pair.standby.group("gateway")["step"] == "commit flows");
        let [b, ..] = Lab::addresses(RouterId::B);
        run(
            pair.lab.client(),
            "ip",
            &["route", "replace", "203.0.113.0/24", "via", &b.to_string()],
        );
        for (near, _) in &mut connections {
            near.write_all(b"x").expect("room in the socket");
        }

        pair.standby.wait_for_state("gateway", "master");
        let refused = connections.iter().filter(|(near, far)| is_refused(near, far)).count();
        assert_eq!(refused == 0, hold, "{refused} of {CONNECTIONS} refused");
        let steps = steps(&pair.standby.journal("gateway"));
        let (held, passed) = ("hold forwarding".to_owned(), "pass forwarding".to_owned());
        if hold {
            assert_eq!(steps[..4], [held, "claim".to_owned(), "commit flows".to_owned(), passed]);
            let chain = run(pair.b(), "nft", &["list", "chain", "inet", "lockstep", "forward"]);
            assert!(!chain.contains("drop"), "{chain}");
        } else {
            assert!(!steps.contains(&held) && !steps.contains(&passed), "{steps:?}");
        }
    }
}

/// Connections without a word said on them yet; both ends.
fn connect(pair: &Pair) -> Vec<(TcpStream, TcpStream)> {
    let (client, server) = (pair.lab.client(), pair.lab.server());
    let listener = server.run(|| TcpListener::bind((Lab::SERVER, 7000)));
    let listener = listener.expect("the server can be entered").expect("a listener");
    let one = || {
        let near = client.run(|| TcpStream::connect((Lab::SERVER, 7000)));
        let near = near.expect("the client can be entered").expect("a connection");
        let (far, _) = listener.accept().expect("a connection");
        for end in [&near, &far] {
            end.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        }
        (near, far)
    };
    (0..CONNECTIONS).map(|_| one()).collect()
}

/// Whether what was written comes back refused and not answered.
fn is_refused(mut near: &TcpStream, mut far: &TcpStream) -> bool {
    let mut byte = [0];
    near.set_nonblocking(true).expect("a socket");
    let refused =
        || near.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
    if refused() {
        return true;
    }
    near.set_nonblocking(false).expect("a socket");
    far.read_exact(&mut byte).and_then(|()| far.write_all(&byte)).expect("what was written");
    near.read_exact(&mut byte).expect("an answer");
    false
}

/// A firewall of the kind that resets connections it does not know.
fn refuse_what_is_unknown(router: &Node) {
    run(router, "nft", &["add table inet refusing"]);
    run(
        router,
        "nft",
        &["add chain inet refusing forward { type filter hook forward priority -5; }"],
    );
    let rule = "add rule inet refusing forward tcp flags & syn == 0 ct state { new, invalid } reject with tcp reset";
    run(router, "nft", &[rule]);
}

fn run(node: &Node, program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    let output = node.output(command).expect("it can be started");
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The steps of the newest transition.
fn steps(journal: &[Value]) -> Vec<String> {
    let steps = journal.last().and_then(|entry| entry["steps"].as_array()).expect("steps");
    steps.iter().map(|step| step["step"].as_str().unwrap_or_default().to_owned()).collect()
}
