//! What helpers expect, in the real kernel: made by our requests, told by our decoder and by
//! conntrack(8). Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "no test file uses all of it")]
mod conntrack_support;

use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use conntrack_support::*;
use lockstep_ctnetlink::{
    Batch, Expectation, ExpectedTranslation, Family, Flow, FunctionName, HelperName, Kind, L4,
    Message, Messages, Status, Tuple, dump_expectations, expectation_event_line, expectation_line,
    get_expectation,
};
use lockstep_kernel::conntrack::{Failure, TableSocket, keep_events};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

const TCP: u8 = 6;
const UDP: u8 = 17;
/// `NFNLGRP_CONNTRACK_EXP_NEW`, `_UPDATE`, `_DESTROY`.
const GROUPS: [u32; 3] = [4, 5, 6];

#[test]
fn every_kind_of_expectation_comes_back_as_it_was_created() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let expectations = kinds_of_expectation(&mut table);
        assert!(expectations.len() >= 20);
        assert_eq!(expect(&mut table, &expectations), []);
        let found = dump_all(Family::Any);
        assert_eq!(found.len(), expectations.len());
        for wanted in &expectations {
            let twin = found.iter().find(|found| found.tuple == wanted.tuple).unwrap();
            assert_expected(twin, wanted);
        }
    });
}

#[test]
fn a_dump_of_one_family_tells_no_expectation_of_the_other() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let expectations = kinds_of_expectation(&mut table);
        assert_eq!(expect(&mut table, &expectations), []);
        for (family, v6) in [(Family::Ipv4, false), (Family::Ipv6, true)] {
            let found = dump_all(family);
            assert!(!found.is_empty());
            assert!(found.iter().all(|expectation| expectation.tuple.source.is_ipv6() == v6));
        }
    });
}

#[test]
fn a_new_expectation_lives_as_long_as_its_helper_says_and_then_as_long_as_we_do() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut wanted = expected(&master(&mut table, false, "ftp", 0, 1000), 40_000);
        wanted.timeout_s = Some(77);
        assert_eq!(expect(&mut table, std::slice::from_ref(&wanted)), []);
        let policy = 300;
        assert!(dump_all(Family::Any)[0].timeout_s.unwrap() > policy - 10);
        let mut batch = Batch::new();
        assert!(batch.update_expectation(&wanted));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        let left = dump_all(Family::Any)[0].timeout_s.unwrap();
        assert!((67..=77).contains(&left), "{left}");
    });
}

#[test]
fn what_the_kernel_does_not_expect_is_reported_per_expectation() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flow = master(&mut table, false, "ftp", 0, 1000);
        let unhelped = tcp(4000, Nat::None);
        assert_eq!(create(&mut table, std::slice::from_ref(&unhelped)), []);
        let orphan = expected(&tcp(4001, Nat::None), 1);
        let unhelped = expected(&unhelped, 2);
        let mut unknown = expected(&flow, 3);
        unknown.function = FunctionName::new(b"no-such-function");
        let good = expected(&flow, 4);
        let twice = good.clone();
        let mut overlapping = good.clone();
        overlapping.tuple.l4 = L4::Ports { source: 9, destination: 4 };
        overlapping.mask.l4 = L4::Ports { source: 0xffff, destination: 0xffff };
        let failures =
            expect(&mut table, &[orphan, unhelped, unknown, good.clone(), twice, overlapping]);
        let expected = [
            (0, libc::ENOENT),
            (1, libc::EOPNOTSUPP),
            (2, libc::EINVAL),
            (4, libc::EEXIST),
            (5, libc::EEXIST),
        ];
        assert_eq!(refusals(&failures), expected);
        assert_eq!(dump_all(Family::Any).len(), 1);
    });
}

#[test]
fn deleting_takes_the_expectation_and_no_other() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mine = [1, 2, 3]
            .map(|port| expected(&master(&mut table, false, "ftp", 0, port), 40_000 + port));
        assert_eq!(expect(&mut table, &mine), []);
        let id = get(&mine[1]).unwrap().id.unwrap();
        let mut batch = Batch::new();
        assert!(batch.delete_expectation(&mine[1].key(), Some(id.wrapping_add(1))));
        assert!(batch.delete_expectation(&mine[1].key(), Some(id)));
        assert!(batch.delete_expectation(&mine[2].key(), None));
        assert!(batch.delete_expectation(&mine[2].key(), None));
        let failures = table.execute(&mut batch).unwrap();
        assert_eq!(refusals(&failures), [(0, libc::ENOENT), (3, libc::ENOENT)]);
        let left: Vec<Tuple> = dump_all(Family::Any).iter().map(|left| left.tuple).collect();
        assert_eq!(left, [mine[0].tuple]);
    });
}

#[test]
fn the_same_is_expected_in_two_zones_and_found_by_zone() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows =
            [master(&mut table, false, "ftp", 0, 1000), master(&mut table, false, "ftp", 7, 1000)];
        let both = flows.each_ref().map(|flow| expected(flow, 40_000));
        assert_eq!(expect(&mut table, &both), []);
        let ids = both.each_ref().map(|expectation| get(expectation).unwrap().id);
        assert_ne!(ids[0], ids[1]);
        let mut batch = Batch::new();
        assert!(batch.delete_expectation(&both[1].key(), ids[1]));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        let left: Vec<_> = dump_all(Family::Any).iter().map(|left| left.id).collect();
        assert_eq!(left, [ids[0]]);
    });
}

#[test]
fn a_connection_that_comes_has_its_master_and_no_helper_of_its_own() {
    in_namespace(|| {
        run("ip", "link set lo up");
        nft("table ip t { chain c { type filter hook input priority 0; ct state new accept; }; }");
        let mut table = TableSocket::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let loopback: IpAddr = listener.local_addr().unwrap().ip();
        let mut flow = tcp(1000, Nat::None);
        flow.orig = Tuple { source: loopback, destination: loopback, ..flow.orig };
        flow.reply = flow.orig.inverse();
        flow.helper = HelperName::new(b"ftp");
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        let wanted = expected(&flow, listener.local_addr().unwrap().port());
        assert_eq!(expect(&mut table, std::slice::from_ref(&wanted)), []);
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _server = listener.accept().unwrap();
        let port = client.local_addr().unwrap().port();
        let come = dump(&mut table, Family::Any)
            .into_iter()
            .find(|found| matches!(found.orig.l4, L4::Ports { source, .. } if source == port))
            .unwrap();
        assert_eq!((come.master, come.helper), (Some(flow.orig), None));
        assert!(come.status.contains(Status::EXPECTED));
        assert_eq!(dump_all(Family::Any), [], "what has come is no longer expected");
    });
}

#[test]
fn events_tell_what_is_expected_and_what_no_longer() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut events = listener();
        let flow = master(&mut table, false, "ftp", 0, 1000);
        let wanted = translated(&expected(&flow, 40_000), 1);
        assert_eq!(expect(&mut table, std::slice::from_ref(&wanted)), []);
        let mut batch = Batch::new();
        assert!(batch.delete_expectation(&wanted.key(), None));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        for expected in [Kind::ExpectationNew, Kind::ExpectationDestroy] {
            let bytes = hear_one(&mut events);
            let message = only(&bytes);
            assert_eq!(message.kind().unwrap(), expected);
            assert_eq!(message.header().port_id, table.port_id());
            assert_expected(&message.expectation().unwrap(), &wanted);
        }
    });
}

#[test]
fn lists_and_events_are_shown_as_conntrack_shows_them() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut events = listener();
        let expectations = kinds_of_expectation(&mut table);
        let mut tool = Command::new("stdbuf")
            .args(["-oL", "conntrack", "-E", "expect"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Our own socket listens already: the tool is there when there are two.
        wait_for_listeners(2);
        assert_eq!(expect(&mut table, &expectations), []);
        for (family, name) in [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")] {
            let mut tool = Command::new("conntrack");
            let listed = tool.args(["-L", "expect", "-f", name]).output().unwrap().stdout;
            let theirs = String::from_utf8(listed).unwrap().lines().map(str::to_owned).collect();
            compare(dump_all(family).iter().map(expectation_line).collect(), theirs);
        }

        let theirs = read_lines(tool.stdout.take().unwrap(), expectations.len(), DEADLINE);
        tool.kill().unwrap();
        tool.wait().unwrap();
        let ours = expectations.iter().map(|_| {
            let bytes = hear_one(&mut events);
            let message = only(&bytes);
            expectation_event_line(&message.kind().unwrap(), &message.expectation().unwrap())
        });
        compare(ours.collect(), theirs);
    });
}

/// Compares lines without the seconds, which go on between two readings.
fn compare(ours: Vec<String>, theirs: Vec<String>) {
    let timeless = |lines: Vec<String>| -> Vec<String> {
        let is_time = |word: &&str| word.parse::<u32>().is_ok();
        let without = |line: String| {
            line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")
        };
        lines.into_iter().map(without).collect()
    };
    compare_lines(timeless(ours), timeless(theirs));
}

/// Makes masters, and describes what they may expect: both families, with and without
/// translation, flags, exact and open ports, a class that is not the first. Each has a master of
/// its own, because a helper of FTP expects one connection at a time.
fn kinds_of_expectation(table: &mut TableSocket) -> Vec<Expectation> {
    let mut all = Vec::new();
    for v6 in [false, true] {
        let mut ports = 1000..;
        let mut ftp = || {
            let port = ports.next().unwrap();
            expected(&master(table, v6, "ftp", 0, port), 40_000 + port)
        };
        all.push(ftp());
        all.extend([0, 1].map(|direction| translated(&ftp(), direction)));
        for flags in [
            Expectation::PERMANENT,
            Expectation::INACTIVE,
            Expectation::PERMANENT | Expectation::INACTIVE,
        ] {
            all.push(Expectation { flags, ..ftp() });
        }
        let mut exact = ftp();
        exact.tuple.l4 = L4::Ports { source: 20, destination: 40_020 };
        exact.mask.l4 = L4::Ports { source: 0xffff, destination: 0xffff };
        all.push(exact);
        let mut from_anywhere = ftp();
        let anywhere: IpAddr = if v6 { [0; 16].into() } else { [0; 4].into() };
        from_anywhere.tuple.source = anywhere;
        from_anywhere.mask.source = anywhere;
        all.push(from_anywhere);
        let sip = master(table, v6, "sip", 0, 5060);
        all.extend(
            [1, 2, 3].map(|class| Expectation { class, ..expected(&sip, 50_000 + class as u16) }),
        );
    }
    all
}

/// A connection with a helper, made in the kernel.
fn master(table: &mut TableSocket, v6: bool, helper: &str, zone: u16, port: u16) -> Flow {
    let protocol = if helper == "sip" { UDP } else { TCP };
    let is_like = |flow: &Flow| flow.orig.source.is_ipv6() == v6 && flow.orig.protocol == protocol;
    let mut flow = kinds().into_iter().find(is_like).unwrap();
    flow.orig.l4 = L4::Ports { source: port, destination: 21 };
    flow.reply = flow.orig.inverse();
    flow.zone = zone;
    flow.helper = HelperName::new(helper.as_bytes());
    assert_eq!(create(table, std::slice::from_ref(&flow)), []);
    flow
}

/// What a connection's server is expected to open back to its client.
fn expected(master: &Flow, port: u16) -> Expectation {
    let tuple = Tuple {
        source: master.orig.destination,
        destination: master.orig.source,
        protocol: master.orig.protocol,
        l4: L4::Ports { source: 0, destination: port },
    };
    let exact: IpAddr = if tuple.source.is_ipv4() { [0xff; 4].into() } else { [0xff; 16].into() };
    let mask = Tuple {
        source: exact,
        destination: exact,
        protocol: tuple.protocol,
        l4: L4::Ports { source: 0, destination: 0xffff },
    };
    let named = Expectation {
        zone: master.zone,
        helper: master.helper,
        ..Expectation::new(master.orig, tuple, mask)
    };
    Expectation { timeout_s: Some(300), ..named }
}

fn translated(expectation: &Expectation, direction: u32) -> Expectation {
    let nowhere: IpAddr =
        if expectation.tuple.source.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let tuple = Tuple {
        source: expectation.master.source,
        destination: nowhere,
        protocol: expectation.master.protocol,
        l4: L4::Ports { source: 3333, destination: 0 },
    };
    Expectation {
        translation: Some(ExpectedTranslation { tuple, direction }),
        function: FunctionName::new(b"nat-follow-master"),
        ..expectation.clone()
    }
}

#[track_caller]
fn assert_expected(found: &Expectation, wanted: &Expectation) {
    assert!(found.id.is_some());
    // The kernel never tells the zone, and how long depends on the helper.
    let normal = |expectation: &Expectation| Expectation {
        id: None,
        zone: 0,
        timeout_s: None,
        ..expectation.clone()
    };
    assert_eq!(normal(found), normal(wanted));
}

fn expect(table: &mut TableSocket, expectations: &[Expectation]) -> Vec<Failure> {
    let mut batch = Batch::new();
    for expectation in expectations {
        assert!(batch.create_expectation(expectation));
    }
    table.execute(&mut batch).unwrap()
}

fn get(expectation: &Expectation) -> Option<Expectation> {
    let mut request = Vec::new();
    get_expectation(&mut request, &expectation.key(), 1);
    let bytes = socket_after(&request).recv_from_full().unwrap().0;
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    (message.kind().unwrap() == Kind::ExpectationEntry).then(|| message.expectation().unwrap())
}

fn dump_all(family: Family) -> Vec<Expectation> {
    let mut request = Vec::new();
    dump_expectations(&mut request, family, 1);
    let socket = socket_after(&request);
    let mut found = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full().unwrap();
        for message in Messages::new(&bytes).map(Result::unwrap) {
            match message.kind().unwrap() {
                Kind::ExpectationEntry => found.push(message.expectation().unwrap()),
                Kind::Done(0) => return found,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// A socket on which the answers to `request` wait.
fn socket_after(request: &[u8]) -> Socket {
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    socket.send_to(request, &SocketAddr::new(0, 0), 0).unwrap();
    socket
}

/// A socket that hears of expectations.
fn listener() -> Socket {
    let mut socket = Socket::new(NETLINK_NETFILTER).unwrap();
    socket.bind_auto().unwrap();
    for group in GROUPS {
        socket.add_membership(group).unwrap();
    }
    // A flow made before anybody listened would never tell of what it expects.
    keep_events().unwrap();
    // The kernel tells before it answers, so that what must come is there already.
    socket.set_non_blocking(true).unwrap();
    socket
}

fn hear_one(socket: &mut Socket) -> Vec<u8> {
    socket.recv_from_full().expect("an event").0
}

fn only(bytes: &[u8]) -> Message<'_> {
    let mut messages = Messages::new(bytes);
    let message = messages.next().unwrap().unwrap();
    assert!(messages.next().is_none());
    message
}
