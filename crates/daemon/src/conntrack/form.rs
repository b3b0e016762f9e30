//! What else stands on a line: the options of `conntrack -o`.

use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use lockstep_ctnetlink::Flow;

/// The width of the event's name before the flow.
const EVENT_WIDTH: usize = 10;

/// An addition to the line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Extra {
    /// The family, before the protocol
    Extended,
    /// The kernel's number of the flow; events always have it
    Id,
    /// The time at which the event was heard, before it
    Timestamp,
    /// The numbers of the labels that are set
    Labels,
}

/// A line of a list with what is asked for.
pub(super) fn listed(mut line: String, flow: &Flow, extra: &[Extra]) -> String {
    if let Some(id) = flow.id.filter(|_| extra.contains(&Extra::Id)) {
        line += " id=";
        line += &id.to_string();
    }
    extended(labelled(line, flow, extra), flow, extra, 0)
}

/// A line of an event with what is asked for.
pub(super) fn happened(line: String, flow: &Flow, extra: &[Extra]) -> String {
    stamped(extended(labelled(line, flow, extra), flow, extra, EVENT_WIDTH), extra)
}

/// The line after the time of day, when that is asked for.
pub(super) fn stamped(line: String, extra: &[Extra]) -> String {
    if !extra.contains(&Extra::Timestamp) {
        return line;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let stamp = format!("[{}.{:06}]", now.as_secs(), now.subsec_micros());
    format!("{stamp:<8}\t{line}")
}

fn labelled(mut line: String, flow: &Flow, extra: &[Extra]) -> String {
    let Some(words) = flow.labels.filter(|_| extra.contains(&Extra::Labels)) else { return line };
    let set = (0..128).filter(|bit| words[bit / 32] >> (bit % 32) & 1 == 1);
    let set: Vec<String> = set.map(|bit| bit.to_string()).collect();
    if !set.is_empty() {
        line += " labels=";
        line += &set.join(",");
    }
    line
}

/// The line with the family at byte `at`, when that is asked for.
fn extended(mut line: String, flow: &Flow, extra: &[Extra], at: usize) -> String {
    if extra.contains(&Extra::Extended) && line.is_char_boundary(at) {
        let family = if flow.orig.source.is_ipv4() { "ipv4     2 " } else { "ipv6     10 " };
        line.insert_str(at, family);
    }
    line
}
