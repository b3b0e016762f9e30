//! What another file changes, by its sections and keys.

use lockstep_config::{Changes, Config, Leaving, Surroundings, parse};
use lockstep_routes::TableId;

const BASE: &str = r#"
[router]
id = "left"

[vrrp.lan]
interface = "eth0"
vrid = 1
addresses = ["10.1.1.1/24"]

[vrrp.wan]
interface = "eth1"
vrid = 2
addresses = ["192.0.2.1/24"]

[vrrp.alone]
interface = "eth3"
vrid = 3
addresses = ["10.3.0.1/24"]

[check.uplink]
command = ["true"]

[group.gateway]
virtual-routers = ["lan", "wan"]
checks = ["uplink"]

[replication]
group = "gateway"
protocol = "conntrackd"

[[replication.link]]
interface = "eth2"
multicast = "225.0.0.50"

[tables]
isp = 100

[interface.eth4]
up-when = "master"
group = "gateway"

[[address]]
address = "10.9.0.1/24"
interface = "eth4"

[[route]]
to = "default"
via = "192.0.2.254"
table = "isp"

[[rule]]
from = "10.1.1.0/24"
table = "isp"
priority = 100
"#;

fn read(text: &str, surroundings: &Surroundings) -> Config {
    let checked = parse("lockstep.toml", text, surroundings);
    checked.unwrap_or_else(|problems| panic!("{problems:?}")).config
}

fn between(before: &str, after: &str) -> Changes {
    let surroundings = Surroundings::default();
    Changes::between(&read(before, &surroundings), &read(after, &surroundings))
}

/// What changes when each first text of a pair is replaced by the second.
#[track_caller]
fn replaced(pairs: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let mut after = BASE.to_owned();
    for (old, new) in pairs {
        assert!(after.contains(old), "{old:?} is not in the file");
        after = after.replacen(old, new, 1);
    }
    let Changes { live, restart, .. } = between(BASE, &after);
    (live, restart)
}

#[track_caller]
fn live(old: &str, new: &str) -> Vec<String> {
    let (live, restart) = replaced(&[(old, new)]);
    assert_eq!(restart, Vec::<String>::new());
    live
}

#[track_caller]
fn restart(old: &str, new: &str) -> Vec<String> {
    let (live, restart) = replaced(&[(old, new)]);
    assert_eq!(live, Vec::<String>::new());
    restart
}

#[test]
fn what_is_written_otherwise_and_means_the_same_is_no_change() {
    assert!(between(BASE, BASE).is_empty());
    let explicit = BASE.replace("vrid = 1\n", "# the inner side\nvrid = 1\npriority = 100\n");
    let explicit =
        explicit.replace("[[replication.link]]", "mode = \"ftfw\"\n[[replication.link]]");
    assert!(between(BASE, &explicit).is_empty());
}

#[test]
fn every_setting_that_a_running_daemon_takes_is_told_by_its_key() {
    let keys = "expectations = [\"ftp\"]\nack-window = 20\nresend-queue = 4000\n\
                cache-limit = 50\npurge-timeout = \"5s\"\ncommit-timeout = \"9s\"\n\
                event-buffer = 65536\nevent-buffer-limit = 131072\n\
                filter = { protocols = [\"tcp\"] }\n";
    let place = "protocol = \"conntrackd\"\n";
    let (live, restart) = replaced(&[(place, &format!("{place}{keys}"))]);
    let expected = [
        "filter",
        "expectations",
        "ack-window",
        "resend-queue",
        "cache-limit",
        "purge-timeout",
        "commit-timeout",
        "event-buffer",
        "event-buffer-limit",
    ];
    assert_eq!(live, expected.map(|key| format!("replication.{key}")));
    assert_eq!(restart, Vec::<String>::new());

    let alarm = format!("{place}mode = \"alarm\"\n");
    let before = BASE.replace(place, &alarm);
    let times = format!("{alarm}refresh-interval = \"10s\"\ncache-timeout = \"40s\"\n");
    let Changes { live, restart, .. } = between(&before, &before.replace(&alarm, &times));
    assert_eq!(live, ["replication.refresh-interval", "replication.cache-timeout"]);
    assert_eq!(restart, Vec::<String>::new());
}

#[test]
fn the_core_of_replication_is_told_by_its_key_as_needing_a_restart() {
    let place = "protocol = \"conntrackd\"\n";
    for (key, text) in [("mode", "mode = \"notrack\"\n"), ("standby", "standby = \"kernel\"\n")] {
        assert_eq!(restart(place, &format!("{place}{text}")), [format!("replication.{key}")]);
    }
    assert_eq!(restart("225.0.0.50", "225.0.0.51"), ["replication.link"]);
    // The group's own section says nothing else.
    assert_eq!(
        restart("group = \"gateway\"\nprotocol", "group = \"alone\"\nprotocol"),
        ["replication.group"]
    );
    let limits = "commit-limit = \"1s\"\npreempt-limit = \"1m\"\n";
    assert_eq!(
        live(place, &format!("{place}{limits}")),
        ["replication.commit-limit", "replication.preempt-limit"]
    );
    assert_eq!(
        restart(place, &format!("{place}hold-forwarding = true\n")),
        ["replication.hold-forwarding"]
    );
    let (before, rest) = BASE.split_once("[replication]").unwrap();
    let (_, after) = rest.split_once("[tables]").unwrap();
    let without = format!("{before}[tables]{after}");
    assert_eq!(between(BASE, &without).restart, ["replication"]);
    assert_eq!(between(&without, BASE).restart, ["replication"]);
    assert!(between(&without, &without).is_empty());
}

#[test]
fn sections_are_told_by_their_name_and_each_once() {
    assert_eq!(restart("id = \"left\"", "id = \"right\""), ["router.id"]);
    assert_eq!(
        restart("id = \"left\"", "id = \"left\"\nreal-time = 50\nlock-memory = true"),
        ["router.real-time", "router.lock-memory"]
    );
    assert_eq!(
        restart("id = \"left\"", "id = \"left\"\nstate-directory = \"/srv\""),
        ["router.state-directory"]
    );
    assert_eq!(
        restart("[interface.eth4]", "[interface.eth4]\nannouncement-interval = \"1ms\""),
        ["interface.eth4.announcement-interval"]
    );
}

#[test]
fn what_a_running_daemon_takes_is_told_by_its_section_or_key() {
    assert_eq!(live("vrid = 1\n", "vrid = 1\npriority = 150\n"), ["vrrp.lan.priority"]);
    assert_eq!(live("vrid = 3\n", "vrid = 3\npriority = 150\n"), ["vrrp.alone.priority"]);
    let keys = "vrid = 1\npreempt-delay = \"9s\"\nstartup-limit = \"3s\"\n\
                when-misunderstood = \"stay-backup\"\nannounce = { refresh = \"60s\" }\n";
    let expected = ["preempt-delay", "startup-limit", "when-misunderstood", "announce"];
    assert_eq!(live("vrid = 1\n", keys), expected.map(|key| format!("vrrp.lan.{key}")));
    assert_eq!(live("vrid = 1\n", "vrid = 1\npreempt = false\n"), ["vrrp.lan.preempt"]);
    assert_eq!(live("10.1.1.1/24", "10.1.1.1/25"), ["vrrp.lan.addresses"], "only a prefix");
    let two = "[\"10.1.1.1/24\", \"10.1.1.9/24\"]";
    assert_eq!(live("[\"10.1.1.1/24\"]", two), ["vrrp.lan.addresses"]);
    assert_eq!(live("up-when = \"master\"", "up-when = \"backup\""), ["interface.eth4"]);
    assert_eq!(live("10.9.0.1/24", "10.9.0.2/24"), ["address"]);
    assert_eq!(live("192.0.2.254", "192.0.2.253"), ["route"]);
    assert_eq!(live("10.1.1.0/24", "10.1.2.0/24"), ["rule"]);
    assert_eq!(live("isp = 100", "isp = 101"), ["tables", "route", "rule"]);
}

#[test]
fn addresses_that_the_firewalls_table_has_are_taken_as_others_are() {
    let silent = BASE.replace("vrid = 1\n", "vrid = 1\naccept = false\n");
    assert_eq!(between(BASE, &silent).live, ["vrrp.lan.accept"]);
    let more = silent.replace("[\"10.1.1.1/24\"]", "[\"10.1.1.1/24\", \"10.1.1.9/24\"]");
    let changes = between(&silent, &more);
    assert_eq!(changes.live, ["vrrp.lan.addresses"]);
    assert!(changes.restart.is_empty() && changes.leaving.is_empty());
}

/// Everything can be taken; what of it, and what leaves for it.
#[track_caller]
fn leaving(before: &str, after: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let Changes { live, restart, leaving: Leaving { groups, virtual_routers }, .. } =
        between(before, after);
    assert_eq!(restart, Vec::<String>::new());
    (live, groups, virtual_routers)
}

/// Another virtual router at the end of the virtual routers.
fn with_one_more() -> String {
    let more = "[vrrp.new]\ninterface = \"eth5\"\nvrid = 4\naddresses = [\"10.4.0.1/24\"]\n";
    BASE.replace("[check.uplink]", &format!("{more}[check.uplink]"))
}

#[test]
fn what_comes_alone_moves_nothing_else_and_what_goes_leaves_first() {
    let more = with_one_more();
    assert_eq!(leaving(BASE, &more), (vec!["vrrp.new".to_owned()], vec![], vec![]));
    let gone = vec!["new".to_owned()];
    assert_eq!(leaving(&more, BASE), (vec!["vrrp.new".to_owned()], gone, vec![]));
    let group = "[group.other]\nvirtual-routers = [\"new\"]\n[replication]";
    let grouped = more.replace("[replication]", group);
    let live = ["vrrp.new", "group.other"].map(str::to_owned).to_vec();
    assert_eq!(leaving(BASE, &grouped), (live.clone(), vec![], vec![]));
    assert_eq!(leaving(&grouped, BASE), (live, vec!["other".to_owned()], vec![]));
}

#[test]
fn members_come_to_a_group_and_leave_it_and_the_group_goes_on() {
    let grouped = with_one_more().replace("[\"lan\", \"wan\"]", "[\"lan\", \"new\", \"wan\"]");
    let live = ["vrrp.new", "group.gateway.virtual-routers"].map(str::to_owned).to_vec();
    assert_eq!(leaving(BASE, &grouped), (live.clone(), vec![], vec![]));
    assert_eq!(leaving(&grouped, BASE), (live, vec![], vec!["new".to_owned()]));
    // One that was alone stops being so first.
    let joined = BASE.replace("[\"lan\", \"wan\"]", "[\"lan\", \"wan\", \"alone\"]");
    let live = ["vrrp.alone", "group.gateway.virtual-routers"].map(str::to_owned).to_vec();
    assert_eq!(leaving(BASE, &joined), (live.clone(), vec!["alone".to_owned()], vec![]));
    assert_eq!(between(BASE, &joined).arriving, ["alone"]);
    assert!(between(&joined, BASE).arriving.is_empty(), "a group of its own is new");
    let (mut told, groups, members) = leaving(&joined, BASE);
    told.sort_by_key(|name| live.iter().position(|one| one == name));
    assert_eq!((told, groups, members), (live, vec![], vec!["alone".to_owned()]));
}

#[test]
fn groups_none_of_whose_members_is_left_begin_anew() {
    let groups = |first: &str, second: &str| {
        let groups = format!(
            "[group.a]\nvirtual-routers = [{first:?}]\n[group.b]\nvirtual-routers = [{second:?}]\n\
             [replication]"
        );
        let more = "[vrrp.new]\ninterface = \"eth5\"\nvrid = 4\naddresses = [\"10.4.0.1/24\"]\n";
        let with = BASE.replace("[check.uplink]", &format!("{more}[check.uplink]"));
        with.replace("[replication]", &groups)
    };
    let (live, leaving, members) = leaving(&groups("alone", "new"), &groups("new", "alone"));
    let keys = ["a", "b"].map(|name| format!("group.{name}.virtual-routers"));
    assert_eq!((live, leaving), (keys.to_vec(), vec!["a".to_owned(), "b".to_owned()]));
    assert!(members.is_empty());
    assert!(between(&groups("alone", "new"), &groups("new", "alone")).arriving.is_empty());
}

#[test]
fn a_group_of_a_virtual_router_that_neighbours_know_by_other_things_begins_anew() {
    for (old, new) in [
        ("vrid = 1\n", "vrid = 9\n"),
        ("vrid = 1\n", "vrid = 1\nvirtual-mac = true\n"),
        ("vrid = 1\n", "vrid = 1\nversion = 2\n"),
        ("vrid = 1\n", "vrid = 1\nunicast = { peers = [\"10.1.1.3\"] }\n"),
        ("interface = \"eth0\"", "interface = \"eth6\""),
    ] {
        let after = BASE.replacen(old, new, 1);
        assert_ne!(after, BASE);
        let expected = (vec!["vrrp.lan".to_owned()], vec!["gateway".to_owned()], vec![]);
        assert_eq!(leaving(BASE, &after), expected, "{new}");
    }
}

#[test]
fn hooks_and_their_pipe_are_taken_wherever_they_stand() {
    let hook = "checks = [\"uplink\"]\nnotify = { master = [\"true\"] }\n";
    assert_eq!(live("checks = [\"uplink\"]\n", hook), ["group.gateway.notify"]);
    let hook = "vrid = 1\nnotify = { fault = [\"true\"], timeout = \"9s\" }\n";
    assert_eq!(live("vrid = 1\n", hook), ["vrrp.lan.notify"]);
    assert_eq!(live("vrid = 3\n", &hook.replace('1', "3")), ["vrrp.alone.notify"]);
    let fifo = "id = \"left\"\nnotify-fifo = \"/run/states\"\nallow-insecure-scripts = true";
    assert_eq!(
        live("id = \"left\"", fifo),
        ["router.notify-fifo", "router.allow-insecure-scripts"]
    );
}

#[test]
fn checks_and_what_is_tracked_are_taken_wherever_they_stand() {
    assert_eq!(live("[\"true\"]", "[\"false\"]"), ["check.uplink"]);
    assert_eq!(live("[\"true\"]", "[\"true\"]\ninterval = \"9s\"\nfall = 7"), ["check.uplink"]);
    let more = "[\"true\"]\n[check.more]\ncommand = [\"true\"]";
    assert_eq!(live("[\"true\"]", more), ["check.more"]);
    assert_eq!(live("checks = [\"uplink\"]\n", ""), ["group.gateway.checks"]);
    let track = "checks = [\"uplink\"]\ntrack = [{ interface = \"eth9\", weight = -10 }]\n\
                 hand-over-limit = \"9s\"\n";
    assert_eq!(
        live("checks = [\"uplink\"]\n", track),
        ["group.gateway.track", "group.gateway.hand-over-limit"]
    );
    let own = "vrid = 1\ntrack = [{ file = \"/run/drain\", weight = -1 }]\n";
    assert_eq!(live("vrid = 1\n", own), ["vrrp.lan.track"]);
    let alone = "vrid = 3\nchecks = [\"uplink\"]\ntrack = [{ interface = \"eth9\" }]\n";
    assert_eq!(live("vrid = 3\n", alone), ["vrrp.alone.track", "vrrp.alone.checks"]);
}

#[test]
fn what_can_be_taken_is_told_apart_from_what_cannot() {
    let place = "protocol = \"conntrackd\"\n";
    let (live, restart) = replaced(&[
        (place, &format!("{place}cache-limit = 7\nstandby = \"kernel\"\n")),
        ("vrid = 2\n", "vrid = 20\n"),
    ]);
    assert_eq!(live, ["vrrp.wan", "replication.cache-limit"]);
    assert_eq!(restart, ["replication.standby"]);
}

#[test]
fn the_hosts_names_of_tables_matter_only_where_they_are_used() {
    let named = |names: &[(&str, u32)]| Surroundings {
        table_names: names.iter().map(|(name, id)| ((*name).to_owned(), TableId(*id))).collect(),
        ..Surroundings::default()
    };
    let before = read(BASE, &named(&[("other", 7)]));
    let after = read(BASE, &named(&[("another", 8)]));
    assert!(Changes::between(&before, &after).is_empty());
}

#[test]
fn a_changed_password_is_a_change_although_nobody_is_shown_it() {
    let with = |password: &str| {
        let keys = format!(
            "vrid = 3\nversion = 2\nauthentication = {{ type = \"pass\", password = \"{password}\" }}\n"
        );
        BASE.replace("vrid = 3\n", &keys)
    };
    assert_eq!(between(&with("first"), &with("second")).live, ["vrrp.alone.authentication"]);
    assert!(between(&with("first"), &with("first")).is_empty());
}

#[test]
fn keys_and_intervals_are_taken_but_not_another_packet_around_them() {
    let interval = "vrid = 1\nadvertisement-interval = \"2s\"\nchecksum = \"rfc9568\"\n";
    let keys = ["vrrp.lan.advertisement-interval", "vrrp.lan.checksum"];
    assert_eq!(live("vrid = 1\n", interval), keys);
    let with = |authentication: &str| {
        let keys = format!("vrid = 3\nversion = 2\nauthentication = {{ {authentication} }}\n");
        BASE.replace("vrid = 3\n", &keys)
    };
    let pass = "type = \"pass\", password = \"first\"";
    let header = |password: &str| format!("type = \"ah\", password = \"{password}\"");
    let hmac = |number: u8| {
        let key = "k".repeat(32);
        format!("type = \"hmac\", key-id = {number}, key = \"{key}\"")
    };
    let taken = |before: &str, after: &str| {
        let Changes { live, restart, .. } = between(&with(before), &with(after));
        assert_eq!(live.len() + restart.len(), 1, "{live:?} {restart:?}");
        live == ["vrrp.alone.authentication"]
    };
    assert!(taken("type = \"none\"", pass));
    assert!(taken(pass, &hmac(1)));
    assert!(taken(&hmac(1), &hmac(2)));
    assert!(taken(&header("first"), &header("second")));
    assert!(!taken(pass, &header("first")), "its group begins anew");
    assert!(!taken(&header("first"), &hmac(1)));
}
