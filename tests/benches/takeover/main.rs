//! How soon the address follows the claim: ours and keepalived's, in the same run.
//!
//! `cargo build --release && cargo bench -p lockstep-tests --bench takeover [-- TAKEOVERS]`, as root.
//!
//! Each router is the backup of a master made here, on a LAN of its own. The master falls silent;
//! measured is the time from the router's first advertisement, as the kernel stamps it on its way out,
//! to the kernel's announcement of the virtual address, as a real-time thread receives it. Then the
//! master comes back, is given way to, and the next router has its turn. Nothing has to be committed.

#![expect(clippy::print_stdout, reason = "a table is what it is run for")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has failed")]

mod master;
mod report;
mod watch;

use std::net::Ipv4Addr;
use std::time::Duration;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::keepalived::Keepalived;

use master::Master;
use watch::Watch;

/// The router under test.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 11);
/// The master made here.
const MASTER: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 12);
/// What they share.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(10, 51, 0, 1);
const VRID: u8 = 51;
/// Between advertisements.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often the master speaks after the router has given way, so that nothing of the transition
/// before is left: its hooks, its purge of flows.
const PEACE: usize = 10;
/// Takeovers of each router, unless the command line says otherwise.
const TAKEOVERS: usize = 30;

/// A router under test and its surroundings.
struct Contender {
    name: String,
    router: Router,
    master: Master,
    watch: Watch,
    /// From the claim to the address, for each takeover; negative when the address came first.
    delays_us: Vec<f64>,
    _nodes: [Node; 2],
}

enum Router {
    Keepalived { _process: Keepalived },
    Lockstep(Lockstep),
}

fn main() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("takeover: skipped, network namespaces need root");
        return;
    }
    let takeovers =
        std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(TAKEOVERS);
    let mut contenders = [
        Contender::new(lockstep_tests::keepalived::version(), keepalived),
        Contender::new("lockstep".to_owned(), |node| lockstep(node, "")),
        Contender::new("lockstep, replicating".to_owned(), |node| lockstep(node, REPLICATION)),
    ];
    let prompt = watch::become_prompt();
    for round in 0..takeovers {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            contenders[index].take_over();
        }
    }
    report::print(&contenders, prompt);
}

impl Contender {
    fn new(name: String, start: impl FnOnce(&Node) -> Router) -> Self {
        let lan = Lan::new().unwrap();
        let nodes = [("router", ROUTER), ("master", MASTER)].map(|(name, address)| {
            let node = Node::new(name).unwrap();
            let address = format!("{address}/24").parse().unwrap();
            node.attach(&lan, &Interface::new("eth0").address(address)).unwrap();
            node
        });
        // The replication link; nobody is at its other end.
        let sync = Interface::new("eth1").address("172.31.255.1/30".parse().unwrap());
        nodes[0].attach(&Lan::new().unwrap(), &sync).unwrap();
        let (watch, master) = (Watch::start(&nodes[0]), Master::new(&nodes[1]));
        let router = start(&nodes[0]);
        Self { name, router, master, watch, delays_us: Vec::new(), _nodes: nodes }
    }

    /// Has the router give way, then take over.
    fn take_over(&mut self) {
        for _ in 0..PEACE {
            self.master.advertise();
        }
        while self.watch.has_address() {
            self.master.advertise();
        }
        for _ in 0..PEACE {
            self.master.advertise();
        }
        self.watch.forget();
        let address = self.watch.wait_for_address();
        self.delays_us.push(address.since_us(self.watch.claim()));
    }
}

fn lockstep(node: &Node, more: &str) -> Router {
    let config = format!(
        r#"
        [router]
        id = "router"

        [vrrp.gateway]
        interface = "eth0"
        vrid = {VRID}
        version = 3
        priority = 100
        advertisement-interval = "{}ms"
        addresses = ["{VIRTUAL}/24"]
        {more}"#,
        INTERVAL.as_millis(),
    );
    Router::Lockstep(Lockstep::start(node, &config))
}

const REPLICATION: &str = r#"
        [replication]
        protocol = "conntrackd"
        group = "gateway"

        [[replication.link]]
        interface = "eth1"
        multicast = "225.0.0.50"
        "#;

fn keepalived(node: &Node) -> Router {
    let configuration = format!(
        "vrrp_instance gateway {{
           state BACKUP
           interface eth0
           virtual_router_id {VRID}
           version 3
           priority 100
           advert_int {}
           virtual_ipaddress {{
             {VIRTUAL}/24 dev eth0
           }}
         }}
        ",
        INTERVAL.as_secs_f64(),
    );
    Router::Keepalived { _process: Keepalived::configured(node, &configuration) }
}
