//! Virtual routers and groups that come and go while a daemon runs: those that stay are not moved.

use nix::sys::signal::Signal;

use super::reloading::ip;
use super::*;

/// The section of a virtual router of VRID `51 + number` and address 10.51.`number`.1.
fn router(name: &str, number: u8, priority: u8, more: &str) -> String {
    format!(
        "[vrrp.{name}]\ninterface = \"eth0\"\nvrid = {}\npriority = {priority}\n\
         advertisement-interval = \"100ms\"\nstartup-limit = \"0s\"\n\
         addresses = [\"10.51.{number}.1/24\"]\n{more}\n",
        51 + number
    )
}

fn group(name: &str, members: &[&str]) -> String {
    format!("[group.{name}]\nvirtual-routers = {members:?}\n")
}

/// Has the daemon take another file.
#[track_caller]
fn take(daemon: &Lockstep, sections: &[String]) -> String {
    daemon.take(&sections.concat())
}

/// What `check --diff` says of a file.
fn told(daemon: &Lockstep, sections: &[String]) -> String {
    let other = daemon.directory().join("other.toml");
    std::fs::write(&other, sections.concat()).expect("the file is written");
    let output = daemon.command(&["check", "--diff", other.to_str().expect("text")]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The states that a group has entered.
fn entered(daemon: &Lockstep, group: &str) -> Vec<String> {
    daemon.journal(group).iter().map(|entry| text(&entry["to"])).collect()
}

fn has(segment: &Segment, index: usize, address: &str) -> bool {
    segment.run(index, &["ip", "address", "show", "eth0"]).contains(&format!(" {address}/24 "))
}

/// How many advertisements router `index` has sent with this VRID and a priority of which `those` is true.
fn sent(segment: &Segment, index: usize, vrid: u8, those: impl Fn(u8) -> bool) -> usize {
    let all = segment.advertisements(index).into_iter();
    all.filter(|seen| seen.vrid == vrid && those(seen.priority)).count()
}

#[test]
fn a_virtual_router_comes_alone_and_goes_again_and_nothing_else_moves() {
    let segment = alone();
    let first = || router("first", 0, 150, "");
    let second = || router("second", 1, 150, "");
    let daemon = Lockstep::start(segment.node(OURS), &first());
    daemon.wait_for_state("first", "master");

    let file = [first(), second()];
    assert_eq!(told(&daemon, &file), "vrrp.second: taken by a reload\n");
    assert_eq!(take(&daemon, &file), "vrrp.second is in force\n");
    daemon.wait_for_state("second", "master");
    assert!(has(&segment, OURS, "10.51.1.1"));

    // At another place of the file, and beside a third one.
    take(&daemon, &[second(), router("third", 2, 150, ""), first()]);
    daemon.wait_for_state("third", "master");

    let file = [router("third", 2, 150, ""), first()];
    let leaves = "vrrp.second: taken by a reload\ngroup second stops\n";
    assert_eq!(told(&daemon, &file), leaves);
    assert_eq!(take(&daemon, &file), "vrrp.second is in force; group second stops\n");
    assert!(!has(&segment, OURS, "10.51.1.1"));
    assert_eq!(entered(&daemon, "second"), ["backup", "master", "stopped"]);
    assert_eq!(sent(&segment, OURS, 52, |priority| priority == 0), 1);
    let names = |list: &str| {
        let status = daemon.status();
        status[list].as_array().expect("a list").iter().map(|one| text(&one["name"])).collect()
    };
    let shown: Vec<String> = names("groups");
    assert_eq!(shown, names("virtual-routers"));
    assert_eq!(shown.len(), 2, "{shown:?}");
    for stays in ["first", "third"] {
        assert_eq!(entered(&daemon, stays), ["backup", "master"]);
        assert_eq!(number(&daemon.virtual_router(stays)["statistics"]["master-transitions"]), 1);
    }
    // Back again, it begins as if it had never been there.
    take(&daemon, &[router("third", 2, 150, ""), first(), second()]);
    daemon.wait_for_state("second", "master");
    assert!(has(&segment, OURS, "10.51.1.1"));
}

#[test]
fn a_member_comes_to_a_group_and_leaves_it_on_one_router_after_the_other_and_no_group_moves() {
    each([0, 1], |first| {
        let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
        let one = |priority| [router("a", 0, priority, ""), group("g", &["a"])];
        let two = |priority| {
            let more = router("b", 1, priority, "accept = false");
            [router("a", 0, priority, ""), more, group("g", &["b", "a"])]
        };
        let start =
            |index: usize, priority| Lockstep::start(segment.node(index), &one(priority).concat());
        let daemons = [start(0, 150), start(1, 100)];
        daemons[0].wait_for_state("g", "master");
        daemons[1].wait_for_state("g", "backup");
        let priorities = [150, 100];
        for index in [first, 1 - first] {
            take(&daemons[index], &two(priorities[index]));
            if index == 0 {
                wait::until("the new member advertises", || {
                    sent(&segment, 0, 52, |priority| priority > 0) > 5
                });
            } else {
                let before = sent(&segment, 0, 51, |_| true);
                wait::until("nobody else has claimed it for long", || {
                    sent(&segment, 0, 51, |_| true) > before + 10
                });
            }
            assert_eq!(segment.masters(), "a");
            assert_eq!(sent(&segment, 1, 52, |_| true), 0, "the backup claims nothing alone");
            assert!(!has(&segment, 1, "10.51.1.1"));
        }
        assert!(has(&segment, 0, "10.51.1.1"));
        let received = &daemons[1].virtual_router("b")["statistics"]["advertisement-rcvd"];
        assert!(number(received) > 0, "the backup hears it");
        let table = segment.run(0, &["nft", "list", "table", "inet", "lockstep"]);
        assert!(table.contains("10.51.1.1"), "it accepts nothing: {table}");

        for index in [first, 1 - first] {
            take(&daemons[index], &one(priorities[index]));
        }
        assert_eq!(sent(&segment, 0, 52, |priority| priority == 0), 1, "it says that it stops");
        assert_eq!(sent(&segment, 1, 52, |_| true), 0);
        assert!(!has(&segment, 0, "10.51.1.1") && !has(&segment, 1, "10.51.1.1"));
        assert!(has(&segment, 0, "10.51.0.1"));
        let table = segment.run(0, &["nft", "list", "table", "inet", "lockstep"]);
        assert!(!table.contains("10.51.1.1"), "{table}");
        assert_eq!(entered(&daemons[0], "g"), ["backup", "master"]);
        assert_eq!(entered(&daemons[1], "g"), ["backup"]);
    });
}

#[test]
fn a_pair_takes_over_with_a_member_that_came_later() {
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let one = |priority| [router("a", 0, priority, ""), group("g", &["a"])];
    let two = |priority| {
        [router("a", 0, priority, ""), router("b", 1, priority, ""), group("g", &["a", "b"])]
    };
    let mut master = Lockstep::start(segment.node(0), &one(150).concat());
    master.wait_for_state("g", "master");
    let backup = Lockstep::start(segment.node(1), &one(100).concat());
    backup.wait_for_state("g", "backup");
    take(&master, &two(150));
    take(&backup, &two(100));
    wait::until("the backup hears the new member", || {
        let statistics = &backup.virtual_router("b")["statistics"];
        number(&statistics["advertisement-rcvd"]) > 3
    });
    master.stop();
    backup.wait_for_state("g", "master");
    assert!(has(&segment, 1, "10.51.0.1") && has(&segment, 1, "10.51.1.1"));
    assert_eq!(entered(&backup, "g"), ["backup", "master"]);
}

#[test]
fn a_virtual_mac_interface_comes_with_its_virtual_router_and_goes_with_it() {
    let segment = alone();
    let arp_ignore = || {
        let value = segment.run(OURS, &["cat", "/proc/sys/net/ipv4/conf/eth0/arp_ignore"]);
        value.trim().to_owned()
    };
    let before_all = arp_ignore();
    let first = || router("first", 0, 150, "virtual-mac = true");
    let daemon = Lockstep::start(segment.node(OURS), &first());
    daemon.wait_for_state("first", "master");
    let link = text(&daemon.virtual_router("first")["interface"]);
    assert_eq!(link, "eth0");
    let macs = || ip(&segment, "-details link show type macvlan");
    assert!(macs().contains("00:00:5e:00:01:33"), "{}", macs());

    take(&daemon, &[router("second", 1, 150, "virtual-mac = true"), first()]);
    daemon.wait_for_state("second", "master");
    assert!(macs().contains("00:00:5e:00:01:33") && macs().contains("00:00:5e:00:01:34"));
    wait::until("the new one speaks", || sent(&segment, OURS, 52, |_| true) > 3);
    assert!(ip(&segment, "address show").contains(" 10.51.1.1/24 "));

    take(&daemon, &[first()]);
    assert!(!macs().contains("00:00:5e:00:01:34"), "{}", macs());
    assert_eq!(arp_ignore(), "1", "the one that stays needs it");
    assert!(macs().contains("00:00:5e:00:01:33"), "{}", macs());
    let before = sent(&segment, OURS, 51, |_| true);
    wait::until("the first one still speaks", || sent(&segment, OURS, 51, |_| true) > before + 3);
    assert_eq!(entered(&daemon, "first"), ["backup", "master"]);
    take(&daemon, &[router("first", 0, 150, "")]);
    daemon.wait_for_state("first", "master");
    assert!(!macs().contains("00:00:5e"), "{}", macs());
    assert_eq!(arp_ignore(), before_all, "what was raised for them is as it was");
}

#[test]
fn a_virtual_router_with_another_vrid_leaves_and_begins_anew() {
    let segment = alone();
    let other = || router("other", 1, 150, "");
    let daemon = Lockstep::start(segment.node(OURS), &[router("a", 0, 150, ""), other()].concat());
    daemon.wait_for_state("a", "master");
    daemon.wait_for_state("other", "master");
    let file = [router("a", 0, 150, "").replace("vrid = 51", "vrid = 61"), other()];
    assert_eq!(told(&daemon, &file), "vrrp.a: taken by a reload\ngroup a stops and begins anew\n");
    take(&daemon, &file);
    daemon.wait_for_state("a", "master");
    assert_eq!(entered(&daemon, "a"), ["backup", "master", "stopped", "backup", "master"]);
    assert_eq!(sent(&segment, OURS, 51, |priority| priority == 0), 1);
    wait::until("it advertises", || sent(&segment, OURS, 61, |_| true) > 3);
    assert!(has(&segment, OURS, "10.51.0.1"));
    assert_eq!(entered(&daemon, "other"), ["backup", "master"]);
    assert_eq!(sent(&segment, OURS, 52, |priority| priority == 0), 0);
}

#[test]
fn a_worker_that_is_killed_goes_on_with_what_came_while_it_ran() {
    let segment = alone();
    let slow = |name: &str, number| router(name, number, 150, "").replace("100ms", "1s");
    let first = || [slow("a", 0), group("g", &["a"])].concat();
    let daemon = Lockstep::start_guarded(segment.node(OURS), &first());
    daemon.wait_for_state("g", "master");
    take(&daemon, &[slow("b", 1), slow("a", 0), slow("c", 2), group("g", &["b", "a"])]);
    daemon.wait_for_state("c", "master");
    wait::until("the new member advertises", || sent(&segment, OURS, 52, |_| true) > 1);
    let killed = daemon.signal_worker(Signal::SIGKILL);
    daemon.wait_for_another_worker(killed);
    for name in ["g", "c"] {
        daemon.wait_for_state(name, "master");
        let reason = text(&daemon.group(name)["reason"]);
        assert!(reason.starts_with("resumed after the daemon was killed"), "{name}: {reason}");
    }
    assert_eq!(sent(&segment, OURS, 52, |priority| priority == 0), 0);
    for address in ["10.51.0.1", "10.51.1.1", "10.51.2.1"] {
        assert!(has(&segment, OURS, address), "{address}");
    }
}

#[test]
fn a_group_that_comes_again_is_still_in_maintenance() {
    let segment = alone();
    let (a, b) = (router("a", 0, 150, ""), router("b", 1, 150, ""));
    let daemon = Lockstep::start(segment.node(OURS), &[a.clone(), b.clone()].concat());
    daemon.wait_for_state("b", "master");
    assert!(daemon.command(&["maintenance", "on", "b"]).status.success());
    daemon.wait_for_state("b", "backup");
    take(&daemon, std::slice::from_ref(&a));
    take(&daemon, &[a, b]);
    wait::until("it is there", || text(&daemon.group("b")["state"]) == "backup");
    assert!(text(&daemon.group("b")["reason"]).starts_with("in maintenance since"));
    assert!(daemon.command(&["maintenance", "off", "b"]).status.success());
    daemon.wait_for_state("b", "master");
    assert_eq!(entered(&daemon, "a"), ["backup", "master"]);
}

#[test]
fn the_stop_hook_of_a_group_that_goes_is_run_although_it_has_to_wait() {
    let segment = alone();
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let hangs = format!("until test -e {}; do sleep 0.01; done", path("flag"));
    let hook = |state: &str, script: &str| {
        format!("notify = {{ {state} = [\"/bin/sh\", \"-c\", \"{script}\"] }}")
    };
    let stays = router("a", 0, 150, &hook("master", &hangs));
    let goes = router("b", 1, 150, &hook("stop", &format!("echo stop >> {}", path("log"))));
    let daemon = Lockstep::start(segment.node(OURS), &[stays.clone(), goes].concat());
    daemon.wait_for_state("a", "master");
    daemon.wait_for_state("b", "master");
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| take(&daemon, std::slice::from_ref(&stays)));
        daemon.wait_for_state("b", "stopped");
        assert!(!std::path::Path::new(&path("log")).exists(), "another one runs");
        std::fs::write(path("flag"), "").expect("the file is written");
        taken.join().expect("the reload is taken");
    });
    wait::until("it has run", || {
        std::fs::read_to_string(path("log")).is_ok_and(|log| log == "stop\n")
    });
    assert_eq!(entered(&daemon, "a"), ["backup", "master"]);
}

/// Waits until one of the two is master of everything and the other one of nothing, as both say and as the addresses
/// are.
#[track_caller]
fn wait_for_one_master(segment: &Segment, daemons: &[Lockstep; 2], groups: &[(&str, u8)]) {
    let is = |index: usize, state: &str| {
        let status = daemons[index].status();
        let all = |list: &str| {
            let list = status[list].as_array().expect("a list").clone();
            list.len() == groups.len() && list.iter().all(|one| text(&one["state"]) == state)
        };
        let has = |(_, number): &(&str, u8)| has(segment, index, &format!("10.51.{number}.1"));
        all("virtual-routers")
            && all("groups")
            && groups.iter().all(|one| has(one) == (state == "master"))
    };
    wait::until(&format!("there is one master of {groups:?}"), || {
        (is(0, "master") && is(1, "backup")) || (is(1, "master") && is(0, "backup"))
    });
}

#[test]
fn members_that_change_their_group_take_part_in_it() {
    let alone = |priority| [router("v1", 0, priority, ""), router("v2", 1, priority, "")].concat();
    let apart = |groups: [&str; 2], priority| {
        let groups = [group(groups[0], &["v1"]), group(groups[1], &["v2"])].concat();
        format!("{}{groups}", alone(priority))
    };
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let priorities = [150, 100];
    let daemons =
        [0, 1].map(|index| Lockstep::start(segment.node(index), &alone(priorities[index])));
    let two = [("v1", 0), ("v2", 1)];
    wait_for_one_master(&segment, &daemons, &two);
    // Two groups of one, another name for them, and each other's member.
    for groups in [["g1", "g2"], ["g1", "g9"], ["g9", "g1"]] {
        for (daemon, priority) in daemons.iter().zip(priorities) {
            take(daemon, &[apart(groups, priority)]);
        }
        wait_for_one_master(&segment, &daemons, &two);
    }
    for (daemon, priority) in daemons.iter().zip(priorities) {
        take(daemon, &[alone(priority)]);
    }
    wait_for_one_master(&segment, &daemons, &two);
}

#[test]
fn the_addresses_of_a_member_that_another_router_is_master_of_stay_down_until_it_is_claimed() {
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let one = || [router("a", 0, 150, ""), group("g", &["a"])];
    let two =
        |priority| [router("a", 0, 150, ""), router("b", 1, priority, ""), group("g", &["a", "b"])];
    let daemon = Lockstep::start(segment.node(0), &one().concat());
    daemon.wait_for_state("g", "master");
    let mut other = Lockstep::start(segment.node(1), &router("b", 1, 200, ""));
    other.wait_for_state("b", "master");
    take(&daemon, &two(150));
    let before = sent(&segment, 1, 52, |_| true);
    wait::until("the other one has gone on for long", || {
        assert!(!has(&segment, 0, "10.51.1.1"), "two routers have it");
        sent(&segment, 1, 52, |_| true) > before + 10
    });
    assert_eq!(entered(&daemon, "g"), ["backup", "master"], "it is not moved by it");
    assert_eq!(text(&daemon.virtual_router("b")["state"]), "backup");
    let announced = |index: usize| {
        let all = segment.capture.announcements().into_iter();
        let of_it = all.filter(|one| one.address.to_string() == "10.51.1.1");
        of_it.filter(|one| one.mac == lockstep_tests::segment::mac(index)).count()
    };
    assert_eq!(announced(0), 0);
    // Somebody else's death, and who was waiting for it.
    other.kill();
    wait::until("it is claimed, and there", || has(&segment, 0, "10.51.1.1"));
    assert_eq!(text(&daemon.virtual_router("b")["state"]), "master");
    wait::until("it is announced", || announced(0) > 0);
    assert_eq!(entered(&daemon, "g"), ["backup", "master"]);
}

#[test]
fn what_a_reload_brings_to_a_daemon_that_ends_ends_with_it() {
    let segment = alone();
    let hangs = "notify = { stop = [\"/bin/sh\", \"-c\", \"sleep 2\"] }";
    let mut daemon = Lockstep::start(segment.node(OURS), &router("a", 0, 150, hangs));
    daemon.wait_for_state("a", "master");
    daemon.configure(&[router("a", 0, 150, hangs), router("b", 1, 150, "")].concat());
    daemon.process().signal(Signal::SIGTERM).expect("it can be signalled");
    // Whether it is still taken is a matter of moments.
    drop(daemon.command(&["reload"]));
    assert!(daemon.ended().success());
    assert!(!has(&segment, OURS, "10.51.0.1") && !has(&segment, OURS, "10.51.1.1"));
}

#[test]
fn a_hook_that_hangs_does_not_hold_a_reload_up_for_long() {
    let segment = alone();
    let hook = |state: &str, script: &str| {
        format!("notify = {{ {state} = [\"/bin/sh\", \"-c\", \"{script}\"], timeout = \"5m\" }}")
    };
    // It ends with the test.
    let directory = tempfile::TempDir::new().expect("a directory");
    let lasts = format!("while test -d {}; do sleep 0.1; done", directory.path().display());
    let hangs = router("a", 0, 150, &hook("master", &lasts));
    let goes = router("b", 1, 150, &hook("stop", "true"));
    let daemon = Lockstep::start(segment.node(OURS), &[hangs.clone(), goes.clone()].concat());
    daemon.wait_for_state("a", "master");
    daemon.wait_for_state("b", "master");
    let said = take(&daemon, std::slice::from_ref(&hangs));
    assert_eq!(said, "vrrp.b is in force; group b stops\n");
    assert!(daemon.log().contains("a hook of a group that is left is not run"));
    take(&daemon, &[hangs, goes]);
    daemon.wait_for_state("b", "master");
}

#[test]
fn an_address_whose_interface_is_missing_is_a_fault_and_no_half_a_master() {
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let other = Lockstep::start(segment.node(OTHER), &router("a", 0, 100, ""));
    other.wait_for_state("a", "master");
    let addresses =
        "addresses = [\"10.51.0.1/24\", { address = \"203.0.113.1/24\", interface = \"wan0\" }]";
    let strict = router("a", 0, 150, "").replace("addresses = [\"10.51.0.1/24\"]", addresses);
    let lenient = "[[address]]\naddress = \"203.0.113.2/24\"\ninterface = \"wan1\"\n\
                   when = \"master\"\ngroup = \"a\"\n";
    let file = [strict, lenient.to_owned()].concat();
    let daemon = Lockstep::start(segment.node(OURS), &file);
    daemon.wait_for_state("a", "fault");
    assert_eq!(
        text(&daemon.group("a")["reason"]),
        "wan0 does not exist, which has addresses of it"
    );
    assert_eq!(other.state("a"), "master", "whoever has all that it needs serves on");

    segment.run(OURS, &["ip", "link", "add", "wan0", "type", "veth", "peer", "name", "peer0"]);
    daemon.wait_for_state("a", "master");
    other.wait_for_state("a", "backup");
    assert!(ip(&segment, "address show wan0").contains("203.0.113.1/24"));
    segment.run(OURS, &["ip", "link", "del", "wan0"]);
    daemon.wait_for_state("a", "fault");
    wait::until("it says so", || sent(&segment, OURS, 51, |priority| priority == 0) == 1);
    assert!(!has(&segment, OURS, "10.51.0.1"));
    other.wait_for_state("a", "master");

    // Whoever takes it out needs it no more, and whoever has it again does.
    let without = [router("a", 0, 150, ""), lenient.to_owned()].concat();
    daemon.take(&without);
    daemon.wait_for_state("a", "master");
    daemon.take(&file);
    daemon.wait_for_state("a", "fault");
}

#[test]
fn a_group_that_begins_anew_preempts_whom_it_has_handed_over_to() {
    let segment = Segment::new(&[Program::Lockstep, Program::Lockstep]);
    let priorities = [150, 100];
    let file = |index: usize, vrid: &str| {
        let more = router("b", 1, priorities[index], "").replace("vrid = 52", vrid);
        [router("a", 0, priorities[index], ""), more, group("g", &["a", "b"])].concat()
    };
    let daemons =
        [0, 1].map(|index| Lockstep::start(segment.node(index), &file(index, "vrid = 52")));
    daemons[0].wait_for_state("g", "master");
    daemons[1].wait_for_state("g", "backup");
    for (vrid, order) in [("vrid = 62", [0, 1]), ("vrid = 52", [1, 0])] {
        for index in order {
            daemons[index].take(&file(index, vrid));
        }
        daemons[0].wait_for_state("g", "master");
        daemons[1].wait_for_state("g", "backup");
    }
}
