//! What is known of the router in the text form of `OpenMetrics`, made of one answer of the daemon.

mod replication;
mod router;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::status::Status;

/// What all names begin with.
const PREFIX: &str = "lockstep";

type Labels = Vec<(String, String)>;
type Number = Gauge<f64, AtomicU64>;

/// The page.
///
/// # Errors
/// Only when text cannot be written into memory.
pub(crate) fn text(status: &Status) -> anyhow::Result<String> {
    let mut registry = Registry::with_prefix(PREFIX);
    Page { registry: &mut registry }.router(status);
    if let Some(replication) = &status.replication {
        Page { registry: registry.sub_registry_with_prefix("replication") }
            .replication(replication);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Where the metrics of one part go.
struct Page<'r> {
    registry: &'r mut Registry,
}

impl Page<'_> {
    /// One number.
    fn gauge(&mut self, name: &str, help: &str, value: impl Into<u64>) {
        self.registry.register(name, help, number(value.into() as f64));
    }

    /// A number for each set of labels.
    fn gauges<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Vec<(K, V)>, u64)>,
    ) {
        let owned = values.into_iter().map(|(labels, value)| {
            let labels = labels.iter();
            let own =
                labels.map(|(key, value)| (key.as_ref().to_owned(), value.as_ref().to_owned()));
            (own.collect(), value)
        });
        self.families(name, help, owned);
    }

    /// One number that only grows.
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.registry.register(name, help, counter);
    }

    /// What only grows, for each set of labels.
    fn counters_of(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Counter<u64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        self.registry.register(name, help, family);
    }

    fn families(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) {
        let family = Family::<Labels, Number>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value as f64);
        }
        self.registry.register(name, help, family);
    }
}

/// The values of each name over all of `those`.
fn by_name<'a, T>(
    those: &'a [T],
    statistics: impl Fn(&'a T) -> &'a BTreeMap<String, u64>,
) -> BTreeMap<&'a str, Vec<(&'a T, u64)>> {
    let mut named = BTreeMap::<_, Vec<_>>::new();
    for one in those {
        for (name, value) in statistics(one) {
            named.entry(name.as_str()).or_default().push((one, *value));
        }
    }
    named
}

fn number(value: f64) -> Number {
    let gauge = Number::default();
    gauge.set(value);
    gauge
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// A statistic's name as a metric's: only letters, digits and underscores.
fn word(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lockstep_replicator::Counters;

    use super::*;
    use crate::status::replication::{Commit, Injection, Job, Kernel, Link, Peer};
    use crate::status::{
        Check, Counts, Fifo, Group, Network, Replication, Scheduling, Tracked, VirtualRouter,
    };

    const REFERENCE: &str = include_str!("../../../docs/reference/metrics.md");

    fn replication() -> Replication {
        let mut counters = Counters::default().by_name();
        counters.insert("resend-queue-length", 7);
        Replication {
            role: "backup".to_owned(),
            mode: "ftfw".to_owned(),
            standby: "cache".to_owned(),
            in_sync: true,
            external: 9,
            statistics: counters.into_keys().map(|name| (name.to_owned(), 7)).collect(),
            peers: vec![Peer {
                address: "10.9.9.2".to_owned(),
                heard_ms: Some(1_500),
                lost: 3,
                ..Peer::default()
            }],
            links: vec![Link {
                interface: "eth9".to_owned(),
                transport: "udp".to_owned(),
                state: "active".to_owned(),
                statistics: [("sent-bytes".to_owned(), 11)].into(),
                ..Link::default()
            }],
            injection: Some(Injection { in_kernel: 8, ..Injection::default() }),
            jobs: vec![Job { name: "read".to_owned(), done: 1, total: Some(2) }],
            last_commit: Some(Commit {
                took_ms: 250,
                complete: true,
                counts: [("created".to_owned(), 5)].into(),
                refused: [("the table is full".to_owned(), 1)].into(),
                ..Commit::default()
            }),
            kernel: Kernel {
                entries: Some(4),
                limit: Some(1000),
                statistics: [("insert_failed".to_owned(), 6)].into(),
                ..Kernel::default()
            },
            ..Replication::default()
        }
    }

    fn status() -> Status {
        let tracked = Tracked {
            object: "interface eth5".to_owned(),
            virtual_router: Some("lan".to_owned()),
            state: "bad".to_owned(),
            detail: "down".to_owned(),
            weight: Some(-20),
            effect: -20,
        };
        let group = Group {
            name: "gateway".to_owned(),
            state: "master".to_owned(),
            since: "2026-01-02T03:04:05.678Z".to_owned(),
            reason: "started".to_owned(),
            step: Some("commit flows".to_owned()),
            waiting: None,
            maintenance: None,
            tracked: vec![tracked],
        };
        let counters = lockstep_vrrp::Statistics { conflicts: 2, ..Default::default() };
        let router = VirtualRouter {
            name: "lan".to_owned(),
            group: "gateway".to_owned(),
            interface: "eth0".to_owned(),
            vrid: 51,
            version: 3,
            family: "ipv4".to_owned(),
            state: "master".to_owned(),
            priority: 150,
            effective_priority: 130,
            master_address: None,
            master_interval_ms: None,
            new_master_reason: None,
            last_event: None,
            waiting: None,
            other_master: None,
            withheld: None,
            statistics: counters.named().map(|(name, count)| (name.to_owned(), count)).into(),
            rejected: vec!["10.1.1.3: another password".to_owned()],
            differs: Vec::new(),
            sending: None,
        };
        Status {
            router: "left".to_owned(),
            groups: vec![group],
            virtual_routers: vec![router],
            replication: Some(replication()),
            routes: Vec::new(),
            network: Network {
                counts: Counts { installed: 7, pending: 1, ..Counts::default() },
                ..Network::default()
            },
            checks: vec![Check {
                name: "uplink".to_owned(),
                state: "good".to_owned(),
                detail: "exit status 0".to_owned(),
            }],
            hooks: Vec::new(),
            notify_fifo: Some(Fifo {
                path: "/run/notify".to_owned(),
                written: 12,
                lost: 1,
                unread_bytes: 0,
                error: None,
                reader: None,
            }),
            scheduling: Some(Scheduling { worst_late_us: 1_500, ..Scheduling::default() }),
            no_answer: vec!["network".to_owned()],
        }
    }

    #[test]
    fn groups_virtual_routers_and_what_is_declared_are_told() {
        let text = text(&status()).unwrap();
        for line in [
            "lockstep_part_answering{part=\"network\"} 0.0",
            "lockstep_part_answering{part=\"core\"} 1.0",
            "lockstep_group_state{group=\"gateway\",state=\"master\"} 1.0",
            "lockstep_group_state{group=\"gateway\",state=\"fault\"} 0.0",
            "lockstep_group_in_transition{group=\"gateway\"} 1.0",
            "lockstep_group_maintenance{group=\"gateway\"} 0.0",
            "lockstep_vrrp_info{virtual_router=\"lan\",group=\"gateway\",interface=\"eth0\",vrid=\"51\",version=\"3\",family=\"ipv4\"} 1.0",
            "lockstep_vrrp_state{virtual_router=\"lan\",state=\"backup\"} 0.0",
            "lockstep_vrrp_effective_priority{virtual_router=\"lan\"} 130.0",
            "lockstep_vrrp_refused_neighbours{virtual_router=\"lan\"} 1.0",
            "lockstep_vrrp_conflicts_total{virtual_router=\"lan\"} 2",
            "lockstep_check_good{check=\"uplink\"} 1.0",
            "lockstep_tracked_good{group=\"gateway\",virtual_router=\"lan\",object=\"interface eth5\"} 0.0",
            "lockstep_declared_objects{state=\"installed\"} 7.0",
            "lockstep_scheduling_worst_late_seconds 0.0015",
            "lockstep_notify_fifo_lost_lines_total 1",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
    }

    #[test]
    fn a_router_that_replicates_nothing_tells_the_rest() {
        let text = text(&Status { replication: None, ..status() }).unwrap();
        assert!(text.contains("lockstep_group_state") && text.ends_with("# EOF\n"), "{text}");
        assert!(!text.contains("lockstep_replication"), "{text}");
    }

    #[test]
    fn values_stand_under_names_that_carry_their_units() {
        let text = text(&status()).unwrap();
        for line in [
            "lockstep_replication_info{role=\"backup\",mode=\"ftfw\",standby=\"cache\"} 1.0",
            "lockstep_replication_in_sync 1.0",
            "lockstep_replication_active 0.0",
            "lockstep_replication_flows{cache=\"external\"} 9.0",
            "lockstep_replication_messages_lost_total 7",
            "lockstep_replication_peer_heard_ago_seconds{peer=\"10.9.9.2\"} 1.5",
            "lockstep_replication_peer_lost_messages_total{peer=\"10.9.9.2\"} 3",
            "lockstep_replication_link_active{interface=\"eth9\",transport=\"udp\"} 1.0",
            "lockstep_replication_link_sent_bytes_total{interface=\"eth9\",transport=\"udp\"} 11",
            "lockstep_replication_last_commit_duration_seconds 0.25",
            "lockstep_replication_last_commit_refused_entries{reason=\"the table is full\"} 1.0",
            "lockstep_replication_standby_kernel_flows 8.0",
            "lockstep_replication_job_total_entries{job=\"read\"} 2.0",
            "lockstep_replication_kernel_insert_failed_total 6",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
        assert!(!text.contains("resend_queue_length"), "a length is no counter: {text}");
        assert!(text.ends_with("# EOF\n"));
    }

    /// The names after `# TYPE`, those of what is counted by others left out.
    fn shown() -> BTreeSet<String> {
        let text = text(&status()).unwrap();
        let named = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        named
            .filter_map(|line| {
                let (name, kind) = line.split_once(' ')?;
                Some(if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
            })
            .filter(|name| !name.ends_with("_sent_bytes_total") && !name.contains("insert_failed"))
            .collect()
    }

    #[test]
    fn the_reference_describes_every_metric_and_no_other() {
        let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
        let described: BTreeSet<String> =
            REFERENCE.lines().filter_map(row).filter(|name| !name.contains("NAME")).collect();
        let shown = shown();
        let missing: Vec<_> = shown.difference(&described).collect();
        let stale: Vec<_> = described.difference(&shown).collect();
        assert!(missing.is_empty() && stale.is_empty(), "missing: {missing:#?}, stale: {stale:#?}");
    }
}
