//! Expectations as people and programs read them: the lines of `conntrack(8)`, and JSON.

use std::net::IpAddr;

use serde::Serialize;

use crate::json::{Direction, Happened, is_zero};
use crate::text::{append, event_name, put, put_l4};
use crate::{Expectation, Kind, L4, protocol_name};

/// The line that `conntrack -L expect` shows of an expectation.
pub fn expectation_line(expectation: &Expectation) -> String {
    let mut line = body(expectation);
    line.truncate(line.trim_end().len());
    line
}

/// The line that `conntrack -E expect` shows of an event.
pub fn expectation_event_line(kind: &Kind<'_>, expectation: &Expectation) -> String {
    let name = event_name(kind).map_or(String::new(), |name| format!("[{}]", name.to_uppercase()));
    let mut line = format!("{name:>9} {}", body(expectation));
    line.truncate(line.trim_end().len());
    line
}

/// An expectation as JSON: what is not known is left out.
pub fn expectation_value(expectation: &Expectation) -> impl Serialize {
    Value::of(expectation)
}

/// An event as JSON: the expectation, with `event` and, when a process asked for it, `port-id`.
pub fn expectation_event_value(
    kind: &Kind<'_>,
    expectation: &Expectation,
    port_id: u32,
) -> impl Serialize {
    Happened::of(kind, Value::of(expectation), port_id)
}

fn body(expectation: &Expectation) -> String {
    let Expectation { master, tuple, mask, .. } = expectation;
    let mut line = String::new();
    if let Some(timeout_s) = expectation.timeout_s {
        append(&mut line, format_args!("{timeout_s} "));
    }
    put(&mut line, "proto", tuple.protocol);
    for (prefix, tuple) in [("", tuple), ("mask-", mask), ("master-", master)] {
        append(&mut line, format_args!("{prefix}src={} ", tuple.source));
        append(&mut line, format_args!("{prefix}dst={} ", tuple.destination));
        put_l4(&mut line, tuple);
    }
    if expectation.zone != 0 {
        put(&mut line, "zone", expectation.zone);
    }
    let flags: Vec<&str> = flag_names(expectation.flags).collect();
    if !flags.is_empty() {
        append(&mut line, format_args!("{} ", flags.join(",").to_uppercase()));
    }
    put(&mut line, "class", expectation.class);
    if let Some(helper) = &expectation.helper {
        put(&mut line, "helper", helper.as_str());
    }
    line
}

fn flag_names(flags: u32) -> impl Iterator<Item = &'static str> {
    const NAMES: [(u32, &str); 3] = [
        (Expectation::PERMANENT, "permanent"),
        (Expectation::INACTIVE, "inactive"),
        (Expectation::USERSPACE, "userspace"),
    ];
    NAMES.into_iter().filter(move |(bit, _)| flags & bit != 0).map(|(_, name)| name)
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Value {
    family: &'static str,
    protocol: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_seconds: Option<u32>,
    expected: Direction,
    mask: Direction,
    master: Direction,
    #[serde(skip_serializing_if = "is_zero")]
    zone: u16,
    flags: Vec<&'static str>,
    class: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    translation: Option<Translation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
}

/// What the expected connection is translated to.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Translation {
    address: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    direction: &'static str,
}

impl Value {
    fn of(expectation: &Expectation) -> Self {
        let Expectation { master, tuple, mask, .. } = expectation;
        Self {
            family: if tuple.source.is_ipv4() { "ipv4" } else { "ipv6" },
            protocol: tuple.protocol,
            protocol_name: protocol_name(tuple.protocol),
            timeout_seconds: expectation.timeout_s,
            expected: Direction::of(tuple),
            mask: Direction::of(mask),
            master: Direction::of(master),
            zone: expectation.zone,
            flags: flag_names(expectation.flags).collect(),
            class: expectation.class,
            translation: expectation.translation.map(|translation| Translation {
                address: translation.tuple.source,
                port: match translation.tuple.l4 {
                    L4::Ports { source, .. } => Some(source),
                    L4::None | L4::Icmp { .. } => None,
                },
                direction: if translation.direction == 0 { "orig" } else { "reply" },
            }),
            helper: expectation.helper.map(|helper| helper.as_str().to_owned()),
            function: expectation.function.map(|function| function.as_str().to_owned()),
            id: expectation.id,
        }
    }
}
