//! Entries of a cache in conntrackd's XML: one element a line, without a root.

use serde_json::Value;

/// A flow.
pub(super) fn flow(entry: &Value) -> String {
    let orig = meta("original", entry, &entry["orig"]);
    let reply = meta("reply", entry, &entry["reply"]);
    let mut own = String::new();
    put(&mut own, "state", &entry["state"]);
    put(&mut own, "timeout", &entry["timeout-seconds"]);
    put(&mut own, "mark", &entry["mark"]);
    if entry["zone-direction"].is_null() {
        put(&mut own, "zone", &entry["zone"]);
    }
    put(&mut own, "use", &entry["use"]);
    put(&mut own, "id", &entry["id"]);
    let has = |bit: &str| {
        entry["status"].as_array().is_some_and(|bits| bits.iter().any(|one| one == bit))
    };
    if has("assured") {
        own.push_str("<assured/>");
    }
    if !has("seen-reply") {
        own.push_str("<unreplied/>");
    }
    format!("<flow>{orig}{reply}<meta direction=\"independent\">{own}</meta></flow>\n")
}

/// An expectation.
pub(super) fn expectation(entry: &Value) -> String {
    let tuples: String = ["expected", "mask", "master"]
        .iter()
        .map(|direction| meta(direction, entry, &entry[*direction]))
        .collect();
    let mut own = String::new();
    put(&mut own, "timeout", &entry["timeout-seconds"]);
    put(&mut own, "class", &entry["class"]);
    put(&mut own, "helper", &entry["helper"]);
    put(&mut own, "id", &entry["id"]);
    format!("<flow>{tuples}<meta direction=\"independent\">{own}</meta></flow>\n")
}

fn meta(direction: &str, entry: &Value, tuple: &Value) -> String {
    let source = tuple["source"].as_str().unwrap_or_default();
    let (layer3, family) = if source.contains(':') { (10, "ipv6") } else { (2, "ipv4") };
    let mut addresses = String::new();
    put(&mut addresses, "src", &tuple["source"]);
    put(&mut addresses, "dst", &tuple["destination"]);
    let mut ports = String::new();
    put(&mut ports, "sport", &tuple["source-port"]);
    put(&mut ports, "dport", &tuple["destination-port"]);
    let protocol = &entry["protocol"];
    let name = escaped(entry["protocol-name"].as_str().unwrap_or("unknown"));
    let zone = match (entry["zone-direction"].as_str(), direction) {
        (Some("orig"), "original") | (Some("reply"), "reply") => {
            let mut zone = String::new();
            put(&mut zone, "zone", &entry["zone"]);
            zone
        }
        _ => String::new(),
    };
    format!(
        "<meta direction=\"{direction}\"><layer3 protonum=\"{layer3}\" protoname=\"{family}\">\
         {addresses}</layer3><layer4 protonum=\"{protocol}\" protoname=\"{name}\">{ports}</layer4>\
         {zone}</meta>"
    )
}

/// Adds `<name>value</name>`, unless there is no value.
fn put(text: &mut String, name: &str, value: &Value) {
    let value = match value {
        Value::String(value) => escaped(value),
        Value::Number(value) => value.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return,
    };
    for part in ["<", name, ">", &value, "</", name, ">"] {
        text.push_str(part);
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flow_is_written_as_conntrackd_does() {
        let entry = json!({
            "family": "ipv4", "protocol": 6, "protocol-name": "tcp", "state": "ESTABLISHED",
            "orig": {"source": "10.1.0.1", "destination": "10.2.0.2",
                     "source-port": 1000, "destination-port": 80},
            "reply": {"source": "10.2.0.2", "destination": "10.1.0.1",
                      "source-port": 80, "destination-port": 1000},
            "status": ["seen-reply", "assured"], "mark": 5, "id": 3_394_878_897_u32,
        });
        assert_eq!(
            flow(&entry),
            "<flow><meta direction=\"original\"><layer3 protonum=\"2\" protoname=\"ipv4\">\
             <src>10.1.0.1</src><dst>10.2.0.2</dst></layer3><layer4 protonum=\"6\" protoname=\"tcp\">\
             <sport>1000</sport><dport>80</dport></layer4></meta><meta direction=\"reply\">\
             <layer3 protonum=\"2\" protoname=\"ipv4\"><src>10.2.0.2</src><dst>10.1.0.1</dst></layer3>\
             <layer4 protonum=\"6\" protoname=\"tcp\"><sport>80</sport><dport>1000</dport></layer4>\
             </meta><meta direction=\"independent\"><state>ESTABLISHED</state><mark>5</mark>\
             <id>3394878897</id><assured/></meta></flow>\n"
        );
    }

    #[test]
    fn zones_stand_with_their_direction_and_what_is_unreplied_is_said() {
        let tuple = json!({"source": "fd00::1", "destination": "fd00::2"});
        let mut entry = json!({
            "protocol": 255, "orig": tuple, "reply": tuple, "status": [], "zone": 7,
            "zone-direction": "orig",
        });
        let line = flow(&entry);
        assert!(line.contains("protonum=\"10\" protoname=\"ipv6\""), "{line}");
        assert!(
            line.contains("protoname=\"unknown\"></layer4><zone>7</zone></meta><meta"),
            "{line}"
        );
        assert!(line.ends_with("<meta direction=\"independent\"><unreplied/></meta></flow>\n"));
        entry["zone-direction"] = Value::Null;
        assert!(flow(&entry).contains("independent\"><zone>7</zone><unreplied/>"));
    }

    #[test]
    fn an_expectation_has_what_is_expected_its_mask_and_its_master() {
        let tuple = json!({"source": "10.0.0.1", "destination": "10.0.0.2"});
        let entry = json!({
            "protocol": 6, "protocol-name": "tcp", "expected": tuple, "mask": tuple,
            "master": tuple, "timeout-seconds": 300, "class": 0, "helper": "ftp",
        });
        let line = expectation(&entry);
        for direction in ["expected", "mask", "master"] {
            assert_eq!(line.matches(&format!("<meta direction=\"{direction}\">")).count(), 1);
        }
        assert!(
            line.contains("<timeout>300</timeout><class>0</class><helper>ftp</helper>"),
            "{line}"
        );
    }
}
