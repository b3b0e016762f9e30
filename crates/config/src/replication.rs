//! `[replication]`: what is spoken with the peer, over which links, about which flows.

use std::net::IpAddr;
use std::time::Duration;

use lockstep_replicator::{Config, Filter, Link, Mode, PeerProtocol};

use crate::group::Names;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::{REPLICATION, REPLICATION_FILTER, REPLICATION_LINK};
use crate::words;

/// Most entries of a queue or cache that can be asked for.
const MAX_ENTRIES: u32 = 100_000_000;
/// Smallest and largest socket buffer in bytes; the kernel counts it in a signed integer.
const BUFFER: (u32, u32) = (4096, i32::MAX as u32);
/// Longest time before the kernel's replicated flows are removed.
const MAX_PURGE_TIMEOUT: Duration = Duration::from_hours(24);

pub(crate) fn read(root: &Table<'_>, groups: &Names) -> Option<Config> {
    let value = root.get("replication")?;
    let table = value.table(&REPLICATION, "the replication")?;
    let group = groups.named_by(&table, table.span(), "replication needs a group");
    let protocol = table
        .require("protocol", "write `protocol = \"conntrackd\"`")
        .and_then(|value| value.word("peer protocol", &[("conntrackd", PeerProtocol::Conntrackd)]));
    let usual = Config::new("", Vec::new());
    let mode = table.or("mode", usual.mode, |value| value.word("mode", &[("ftfw", Mode::Ftfw)]));
    let links = links(&table);
    let filter = filter(&table);
    let ack_window =
        table.or("ack-window", usual.ack_window, |value| value.integer(1..=MAX_ENTRIES));
    let resend_queue = table.or("resend-queue", usual.resend_queue, entries);
    let cache_limit = table.or("cache-limit", usual.cache_limit, entries);
    let purge_timeout = table.or("purge-timeout", usual.purge_timeout, |value| {
        value.duration(Duration::ZERO..=MAX_PURGE_TIMEOUT)
    });
    let event_buffer = table.or("event-buffer", usual.event_buffer, buffer);
    if let (Some(window), Some(queue)) = (ack_window, resend_queue)
        && (queue as u128) < u128::from(window)
    {
        let place = table
            .get("resend-queue")
            .or(table.get("ack-window"))
            .map_or(table.span(), |value| value.span());
        let problem = Problem::error("the resend queue is shorter than the acknowledgement window");
        let label = format!("{queue} messages are kept, {window} can wait to be acknowledged");
        table.report().push(problem.label(label).at(place));
    }
    Some(Config {
        group: group?,
        protocol: protocol?,
        mode: mode?,
        links: links?,
        filter: filter?,
        ack_window: ack_window?,
        resend_queue: resend_queue?,
        cache_limit: cache_limit?,
        purge_timeout: purge_timeout?,
        event_buffer: event_buffer?,
        ..usual
    })
}

fn entries(value: &Value<'_>) -> Option<usize> {
    value.integer(1..=MAX_ENTRIES).map(|entries| entries as usize)
}

fn buffer(value: &Value<'_>) -> Option<usize> {
    value.integer(BUFFER.0..=BUFFER.1).map(|bytes| bytes as usize)
}

fn links(table: &Table<'_>) -> Option<Vec<Link>> {
    let value =
        table.require("link", "write `[[replication.link]]` with `interface` and `multicast`")?;
    let tables = table.elements("link", "link", &REPLICATION_LINK);
    if tables.is_empty() {
        let problem = Problem::absence("replication has no link").label("must be at least one");
        return value.reject(problem);
    }
    if let Some(second) = tables.get(1) {
        let problem = Problem::warning("only the first link is used").label("has no effect yet");
        table.report().push(problem.at(second.span()));
    }
    let links: Vec<_> = tables.iter().map(link).collect();
    links.into_iter().collect()
}

fn link(table: &Table<'_>) -> Option<Link> {
    let interface = table
        .require("interface", "write `interface = \"eth0\"`: the link to the peer")
        .and_then(|value| value.parse(words::interface));
    let multicast = table
        .require("multicast", "write `multicast = \"225.0.0.50\"`: the group both routers join")
        .and_then(|value| value.parse(multicast));
    let port = table.or("port", Link::PORT, |value| value.integer(1..=u16::MAX));
    let checksum = table.or("checksum", true, Value::boolean);
    let send_buffer = table.optional("send-buffer", buffer);
    let receive_buffer = table.optional("receive-buffer", buffer);
    let mut link = Link::multicast(interface?, multicast?);
    link.port = port?;
    link.checksum = checksum?;
    link.send_buffer = send_buffer?;
    link.receive_buffer = receive_buffer?;
    Some(link)
}

fn multicast(text: &str) -> Result<IpAddr, Problem> {
    let address = words::ip_address(text)?;
    if address.is_multicast() {
        return Ok(address);
    }
    Err(Problem::error(format!("{text} is not a multicast group"))
        .label("must be in 224.0.0.0/4 or ff00::/8")
        .help("conntrackd's usual group is 225.0.0.50"))
}

fn filter(table: &Table<'_>) -> Option<Filter> {
    let Some(value) = table.get("filter") else { return Some(Filter::default()) };
    let table = value.table(&REPLICATION_FILTER, "the filter")?;
    let protocols = table.or("protocols", Vec::new(), |value| {
        value.list("the protocols", |word| ip_protocol(&word))
    });
    let ignore = table.or("ignore-addresses", Vec::new(), |value| {
        value.list("the addresses", |word| word.parse(words::network))
    });
    Some(Filter {
        protocols: each_once(protocols?),
        ignore_addresses: each_once(ignore?),
        ..Filter::default()
    })
}

fn each_once<T: PartialEq>(values: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}

/// An IP protocol by name or number.
fn ip_protocol(value: &Value<'_>) -> Option<u8> {
    if value.as_integer().is_some() {
        value.integer(0..=255)
    } else {
        value.word("protocol", words::IP_PROTOCOLS)
    }
}
