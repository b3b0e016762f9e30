//! Two routers with flows to replicate.

use std::process::Output;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::conntrackd::insert_flows;
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;

/// Flows that the master has.
pub(crate) const FLOWS: u64 = 20;

/// A master with [`FLOWS`] flows and a backup that has been told of them.
pub(crate) struct Two {
    pub(crate) master: Lockstep,
    pub(crate) backup: Lockstep,
    pub(crate) master_node: Node,
    pub(crate) backup_node: Node,
    _lans: [Lan; 2],
}

impl Two {
    /// Waits until everything has arrived.
    pub(crate) fn new() -> Self {
        let lans = [Lan::new().expect("a LAN"), Lan::new().expect("a LAN")];
        let node = |name: &str, host: u8| {
            let node = Node::new(name).expect("a namespace");
            for (lan, interface, network) in
                [(&lans[0], "eth0", "10.51.0"), (&lans[1], "eth2", "192.168.9")]
            {
                let address = format!("{network}.{host}/24").parse().expect("an address");
                let interface = Interface::new(interface).address(address);
                node.attach(lan, &interface).expect("an interface");
            }
            node
        };
        let (master_node, backup_node) = (node("left", 11), node("right", 12));
        let master = Lockstep::start(&master_node, &configuration(150));
        master.wait_for_state("gateway", "master");
        let backup = Lockstep::start(&backup_node, &configuration(100));
        backup.wait_for_state("gateway", "backup");
        insert_flows(&master_node, 10_000, FLOWS as u16);
        let two = Self { master, backup, master_node, backup_node, _lans: lans };
        two.wait_for_external(FLOWS);
        two
    }

    /// Waits until the backup's external cache has so many flows.
    pub(crate) fn wait_for_external(&self, flows: u64) {
        wait::until(&format!("{flows} flows at the backup"), || {
            replication(&self.backup)["external"] == flows
        });
    }

    /// Waits until the backup counts as in sync.
    pub(crate) fn wait_for_sync(&self) {
        wait::until("the backup is in sync", || replication(&self.backup)["in-sync"] == true);
    }
}

/// `lockstep replication status --json`.
pub(crate) fn replication(daemon: &Lockstep) -> serde_json::Value {
    daemon.ask(&["replication", "status"])
}

/// A router without anybody else, and without flows.
pub(crate) fn alone() -> (Lockstep, Node, Lan) {
    let lan = Lan::new().expect("a LAN");
    let node = Node::new("alone").expect("a namespace");
    for (interface, address) in [("eth0", "10.51.0.11/24"), ("eth2", "192.168.9.11/24")] {
        let interface = Interface::new(interface).address(address.parse().expect("an address"));
        node.attach(&lan, &interface).expect("an interface");
    }
    let daemon = Lockstep::start(&node, &configuration(150));
    daemon.wait_for_state("gateway", "master");
    (daemon, node, lan)
}

pub(crate) fn configuration(priority: u8) -> String {
    format!(
        "[vrrp.gateway]\ninterface = \"eth0\"\nvrid = 51\npriority = {priority}\n\
         advertisement-interval = \"250ms\"\naddresses = [\"10.51.0.1/24\"]\n\
         [replication]\nprotocol = \"conntrackd\"\npurge-timeout = \"1h\"\n\
         [[replication.link]]\ninterface = \"eth2\"\nmulticast = \"225.0.0.50\"\n"
    )
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().expect("an exit status")
}
