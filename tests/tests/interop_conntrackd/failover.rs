//! Connections across failures, with keepalived beside conntrackd where mastership moves, and what starting brings.
//!
//! Client and server are connected through the routers' NAT, and the firewall is strict: a connection whose flow is lost
//! is dead.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use lockstep_lab::traffic::{Connections, Pace, Verdict};
use lockstep_lab::{Firewall, Lab, Node, Process, RouterId, Selector, lose, lose_nothing};
use lockstep_tests::conntrackd::{Conntrackd, conntrack, insert_flows, kernel_flows};
use lockstep_tests::daemon::{Lockstep, binary, number, virtual_addresses};
use lockstep_tests::keepalived::{Instance, Keepalived};
use lockstep_tests::wait;
use tempfile::TempDir;

const OURS: RouterId = RouterId::A;
const THEIRS: RouterId = RouterId::B;

#[test]
fn our_flows_and_their_ends_appear_in_conntrackd() {
    let world = World::new();
    let conntrackd = Conntrackd::start(world.theirs(), false);
    let lockstep = world.master();
    let connections = world.connect(20);

    let kernel = kernel_flows(world.ours(), "tcp");
    assert_eq!(kernel.len(), 20, "one flow for each connection: {kernel:?}");
    wait::until("conntrackd has exactly our kernel's TCP flows", || {
        conntrackd.external() == kernel_flows(world.ours(), "tcp")
    });
    let states = conntrackd.command(&["-e"]);
    assert_eq!(states.matches("ESTABLISHED").count(), 20, "with their state: {states}");

    drop(connections);
    conntrack(world.ours(), &["-D", "-p", "tcp"]);
    wait::until("conntrackd has forgotten them", || conntrackd.external().is_empty());
    assert_eq!(number(&lockstep.status()["replication"]["internal"]), 0);
}

#[test]
fn connections_survive_when_our_master_dies_and_keepalived_and_conntrackd_take_over() {
    let mut world = World::new();
    let lockstep = world.master();
    let theirs = world.their_pair(100);
    let connections = world.connect(10);
    wait::until("conntrackd has every flow", || theirs.conntrackd.external().len() == 10);

    drop(lockstep);
    world.lab.power_off(OURS);
    theirs.keepalived.wait_for_state("MASTER");

    let verdict = settle(&connections);
    assert!(verdict.all_survived(), "{verdict:?}");
}

#[test]
fn connections_survive_when_keepalived_and_conntrackd_die_and_we_take_over() {
    let mut world = World::new();
    let theirs = world.their_pair(150);
    theirs.keepalived.wait_for_state("MASTER");
    let lockstep = Lockstep::start(world.ours(), &World::config(100));
    lockstep.wait_for_state("gateway", "backup");
    let connections = world.connect(10);
    wait::until("we have every flow", || {
        number(&lockstep.status()["replication"]["external"]) == 10
    });
    assert!(kernel_flows(world.ours(), "tcp").is_empty(), "nothing is in our kernel before");

    theirs.kill();
    world.lab.power_off(THEIRS);
    lockstep.wait_for_state("gateway", "master");

    let verdict = settle(&connections);
    assert!(verdict.all_survived(), "{verdict:?}");
    assert_eq!(number(&lockstep.status()["replication"]["committed"]), 10);
}

#[test]
fn without_replication_the_same_failure_kills_every_connection() {
    let mut world = World::new();
    let theirs = world.their_pair(150);
    theirs.keepalived.wait_for_state("MASTER");
    theirs.conntrackd.stop();
    let lockstep = Lockstep::start(world.ours(), &World::config(100));
    lockstep.wait_for_state("gateway", "backup");
    let connections = world.connect(10);

    theirs.keepalived.kill();
    world.lab.power_off(THEIRS);
    lockstep.wait_for_state("gateway", "master");

    let verdict = connections.settle(Instant::now(), Duration::from_secs(8));
    assert_eq!(verdict.alive, 0, "else the tests around this one show nothing: {verdict:?}");
}

#[test]
fn connections_survive_an_orderly_hand_over_to_conntrackd_and_back() {
    let world = World::new();
    let mut lockstep = world.master();
    let theirs = world.their_pair(100);
    let connections = world.connect(10);
    wait::until("conntrackd has every flow", || theirs.conntrackd.external().len() == 10);

    let status = lockstep.stop();
    assert!(status.success(), "{status}");
    theirs.keepalived.wait_for_state("MASTER");
    let verdict = settle(&connections);
    assert!(verdict.all_survived(), "on the way there: {verdict:?}");

    let lockstep = Lockstep::start(world.ours(), &World::config(100));
    lockstep.wait_for_state("gateway", "backup");
    wait::until("our start-up resynchronisation brought every flow", || {
        number(&lockstep.status()["replication"]["external"]) == 10
    });
    theirs.keepalived.stop();
    lockstep.wait_for_state("gateway", "master");
    let verdict = settle(&connections);
    assert!(verdict.all_survived(), "on the way back: {verdict:?}");
}

#[test]
fn lost_datagrams_are_sent_again_in_both_directions() {
    const FLOWS: u16 = 500;
    let world = World::new();
    let conntrackd = Conntrackd::start(world.theirs(), false);
    let lockstep = world.master();
    for node in [world.ours(), world.theirs()] {
        lose(node, "eth2", Selector::UdpPort(Lab::REPLICATION_PORT), 300)
            .expect("a rule that loses");
    }

    // In several portions, so that there are many datagrams to lose.
    for portion in 0..10 {
        insert_flows(world.ours(), 20_000 + portion * FLOWS / 10, FLOWS / 10);
        insert_flows(world.theirs(), 40_000 + portion * FLOWS / 10, FLOWS / 10);
    }

    wait::until("conntrackd has all of ours although three in ten datagrams are lost", || {
        conntrackd.external() == kernel_flows(world.ours(), "tcp")
    });
    wait::until("we have all of conntrackd's", || {
        number(&lockstep.status()["replication"]["external"]) == u64::from(FLOWS)
    });

    let statistics = lockstep.status()["replication"]["statistics"].clone();
    for counter in ["messages-lost", "nacks-sent", "nacks-received", "messages-resent"] {
        assert!(number(&statistics[counter]) > 0, "{counter}: something was lost: {statistics:#}");
    }

    conntrack(world.theirs(), &["-D", "-p", "tcp", "--dport", "443"]);
    wait::until("their ends arrive too", || {
        number(&lockstep.status()["replication"]["external"]) == 0
    });
    lose_nothing(world.ours()).expect("the rule goes");
    lose_nothing(world.theirs()).expect("the rule goes");
}

#[test]
fn a_router_that_starts_asks_conntrackd_for_all_flows() {
    let world = World::new();
    let conntrackd = Conntrackd::start(world.theirs(), false);
    insert_flows(world.theirs(), 20_000, 300);
    wait::until("conntrackd knows them", || conntrackd.internal().len() == 300);

    let lockstep = Lockstep::start(world.ours(), &World::config(100));

    wait::until("we hold them all and say so", || {
        let replication = &lockstep.status()["replication"];
        replication["external"] == 300 && replication["in-sync"] == true
    });
}

#[test]
fn a_conntrackd_that_starts_is_told_all_flows() {
    let world = World::new();
    let lockstep = world.master();
    insert_flows(world.ours(), 20_000, 300);
    wait::until("we know them", || number(&lockstep.status()["replication"]["internal"]) == 300);

    let conntrackd = Conntrackd::start(world.theirs(), true);
    let all = kernel_flows(world.ours(), "tcp");
    wait::until("it has them all", || conntrackd.external() == all);

    conntrackd.stop();
    let again = Conntrackd::start(world.theirs(), true);
    wait::until("it has them all again after a restart", || again.external() == all);
}

#[test]
fn the_kernels_table_is_shown_as_conntrack_shows_it() {
    let world = World::new();
    let _lockstep = world.master();
    let _connections = world.connect(5);
    insert_flows(world.ours(), 20_000, 50);
    for kind in [
        "udp --sport 5000 --dport 53",
        "sctp --sport 1 --dport 2 --state ESTABLISHED \
        --orig-vtag 1 --reply-vtag 2",
        "icmp --icmp-type 8 --icmp-code 0 --icmp-id 7",
    ] {
        let flow = format!("-I -s 10.10.0.78 -d 203.0.113.78 -t 600 -m 7 -p {kind}");
        conntrack(world.ours(), &flow.split_whitespace().collect::<Vec<_>>());
    }

    let mut list = Command::new(binary());
    list.args(["conntrack", "list", "--family", "ipv4"]);
    let output = world.ours().output(list).expect("the binary runs");
    assert!(output.status.success(), "{output:?}");

    let ours = without_timeouts(&String::from_utf8_lossy(&output.stdout));
    let theirs = without_timeouts(&conntrack(world.ours(), &["-L", "-f", "ipv4"]));
    assert_eq!(ours, theirs);
    assert_eq!(theirs.iter().filter(|line| line.starts_with("tcp")).count(), 55);
}

/// Client, server and two routers, of which A runs Lockstep and B what it replaces.
struct World {
    lab: Lab,
    files: TempDir,
}

/// What Lockstep replaces, at work on one router.
struct Theirs {
    keepalived: Keepalived,
    conntrackd: Conntrackd,
    script: Process,
}

impl Theirs {
    /// They all end at once and say nothing.
    fn kill(self) {
        self.keepalived.kill();
        drop((self.script, self.conntrackd));
    }
}

impl World {
    fn new() -> Self {
        let lab = Lab::new(Firewall::Strict)
            .expect("a lab (the tests need the right to make network namespaces)");
        Self { lab, files: TempDir::new().expect("a directory") }
    }

    fn ours(&self) -> &Node {
        self.lab.router(OURS).expect("router A is on")
    }

    fn theirs(&self) -> &Node {
        self.lab.router(THEIRS).expect("router B is on")
    }

    /// Our configuration: both virtual addresses, replication over eth2.
    fn config(priority: u8) -> String {
        format!(
            r#"
            [router]
            id = "ours"

            [vrrp.gateway]
            interface = "eth0"
            vrid = 51
            version = 2
            priority = {priority}
            preempt = false
            advertisement-interval = "1s"
            authentication = {{ type = "pass", password = "9YasrrhZ" }}
            addresses = {}

            [replication]
            group = "gateway"
            protocol = "conntrackd"
            mode = "ftfw"

            [[replication.link]]
            interface = "eth2"
            multicast = "225.0.0.50"
            port = {}
            checksum = true

            [replication.filter]
            protocols = ["tcp"]
            "#,
            virtual_addresses(),
            Lab::REPLICATION_PORT,
        )
    }

    /// Lockstep as master of a pair whose other router is not there yet.
    fn master(&self) -> Lockstep {
        let lockstep = Lockstep::start(self.ours(), &Self::config(150));
        lockstep.wait_for_state("gateway", "master");
        lockstep
    }

    /// keepalived and conntrackd on B, with the usual script between them.
    ///
    /// The script hears of transitions through keepalived's FIFO: keepalived can run it itself only where it may change
    /// groups, which an ordinary user's namespace does not allow.
    fn their_pair(&self, priority: u8) -> Theirs {
        let conntrackd = Conntrackd::start(self.theirs(), true);
        let fifo = self.files.path().join("fifo");
        let call = format!("conntrackd -C {}", conntrackd.configuration().display());
        let script = format!(
            "mkfifo {fifo}; exec 3<>{fifo}; while read -r _ _ state _ <&3; do case $state in \
               MASTER) {call} -c; {call} -f; {call} -R; {call} -B ;; \
               BACKUP) {call} -t; {call} -n ;; \
             esac; done",
            fifo = fifo.display(),
        );
        let mut shell = Command::new("setpriv");
        shell.args(["--pdeathsig", "KILL", "--", "sh", "-c", &script]);
        let script = self.theirs().start(shell).expect("a shell can be started");
        wait::until("the script listens", || fifo.exists());
        let instance = Instance {
            priority,
            password: Some("9YasrrhZ".to_owned()),
            nopreempt: true,
            addresses: Lab::virtual_addresses()
                .iter()
                .map(|(interface, address)| format!("{address} dev {interface}"))
                .collect(),
            global: vec![format!("notify_fifo {}", fifo.display())],
        };
        let keepalived = Keepalived::start(self.theirs(), &instance);
        Theirs { keepalived, conntrackd, script }
    }

    fn connect(&self, count: usize) -> Connections {
        let address = SocketAddr::new(Lab::SERVER.into(), 7000);
        let (client, server) = (self.lab.client(), self.lab.server());
        Connections::open(client, server, address, count, Pace::default())
            .expect("connections through the routers")
    }
}

/// What became of the connections, judged by what they deliver from now on.
fn settle(connections: &Connections) -> Verdict {
    const LIMIT: Duration = Duration::from_secs(30);
    connections.settle(Instant::now(), LIMIT)
}

/// The lines of a list in order, without the seconds left, which go on between two lists.
fn without_timeouts(list: &str) -> Vec<String> {
    let mut lines: Vec<String> = list
        .lines()
        .map(|line| {
            let words = line.split_whitespace().enumerate();
            words.filter(|(at, _)| *at != 2).map(|(_, word)| word).collect::<Vec<_>>().join(" ")
        })
        .collect();
    lines.sort();
    lines
}
