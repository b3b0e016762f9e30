//! Where no worker comes back, its guard takes away what follows a master.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use lockstep_lab::{Interface, Lan};
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::pair::Pair;
use lockstep_tests::wait;
use nix::sys::signal::{Signal, kill};

use crate::{config, master};

/// What a master has besides its address: a link, routes of both numbers and a rule; and a route that is wanted always.
const MORE: &str = r#"
[interface.eth1]
up-when = "master"
[[route]]
to = "10.70.1.0/24"
via = "10.51.0.254"
table = 100
when = "master"
[[route]]
to = "10.70.2.0/24"
via = "10.51.0.254"
table = 100
protocol = "static"
when = "master"
[[route]]
to = "10.70.3.0/24"
via = "10.51.0.254"
table = 100
[[rule]]
fwmark = 2
table = 100
priority = 32000
when = "master"
"#;

/// The pair whose first router has a second interface.
fn wide() -> (Pair, Lan) {
    let (pair, lan) = (Pair::new(), Lan::new().expect("a LAN"));
    pair.ours.attach(&lan, &Interface::new("eth1")).expect("an interface");
    pair.ours.set_link("eth1", false).expect("an interface");
    (pair, lan)
}

fn ip(pair: &Pair, arguments: &str) -> String {
    let mut ip = std::process::Command::new("ip");
    ip.args(arguments.split(' '));
    let output = pair.ours.output(ip).expect("ip runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The destinations in table 100, whether there is a rule for it, and whether the second link is up.
fn picture(pair: &Pair) -> (Vec<String>, bool, bool) {
    let routes = ip(pair, "route show table 100");
    let mut routes: Vec<String> = routes
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    routes.sort();
    let rule = ip(pair, "rule show").contains("fwmark 0x2");
    (routes, rule, ip(pair, "-o link show dev eth1").contains(",UP"))
}

#[test]
fn a_configuration_that_has_become_bad_leaves_no_address_link_route_or_rule_of_a_master() {
    let (pair, _lan) = wide();
    let mut ours = master(&pair.ours, &config(150, MORE));
    let all = ["10.70.1.0/24", "10.70.2.0/24", "10.70.3.0/24"].map(str::to_owned).to_vec();
    wait::until_or("everything is there", || picture(&pair) == (all.clone(), true, true));
    assert_eq!(picture(&pair), (all, true, true));
    ours.configure("[vrrp.inside]\nvrid = 0\n");

    ours.signal_worker(Signal::SIGKILL);
    let status = ours.ended();

    assert_eq!(status.code(), Some(78), "{}", ours.log());
    assert!(!Pair::has_virtual_address(&pair.ours));
    let always = vec!["10.70.3.0/24".to_owned()];
    assert_eq!(picture(&pair), (always, false, false), "{}", ours.log());
    assert!(ours.log().contains("remove address 10.51.0.1/24"), "it says so: {}", ours.log());
}

#[test]
fn a_first_start_that_fails_says_one_thing_and_is_not_tried_again() {
    let pair = Pair::new();
    let foreign = "10.51.0.9/24".parse().expect("an address");
    pair.ours.add_address("eth0", foreign).expect("an address");
    let mut ours = Lockstep::launch_guarded(&pair.ours, &[], "[vrrp.inside]\nvrid = 0\n");
    assert_eq!(ours.ended().code(), Some(78));
    assert_eq!(ours.log().matches("vrid = 0").count(), 1, "{}", ours.log());
    let addresses = pair.ours.addresses("eth0").expect("its addresses");
    assert!(addresses.contains(&foreign));
}

#[test]
fn one_that_dies_again_and_again_gives_its_address_away_and_is_given_up() {
    let pair = Pair::new();
    let mut ours = master(&pair.ours, &config(150, ""));
    let mut killed = Vec::new();
    let mut gone_after = None;
    while ours.process().ended().expect("it can be asked").is_none() {
        if let Some(worker) = ours.worker().filter(|worker| !killed.contains(worker)) {
            if !Pair::has_virtual_address(&pair.ours) {
                gone_after.get_or_insert(killed.len());
            }
            killed.push(worker);
            // It may be gone by itself.
            let _ = kill(worker, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(2));
        assert!(killed.len() < 20, "it is not given up");
    }
    assert!(!ours.ended().success());
    assert!(!Pair::has_virtual_address(&pair.ours));
    assert!(gone_after.is_some_and(|after| after <= 4), "gone after {gone_after:?} deaths");
    assert!(ours.log().contains("is given up"), "{}", ours.log());
}

#[test]
fn what_an_operator_stops_is_not_started_again() {
    let pair = Pair::new();
    let mut ours = master(&pair.ours, &config(150, ""));
    let worker = ours.worker().expect("a worker");
    assert!(ours.stop().success());
    assert!(!Pair::has_virtual_address(&pair.ours));
    assert!(kill(worker, None).is_err(), "nobody is left");

    let mut ours = master(&pair.ours, &config(150, ""));
    ours.signal_worker(Signal::SIGTERM);
    assert!(ours.ended().success(), "also who is asked directly");
    assert!(!Pair::has_virtual_address(&pair.ours));
}

#[test]
fn a_guard_that_is_killed_takes_its_worker_along_which_hands_over() {
    let pair = Pair::new();
    let mut ours = master(&pair.ours, &config(150, ""));
    let worker = ours.worker().expect("a worker");
    ours.kill();
    wait::until("the address is gone", || !Pair::has_virtual_address(&pair.ours));
    wait::until("the worker is gone", || kill(worker, None).is_err());
    let said = pair.capture.advertisements();
    assert_eq!(said.last().map(|last| last.priority), Some(0), "it has said so");
}

#[test]
fn a_panic_in_any_thread_ends_the_worker_and_the_next_goes_on() {
    let pair = Pair::new();
    let directory = tempfile::TempDir::new().expect("a directory");
    let trigger = directory.path().join("panic");
    let variable = format!("LOCKSTEP_PANIC_ONCE_THERE_IS={}", trigger.display());
    let ours = Lockstep::launch_guarded(&pair.ours, &["env", &variable], &config(150, ""));
    ours.wait_until_it_answers();
    ours.wait_for_state("gateway", "master");
    let before = ours.worker().expect("a worker");

    std::fs::write(&trigger, "").expect("a file");
    ours.wait_for_another_worker(before);

    ours.wait_for_state("gateway", "master");
    assert!(crate::reason(&ours).starts_with("resumed"), "{}", crate::reason(&ours));
    assert!(ours.log().contains("SIGABRT"), "{}", ours.log());
    assert!(ours.log().contains("panicked"), "{}", ours.log());
}

#[test]
fn the_service_manager_hears_from_the_guard_as_long_as_the_worker_lives() {
    let pair = Pair::new();
    let directory = tempfile::TempDir::new().expect("a directory");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout");
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    let prefix = ["env", &notify, "WATCHDOG_USEC=1000000"];
    let ours = Lockstep::launch_guarded(&pair.ours, &prefix, &config(150, ""));
    let hear_until = |wanted: &str, count: usize| {
        let mut heard = Vec::new();
        let mut words = [0; 4096];
        while heard.iter().filter(|said: &&String| said.starts_with(wanted)).count() < count {
            let length = manager.recv(&mut words).unwrap_or_else(|_| panic!("only {heard:?}"));
            heard.push(String::from_utf8_lossy(&words[..length]).trim_end().to_owned());
        }
        heard
    };
    let heard = hear_until("READY=1", 1);
    assert!(heard.iter().all(|said| said == "WATCHDOG=1" || said == "READY=1"), "{heard:?}");
    hear_until("WATCHDOG=1", 3);

    ours.signal_worker(Signal::SIGSTOP);
    hear_until("STATUS=started again 1 times, the last after signal: 9", 1);
    hear_until("READY=1", 1);
    hear_until("WATCHDOG=1", 2);
}
