//! `[replication.filter]`: which flows are replicated.

use lockstep_replicator::Filter;

use super::each_once;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::REPLICATION_FILTER;
use crate::words;

/// TCP's number among the IP protocols.
const TCP: u8 = 6;

/// The states of the kernel's TCP tracker (`enum tcp_conntrack`) that a flow can be in.
const TCP_STATES: &[(&str, u8)] = &[
    ("syn-sent", 1),
    ("syn-recv", 2),
    ("established", 3),
    ("fin-wait", 4),
    ("close-wait", 5),
    ("last-ack", 6),
    ("time-wait", 7),
    ("close", 8),
    ("syn-sent2", 9),
];

pub(super) fn read(table: &Table<'_>) -> Option<Filter> {
    let Some(value) = table.get("filter") else { return Some(Filter::default()) };
    let table = value.table(&REPLICATION_FILTER, "the filter")?;
    let protocols = list(&table, "protocols", "the protocols", ip_protocol);
    let ignore_protocols = list(&table, "ignore-protocols", "the protocols", ip_protocol);
    let network = |value: &Value<'_>| value.parse(words::network);
    let addresses = list(&table, "addresses", "the addresses", network);
    let ignore_addresses = list(&table, "ignore-addresses", "the addresses", network);
    let tcp_states = list(&table, "tcp-states", "the states", tcp_state);
    let include_local = table.or("include-local", false, Value::boolean);

    if let (Some(wanted), Some(ignored)) = (&protocols, &ignore_protocols) {
        contradicts(&table, "protocols", "ignore-protocols", wanted, ignored);
    }
    if let (Some(wanted), Some(ignored)) = (&addresses, &ignore_addresses) {
        contradicts(&table, "addresses", "ignore-addresses", wanted, ignored);
    }
    if let (Some(wanted), Some(ignored), Some(states)) =
        (&protocols, &ignore_protocols, &tcp_states)
        && let Some(value) = table.get("tcp-states").filter(|_| !states.is_empty())
        && (ignored.contains(&TCP) || !wanted.is_empty() && !wanted.contains(&TCP))
    {
        let problem = Problem::warning("states of TCP, which is not replicated")
            .label("has no effect without TCP");
        table.report().push(problem.at(value.span()));
    }
    Some(Filter {
        protocols: protocols?,
        ignore_protocols: ignore_protocols?,
        addresses: addresses?,
        ignore_addresses: ignore_addresses?,
        tcp_states: tcp_states?,
        include_local: include_local?,
    })
}

fn list<T: PartialEq>(
    table: &Table<'_>,
    key: &str,
    what: &str,
    read: impl Fn(&Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    table.or(key, Vec::new(), |value| value.list(what, |one| read(&one))).map(each_once)
}

/// Reports that something is both wanted and left out: nothing of it would be replicated.
fn contradicts<T: PartialEq>(
    table: &Table<'_>,
    wanted_key: &str,
    ignored_key: &str,
    wanted: &[T],
    ignored: &[T],
) {
    let (Some(here), Some(there)) = (table.get(ignored_key), table.get(wanted_key)) else { return };
    if wanted.iter().any(|one| ignored.contains(one)) {
        let problem = Problem::error(format!("`{wanted_key}` and `{ignored_key}` name the same"))
            .label("leaves it out")
            .help("name it in one of the two only");
        table.report().push(problem.at(here.span()).context(there.span(), "asks for it"));
    }
}

/// An IP protocol by name or number.
fn ip_protocol(value: &Value<'_>) -> Option<u8> {
    if value.as_integer().is_some() {
        value.integer(0..=255)
    } else {
        value.word("protocol", words::IP_PROTOCOLS)
    }
}

/// A state as conntrack's listings have it too, `FIN_WAIT`; `closed` is conntrackd's word for `close`.
fn tcp_state(value: &Value<'_>) -> Option<u8> {
    value.parse(|text| {
        let plain = text.to_lowercase().replace('_', "-");
        match plain.as_str() {
            "closed" => Ok(8),
            "listen" => Ok(9),
            _ => words::word(&plain, "state of TCP", TCP_STATES),
        }
    })
}

#[cfg(test)]
mod tests {
    use lockstep_ctnetlink::TcpState;

    use super::*;

    #[test]
    fn the_states_of_tcp_are_numbered_as_the_kernel_has_them() {
        for (word, number) in TCP_STATES {
            let name = word.to_uppercase().replace('-', "_");
            assert_eq!(TcpState::NAMES[usize::from(*number)], name);
        }
    }
}
