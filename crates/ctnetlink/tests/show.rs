//! How flows are shown. The lines are compared with conntrack(8) itself in the kernel's tests.

mod common;

use common::{only, recorded};
use lockstep_ctnetlink::{
    Details, Flow, Messages, ProtocolState, SequenceAdjustment, Synproxy, event_line, event_value,
    list_line, list_value,
};
use serde_json::json;

#[test]
fn lines_have_the_form_of_conntrack() {
    let bytes = recorded("event-new-tcp-snat");
    let message = only(&bytes);
    let (flow, details) = (message.flow().unwrap(), message.details().unwrap());
    let expected = "tcp      6 1000 ESTABLISHED src=10.1.0.1 dst=10.2.0.1 sport=1000 dport=80 \
        src=10.2.0.1 dst=192.0.2.1 sport=80 dport=4444 [ASSURED] mark=7";
    assert_eq!(list_line(&flow, &details), expected);
    let id = flow.id.unwrap();
    assert_eq!(
        event_line(&message.kind().unwrap(), &flow, &details, 0),
        format!("    [NEW] {expected} id={id}")
    );
    assert_eq!(
        event_line(&message.kind().unwrap(), &flow, &details, 12),
        format!("    [NEW] {expected} id={id} [USERSPACE] portid=12")
    );
}

#[test]
fn an_entry_of_a_dump_shows_what_passed_in_each_direction() {
    let bytes = recorded("dump");
    let lines: Vec<String> = Messages::new(&bytes)
        .map(|message| message.unwrap())
        .map(|message| list_line(&message.flow().unwrap(), &message.details().unwrap()))
        .collect();
    let real = lines.iter().find(|line| line.contains("dport=2121 ")).unwrap();
    let shape: Vec<&str> =
        real.split_whitespace().map(|word| word.split('=').next().unwrap_or(word)).collect();
    let direction = ["src", "dst", "sport", "dport", "packets", "bytes"];
    let expected = [
        &["tcp", "6", shape[2], "ESTABLISHED"][..],
        &direction,
        &direction,
        &["[ASSURED]", "mark", "helper", "use"],
    ]
    .concat();
    assert_eq!(shape, expected);
    assert!(!real.contains("packets=0"), "{real}");
}

#[test]
fn json_has_addresses_as_text_and_leaves_out_what_is_not_known() {
    let bytes = recorded("event-new-udp6-zone");
    let message = only(&bytes);
    let (flow, details) = (message.flow().unwrap(), message.details().unwrap());
    let value = serde_json::to_value(list_value(&flow, &details)).unwrap();
    let direction = |source: &str, destination: &str, from: u16, to: u16| {
        json!({
            "source": source, "destination": destination,
            "source-port": from, "destination-port": to,
        })
    };
    let expected = json!({
        "family": "ipv6", "protocol": 17, "protocol-name": "udp", "timeout-seconds": 100,
        "orig": direction("fd00::1", "fd00::2", 1000, 53),
        "reply": direction("fd00::2", "fd00::1", 53, 1000),
        "status": ["confirmed"], "mark": 0, "zone": 5, "id": flow.id.unwrap(),
    });
    assert_eq!(value, expected);
}

#[test]
fn json_of_an_event_says_what_happened_and_who_asked() {
    let bytes = recorded("event-new-tcp-real-helper-labels");
    let message = only(&bytes);
    let (flow, details) = (message.flow().unwrap(), message.details().unwrap());
    let kind = message.kind().unwrap();
    let value = serde_json::to_value(event_value(&kind, &flow, &details, 0)).unwrap();
    assert_eq!((&value["event"], &value["helper"]), (&json!("new"), &json!("ftp")));
    assert_eq!((&value["labels"], value.get("port-id")), (&json!([65]), None));
    assert_eq!(value["state"], json!("SYN_SENT"));
    let value = serde_json::to_value(event_value(&kind, &flow, &details, 9)).unwrap();
    assert_eq!(value["port-id"], json!(9));
}

#[test]
fn json_tells_what_only_some_flows_have() {
    let flow = Flow {
        protocol_state: ProtocolState::Sctp { state: 4, vtag_orig: 7, vtag_reply: 8 },
        sequence_adjustment: Some([SequenceAdjustment::default(); 2]),
        synproxy: Some(Synproxy { its: 1, isn: 2, tsoff: 3 }),
        ..only(&recorded("event-new-sctp")).flow().unwrap()
    };
    let value = serde_json::to_value(list_value(&flow, &Details::default())).unwrap();
    assert_eq!(value["verification-tags"], json!([7, 8]));
    let nothing = json!({ "correction-position": 0, "offset-before": 0, "offset-after": 0 });
    assert_eq!(value["sequence-adjustment"], json!([nothing, nothing]));
    let offsets = json!({ "initial-sequence": 2, "initial-timestamp": 1, "timestamp-offset": 3 });
    assert_eq!(value["synproxy"], offsets);
    let scaled = only(&recorded("event-update-tcp-real-established")).flow().unwrap();
    let value = serde_json::to_value(list_value(&scaled, &Details::default())).unwrap();
    assert!(value["window-scale"][0].as_u64() > Some(0), "{value}");
}
