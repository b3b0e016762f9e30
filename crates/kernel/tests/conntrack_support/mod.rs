//! What the tests of connection tracking share.

mod flows;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

pub(crate) use flows::*;
use lockstep_ctnetlink::{
    Batch, Details, Family, Flow, Kind, Messages, ProtocolState, Status, TcpState,
};
use lockstep_kernel::conntrack::{EventSocket, Events, Failure, TableSocket};
use lockstep_kernel::namespace::Namespace;

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Lines without what differs by nature: seconds that pass, and the program's name.
pub(crate) fn compare_lines(ours: Vec<String>, theirs: Vec<String>) {
    let normal = |line: String| {
        let line = line.split(" progname=").next().unwrap().to_owned();
        let line = line.replace(" use=2", " use=1");
        line.split(' ')
            .map(|word| match word.parse::<u32>() {
                Ok(seconds) if seconds > 200 => "SECONDS".to_owned(),
                _ => word.to_owned(),
            })
            .collect::<Vec<_>>()
            .join(" ")
            .trim_end()
            .to_owned()
    };
    let mut ours: Vec<_> = ours.into_iter().map(normal).collect();
    let mut theirs: Vec<_> = theirs.into_iter().map(normal).collect();
    ours.sort();
    theirs.sort();
    assert!(!ours.is_empty());
    assert_eq!(ours.len(), theirs.len());
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
}

/// Compares what matters after a creation: what the kernel adds by itself is left out.
#[track_caller]
pub(crate) fn assert_same(found: &Flow, wanted: &Flow) {
    const COMPARED: u32 = Status::SEEN_REPLY
        | Status::ASSURED
        | Status::CONFIRMED
        | Status::EXPECTED
        | Status::SRC_NAT
        | Status::DST_NAT
        | Status::SRC_NAT_DONE
        | Status::DST_NAT_DONE;
    const TCP_FLAGS: u8 = TcpState::WINDOW_SCALE | TcpState::SACK_PERMITTED | TcpState::CLOSE_INIT;
    let normal = |flow: &Flow| {
        let mut flow = flow.clone();
        if flow.source_translated() {
            flow.status.0 |= Status::SRC_NAT;
        }
        if flow.destination_translated() {
            flow.status.0 |= Status::DST_NAT;
        }
        if flow.source_translated() || flow.destination_translated() {
            flow.status.0 |= Status::SRC_NAT_DONE | Status::DST_NAT_DONE;
        }
        flow.status.0 = (flow.status.0 | Status::CONFIRMED) & COMPARED;
        flow.id = None;
        flow.timeout_s = None;
        flow.mark.get_or_insert_default();
        flow.synproxy.get_or_insert_default();
        flow.labels.get_or_insert_default();
        if let ProtocolState::Tcp(tcp) = &mut flow.protocol_state {
            let scaled = if tcp.window_scale.is_some_and(|scale| scale != [0; 2]) {
                TcpState::WINDOW_SCALE
            } else {
                0
            };
            tcp.window_scale.get_or_insert_default();
            tcp.flags = Some(tcp.flags.unwrap_or([scaled; 2]).map(|flags| flags & TCP_FLAGS));
        }
        flow
    };
    assert_eq!(normal(found), normal(wanted));
    if let ProtocolState::Tcp(tcp) = found.protocol_state {
        for flags in tcp.flags.unwrap() {
            assert_eq!(flags & TcpState::BE_LIBERAL, TcpState::BE_LIBERAL);
        }
    }
    let (left, given) = (found.timeout_s.unwrap(), wanted.timeout_s.unwrap());
    assert!(left <= given && left + 10 >= given, "{left} of {given}");
}

pub(crate) fn refusals(failures: &[Failure]) -> Vec<(usize, i32)> {
    failures.iter().map(|failure| (failure.index, failure.errno)).collect()
}

/// Creates flows in full batches.
pub(crate) fn create(table: &mut TableSocket, flows: &[Flow]) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut batch = Batch::new();
    for (number, chunk) in flows.chunks(Batch::CAPACITY).enumerate() {
        batch.clear();
        for flow in chunk {
            assert!(batch.create(flow));
        }
        failures.extend(
            table.execute(&mut batch).unwrap().into_iter().map(|failure| Failure {
                index: failure.index + number * Batch::CAPACITY,
                ..failure
            }),
        );
    }
    failures
}

pub(crate) fn each(table: &mut TableSocket, mut work: impl FnMut(Flow, Details)) {
    let mut buffer = Vec::new();
    let mut dump = table.dump(Family::Any).unwrap();
    while dump.read(&mut buffer).unwrap() {
        for message in Messages::new(&buffer).map(Result::unwrap) {
            if message.kind().unwrap() == Kind::Entry {
                work(message.flow().unwrap(), message.details().unwrap());
            }
        }
    }
    assert!(!dump.interrupted());
}

pub(crate) fn dump(table: &mut TableSocket, family: Family) -> Vec<Flow> {
    let mut flows = Vec::new();
    let mut buffer = Vec::new();
    let mut dump = table.dump(family).unwrap();
    while dump.read(&mut buffer).unwrap() {
        let messages = Messages::new(&buffer).map(Result::unwrap);
        let entries = messages.filter(|message| message.kind().unwrap() == Kind::Entry);
        flows.extend(entries.map(|entry| entry.flow().unwrap()));
    }
    flows
}

pub(crate) fn remove_all(table: &mut TableSocket) {
    let mut batch = Batch::new();
    for chunk in dump(table, Family::Any).chunks(Batch::CAPACITY) {
        batch.clear();
        for flow in chunk {
            assert!(batch.delete(&flow.key(), flow.id));
        }
        assert_eq!(table.execute(&mut batch).unwrap(), []);
    }
}

/// Waits for `count` events.
pub(crate) async fn hear(events: &mut EventSocket, count: usize) -> Vec<(&'static str, Flow, u32)> {
    let mut heard = Vec::new();
    let mut buffer = Vec::new();
    while heard.len() < count {
        assert_eq!(receive(events, &mut buffer).await, Events::Messages);
        for message in Messages::new(&buffer).map(Result::unwrap) {
            let what = match message.kind().unwrap() {
                Kind::New => "new",
                Kind::Update => "update",
                Kind::Destroy => "destroy",
                other => panic!("{other:?}"),
            };
            heard.push((what, message.flow().unwrap(), message.header().port_id));
        }
    }
    assert_eq!(heard.len(), count);
    heard
}

pub(crate) async fn receive(events: &mut EventSocket, buffer: &mut Vec<u8>) -> Events {
    tokio::time::timeout(DEADLINE, events.receive(buffer)).await.expect("an event").unwrap()
}

pub(crate) fn run(program: &str, arguments: &str) {
    let status = Command::new(program).args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "{program} {arguments}");
}

pub(crate) fn nft(rules: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());
}

pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    if !nix::unistd::Uid::effective().is_root() {
        eprintln!("skipped: a network namespace needs root");
        return;
    }
    Namespace::new().unwrap().run(test).unwrap();
}

pub(crate) fn in_namespace_async(test: impl AsyncFnOnce() + Send) {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
    });
}

/// Sends more than a window without scaling holds, and checks what arrives.
pub(crate) fn exchange(from: &mut TcpStream, to: &mut TcpStream) {
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut received = vec![0; sent.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(&sent).unwrap());
        to.read_exact(&mut received).unwrap();
    });
    assert!(received == sent);
}

/// A TCP connection over loopback; reading from it ends after `time`.
pub(crate) fn connection(time: Duration) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(time)).unwrap();
        stream.set_write_timeout(Some(time)).unwrap();
    }
    (client, server)
}

/// Waits until somebody in this namespace listens to groups of netfilter.
pub(crate) fn wait_for_listener() {
    wait_for_listeners(1);
}

/// Waits until `count` sockets in this namespace listen to groups of netfilter.
pub(crate) fn wait_for_listeners(count: usize) {
    const NETFILTER: &str = "12";
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        // One socket to a line: address, protocol, port, groups.
        let sockets = fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
        let listens = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            let protocol = fields.next() == Some(NETFILTER);
            protocol && fields.nth(1).is_some_and(|groups| groups != "00000000")
        };
        if sockets.lines().filter(listens).count() >= count {
            return;
        }
        assert!(Instant::now() < deadline, "{sockets}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Reads `count` lines, in a time.
pub(crate) fn read_lines(
    from: impl Read + Send + 'static,
    count: usize,
    time: Duration,
) -> Vec<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + time;
    (0..count)
        .map(|_| receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap())
        .collect()
}
