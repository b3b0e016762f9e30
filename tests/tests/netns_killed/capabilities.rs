//! The service's unit gives the daemon few capabilities, and they are enough.

use std::fs;

use lockstep_lab::{Firewall, Lab, RouterId};
use lockstep_tests::daemon::{Lockstep, virtual_addresses};
use lockstep_tests::{rights, wait};
use nix::sys::signal::Signal;

/// What the unit lets it have, as `setpriv` has it.
fn bounding_set() -> String {
    let unit = include_str!("../../../dist/systemd/lockstep.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .expect("the unit limits them");
    let names = line.split_whitespace().map(|name| {
        format!(",+{}", name.strip_prefix("CAP_").expect("a capability").to_lowercase())
    });
    format!("-all{}", names.collect::<String>())
}

fn config(id: &str, priority: u8, more: &str) -> String {
    let (virtual_addresses, sections) = (virtual_addresses(), rights::sections());
    format!(
        r#"
        [router]
        id = "{id}"
        real-time = 10
        lock-memory = true

        [vrrp.gateway]
        interface = "eth0"
        vrid = 51
        virtual-mac = false
        priority = {priority}
        advertisement-interval = "200ms"
        addresses = {virtual_addresses}
        track = [{{ check = "alive", weight = -10 }}]

        [vrrp.mac]
        interface = "eth0"
        vrid = 52
        virtual-mac = true
        accept = false
        priority = {priority}
        advertisement-interval = "200ms"
        addresses = ["10.10.0.9/24"]

        [group.routers]
        virtual-routers = ["gateway", "mac"]
        [group.routers.notify]
        {more}
        {sections}
        "#
    )
}

#[test]
fn a_pair_works_with_the_capabilities_of_the_unit_and_is_killed_and_stopped_like_any() {
    let lab = Lab::new(Firewall::Strict).expect("a lab");
    let [a, b] = RouterId::BOTH.map(|id| lab.router(id).expect("the router is on"));
    let set = bounding_set();
    let prefix = ["setpriv", "--bounding-set", &set, "--inh-caps", "-all", "--no-new-privs"];
    let notify = "master = [\"id\", \"-un\"]\n";
    let start = |node, id, priority| {
        let router = Lockstep::launch_guarded(node, &prefix, &config(id, priority, notify));
        router.wait_until_it_answers();
        router
    };
    let mut ours = start(a, "a", 150);
    ours.wait_for_state("routers", "master");
    let theirs = start(b, "b", 100);
    theirs.wait_for_state("routers", "backup");
    wait::until("they replicate", || theirs.status()["replication"]["in-sync"] == true);
    wait::until("its hook has run", || {
        ours.status()["hooks"].to_string().contains("exit status 0")
    });
    wait::until("its check is ended in time, as another user", || {
        ours.status()["checks"].to_string().contains("timed out")
    });

    let worker = ours.signal_worker(Signal::SIGKILL);
    ours.wait_for_another_worker(worker);
    wait::until("one of them serves", || {
        [&ours, &theirs].iter().any(|router| router.state("routers") == "master")
    });
    assert!(ours.stop().success(), "{}", ours.log());
    theirs.wait_for_state("routers", "master");

    for router in [&ours, &theirs] {
        assert_eq!(rights::complaint(&router.log()), None);
    }
    let worker = theirs.worker().expect("a worker");
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("it runs");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("it has");
    let mask = u64::from_str_radix(effective.trim(), 16).expect("a mask");
    assert_eq!(mask.count_ones() as usize, set.matches('+').count(), "exactly those");
}
