//! Live traffic through a pair of Lockstep routers: what it needs from the flow that its first router tracked, the second
//! has when it takes over.
//!
//! The routers translate, and their firewall is strict: what belongs to no flow that they know is dropped. Everything is
//! played with both ways of standing by.

mod forwarding;
mod ftp;
mod icmp;
mod sctp;
mod tcp;
mod udp;

use lockstep_lab::{Firewall, Lab, Node, RouterId};
use lockstep_tests::daemon::{Lockstep, number, virtual_addresses};
use lockstep_tests::wait;
use serde_json::Value;

/// Client and server, and two routers that run Lockstep: A serves, B stands by.
struct Pair {
    lab: Lab,
    active: Option<Lockstep>,
    standby: Lockstep,
}

/// Where a backup keeps the flows.
const WAYS: [&str; 2] = ["cache", "kernel"];

impl Pair {
    /// Both routers at work, after `prepare` has been done to each.
    fn new(standby: &str, prepare: impl Fn(&Node)) -> Self {
        Self::with(&format!("standby = \"{standby}\""), prepare)
    }

    /// The same, with these settings of the replication.
    fn with(settings: &str, prepare: impl Fn(&Node)) -> Self {
        let lab = Lab::new(Firewall::Strict)
            .expect("a lab (the tests need the right to make network namespaces)");
        let [a, b] = RouterId::BOTH.map(|id| lab.router(id).expect("the router is on"));
        prepare(a);
        prepare(b);
        let active = Lockstep::start(a, &config("a", 150, settings));
        active.wait_for_state("gateway", "master");
        let standby = Lockstep::start(b, &config("b", 100, settings));
        standby.wait_for_state("gateway", "backup");
        wait::until("the routers hear each other", || {
            standby.status()["replication"]["in-sync"] == true
        });
        Self { lab, active: Some(active), standby }
    }

    /// Router B.
    fn b(&self) -> &Node {
        self.lab.router(RouterId::B).expect("router B is on")
    }

    /// Waits until B has been told of a flow like this.
    #[track_caller]
    fn wait_until_told(&self, what: &str, is_it: impl Fn(&Value) -> bool) {
        wait::until(&format!("B has been told of {what}"), || {
            let flows = self.standby.ask(&["replication", "external"]);
            flows.as_array().expect("a list").iter().any(&is_it)
        });
    }

    /// Takes A away without a word, and waits until B serves.
    #[track_caller]
    fn fail_over(&mut self) {
        self.take_a_away();
        self.standby.wait_for_state("gateway", "master");
    }

    /// Takes A away without a word, once B knows everything.
    #[track_caller]
    fn take_a_away(&mut self) {
        // What stands by in the kernel has to have arrived there.
        wait::until("B has everything", || {
            let [active, standby] = [self.active.as_ref().expect("A runs"), &self.standby]
                .map(|router| router.status());
            let told = number(&active["replication"]["internal"]);
            number(&standby["replication"]["external"]) == told
                && standby["replication"]["in-sync"] == true
        });
        self.active.take().expect("A runs").kill();
        self.lab.power_off(RouterId::A);
    }
}

/// A router's configuration.
fn config(id: &str, priority: u8, settings: &str) -> String {
    format!(
        r#"
        [router]
        id = "{id}"

        [vrrp.gateway]
        interface = "eth0"
        vrid = 51
        priority = {priority}
        preempt = false
        advertisement-interval = "100ms"
        addresses = {}

        [replication]
        group = "gateway"
        protocol = "conntrackd"
        {settings}

        [[replication.link]]
        interface = "eth2"
        multicast = "225.0.0.50"
        port = {}
        "#,
        virtual_addresses(),
        Lab::REPLICATION_PORT,
    )
}
