//! Which flows a filter takes.

use lockstep_ctnetlink::{L4, TcpState, Tuple};

use super::*;

fn flow(source: &str, destination: &str, answers_from: &str, answers_to: &str) -> Flow {
    let l4 = L4::Ports { source: 1000, destination: 80 };
    let orig = Tuple {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 6,
        l4,
    };
    let mut reply = orig.inverse();
    reply.source = answers_from.parse().unwrap();
    reply.destination = answers_to.parse().unwrap();
    Flow::new(orig, reply)
}

fn direct(source: &str, destination: &str) -> Flow {
    flow(source, destination, destination, source)
}

fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn selection(protocols: Vec<u8>, ignore: &[&str]) -> Selection {
    let ignore_addresses = nets(ignore);
    Selection::new(&Filter { protocols, ignore_addresses, ..Filter::default() })
}

#[test]
fn only_the_named_protocols_are_taken_and_none_named_means_all() {
    let tcp = direct("10.0.0.1", "10.0.1.1");
    assert!(selection(vec![], &[]).takes(&tcp));
    assert!(selection(vec![17, 6], &[]).takes(&tcp));
    assert!(!selection(vec![17], &[]).takes(&tcp));
}

#[test]
fn an_ignored_protocol_is_left_out_also_where_it_is_named() {
    let filter = Filter { protocols: vec![6, 17], ignore_protocols: vec![6], ..Filter::default() };
    let selection = Selection::new(&filter);
    let tcp = direct("10.0.0.1", "10.0.1.1");
    let mut udp = tcp.clone();
    udp.orig.protocol = 17;
    assert!(!selection.takes(&tcp) && selection.takes(&udp));
    let all_but = Selection::new(&Filter { ignore_protocols: vec![255], ..Filter::default() });
    udp.orig.protocol = 255;
    assert!(all_but.takes(&tcp) && !all_but.takes(&udp));
}

#[test]
fn flows_from_or_to_an_ignored_network_are_left_out() {
    let selection = selection(vec![], &["10.0.0.0/24", "2001:db8:1::/48"]);
    assert!(!selection.takes(&direct("10.0.0.1", "10.9.1.1")));
    assert!(!selection.takes(&direct("10.9.1.1", "10.0.0.1")));
    assert!(selection.takes(&direct("10.9.1.1", "10.8.0.1")));
    assert!(!selection.takes(&direct("2001:db8:1::7", "2001:db8:2::7")));
    assert!(selection.takes(&direct("2001:db8:3::7", "2001:db8:2::7")));
}

#[test]
fn where_networks_are_named_a_flow_has_to_begin_or_end_in_one() {
    let filter = Filter {
        addresses: nets(&["10.0.0.0/8", "2001:db8::/32"]),
        ignore_addresses: nets(&["10.1.0.0/16"]),
        ..Filter::default()
    };
    let selection = Selection::new(&filter);
    assert!(selection.takes(&direct("10.2.0.1", "192.0.2.1")));
    assert!(selection.takes(&flow("192.0.2.1", "203.0.113.9", "10.2.0.1", "192.0.2.1")));
    assert!(!selection.takes(&direct("192.0.2.1", "192.0.2.2")));
    assert!(!selection.takes(&direct("10.2.0.1", "10.1.0.1")), "everything has to agree");
    assert!(selection.takes(&direct("2001:db8::1", "2001:dead::1")));
    assert!(!selection.takes(&direct("2001:dead::2", "2001:dead::1")));
}

#[test]
fn flows_of_the_router_itself_are_left_out_and_translated_ones_stay() {
    let mut selection = selection(vec![], &[]);
    selection.set_local(["203.0.113.9".parse().unwrap(), "2001:db8::9".parse().unwrap()]);
    assert!(!selection.takes(&direct("203.0.113.9", "192.0.2.1")));
    assert!(!selection.takes(&direct("192.0.2.1", "203.0.113.9")));
    assert!(!selection.takes(&direct("2001:db8::1", "2001:db8::9")));
    let source_nat = flow("10.0.0.1", "192.0.2.1", "192.0.2.1", "203.0.113.9");
    let destination_nat = flow("192.0.2.1", "203.0.113.9", "10.0.0.1", "192.0.2.1");
    assert!(selection.takes(&source_nat) && selection.takes(&destination_nat));
}

#[test]
fn the_router_s_own_flows_can_be_included_and_left_out_again() {
    let mut selection = selection(vec![], &[]);
    selection.set_local(["203.0.113.9".parse().unwrap()]);
    let own = direct("203.0.113.9", "192.0.2.1");
    selection.configure(&Filter { include_local: true, ..Filter::default() });
    assert!(selection.takes(&own));
    selection.configure(&Filter::default());
    assert!(!selection.takes(&own), "the addresses are remembered");
}

#[test]
fn a_flow_begins_to_be_told_in_the_named_states() {
    let established = Filter { tcp_states: vec![3], ..Filter::default() };
    let selection = Selection::new(&established);
    let mut tcp = direct("10.0.0.1", "10.0.1.1");
    assert!(!selection.takes_state(&tcp), "nothing is known of its state");
    for state in 0..=255 {
        tcp.protocol_state = ProtocolState::Tcp(TcpState { state, ..TcpState::default() });
        assert_eq!(selection.takes_state(&tcp), state == 3, "{state}");
    }
    let mut udp = tcp.clone();
    udp.orig.protocol = 17;
    udp.protocol_state = ProtocolState::None;
    assert!(selection.takes_state(&udp), "other protocols have no TCP state");
    assert!(Selection::new(&Filter::default()).takes_state(&tcp));
}
