//! Many flows looked up at once, and the connection tracker's counters, on the real kernel.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "shared with other tests, of which each uses a part")]
mod conntrack_support;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use conntrack_support::*;
use lockstep_ctnetlink::{Batch, Family, Flow, Key};
use lockstep_kernel::conntrack::TableSocket;
use lockstep_kernel::sysctl;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

#[test]
fn each_of_many_flows_is_looked_up_and_those_that_are_not_there_are_told() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut flows = kinds();
        flows.extend((1..=500).map(|port| udp(port, Nat::None)));
        for part in flows.chunks(Batch::CAPACITY) {
            assert_eq!(create(&mut table, part), []);
        }
        // Every third is another that nobody has made.
        let absent = (1..).map(|port| tcp(port, Nat::None).key());
        let mut keys: Vec<Key> = Vec::new();
        for (flows, absent) in flows.chunks(2).zip(absent) {
            keys.extend(flows.iter().map(Flow::key));
            keys.push(absent);
        }
        let mut found = BTreeMap::new();
        table
            .get_many(&keys, |number, flow| assert!(found.insert(number, flow).is_none()))
            .unwrap();
        assert_eq!(found.len(), keys.len());
        for (key, flow) in keys.iter().zip(found.values()) {
            let there = flows.iter().find(|flow| flow.key() == *key);
            assert_eq!(flow.as_ref().map(Flow::key), there.map(Flow::key));
            if let (Some(flow), Some(there)) = (flow, there) {
                assert_same(flow, there);
            }
        }
    });
}

#[test]
fn looking_nothing_up_asks_nothing() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        table.get_many(&[], |_, _| panic!("there was no question")).unwrap();
    });
}

#[test]
fn a_timeout_can_be_changed_alone() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flow = tcp(1, Nat::SourcePort);
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        let before = table.get(&flow.key()).unwrap().unwrap();
        let mut batch = Batch::new();
        assert!(batch.set_timeout(&flow.key(), 100_000));
        assert!(batch.set_timeout(&udp(1, Nat::None).key(), 100_000));
        let failures = table.execute(&mut batch).unwrap();
        assert_eq!(refusals(&failures), [(1, libc::ENOENT)]);
        let mut after = table.get(&flow.key()).unwrap().unwrap();
        assert!(after.timeout_s.unwrap().abs_diff(100_000) <= 10, "{:?}", after.timeout_s);
        after.timeout_s = before.timeout_s;
        assert_eq!(after, before);
    });
}

#[test]
fn a_flush_leaves_no_flow_of_either_family() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, &kinds()), []);
        assert!(table.statistics().unwrap().entries > 80);
        table.flush().unwrap();
        assert_eq!(dump(&mut table, Family::Any), []);
        table.flush().unwrap();
    });
}

#[test]
fn the_counters_are_those_of_conntrack() {
    in_namespace(|| {
        run("ip", "link set lo up");
        nft("table ip t { chain c { type filter hook input priority 0; ct state new counter; }; }");
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, &[udp(1, Nat::None), udp(2, Nat::None)]), []);
        let limit: u32 = sysctl::read("net/netfilter/nf_conntrack_max").unwrap().parse().unwrap();
        // An answer to a question that nobody has asked belongs to no flow.
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
        let home = SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let echo_reply = [0, 0, 0xff, 0xff, 0, 0, 0, 0];
        for _ in 0..5 {
            socket.send_to(&echo_reply, &home).unwrap();
        }
        let ours = table.statistics().unwrap();
        assert_eq!((ours.entries, ours.limit), (2, limit));
        assert!(!ours.is_full());
        assert!(ours.invalid >= 5, "{ours:?}");
        let output = Command::new("conntrack").arg("-S").output().unwrap();
        let mut theirs = BTreeMap::new();
        for field in String::from_utf8(output.stdout).unwrap().split_whitespace() {
            let (name, number) = field.split_once('=').unwrap();
            *theirs.entry(name.to_owned()).or_insert(0) += number.parse::<u64>().unwrap();
        }
        let named = [
            ("found", ours.found),
            ("invalid", ours.invalid),
            ("insert", ours.insert),
            ("insert_failed", ours.insert_failed),
            ("drop", ours.drop),
            ("early_drop", ours.early_drop),
            ("error", ours.error),
            ("search_restart", ours.search_restart),
        ];
        for (name, number) in named {
            assert_eq!(theirs.get(name), Some(&number), "{name} {theirs:?}");
        }
    });
}
