//! Everything the daemon does, it can do with the rights that the unit leaves it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Instant;

use lockstep_lab::{Node, RouterId};
use lockstep_tests::daemon::virtual_addresses;
use lockstep_tests::gateway::{Gateway, wait_until_told};
use lockstep_tests::systemd::Machine;
use lockstep_tests::{rights, wait};
use nix::sys::signal::Signal;

/// All of it that needs a right.
fn config(id: RouterId) -> String {
    let (name, priority) = match id {
        RouterId::A => ("a", 150),
        RouterId::B => ("b", 100),
    };
    format!(
        r#"
        [router]
        id = "{name}"
        real-time = 10
        lock-memory = true
        notify-fifo = "/run/lockstep/notify"
        notify-fifo-user = "nobody"
        notify-fifo-command = ["sh", "-c", "exec cat \"$0\" >/tmp/told"]

        [vrrp.gateway]
        interface = "eth0"
        vrid = 51
        priority = {priority}
        startup-limit = "0s"
        advertisement-interval = "200ms"
        addresses = {virtual_addresses}
        track = [
          {{ check = "alive", weight = -10 }},
          {{ process = "/lib/systemd/systemd", weight = -10 }},
        ]

        [vrrp.mac]
        interface = "eth0"
        vrid = 52
        virtual-mac = true
        accept = false
        priority = {priority}
        startup-limit = "0s"
        advertisement-interval = "200ms"
        addresses = ["10.10.0.9/24"]

        [vrrp.signed]
        interface = "eth0"
        vrid = 53
        version = 2
        priority = {priority}
        startup-limit = "0s"
        addresses = ["10.10.0.10/24"]
        authentication = {{ type = "ah", password-file = "/etc/lockstep/password" }}

        [vrrp.six]
        interface = "eth0"
        vrid = 54
        virtual-mac = true
        priority = {priority}
        startup-limit = "0s"
        advertisement-interval = "200ms"
        addresses = ["fe80::54/64", "2001:db8::54/64"]

        [group.routers]
        virtual-routers = ["gateway", "mac", "signed", "six"]
        [group.routers.notify]
        master = ["id", "-un"]
        user = "daemon"
        {sections}
        "#,
        virtual_addresses = virtual_addresses(),
        sections = rights::sections(),
    )
}

#[test]
fn a_pair_does_all_it_can_with_the_rights_of_the_unit() {
    let gateway = Gateway::new("kernel");
    let [a, b] = RouterId::BOTH.map(|id| gateway.lab.router(id).expect("the router is on"));
    let ours = started(a, RouterId::A);
    ours.lockstep().wait_for_state("routers", "master");
    let theirs = started(b, RouterId::B);
    theirs.lockstep().wait_for_state("routers", "backup");
    let traffic = gateway.traffic();
    wait_until_told(ours.lockstep());
    serves(a, &ours);

    // The pipe is another user's by now, and stays behind.
    let killed = theirs.worker().expect("it has a worker");
    theirs.signal(killed, Signal::SIGKILL);
    wait::until("another worker stands by", || {
        theirs.worker().is_some_and(|worker| worker != killed)
    });
    theirs.lockstep().wait_until_it_answers();
    theirs.lockstep().wait_for_state("routers", "backup");
    wait_until_told(ours.lockstep());

    let begin = Instant::now();
    ours.lockstep().ask(&["switchover", "routers"]);
    theirs.lockstep().wait_for_state("routers", "master");
    serves(b, &theirs);
    serves_nothing(a);
    traffic.outage(begin);

    wait_until_told(theirs.lockstep());
    ours.lockstep().ask(&["maintenance", "on"]);
    ours.systemctl(&["restart", "lockstep"]);
    assert!(ours.lockstep().group("routers")["maintenance"].is_string(), "it outlives the daemon");
    assert_eq!(ours.lockstep().journal("routers")[1]["to"], "master", "so does the journal");
    theirs.lockstep().ask(&["maintenance", "on"]);
    ours.lockstep().ask(&["maintenance", "off"]);
    ours.lockstep().wait_for_state("routers", "master");
    theirs.lockstep().ask(&["maintenance", "off"]);
    theirs.lockstep().wait_for_state("routers", "backup");
    wait_until_told(ours.lockstep());

    let begin = Instant::now();
    ours.systemctl(&["stop", "lockstep"]);
    theirs.lockstep().wait_for_state("routers", "master");
    serves_nothing(a);
    traffic.outage(begin);
    for machine in [&ours, &theirs] {
        machine.systemctl(&["stop", "lockstep"]);
        nothing_was_refused(machine);
    }
}

#[track_caller]
fn started(node: &Node, id: RouterId) -> Machine {
    let machine = Machine::boot(node);
    machine.configure(&config(id));
    let password = machine.path("/etc/lockstep/password");
    fs::write(&password, "9YasrrhZ").expect("a password");
    fs::set_permissions(&password, PermissionsExt::from_mode(0o600)).expect("its mode");
    machine.start_service();
    machine
}

/// What a master has and does.
#[track_caller]
fn serves(node: &Node, machine: &Machine) {
    let shown = |command: &[&str]| {
        let mut showing = Command::new(command[0]);
        showing.args(&command[1..]);
        String::from_utf8_lossy(&node.output(showing).expect("it runs").stdout).into_owned()
    };
    let addresses = shown(&["ip", "-o", "address", "show"]);
    let macs = ["eth0v52v4", "eth0v54v6"];
    for (interface, address) in [("eth0", "10.10.0.1/24"), ("eth1", "203.0.113.1/24")]
        .into_iter()
        .chain([("eth0v52v4", "10.10.0.9/24"), ("eth0", "10.10.0.10/24")])
        .chain([(macs[1], "fe80::54/64"), (macs[1], "2001:db8::54/64")])
    {
        let is_there =
            |line: &str| line.contains(&format!(" {address} ")) && line.contains(interface);
        assert!(addresses.lines().any(is_there), "{address} on {interface} in {addresses}");
    }
    for interface in macs {
        assert!(shown(&["ip", "-d", "link", "show", interface]).contains("macvlan"));
    }
    assert!(shown(&["nft", "list", "ruleset"]).contains("10.10.0.9"), "what it does not accept");
    assert!(shown(&["ip", "route", "show", "table", "100"]).contains("10.70.1.0/24"));
    assert!(shown(&["ip", "rule"]).contains("lookup 100"));

    let status = machine.lockstep().status();
    wait::until("a check of another user is ended in time", || {
        machine.lockstep().status()["checks"].to_string().contains("timed out")
    });
    wait::until("its hook runs as another user", || {
        let hooks = machine.lockstep().status()["hooks"].to_string();
        hooks.contains("exit status 0") && hooks.contains("daemon")
    });
    assert!(status["notify-fifo"]["error"].is_null(), "{}", status["notify-fifo"]);
    let worker = machine.worker().expect("it has a worker");
    // Its own /tmp, which is not the machine's.
    let told = format!("/proc/{worker}/root/tmp/told");
    wait::until("the reader of the pipe has been told", || {
        fs::read_to_string(&told).is_ok_and(|told| told.contains("GROUP \"routers\" MASTER"))
    });
    assert!(!machine.path("/tmp/told").exists());
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("it runs");
    assert!(status.starts_with("Name:\tlockstep\n"), "whoever looks for it finds it: {status}");
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("a figure");
    assert_ne!(locked.trim(), "0 kB", "its memory is locked");
    assert!(real_time_threads(worker.as_raw() as u32) > 0, "it has a thread in real time");
}

#[track_caller]
fn serves_nothing(node: &Node) {
    let mut ip = Command::new("ip");
    ip.args(["-o", "address", "show"]);
    let shown = node.output(ip).expect("ip runs").stdout;
    let shown = String::from_utf8_lossy(&shown);
    for address in ["10.10.0.1/", "203.0.113.1/", "10.10.0.9/", "10.10.0.10/", "::54/"] {
        assert!(!shown.contains(&format!(" {address}")), "{address} in {shown}");
    }
}

/// How many threads of a process are scheduled round robin.
fn real_time_threads(process: u32) -> usize {
    const POLICY: usize = 38;
    const ROUND_ROBIN: &str = "2";
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let stats =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats
        .filter(|stat| {
            let behind_name = stat.rsplit(')').next().unwrap_or_default();
            behind_name.split_whitespace().nth(POLICY) == Some(ROUND_ROBIN)
        })
        .count()
}

/// Neither the daemon nor systemd complains of a right that is missing.
#[track_caller]
fn nothing_was_refused(machine: &Machine) {
    assert_eq!(rights::complaint(&machine.journal()), None);
    assert_eq!(machine.property("Result"), "success");
    assert_eq!(machine.property("NRestarts"), "0");
}

#[test]
fn the_service_has_no_rights_but_those_of_the_unit() {
    let lab = lockstep_tests::pair::Pair::new();
    let hook = "notify.master = [\"sh\", \"-c\", \"\
                for place in /etc /usr /home /tmp /dev /var/lib; do touch $place/written; done; \
                unshare --uts touch /var/lib/lockstep/unshared; hostname renamed; \
                mknod /var/lib/lockstep/device c 1 3; mount -t tmpfs tmpfs /mnt && touch /mnt/written; \
                touch /var/lib/lockstep/written /run/lockstep/written; \
                chmod u+s /var/lib/lockstep/written\"]";
    let machine = super::master(&lab.ours, &super::config(hook));
    wait::until("the hook has ended", || {
        let hook = &machine.lockstep().status()["hooks"][0];
        hook["state"] == "master" && hook["result"] != "running"
    });
    assert!(machine.path("/var/lib/lockstep/written").exists(), "it may write there");
    assert!(machine.path("/run/lockstep/written").exists(), "and there");
    for place in ["/etc", "/usr", "/home", "/tmp", "/dev", "/var/lib", "/mnt"] {
        assert!(!machine.path(place).join("written").exists(), "{place}");
    }
    for refused in ["unshared", "device"] {
        assert!(!machine.path("/var/lib/lockstep").join(refused).exists(), "{refused}");
    }
    let mode = fs::metadata(machine.path("/var/lib/lockstep/written")).expect("it is there").mode();
    assert_eq!(mode & 0o7777, 0o600);
    let name = machine.run(&["hostname"]).stdout;
    assert_ne!(String::from_utf8_lossy(&name).trim(), "renamed");
    let guard = machine.guard();
    let status = fs::read_to_string(format!("/proc/{guard}/status")).expect("it runs");
    let says = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().to_owned()
    };
    assert_eq!((says("NoNewPrivs:").as_str(), says("Seccomp:").as_str()), ("1", "2"));
    let bounding = u64::from_str_radix(&says("CapBnd:"), 16).expect("a mask");
    let granted = machine.property("CapabilityBoundingSet");
    assert_eq!(bounding.count_ones() as usize, granted.split_whitespace().count(), "{granted}");
    assert_eq!(says("CapEff:"), says("CapBnd:"));
}
