//! Every counter of replication, by what it counts.

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::show::{heard, seconds};
use crate::cli::output::{Cell, Page, Style};
use crate::status::Replication;

/// The groups of counters, and how the names in each begin. What fits nowhere is shown last.
const GROUPS: &[(&str, &[&str])] = &[
    ("expectations", &["internal-expectations-", "external-expectations-", "expectation"]),
    ("internal cache", &["internal-"]),
    ("external cache", &["external-"]),
    ("commit and purge", &["commit", "purge", "flush"]),
    ("standing by in the kernel", &["inject", "standby", "parked", "park", "refresh", "restored"]),
    ("traffic", &["datagrams-", "bytes-", "streams-", "connections-"]),
    ("messages", &["messages-", "acks-", "nacks-", "hellos-", "resyncs-", "bulks-"]),
    ("not understood", &["malformed-"]),
    ("queues", &["resend-", "control-"]),
    ("not carried", &["unsendable", "too-large"]),
    ("peers and links", &["peer-", "peers-", "link-", "links-"]),
    ("kernel events", &["event", "overrun", "read", "resynchronisation", "kernel-"]),
];

/// The counters as JSON: each by its name, and beside them what is counted by link, peer and kernel.
pub(super) fn value(replication: &Replication) -> anyhow::Result<Value> {
    let whole = serde_json::to_value(replication)?;
    let mut fields = Map::new();
    let counters = whole.get("statistics").and_then(Value::as_object);
    fields.extend(counters.context("replication has counters")?.clone());
    for key in [
        "role",
        "mode",
        "standby",
        "uptime-s",
        "internal",
        "external",
        "internal-expectations",
        "external-expectations",
        "cache-limit",
        "links",
        "peers",
        "kernel",
        "injection",
        "jobs",
        "last-commit",
    ] {
        fields.insert(key.to_owned(), whole.get(key).cloned().unwrap_or_default());
    }
    Ok(Value::Object(fields))
}

/// Adds a table for each group to the page.
pub(super) fn describe(page: &mut Page, replication: &Replication) {
    let mut shown = vec![("replication", state(replication))];
    let mut rest: Vec<_> = replication.statistics.iter().collect();
    for (heading, beginnings) in GROUPS {
        let ours = |name: &str| beginnings.iter().any(|beginning| name.starts_with(beginning));
        let (group, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|(name, _)| ours(name.as_str()));
        rest = others;
        shown.push((heading, rows(group)));
    }
    shown.push(("other", rows(rest)));
    shown.push(("flows standing by in the kernel", injection(replication)));
    shown.push(("kernel", kernel(replication)));
    for (heading, rows) in shown {
        group(page, heading, &rows);
    }
    for link in &replication.links {
        let heading = format!("link {} ({}, {})", link.interface, link.transport, link.state);
        let mut rows = rows(link.statistics.iter());
        rows.push(("largest-datagram-bytes".to_owned(), link.max_datagram.to_string()));
        group(page, &heading, &rows);
    }
    for peer in &replication.peers {
        let rows = [
            ("messages-lost", peer.lost.to_string()),
            ("messages-missing", peer.missing.to_string()),
            ("messages-waiting", peer.waiting.to_string()),
            ("messages-unacknowledged", peer.unacknowledged.to_string()),
            ("messages-behind", peer.behind.to_string()),
            ("behind", seconds(peer.behind_ms)),
            ("missing-since", seconds(peer.missing_ms)),
            ("heard", heard(peer)),
        ];
        let rows: Vec<_> = rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        group(page, &format!("peer {}", peer.address), &rows);
    }
}

type Rows = Vec<(String, String)>;

fn rows<'a>(counters: impl IntoIterator<Item = (&'a String, &'a u64)>) -> Rows {
    counters.into_iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

fn group(page: &mut Page, heading: &str, rows: &[(String, String)]) {
    if rows.is_empty() {
        return;
    }
    page.gap();
    page.words(&[Cell::styled(heading.to_uppercase(), Style::Heading)]);
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        page.line(&format!("  {name:width$}  {value}"));
    }
}

fn state(replication: &Replication) -> Rows {
    let Replication { role, mode, standby, .. } = replication;
    [
        ("role", role.clone()),
        ("mode", mode.clone()),
        ("standby", standby.clone()),
        ("uptime", format!("{} s", replication.uptime_s)),
        ("internal-flows", replication.internal.to_string()),
        ("external-flows", replication.external.to_string()),
        ("internal-expectations-now", replication.internal_expectations.to_string()),
        ("external-expectations-now", replication.external_expectations.to_string()),
        ("cache-limit", replication.cache_limit.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn injection(replication: &Replication) -> Rows {
    let Some(injection) = &replication.injection else { return Rows::new() };
    let now = [
        ("in-kernel-now", injection.in_kernel),
        ("waiting-now", injection.waiting),
        ("refused-now", injection.refused),
    ];
    let mut shown: Rows =
        now.map(|(name, count)| (name.to_owned(), count.to_string())).into_iter().collect();
    shown.extend(rows(&injection.counts));
    shown.extend(rows(&injection.refusals));
    shown
}

fn kernel(replication: &Replication) -> Rows {
    let kernel = &replication.kernel;
    let number = |number: Option<u64>| number.map_or("not known".to_owned(), |n| n.to_string());
    let mut shown: Rows = [
        ("table-flows", number(kernel.entries)),
        ("table-limit", number(kernel.limit)),
        ("event-buffer-bytes", kernel.event_buffer.to_string()),
        ("event-buffer-limit-bytes", kernel.event_buffer_limit.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    shown.extend(rows(&kernel.statistics));
    shown
}

#[cfg(test)]
mod tests {
    use lockstep_replicator::Counters;

    use super::*;
    use crate::status::replication::{Link, Peer};

    fn replication() -> Replication {
        let counters = Counters::default().by_name();
        Replication {
            role: "active".to_owned(),
            internal: 5,
            statistics: counters.into_keys().map(|name| (name.to_owned(), 7)).collect(),
            links: vec![Link {
                interface: "eth9".to_owned(),
                transport: "udp".to_owned(),
                state: "active".to_owned(),
                statistics: [("send-errors".to_owned(), 3)].into(),
                ..Link::default()
            }],
            peers: vec![Peer { address: "10.9.9.2".to_owned(), lost: 2, ..Peer::default() }],
            ..Replication::default()
        }
    }

    #[test]
    fn every_counter_is_shown_once_in_the_group_of_its_kind() {
        let mut page = Page::plain();
        describe(&mut page, &replication());
        let text = page.text();
        for name in replication().statistics.keys() {
            let line = text
                .lines()
                .filter(|line| line.split_whitespace().collect::<Vec<_>>() == [name.as_str(), "7"]);
            assert_eq!(line.count(), 1, "{name} in {text}");
        }
        let (_, internal) = text.split_once("\nINTERNAL CACHE\n").expect("a group");
        assert!(internal.starts_with("  internal-"), "{internal}");
        assert!(text.contains("\nLINK ETH9 (UDP, ACTIVE)\n"), "{text}");
        assert!(text.contains("\nPEER 10.9.9.2\n"), "{text}");
    }

    #[test]
    fn json_has_each_counter_by_its_name_and_the_state_beside_it() {
        let value = value(&replication()).unwrap();
        assert_eq!(value["messages-lost"], 7);
        assert_eq!(value["internal"], 5);
        assert_eq!(value["peers"][0]["lost"], 2);
        assert_eq!(value["links"][0]["statistics"]["send-errors"], 3);
    }
}
