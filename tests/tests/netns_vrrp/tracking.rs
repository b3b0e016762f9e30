//! What is tracked: preferences change the priority, needs make unfit.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;
use lockstep_lab::{Node, Process};
use tempfile::TempDir;

/// Ours is better by 10, and 20 less when what it tracks is bad.
struct Preferred {
    segment: Segment,
}

impl Preferred {
    fn start(track: &str, sections: &str) -> Self {
        Self::beside(beside_keepalived(), track, sections)
    }

    fn beside(mut segment: Segment, track: &str, sections: &str) -> Self {
        let mut setting = Setting::version_3().priority(110).ours(track);
        sections.clone_into(&mut setting.our_sections);
        segment.start_master(OURS, &setting);
        segment.start_backup(OTHER, &Setting::version_3());
        Self { segment }
    }

    fn gives_way(&mut self) {
        self.segment.wait_for_only_master(OTHER);
        let router = ours(&mut self.segment).virtual_router("gateway");
        assert_eq!(number(&router["priority"]), 110);
        assert_eq!(number(&router["effective-priority"]), 90);
    }

    fn comes_back(&mut self) {
        self.segment.wait_for_only_master(OURS);
        let router = ours(&mut self.segment).virtual_router("gateway");
        assert_eq!(number(&router["effective-priority"]), 110);
        self.segment.wait_for_masters("aba");
    }
}

/// A second interface, whose carrier is that of its other end.
fn add_uplink(node: &Node) {
    let words = "link add uplink type veth peer name other";
    ip(node, words);
    ip(node, "link set uplink up");
    ip(node, "link set other up");
}

fn ip(node: &Node, words: &str) {
    let mut command = Command::new("ip");
    command.args(words.split(' '));
    let output = node.output(command).expect("ip runs");
    assert!(output.status.success(), "ip {words}: {output:?}");
}

#[test]
fn an_interface_with_a_weight_changes_the_priority() {
    let segment = beside_keepalived();
    add_uplink(segment.node(OURS));
    let track = "track = [{ interface = \"uplink\", weight = -20 }]";
    let mut preferred = Preferred::beside(segment, track, "");
    ip(preferred.segment.node(OURS), "link set other down");
    preferred.gives_way();
    ip(preferred.segment.node(OURS), "link set other up");
    preferred.comes_back();
}

#[test]
fn a_check_with_a_weight_changes_the_priority() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("healthy");
    fs::write(&path, "").expect("a file");
    let track = "track = [{ check = \"healthy\", weight = -20 }]";
    let mut preferred = Preferred::start(track, &check(&path));
    fs::remove_file(&path).expect("the file goes");
    preferred.gives_way();
    fs::write(&path, "").expect("the file comes back");
    preferred.comes_back();
}

#[test]
fn a_file_with_a_weight_changes_the_priority() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("drain");
    let track = format!("track = [{{ file = \"{}\", weight = -1 }}]", path.display());
    let mut preferred = Preferred::start(&track, "");
    fs::write(&path, "20\n").expect("a file");
    preferred.gives_way();
    fs::remove_file(&path).expect("the file goes");
    preferred.comes_back();
}

#[test]
fn a_process_with_a_weight_changes_the_priority() {
    let directory = TempDir::new().expect("a directory");
    let name = format!("tracked{}", std::process::id());
    let program = directory.path().join(&name);
    fs::copy("/usr/bin/sleep", &program).expect("a program to track");
    let segment = beside_keepalived();
    let start = |segment: &Segment| -> Process {
        let mut command = Command::new(&program);
        command.arg("1000");
        segment.node(OURS).start(command).expect("it can be started")
    };
    let mut process = start(&segment);
    let track = format!("track = [{{ process = \"{name}\", weight = -20 }}]");
    let mut preferred = Preferred::beside(segment, &track, "");
    process.kill().expect("it can be killed");
    preferred.gives_way();
    let _process = start(&preferred.segment);
    preferred.comes_back();
}

#[test]
fn a_preference_gives_nothing_up_when_nobody_is_better() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("healthy");
    fs::write(&path, "").expect("a file");
    let mut setting = Setting::version_3().ours("track = [{ check = \"healthy\", weight = -20 }]");
    setting.our_sections = check(&path);
    let mut segment = alone();
    segment.start_master(OURS, &setting);
    fs::remove_file(&path).expect("the file goes");
    wait::until("the priority in force falls", || {
        number(&ours(&mut segment).virtual_router("gateway")["effective-priority"]) == 80
    });
    wait::until("it advertises it", || {
        segment.advertisements(OURS).last().is_some_and(|seen| seen.priority == 80)
    });
    assert_eq!(segment.role(OURS), Role::Master);
    assert!(segment.has_all(OURS));
}

#[test]
fn an_interface_that_is_needed_makes_unfit_even_when_nobody_is_better() {
    let mut segment = alone();
    add_uplink(segment.node(OURS));
    let setting = Setting::version_3().ours("track = [{ interface = \"uplink\" }]");
    segment.start_master(OURS, &setting);
    ip(segment.node(OURS), "link set other down");
    segment.wait_for(OURS, Role::Fault);
    wait::until("it gives the address up", || segment.has_none(OURS));
    wait_for_reason(&mut segment, &["uplink"]);
    ip(segment.node(OURS), "link set other up");
    segment.wait_for_master(OURS);
}

fn check(path: &Path) -> String {
    format!(
        "[check.healthy]\ncommand = [\"test\", \"-e\", \"{}\"]\ninterval = \"200ms\"\n",
        path.display()
    )
}
