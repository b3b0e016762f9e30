//! What requests about expectations say, what recorded messages about them mean, and how they are
//! shown.

mod common;

use std::net::IpAddr;

use common::{any_expectation, only, ports, recorded};
use lockstep_ctnetlink::{
    Batch, DecodeError, Expectation, ExpectedTranslation, Family, Flow, FunctionName, Header,
    HelperName, Kind, Messages, create_expectation, delete_expectation, dump_expectations,
    expectation_event_line, expectation_event_value, expectation_line, expectation_value,
    get_expectation, update_expectation,
};
use proptest::prelude::*;
use serde_json::json;

proptest! {
    /// A request is not an event, but it has the same attributes.
    #[test]
    fn a_creation_says_what_is_expected(expectation in any_expectation()) {
        let mut bytes = Vec::new();
        create_expectation(&mut bytes, &expectation, 7);
        let said = only(&bytes).expectation().unwrap();
        let helper = if expectation.class == 0 { None } else { expectation.helper };
        prop_assert_eq!(said, Expectation { helper, id: None, ..expectation });
    }

    #[test]
    fn a_removal_names_what_is_expected(expectation in any_expectation()) {
        let mut bytes = Vec::new();
        delete_expectation(&mut bytes, &expectation.key(), expectation.id, 7);
        let message = only(&bytes);
        prop_assert_eq!(message.kind(), Ok(Kind::ExpectationDestroy));
        // One that names none would remove them all.
        let source = match expectation.tuple.source {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        prop_assert!(bytes.windows(source.len()).any(|window| window == source));
    }

    #[test]
    fn every_request_is_a_multiple_of_four_bytes(
        expectations in prop::collection::vec(any_expectation(), 1..20),
    ) {
        let mut bytes = Vec::new();
        for expectation in &expectations {
            create_expectation(&mut bytes, expectation, 0);
            update_expectation(&mut bytes, expectation, 0);
            delete_expectation(&mut bytes, &expectation.key(), None, 0);
            get_expectation(&mut bytes, &expectation.key(), 0);
        }
        prop_assert_eq!(Messages::new(&bytes).map(Result::unwrap).count(), expectations.len() * 4);
        prop_assert!(bytes.len().is_multiple_of(4));
    }
}

#[test]
fn what_an_ftp_helper_behind_nat_expects_is_understood() {
    let bytes = recorded("expectation-new-ftp-nat");
    let message = only(&bytes);
    assert_eq!((message.kind(), message.header().port_id), (Ok(Kind::ExpectationNew), 0));
    let expectation = message.expectation().unwrap();
    assert_eq!(expectation, Expectation { id: expectation.id, ..ftp_behind_nat() });
    assert!(expectation.id.is_some());
    assert_eq!(message.flow(), Err(DecodeError::NotAFlow(0x0200)));
}

#[test]
fn an_expectation_of_ipv6_ends() {
    let bytes = recorded("expectation-destroy-ipv6");
    let message = only(&bytes);
    assert_eq!(message.kind(), Ok(Kind::ExpectationDestroy));
    let expectation = message.expectation().unwrap();
    assert!(expectation.tuple.source.is_ipv6() && expectation.master.source.is_ipv6());
    assert_eq!(expectation.helper, HelperName::new(b"ftp"));
}

#[test]
fn a_message_about_a_flow_is_no_expectation() {
    let bytes = recorded("event-new-sctp");
    assert_eq!(only(&bytes).expectation(), Err(DecodeError::NotAnExpectation(0x0100)));
}

#[test]
fn an_expectation_without_one_of_its_tuples_is_named_so() {
    let bytes = recorded("expectation-new-ftp-nat");
    for (attribute, missing) in
        [(1, "tuple of the master"), (2, "expected tuple"), (3, "mask of the expected tuple")]
    {
        let mut bytes = bytes.clone();
        let at = attribute_at(&bytes, attribute);
        // A type that nobody knows is skipped.
        bytes[at + 2] = 0x3f;
        assert_eq!(only(&bytes).expectation(), Err(DecodeError::Missing(missing)));
    }
}

/// Where the attribute of type `wanted` begins in a message.
fn attribute_at(bytes: &[u8], wanted: u8) -> usize {
    let mut at = Header::LENGTH + 4;
    while bytes[at + 2] & 0x3f != wanted {
        at += usize::from(u16::from_ne_bytes([bytes[at], bytes[at + 1]])).next_multiple_of(4);
    }
    at
}

#[test]
fn a_batch_mixes_flows_and_expectations() {
    let mut batch = Batch::new();
    let expectation = ftp_behind_nat();
    assert!(batch.create_expectation(&expectation));
    assert!(batch.update_expectation(&expectation));
    assert!(batch.delete_expectation(&expectation.key(), Some(1)));
    let master = Flow::new(expectation.master, expectation.master.inverse());
    assert!(batch.set_timeout(&master.key(), 9));
    let sealed = batch.seal(5);
    let sequences: Vec<u32> =
        Messages::new(sealed).map(|message| message.unwrap().header().sequence).collect();
    assert_eq!(sequences, [5, 6, 7, 8]);
}

#[test]
fn a_dump_is_asked_for_by_family() {
    let mut bytes = Vec::new();
    dump_expectations(&mut bytes, Family::Ipv6, 3);
    let header = only(&bytes).header();
    assert_eq!((header.message_type, header.flags, header.sequence), (0x0201, 0x301, 3));
    assert_eq!(bytes[Header::LENGTH], 10);
}

#[test]
fn lines_have_the_form_of_conntrack() {
    let line = "300 proto=6 src=198.51.100.1 dst=203.0.113.9 sport=0 dport=33333 \
        mask-src=255.255.255.255 mask-dst=255.255.255.255 sport=0 dport=65535 \
        master-src=192.0.2.1 master-dst=198.51.100.1 sport=40021 dport=21 class=0 helper=ftp";
    let expectation = ftp_behind_nat();
    assert_eq!(expectation_line(&expectation), line);
    assert_eq!(
        expectation_event_line(&Kind::ExpectationNew, &expectation),
        format!("    [NEW] {line}")
    );
    let flags = Expectation::PERMANENT | Expectation::USERSPACE;
    let flagged = expectation_line(&Expectation { flags, ..expectation });
    assert!(flagged.contains(" PERMANENT,USERSPACE class=0 "), "{flagged}");
}

#[test]
fn json_tells_everything_and_what_happened() {
    let expectation = Expectation { id: Some(9), zone: 4, flags: 2, ..ftp_behind_nat() };
    let hosts = |source: &str, destination: &str, from: u16, to: u16| {
        json!({
            "source": source, "destination": destination,
            "source-port": from, "destination-port": to,
        })
    };
    let mut value = json!({
        "family": "ipv4", "protocol": 6, "protocol-name": "tcp", "timeout-seconds": 300,
        "expected": hosts("198.51.100.1", "203.0.113.9", 0, 33333),
        "mask": hosts("255.255.255.255", "255.255.255.255", 0, 65535),
        "master": hosts("192.0.2.1", "198.51.100.1", 40021, 21),
        "zone": 4, "flags": ["inactive"], "class": 0,
        "translation": { "address": "0.0.0.0", "port": 33333, "direction": "reply" },
        "helper": "ftp", "function": "nat-follow-master", "id": 9,
    });
    assert_eq!(serde_json::to_value(expectation_value(&expectation)).unwrap(), value);
    value["event"] = json!("destroy");
    value["port-id"] = json!(7);
    let event = expectation_event_value(&Kind::ExpectationDestroy, &expectation, 7);
    assert_eq!(serde_json::to_value(event).unwrap(), value);
}

/// What the helper of an FTP connection behind source NAT expects after a PORT command.
fn ftp_behind_nat() -> Expectation {
    Expectation {
        timeout_s: Some(300),
        translation: Some(ExpectedTranslation {
            tuple: ports(6, "0.0.0.0", "0.0.0.0", 33333, 0),
            direction: 1,
        }),
        helper: HelperName::new(b"ftp"),
        function: FunctionName::new(b"nat-follow-master"),
        ..Expectation::new(
            ports(6, "192.0.2.1", "198.51.100.1", 40021, 21),
            ports(6, "198.51.100.1", "203.0.113.9", 0, 33333),
            ports(6, "255.255.255.255", "255.255.255.255", 0, 65535),
        )
    }
}
