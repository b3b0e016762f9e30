//! conntrackd's wire: whatever arrives is refused, or means something that is said again alike.

use lockstep_replicator::wire::{
    Change, Flags, Kind, Malformed, Messages, decode_expectation, decode_flow, encode_expectation,
    encode_flow, encode_flow_message,
};

/// Any bytes as the payload of a datagram.
pub fn run(bytes: &[u8]) {
    let mut taken = 0;
    for message in Messages::of(bytes) {
        let message = match message {
            Ok(message) => message,
            // These end the datagram.
            Err(Malformed::Truncated | Malformed::BadSize) => return,
            Err(_) => continue,
        };
        taken += 8 + message.body.len();
        assert!(taken <= bytes.len(), "no byte is read twice");
        match message.kind {
            Some(Kind::Flow(change)) => flow(change, message.sequence, message.body),
            Some(Kind::Expectation(_)) => expectation(message.body),
            Some(Kind::Control) | None => {}
        }
    }
}

fn expectation(body: &[u8]) {
    let Ok(expectation) = decode_expectation(body) else { return };
    let mut said = Vec::new();
    if encode_expectation(&expectation, &mut said).is_err() {
        return;
    }
    assert!(said.len().is_multiple_of(4), "the next message begins at a word");
    let again = decode_expectation(&said).expect("what we say can be understood");
    let mut once_more = Vec::new();
    encode_expectation(&again, &mut once_more).expect("and said again");
    assert_eq!(said, once_more, "it means the same");
}

fn flow(change: Change, sequence: u32, body: &[u8]) {
    let Ok(flow) = decode_flow(body) else { return };
    assert_eq!(flow.orig.source.is_ipv4(), flow.reply.destination.is_ipv4(), "one family");
    let mut said = Vec::new();
    if encode_flow(&flow, &mut said).is_err() {
        return;
    }
    assert!(said.len().is_multiple_of(4), "the next message begins at a word");
    let again = decode_flow(&said).expect("what we say can be understood");
    let mut once_more = Vec::new();
    encode_flow(&again, &mut once_more).expect("and said again");
    assert_eq!(said, once_more, "it means the same");

    let mut message = Vec::new();
    encode_flow_message(change, Flags(0), sequence, &flow, &mut message).expect("as before");
    let mut read = Messages::of(&message);
    let first = read.next().expect("a message").expect("in order");
    assert_eq!((first.kind, first.sequence), (Some(Kind::Flow(change)), sequence));
    assert_eq!(first.body, said);
    assert!(read.next().is_none(), "one message");
}
