//! Whatever links, addresses and other people do: afterwards the tables are as declared, and what others made is theirs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::keepalived::Keepalived;
use lockstep_tests::wait;
use nix::sys::signal::Signal;

use crate::{installed, ip, parsed, readable, routes};

/// Routes of every kind that depends on links in its own way.
const CONFIG: &str = r#"
[tables]
Table_eth2 = 2
static_route = 100
beyond = 70000

[[route]]
type = "throw"
to = "10.147.46.0/24"
table = "Table_eth2"

[[route]]
to = "10.147.70.0/24"
via = "10.147.52.1"
table = "static_route"
protocol = "static"

[[route]]
to = "10.147.71.0/24"
dev = "eth2"
table = "static_route"

[[route]]
to = "10.147.72.0/24"
via = "192.0.2.9"
dev = "eth2"
onlink = true
table = "beyond"
metric = 50
mtu = 1400

[[route]]
to = "10.147.73.0/24"
table = "beyond"
next-hops = [{ via = "10.147.46.1", weight = 2 }, { via = "10.147.52.1" }]

[[route]]
to = "default"
via = "10.147.52.1"
dev = "eth2"
src = "10.147.52.10"
table = "Table_eth2"

[[route]]
to = "2001:db8:70::/48"
via = "2001:db8:52::1"
table = "static_route"

[[rule]]
fwmark = "0x2/0xff"
table = "Table_eth2"
priority = 32000

[[rule]]
to = "10.147.70.0/23"
table = "static_route"
priority = 32001

[[rule]]
from = "2001:db8:46::/64"
table = "static_route"
priority = 32001
"#;

/// What keepalived can be told of the same.
const KEEPALIVED: &str = "\
global_defs {
  router_id beside
}
static_routes {
  10.147.70.0/24 via 10.147.52.1 table 100
  10.147.71.0/24 dev eth2 table 100
  default via 10.147.52.1 dev eth2 src 10.147.52.10 table 2
}
vrrp_instance other {
  interface eth1
  virtual_router_id 9
  priority 100
  advert_int 1
  virtual_ipaddress {
    10.147.46.99/24
  }
}
";

const INTERFACES: [(&str, [&str; 2]); 2] = [
    ("eth1", ["10.147.46.10/24", "2001:db8:46::10/64"]),
    ("eth2", ["10.147.52.10/24", "2001:db8:52::10/64"]),
];

/// What somebody else has put on the router: kept clear of eth2's own weather, which the kernel would take it away in.
const FOREIGN: [&str; 4] = [
    "route add 192.0.2.128/25 via 10.147.46.254",
    "route add blackhole 10.147.70.0/24 metric 7 table 100 proto static",
    "route add 198.51.100.0/24 via 10.147.46.254 table 2 proto bird",
    "rule add from 192.0.2.1 lookup 100 priority 31000",
];

fn router(name: &str) -> Node {
    let node = Node::new(name).expect("a namespace");
    for (name, addresses) in INTERFACES {
        attach(&node, name, &addresses);
    }
    node
}

fn attach(node: &Node, name: &str, addresses: &[&str]) {
    let lan = Lan::new().expect("a LAN");
    let interface = Interface::new(name);
    node.attach(&lan, &interface).expect("an interface");
    node.set(&format!("net/ipv6/conf/{name}/keep_addr_on_down"), "1").expect("a setting");
    for address in addresses {
        ip(node, &format!("address add {address} dev {name} nodad"));
    }
}

/// All that is wanted of the kernel, and what is others'.
fn picture(node: &Node) -> Vec<String> {
    let mut picture = Vec::new();
    for (family, table) in
        [("-4", "2"), ("-4", "100"), ("-4", "70000"), ("-6", "100"), ("-4", "main")]
    {
        picture.extend(
            routes(node, family, table).into_iter().map(|route| format!("{table}: {route}")),
        );
    }
    for family in ["-4", "-6"] {
        picture.extend(ip(node, &format!("{family} rule show")).lines().map(readable));
    }
    picture
}

/// As [`wait::until`], and says what differs.
#[track_caller]
fn wait_for(node: &Node, wanted: &[String], what: &str) {
    wait::until_or(what, || picture(node) == wanted);
    assert_eq!(picture(node), wanted, "{what}");
}

/// Pauses between 1 ms and 2 s, short ones as likely as long ones. The same in each run.
fn pauses(count: usize) -> Vec<Duration> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let draw = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count).map(|_| Duration::from_secs_f64(0.001 * 2000_f64.powf(draw(&mut state)))).collect()
}

#[test]
fn after_fifty_flaps_every_route_is_back_and_keepalived_has_lost_its() {
    let (ours, theirs) = (router("ours"), router("theirs"));
    for foreign in FOREIGN {
        ip(&ours, foreign);
    }
    let lockstep = Lockstep::start(&ours, CONFIG);
    wait::until("everything is there", || installed(&lockstep));
    let keepalived = Keepalived::configured(&theirs, KEEPALIVED);
    let of_keepalived = || [routes(&theirs, "-4", "100"), routes(&theirs, "-4", "2")].concat();
    wait::until("keepalived has its routes", || of_keepalived().len() == 3);
    let (before, before_there) = (picture(&ours), of_keepalived());

    // The weather itself is what takes its time here; nothing is waited for.
    for pause in pauses(50) {
        for node in [&ours, &theirs] {
            node.set_link("eth2", false).expect("it goes down");
        }
        thread::sleep(pause);
        for node in [&ours, &theirs] {
            node.set_link("eth2", true).expect("it comes up");
        }
        thread::sleep(pause / 10);
    }

    wait_for(&ours, &before, "after the flaps everything is as before");
    assert!(installed(&lockstep));
    let left = of_keepalived();
    assert!(left.len() < before_there.len(), "keepalived has put its routes back: {left:?}");
    println!("of 3 routes keepalived has {} after the flaps: {left:?}", left.len());
    keepalived.stop();
}

#[test]
fn an_interface_that_is_made_anew_has_its_routes_again() {
    let node = router("router");
    let lockstep = Lockstep::start(&node, CONFIG);
    wait::until("everything is there", || installed(&lockstep));
    let before = picture(&node);

    for _ in 0..3 {
        ip(&node, "link del eth2");
        wait::until("the routes say which interface is missing", || {
            lockstep.ask(&["routes"])["routes"].as_array().expect("a list").iter().any(|route| {
                route["state"] == "pending" && route["reason"] == "eth2 does not exist"
            })
        });
        attach(&node, "eth2", &INTERFACES[1].1);
        wait_for(&node, &before, "everything is as before");
    }
    assert!(installed(&lockstep));
}

#[test]
fn a_carrier_or_an_mtu_that_changes_takes_nothing_away() {
    let node = router("router");
    for name in ["eth1", "eth2"] {
        // As on a router: a link without carrier leads nowhere, and its routes are passed over.
        node.set(&format!("net/ipv4/conf/{name}/ignore_routes_with_linkdown"), "1")
            .expect("a setting");
    }
    let lockstep = Lockstep::start(&node, CONFIG);
    wait::until("everything is there", || installed(&lockstep));
    let before = picture(&node);

    node.unplug("eth2").expect("the cable is pulled");
    wait::until("no carrier is told", || {
        let told = lockstep.ask(&["routes"]).to_string();
        told.contains("carrier")
    });
    node.plug("eth2").expect("the cable is put back");
    wait_for(&node, &before, "with the carrier everything is as before");

    // Below 1280 bytes there is no IPv6, and with it go addresses and routes.
    for mtu in [1200, 1500, 9000, 1500] {
        ip(&node, &format!("link set eth2 mtu {mtu}"));
    }
    let [_, address] = INTERFACES[1].1;
    ip(&node, &format!("address replace {address} dev eth2 nodad"));
    wait_for(&node, &before, "after all sizes everything is as before");
}

#[test]
fn what_others_take_away_is_put_back_and_what_they_add_stays() {
    let node = router("router");
    let lockstep = Lockstep::start(&node, CONFIG);
    wait::until("everything is there", || installed(&lockstep));
    for foreign in FOREIGN {
        ip(&node, foreign);
    }
    let before = picture(&node);
    for theft in [
        "route flush table 2 proto 112",
        "route del 10.147.70.0/24 via 10.147.52.1 table 100",
        "route del 10.147.73.0/24 table 70000",
        "-6 route del 2001:db8:70::/48 table 100",
        "rule del priority 32000",
        "-6 rule del priority 32001",
        "address del 10.147.52.10/24 dev eth2",
        "address add 10.147.52.10/24 dev eth2",
    ] {
        ip(&node, theft);
    }
    wait_for(&node, &before, "everything is as before");
}

#[test]
fn news_that_the_daemon_could_not_take_in_is_made_up_for() {
    let node = router("router");
    let mut lockstep = Lockstep::start(&node, CONFIG);
    wait::until("everything is there", || installed(&lockstep));
    let before = picture(&node);

    lockstep.process().signal(Signal::SIGSTOP).expect("it can be stopped");
    // Thousands of changes: more than its buffer holds. What it misses is in the middle of them.
    let mut batch = String::new();
    for number in 0..4_000 {
        let to = format!("10.{}.{}.0/24", 200 + number / 256, number % 256);
        let _ = writeln!(batch, "route add {to} via 10.147.46.254");
        if number == 2_000 {
            batch.push_str("route flush table 2\nrule del priority 32001\nlink set eth2 down\nlink set eth2 up\n");
        }
    }
    for number in 0..4_000 {
        let _ = writeln!(batch, "route del 10.{}.{}.0/24", 200 + number / 256, number % 256);
    }
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped());
    let mut running = node.start(command).expect("ip starts");
    let mut input = running.child().stdin.take().expect("its input");
    input.write_all(batch.as_bytes()).expect("it reads");
    drop(input);
    let status = running.wait(wait::PATIENCE).expect("it can be waited for").expect("it ends");
    assert!(status.success());
    lockstep.process().signal(Signal::SIGCONT).expect("it goes on");

    wait_for(&node, &before, "everything is as before");
    assert!(lockstep.log().contains("announcements of the kernel were lost"), "nothing was lost");
}

#[test]
fn a_virtual_address_that_somebody_deletes_is_put_back_without_a_transition() {
    let node = router("router");
    let config = r#"
[vrrp.inside]
interface = "eth1"
vrid = 51
priority = 200
advertisement-interval = "100ms"
addresses = ["10.147.46.1/24"]

[vrrp.inside6]
interface = "eth1"
vrid = 51
priority = 200
advertisement-interval = "100ms"
addresses = ["fe80::1/64", "2001:db8:46::1/64"]

[group.gateway]
virtual-routers = ["inside", "inside6"]
"#;
    let lockstep = Lockstep::start(&node, config);
    lockstep.wait_for_state("gateway", "master");
    let held = || {
        let addresses = node.addresses("eth1").expect("its addresses");
        ["10.147.46.1/24", "2001:db8:46::1/64"].map(|one| addresses.contains(&parsed(one)))
    };
    wait::until("it has its addresses", || held() == [true, true]);
    let transitions = lockstep.journal("gateway").len();

    for address in ["10.147.46.1/24", "2001:db8:46::1/64"] {
        ip(&node, &format!("address del {address} dev eth1"));
    }

    wait::until("it has its addresses again", || held() == [true, true]);
    assert_eq!(lockstep.state("gateway"), "master");
    assert_eq!(lockstep.journal("gateway").len(), transitions, "nothing has moved");
}
