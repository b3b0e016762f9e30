//! Where it began: `ip route add` while the next hop's link is down says "Network is unreachable", and nobody tries again.

use lockstep_lab::{Interface, Lan, Node};
use lockstep_tests::daemon::{Lockstep, text};
use lockstep_tests::wait;

use crate::{installed, ip, parsed, route, routes};

/// Everything always wanted: there is no group to wait for, only links.
const CONFIG: &str = r#"
[tables]
Table_eth1 = 1
Table_eth2 = 2
static_route = 100

[[route]]
type = "throw"
to = "10.147.46.0/24"
table = "Table_eth2"
protocol = "static"

[[route]]
type = "throw"
to = "169.254.0.0/16"
table = "Table_eth1"
protocol = "static"

[[route]]
to = "10.147.70.0/24"
via = "10.147.52.1"
table = "static_route"
protocol = "static"

[[route]]
to = "10.147.71.0/24"
via = "10.147.46.1"
table = "static_route"
protocol = "static"

[[route]]
to = "default"
via = "10.147.52.1"
dev = "eth2"
table = "Table_eth2"

[[route]]
to = "2001:db8:70::/48"
via = "2001:db8:52::1"
table = "static_route"

[[rule]]
fwmark = 2
table = "Table_eth2"
priority = 32000

[[rule]]
to = "10.147.70.0/23"
table = "static_route"
priority = 32001
"#;

/// A router whose eth1 and eth2 have their addresses and are down.
fn router() -> Node {
    let node = Node::new("router").expect("a namespace");
    for (name, addresses) in [
        ("eth1", ["10.147.46.10/24", "2001:db8:46::10/64"]),
        ("eth2", ["10.147.52.10/24", "2001:db8:52::10/64"]),
    ] {
        let lan = Lan::new().expect("a LAN");
        let interface = addresses
            .iter()
            .fold(Interface::new(name), |interface, address| interface.address(parsed(address)));
        node.attach(&lan, &interface).expect("an interface");
        // The router's own address outlives a link that goes down, as most routers are set up.
        node.set(&format!("net/ipv6/conf/{name}/keep_addr_on_down"), "1").expect("a setting");
        node.set_link(name, false).expect("it goes down");
    }
    node
}

#[test]
fn what_ip_route_refuses_while_a_link_is_down_is_pending_and_goes_in_when_it_is_up() {
    let node = router();
    let mut by_hand = std::process::Command::new("ip");
    by_hand.args("route add 10.147.70.0/24 via 10.147.52.1 table 100".split(' '));
    let refused = node.output(by_hand).expect("ip runs");
    assert!(!refused.status.success(), "the kernel takes it now, and there is nothing to show");

    let lockstep = Lockstep::start(&node, CONFIG);

    wait::until("what needs no link is there", || {
        routes(&node, "-4", "2") == ["throw 10.147.46.0/24 proto static"]
            && routes(&node, "-4", "1") == ["throw 169.254.0.0/16 proto static"]
    });
    for (table, destination, link) in [
        ("static_route", "10.147.70.0/24", "eth2"),
        ("static_route", "10.147.71.0/24", "eth1"),
        ("static_route", "2001:db8:70::/48", "eth2"),
        ("Table_eth2", "default", "eth2"),
    ] {
        let told = route(&lockstep, table, destination);
        assert_eq!(told["state"], "pending", "{told}");
        let reason = text(&told["reason"]);
        assert!(reason.contains(link) && reason.contains("down"), "{told}");
    }
    assert_eq!(routes(&node, "-4", "100"), Vec::<String>::new());

    ip(&node, "link set eth2 up");
    wait::until("the routes beyond eth2 are there", || {
        routes(&node, "-4", "100") == ["10.147.70.0/24 via 10.147.52.1 dev eth2 proto static"]
            && routes(&node, "-4", "2")[0] == "default via 10.147.52.1 dev eth2 proto 112"
            && routes(&node, "-6", "100").len() == 1
    });
    assert_eq!(route(&lockstep, "static_route", "10.147.71.0/24")["state"], "pending");

    ip(&node, "link set eth1 up");
    wait::until("everything is there", || installed(&lockstep));

    ip(&node, "link set eth2 down");
    wait::until("the others stay, and what is gone is told", || {
        routes(&node, "-4", "100") == ["10.147.71.0/24 via 10.147.46.1 dev eth1 proto static"]
            && route(&lockstep, "static_route", "10.147.70.0/24")["state"] == "pending"
    });
    let log = lockstep.log().to_lowercase();
    assert!(!log.contains("network is unreachable"), "what cannot be is not tried: {log}");
}

#[test]
fn an_address_that_leaves_takes_its_routes_along_and_brings_them_back() {
    let node = router();
    ip(&node, "link set eth1 up");
    ip(&node, "link set eth2 up");
    let lockstep = Lockstep::start(&node, CONFIG);
    wait::until("everything is there", || installed(&lockstep));

    ip(&node, "address del 10.147.52.10/24 dev eth2");
    let told = wait::some("the route says what it misses", || {
        let told = route(&lockstep, "static_route", "10.147.70.0/24");
        (told["state"] == "pending").then_some(told)
    });
    assert!(text(&told["reason"]).contains("10.147.52.1 is on no connected network"), "{told}");

    ip(&node, "address add 10.147.52.10/24 dev eth2");
    wait::until("everything is there again", || installed(&lockstep));
}
