//! A worker that is back before its neighbours can have missed it goes on as master.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use lockstep_tests::daemon::{Lockstep, binary, number, text};
use lockstep_tests::pair::Pair;
use lockstep_tests::{frames::Content, wait};
use nix::sys::signal::Signal;

use crate::{Recorder, claims, config, master, reason, replace_worker};

#[test]
fn a_killed_master_goes_on_without_announcing_anything_or_running_a_hook() {
    let pair = Pair::new();
    let recorder = Recorder::new();
    // A check that takes long must not hold it up.
    let check = "[check.slow]\ncommand = [\"true\"]\ninterval = \"1s\"\n";
    let group = config(150, &recorder.notify());
    let group = group.replace("virtual-routers", "checks = [\"slow\"]\nvirtual-routers");
    let ours = master(&pair.ours, &format!("{check}{group}"));
    wait::until("its hooks have run", || recorder.lines() == ["backup", "master"]);
    wait::until("its announcements are made", || pair.capture.announcements().len() > 1);
    let before = pair.capture.announcements().len();
    let index = index_of(&pair);

    for signal in [Signal::SIGKILL, Signal::SIGABRT] {
        replace_worker(&ours, signal);
        ours.wait_for_state("gateway", "master");
        assert!(reason(&ours).starts_with("resumed after the daemon was killed, "), "{signal}");
        assert!(Pair::has_virtual_address(&pair.ours));
    }

    let entries = ours.journal("gateway");
    let changes: Vec<_> =
        entries.iter().map(|one| (text(&one["from"]), text(&one["to"]))).collect();
    let change = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    assert_eq!(
        changes,
        [
            change("init", "backup"),
            change("backup", "master"),
            change("init", "master"),
            change("init", "master"),
        ],
        "it has been nothing but master since"
    );
    wait::throughout(Duration::from_secs(2), "it is silent but for its advertisements", || {
        pair.capture.announcements().len() == before && recorder.lines().len() == 2
    });
    assert_eq!(index_of(&pair), index);
    let frames = pair.capture.frames();
    let resigned = frames
        .iter()
        .any(|frame| matches!(&frame.content, Content::Advertisement(seen) if seen.priority == 0));
    assert!(!resigned);
}

#[test]
fn its_neighbour_does_not_notice() {
    for authentication in ["", "version = 2\nauthentication = { type = \"ah\", password = \"x\" }"]
    {
        let pair = Pair::new();
        let text = |priority| {
            config(priority, "").replace("vrid = 51", &format!("vrid = 51\n{authentication}"))
        };
        let ours = master(&pair.ours, &text(150));
        let theirs = Lockstep::start(&pair.theirs, &text(100));
        theirs.wait_for_state("gateway", "backup");
        wait::until("it has been heard often", || claims(&pair).len() > 5);

        replace_worker(&ours, Signal::SIGKILL);
        let heard = claims(&pair).len();
        wait::until("it is heard again", || claims(&pair).len() > heard + 4);

        assert!(reason(&ours).starts_with("resumed"), "{authentication}: {}", reason(&ours));
        assert_eq!(theirs.journal("gateway").len(), 1, "{authentication}: only ever backup");
        let router = theirs.virtual_router("inside");
        assert_eq!(router["rejected"].as_array().map(Vec::len), Some(0), "{router:#}");
    }
}

#[test]
fn what_was_taken_from_it_meanwhile_is_put_back() {
    let pair = Pair::new();
    let ours = master(&pair.ours, &config(150, ""));
    let worker = ours.signal_worker(Signal::SIGSTOP);
    let address = "10.51.0.1/24".parse().expect("an address");
    pair.ours.remove_address("eth0", address).expect("it is there");
    nix::sys::signal::kill(worker, Signal::SIGKILL).expect("it can be killed");

    wait::until("the address is back", || Pair::has_virtual_address(&pair.ours));
    ours.wait_for_state("gateway", "master");
    assert!(reason(&ours).starts_with("resumed"));
}

#[test]
fn one_whose_interface_is_gone_meanwhile_is_in_fault() {
    let pair = Pair::new();
    let ours = master(&pair.ours, &config(150, ""));
    let worker = ours.signal_worker(Signal::SIGSTOP);
    pair.ours.unplug("eth0").expect("a cable");
    nix::sys::signal::kill(worker, Signal::SIGKILL).expect("it can be killed");

    ours.wait_for_another_worker(worker);
    ours.wait_for_state("gateway", "fault");
    assert!(!Pair::has_virtual_address(&pair.ours));
}

#[test]
fn with_a_virtual_mac_address_its_interface_stays() {
    let pair = Pair::new();
    let text = config(150, "").replace("vrid = 51", "vrid = 51\nvirtual-mac = \"vip\"");
    let ours = master(&pair.ours, &text);
    let link = |text: &str| text.split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    let show = || {
        let mut ip = std::process::Command::new("ip");
        ip.args(["-o", "link", "show", "dev", "vip"]);
        let output = pair.ours.output(ip).expect("ip runs");
        link(&String::from_utf8_lossy(&output.stdout))
    };
    let before = show();
    assert_eq!(before.len(), 2, "{before:?}");

    replace_worker(&ours, Signal::SIGKILL);
    ours.wait_for_state("gateway", "master");

    assert!(reason(&ours).starts_with("resumed"), "{}", reason(&ours));
    assert_eq!(show(), before, "the same interface, with the same number");
}

#[test]
fn a_worker_that_stands_still_is_replaced_and_its_neighbour_takes_over() {
    let pair = Pair::new();
    let ours = master(&pair.ours, &config(150, ""));
    let theirs = Lockstep::start(&pair.theirs, &config(100, ""));
    theirs.wait_for_state("gateway", "backup");

    let before = ours.signal_worker(Signal::SIGSTOP);
    ours.wait_for_another_worker(before);

    assert!(ours.log().contains("stuck"), "its guard says why");
    // With the address gone it is a backup, and is master again after the other.
    let entries = ours.journal("gateway");
    assert_eq!(entries[2]["to"], "backup", "{entries:#?}");
    wait::until("the neighbour has been master", || {
        theirs.journal("gateway").iter().any(|entry| entry["to"] == "master")
    });
}

#[test]
fn the_group_that_left_mastership_just_before_is_not_resumed() {
    let pair = Pair::new();
    let directory = tempfile::TempDir::new().expect("a directory");
    let drain = directory.path().join("drain");
    let tracked = format!("track = [{{ file = \"{}\" }}]\n", drain.display());
    let text = config(150, "").replace("virtual-routers", &format!("{tracked}virtual-routers"));
    let ours = master(&pair.ours, &text);
    std::fs::write(&drain, "1").expect("a file");
    ours.wait_for_state("gateway", "fault");

    let before = ours.journal("gateway").len();

    replace_worker(&ours, Signal::SIGKILL);
    std::fs::write(&drain, "0").expect("a file");

    wait::until("it takes part again", || ours.journal("gateway").len() > before);
    let entries = ours.journal("gateway");
    assert!(
        entries
            .iter()
            .all(|entry| { !entry["reason"].as_str().unwrap_or_default().contains("resumed") }),
        "{entries:#?}"
    );
}

fn index_of(pair: &Pair) -> u64 {
    let mut ip = std::process::Command::new("ip");
    ip.args(["-j", "link", "show", "dev", "eth0"]);
    let output = pair.ours.output(ip).expect("ip runs");
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    number(&links[0]["ifindex"])
}

#[test]
fn whoever_follows_the_journal_sees_how_a_killed_daemon_goes_on() {
    let pair = Pair::new();
    let ours = master(&pair.ours, &config(150, ""));
    let path = ours.directory().join("followed");
    let followed = || std::fs::read_to_string(&path).expect("what was followed");
    let mut journal = Command::new(binary());
    journal.args(["journal", "--follow", "--socket"]).arg(ours.directory().join("socket"));
    journal.stdin(Stdio::null()).stdout(File::create(&path).expect("a file"));
    let mut journal = journal.spawn().expect("it is started");
    wait::until("the transitions so far are shown", || followed().contains("backup -> master"));
    replace_worker(&ours, Signal::SIGKILL);
    wait::until("it is shown how it goes on", || followed().contains("resumed after"));
    let has_ended = journal.try_wait().expect("it can be asked").is_some();
    journal.kill().expect("it can be ended");
    journal.wait().expect("it ends");
    assert!(!has_ended, "{}", followed());
}
