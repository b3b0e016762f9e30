//! What is known of replication.

use std::fmt::Write as _;

use lockstep_replicator::Counters;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;

use super::{Labels, Number, Page, by_name, labels, number, seconds, word};
use crate::status::Replication;
use crate::status::replication::{Commit, Injection, Kernel, Link, Peer};

/// Name, meaning and milliseconds of a time that a peer may have.
type Time = (&'static str, &'static str, fn(&Peer) -> Option<u64>);

impl Page<'_> {
    /// All of it.
    pub(super) fn replication(&mut self, replication: &Replication) {
        self.state(replication);
        self.caches(replication);
        self.counters(replication);
        self.commit(replication.last_commit.as_ref());
        self.injection(replication.injection.as_ref());
        self.jobs(replication);
        self.peers(&replication.peers);
        self.links(&replication.links);
        self.kernel(&replication.kernel);
    }

    fn state(&mut self, replication: &Replication) {
        let Replication { role, mode, standby, .. } = replication;
        let labels = [("role", role), ("mode", mode), ("standby", standby)];
        self.gauges(
            "info",
            "Role, mode and way of standing by, as labels; always 1",
            [(labels.to_vec(), 1)],
        );
        self.gauge("active", "Whether this router is the one that serves", role == "active");
        self.gauge("in_sync", "Whether a takeover now would lose nothing", replication.in_sync);
        let uptime = number(replication.uptime_s as f64);
        let help = "Time since replication began";
        self.registry.register_with_unit("uptime", help, Unit::Seconds, uptime);
    }

    fn caches(&mut self, replication: &Replication) {
        let by_cache = |internal: u64, external: u64| {
            [("internal", internal), ("external", external)]
                .map(|(cache, count)| (vec![("cache", cache)], count))
        };
        let flows = by_cache(replication.internal, replication.external);
        self.gauges("flows", "Flows in the cache", flows);
        let expectations =
            by_cache(replication.internal_expectations, replication.external_expectations);
        self.gauges("expectations", "Expectations in the cache", expectations);
        let help = "Most flows that fit into each cache";
        self.gauge("cache_limit_flows", help, replication.cache_limit);
    }

    /// What has been counted since the start, by the names of the statistics. The others among them
    /// are lengths, and shown elsewhere.
    fn counters(&mut self, replication: &Replication) {
        for (name, value) in &replication.statistics {
            let Some(help) = described(name) else { continue };
            self.counter(&word(name), &help, *value);
        }
    }

    fn commit(&mut self, commit: Option<&Commit>) {
        let Some(commit) = commit else { return };
        let duration = number(seconds(commit.took_ms));
        let help = "Time the last commit took";
        self.registry.register_with_unit("last_commit_duration", help, Unit::Seconds, duration);
        self.gauge("last_commit_complete", "Whether everything was tried", commit.complete);
        let counts = commit.counts.iter().map(|(outcome, n)| (vec![("outcome", outcome)], *n));
        self.gauges("last_commit_entries", "Entries of the last commit by outcome", counts);
        let refused = commit.refused.iter().map(|(reason, n)| (vec![("reason", reason)], *n));
        self.gauges(
            "last_commit_refused_entries",
            "Entries the kernel refused, by reason",
            refused,
        );
    }

    fn injection(&mut self, injection: Option<&Injection>) {
        let Some(injection) = injection else { return };
        let help = "Flows in the kernel that this router does not serve";
        self.gauge("standby_kernel_flows", help, injection.in_kernel);
        let help = "Changes that wait to be made in the kernel";
        self.gauge("standby_waiting_flows", help, injection.waiting);
        let help = "Flows that the kernel does not take now";
        self.gauge("standby_refused_flows", help, injection.refused);
    }

    fn jobs(&mut self, replication: &Replication) {
        let jobs = &replication.jobs;
        let done = jobs.iter().map(|job| (vec![("job", &job.name)], job.done));
        self.gauges("job_done_entries", "Entries that long work under way has dealt with", done);
        let total = jobs.iter().filter_map(|job| Some((vec![("job", &job.name)], job.total?)));
        self.gauges("job_total_entries", "Entries that it has to deal with in all", total);
    }

    fn peers(&mut self, peers: &[Peer]) {
        let each = |value: fn(&Peer) -> u64| {
            peers.iter().map(move |peer| (vec![("peer", &peer.address)], value(peer)))
        };
        self.gauges("peer_silent", "Whether it counts as gone", each(|peer| peer.silent.into()));
        let help = "Whether a full copy of its flows has arrived";
        self.gauges("peer_initial_copy", help, each(|peer| peer.initial_copy.into()));
        let help = "Messages it has not acknowledged";
        self.gauges("peer_unacknowledged_messages", help, each(|peer| peer.unacknowledged));
        let help = "Messages in line to be sent to it";
        self.gauges("peer_waiting_messages", help, each(|peer| peer.waiting));
        let help = "Messages it does not know of us yet";
        self.gauges("peer_behind_messages", help, each(|peer| peer.behind));
        let help = "Messages of it that are missing here";
        self.gauges("peer_missing_messages", help, each(|peer| peer.missing));
        let lost = peers.iter().map(|peer| (labels(&[("peer", &peer.address)]), peer.lost));
        let help = "Messages of it that were missing when a later one came";
        self.counters_of("peer_lost_messages", help, lost);
        let times: [Time; 3] = [
            ("peer_heard_ago", "Time since it was last heard", |peer| peer.heard_ms),
            ("peer_behind", "Age of the oldest message it does not know yet", |peer| {
                Some(peer.behind_ms)
            }),
            ("peer_missing", "Since when the oldest message is missing here", |peer| {
                Some(peer.missing_ms)
            }),
        ];
        for (name, help, value) in times {
            let family = Family::<Labels, Number>::default();
            for peer in peers {
                let Some(value) = value(peer) else { continue };
                family.get_or_create(&labels(&[("peer", &peer.address)])).set(seconds(value));
            }
            self.registry.register_with_unit(name, help, Unit::Seconds, family);
        }
    }

    fn links(&mut self, links: &[Link]) {
        let named =
            |link: &Link| labels(&[("interface", &link.interface), ("transport", &link.transport)]);
        let state = |state: &'static str| {
            links.iter().map(move |link| (named(link), u64::from(link.state == state)))
        };
        self.families("link_active", "Whether it is used to send", state("active"));
        self.families("link_down", "Whether it cannot be used", state("down"));
        let largest = links.iter().map(|link| (named(link), link.max_datagram));
        self.families("link_largest_datagram_bytes", "Largest payload of a datagram", largest);
        for (name, links) in by_name(links, |link| &link.statistics) {
            let help = format!("The link's statistic {name}");
            let values = links.into_iter().map(|(link, value)| (named(link), value));
            self.counters_of(&format!("link_{}", word(name)), &help, values);
        }
    }

    fn kernel(&mut self, kernel: &Kernel) {
        if let Some(entries) = kernel.entries {
            self.gauge("kernel_table_flows", "Flows in the kernel's table", entries);
        }
        if let Some(limit) = kernel.limit {
            self.gauge("kernel_table_limit_flows", "Most flows that fit into it", limit);
        }
        let help = "Receive buffer for the kernel's events";
        self.gauge("kernel_event_buffer_bytes", help, kernel.event_buffer);
        let help = "What that buffer may grow to";
        self.gauge("kernel_event_buffer_limit_bytes", help, kernel.event_buffer_limit);
        self.gauge(
            "kernel_trouble",
            "Whether something is wrong with it",
            kernel.trouble.is_some(),
        );
        for (name, value) in &kernel.statistics {
            let help = format!("The kernel's own counter {name}");
            self.counter(&format!("kernel_{}", word(name)), &help, *value);
        }
    }
}

/// What a counter of the replicator counts, in one line without a full stop.
fn described(name: &str) -> Option<String> {
    let (_, lines) = Counters::DESCRIBED.iter().find(|(word, _)| *word == name)?;
    let mut text = String::new();
    for line in *lines {
        // Writing into memory cannot fail.
        let _ = write!(text, "{line}");
    }
    Some(text.trim().trim_end_matches('.').to_owned())
}
