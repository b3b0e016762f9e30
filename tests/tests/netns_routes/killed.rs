//! Killed at any moment and started again: nothing is left behind, nothing is missing, nobody else's is touched, and what
//! was in place has never been away.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::wait;

use crate::{installed, ip, parsed, readable, routes, write_script};

/// The foreign part, which must be the same at the end.
const FOREIGN: [&str; 4] = [
    "route add 198.51.100.0/24 via 10.1.1.254 table 100 proto static",
    "route add blackhole 10.70.0.0/24 metric 9 table 100 proto static",
    "rule add from 192.0.2.1 lookup 100 priority 31000",
    "address add 10.1.1.77/24 dev eth0",
];

struct Site {
    node: Node,
    files: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let node = Node::new("router").expect("a namespace");
        for (name, address) in [("eth0", "10.1.1.11/24"), ("eth2", "10.147.52.10/24")] {
            let lan = Lan::new().expect("a LAN");
            node.attach(&lan, &Interface::new(name).address(parsed(address))).expect("attached");
        }
        for foreign in FOREIGN {
            ip(&node, foreign);
        }
        let site = Self { node, files: tempfile::tempdir().expect("a directory") };
        site.check(true);
        site
    }

    /// The check that moves the group between master and fault.
    fn check(&self, passes: bool) {
        write_script(&self.files.path().join("check.sh"), if passes { "exit 0" } else { "exit 1" });
    }

    /// Many routes, some of them under a number that is not ours, so that a kill finds the daemon in the middle of them.
    fn config(&self, routes: usize) -> String {
        let mut text = format!(
            r#"
[router]
state-directory = "{directory}/state"

[check.alive]
command = ["{directory}/check.sh"]
interval = "50ms"
timeout = "5s"
rise = 1
fall = 1

[vrrp.inside]
interface = "eth0"
vrid = 51
priority = 200
advertisement-interval = "50ms"
addresses = ["10.1.1.1/24"]
checks = ["alive"]

[group.gateway]
virtual-routers = ["inside"]

[[rule]]
fwmark = 2
table = 100
priority = 32000
when = "master"
group = "gateway"
protocol = "static"

[[route]]
to = "default"
via = "10.147.52.1"
table = 100
"#,
            directory = self.files.path().display()
        );
        for number in 0..routes {
            let protocol = if number % 3 == 0 { "protocol = \"static\"\n" } else { "" };
            let _ = write!(
                text,
                "\n[[route]]\nto = \"10.{}.{}.0/24\"\nvia = \"10.147.52.1\"\ntable = 100\n{protocol}when = \"master\"\ngroup = \"gateway\"\n",
                70 + number / 256,
                number % 256
            );
        }
        text
    }

    fn picture(&self) -> Vec<String> {
        let mut picture = routes(&self.node, "-4", "100");
        picture.extend(ip(&self.node, "-4 rule show").lines().map(readable));
        let mut addresses: Vec<_> =
            ip(&self.node, "-o -4 address show").lines().map(readable).collect();
        addresses.sort();
        picture.extend(addresses);
        picture
    }
}

#[test]
fn killed_at_random_moments_it_leaves_and_loses_nothing() {
    let site = Site::new();
    let (all, fewer) = (site.config(200), site.config(120));
    let lockstep = Lockstep::start(&site.node, &all);
    wait::until("everything is there", || installed(&lockstep));
    let wanted = site.picture();
    drop(lockstep);

    let mut state: u32 = 0x9e37_79b9;
    for round in 0..40 {
        let mut lockstep = Lockstep::launch(&site.node, if round % 3 == 2 { &fewer } else { &all });
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        // Somewhere between its first breath, the takeover and the fault: what is drawn is when to kill it.
        thread::sleep(Duration::from_millis(u64::from(state % 700)));
        site.check(round % 4 != 1);
        thread::sleep(Duration::from_millis(u64::from(state / 700 % 200)));
        lockstep.kill();
        site.check(true);
    }

    let lockstep = Lockstep::start(&site.node, &all);
    lockstep.wait_for_state("gateway", "master");
    wait::until_or("everything is as it was", || site.picture() == wanted);
    assert_eq!(site.picture(), wanted);
    assert!(installed(&lockstep));

    // What follows mastership goes with it, also what an earlier run has put there under another's number.
    site.check(false);
    lockstep.wait_for_state("gateway", "fault");
    let left = routes(&site.node, "-4", "100");
    assert_eq!(
        left,
        [
            "198.51.100.0/24 via 10.1.1.254 dev eth0 proto static",
            "blackhole 10.70.0.0/24 proto static metric 9",
            "default via 10.147.52.1 dev eth2 proto 112",
        ]
    );
}

#[test]
fn a_daemon_that_starts_again_interrupts_no_route() {
    let site = Site::new();
    let config = site.config(200);
    let mut lockstep = Lockstep::start(&site.node, &config);
    wait::until("everything is there", || installed(&lockstep));
    let always = "default via 10.147.52.1 dev eth2 proto 112";

    let over = AtomicBool::new(false);
    let missed = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = (0, 0);
            while !over.load(Ordering::Relaxed) {
                looks.0 += 1;
                let there = routes(&site.node, "-4", "100").iter().any(|route| route == always);
                looks.1 += usize::from(!there);
            }
            looks
        });
        for _ in 0..5 {
            lockstep.kill();
            lockstep = Lockstep::start(&site.node, &config);
            wait::until("everything is there", || installed(&lockstep));
        }
        over.store(true, Ordering::Relaxed);
        watch.join().expect("the watch")
    });
    assert!(missed.0 > 20, "it was hardly looked at: {missed:?}");
    assert_eq!(missed.1, 0, "the route was away in {} of {} looks", missed.1, missed.0);
}

#[test]
fn a_static_route_of_somebody_else_that_is_just_as_declared_is_never_removed() {
    let site = Site::new();
    ip(&site.node, "route add 10.70.3.0/24 via 10.147.52.1 table 100 proto static");
    let lockstep = Lockstep::start(&site.node, &site.config(10));
    lockstep.wait_for_state("gateway", "master");
    wait::until("everything is there", || installed(&lockstep));
    let theirs = "10.70.3.0/24 via 10.147.52.1 dev eth2 proto static".to_owned();
    let ours = "10.70.6.0/24 via 10.147.52.1 dev eth2 proto static".to_owned();
    assert!(routes(&site.node, "-4", "100").contains(&ours));

    site.check(false);
    lockstep.wait_for_state("gateway", "fault");

    let left = routes(&site.node, "-4", "100");
    assert!(left.contains(&theirs), "{left:?}");
    assert!(!left.contains(&ours), "{left:?}");
}

/// How many routes the group has in its table.
fn of_the_group(site: &Site) -> usize {
    routes(&site.node, "-4", "100").iter().filter(|route| route.contains("10.147.52.1")).count() - 1
}

/// Waits until some have been carried out, and says how many.
fn in_the_middle(site: &Site, what: &str, is_middle: impl Fn(usize) -> bool) -> usize {
    wait::some(what, || Some(of_the_group(site)).filter(|count| is_middle(*count)))
}

#[test]
fn killed_in_the_middle_of_ten_thousand_routes_it_leaves_and_loses_nothing() {
    const ROUTES: usize = 10_000;
    let site = Site::new();
    let config = site.config(ROUTES);
    let first = Lockstep::start(&site.node, &config);
    wait::until("everything is there", || of_the_group(&site) == ROUTES);
    wait::until("it says so", || installed(&first));
    let wanted = site.picture();
    drop(first);

    // What a router is whose group is not master, and what others have put there.
    site.check(false);
    let backup = Lockstep::start(&site.node, &config);
    wait::until("nothing of the group's is there", || of_the_group(&site) == 0);
    backup.wait_for_state("gateway", "fault");
    let unwanted = site.picture();
    drop(backup);

    for round in 0..2 {
        site.check(true);
        let mut coming = Lockstep::launch(&site.node, &config);
        let come = in_the_middle(&site, "some have come", |count| count > 0);
        coming.kill();
        println!("round {round}: killed when {come} were seen, {} are there", of_the_group(&site));

        // The next run goes on from there, and then somebody takes the mastership away.
        let mut going = Lockstep::launch(&site.node, &config);
        wait::until_or("everything is there", || of_the_group(&site) == ROUTES);
        wait::until_or("everything is as it was", || site.picture() == wanted);
        assert_eq!(site.picture(), wanted, "round {round}");
        site.check(false);
        let left = in_the_middle(&site, "some have gone", |count| count < ROUTES);
        going.kill();
        println!("round {round}: killed when {left} were left, {} are", of_the_group(&site));

        let mut gone = Lockstep::launch(&site.node, &config);
        wait::until_or("nothing is left", || site.picture() == unwanted);
        assert_eq!(site.picture(), unwanted, "round {round}");
        gone.kill();
    }
}

#[test]
fn a_link_that_flaps_at_random_moments_of_transitions_loses_nothing() {
    let site = Site::new();
    let lockstep = Lockstep::start(&site.node, &site.config(500));
    wait::until("everything is there", || installed(&lockstep));
    let wanted = site.picture();

    let mut state: u32 = 0x85eb_ca6b;
    for round in 0..30 {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let becomes_master = round % 2 == 1;
        site.check(becomes_master);
        // From before the check is run to after the transition: what is drawn is when the link flaps.
        thread::sleep(Duration::from_millis(u64::from(state % 150)));
        site.node.set_link("eth2", false).expect("it goes down");
        thread::sleep(Duration::from_millis(u64::from(state / 150 % 40)));
        site.node.set_link("eth2", true).expect("it comes up");
        lockstep.wait_for_state("gateway", if becomes_master { "master" } else { "fault" });
    }

    wait::until_or("everything is as it was", || site.picture() == wanted);
    assert_eq!(site.picture(), wanted);
    assert!(installed(&lockstep));
}
