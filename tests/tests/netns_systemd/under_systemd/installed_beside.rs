//! The drop-in for hooks that do more, and the units under the names of keepalived and conntrackd.

use lockstep_tests::pair::Pair;
use lockstep_tests::systemd::Machine;
use lockstep_tests::wait;

use super::config;

#[test]
fn with_the_drop_in_a_hook_may_do_what_an_administrator_may() {
    let pair = Pair::new();
    let hook = "notify.master = [\"sh\", \"-ec\", \"\
                : >/etc/written; : >/tmp/written; chown daemon /etc/written; chmod u+s /etc/written; \
                unshare --uts true; mknod /dev/made c 1 3; mount -t tmpfs tmpfs /mnt; \
                systemctl show --property=Version; : >/home/written\"]";
    let machine = Machine::boot(&pair.ours);
    machine.configure(&config(hook));
    machine.install("hooks.conf", "lockstep.service.d/hooks.conf");
    machine.start_service();
    machine.lockstep().wait_for_state("gateway", "master");
    let hook = wait::some("the hook has ended", || {
        let hook = machine.lockstep().status()["hooks"][0].clone();
        (hook["state"] == "master" && hook["result"] != "running").then_some(hook)
    });
    assert_eq!(hook["result"], "exit status 0", "{hook}");
    for place in ["/etc/written", "/tmp/written", "/home/written", "/dev/made"] {
        assert!(machine.path(place).exists(), "{place}");
    }
    assert_eq!(machine.property("WatchdogUSec"), "10s", "what keeps it alive stays");
}

#[test]
fn under_the_names_of_keepalived_and_conntrackd_it_is_started_asked_reloaded_and_stopped() {
    let pair = Pair::new();
    let machine = Machine::boot(&pair.ours);
    machine.configure(&config(""));
    machine.install("lockstep.service", "lockstep.service");
    for name in ["keepalived.service", "conntrackd.service"] {
        machine.install(&format!("compat/{name}"), name);
    }
    machine.install("compat/lockstep.conf", "lockstep.service.d/keepalived.conf");
    machine.systemctl(&["enable", "lockstep", "keepalived", "conntrackd"]);
    let names = ["lockstep", "keepalived", "conntrackd"];
    let all_are = |state: &str| {
        wait::until(&format!("all are {state}"), || {
            names.iter().all(|name| machine.property_of(name, "ActiveState") == state)
        });
    };
    let serves = || machine.lockstep().wait_for_state("gateway", "master");
    machine.systemctl(&["start", "keepalived"]);
    all_are("active");
    serves();

    let more = config("").replace("\"10.51.0.1/24\"", "\"10.51.0.1/24\", \"10.51.0.2/24\"");
    machine.configure(&more);
    machine.systemctl(&["reload", "keepalived"]);
    wait::until("what was added is there", || {
        let addresses = pair.ours.addresses("eth0").expect("its addresses");
        addresses.iter().any(|address| address.to_string() == "10.51.0.2/24")
    });

    let guard = machine.guard();
    machine.systemctl(&["restart", "conntrackd"]);
    assert_eq!(machine.guard(), guard, "there is nothing to restart");
    machine.systemctl(&["restart", "keepalived"]);
    all_are("active");
    assert_ne!(machine.guard(), guard);
    serves();

    machine.systemctl(&["kill", "--kill-whom=all", "--signal=KILL", "lockstep"]);
    wait::until("it is started again", || machine.property("NRestarts") == "1");
    all_are("active");
    serves();

    machine.systemctl(&["stop", "keepalived"]);
    all_are("inactive");
    assert!(!Pair::has_virtual_address(&pair.ours));

    machine.systemctl(&["start", "lockstep"]);
    all_are("active");
    machine.systemctl(&["stop", "lockstep"]);
    all_are("inactive");

    machine.systemctl(&["start", "keepalived"]);
    serves();
    machine.configure("nonsense");
    machine.systemctl(&["kill", "--kill-whom=all", "--signal=KILL", "lockstep"]);
    wait::until("it is given up", || machine.property("ActiveState") == "failed");
    wait::until("and nobody says that it runs", || {
        ["keepalived", "conntrackd"]
            .iter()
            .all(|name| machine.property_of(name, "ActiveState") == "inactive")
    });
}
