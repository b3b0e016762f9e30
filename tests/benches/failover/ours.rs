//! Lockstep on one router.

use std::time::Instant;

use lockstep_lab::{Lab, Node, RouterId};
use lockstep_tests::daemon::{Lockstep, virtual_addresses};
use lockstep_tests::wait;
use serde_json::Value;

use crate::side::{CHECK_EVERY, Division, LINK_BUFFER, Setting, Since, State, milliseconds};

/// The failover group.
const GROUP: &str = "routers";

/// The running daemon.
pub(crate) struct Ours {
    daemon: Lockstep,
    in_kernel: bool,
}

impl Ours {
    pub(crate) fn start(node: &Node, id: RouterId, setting: &Setting, standby: &str) -> Self {
        let daemon = Lockstep::start(node, &configuration(id, setting, standby));
        Self { daemon, in_kernel: standby == "kernel" }
    }

    pub(crate) fn wait_for(&self, state: State) {
        self.daemon.wait_for_state(
            GROUP,
            match state {
                State::Master => "master",
                State::Backup => "backup",
            },
        );
    }

    pub(crate) fn known(&self, node: &Node) -> Option<u64> {
        let replication = &self.daemon.status()["replication"];
        let known = if self.in_kernel {
            node.setting("net/netfilter/nf_conntrack_count").unwrap().parse().unwrap()
        } else {
            replication["external"].as_u64()?
        };
        (replication["in-sync"] == true).then_some(known)
    }

    pub(crate) fn masteries(&self) -> usize {
        self.to_master().len()
    }

    pub(crate) fn division(&self, before: usize, since: Since, addresses: Instant) -> Division {
        let steps = wait::some("the transition is over", || {
            let transition = self.to_master().into_iter().nth(before)?;
            let steps = transition["steps"].as_array()?.clone();
            steps.iter().all(|step| step["took-us"].is_u64()).then_some(steps)
        });
        let step = |name: &str| {
            let found = steps.iter().find(|step| step["step"] == name);
            let step = found.unwrap_or_else(|| panic!("no {name} in {steps:?}"));
            ["started-us", "took-us"].map(|field| step[field].as_f64().unwrap() / 1e3)
        };
        let [started, took] = step("addresses");
        Division::Ours {
            detection: milliseconds(addresses - since.instant) - started - took,
            commit: step("commit flows")[1],
            addresses: took,
            announce: step("announce")[1],
        }
    }

    pub(crate) fn kill(mut self) {
        self.daemon.kill();
    }

    pub(crate) fn stop(mut self) {
        let status = self.daemon.stop();
        assert!(status.success(), "lockstep ends with {status}");
    }

    fn to_master(&self) -> Vec<Value> {
        let journal = self.daemon.journal(GROUP).into_iter();
        journal.filter(|transition| transition["to"] == "master").collect()
    }
}

fn configuration(id: RouterId, setting: &Setting, standby: &str) -> String {
    let (check, checks) = match setting.health(id) {
        Some(health) => (
            format!(
                "[check.healthy]\ncommand = [\"test\", \"-e\", '{}']\ninterval = \"{}ms\"\n",
                health.display(),
                CHECK_EVERY.as_millis()
            ),
            "checks = [\"healthy\"]\n",
        ),
        None => (String::new(), ""),
    };
    format!(
        "[router]
id = \"{name}\"

{check}
[vrrp.gateway]
interface = \"eth0\"
vrid = 51
version = 3
priority = {priority}
preempt = true
advertisement-interval = \"{interval}ms\"
addresses = {addresses}

[group.{GROUP}]
virtual-routers = [\"gateway\"]
{checks}
[replication]
group = \"{GROUP}\"
protocol = \"conntrackd\"
mode = \"ftfw\"
standby = \"{standby}\"
cache-limit = {limit}

[[replication.link]]
interface = \"eth2\"
multicast = \"225.0.0.50\"
port = {port}
checksum = true
send-buffer = {LINK_BUFFER}
receive-buffer = {LINK_BUFFER}

[replication.filter]
protocols = [\"tcp\"]
ignore-addresses = [\"127.0.0.0/8\", \"{sync}\"]
",
        name = id.name(),
        priority = Setting::priority(id),
        interval = setting.interval.as_millis(),
        addresses = virtual_addresses(),
        limit = setting.limit,
        port = Lab::REPLICATION_PORT,
        sync = Lab::SYNC,
    )
}
