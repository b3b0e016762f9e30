//! Guard and worker killed together: `lockstep release` takes away what is left.

use std::process::{Command, Output};

use lockstep_tests::daemon::{Lockstep, binary};
use lockstep_tests::pair::Pair;
use nix::sys::signal::Signal;

use crate::{config, master};

fn release(pair: &Pair, lockstep: &Lockstep, options: &[&str]) -> Output {
    let path = |name| lockstep.directory().join(name);
    let mut command = Command::new(binary());
    command.arg("release").args(options).arg("--config").arg(path("lockstep.toml"));
    command.arg("--socket").arg(path("socket")).env("STATE_DIRECTORY", path("state"));
    pair.ours.output(command).expect("the binary runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn release_takes_away_what_is_left_once_and_says_what() {
    let pair = Pair::new();
    let mut ours = master(&pair.ours, &config(150, ""));
    ours.kill_all();
    assert!(Pair::has_virtual_address(&pair.ours), "nobody has taken it away");

    let first = release(&pair, &ours, &[]);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(said(&first), "remove address 10.51.0.1/24 dev eth0\n");
    assert!(!Pair::has_virtual_address(&pair.ours));

    let second = release(&pair, &ours, &[]);
    assert!(second.status.success(), "{second:?}");
    assert_eq!(said(&second), "nothing was left\n");
}

#[test]
fn release_refuses_while_a_daemon_is_at_work_or_about_to_be() {
    let pair = Pair::new();
    let mut ours = master(&pair.ours, &config(150, ""));
    for between_two_workers in [false, true] {
        if between_two_workers {
            ours.process().signal(Signal::SIGSTOP).expect("it can be signalled");
            ours.signal_worker(Signal::SIGKILL);
        }
        let refused = release(&pair, &ours, &["--all"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains("another lockstep"));
        assert!(Pair::has_virtual_address(&pair.ours));
    }
    ours.process().signal(Signal::SIGCONT).expect("it can be signalled");
}

#[test]
fn without_a_readable_configuration_every_address_of_lockstep_goes_after_a_kill_and_none_after_a_stop()
 {
    let pair = Pair::new();
    let always = "[[address]]\naddress = \"10.51.0.77/24\"\ninterface = \"eth0\"\n";
    let has_always = || {
        let addresses = pair.ours.addresses("eth0").expect("its addresses");
        addresses.iter().any(|address| address.to_string() == "10.51.0.77/24")
    };
    let foreign = "10.51.0.9/24".parse().expect("an address");
    pair.ours.add_address("eth0", foreign).expect("an address");
    let mut stopped = master(&pair.ours, &config(150, always));
    assert!(stopped.stop().success());
    assert!(has_always(), "what is wanted always stays");
    stopped.configure("nonsense");
    let nothing = release(&pair, &stopped, &[]);
    assert_eq!(said(&nothing), "nothing was left\n", "{nothing:?}");
    assert!(has_always(), "nobody knows what it is for");

    let mut killed = master(&pair.ours, &config(150, always));
    killed.kill_all();
    killed.configure("nonsense");
    let all = release(&pair, &killed, &[]);
    assert!(all.status.success(), "{all:?}");
    assert!(said(&all).contains("cannot be read"), "{all:?}");
    assert!(!Pair::has_virtual_address(&pair.ours) && !has_always());
    assert!(pair.ours.addresses("eth0").expect("its addresses").contains(&foreign));
}

#[test]
fn all_is_everything_of_lockstep() {
    let pair = Pair::new();
    let always = "[[route]]\nto = \"10.70.3.0/24\"\nvia = \"10.51.0.254\"\ntable = 100\nprotocol = \"static\"\n";
    let mut ours = master(&pair.ours, &config(150, always));
    let routes = || {
        let mut ip = Command::new("ip");
        ip.args(["route", "show", "table", "100"]);
        String::from_utf8_lossy(&pair.ours.output(ip).expect("ip runs").stdout).into_owned()
    };
    lockstep_tests::wait::until("the route is there", || routes().contains("10.70.3.0/24"));
    ours.kill_all();

    assert!(release(&pair, &ours, &[]).status.success());
    assert!(routes().contains("10.70.3.0/24"), "it is wanted always");
    let all = release(&pair, &ours, &["--all"]);
    assert!(all.status.success(), "{all:?}");
    assert!(!routes().contains("10.70.3.0/24"), "{all:?}");
}
