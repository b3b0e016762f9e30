//! What ours says and does beside a keepalived that works: reasons, steps, faults and what is left behind.

use lockstep_lab::Node;
use serde_json::Value;

use super::*;
use lockstep_tests::daemon::named;
use lockstep_tests::frames::{Capture, Content};
use lockstep_tests::router::Role;
use lockstep_tests::segment::ipv4;
use lockstep_tests::setting::{Authentication, PASSWORD};

/// Lockstep is the better router, keepalived the other.
fn ours_and_theirs() -> (Segment, Setting) {
    (Segment::new(&[Program::Lockstep, Program::Keepalived]), Setting::version_3())
}

#[test]
fn the_reason_of_a_takeover_is_in_the_journal() {
    let mut segment = Segment::new(&[Program::Keepalived, Program::Lockstep]);
    let setting = Setting::version_3();
    segment.start_master(0, &setting.priority(150));
    segment.start_backup(1, &setting);
    wait::until("our backup knows its master", || {
        ours(&mut segment, 1).virtual_router("gateway")["master-address"] == ipv4(0).to_string()
    });
    segment.stop(0);
    segment.wait_for_master(1);
    assert_eq!(counter(ours(&mut segment, 1), "priority-zero-pkts-rcvd"), 1);
    assert!(last_reason(ours(&mut segment, 1)).contains("priority 0"));

    segment.start(0, &setting.priority(150));
    segment.wait_for_only_master(0);
    segment.kill(0);
    segment.wait_for_master(1);
    let reason = last_reason(ours(&mut segment, 1));
    assert!(reason.contains("no advertisement"), "the journal gives the reason: {reason}");
}

#[test]
fn at_a_stop_the_address_is_never_on_both_routers() {
    let play = |programs: [Program; 2]| {
        let mut segment = Segment::new(&programs);
        let authentication = Authentication::Pass(PASSWORD);
        let setting = Setting { authentication, ..Setting::version_2() };
        segment.start_master(0, &setting.priority(150));
        segment.start_backup(1, &setting);
        let addresses = NeverBoth::watch(&segment);
        segment.stop(0);
        assert!(segment.has_none(0), "the address is gone when the daemon is");
        segment.wait_for_master(1);
        assert_eq!(addresses.looks_with_both(), 0, "the address was on both routers");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| play([Program::Lockstep, Program::Keepalived]));
        scope.spawn(|| play([Program::Keepalived, Program::Lockstep]));
    });
}

#[test]
fn what_a_killed_daemon_left_behind_is_gone_when_it_is_back_as_backup() {
    let (mut segment, setting) = ours_and_theirs();
    let better = Setting { preempt: false, ..setting.priority(150) };
    segment.start_master(0, &better);
    segment.start_backup(1, &setting);
    segment.kill(0);
    segment.wait_for_master(1);
    assert!(segment.has_all(0), "nobody has cleaned up");

    segment.start_backup(0, &better);
    wait::until("what was left behind is gone", || segment.has_none(0));
    wait::throughout(setting.master_down() * 2, "we do not take a working master's place", || {
        segment.has_none(0)
    });
    segment.wait_for_masters("ab");
}

#[test]
fn keepalived_finds_no_fault_with_our_advertisements() {
    let mut segment = Segment::new(&[Program::Keepalived, Program::Lockstep]);
    let setting = Setting::version_3();
    segment.start_master(1, &setting);
    segment.start(0, &setting.priority(150));
    segment.wait_for_only_master(0);
    let log = segment.router(0).keepalived().expect("it runs keepalived").log();
    assert!(!log.contains("invalid") && !log.contains("expected"), "keepalived complains: {log}");
}

#[test]
fn a_master_whose_interface_goes_down_is_in_fault_and_comes_back_as_backup() {
    let (mut segment, setting) = ours_and_theirs();
    segment.start_master(0, &Setting { preempt: false, ..setting.priority(150) });
    segment.start_backup(1, &setting);

    segment.node(0).set_link("eth0", false).expect("the interface goes down");
    segment.wait_for(0, Role::Fault);
    let reason = text(&ours(&mut segment, 0).group("gateway")["reason"]);
    assert!(reason.contains("eth0"), "the reason names the interface: {reason}");
    segment.wait_for_master(1);
    assert!(segment.has_none(0), "a router in fault has no address");

    segment.node(0).set_link("eth0", true).expect("the interface comes back");
    segment.wait_for(0, Role::Backup);
    wait::throughout(setting.master_down() * 2, "it stays backup without preempt", || {
        segment.has_none(0)
    });
    segment.wait_for_masters("ab");
}

#[test]
fn a_master_whose_cable_is_pulled_is_in_fault_and_never_a_second_master() {
    let (mut segment, setting) = ours_and_theirs();
    segment.start_master(0, &setting.priority(150));
    segment.start_backup(1, &setting);

    segment.node(0).unplug("eth0").expect("the cable can be pulled");
    segment.wait_for(0, Role::Fault);
    segment.wait_for_master(1);
    assert!(segment.has_none(0));

    segment.node(0).plug("eth0").expect("the cable can be put back");
    segment.wait_for_only_master(0);
    segment.wait_for_masters("aba");
}

#[test]
fn a_failing_check_hands_over_to_keepalived_and_ends_with_its_cause() {
    let (mut segment, setting) = ours_and_theirs();
    let healthy = tempfile::NamedTempFile::new().expect("a file");
    let mut better = setting.priority(150).ours("checks = [\"healthy\"]");
    better.our_sections = format!(
        "[check.healthy]\ncommand = [\"test\", \"-e\", \"{}\"]\ninterval = \"200ms\"\n",
        healthy.path().display()
    );
    segment.start_master(0, &better);
    segment.start_backup(1, &setting);

    let path = healthy.into_temp_path();
    std::fs::remove_file(&path).expect("the file goes");
    segment.wait_for(0, Role::Fault);
    segment.wait_for_master(1);
    let reason = text(&ours(&mut segment, 0).group("gateway")["reason"]);
    assert!(reason.contains("healthy"), "the reason names the check: {reason}");
    assert_eq!(named(&ours(&mut segment, 0).status()["checks"], "healthy")["state"], "bad");
    let story = format!("{:?}", segment.story());
    assert!(story.contains("a resigns, b claims"), "{story}");

    std::fs::write(&path, "").expect("the file comes back");
    segment.wait_for_only_master(0);
    segment.wait_for_masters("aba");
}

#[test]
fn the_address_is_announced_after_it_is_in_and_before_the_hooks() {
    let (mut segment, setting) = ours_and_theirs();
    let capture = Capture::start(segment.node(0));
    segment.start(0, &setting);
    wait::until("a gratuitous ARP leaves the router", || !capture.announcements().is_empty());
    assert!(segment.has_all(0), "announced before it was there");
    segment.wait_for_master(0);

    let frames = segment.capture.frames().clone();
    let first = |wanted: fn(&Content) -> bool| {
        frames.iter().position(|frame| wanted(&frame.content)).expect("it was seen")
    };
    let claim = first(|content| matches!(content, Content::Advertisement(_)));
    let announcement = first(|content| matches!(content, Content::Announcement(_)));
    assert!(claim < announcement, "the claim comes first: {frames:?}");

    let entry = last_transition(ours(&mut segment, 0));
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

#[track_caller]
fn ours(segment: &mut Segment, index: usize) -> &Lockstep {
    segment.router(index).lockstep().expect("it runs Lockstep")
}

fn last_transition(lockstep: &Lockstep) -> Value {
    lockstep.journal("gateway").last().expect("there was a transition").clone()
}

fn last_reason(lockstep: &Lockstep) -> String {
    text(&last_transition(lockstep)["reason"])
}

/// Looks all the time whether both routers have the address.
struct NeverBoth {
    end: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<u32>,
}

impl NeverBoth {
    fn watch(segment: &Segment) -> Self {
        let (end, ended) = std::sync::mpsc::channel();
        let eyes = [Eye::of(segment.node(0)), Eye::of(segment.node(1))];
        let thread = std::thread::spawn(move || {
            let mut both = 0;
            while matches!(ended.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)) {
                // The looks are not one instant; an address that is on the first before and after it is seen on the other is
                // on both.
                let [first, second] = &eyes;
                if first.sees() && second.sees() && first.sees() {
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
        let bind = || std::net::UdpSocket::bind("10.51.0.1:0").is_ok();
        self.0.run(bind).expect("the namespace can be entered")
    }
}
