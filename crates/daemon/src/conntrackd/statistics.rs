//! `conntrackd -s` in conntrackd's own lines, for scripts that pick numbers out of them.
//!
//! What Lockstep does not count is left out rather than shown as zero: bytes and packets of ended
//! flows, failures of child processes, which it has none of.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::options::Statistics;
use crate::status::Replication;
use crate::status::replication::Link;

/// conntrackd measures its uptime in these.
const MINUTE_S: u64 = 60;

/// The answer to `-s WHAT`.
pub(super) fn text(replication: &Replication, what: Statistics) -> String {
    let mut page = Page { text: String::new(), counters: &replication.statistics };
    match what {
        Statistics::Flows => page.overview(replication, false),
        Statistics::Expectations => page.overview(replication, true),
        Statistics::Network => page.network(replication),
        Statistics::Cache => page.caches(replication),
        Statistics::Runtime => page.runtime(replication),
        Statistics::Link => {
            for link in &replication.links {
                page.link(link, replication.links.len() == 1);
            }
        }
        Statistics::ResendQueue => page.resend_queue(replication),
        Statistics::Queue => page.queues(replication),
        Statistics::Process => {
            for job in &replication.jobs {
                let of = job.total.map(|total| format!("/{total}")).unwrap_or_default();
                page.line(format_args!("type={} done={}{of}", job.name, job.done));
            }
        }
    }
    page.text
}

struct Page<'a> {
    text: String,
    counters: &'a BTreeMap<String, u64>,
}

impl Page<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into memory cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
    }

    fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    fn sum(&self, names: &[&str]) -> u64 {
        names.iter().map(|name| self.count(name)).sum()
    }

    fn overview(&mut self, replication: &Replication, expectations: bool) {
        let prefix = |cache: &str| {
            if expectations { format!("{cache}-expectations") } else { cache.to_owned() }
        };
        let (internal, external) = if expectations {
            (replication.internal_expectations, replication.external_expectations)
        } else {
            (replication.internal, replication.external)
        };
        self.cache("internal", &prefix("internal"), internal);
        self.cache("external", &prefix("external"), external);
        self.traffic(replication);
        self.line(format_args!("message tracking:"));
        let (malformed, lost) = (self.count("malformed-messages"), self.count("messages-lost"));
        self.line(format_args!("{malformed:20} Malformed msgs {lost:20} Lost msgs"));
        self.line(format_args!(""));
    }

    fn cache(&mut self, name: &str, prefix: &str, active: u64) {
        let counted = |what: &str| self.count(&format!("{prefix}-{what}"));
        let created = (counted("created"), counted("full") + counted("incomplete"));
        let updated = counted("updated");
        let destroyed = counted("destroyed") + counted("swept");
        self.line(format_args!("cache {name}:"));
        self.line(format_args!("current active connections:\t{active:12}"));
        self.line(format_args!(
            "connections created:\t\t{:12}\tfailed:\t{:12}",
            created.0, created.1
        ));
        self.line(format_args!("connections updated:\t\t{updated:12}\tfailed:\t{:12}", 0));
        self.line(format_args!("connections destroyed:\t\t{destroyed:12}\tfailed:\t{:12}", 0));
        self.line(format_args!(""));
    }

    /// The traffic of the link in use, or of all together where that is not told apart.
    fn traffic(&mut self, replication: &Replication) {
        if let Some(link) = replication.links.iter().find(|link| link.state == "active") {
            let transport = transport(link);
            self.line(format_args!("{transport} traffic (active device={}):", link.interface));
            self.numbers(link, replication.links.len() == 1);
        } else {
            self.line(format_args!("traffic (no active device):"));
            self.numbers(&Link::default(), true);
        }
        self.line(format_args!(""));
    }

    fn link(&mut self, link: &Link, only: bool) {
        let (status, role) = match link.state.as_str() {
            "active" => ("RUNNING", "ACTIVE"),
            "down" => ("DOWN", "BACKUP"),
            _ => ("RUNNING", "BACKUP"),
        };
        let transport = transport(link);
        let device = &link.interface;
        self.line(format_args!("{transport} traffic device={device} status={status} role={role}:"));
        self.numbers(link, only);
        self.line(format_args!(""));
    }

    fn numbers(&mut self, link: &Link, only: bool) {
        let own = |name: &str| link.statistics.get(name).copied();
        let count =
            |name: &str| own(name).unwrap_or_else(|| if only { self.count(name) } else { 0 });
        let bytes = (count("bytes-sent"), count("bytes-received"));
        let datagrams = (count("datagrams-sent"), count("datagrams-received"));
        let errors = (count("send-errors"), count("receive-errors"));
        self.line(format_args!("{:20} Bytes sent {:20} Bytes recv", bytes.0, bytes.1));
        self.line(format_args!("{:20} Pckts sent {:20} Pckts recv", datagrams.0, datagrams.1));
        self.line(format_args!("{:20} Error send {:20} Error recv", errors.0, errors.1));
    }

    fn network(&mut self, replication: &Replication) {
        self.line(format_args!("network statistics:"));
        self.line(format_args!("\trecv:"));
        for (label, name) in [
            ("Malformed messages:\t", "malformed-messages"),
            ("Wrong protocol version:\t", "malformed-version"),
            ("Malformed header:\t", "malformed-header"),
            ("Malformed payload:\t", "malformed-payload"),
            ("Truncated message:\t", "malformed-truncated"),
            ("Bad message size:\t", "malformed-size"),
        ] {
            let count = self.count(name);
            self.line(format_args!("\t\t{label}{count:20}"));
        }
        self.line(format_args!("\tsend:"));
        let unsendable = self.sum(&["unsendable", "too-large"]);
        self.line(format_args!("\t\tMalformed messages:\t{unsendable:20}"));
        self.line(format_args!(""));
        self.line(format_args!("sequence tracking statistics:"));
        self.line(format_args!("\trecv:"));
        let (lost, before) = (self.count("messages-lost"), self.count("messages-before"));
        self.line(format_args!("\t\tPackets lost:\t\t{lost:20}"));
        self.line(format_args!("\t\tPackets before:\t\t{before:20}"));
        self.line(format_args!(""));
        self.traffic(replication);
    }

    fn caches(&mut self, replication: &Replication) {
        for (name, active) in
            [("internal", replication.internal), ("external", replication.external)]
        {
            let counted = |what: &str| self.count(&format!("{name}-{what}"));
            let full = counted("full");
            let failed = full + counted("incomplete");
            let (created, updated) = (counted("created"), counted("updated"));
            let destroyed = counted("destroyed") + counted("swept");
            self.line(format_args!("cache:{name}\tactive objects:\t\t{active:12}"));
            self.line(format_args!("\tactive/total entries:\t\t{active:12}/{active:12}"));
            self.line(format_args!("\tcreation OK/failed:\t\t{created:12}/{failed:12}"));
            self.line(format_args!("\t\tno space left in cache:\t{full:12}"));
            self.line(format_args!("\tupdate OK/failed:\t\t{updated:12}/{:12}", 0));
            self.line(format_args!("\tdeletion created/failed:\t{destroyed:12}/{:12}", 0));
            self.line(format_args!(""));
        }
    }

    fn runtime(&mut self, replication: &Replication) {
        let minutes = replication.uptime_s / MINUTE_S;
        self.line(format_args!("daemon uptime: {minutes} min"));
        self.line(format_args!(""));
        self.line(format_args!("netlink stats:"));
        let filtered = self.count("internal-filtered");
        let taken = self.sum(&["internal-created", "internal-updated", "internal-destroyed"]);
        self.line(format_args!("\tevents received:\t{:20}", taken + filtered));
        self.line(format_args!("\tevents filtered:\t{filtered:20}"));
        let kernel = &replication.kernel.statistics;
        let overruns = kernel.get("event-overruns").copied().unwrap_or(0);
        self.line(format_args!("\tnetlink overrun:\t\t{overruns:12}"));
        let buffer = replication.kernel.event_buffer;
        self.line(format_args!("\tcurrent buffer size (in bytes):\t{buffer:12}"));
        self.line(format_args!(""));
    }

    fn resend_queue(&mut self, replication: &Replication) {
        let length: u64 = replication.peers.iter().map(|peer| peer.unacknowledged).sum();
        self.line(format_args!("resent queue (len={length})"));
        for peer in &replication.peers {
            let (count, address) = (peer.unacknowledged, &peer.address);
            self.line(format_args!("object -> peer:{address} unacknowledged:{count}"));
        }
    }

    fn queues(&mut self, replication: &Replication) {
        let waiting = replication.peers.iter().map(|peer| peer.waiting).sum();
        let unacknowledged = replication.peers.iter().map(|peer| peer.unacknowledged).sum();
        let queues: [(&str, u64, u64); 2] = [
            ("txqueue", waiting, self.count("control-queue-overflow")),
            ("rsqueue", unacknowledged, self.count("resend-queue-overflow")),
        ];
        for (name, elements, refused) in queues {
            self.line(format_args!("queue {name}:"));
            self.line(format_args!("current elements:\t\t{elements:12}"));
            self.line(format_args!("not enough space errors:\t{refused:12}"));
            self.line(format_args!(""));
        }
    }
}

/// What conntrackd calls a transport.
fn transport(link: &Link) -> &'static str {
    match link.transport.as_str() {
        "udp" => "UDP",
        "tcp" => "TCP",
        _ => "multicast",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Peer;

    fn replication() -> Replication {
        let counters = [
            ("internal-created", 3),
            ("internal-full", 2),
            ("external-updated", 4),
            ("malformed-messages", 5),
            ("messages-lost", 6),
            ("bytes-sent", 284),
        ];
        Replication {
            internal: 3,
            uptime_s: 125,
            links: vec![Link {
                interface: "v0".to_owned(),
                transport: "multicast".to_owned(),
                state: "active".to_owned(),
                ..Link::default()
            }],
            peers: vec![Peer {
                unacknowledged: 9,
                address: "10.0.0.2".to_owned(),
                ..Peer::default()
            }],
            statistics: counters.map(|(name, count)| (name.to_owned(), count)).into(),
            ..Replication::default()
        }
    }

    #[test]
    fn the_overview_has_conntrackd_s_lines() {
        let expected = "\
cache internal:
current active connections:\t           3
connections created:\t\t           3\tfailed:\t           2
connections updated:\t\t           0\tfailed:\t           0
connections destroyed:\t\t           0\tfailed:\t           0

cache external:
current active connections:\t           0
connections created:\t\t           0\tfailed:\t           0
connections updated:\t\t           4\tfailed:\t           0
connections destroyed:\t\t           0\tfailed:\t           0

multicast traffic (active device=v0):
                 284 Bytes sent                    0 Bytes recv
                   0 Pckts sent                    0 Pckts recv
                   0 Error send                    0 Error recv

message tracking:
                   5 Malformed msgs                    6 Lost msgs

";
        assert_eq!(text(&replication(), Statistics::Flows), expected);
    }

    #[test]
    fn lost_events_are_counted_by_the_kernel_s_own_word() {
        let mut replication = replication();
        replication.kernel.statistics.insert("event-overruns".to_owned(), 12);
        let shown = text(&replication, Statistics::Runtime);
        assert!(shown.contains("\tnetlink overrun:\t\t          12\n"), "{shown}");
    }

    #[test]
    fn every_kind_of_statistics_begins_as_conntrackd_s() {
        for (what, beginning) in [
            (
                Statistics::Expectations,
                "cache internal:\ncurrent active connections:\t           0\n",
            ),
            (
                Statistics::Network,
                "network statistics:\n\trecv:\n\t\tMalformed messages:\t                   5\n",
            ),
            (Statistics::Cache, "cache:internal\tactive objects:\t\t           3\n"),
            (
                Statistics::Runtime,
                "daemon uptime: 2 min\n\nnetlink stats:\n\tevents received:\t                   3\n",
            ),
            (Statistics::Link, "multicast traffic device=v0 status=RUNNING role=ACTIVE:\n"),
            (Statistics::ResendQueue, "resent queue (len=9)\n"),
            (Statistics::Queue, "queue txqueue:\ncurrent elements:\t\t           0\n"),
            (Statistics::Process, ""),
        ] {
            let shown = text(&replication(), what);
            assert!(shown.starts_with(beginning), "{what:?}: {shown}");
        }
    }
}
