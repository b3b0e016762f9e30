//! Load sharing: each of two routers is master of one group, with live connections through both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use lockstep_lab::traffic::{Connections, Pace};
use lockstep_lab::{Firewall, Lab, Node, RouterId};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;
use tempfile::TempDir;

/// The server's address that is reached by way of the second group.
const SECOND_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 150);
/// The second group's virtual addresses, inside and outside.
const SECOND_LAN: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 200);
const SECOND_WAN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);
const CONNECTIONS: usize = 20;
/// For whatever must come after a failover.
const LIMIT: Duration = Duration::from_mins(1);

struct Shared {
    lab: Lab,
    states: [TempDir; 2],
}

fn in_24(address: Ipv4Addr) -> IpNet {
    IpNet::new(address.into(), 24).expect("a network")
}

impl Shared {
    fn new() -> Self {
        let lab = Lab::new(Firewall::Strict)
            .expect("a lab (the tests need the right to make network namespaces)");
        lab.server().add_address("eth0", in_24(SECOND_SERVER)).expect("another address");
        let only = IpNet::from(IpAddr::V4(SECOND_SERVER));
        lab.client().add_route(only, SECOND_LAN.into()).expect("a route");
        let states = [(); 2].map(|()| TempDir::new().expect("a directory"));
        let shared = Self { lab, states };
        for id in RouterId::BOTH {
            shared.translate_second(id);
        }
        shared
    }

    fn node(&self, id: RouterId) -> &Node {
        self.lab.router(id).expect("the router is on")
    }

    /// What goes to the second server leaves with the second group's address.
    fn translate_second(&self, id: RouterId) {
        let rules = format!(
            "add table ip second\n\
             add chain ip second post {{ type nat hook postrouting priority 90; }}\n\
             add rule ip second post oifname eth1 ip daddr {SECOND_SERVER} snat to {SECOND_WAN}"
        );
        let mut command = Command::new("nft");
        command.arg(rules);
        let output = self.node(id).output(command).expect("nft runs");
        assert!(output.status.success(), "{output:?}");
    }

    /// A is preferred for the first group, B for the second.
    fn start(&self, id: RouterId) -> Lockstep {
        let (first, second) = match id {
            RouterId::A => (150, 100),
            RouterId::B => (100, 150),
        };
        let config = format!(
            r#"
            [router]
            id = "{name}"
            state-directory = "{state}"

            [vrrp.first]
            interface = "eth0"
            vrid = 51
            priority = {first}
            startup-limit = "0s"
            addresses = [{{ address = "{lan}/24", interface = "eth0" }}, {{ address = "{wan}/24", interface = "eth1" }}]

            [vrrp.second]
            interface = "eth0"
            vrid = 52
            priority = {second}
            startup-limit = "0s"
            addresses = [{{ address = "{SECOND_LAN}/24", interface = "eth0" }}, {{ address = "{SECOND_WAN}/24", interface = "eth1" }}]

            [replication]
            groups = ["first", "second"]
            protocol = "conntrackd"

            [[replication.link]]
            interface = "eth2"
            multicast = "225.0.0.50"
            port = {port}
            "#,
            name = id.name(),
            state = self.states[id as usize].path().display(),
            lan = Lab::LAN_VIRTUAL,
            wan = Lab::WAN_VIRTUAL,
            port = Lab::REPLICATION_PORT,
        );
        Lockstep::start(self.node(id), &config)
    }

    fn connect(&self, server: Ipv4Addr) -> Connections {
        let (client, host) = (self.lab.client(), self.lab.server());
        let address = SocketAddr::new(server.into(), 7000);
        Connections::open(client, host, address, CONNECTIONS, Pace::default())
            .expect("connections through the routers")
    }
}

/// Each serves its own group, and holds what the other one serves.
#[track_caller]
fn wait_until_shared(a: &Lockstep, b: &Lockstep) {
    for (daemon, serves, leaves) in [(a, "first", "second"), (b, "second", "first")] {
        daemon.wait_for_state(serves, "master");
        daemon.wait_for_state(leaves, "backup");
    }
    for daemon in [a, b] {
        wait::until("each holds what the other one serves", || {
            let replication = &daemon.status()["replication"];
            replication["role"] == "active" && replication["in-sync"] == true
        });
    }
}

#[track_caller]
fn assert_survived(connections: &[Connections], what: &str) {
    for (group, connections) in ["first", "second"].iter().zip(connections) {
        let verdict = connections.settle(Instant::now(), LIMIT);
        assert!(verdict.all_survived(), "{what}, {group}: {verdict:?}");
    }
}

#[test]
fn two_groups_on_two_routers_survive_the_death_of_either_router_and_its_return() {
    let mut shared = Shared::new();
    let mut daemons = RouterId::BOTH.map(|id| shared.start(id));
    wait_until_shared(&daemons[0], &daemons[1]);
    let connections = [shared.connect(Lab::SERVER), shared.connect(SECOND_SERVER)];
    wait_until_shared(&daemons[0], &daemons[1]);

    for (id, group) in [(RouterId::A, "first"), (RouterId::B, "second")] {
        let (dies, stays) = (id as usize, id.other() as usize);
        daemons[dies].kill();
        shared.lab.power_off(id);
        daemons[stays].wait_for_state(group, "master");
        assert_survived(&connections, &format!("{} has died", id.name()));

        shared.lab.power_on(id).expect("the router comes back");
        shared.translate_second(id);
        daemons[dies] = shared.start(id);
        wait_until_shared(&daemons[0], &daemons[1]);
        assert_survived(&connections, &format!("{} is back", id.name()));
    }
}

#[test]
fn a_group_is_handed_over_and_back_beside_the_other_without_a_lost_connection() {
    let shared = Shared::new();
    let [a, b] = RouterId::BOTH.map(|id| shared.start(id));
    wait_until_shared(&a, &b);
    let connections = [shared.connect(Lab::SERVER), shared.connect(SECOND_SERVER)];
    wait_until_shared(&a, &b);
    for _ in 0..3 {
        a.ask(&["switchover", "first"]);
        b.wait_for_state("first", "master");
        assert_eq!(b.state("second"), "master");
        assert_survived(&connections, "B serves both");
        wait::until("A has what B serves", || a.status()["replication"]["in-sync"] == true);
        wait::until("B has told all", || b.status()["replication"]["in-sync"] == true);
        b.ask(&["switchover", "first"]);
        wait_until_shared(&a, &b);
        assert_survived(&connections, "each serves one");
    }
}
