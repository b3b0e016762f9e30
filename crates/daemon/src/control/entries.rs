//! Entries of the caches as they are answered: text for people, objects for programs.

use lockstep_ctnetlink::{
    Details, Expectation, Flow, L4, Tuple, list_line, list_value, protocol_name,
};
use serde_json::{Map, Value, json};

use super::protocol::{Form, Part};
use crate::messages::Entries;

/// A part of a cache in the form asked for.
///
/// # Errors
/// Only when an entry cannot be written as JSON.
pub(crate) fn part(entries: &Entries, form: Form) -> anyhow::Result<Part> {
    let flows = entries.flows.iter().map(|(flow, age_s)| match form {
        Form::Text => Ok(Value::String(flow_line(flow, *age_s))),
        Form::Json => {
            with_age(serde_json::to_value(list_value(flow, &Details::default()))?, *age_s)
        }
    });
    let expectations = entries.expectations.iter().map(|expectation| match form {
        Form::Text => Ok(Value::String(expectation_line(expectation))),
        Form::Json => Ok(expectation_value(expectation)),
    });
    let entries_written = flows.chain(expectations).collect::<anyhow::Result<_>>()?;
    Ok(Part { entries: entries_written, next: entries.next })
}

/// The timeout of a cached flow is that of its last change, and says nothing now.
fn flow_line(flow: &Flow, age_s: u32) -> String {
    let flow = Flow { timeout_s: None, ..flow.clone() };
    format!("{} [active since {age_s}s]", list_line(&flow, &Details::default()))
}

fn with_age(value: Value, age_s: u32) -> anyhow::Result<Value> {
    let Value::Object(mut fields) = value else { anyhow::bail!("an entry is not an object") };
    fields.insert("age-seconds".to_owned(), age_s.into());
    Ok(Value::Object(fields))
}

fn expectation_line(expectation: &Expectation) -> String {
    let Expectation { master, tuple, mask, zone, class, helper, .. } = expectation;
    let mut line = format!("proto={} {}", tuple.protocol, tuple_words("", tuple));
    line.push_str(&tuple_words("mask-", mask));
    line.push_str(&tuple_words("master-", master));
    if *zone != 0 {
        line.extend(["zone=", &zone.to_string(), " "]);
    }
    line.extend(["class=", &class.to_string(), " "]);
    if let Some(helper) = helper {
        line.extend(["helper=", helper.as_str(), " "]);
    }
    line.truncate(line.trim_end().len());
    line
}

fn tuple_words(prefix: &str, tuple: &Tuple) -> String {
    let Tuple { source, destination, l4, .. } = tuple;
    let addresses = format!("{prefix}src={source} {prefix}dst={destination} ");
    match l4 {
        L4::None => addresses,
        L4::Ports { source, destination } => {
            format!("{addresses}{prefix}sport={source} {prefix}dport={destination} ")
        }
        L4::Icmp { kind, code, id } => {
            format!("{addresses}{prefix}type={kind} {prefix}code={code} {prefix}id={id} ")
        }
    }
}

fn expectation_value(expectation: &Expectation) -> Value {
    let Expectation { master, tuple, mask, zone, timeout_s, flags, class, .. } = expectation;
    let mut value = json!({
        "protocol": tuple.protocol,
        "protocol-name": protocol_name(tuple.protocol),
        "expected": tuple_value(tuple),
        "mask": tuple_value(mask),
        "master": tuple_value(master),
        "zone": zone,
        "timeout-seconds": timeout_s,
        "flags": flags,
        "class": class,
        "helper": expectation.helper.as_ref().map(|helper| helper.as_str().to_owned()),
        "function": expectation.function.as_ref().map(|function| function.as_str().to_owned()),
    });
    if let (Some(translation), Value::Object(fields)) = (&expectation.translation, &mut value) {
        let translation =
            json!({"to": tuple_value(&translation.tuple), "direction": translation.direction});
        fields.insert("translation".to_owned(), translation);
    }
    value
}

fn tuple_value(tuple: &Tuple) -> Value {
    let mut fields = Map::new();
    fields.insert("source".to_owned(), tuple.source.to_string().into());
    fields.insert("destination".to_owned(), tuple.destination.to_string().into());
    match tuple.l4 {
        L4::None => {}
        L4::Ports { source, destination } => {
            fields.insert("source-port".to_owned(), source.into());
            fields.insert("destination-port".to_owned(), destination.into());
        }
        L4::Icmp { kind, code, id } => {
            fields.insert("type".to_owned(), kind.into());
            fields.insert("code".to_owned(), code.into());
            fields.insert("id".to_owned(), id.into());
        }
    }
    Value::Object(fields)
}
