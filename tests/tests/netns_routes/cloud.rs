//! A cloud's virtual router with its second network: what is declared is what the kernel has, or `pending` with the reason.

use std::fs;
use std::process::Command;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::{Lockstep, binary, text};
use lockstep_tests::keepalived::{Instance, Keepalived};
use lockstep_tests::wait;
use serde_json::Value;
use tempfile::TempDir;

use crate::{ip, parsed, readable, route, routes, write_script};

/// The configuration of such a router as it is shipped.
const CLOUDSTACK: &str = include_str!("../../../examples/cloudstack/lockstep.toml");

/// The addresses of eth2, which the management gives it.
const PUBLIC_ADDRESSES: [&str; 2] = ["10.147.48.10/24", "10.147.52.10/24"];

#[test]
fn the_cloudstack_configuration_passes_the_check_as_it_stands() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("lockstep.toml");
    fs::write(&path, CLOUDSTACK).expect("the file");

    let output = Command::new(binary()).arg("check").arg(&path).output().expect("the binary runs");

    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_route_whose_link_is_down_is_pending_and_goes_in_at_takeover() {
    let site = Site::new();
    let master = site.peer(200);
    let lockstep = Lockstep::start(&site.router, &site.config());
    lockstep.wait_for_state("gateway", "backup");
    wait::until("eth2 is down on the backup", || !link_is_up(&site.router, "eth2"));

    let seed = wait::some("the seed route is pending", || {
        let route = route(&lockstep, "static_route", "10.147.70.0/24");
        (route["state"] == "pending").then_some(route)
    });
    assert!(text(&seed["reason"]).contains("eth2"), "{seed}");
    assert_eq!(route(&lockstep, "Table_eth2", "10.147.46.0/24")["state"], "installed");
    assert_eq!(route(&lockstep, "Table_eth2", "default")["state"], "pending");
    assert_eq!(site.routes("100"), Vec::<String>::new());
    assert_eq!(site.routes("2"), ["throw 10.147.46.0/24 proto static"]);

    master.kill();
    lockstep.wait_for_state("gateway", "master");

    wait::until("every route is installed", || all_installed(&lockstep));
    assert!(link_is_up(&site.router, "eth2"));
    assert_eq!(site.routes("100"), ["10.147.70.0/24 via 10.147.52.1 dev eth2 proto 112"]);
    assert_eq!(
        site.routes("2"),
        ["default via 10.147.48.1 dev eth2 proto 112", "throw 10.147.46.0/24 proto static"]
    );
    assert!(
        site.rules().iter().any(|rule| rule.starts_with("32000:") && rule.contains("fwmark 0x2"))
    );
    assert!(site.addresses("eth0").contains("inet 10.1.1.1/32 brd 10.1.1.255"));
    let log = lockstep.log();
    assert!(!log.to_lowercase().contains("network is unreachable"), "{log}");
}

#[test]
fn after_link_and_address_flaps_everything_is_as_before() {
    let site = Site::new();
    let lockstep = Lockstep::start(&site.router, &site.config());
    lockstep.wait_for_state("gateway", "master");
    wait::until("every route is installed", || all_installed(&lockstep));
    let before = site.picture();

    for _ in 0..20 {
        site.router.set_link("eth2", false).expect("the link goes down");
        site.router.set_link("eth2", true).expect("the link comes up");
    }
    wait::until("a flapped link has its routes again", || site.picture() == before);

    site.router.set_link("eth2", false).expect("the link goes down");
    wait::until("a link that is up on the master comes up again by itself", || {
        site.picture() == before
    });

    site.router.unplug("eth2").expect("the cable is pulled");
    site.router.plug("eth2").expect("the cable is put back");
    for address in PUBLIC_ADDRESSES {
        site.router.remove_address("eth2", parsed(address)).expect("the address goes");
    }
    let seed = || route(&lockstep, "static_route", "10.147.70.0/24");
    wait::until("without the addresses the next hop cannot be reached", || {
        seed()["state"] == "pending" && text(&seed()["reason"]).contains("10.147.52.1")
    });
    for address in PUBLIC_ADDRESSES {
        site.router.add_address("eth2", parsed(address)).expect("the address comes back");
    }
    wait::until("with the addresses the routes are there again", || site.picture() == before);
    assert_eq!(lockstep.state("gateway"), "master", "none of it moved the group");
}

#[test]
fn what_others_put_there_stays_through_every_state() {
    let site = Site::new();
    for foreign in [
        "route add 192.0.2.0/24 via 10.1.1.254",
        "route add 198.51.100.0/24 via 10.1.1.254 table 100 proto static",
        "route add blackhole 10.147.70.0/24 metric 7 table 100 proto static",
        "rule add from 192.0.2.1 lookup 100 priority 31000",
        "address add 10.1.1.77/24 dev eth0",
    ] {
        site.ip(foreign);
    }
    let kept = |site: &Site| {
        let table = site.routes("100");
        site.routes("main").iter().any(|route| route.starts_with("192.0.2.0/24 via 10.1.1.254"))
            && table.iter().any(|route| route.starts_with("198.51.100.0/24 via 10.1.1.254"))
            && table.iter().any(|route| route.starts_with("blackhole 10.147.70.0/24"))
            && site.rules().iter().any(|rule| rule.starts_with("31000:"))
            && site.addresses("eth0").contains("10.1.1.77/24")
    };
    let check = site.check();

    let mut lockstep = Lockstep::start(&site.router, &site.config());
    lockstep.wait_for_state("gateway", "master");
    wait::until("every route is installed", || all_installed(&lockstep));
    assert!(kept(&site), "as master: {:#?}", site.picture());

    check.fail();
    lockstep.wait_for_state("gateway", "fault");
    assert!(kept(&site), "in fault: {:#?}", site.picture());

    check.pass();
    lockstep.wait_for_state("gateway", "master");
    assert!(lockstep.stop().success());
    assert!(kept(&site), "after the end: {:#?}", site.picture());
}

#[test]
fn a_foreign_route_in_our_place_is_named_and_left_alone() {
    let site = Site::new();
    site.ip("route add 10.147.70.0/24 via 10.147.52.99 table 100 proto static");
    let lockstep = Lockstep::start(
        &site.router,
        &site.config().replace("up-when = \"master\"", "up-when = \"always\""),
    );
    lockstep.wait_for_state("gateway", "master");

    let ours = wait::some("the clash is told", || {
        let route = route(&lockstep, "static_route", "10.147.70.0/24");
        (route["state"] == "conflicting").then_some(route)
    });
    assert!(text(&ours["reason"]).contains("static"), "it names whose it is: {ours}");
    assert_eq!(site.routes("100"), ["10.147.70.0/24 via 10.147.52.99 dev eth2 proto static"]);

    site.ip("route del 10.147.70.0/24 table 100");
    wait::until("once the place is free ours goes in", || {
        site.routes("100") == ["10.147.70.0/24 via 10.147.52.1 dev eth2 proto 112"]
    });
}

#[test]
fn a_daemon_that_was_killed_finds_what_it_left_and_doubles_nothing() {
    let site = Site::new();
    let mut lockstep = Lockstep::start(&site.router, &site.config());
    lockstep.wait_for_state("gateway", "master");
    wait::until("every route is installed", || all_installed(&lockstep));
    let before = site.picture();

    lockstep.kill();
    let lockstep = Lockstep::start(&site.router, &site.config());
    lockstep.wait_for_state("gateway", "master");

    wait::until("everything is as before", || site.picture() == before);
    assert!(all_installed(&lockstep));
}

/// The router with eth0 to the guests and eth2 to the public networks, and a place for a second router beside it.
struct Site {
    router: Node,
    other: Node,
    files: TempDir,
}

/// The heartbeat script of the configuration.
struct Check(std::path::PathBuf);

impl Check {
    fn pass(&self) {
        write_script(&self.0, "exit 0");
    }

    fn fail(&self) {
        write_script(&self.0, "exit 1");
    }
}

impl Site {
    fn new() -> Self {
        let (guests, public) = (Lan::new().expect("a LAN"), Lan::new().expect("a LAN"));
        let router = Node::new("router").expect("a namespace");
        let other = Node::new("other").expect("a namespace");
        let interface = |name: &str, addresses: &[&str]| {
            addresses
                .iter()
                .fold(Interface::new(name), |interface, address| interface.address(parsed(address)))
        };
        router.attach(&guests, &interface("eth0", &["10.1.1.11/24"])).expect("eth0");
        router.attach(&public, &interface("eth2", &PUBLIC_ADDRESSES)).expect("eth2");
        other.attach(&guests, &interface("eth0", &["10.1.1.12/24"])).expect("eth0");
        let site = Self { router, other, files: TempDir::new().expect("a directory") };
        site.check().pass();
        write_script(&site.files.path().join("master.py"), "exit 0");
        site
    }

    /// The shipped configuration with the scripts of this test, which runs the check more often.
    fn config(&self) -> String {
        let directory = self.files.path().display().to_string();
        CLOUDSTACK
            .replace("/ramdisk/rrouter", &directory)
            .replace("/opt/cloud/bin", &directory)
            .replace("interval = \"5s\"", "interval = \"200ms\"")
    }

    fn check(&self) -> Check {
        Check(self.files.path().join("heartbeat.sh"))
    }

    /// A keepalived beside the router.
    fn peer(&self, priority: u8) -> Keepalived {
        let instance = Instance {
            priority,
            password: Some("9YasrrhZ".to_owned()),
            nopreempt: true,
            addresses: vec!["10.1.1.1/32 brd 10.1.1.255 dev eth0".to_owned()],
            global: Vec::new(),
        };
        let keepalived = Keepalived::start(&self.other, &instance);
        keepalived.wait_for_state("MASTER");
        keepalived
    }

    fn ip(&self, arguments: &str) -> String {
        ip(&self.router, arguments)
    }

    /// The routes of a table as `ip` shows them, in the order of their text.
    fn routes(&self, table: &str) -> Vec<String> {
        routes(&self.router, "-4", table)
    }

    fn rules(&self) -> Vec<String> {
        self.ip("-4 rule show").lines().map(str::to_owned).collect()
    }

    fn addresses(&self, interface: &str) -> String {
        self.ip(&format!("-4 address show dev {interface}"))
    }

    /// All that is wanted of the kernel.
    fn picture(&self) -> [Vec<String>; 4] {
        let mut addresses: Vec<_> = self.ip("-o -4 address show").lines().map(readable).collect();
        addresses.sort();
        [self.routes("2"), self.routes("100"), self.rules(), addresses]
    }
}

fn all_installed(lockstep: &Lockstep) -> bool {
    let status = lockstep.status();
    let routes = status["routes"].as_array().expect("a list");
    routes.len() == 3 && routes.iter().all(|route| route["state"] == "installed")
}

fn link_is_up(node: &Node, interface: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["-j", "link", "show", "dev", interface]);
    let output = node.output(command).expect("ip runs");
    let links: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    links[0]["flags"].as_array().expect("flags").iter().any(|flag| flag == "UP")
}
