//! Two routers that run Lockstep between a client and a server, with live connections through their NAT.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lockstep_lab::traffic::{Connections, Outage, Pace, Probe};
use lockstep_lab::{Firewall, Lab, RouterId};
use tempfile::TempDir;

use crate::daemon::{Control, Lockstep, virtual_addresses};
use crate::wait;

const CONNECTIONS: usize = 20;
/// For whatever must come after a hand-over.
const LIMIT: Duration = Duration::from_secs(30);

/// Client, server, and two routers that can run Lockstep. A has the higher priority and preempts.
#[derive(Debug)]
pub struct Gateway {
    /// All of them.
    pub lab: Lab,
    states: [TempDir; 2],
    standby: &'static str,
}

/// Traffic through the routers.
#[derive(Debug)]
pub struct Traffic {
    connections: Connections,
    probe: Probe,
}

impl Gateway {
    /// Nothing runs yet; a backup keeps its flows in its `cache` or its `kernel`.
    ///
    /// # Panics
    /// When namespaces cannot be made.
    #[must_use]
    pub fn new(standby: &'static str) -> Self {
        let lab = Lab::new(Firewall::Strict)
            .expect("a lab (the tests need the right to make network namespaces)");
        let states = [(); 2].map(|()| TempDir::new().expect("a directory"));
        Self { lab, states, standby }
    }

    /// The file of a router's daemon.
    #[must_use]
    pub fn config(&self, id: RouterId) -> String {
        let (priority, state) = match id {
            RouterId::A => (150, &self.states[0]),
            RouterId::B => (100, &self.states[1]),
        };
        format!(
            r#"
            [router]
            id = "{name}"
            state-directory = "{state}"

            [vrrp.gateway]
            interface = "eth0"
            vrid = 51
            priority = {priority}
            startup-limit = "0s"
            addresses = {addresses}

            [replication]
            group = "gateway"
            protocol = "conntrackd"
            mode = "ftfw"
            standby = "{standby}"

            [[replication.link]]
            interface = "eth2"
            multicast = "225.0.0.50"
            port = {port}
            "#,
            name = id.name(),
            state = state.path().display(),
            addresses = virtual_addresses(),
            standby = self.standby,
            port = Lab::REPLICATION_PORT,
        )
    }

    /// Starts the daemon of one router; what it keeps is there for its next run.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn start(&self, id: RouterId) -> Lockstep {
        let node = self.lab.router(id).expect("the router is on");
        Lockstep::start(node, &self.config(id))
    }

    /// A serves and B stands by.
    #[track_caller]
    pub fn pair(&self) -> (Lockstep, Lockstep) {
        let a = self.start(RouterId::A);
        a.wait_for_state("gateway", "master");
        let b = self.start(RouterId::B);
        b.wait_for_state("gateway", "backup");
        (a, b)
    }

    /// Begins to connect and to ask.
    ///
    /// # Panics
    /// When nothing comes through.
    #[track_caller]
    pub fn traffic(&self) -> Traffic {
        let (client, server) = (self.lab.client(), self.lab.server());
        let at = |port| SocketAddr::new(Lab::SERVER.into(), port);
        let connections = Connections::open(client, server, at(7000), CONNECTIONS, Pace::default())
            .expect("connections through the routers");
        let probe = Probe::start(client, server, at(7001)).expect("questions through the routers");
        let begin = Instant::now();
        probe.wait_for_answers(begin, LIMIT).expect("answers");
        Traffic { connections, probe }
    }
}

impl Traffic {
    /// What was not answered since then. No connection may be lost.
    ///
    /// # Panics
    /// When one is, or questions are not answered any more.
    #[track_caller]
    pub fn outage(&self, since: Instant) -> Outage {
        self.probe.wait_for_answers(Instant::now(), LIMIT).expect("the questions are answered");
        let outage = self.probe.longest_outage(since);
        let verdict = self.connections.settle(Instant::now(), LIMIT);
        assert!(verdict.all_survived(), "{verdict:?}");
        outage
    }
}

/// Waits until a router that serves has a peer that holds all its flows.
#[track_caller]
pub fn wait_until_told(daemon: &Control) {
    wait::until("the peer has been told all", || {
        let replication = &daemon.status()["replication"];
        replication["role"] == "active" && replication["in-sync"] == true
    });
}
