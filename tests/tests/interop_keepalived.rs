//! Lockstep and a real keepalived on one LAN, each as master and as backup, with a password.

use std::net::Ipv4Addr;
use std::time::Duration;

use lockstep_lab::Node;
use lockstep_tests::daemon::{Lockstep, named, number, text};
use lockstep_tests::frames::Frame;
use lockstep_tests::keepalived::{Instance, Keepalived};
use lockstep_tests::pair::{OURS, PASSWORD, Pair, THEIRS, VIRTUAL};
use lockstep_tests::wait;
use serde_json::Value;

/// Longer than a master-down interval of either side (3 s and a skew below 1 s).
const LONGER_THAN_A_TAKEOVER: Duration = Duration::from_secs(5);

#[test]
fn backup_takes_over_from_a_keepalived_that_dies() {
    let pair = Pair::new();
    let keepalived = Keepalived::start(&pair.theirs, &instance(150));
    keepalived.wait_for_state("MASTER");
    let lockstep = Lockstep::start(&pair.ours, &config(100, true, PASSWORD));
    lockstep.wait_for_state("gateway", "backup");
    wait::until("our backup knows its master", || {
        lockstep.virtual_router("gateway")["master-address"] == THEIRS.to_string()
    });
    assert!(!Pair::has_virtual_address(&pair.ours), "a backup must not have the address");

    keepalived.kill();
    lockstep.wait_for_state("gateway", "master");

    assert!(Pair::has_virtual_address(&pair.ours));
    assert_eq!(pair.capture.masters(), [THEIRS, OURS], "one master after the other");
    assert!(
        pair.capture.advertisements().iter().all(|seen| seen.priority > 0),
        "nobody said goodbye"
    );
    let reason = last_reason(&lockstep);
    assert!(reason.contains("no advertisement"), "the journal gives the reason: {reason}");
}

#[test]
fn backup_takes_over_from_a_keepalived_that_says_goodbye() {
    let pair = Pair::new();
    let keepalived = Keepalived::start(&pair.theirs, &instance(150));
    keepalived.wait_for_state("MASTER");
    let lockstep = Lockstep::start(&pair.ours, &config(100, true, PASSWORD));
    lockstep.wait_for_state("gateway", "backup");
    let addresses = NeverBoth::watch(&pair);

    keepalived.stop();
    lockstep.wait_for_state("gateway", "master");

    assert_eq!(addresses.looks_with_both(), 0, "the address was on both routers");
    assert_eq!(pair.capture.masters(), [THEIRS, OURS]);
    assert!(goodbye_then_claim(&pair, THEIRS, OURS), "{:?}", pair.capture.advertisements());
    assert_eq!(counter(&lockstep, "priority-zero-pkts-rcvd"), 1);
    let reason = last_reason(&lockstep);
    assert!(reason.contains("priority 0"), "the journal gives the reason: {reason}");
}

#[test]
fn keepalived_takes_over_from_our_master_that_dies_and_keeps_it_when_it_is_back() {
    let pair = Pair::new();
    let mut lockstep = Lockstep::start(&pair.ours, &config(150, false, PASSWORD));
    lockstep.wait_for_state("gateway", "master");
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));
    assert!(Pair::has_virtual_address(&pair.ours));

    lockstep.kill();
    keepalived.wait_for_state("MASTER");
    wait::until("keepalived has the address", || Pair::has_virtual_address(&pair.theirs));

    let lockstep = Lockstep::start(&pair.ours, &config(150, false, PASSWORD));
    lockstep.wait_for_state("gateway", "backup");
    wait::until("what the killed daemon left behind is gone", || {
        !Pair::has_virtual_address(&pair.ours)
    });
    wait::throughout(LONGER_THAN_A_TAKEOVER, "we do not take a working master's place", || {
        lockstep.state("gateway") == "backup" && !Pair::has_virtual_address(&pair.ours)
    });
    assert_eq!(pair.capture.masters(), [OURS, THEIRS]);
}

#[test]
fn keepalived_takes_over_at_once_from_our_master_that_stops() {
    let pair = Pair::new();
    let mut lockstep = Lockstep::start(&pair.ours, &config(150, true, PASSWORD));
    lockstep.wait_for_state("gateway", "master");
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));
    let addresses = NeverBoth::watch(&pair);

    let status = lockstep.stop();
    assert!(status.success(), "a clean stop ends with 0: {status}");
    assert!(!Pair::has_virtual_address(&pair.ours), "the address is gone when the daemon is");
    keepalived.wait_for_state("MASTER");

    wait::until("keepalived has the address", || Pair::has_virtual_address(&pair.theirs));
    assert_eq!(addresses.looks_with_both(), 0, "the address was on both routers");
    assert!(goodbye_then_claim(&pair, OURS, THEIRS), "{:?}", pair.capture.advertisements());
    assert!(keepalived.log().contains("Backup received priority 0 advertisement"));
}

#[test]
fn our_advertisements_are_what_keepalived_expects() {
    let pair = Pair::new();
    let lockstep = Lockstep::start(&pair.ours, &config(150, true, PASSWORD));
    lockstep.wait_for_state("gateway", "master");
    let keepalived = Keepalived::start(&pair.theirs, &instance(200));
    keepalived.wait_for_state("MASTER");
    lockstep.wait_for_state("gateway", "backup");

    let ours: Vec<_> =
        pair.capture.advertisements().into_iter().filter(|seen| seen.source == OURS).collect();
    assert!(!ours.is_empty());
    for seen in ours {
        assert_eq!((seen.version, seen.vrid, seen.ttl, seen.priority), (2, 51, 255, 150));
        assert_eq!(seen.authentication, 1);
        assert_eq!(seen.password, PASSWORD.as_bytes());
        assert_eq!(seen.addresses, [Ipv4Addr::new(10, 51, 0, 1)]);
    }
    assert!(!keepalived.log().contains("invalid"), "keepalived complains: {}", keepalived.log());
    assert_eq!(pair.capture.masters(), [OURS, THEIRS], "the better one preempts, once");
    assert!(!Pair::has_virtual_address(&pair.ours), "who is preempted gives the address up");
}

#[test]
fn a_wrong_password_is_counted_and_named() {
    let pair = Pair::new();
    let keepalived = Keepalived::start(&pair.theirs, &instance(150));
    keepalived.wait_for_state("MASTER");
    let lockstep = Lockstep::start(&pair.ours, &config(100, true, "another1"));

    wait::until("the refused advertisements are counted", || {
        counter(&lockstep, "authentication-failures") >= 3
    });

    let rejected = lockstep.virtual_router("gateway")["rejected"].clone();
    let rejected: Vec<String> = rejected.as_array().expect("a list").iter().map(text).collect();
    assert!(
        rejected.iter().any(|why| why.contains(&THEIRS.to_string()) && why.contains("password")),
        "{rejected:?}"
    );
    let shown = String::from_utf8(lockstep.command(&["status"]).stdout).expect("text");
    assert!(shown.contains("password"), "the text form names it too: {shown}");
    for secret in [PASSWORD, "another1"] {
        assert!(!shown.contains(secret) && !lockstep.log().contains(secret), "a secret is shown");
    }
}

#[test]
fn without_preempt_a_better_router_leaves_a_working_keepalived_alone() {
    let pair = Pair::new();
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));
    keepalived.wait_for_state("MASTER");
    let lockstep = Lockstep::start(&pair.ours, &config(200, false, PASSWORD));
    lockstep.wait_for_state("gateway", "backup");

    wait::throughout(LONGER_THAN_A_TAKEOVER, "backup, whatever its priority", || {
        lockstep.state("gateway") == "backup"
    });
    assert_eq!(pair.capture.masters(), [THEIRS]);

    keepalived.kill();
    lockstep.wait_for_state("gateway", "master");
    assert_eq!(pair.capture.masters(), [THEIRS, OURS], "a dead master is replaced all the same");
}

#[test]
fn with_preempt_a_better_router_takes_over_from_keepalived() {
    let pair = Pair::new();
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));
    keepalived.wait_for_state("MASTER");
    let lockstep = Lockstep::start(&pair.ours, &config(200, true, PASSWORD));

    lockstep.wait_for_state("gateway", "master");
    keepalived.wait_for_state("BACKUP");

    wait::until("keepalived gives the address up", || !Pair::has_virtual_address(&pair.theirs));
    assert_eq!(pair.capture.masters(), [THEIRS, OURS]);
}

#[test]
fn a_master_whose_interface_goes_down_is_in_fault_and_comes_back_as_backup() {
    let pair = Pair::new();
    let lockstep = Lockstep::start(&pair.ours, &config(150, false, PASSWORD));
    lockstep.wait_for_state("gateway", "master");
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));

    pair.ours.set_link("eth0", false).expect("the interface goes down");
    lockstep.wait_for_state("gateway", "fault");
    let reason = text(&lockstep.group("gateway")["reason"]);
    assert!(reason.contains("eth0"), "the reason names the interface: {reason}");
    keepalived.wait_for_state("MASTER");
    assert!(!Pair::has_virtual_address(&pair.ours), "a router in fault has no address");

    pair.ours.set_link("eth0", true).expect("the interface comes back");
    lockstep.wait_for_state("gateway", "backup");
    wait::throughout(LONGER_THAN_A_TAKEOVER, "it stays backup without preempt", || {
        lockstep.state("gateway") == "backup" && !Pair::has_virtual_address(&pair.ours)
    });
    assert_eq!(pair.capture.masters(), [OURS, THEIRS]);
}

#[test]
fn a_master_whose_cable_is_pulled_is_in_fault_and_never_a_second_master() {
    let pair = Pair::new();
    let lockstep = Lockstep::start(&pair.ours, &config(150, true, PASSWORD));
    lockstep.wait_for_state("gateway", "master");
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));

    pair.ours.unplug("eth0").expect("the cable can be pulled");
    lockstep.wait_for_state("gateway", "fault");
    keepalived.wait_for_state("MASTER");
    assert!(!Pair::has_virtual_address(&pair.ours));

    pair.ours.plug("eth0").expect("the cable can be put back");
    lockstep.wait_for_state("gateway", "master");
    keepalived.wait_for_state("BACKUP");
    assert_eq!(pair.capture.masters(), [OURS, THEIRS, OURS], "it preempts when it hears again");
}

#[test]
fn a_failing_check_hands_over_to_keepalived_and_ends_with_its_cause() {
    let pair = Pair::new();
    let healthy = tempfile::NamedTempFile::new().expect("a file");
    let check = format!(
        "[check.healthy]\ncommand = [\"test\", \"-e\", \"{}\"]\ninterval = \"200ms\"\n",
        healthy.path().display()
    );
    let config =
        config(150, true, PASSWORD).replace("vrid = 51", "vrid = 51\nchecks = [\"healthy\"]");
    let lockstep = Lockstep::start(&pair.ours, &(config + &check));
    lockstep.wait_for_state("gateway", "master");
    let keepalived = Keepalived::start(&pair.theirs, &instance(100));

    let path = healthy.into_temp_path();
    std::fs::remove_file(&path).expect("the file goes");
    lockstep.wait_for_state("gateway", "fault");
    keepalived.wait_for_state("MASTER");
    let reason = text(&lockstep.group("gateway")["reason"]);
    assert!(reason.contains("healthy"), "the reason names the check: {reason}");
    assert_eq!(named(&lockstep.status()["checks"], "healthy")["state"], "bad");
    assert!(goodbye_then_claim(&pair, OURS, THEIRS), "{:?}", pair.capture.advertisements());

    std::fs::write(&path, "").expect("the file comes back");
    lockstep.wait_for_state("gateway", "master");
    keepalived.wait_for_state("BACKUP");
    assert_eq!(pair.capture.masters(), [OURS, THEIRS, OURS]);
}

#[test]
fn the_address_is_announced_after_it_is_in_and_before_the_hooks() {
    let pair = Pair::new();
    let capture = lockstep_tests::frames::Capture::start(&pair.ours);
    let lockstep = Lockstep::start(&pair.ours, &config(150, true, PASSWORD));

    wait::until("a gratuitous ARP leaves the router", || !announced(&capture.frames()).is_empty());
    assert!(Pair::has_virtual_address(&pair.ours), "announced before it was there");
    lockstep.wait_for_state("gateway", "master");

    let first_announcement = |frames: &[Frame]| {
        frames.iter().position(|frame| matches!(frame, Frame::GratuitousArp { .. }))
    };
    let first_claim =
        |frames: &[Frame]| frames.iter().position(|frame| matches!(frame, Frame::Advertisement(_)));
    let frames = pair.capture.frames().clone();
    assert!(
        first_claim(&frames) < first_announcement(&frames),
        "the claim comes first: {frames:?}"
    );
    assert!(
        announced(&frames).iter().all(|address| *address == Ipv4Addr::new(10, 51, 0, 1)),
        "nothing else is announced: {frames:?}"
    );
    let entry = last_transition(&lockstep);
    let steps: Vec<(String, u64)> = entry["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| (text(&step["step"]), number(&step["started-us"])))
        .collect();
    let started = |name: &str| {
        let step = steps.iter().find(|(step, _)| step == name);
        step.unwrap_or_else(|| panic!("no step {name} in {steps:?}")).1
    };
    assert!(started("claim") <= started("addresses"));
    assert!(started("addresses") <= started("announce"));
    assert!(started("announce") <= started("hooks"));
}

fn config(priority: u8, preempt: bool, password: &str) -> String {
    format!(
        r#"
        [router]
        id = "ours"

        [vrrp.gateway]
        interface = "eth0"
        vrid = 51
        version = 2
        priority = {priority}
        preempt = {preempt}
        advertisement-interval = "1s"
        authentication = {{ type = "pass", password = "{password}" }}
        addresses = ["{VIRTUAL}"]
        "#
    )
}

fn instance(priority: u8) -> Instance {
    Instance {
        priority,
        password: Some(PASSWORD.to_owned()),
        nopreempt: false,
        addresses: vec![format!("{VIRTUAL} dev eth0")],
        global: Vec::new(),
    }
}

fn last_transition(lockstep: &Lockstep) -> Value {
    lockstep.journal("gateway").last().expect("there was a transition").clone()
}

fn last_reason(lockstep: &Lockstep) -> String {
    text(&last_transition(lockstep)["reason"])
}

fn counter(lockstep: &Lockstep, name: &str) -> u64 {
    number(&lockstep.virtual_router("gateway")["statistics"][name])
}

fn announced(frames: &[Frame]) -> Vec<Ipv4Addr> {
    let address = |frame: &Frame| match frame {
        Frame::GratuitousArp { address, .. } => Some(*address),
        Frame::Advertisement(_) => None,
    };
    frames.iter().filter_map(address).collect()
}

/// Whether `old` sent priority 0 and the next advertisement was the claim of `new`: with a goodbye the backup waits for its
/// skew time only.
fn goodbye_then_claim(pair: &Pair, old: Ipv4Addr, new: Ipv4Addr) -> bool {
    let seen = pair.capture.advertisements();
    let goodbye = seen.iter().position(|seen| seen.source == old && seen.priority == 0);
    let next = goodbye.and_then(|at| seen[at..].iter().find(|seen| seen.priority > 0));
    next.is_some_and(|claim| claim.source == new)
}

/// Looks all the time whether both routers have the address.
struct NeverBoth {
    end: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<u32>,
}

impl NeverBoth {
    fn watch(pair: &Pair) -> Self {
        let (end, ended) = std::sync::mpsc::channel();
        let nodes = [Eye::of(&pair.ours), Eye::of(&pair.theirs)];
        let thread = std::thread::spawn(move || {
            let mut both = 0;
            while matches!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                // The looks are not one instant; an address that is on the first before and after it is seen on the other is
                // on both.
                let [ours, theirs] = &nodes;
                if ours.sees() && theirs.sees() && ours.sees() {
                    both += 1;
                }
            }
            both
        });
        Self { end, thread }
    }

    fn looks_with_both(self) -> u32 {
        drop(self.end);
        self.thread.join().expect("the look-out does not fail")
    }
}

/// Sees whether the virtual address is in a namespace.
struct Eye(std::sync::Arc<lockstep_kernel::namespace::Namespace>);

impl Eye {
    fn of(node: &Node) -> Self {
        Self(std::sync::Arc::clone(node.namespace()))
    }

    /// A socket can be bound to an address only where the address is.
    fn sees(&self) -> bool {
        let bind = || std::net::UdpSocket::bind((Ipv4Addr::new(10, 51, 0, 1), 0)).is_ok();
        self.0.run(bind).expect("the namespace can be entered")
    }
}
