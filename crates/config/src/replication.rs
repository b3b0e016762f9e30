//! `[replication]`: what is spoken with the peers, over which links, about which flows.

use std::time::Duration;

use lockstep_failover::Limits;
use lockstep_replicator::{Config, Expectations, Mode, PeerProtocol, Standby};

use crate::group::Names;
use crate::problem::Problem;
use crate::reader::{Table, Value};
use crate::schema::REPLICATION;
use crate::words;

mod filter;
mod link;

/// Most entries of a queue or cache that can be asked for.
const MAX_ENTRIES: u32 = 100_000_000;
/// Smallest and largest socket buffer in bytes; the kernel counts it in a signed integer.
const BUFFER: (u32, u32) = (4096, i32::MAX as u32);
/// Longest time before the kernel's replicated flows are removed.
const MAX_PURGE_TIMEOUT: Duration = Duration::from_hours(24);
/// Shortest and longest timeout of committed flows: the kernel counts seconds.
/// Shortest and longest that a commit can hold back the addresses.
const COMMIT_LIMIT: (Duration, Duration) = (Duration::from_millis(10), Duration::from_mins(10));
/// Shortest and longest that preemption can wait for flows.
const PREEMPT_LIMIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
/// Shortest and longest timeout of committed flows.
const COMMIT_TIMEOUT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(720));
/// Shortest and longest time between two tellings of a flow, and of its life without them.
const REFRESH: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(24));
/// Most helpers that can be named.
const MAX_HELPERS: usize = 64;
/// Longest name of a helper in bytes (`NF_CT_HELPER_NAME_LEN` without the closing zero).
const HELPER_NAME_LENGTH: usize = 15;

/// What of replication the transitions of its groups follow.
pub(crate) struct Follows {
    /// How long they wait for it.
    pub(crate) limits: Limits,
    /// Whether they hold forwarding back meanwhile.
    pub(crate) holds_forwarding: bool,
}

/// Replication, and what its groups follow of it.
pub(crate) fn read(root: &Table<'_>, groups: &Names) -> Option<(Config, Follows)> {
    let value = root.get("replication")?;
    let table = value.table(&REPLICATION, "the replication")?;
    let groups = groups.all_named_by(&table, "replication needs a group");
    let protocol = table
        .require("protocol", "write `protocol = \"conntrackd\"`")
        .and_then(|value| value.word("peer protocol", &[("conntrackd", PeerProtocol::Conntrackd)]));
    let usual = Config::new("", Vec::new());
    let modes = [("ftfw", Mode::Ftfw), ("notrack", Mode::Notrack), ("alarm", Mode::Alarm)];
    let mode = table.or("mode", usual.mode, |value| value.word("mode", &modes));
    let ways = [("cache", Standby::Cache), ("kernel", Standby::Kernel)];
    let standby = table.or("standby", usual.standby, |value| value.word("way to stand by", &ways));
    let links = link::read(&table);
    let filter = filter::read(&table);
    let expectations = table.or("expectations", usual.expectations.clone(), expectations);
    let ack_window =
        table.or("ack-window", usual.ack_window, |value| value.integer(1..=MAX_ENTRIES));
    let resend_queue = table.or("resend-queue", usual.resend_queue, entries);
    let cache_limit = table.or("cache-limit", usual.cache_limit, entries);
    let purge_timeout = table.or("purge-timeout", usual.purge_timeout, |value| {
        value.duration(Duration::ZERO..=MAX_PURGE_TIMEOUT)
    });
    let commit_timeout = table
        .optional("commit-timeout", |value| value.duration(COMMIT_TIMEOUT.0..=COMMIT_TIMEOUT.1));
    let limits = limits(&table);
    let holds_forwarding = table.or("hold-forwarding", false, Value::boolean);
    let refresh_interval = table.or("refresh-interval", usual.refresh_interval, refresh);
    let cache_timeout = table.or("cache-timeout", usual.cache_timeout, refresh);
    let event_buffer = table.or("event-buffer", usual.event_buffer, buffer);
    let event_buffer_limit = match event_buffer {
        Some(buffer_now) => {
            table.or("event-buffer-limit", usual.event_buffer_limit.max(buffer_now), buffer)
        }
        None => table.optional("event-buffer-limit", buffer).and(None),
    };

    window_fits_the_queue(&table, ack_window, resend_queue);
    if let (Some(buffer_now), Some(limit)) = (event_buffer, event_buffer_limit)
        && limit < buffer_now
        && let Some(value) = table.get("event-buffer-limit")
    {
        let problem = Problem::error("the event buffer's limit is below the buffer itself")
            .label(format!("{limit} bytes, and it begins with {buffer_now}"));
        table.report().push(problem.at(value.span()));
    }
    if let Some(mode) = mode {
        fits_the_mode(&table, mode);
        outlives_its_refresh(&table, mode, refresh_interval, cache_timeout);
    }
    if let (Some(Standby::Kernel), Some(value)) = (standby, table.get("commit-timeout")) {
        let problem = Problem::warning("`commit-timeout` with `standby = \"kernel\"`")
            .label("has no effect: there is nothing to commit")
            .help("leave it out, or write `standby = \"cache\"`");
        table.report().push(problem.at(value.span()));
    }

    if let (Some(groups), Some(Standby::Kernel)) = (&groups, standby)
        && groups.len() > 1
        && let Some(value) = table.get("standby")
    {
        let problem = Problem::error("`standby = \"kernel\"` with several groups")
            .label("a router that serves one group cannot stand by in its kernel for another")
            .help(
                "nobody could tell the flows it keeps for the other router from its own: write \
                 `standby = \"cache\"`, or replicate one group",
            );
        table.report().push(problem.at(value.span()));
        return None;
    }

    let config = Config {
        groups: groups?,
        protocol: protocol?,
        mode: mode?,
        standby: standby?,
        links: links?,
        filter: filter?,
        expectations: expectations?,
        ack_window: ack_window?,
        resend_queue: resend_queue?,
        cache_limit: cache_limit?,
        purge_timeout: purge_timeout?,
        commit_timeout: commit_timeout?,
        refresh_interval: refresh_interval?,
        cache_timeout: cache_timeout?,
        event_buffer: event_buffer?,
        event_buffer_limit: event_buffer_limit?,
    };
    Some((config, Follows { limits: limits?, holds_forwarding: holds_forwarding? }))
}

fn limits(table: &Table<'_>) -> Option<Limits> {
    let usual = Limits::default();
    let commit = table
        .or("commit-limit", usual.commit, |value| value.duration(COMMIT_LIMIT.0..=COMMIT_LIMIT.1));
    let preempt =
        table.optional("preempt-limit", |value| value.duration(PREEMPT_LIMIT.0..=PREEMPT_LIMIT.1));
    Some(Limits { commit: commit?, preempt_without_flows: preempt? })
}

fn entries(value: &Value<'_>) -> Option<usize> {
    value.integer(1..=MAX_ENTRIES).map(|entries| entries as usize)
}

fn buffer(value: &Value<'_>) -> Option<usize> {
    value.integer(BUFFER.0..=BUFFER.1).map(|bytes| bytes as usize)
}

fn refresh(value: &Value<'_>) -> Option<Duration> {
    value.duration(REFRESH.0..=REFRESH.1)
}

fn window_fits_the_queue(table: &Table<'_>, window: Option<u32>, queue: Option<usize>) {
    let (Some(window), Some(queue)) = (window, queue) else { return };
    if queue as u128 >= u128::from(window) {
        return;
    }
    let place = table
        .get("resend-queue")
        .or(table.get("ack-window"))
        .map_or(table.span(), |value| value.span());
    let problem = Problem::error("the resend queue is shorter than the acknowledgement window");
    let label = format!("{queue} messages are kept, {window} can wait to be acknowledged");
    table.report().push(problem.label(label).at(place));
}

/// Warns of what has no effect in this mode.
fn fits_the_mode(table: &Table<'_>, mode: Mode) {
    let of_others: &[(&str, &str)] = match mode {
        Mode::Ftfw => &[("refresh-interval", "alarm"), ("cache-timeout", "alarm")],
        Mode::Notrack => &[
            ("ack-window", "ftfw"),
            ("resend-queue", "ftfw"),
            ("refresh-interval", "alarm"),
            ("cache-timeout", "alarm"),
        ],
        Mode::Alarm => &[("ack-window", "ftfw"), ("resend-queue", "ftfw")],
    };
    for (key, other) in of_others {
        if let Some(value) = table.get(key) {
            let problem = Problem::warning(format!("`{key}` is a setting of `mode = \"{other}\"`"))
                .label("has no effect in this mode");
            table.report().push(problem.at(value.span()));
        }
    }
}

/// Every flow is told again within the refresh interval; one that is dropped before that comes and
/// goes.
fn outlives_its_refresh(
    table: &Table<'_>,
    mode: Mode,
    refresh: Option<Duration>,
    timeout: Option<Duration>,
) {
    let (Mode::Alarm, Some(refresh), Some(timeout)) = (mode, refresh, timeout) else { return };
    if timeout > refresh {
        return;
    }
    let place = table
        .get("cache-timeout")
        .or(table.get("refresh-interval"))
        .map_or(table.span(), |value| value.span());
    let (refresh, timeout) = (words::show_duration(refresh), words::show_duration(timeout));
    let problem = Problem::error("flows are dropped before they are told again")
        .label(format!("dropped after {timeout}, told every {refresh}"))
        .help("make `cache-timeout` three times the peers' `refresh-interval`");
    table.report().push(problem.at(place));
}

/// All, none, or those of some helpers.
fn expectations(value: &Value<'_>) -> Option<Expectations> {
    if value.is_string() {
        return value.refuse("true, false or an array", "write `expectations = [\"ftp\"]`");
    }
    if !value.is_array() {
        let all = value.boolean()?;
        return Some(if all { Expectations::All } else { Expectations::Off });
    }
    let mut whole = true;
    let helpers = value.list("the helpers", |element| {
        let name = element.parse(helper);
        whole &= name.is_some();
        name
    })?;
    let helpers = each_once(helpers);
    if whole && (helpers.is_empty() || helpers.len() > MAX_HELPERS) {
        let problem = Problem::error(format!("expectations of {} helpers", helpers.len()))
            .label(format!("must be 1 to {MAX_HELPERS}"))
            .help("write `expectations = false` for none, `true` for those of every helper");
        return value.reject(problem);
    }
    whole.then_some(Expectations::Of(helpers))
}

fn helper(text: &str) -> Result<String, Problem> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > HELPER_NAME_LENGTH || text.contains(odd) {
        return Err(Problem::error(format!("\"{text}\" cannot be a helper"))
            .label(format!("must be 1 to {HELPER_NAME_LENGTH} bytes without blanks"))
            .help("as `conntrack -L` shows it: \"ftp\", \"sip\", \"tftp\""));
    }
    Ok(text.to_owned())
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
