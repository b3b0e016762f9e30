//! The codec of flows beside another one: what conntrack(8) reads in the same table, attribute by
//! attribute, and what single requests do to a live entry. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "no test file uses all of it")]
mod conntrack_support;

use std::collections::BTreeMap;
use std::process::Command;

use conntrack_support::*;
use lockstep_ctnetlink::{
    Batch, Details, Family, Flow, L4, ProtocolState, Status, TcpState, Tuple, ZoneDirection,
    protocol_name, state_name,
};
use lockstep_kernel::conntrack::TableSocket;

/// A flow by its attributes; the names are ours, of options and fields alike.
type Attributes = BTreeMap<String, String>;

#[test]
fn conntrack_lists_the_same_attributes_of_every_kind_of_flow() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, &varied()), []);
        let ours = of_ours(&mut table, |flow, _| listed_attributes(flow));
        let listed = conntrack(&["-L", "-o", "extended,id"]);
        let theirs: Vec<_> = listed.lines().map(from_listed).collect();
        assert_equal(ours, theirs);
    });
}

#[test]
fn conntrack_saves_the_same_attributes_of_every_kind_of_flow() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        assert_eq!(create(&mut table, &varied()), []);
        let ours = of_ours(&mut table, |flow, _| saved_attributes(flow));
        let saved = conntrack(&["-L", "-o", "save"]);
        let theirs: Vec<_> = saved.lines().map(from_saved).collect();
        assert_equal(ours, theirs);
    });
}

#[test]
fn a_timeout_is_set_and_nothing_else_is_changed() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let fixed = |flow: &Flow| flow.status.contains(Status::FIXED_TIMEOUT);
        let flows: Vec<Flow> = varied().into_iter().filter(|flow| !fixed(flow)).collect();
        assert_eq!(create(&mut table, &flows), []);
        let mut batch = Batch::new();
        for flow in &flows {
            assert!(batch.set_timeout(&flow.key(), 1234));
        }
        assert!(batch.set_timeout(&tcp(9, Nat::None).key(), 1));
        assert_eq!(refusals(&table.execute(&mut batch).unwrap()), [(flows.len(), libc::ENOENT)]);
        let found = dump(&mut table, Family::Any);
        assert_eq!(found.len(), flows.len());
        for flow in flows {
            let twin = found.iter().find(|found| found.key() == flow.key()).unwrap();
            assert_same(twin, &Flow { timeout_s: Some(1234), ..flow });
        }
    });
}

#[test]
fn windows_are_not_heeded_any_more_and_nothing_else_is_changed() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let flows = varied();
        assert_eq!(create(&mut table, &flows), []);
        let before = dump(&mut table, Family::Any);
        let mut batch = Batch::new();
        for flow in &flows {
            assert!(batch.be_liberal(&flow.key()));
        }
        assert!(batch.be_liberal(&tcp(9, Nat::None).key()));
        let refused = refusals(&table.execute(&mut batch).unwrap());
        assert!(refused.contains(&(flows.len(), libc::ENOENT)), "{refused:?}");
        let is_tcp = |index: usize| flows.get(index).is_some_and(|flow| flow.orig.protocol == 6);
        assert!(!refused.iter().any(|(index, _)| is_tcp(*index)), "{refused:?}");
        let found = dump(&mut table, Family::Any);
        assert_eq!(found.len(), flows.len());
        for flow in before {
            let twin = found.iter().find(|found| found.key() == flow.key()).unwrap();
            assert_same(twin, &flow);
            if let ProtocolState::Tcp(tcp) = twin.protocol_state {
                let flags = tcp.flags.unwrap();
                assert!(flags.iter().all(|flags| flags & TcpState::BE_LIBERAL != 0), "{flags:?}");
            }
        }
    });
}

#[test]
fn a_fixed_timeout_stays_and_the_rest_of_the_flow_is_updated() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let mut flow = udp(1, Nat::None);
        flow.status.0 |= Status::FIXED_TIMEOUT;
        assert_eq!(create(&mut table, std::slice::from_ref(&flow)), []);
        let changed = Flow { timeout_s: Some(1), mark: Some(99), ..flow.clone() };
        let mut batch = Batch::new();
        assert!(batch.update(&changed) && batch.set_timeout(&flow.key(), 1));
        assert_eq!(refusals(&table.execute(&mut batch).unwrap()), [(1, libc::EPERM)]);
        let found = table.get(&flow.key()).unwrap().unwrap();
        assert_same(&found, &Flow { mark: Some(99), ..flow });
    });
}

#[test]
fn an_update_that_knows_no_tcp_flags_leaves_them_as_they_are() {
    in_namespace(|| {
        let mut table = TableSocket::open().unwrap();
        let told = tcp(1, Nat::None);
        assert_eq!(create(&mut table, std::slice::from_ref(&told)), []);
        let mut flow = told.clone();
        let unknown = TcpState { state: 4, window_scale: None, flags: None };
        flow.protocol_state = ProtocolState::Tcp(unknown);
        let mut batch = Batch::new();
        assert!(batch.update(&flow));
        assert_eq!(table.execute(&mut batch).unwrap(), []);
        let ProtocolState::Tcp(before) = told.protocol_state else { panic!("{told:?}") };
        flow.protocol_state = ProtocolState::Tcp(TcpState { state: 4, ..before });
        assert_same(&table.get(&flow.key()).unwrap().unwrap(), &flow);
    });
}

/// Every protocol with every translation, and zones, states and status bits besides.
fn varied() -> Vec<Flow> {
    let mut flows = kinds();
    for (port, zone, zone_direction) in [
        (1, 7, ZoneDirection::Both),
        (2, 8, ZoneDirection::Orig),
        (3, 9, ZoneDirection::Reply),
        (4, u16::MAX, ZoneDirection::Both),
    ] {
        flows.push(Flow { zone, zone_direction, ..udp(port, Nat::SourcePort) });
    }
    for (port, status) in [(11, 0), (12, Status::SEEN_REPLY), (13, Status::FIXED_TIMEOUT)] {
        flows.push(Flow { status: Status(status | Status::CONFIRMED), ..udp(port, Nat::None) });
    }
    for state in 1..9 {
        let tcp_state = TcpState { state, window_scale: Some([1, 14]), flags: None };
        let mut flow = tcp(20 + u16::from(state), Nat::Both);
        flow.protocol_state = ProtocolState::Tcp(tcp_state);
        flows.push(flow);
    }
    for kind in [13, 15, 17] {
        let l4 = L4::Icmp { kind, code: 0, id: 500 };
        let orig = Tuple { protocol: 1, l4, ..udp(1, Nat::None).orig };
        flows.push(Flow { timeout_s: Some(500), ..Flow::new(orig, orig.inverse()) });
    }
    flows
}

fn of_ours(
    table: &mut TableSocket,
    attributes: impl Fn(&Flow, &Details) -> Attributes,
) -> Vec<Attributes> {
    let mut all = Vec::new();
    each(table, |flow, details| all.push(attributes(&flow, &details)));
    all
}

#[track_caller]
fn assert_equal(mut ours: Vec<Attributes>, mut theirs: Vec<Attributes>) {
    assert!(ours.len() > 80, "{}", ours.len());
    assert_eq!(ours.len(), theirs.len());
    ours.sort();
    theirs.sort();
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their);
    }
}

/// What `-o extended,id` is to say of a flow. Seconds go on between two readings and are left out.
fn listed_attributes(flow: &Flow) -> Attributes {
    let mut all = Attributes::new();
    let mut put = |name: &str, value: String| all.insert(name.to_owned(), value);
    put("family", if flow.orig.source.is_ipv4() { "ipv4" } else { "ipv6" }.to_owned());
    put("protocol", flow.orig.protocol.to_string());
    put("name", protocol_name(flow.orig.protocol).unwrap_or("unknown").to_owned());
    if let Some(state) = state_name(&flow.protocol_state) {
        put("state", state.to_owned());
    }
    for (prefix, tuple) in [("", &flow.orig), ("reply-", &flow.reply)] {
        put(&format!("{prefix}src"), tuple.source.to_string());
        put(&format!("{prefix}dst"), tuple.destination.to_string());
        for (name, value) in l4_attributes(tuple, ["sport", "dport", "srckey", "dstkey"]) {
            put(&format!("{prefix}{name}"), value);
        }
    }
    let zone = match flow.zone_direction {
        ZoneDirection::Both => "zone",
        ZoneDirection::Orig => "zone-orig",
        ZoneDirection::Reply => "zone-reply",
    };
    if flow.zone != 0 {
        put(zone, flow.zone.to_string());
    }
    if !flow.status.contains(Status::SEEN_REPLY) {
        put("[UNREPLIED]", String::new());
    }
    if flow.status.contains(Status::ASSURED) {
        put("[ASSURED]", String::new());
    }
    put("mark", flow.mark.unwrap().to_string());
    put("id", flow.id.unwrap().to_string());
    all
}

fn l4_attributes(tuple: &Tuple, names: [&str; 4]) -> Vec<(String, String)> {
    const GRE: u8 = 47;
    let [source_port, destination_port, source_key, destination_key] = names;
    let put = |name: &str, value: String| (name.to_owned(), value);
    match tuple.l4 {
        L4::None => Vec::new(),
        L4::Ports { source, destination } if tuple.protocol == GRE => vec![
            put(source_key, format!("{source:#x}")),
            put(destination_key, format!("{destination:#x}")),
        ],
        L4::Ports { source, destination } => vec![
            put(source_port, source.to_string()),
            put(destination_port, destination.to_string()),
        ],
        L4::Icmp { kind, code, id } => vec![
            put("type", kind.to_string()),
            put("code", code.to_string()),
            put("id", id.to_string()),
        ],
    }
}

/// What is said of each tuple, besides the identifier of a query.
const OF_A_TUPLE: [&str; 8] = ["src", "dst", "sport", "dport", "srckey", "dstkey", "type", "code"];

/// Reads `ipv4 2 tcp 6 3600 ESTABLISHED src=… dst=… … src=… … [ASSURED] mark=… use=… id=…`.
fn from_listed(line: &str) -> Attributes {
    let mut all = Attributes::new();
    let words: Vec<&str> = line.split_whitespace().collect();
    let [family, _, name, protocol, seconds, rest @ ..] = words.as_slice() else {
        panic!("{line}")
    };
    assert!(seconds.parse::<u32>().is_ok(), "{line}");
    for (name, value) in [("family", family), ("name", name), ("protocol", protocol)] {
        all.insert(name.to_owned(), (*value).to_owned());
    }
    let sources: Vec<usize> = rest
        .iter()
        .enumerate()
        .filter(|(_, word)| word.starts_with("src="))
        .map(|(at, _)| at)
        .collect();
    let [first, second] = sources[..] else { panic!("{line}") };
    if first == 1 {
        all.insert("state".to_owned(), rest[0].to_owned());
    }
    let mut of_reply = false;
    let mut queries = 0;
    for (at, word) in rest.iter().enumerate().skip(first) {
        of_reply |= at == second;
        let Some((name, value)) = word.split_once('=') else {
            all.insert((*word).to_owned(), String::new());
            continue;
        };
        // The identifier of a query stands in each tuple, the kernel's own behind both.
        let is_query = name == "id" && rest[at - 1].starts_with("code=");
        queries += usize::from(is_query);
        let in_tuple = OF_A_TUPLE.contains(&name) || is_query;
        let name = if of_reply && in_tuple { format!("reply-{name}") } else { name.to_owned() };
        if name != "use" {
            all.insert(name, value.to_owned());
        }
    }
    assert!(queries == 0 || queries == 2, "{line}");
    all
}

/// What `-o save` is to say of a flow.
fn saved_attributes(flow: &Flow) -> Attributes {
    let mut all = Attributes::new();
    let mut put = |name: &str, value: String| all.insert(name.to_owned(), value);
    let bits = [
        (Status::SEEN_REPLY, "SEEN_REPLY"),
        (Status::ASSURED, "ASSURED"),
        (Status::FIXED_TIMEOUT, "FIXED_TIMEOUT"),
    ];
    let names: Vec<&str> = bits
        .into_iter()
        .filter(|(bit, _)| flow.status.contains(*bit))
        .map(|(_, name)| name)
        .collect();
    put("-u", if names.is_empty() { "UNSET".to_owned() } else { names.join(",") });
    put("-s", flow.orig.source.to_string());
    put("-d", flow.orig.destination.to_string());
    put("-r", flow.reply.source.to_string());
    put("-q", flow.reply.destination.to_string());
    let number = flow.orig.protocol;
    put("-p", protocol_name(number).map_or(number.to_string(), str::to_owned));
    let of_query = if flow.orig.source.is_ipv4() { "--icmp-" } else { "--icmpv6-" };
    for (name, value) in l4_attributes(&flow.orig, ["--sport", "--dport", "--srckey", "--dstkey"]) {
        let is_query = matches!(flow.orig.l4, L4::Icmp { .. });
        put(&if is_query { format!("{of_query}{name}") } else { name }, value);
    }
    if !matches!(flow.reply.l4, L4::Icmp { .. }) {
        let names = ["--reply-port-src", "--reply-port-dst", "--reply-key-src", "--reply-key-dst"];
        for (name, value) in l4_attributes(&flow.reply, names) {
            put(&name, value);
        }
    }
    if let Some(state) = state_name(&flow.protocol_state) {
        put("--state", state.to_owned());
    }
    if let ProtocolState::Sctp { vtag_orig, vtag_reply, .. } = flow.protocol_state {
        // The tool shows the four bytes of a tag as a number of this machine.
        put("--orig-vtag", u32::from_ne_bytes(vtag_orig.to_be_bytes()).to_string());
        put("--reply-vtag", u32::from_ne_bytes(vtag_reply.to_be_bytes()).to_string());
    }
    let zone = match flow.zone_direction {
        ZoneDirection::Both => "-w",
        ZoneDirection::Orig => "--orig-zone",
        ZoneDirection::Reply => "--reply-zone",
    };
    if flow.zone != 0 {
        put(zone, flow.zone.to_string());
    }
    all
}

/// Reads a line of options. Those for translated addresses (`-n`, `-g`) name the reply tuple's.
fn from_saved(line: &str) -> Attributes {
    let mut all = Attributes::new();
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("-A"), "{line}");
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        let (name, value) = match name {
            "-t" => continue,
            "-n" => ("-q", value),
            "-g" => ("-r", value),
            "--srckey" | "--dstkey" | "--reply-key-src" | "--reply-key-dst" => {
                let key: u16 = value.parse().unwrap();
                all.insert(name.to_owned(), format!("{key:#x}"));
                continue;
            }
            other => (other, value),
        };
        all.insert(name.to_owned(), value.to_owned());
    }
    all
}

fn conntrack(arguments: &[&str]) -> String {
    let output = Command::new("conntrack").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
