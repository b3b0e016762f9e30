//! What is tracked reaches the core, in the words that groups are told.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use lockstep_failover::{Group, Track, VirtualRouter};
use tokio::sync::mpsc::error::TryRecvError;

use super::*;

fn config(group: Vec<Subject>, member: Vec<Subject>) -> Config {
    let unfit = |subjects: Vec<Subject>| subjects.into_iter().map(Track::unfit).collect();
    let member = VirtualRouter { track: unfit(member), ..VirtualRouter::new("lan", "eth0") };
    let group = Group {
        name: "gateway".to_owned(),
        virtual_routers: vec![member],
        track: unfit(group),
        ..Group::default()
    };
    Config { groups: vec![group], checks: Vec::new() }
}

/// The next news; fails after 20 s.
fn next(events: &mut mpsc::Receiver<CoreEvent>) -> (Subject, Seen, String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match events.try_recv() {
            Ok(CoreEvent::Tracked { subject, seen, detail }) => return (subject, seen, detail),
            Ok(other) => panic!("not tracked: {other:?}"),
            Err(TryRecvError::Empty) if Instant::now() < deadline => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_tracked_file_is_told_at_once_and_when_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("drain");
    let subject = Subject::File(path.clone());
    let (core, mut events) = mpsc::channel(8);
    let mut tracking = Tracking::new(core);
    tracking.configure(&config(vec![subject.clone()], vec![subject.clone()])).unwrap();
    let expected = (subject.clone(), Seen::Number(0), "does not exist".to_owned());
    assert_eq!(next(&mut events), expected);
    let staged = directory.path().join("staged");
    fs::write(&staged, "5\n").unwrap();
    fs::rename(&staged, &path).unwrap();
    assert_eq!(next(&mut events), (subject.clone(), Seen::Number(5), "holds 5".to_owned()));
    let other = Subject::File(staged);
    tracking.configure(&config(vec![other.clone()], vec![subject.clone()])).unwrap();
    let expected = (other.clone(), Seen::Number(0), "does not exist".to_owned());
    assert_eq!(next(&mut events), expected, "the other one has been told");
    tracking.configure(&config(vec![other], Vec::new())).unwrap();
    tracking.configure(&config(Vec::new(), vec![subject.clone()])).unwrap();
    let said = next(&mut events);
    assert_eq!(said.0, subject, "told anew, although it was gone for a moment only: {said:?}");
}

#[test]
fn a_tracked_process_is_told_when_it_ends() {
    let program = format!("/nowhere/tracked-by-{}", std::process::id());
    let mut child = Command::new("sh")
        .arg0(&program)
        .args(["-c", "echo; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Before that the kernel may not know its command line yet.
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    let process = Process { program, quorum: 1, delay: Duration::ZERO };
    let subject = Subject::Process(process);
    let (core, mut events) = mpsc::channel(8);
    Tracking::new(core).configure(&config(Vec::new(), vec![subject.clone()])).unwrap();
    let first = next(&mut events);
    child.kill().unwrap();
    assert_eq!(first, (subject.clone(), Seen::Good, "1 running, 1 needed".to_owned()));
    // Not waited for: a process that has ended does not run, whether its parent has noticed or not.
    assert_eq!(next(&mut events), (subject, Seen::Bad, "0 running, 1 needed".to_owned()));
    child.wait().unwrap();
}

#[test]
fn an_interface_is_good_while_it_is_up_with_carrier() {
    let said = |link| look("eth2", link);
    assert_eq!(said(Some((true, true))), (Seen::Good, "eth2 is up".to_owned()));
    assert_eq!(said(Some((true, false))), (Seen::Bad, "eth2 has no carrier".to_owned()));
    assert_eq!(said(Some((false, false))), (Seen::Bad, "eth2 is down".to_owned()));
    assert_eq!(said(None), (Seen::Bad, "eth2 does not exist".to_owned()));
}

#[test]
fn tracked_interfaces_of_groups_and_members_are_watched() {
    let subject = |name: &str| Subject::Interface(name.to_owned());
    let config = config(vec![subject("eth2")], vec![subject("eth3")]);
    assert_eq!(interfaces(&config).collect::<Vec<_>>(), ["eth2", "eth3"]);
}
