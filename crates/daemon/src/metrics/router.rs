//! What is known of the groups, the virtual routers, what is tracked, and what is declared.

use prometheus_client::registry::Unit;

use super::{Page, by_name, labels, number, word};
use crate::status::{Fifo, Group, Network, Scheduling, Status, VirtualRouter};

/// The states of a group.
const GROUP_STATES: [&str; 5] = ["init", "backup", "master", "fault", "stopped"];
/// The states of a virtual router (RFC 9568 §6.3).
const STATES: [&str; 3] = ["initialize", "backup", "master"];
/// The parts that a page is made of.
const PARTS: [&str; 3] = ["core", "network", "replicator"];

impl Page<'_> {
    /// All of it.
    pub(super) fn router(&mut self, status: &Status) {
        let about = [("router", status.router.as_str()), ("version", env!("CARGO_PKG_VERSION"))];
        self.families(
            "info",
            "The router and its version, as labels; always 1",
            [(labels(&about), 1)],
        );
        let answering = PARTS.map(|part| {
            let silent = status.no_answer.iter().any(|silent| silent == part);
            (labels(&[("part", part)]), u64::from(!silent))
        });
        self.families("part_answering", "Whether that part of the daemon answered", answering);
        self.groups(&status.groups);
        self.virtual_routers(&status.virtual_routers);
        self.tracked(status);
        self.declared(&status.network);
        if let Some(scheduling) = &status.scheduling {
            self.scheduling(scheduling);
        }
        if let Some(fifo) = &status.notify_fifo {
            self.fifo(fifo);
        }
    }

    fn groups(&mut self, groups: &[Group]) {
        let states = groups.iter().flat_map(|group| {
            GROUP_STATES.map(|state| {
                let labels = labels(&[("group", &group.name), ("state", state)]);
                (labels, u64::from(group.state == state))
            })
        });
        self.families("group_state", "Whether the group is in that state", states);
        let each = |value: fn(&Group) -> bool| {
            groups
                .iter()
                .map(move |group| (labels(&[("group", &group.name)]), u64::from(value(group))))
        };
        let help = "Whether a transition of the group is under way";
        self.families("group_in_transition", help, each(|group| group.step.is_some()));
        let help = "Whether the group is in maintenance";
        self.families("group_maintenance", help, each(|group| group.maintenance.is_some()));
    }

    fn virtual_routers(&mut self, routers: &[VirtualRouter]) {
        let named = |router: &VirtualRouter| labels(&[("virtual_router", &router.name)]);
        let about = routers.iter().map(|router| {
            let VirtualRouter { name, group, interface, family, .. } = router;
            let (vrid, version) = (router.vrid.to_string(), router.version.to_string());
            let pairs = [
                ("virtual_router", name.as_str()),
                ("group", group),
                ("interface", interface),
                ("vrid", &vrid),
                ("version", &version),
                ("family", family),
            ];
            (labels(&pairs), 1)
        });
        self.families("vrrp_info", "Where it belongs, as labels; always 1", about);
        let states = routers.iter().flat_map(|router| {
            STATES.map(|state| {
                let labels = labels(&[("virtual_router", &router.name), ("state", state)]);
                (labels, u64::from(router.state == state))
            })
        });
        self.families("vrrp_state", "Whether the virtual router is in that state", states);
        let each = |value: fn(&VirtualRouter) -> u64| {
            routers.iter().map(move |router| (named(router), value(router)))
        };
        let help = "Configured priority";
        self.families("vrrp_priority", help, each(|router| router.priority.into()));
        let help = "Priority in force";
        self.families(
            "vrrp_effective_priority",
            help,
            each(|router| router.effective_priority.into()),
        );
        let help = "Neighbours whose advertisements are refused";
        self.families("vrrp_refused_neighbours", help, each(|router| router.rejected.len() as u64));
        let help = "Neighbours that are heeded and differ in something";
        self.families("vrrp_differences", help, each(|router| router.differs.len() as u64));
        let help = "Whether the last advertisement has not left";
        self.families("vrrp_sending_failed", help, each(|router| router.sending.is_some().into()));
        let help = "Whether a takeover is withheld";
        self.families(
            "vrrp_takeover_withheld",
            help,
            each(|router| router.withheld.is_some().into()),
        );
        for (name, routers) in by_name(routers, |router| &router.statistics) {
            let help = format!("The virtual router's counter {name}");
            let values = routers.into_iter().map(|(router, value)| (named(router), value));
            self.counters_of(&format!("vrrp_{}", word(name)), &help, values);
        }
    }

    fn tracked(&mut self, status: &Status) {
        let checks = status
            .checks
            .iter()
            .map(|check| (labels(&[("check", &check.name)]), u64::from(check.state == "good")));
        self.families(
            "check_good",
            "Whether the check last succeeded as often as it has to",
            checks,
        );
        let tracked = || {
            status.groups.iter().flat_map(|group| {
                group.tracked.iter().map(|tracked| {
                    let of = tracked.virtual_router.as_deref().unwrap_or_default();
                    let pairs = [
                        ("group", group.name.as_str()),
                        ("virtual_router", of),
                        ("object", &tracked.object),
                    ];
                    (labels(&pairs), tracked)
                })
            })
        };
        let good = tracked().map(|(labels, one)| (labels, u64::from(one.state == "good")));
        self.families("tracked_good", "Whether what is tracked is as it should be", good);
    }

    fn declared(&mut self, network: &Network) {
        let counts = network.counts;
        let by_state = [
            ("installed", counts.installed),
            ("pending", counts.pending),
            ("conflicting", counts.conflicting),
            ("failed", counts.failed),
        ]
        .map(|(state, count)| (labels(&[("state", state)]), count));
        let help = "Declared links, addresses, routes and rules in that state";
        self.families("declared_objects", help, by_state);
    }

    fn scheduling(&mut self, scheduling: &Scheduling) {
        let seconds = |microseconds: u64| number(microseconds as f64 / 1e6);
        let help = "How late a timer of an election was served at most, since the start";
        let worst = seconds(scheduling.worst_late_us);
        self.registry.register_with_unit("scheduling_worst_late", help, Unit::Seconds, worst);
        let help = "How late a timer of an election was served at most, in the last minute";
        let worst = seconds(scheduling.worst_late_last_minute_us);
        self.registry.register_with_unit(
            "scheduling_worst_late_last_minute",
            help,
            Unit::Seconds,
            worst,
        );
        let help = "Times a master was not scheduled for so long that another may have taken over";
        self.counter("scheduling_overslept", help, scheduling.overslept);
        let help = "Advertisements lost because they were not read in time";
        self.counter("advertisement_drops", help, scheduling.receive_drops);
    }

    fn fifo(&mut self, fifo: &Fifo) {
        self.counter("notify_fifo_written_lines", "Lines written", fifo.written);
        self.counter("notify_fifo_lost_lines", "Lines lost", fifo.lost);
        self.gauge("notify_fifo_unread_bytes", "Bytes that nobody has read yet", fifo.unread_bytes);
    }
}
