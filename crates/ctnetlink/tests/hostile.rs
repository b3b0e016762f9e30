//! Bytes that no kernel sends: an error at most, and never a panic.

mod common;

use common::{RECORDED, any_expectation, any_flow, recorded};
use lockstep_ctnetlink::{
    DecodeError, Header, Messages, create, create_expectation, event_line, event_value,
    expectation_line, expectation_value, list_line, list_value,
};
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Asks everything of every message; the number of messages with a meaning.
fn digest(bytes: &[u8]) -> usize {
    let mut understood = 0;
    for message in Messages::new(bytes) {
        let Ok(message) = message else { continue };
        let kind = message.kind();
        if let Ok(expectation) = message.expectation() {
            assert!(!expectation_line(&expectation).is_empty());
            serde_json::to_string(&expectation_value(&expectation)).expect("JSON");
            let mut request = Vec::new();
            create_expectation(&mut request, &expectation, 1);
            assert!(Messages::new(&request).all(|message| message.is_ok()));
            understood += 1;
        }
        let (Ok(flow), Ok(details)) = (message.flow(), message.details()) else { continue };
        assert!(!list_line(&flow, &details).is_empty());
        serde_json::to_string(&list_value(&flow, &details)).expect("JSON");
        if let Ok(kind) = kind {
            assert!(!event_line(&kind, &flow, &details, 1).is_empty());
            serde_json::to_string(&event_value(&kind, &flow, &details, 1)).expect("JSON");
        }
        // What was understood can be asked for, whatever it says.
        let mut request = Vec::new();
        create(&mut request, &flow, 1);
        assert!(Messages::new(&request).all(|message| message.is_ok()));
        understood += 1;
    }
    understood
}

fn any_recorded() -> impl Strategy<Value = Vec<u8>> {
    select(RECORDED.map(|(name, _)| name).to_vec()).prop_map(recorded)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        digest(&bytes);
    }

    #[test]
    fn random_attributes_behind_a_good_header_do_no_harm(
        content in prop::collection::vec(any::<u8>(), 0..300),
        message_type in select(vec![0x100_u16, 0x200]),
    ) {
        let length = (content.len() + 20) as u32;
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(message_type.to_ne_bytes());
        bytes.resize(20, 0);
        bytes.extend(content);
        digest(&bytes);
    }

    #[test]
    fn changed_messages_do_no_harm(
        bytes in any_recorded(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = bytes;
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        digest(&bytes);
    }

    #[test]
    fn changed_requests_do_no_harm(
        flow in any_flow(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = Vec::new();
        create(&mut bytes, &flow, 1);
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        digest(&bytes);
    }

    #[test]
    fn changed_requests_for_expectations_do_no_harm(
        expectation in any_expectation(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let mut bytes = Vec::new();
        create_expectation(&mut bytes, &expectation, 1);
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        digest(&bytes);
    }

    #[test]
    fn nests_in_nests_do_no_harm(
        depth in 1..200_usize,
        kind in 0..30_u16,
        message_type in select(vec![0x100_u16, 0x200]),
    ) {
        let mut content = Vec::new();
        for _ in 0..depth {
            let length = (content.len() + 4) as u16;
            let mut outer = length.to_ne_bytes().to_vec();
            outer.extend((kind | 0x8000).to_ne_bytes());
            outer.extend(content);
            content = outer;
        }
        let mut bytes = ((content.len() + 20) as u32).to_ne_bytes().to_vec();
        bytes.extend(message_type.to_ne_bytes());
        bytes.resize(20, 0);
        bytes.extend(content);
        prop_assert_eq!(digest(&bytes), 0);
    }
}

#[test]
fn every_recorded_message_cut_anywhere_does_no_harm() {
    for (name, _) in RECORDED {
        let bytes = recorded(name);
        let whole = digest(&bytes);
        for length in 0..bytes.len() {
            assert!(digest(&bytes[..length]) <= whole, "{name} cut to {length}");
        }
    }
}

#[test]
fn a_length_beyond_the_buffer_is_named_and_ends_the_walk() {
    let mut bytes = recorded("event-new-sctp");
    let available = bytes.len();
    bytes[..4].copy_from_slice(&4000_u32.to_ne_bytes());
    let mut messages = Messages::new(&bytes);
    let error = messages.next().unwrap().unwrap_err();
    assert_eq!(error, DecodeError::MessageLength { length: 4000, available });
    assert!(messages.next().is_none());
}

#[test]
fn a_length_smaller_than_the_header_ends_the_walk() {
    for length in 0..Header::LENGTH as u32 {
        let mut bytes = recorded("event-new-sctp");
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let mut messages = Messages::new(&bytes);
        assert!(messages.next().unwrap().is_err());
        assert!(messages.next().is_none());
    }
}

#[test]
fn a_message_about_something_else_is_not_a_flow() {
    let mut bytes = recorded("event-new-sctp");
    bytes[4..6].copy_from_slice(&0x0203_u16.to_ne_bytes());
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    assert_eq!(message.flow(), Err(DecodeError::NotAFlow(0x0203)));
}

#[test]
fn a_flow_without_a_tuple_is_named_so() {
    // Only the netfilter header and nothing behind it.
    let mut bytes = 20_u32.to_ne_bytes().to_vec();
    bytes.extend(0x100_u16.to_ne_bytes());
    bytes.resize(20, 0);
    let message = Messages::new(&bytes).next().unwrap().unwrap();
    assert_eq!(message.flow(), Err(DecodeError::Missing("original tuple")));
}
