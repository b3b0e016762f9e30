//! What a file that says little means: defaults, names from elsewhere, groups nobody wrote.

use std::path::PathBuf;
use std::time::Duration;

use lockstep_config::{
    Announce, Checked, Config, NotifyFifo, Scheduling, Secret, Surroundings, parse,
};
use lockstep_failover::{Limits, Notify, OnFailure, Process, RunAs, Subject, Track};
use lockstep_replicator::{Expectations, Filter, Link, Mode, Standby, Transport as Carried};
use lockstep_routes::{Condition, Fwmark, RuleAction, TableId, VirtualLink, When};
use lockstep_vrrp::{
    Authentication, ChecksumDialect, Family, KeyId, Password, Priority, TrailerKey, TrailerMode,
    Transport, Version, WhenMisunderstood,
};

const LAN: &str = "[vrrp.lan]\ninterface = \"eth0\"\nvrid = 1\naddresses = [\"10.1.1.1/24\"]\n";

fn checked(text: &str, surroundings: &Surroundings) -> Checked {
    parse("lockstep.toml", text, surroundings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn read(text: &str) -> Config {
    let checked = checked(text, &Surroundings::default());
    assert_eq!(checked.warnings, []);
    checked.config
}

fn follows(when: When, group: &str) -> Condition {
    Condition { when, group: Some(group.to_owned()) }
}

#[test]
fn a_virtual_router_needs_an_interface_a_vrid_and_an_address_only() {
    let config = read(LAN);
    let [router] = config.virtual_routers.as_slice() else { panic!("{config:?}") };
    assert_eq!(router.vrrp.version, Version::V3);
    assert_eq!(router.vrrp.family, Family::Ipv4);
    assert_eq!(router.vrrp.priority, Priority::DEFAULT);
    assert!(router.vrrp.preempt);
    assert_eq!(router.vrrp.advertisement_interval, Duration::from_secs(1));
    assert_eq!(router.vrrp.authentication, Authentication::None);
    assert_eq!(router.vrrp.preempt_delay, Duration::ZERO);
    assert_eq!(router.vrrp.startup_limit, Duration::from_secs(2));
    assert_eq!(router.vrrp.misunderstood, WhenMisunderstood::TakeOver);
    assert_eq!(router.vrrp.checksum, ChecksumDialect::PseudoHeader);
    assert_eq!(router.vrrp.transport, Transport::Multicast);
    assert_eq!(router.vrrp.trailer, None);
    assert_eq!((router.source, &router.virtual_link, router.accept), (None, &None, true));
    assert_eq!(router.announce, Announce::default());
    assert_eq!(config.scheduling, Scheduling::default());
    assert_eq!(config.replication, None);
}

#[test]
fn every_setting_of_the_engine_reaches_it() {
    let config = read(&format!(
        "{LAN}preempt-delay = \"90s\"\nstartup-limit = \"0s\"\nwhen-misunderstood = \"stay-backup\"\n\
         checksum = \"rfc9568\"\naccept = false\nsource = \"10.1.1.2\"\n\
         unicast = {{ peers = [\"10.1.1.3\", \"10.9.9.9\"], ttl = 64, minimum-ttl = 60 }}\n\
         announce = {{ after = [\"0s\", \"2s\"], refresh = \"1m\" }}\n\
         [router]\nreal-time = 50\nlock-memory = true\n\
         [interface.eth0]\nannouncement-interval = \"10ms\"\n"
    ));
    let router = &config.virtual_routers[0];
    assert_eq!(router.vrrp.preempt_delay, Duration::from_secs(90));
    assert_eq!(router.vrrp.startup_limit, Duration::ZERO);
    assert_eq!(router.vrrp.misunderstood, WhenMisunderstood::StayBackup);
    assert_eq!(router.vrrp.checksum, ChecksumDialect::MessageAlone);
    let peers = ["10.1.1.3", "10.9.9.9"].map(|peer| peer.parse().unwrap()).to_vec();
    assert_eq!(router.vrrp.transport, Transport::Unicast { peers, ttl: 64, minimum_ttl: 60 });
    assert_eq!((router.accept, router.source), (false, Some("10.1.1.2".parse().unwrap())));
    let after = [0, 2].map(Duration::from_secs).to_vec();
    let refresh = Some(Duration::from_mins(1));
    assert_eq!(router.announce, Announce { after, refresh });
    assert_eq!(config.scheduling, Scheduling { real_time: Some(50), lock_memory: true });
    assert_eq!(config.announcement_intervals["eth0"], Duration::from_millis(10));
    assert_eq!(config.declared.links, [], "pacing an interface takes no charge of it");
}

#[test]
fn a_virtual_mac_gives_the_addresses_an_interface_of_their_own() {
    let config = read(
        "[vrrp.lan]\ninterface = \"eth0\"\nvrid = 51\nvirtual-mac = true\n\
         addresses = [\"10.1.1.1/24\", { address = \"10.2.2.2/32\", interface = \"lo\" }]\n\
         [vrrp.lan6]\ninterface = \"eth0\"\nvrid = 51\nvirtual-mac = \"six\"\naddresses = [\"fe80::1/64\"]\n\
         [vrrp.real]\ninterface = \"eth1\"\nvrid = 1\nvirtual-mac = false\naddresses = [\"10.1.2.1/24\"]\n",
    );
    let link = |name: &str, mac| VirtualLink { name: name.into(), parent: "eth0".into(), mac };
    let expected = [link("eth0v51v4", [0, 0, 0x5e, 0, 1, 51]), link("six", [0, 0, 0x5e, 0, 2, 51])];
    assert_eq!(config.declared.virtual_links, expected);
    let links: Vec<_> =
        config.virtual_routers.iter().map(|router| router.virtual_link.as_deref()).collect();
    assert_eq!(links, [Some("eth0v51v4"), Some("six"), None]);
    assert!(config.virtual_routers.iter().all(|router| router.interface.starts_with("eth")));
    let homes: Vec<_> =
        config.declared.addresses.iter().map(|address| address.interface.as_str()).collect();
    assert_eq!(homes, ["eth0v51v4", "lo", "six", "eth1"]);
}

#[test]
fn what_is_tracked_belongs_to_its_virtual_router_or_to_the_whole_group() {
    let config = read(&format!(
        "{LAN}priority = 150\nchecks = [\"alive\"]\n\
         track = [{{ check = \"dns\", weight = -30 }}, {{ interface = \"eth2\", weight = 20 }}, {{ interface = \"eth3\" }}]\n\
         [group.g]\nvirtual-routers = [\"lan\"]\n\
         track = [{{ file = \"/run/drain\", weight = -1 }}, {{ process = \"named\", quorum = 2, delay = \"5s\", weight = -40 }}]\n\
         [check.alive]\ncommand = [\"/bin/true\"]\n[check.dns]\ncommand = [\"/bin/true\"]\nuser = \"nobody\"\n"
    ));
    let group = &config.failover.groups[0];
    assert_eq!(group.checks, ["alive"], "a check that weighs is no fault");
    let interface = |name: &str| Subject::Interface(name.to_owned());
    let weighing = |subject, weight| Track { subject, weight: Some(weight) };
    let lan = &group.virtual_routers[0];
    assert_eq!(lan.priority, 150);
    let expected = [
        weighing(Subject::Check("dns".to_owned()), -30),
        weighing(interface("eth2"), 20),
        Track::unfit(interface("eth3")),
    ];
    assert_eq!(lan.track, expected);
    let delay = Duration::from_secs(5);
    let named = Process { program: "named".to_owned(), quorum: 2, delay };
    let expected = [
        weighing(Subject::File(PathBuf::from("/run/drain")), -1),
        weighing(Subject::Process(named), -40),
    ];
    assert_eq!(group.track, expected);
    let user = |check: &lockstep_failover::Check| Some(check.user.as_ref()?.user.clone());
    let users: Vec<_> = config.failover.checks.iter().map(user).collect();
    assert_eq!(users, [None, Some("nobody".to_owned())]);
}

#[test]
fn a_signature_has_a_key_and_may_accept_others() {
    let key = "0123456789abcdef0123456789abcdef";
    let hexadecimal = "00".repeat(31) + "fF";
    let mut surroundings = Surroundings::default();
    surroundings.files.insert(PathBuf::from("/etc/next"), Ok(Secret::new(format!("{key}\n"))));
    let text = format!(
        "{LAN}[vrrp.lan.authentication]\ntype = \"hmac\"\nkey-id = 7\nkey = \"hex:{hexadecimal}\"\nmode = \"permissive\"\n\
         window = \"5m\"\nother-keys = [{{ key-id = 8, key-file = \"/etc/next\" }}]\n"
    );
    let config = checked(&text, &surroundings).config;
    let trailer = config.virtual_routers[0].vrrp.trailer.clone().unwrap();
    let mut bytes = [0; 32];
    bytes[31] = 0xff;
    assert_eq!(trailer.key_id, KeyId::new(7).unwrap());
    assert_eq!(trailer.key, TrailerKey::new(&bytes).unwrap());
    assert_eq!(
        trailer.other_keys[&KeyId::new(8).unwrap()],
        TrailerKey::new(key.as_bytes()).unwrap()
    );
    assert_eq!(trailer.mode, TrailerMode::Permissive);
    assert_eq!(trailer.freshness, Some(Duration::from_mins(5)));
    assert!(!format!("{config:?}").contains(key));
}

#[test]
fn an_authentication_header_is_keyed_by_the_password() {
    let text = format!(
        "{LAN}version = 2\nauthentication = {{ type = \"ah\", password = \"9YasrrhZ\" }}\n"
    );
    let expected = Authentication::Header(Password::new("9YasrrhZ").unwrap());
    assert_eq!(read(&text).virtual_routers[0].vrrp.authentication, expected);
}

#[test]
fn a_virtual_router_in_no_group_is_a_group_of_its_own() {
    let config =
        read(&format!("{LAN}checks = [\"alive\"]\n[check.alive]\ncommand = [\"/bin/true\"]\n"));
    let [group] = config.failover.groups.as_slice() else { panic!("{config:?}") };
    assert_eq!((group.name.as_str(), group.virtual_routers[0].name.as_str()), ("lan", "lan"));
    assert_eq!(group.checks, ["alive"]);
    assert_eq!(config.virtual_routers[0].group, "lan");
    assert_eq!(config.declared.addresses[0].condition, follows(When::Master, "lan"));
    assert_eq!(config.failover.checks[0].interval, Duration::from_secs(1));
    assert_eq!(config.failover.checks[0].timeout, Duration::from_secs(1));
}

#[test]
fn a_group_has_its_own_checks_and_those_of_its_members_each_once() {
    let config = read(
        "[vrrp.b]\ninterface = \"eth1\"\nvrid = 1\naddresses = [\"10.1.2.1/24\"]\nchecks = [\"y\", \"x\"]\n\
         [vrrp.a]\ninterface = \"eth0\"\nvrid = 1\naddresses = [\"10.1.1.1/24\"]\nchecks = [\"z\"]\n\
         [group.g]\nvirtual-routers = [\"a\", \"b\"]\nchecks = [\"x\"]\n\
         [check.z]\ncommand = [\"/bin/true\"]\n[check.x]\ncommand = [\"/bin/true\"]\n[check.y]\ncommand = [\"/bin/true\"]\n",
    );
    assert_eq!(config.failover.groups[0].checks, ["x", "z", "y"]);
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(config.virtual_routers.iter().map(|router| &router.name).collect()),
        ["b", "a"]
    );
    assert_eq!(
        names(config.failover.checks.iter().map(|check| &check.name).collect()),
        ["z", "x", "y"]
    );
}

#[test]
fn the_only_group_need_not_be_named() {
    let config = read(&format!(
        "{LAN}[replication]\nprotocol = \"conntrackd\"\nlink = [{{ interface = \"eth9\", multicast = \"ff02::50\" }}]\n\
         [[route]]\nto = \"default\"\ndev = \"eth1\"\nwhen = \"backup\"\n"
    ));
    let replication = config.replication.unwrap();
    assert_eq!(replication.groups, ["lan"]);
    assert_eq!((replication.links[0].port, replication.links[0].checksum), (3780, true));
    assert_eq!(config.declared.routes[0].condition, follows(When::Backup, "lan"));
    assert!(config.failover.groups[0].replicated);
}

#[test]
fn the_replicated_group_waits_as_long_as_replication_says() {
    let replication = "[replication]\nprotocol = \"conntrackd\"\n\
                       [[replication.link]]\ninterface = \"eth9\"\nmulticast = \"225.0.0.50\"\n";
    let usual = read(&format!("{LAN}{replication}"));
    assert_eq!(usual.failover.groups[0].limits, Limits::default());
    let set = replication.replace("[[", "commit-limit = \"250ms\"\npreempt-limit = \"10m\"\n[[");
    let set = read(&format!("{LAN}{set}"));
    let expected = Limits {
        commit: Duration::from_millis(250),
        preempt_without_flows: Some(Duration::from_mins(10)),
    };
    assert_eq!(set.failover.groups[0].limits, expected);
}

#[test]
fn only_the_replicated_group_holds_forwarding_and_only_when_asked_to() {
    let other = LAN.replace("lan", "other").replace("eth0", "eth1").replace("10.1.1.1", "10.1.2.1");
    let text = |hold: &str| {
        format!(
            "{LAN}{other}[replication]\ngroup = \"lan\"\nprotocol = \"conntrackd\"\n{hold}\
             [[replication.link]]\ninterface = \"eth9\"\nmulticast = \"225.0.0.50\"\n"
        )
    };
    let held = |hold: &str| -> Vec<String> {
        let groups = read(&text(hold)).failover.groups;
        groups.into_iter().filter(|group| group.holds_forwarding).map(|group| group.name).collect()
    };
    assert_eq!(held("hold-forwarding = true\n"), ["lan"]);
    assert!(held("").is_empty() && held("hold-forwarding = false\n").is_empty());
}

#[test]
fn several_groups_share_a_replication_and_all_of_them_are_replicated() {
    let other = LAN.replace("lan", "wan").replace("vrid = 1", "vrid = 2").replace("10.1.", "10.2.");
    let third = LAN.replace("lan", "dmz").replace("vrid = 1", "vrid = 3").replace("10.1.", "10.3.");
    let config = read(&format!(
        "{LAN}{other}{third}[replication]\nprotocol = \"conntrackd\"\ngroups = [\"wan\", \"lan\"]\n\
         commit-limit = \"3s\"\n\
         [[replication.link]]\ninterface = \"eth8\"\nmulticast = \"225.0.0.50\"\n"
    ));
    assert_eq!(config.replication.unwrap().groups, ["wan", "lan"]);
    let replicated = config.failover.groups.iter().filter(|group| group.replicated);
    let mut replicated: Vec<_> =
        replicated.map(|group| (group.name.as_str(), group.limits.commit.as_secs())).collect();
    replicated.sort_unstable();
    assert_eq!(replicated, [("lan", 3), ("wan", 3)]);
}

#[test]
fn every_setting_of_replication_reaches_the_replicator() {
    let config = read(&format!(
        "{LAN}[replication]\nprotocol = \"conntrackd\"\nmode = \"alarm\"\nstandby = \"kernel\"\n\
         expectations = [\"ftp\", \"sip\"]\ncache-limit = 5000\npurge-timeout = \"0s\"\n\
         refresh-interval = \"15s\"\ncache-timeout = \"45s\"\n\
         event-buffer = 1048576\nevent-buffer-limit = 4194304\n\
         [[replication.link]]\ninterface = \"eth8\"\nlocal = \"fd00::2\"\npeers = [\"fd00::3\"]\nport = 3781\n\
         [[replication.link]]\ninterface = \"eth9\"\nlocal = \"10.9.9.2\"\npeers = [\"10.9.9.3\"]\n\
         transport = \"udp\"\nchecksum = false\nsend-buffer = 65536\nreceive-buffer = 131072\n\
         [replication.filter]\nprotocols = [\"tcp\", 41]\nignore-protocols = [\"icmp\"]\n\
         addresses = [\"10.0.0.0/8\"]\nignore-addresses = [\"10.1.1.9\"]\n\
         tcp-states = [\"established\", \"FIN_WAIT\", \"closed\"]\ninclude-local = true\n"
    ));
    let replication = config.replication.unwrap();
    let mut expected = lockstep_replicator::Config::new("lan", Vec::new());
    expected.mode = Mode::Alarm;
    expected.standby = Standby::Kernel;
    expected.expectations = Expectations::Of(vec!["ftp".to_owned(), "sip".to_owned()]);
    expected.cache_limit = 5_000;
    expected.purge_timeout = Duration::ZERO;
    expected.refresh_interval = Duration::from_secs(15);
    expected.cache_timeout = Duration::from_secs(45);
    expected.event_buffer = 1 << 20;
    expected.event_buffer_limit = 4 << 20;
    let udp = |local: &str, peer: &str| Carried::Udp {
        local: local.parse().unwrap(),
        peers: vec![peer.parse().unwrap()],
    };
    let mut first = Link::new("eth8", udp("fd00::2", "fd00::3"));
    first.port = 3781;
    let mut second = Link::new("eth9", udp("10.9.9.2", "10.9.9.3"));
    second.checksum = false;
    second.send_buffer = Some(65_536);
    second.receive_buffer = Some(131_072);
    expected.links = vec![first, second];
    expected.filter = Filter {
        protocols: vec![6, 41],
        ignore_protocols: vec![1],
        addresses: vec!["10.0.0.0/8".parse().unwrap()],
        ignore_addresses: vec!["10.1.1.9/32".parse().unwrap()],
        tcp_states: vec![3, 4, 8],
        include_local: true,
    };
    assert_eq!(replication, expected);
}

#[test]
fn links_are_udp_unless_they_are_told_otherwise() {
    let replication = |link: &str| {
        let text =
            format!("{LAN}[replication]\nprotocol = \"conntrackd\"\nlink = [{{ {link} }}]\n");
        read(&text).replication.unwrap()
    };
    let (local, peers) = ("10.9.9.2".parse().unwrap(), vec!["10.9.9.3".parse().unwrap()]);
    let ends = "interface = \"eth9\", local = \"10.9.9.2\", peers = [\"10.9.9.3\"]";
    let udp = Carried::Udp { local, peers: peers.clone() };
    assert_eq!(replication(ends).links[0].transport, udp);
    let tcp = replication(&format!("{ends}, transport = \"tcp\""));
    assert_eq!(tcp.links[0].transport, Carried::Tcp { local, peers });
    assert_eq!(tcp.expectations, Expectations::All);
    assert_eq!(tcp.standby, Standby::default());
}

#[test]
fn a_buffer_above_the_usual_limit_raises_it() {
    let config = read(&format!(
        "{LAN}[replication]\nprotocol = \"conntrackd\"\nevent-buffer = 100000000\n\
         commit-timeout = \"3m\"\nexpectations = false\n\
         link = [{{ interface = \"eth9\", multicast = \"225.0.0.50\" }}]\n"
    ));
    let replication = config.replication.unwrap();
    assert_eq!(replication.event_buffer_limit, 100_000_000);
    assert_eq!(replication.commit_timeout, Some(Duration::from_mins(3)));
    assert_eq!(replication.expectations, Expectations::Off);
}

#[test]
fn only_the_group_that_replication_names_is_replicated() {
    let config = read(&format!(
        "{LAN}[vrrp.wan]\ninterface = \"eth1\"\nvrid = 1\naddresses = [\"10.1.2.1/24\"]\n[replication]\ngroup = \"wan\"\n\
         protocol = \"conntrackd\"\nlink = [{{ interface = \"eth9\", multicast = \"225.0.0.50\" }}]\n"
    ));
    let replicated: Vec<_> = config
        .failover
        .groups
        .iter()
        .map(|group| (group.name.as_str(), group.replicated))
        .collect();
    assert_eq!(replicated, [("lan", false), ("wan", true)]);
}

#[test]
fn an_address_of_a_virtual_router_may_live_on_another_interface() {
    let config = read(
        "[vrrp.lan]\ninterface = \"eth0\"\nvrid = 1\n\
         addresses = [\"10.1.1.1/24\", { address = \"10.2.2.2/32\", interface = \"lo\", scope = \"host\", label = \"lo:1\" }]\n",
    );
    let places: Vec<_> = config
        .declared
        .addresses
        .iter()
        .map(|a| (a.interface.as_str(), a.address.to_string()))
        .collect();
    assert_eq!(places, [("eth0", "10.1.1.1/24".to_owned()), ("lo", "10.2.2.2/32".to_owned())]);
    assert_eq!(config.virtual_routers[0].vrrp.addresses.len(), 2);
}

#[test]
fn names_of_tables_come_from_the_file_then_the_host_then_the_kernel() {
    let surroundings = Surroundings {
        table_names: vec![("mgmt".to_owned(), TableId(7)), ("Table_eth2".to_owned(), TableId(2))],
        ..Surroundings::default()
    };
    let rule =
        |priority, table: &str| format!("[[rule]]\npriority = {priority}\ntable = {table}\n");
    let text = format!(
        "[tables]\nTable_eth2 = 2\n{}{}{}{}{}",
        rule(1, "\"Table_eth2\""),
        rule(2, "\"mgmt\""),
        rule(3, "\"main\""),
        rule(4, "1000"),
        rule(5, "\"0x10\"")
    );
    // A table that is looked up and has no route is warned about.
    let route =
        |table: u32| format!("[[route]]\nto = \"default\"\ntype = \"throw\"\ntable = {table}\n");
    let text = format!("{text}{}{}", route(1000), route(16));
    let checked = checked(&text, &surroundings);
    assert_eq!(checked.warnings, []);
    let tables: Vec<_> = checked.config.declared.rules.iter().map(|rule| rule.key.action).collect();
    assert_eq!(tables, [2, 7, 254, 1000, 16].map(|id| RuleAction::Lookup(TableId(id))));
}

#[test]
fn the_router_is_called_as_its_file_or_its_host_says() {
    let surroundings = Surroundings { hostname: "r1".to_owned(), ..Surroundings::default() };
    assert_eq!(checked(LAN, &surroundings).config.router_id, "r1");
    assert_eq!(
        checked(&format!("router.id = \"left\"\n{LAN}"), &surroundings).config.router_id,
        "left"
    );
}

#[test]
fn what_outlives_the_daemon_is_kept_where_the_file_or_else_the_service_manager_says() {
    let given = Surroundings {
        state_directory: Some(PathBuf::from("/run/given")),
        ..Surroundings::default()
    };
    let of = |text: &str, surroundings: &Surroundings| {
        checked(text, surroundings).config.state_directory
    };
    assert_eq!(of(LAN, &Surroundings::default()), PathBuf::from("/var/lib/lockstep"));
    assert_eq!(of(LAN, &given), PathBuf::from("/run/given"));
    let set = format!("router.state-directory = \"/srv/lockstep\"\n{LAN}");
    assert_eq!(of(&set, &given), PathBuf::from("/srv/lockstep"));
}

#[test]
fn a_password_may_come_from_a_file() {
    let mut surroundings = Surroundings::default();
    surroundings
        .files
        .insert(PathBuf::from("/etc/secret"), Ok(Secret::new("sesame\r\n".to_owned())));
    let text = format!(
        "{LAN}version = 2\nauthentication = {{ type = \"pass\", password-file = \"/etc/secret\" }}\n"
    );
    let config = checked(&text, &surroundings).config;
    assert_eq!(
        config.virtual_routers[0].vrrp.authentication,
        Authentication::Pass(Password::new("sesame").unwrap())
    );
    assert!(!format!("{surroundings:?} {config:?}").contains("sesame"));
}

#[test]
fn a_default_route_is_of_the_family_of_its_next_hop() {
    let config = read(
        "[[route]]\nto = \"default\"\nvia = \"2001:db8::1\"\n[[route]]\nto = \"default\"\nvia = \"10.1.1.1\"\n",
    );
    let to: Vec<_> = config.declared.routes.iter().map(|route| route.to.to_string()).collect();
    assert_eq!(to, ["::/0", "0.0.0.0/0"]);
}

#[test]
fn routes_that_are_never_wanted_together_may_share_a_place() {
    let route = |via: &str, when: &str| {
        format!("[[route]]\nto = \"default\"\nvia = \"{via}\"\nwhen = \"{when}\"\n")
    };
    let config =
        read(&format!("{LAN}{}{}", route("10.1.1.254", "master"), route("10.1.1.1", "backup")));
    assert_eq!(config.declared.routes.len(), 2);
}

#[test]
fn a_rule_selects_by_mark_source_and_interface() {
    let config = read(
        "[[rule]]\npriority = 1\ntable = \"main\"\nfwmark = \"0x2/0xff\"\nfrom = \"2001:db8::1\"\nto = \"all\"\niif = \"eth0\"\n\
         [[rule]]\npriority = 2\ntable = \"main\"\nfamily = \"ipv6\"\nprotocol = \"static\"\n",
    );
    let [first, second] = config.declared.rules.as_slice() else { panic!("{config:?}") };
    assert_eq!(first.key.fwmark, Some(Fwmark { value: 2, mask: 0xff }));
    assert_eq!(first.key.from, Some("2001:db8::1/128".parse().unwrap()));
    assert!(first.key.ipv6 && first.key.to.is_none());
    assert!(second.key.ipv6 && second.protocol == 4);
}

#[test]
fn a_password_longer_than_eight_bytes_is_cut_with_a_warning() {
    let text = format!(
        "{LAN}version = 2\nauthentication = {{ type = \"pass\", password = \"123456789\" }}\n"
    );
    let checked = checked(&text, &Surroundings::default());
    assert_eq!(checked.warnings.len(), 1);
    let Authentication::Pass(password) = &checked.config.virtual_routers[0].vrrp.authentication
    else {
        panic!()
    };
    assert_eq!(password.bytes(), *b"12345678");
}

#[test]
fn hooks_of_virtual_routers_and_groups_are_read_with_all_they_say() {
    let config = read(
        r#"
        router = { notify-fifo = "/run/lockstep/notify", notify-fifo-user = "vyos", notify-fifo-group = "adm", notify-fifo-command = ["/usr/libexec/reader"], allow-insecure-scripts = true }
        vrrp.a = { interface = "eth0", vrid = 1, addresses = ["10.1.1.1/24"], notify = { notify = ["/a", "b"] } }
        vrrp.b = { interface = "eth0", vrid = 2, addresses = ["10.1.1.2/24"] }
        group.g = { virtual-routers = ["b"], checks = ["c"], notify = { stop = ["/s"], user = "nobody", group = "adm", timeout = "3s", on-failure = "fault" } }
        check.c = { command = ["/c"], user = "nobody" }
        "#,
    );
    let run_as = |user: &str, group: Option<&str>| {
        Some(RunAs { user: user.to_owned(), group: group.map(str::to_owned) })
    };
    let command = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let [named, alone] = config.failover.groups.as_slice() else { panic!("two groups") };
    assert_eq!((named.alone, alone.alone), (false, true));
    let general = Notify { every: command(&["/a", "b"]), ..Notify::default() };
    assert_eq!(alone.virtual_routers[0].notify, general);
    assert_eq!(alone.notify, Notify::default());
    let of_group = Notify {
        stop: command(&["/s"]),
        timeout: Some(Duration::from_secs(3)),
        user: run_as("nobody", Some("adm")),
        on_failure: OnFailure::Fault,
        ..Notify::default()
    };
    assert_eq!(named.notify, of_group);
    assert_eq!(config.failover.checks[0].user, run_as("nobody", None));
    let fifo = NotifyFifo {
        path: "/run/lockstep/notify".into(),
        user: run_as("vyos", Some("adm")),
        command: command(&["/usr/libexec/reader"]),
    };
    assert_eq!(config.notify_fifo, Some(fifo));
    assert!(config.allow_insecure_scripts);
}
