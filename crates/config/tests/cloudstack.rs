//! The file of a router in a cloud: each key that its operators write, and what it means.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;
use std::time::Duration;

use lockstep_config::{AdvertiseFrom, Config, Surroundings, VirtualRouter, parse};
use lockstep_failover as failover;
use lockstep_replicator as replicator;
use lockstep_routes::{
    Address, Condition, Declared, Fwmark, Link, NextHop, PROTOCOL_LOCKSTEP, Route, RouteKind, Rule,
    RuleAction, RuleKey, Scope, TableId, When,
};
use lockstep_vrrp::{Authentication, Family, Password, Version, Vrid};

/// Everything such a file says, in the least words.
const FILE: &str = r#"
router.id = "r-17-VM"
check.heartbeat = { command = ["/ramdisk/rrouter/heartbeat.sh"], interval = "5s" }
group.gateway.virtual-routers = ["inside_network"]
group.gateway.notify.backup = ["/opt/cloud/bin/master.py", "--backup"]
group.gateway.notify.master = ["/opt/cloud/bin/master.py", "--master"]
group.gateway.notify.fault = ["/opt/cloud/bin/master.py", "--fault"]
tables = { Table_eth2 = 2, static_route = 100 }
interface.eth2.up-when = "master"

[vrrp.inside_network]
interface = "eth0"
vrid = 51
version = 2
priority = 100
preempt = false
advertisement-interval = "1s"
authentication = { type = "pass", password = "9YasrrhZ" }
addresses = [{ address = "10.1.1.1/32", broadcast = "10.1.1.255", interface = "eth0" }]
checks = ["heartbeat"]

[replication]
group = "gateway"
protocol = "conntrackd"
mode = "ftfw"
filter = { protocols = ["tcp", "sctp", "dccp"], ignore-addresses = ["127.0.0.1", "169.254.0.4"] }

[[replication.link]]
interface = "eth0"
multicast = "225.0.0.50"
port = 3780
checksum = true
send-buffer = 1249280
receive-buffer = 1249280

[[route]]
type = "throw"
to = "10.147.46.0/24"
table = "Table_eth2"
protocol = "static"

[[route]]
to = "10.147.70.0/24"
via = "10.147.52.1"
table = "static_route"

[[route]]
to = "default"
via = "10.147.48.1"
dev = "eth2"
table = "Table_eth2"
when = "master"
group = "gateway"

[[rule]]
fwmark = 2
table = "Table_eth2"
priority = 32000
"#;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn as_master() -> Condition {
    Condition { when: When::Master, group: Some("gateway".to_owned()) }
}

fn virtual_router() -> VirtualRouter {
    VirtualRouter {
        name: "inside_network".to_owned(),
        group: "gateway".to_owned(),
        interface: "eth0".to_owned(),
        vrrp: lockstep_vrrp::Config {
            preempt: false,
            advertisement_interval: Duration::from_secs(1),
            authentication: Authentication::Pass(Password::new("9YasrrhZ").unwrap()),
            addresses: vec!["10.1.1.1".parse().unwrap()],
            startup_limit: Duration::from_secs(2),
            ..lockstep_vrrp::Config::new(Vrid::new(51).unwrap(), Version::V2, Family::Ipv4)
        },
        source: None,
        virtual_link: None,
        carriers: Vec::new(),
        advertise_from: AdvertiseFrom::VirtualMac,
        accept: true,
        announce: lockstep_config::Announce::default(),
    }
}

fn failover() -> failover::Config {
    let script = "/opt/cloud/bin/master.py";
    failover::Config {
        groups: vec![failover::Group {
            name: "gateway".to_owned(),
            virtual_routers: vec![failover::VirtualRouter::new("inside_network", "eth0")],
            checks: words(&["heartbeat"]),
            notify: failover::Notify {
                master: Some(words(&[script, "--master"])),
                backup: Some(words(&[script, "--backup"])),
                fault: Some(words(&[script, "--fault"])),
                ..failover::Notify::default()
            },
            replicated: true,
            ..failover::Group::default()
        }],
        checks: vec![failover::Check {
            name: "heartbeat".to_owned(),
            command: words(&["/ramdisk/rrouter/heartbeat.sh"]),
            user: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            rise: 1,
            fall: 1,
        }],
    }
}

fn replication() -> replicator::Config {
    let group = "225.0.0.50".parse().unwrap();
    let mut link = replicator::Link::multicast("eth0", group);
    link.send_buffer = Some(1_249_280);
    link.receive_buffer = Some(1_249_280);
    let mut config = replicator::Config::new("gateway", vec![link]);
    config.filter.protocols = vec![6, 132, 33];
    config.filter.ignore_addresses =
        vec!["127.0.0.1/32".parse().unwrap(), "169.254.0.4/32".parse().unwrap()];
    config
}

fn declared() -> Declared {
    let route = |to: &str, table| Route {
        kind: RouteKind::Unicast,
        to: to.parse().unwrap(),
        next_hops: Vec::new(),
        source: None,
        table: TableId(table),
        metric: None,
        mtu: None,
        scope: None,
        protocol: PROTOCOL_LOCKSTEP,
        condition: Condition::ALWAYS,
    };
    let via = |address: &str, dev: Option<&str>| {
        vec![NextHop {
            via: Some(address.parse().unwrap()),
            dev: dev.map(str::to_owned),
            weight: 1,
            onlink: false,
        }]
    };
    Declared {
        links: vec![Link { interface: "eth2".to_owned(), up: as_master() }],
        addresses: vec![Address {
            interface: "eth0".to_owned(),
            address: "10.1.1.1/32".parse().unwrap(),
            broadcast: Some("10.1.1.255".parse().unwrap()),
            label: None,
            scope: Scope::Global,
            condition: as_master(),
        }],
        routes: [
            Route { kind: RouteKind::Throw, protocol: 4, ..route("10.147.46.0/24", 2) },
            Route { next_hops: via("10.147.52.1", None), ..route("10.147.70.0/24", 100) },
            Route {
                next_hops: via("10.147.48.1", Some("eth2")),
                condition: as_master(),
                ..route("0.0.0.0/0", 2)
            },
        ]
        .map(Arc::new)
        .to_vec(),
        rules: vec![Rule {
            key: RuleKey {
                ipv6: false,
                priority: 32000,
                from: None,
                to: None,
                fwmark: Some(Fwmark { value: 2, mask: u32::MAX }),
                iif: None,
                oif: None,
                tos: 0,
                ip_protocol: None,
                source_port: None,
                destination_port: None,
                suppress_prefix_length: None,
                action: RuleAction::Lookup(TableId(2)),
            },
            protocol: PROTOCOL_LOCKSTEP,
            condition: Condition::ALWAYS,
        }],
        tables: [
            ("Table_eth2", 2),
            ("static_route", 100),
            ("default", 253),
            ("main", 254),
            ("local", 255),
        ]
        .map(|(name, number)| (name.to_owned(), TableId(number)))
        .to_vec()
        .into(),
        virtual_links: Vec::new(),
    }
}

fn read(text: &str) -> Config {
    let checked = parse("lockstep.toml", text, &Surroundings::default()).unwrap();
    assert_eq!(checked.warnings, []);
    checked.config
}

#[test]
fn the_file_of_a_cloudstack_router_means_what_its_operators_expect() {
    let config = read(FILE);
    assert_eq!(config.router_id, "r-17-VM");
    assert_eq!(config.virtual_routers, [virtual_router()]);
    assert_eq!(config.failover, failover());
    assert_eq!(config.replication, Some(replication()));
    assert_eq!(config.declared, declared());
}

#[test]
fn the_example_means_the_same() {
    assert_eq!(read(include_str!("../../../examples/cloudstack/lockstep.toml")), read(FILE));
}

#[test]
fn the_password_is_not_in_debug_output() {
    let shown = format!("{:?}", read(FILE));
    assert!(shown.contains("Password") && !shown.contains("9Yasrr"), "{shown}");
}
