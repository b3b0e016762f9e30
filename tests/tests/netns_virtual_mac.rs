//! A virtual router with its own MAC address, and the daemon's own packet filter, from start to end
//! of the process.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use lockstep_lab::nftables::Batch;
use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;

const CONFIG: &str = r#"
[vrrp.inside]
interface = "eth0"
vrid = 51
addresses = ["10.1.1.1/24"]
virtual-mac = "vrrp.51"

[vrrp.refusing]
interface = "eth0"
vrid = 52
addresses = ["10.1.1.9/24"]
accept = false
"#;
const VIRTUAL_MAC: &str = "00:00:5e:00:01:33";
/// Longest wait for an answer that must come.
const SOON: Duration = Duration::from_secs(10);
/// For how long an answer that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(400);

struct Site {
    router: Node,
    client: Node,
}

impl Site {
    fn new() -> Self {
        let lan = Lan::new().expect("a LAN");
        let host = |name, address: &str| {
            let node = Node::new(name).expect("a host");
            let interface = Interface::new("eth0").address(address.parse().expect("an address"));
            node.attach(&lan, &interface).expect("its interface");
            node
        };
        Self { router: host("router", "10.1.1.2/24"), client: host("client", "10.1.1.50/24") }
    }

    /// Whether the address answers the client, be it by refusing a connection.
    fn answers(&self, address: &str, limit: Duration) -> bool {
        let there = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), 9);
        let result =
            self.client.run(|| TcpStream::connect_timeout(&there, limit)).expect("it runs");
        result.is_ok() || result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    fn links(&self) -> String {
        output(&self.router, &["-o", "link"])
    }

    /// Whether a table of our name could be made by somebody else.
    fn table_is_gone(&self) -> bool {
        let make_and_remove = || {
            let mut batch = Batch::new();
            batch.table("lockstep");
            batch.delete_table("lockstep");
            batch.commit()
        };
        self.router.run(make_and_remove).expect("it runs").is_ok()
    }
}

fn output(node: &Node, arguments: &[&str]) -> String {
    let mut command = Command::new("ip");
    command.args(arguments);
    let output = node.output(command).expect("ip runs");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_neighbours_of_a_master_know_its_virtual_mac_address_and_a_refusing_address_is_silent() {
    let site = Site::new();
    let lockstep = Lockstep::start(&site.router, CONFIG);
    for group in ["inside", "refusing"] {
        lockstep.wait_for_state(group, "master");
    }
    wait::until("the virtual address answers", || site.answers("10.1.1.1", SOON));
    let known = output(&site.client, &["neigh", "show", "10.1.1.1"]);
    assert!(known.contains(VIRTUAL_MAC), "{known}");
    assert!(!site.answers("10.1.1.9", SILENCE));
    assert!(site.answers("10.1.1.2", SOON));
}

#[test]
fn a_virtual_mac_brings_no_fault_at_the_start_and_none_when_its_interface_is_made_again() {
    let site = Site::new();
    let lockstep = Lockstep::start(&site.router, CONFIG);
    lockstep.wait_for_state("inside", "master");
    let index = || {
        let links = site.links();
        let line = links.lines().find(|line| line.contains("vrrp.51"));
        line.and_then(|line| line.split(':').next().map(str::to_owned))
    };
    let before = index();
    output(&site.router, &["link", "del", "vrrp.51"]);
    wait::until("it is made again", || index().is_some_and(|now| Some(now) != before));
    wait::until("its address is back", || {
        output(&site.router, &["-o", "addr", "show", "dev", "vrrp.51"]).contains("10.1.1.1/24")
    });
    wait::until("the virtual address answers", || site.answers("10.1.1.1", SOON));
    lockstep.wait_for_state("inside", "master");
    let journal = lockstep.journal("inside");
    let states: Vec<_> = journal.iter().map(|entry| entry["to"].clone()).collect();
    assert_eq!(states, ["backup", "master"], "{journal:#?}");
}

#[test]
fn nothing_is_left_after_a_clean_stop() {
    let site = Site::new();
    let mut lockstep = Lockstep::start(&site.router, CONFIG);
    lockstep.wait_for_state("inside", "master");
    assert!(site.links().contains(VIRTUAL_MAC));
    assert!(!site.table_is_gone());
    lockstep.stop();
    assert!(!site.links().contains(VIRTUAL_MAC), "{}", site.links());
    assert!(site.table_is_gone());
}

#[test]
fn a_killed_daemons_table_is_gone_and_its_interface_taken_over_by_the_next() {
    let site = Site::new();
    let mut lockstep = Lockstep::start(&site.router, CONFIG);
    lockstep.wait_for_state("inside", "master");
    lockstep.kill();
    wait::until("the table is gone", || site.table_is_gone());
    let index = |links: &str| {
        let line = links.lines().find(|line| line.contains("vrrp.51")).map(str::to_owned);
        line.and_then(|line| line.split(':').next().map(str::to_owned))
    };
    let before = index(&site.links());
    assert!(before.is_some(), "{}", site.links());
    let next = Lockstep::start(&site.router, CONFIG);
    assert_eq!(index(&site.links()), before);
    assert!(!site.table_is_gone());
    next.wait_for_state("inside", "master");
    wait::until("the virtual address answers", || site.answers("10.1.1.1", SOON));
}
