//! The name `conntrackd`, as the scripts of conntrack-tools, `CloudStack` and `VyOS` call it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use lockstep_tests::conntrackd::{Conntrackd, kernel_flows};
use lockstep_tests::daemon::{Lockstep, binary};
use lockstep_tests::wait;
use tempfile::TempDir;

use crate::two::{FLOWS, Two, alone, replication, status, stderr, stdout};

/// The program under its other name, and configurations to name with `-C`.
struct Called {
    directory: TempDir,
}

impl Called {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        symlink(binary(), directory.path().join("conntrackd")).expect("a link");
        Self { directory }
    }

    /// A conntrackd.conf that names the daemon's socket.
    fn configuration(&self, daemon: &Lockstep) -> PathBuf {
        let path = self.directory.path().join("conntrackd.conf");
        let socket = daemon.directory().join("socket");
        let text = format!(
            "Sync {{\n  Mode FTFW {{\n  }}\n}}\nGeneral {{\n  LockFile /nowhere\n  UNIX {{\n    Path {}\n  }}\n}}\n",
            socket.display()
        );
        fs::write(&path, text).expect("a file");
        path
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.directory.path().join("conntrackd"));
        command.env_remove("LOCKSTEP_SOCKET");
        command
    }

    fn call(&self, daemon: &Lockstep, words: &[&str]) -> Output {
        let mut command = self.command();
        command.arg("-C").arg(self.configuration(daemon)).args(words);
        command.output().expect("the binary runs")
    }

    #[track_caller]
    fn succeed(&self, daemon: &Lockstep, words: &[&str]) -> String {
        let output = self.call(daemon, words);
        assert_eq!(status(&output), 0, "{words:?}: {output:?}");
        stdout(&output)
    }
}

/// The order of conntrack-tools' script, on a backup that becomes primary and a primary that becomes
/// backup.
#[test]
fn the_primary_backup_script_s_calls_do_what_they_did() {
    let two = Two::new();
    let called = Called::new();
    two.wait_for_sync();

    // backup: is it there? then purge later, and ask for everything.
    let shown = called.succeed(&two.backup, &["-s"]);
    let external = format!("cache external:\ncurrent active connections:\t{FLOWS:12}\n");
    assert!(shown.contains(&external), "{shown}");
    let copies = || replication(&two.backup)["statistics"]["resyncs-completed"].as_u64();
    let before = copies();
    assert_eq!(called.succeed(&two.backup, &["-n"]), "");
    wait::until("everything has come again", || copies() > before);
    assert_eq!(replication(&two.backup)["external"], FLOWS);

    // primary: commit, flush, resync, bulk.
    assert_eq!(called.succeed(&two.backup, &["-c"]), "");
    assert_eq!(kernel_flows(&two.backup_node, "tcp").len() as u64, FLOWS);
    for word in ["-f", "-R"] {
        assert_eq!(called.succeed(&two.backup, &[word]), "");
    }
    wait::until("the committed flows are its own", || {
        replication(&two.backup)["internal"] == FLOWS
    });
    // Only whoever serves has something to tell, and the script is run for one that does.
    let refused = called.call(&two.backup, &["-B"]);
    assert_eq!(status(&refused), 1, "{refused:?}");
    assert!(stderr(&refused).contains("stands by"), "{refused:?}");
    assert_eq!(called.succeed(&two.master, &["-B"]), "");
    wait::until("everything has been told anew", || replication(&two.backup)["external"] == FLOWS);

    // A former primary, or a fault. Whoever still serves keeps the flows it serves with.
    assert_eq!(called.succeed(&two.backup, &["-t"]), "");
    assert_eq!(kernel_flows(&two.backup_node, "tcp").len() as u64, FLOWS, "not before its time");
    let refused = called.call(&two.master, &["-t"]);
    assert_eq!(status(&refused), 1, "{refused:?}");
    assert!(stderr(&refused).contains("this router serves"), "{refused:?}");
}

#[test]
fn vyos_resets_either_cache_and_reads_it() {
    let two = Two::new();
    let called = Called::new();
    for word in [&["-f", "external"][..], &["-n"]] {
        called.succeed(&two.backup, word);
    }
    two.wait_for_external(FLOWS);
    for word in [&["-f", "internal"][..], &["-R"], &["-B"]] {
        called.succeed(&two.master, word);
    }
    wait::until("the internal cache is back", || replication(&two.master)["internal"] == FLOWS);

    for (daemon, option) in [(&two.master, "-i"), (&two.backup, "-e")] {
        for words in [&[option][..], &[option, "ct"]] {
            let text = called.succeed(daemon, words);
            assert_eq!(text.lines().count() as u64, FLOWS, "{text}");
            assert!(text.lines().all(|line| line.starts_with("tcp      6 ESTABLISHED src=")));
        }
        let xml = called.succeed(daemon, &[option, "ct", "-x"]);
        assert_eq!(xml.lines().count() as u64, FLOWS, "{xml}");
        let parts = ["<flow><meta direction=\"original\">", "<src>10.10.0.77</src>", "</flow>"];
        assert!(xml.lines().all(|line| parts.iter().all(|part| line.contains(part))), "{xml}");
        assert_eq!(called.succeed(daemon, &[option, "expect"]), "");
    }
    for what in ["network", "cache", "runtime", "link", "rsqueue", "queue", "ct", "exp"] {
        assert!(!called.succeed(&two.master, &["-s", what]).is_empty(), "{what}");
    }
    assert_eq!(called.succeed(&two.master, &["-s", "process"]), "");
}

#[test]
fn a_failure_is_told_by_the_exit_status() {
    let (mut daemon, _node, _lan) = alone();
    let called = Called::new();
    for word in ["-n", "-B"] {
        let output = called.call(&daemon, &[word]);
        assert_eq!(status(&output), 1, "{word}: {output:?}");
        assert!(stderr(&output).starts_with("conntrackd: "), "{output:?}");
    }
    let output = called.call(&daemon, &["-k"]);
    assert_eq!(status(&output), 1, "{output:?}");
    assert!(stderr(&output).contains("service manager"), "{output:?}");
    let output = called.call(&daemon, &["-d"]);
    assert_eq!((status(&output), stdout(&output)), (0, "lockstep runs already\n".to_owned()));
    for words in [&["-q"][..], &["-c", "-f"], &["-s", "bogus"], &[]] {
        let output = called.call(&daemon, words);
        assert_eq!(status(&output), 2, "{words:?}: {output:?}");
        assert!(stderr(&output).contains("Usage: conntrackd"), "{output:?}");
    }

    assert!(daemon.stop().success());
    for word in ["-d", "-s", "-c", "-i"] {
        let output = called.call(&daemon, &[word]);
        assert_eq!(status(&output), 1, "{word}: {output:?}");
        assert!(stderr(&output).contains("no lockstep daemon listens at"), "{output:?}");
    }
}

#[test]
fn a_configuration_of_either_program_may_be_named_and_must_exist() {
    let (daemon, _node, _lan) = alone();
    let called = Called::new();
    let toml = daemon.directory().join("lockstep.toml");
    let ask = |file: &PathBuf| {
        let mut command = called.command();
        command.arg("-C").arg(file).arg("-s");
        command.env("LOCKSTEP_SOCKET", daemon.directory().join("socket"));
        command.output().expect("the binary runs")
    };
    let output = ask(&toml);
    assert_eq!(status(&output), 0, "{output:?}");
    assert!(stdout(&output).starts_with("cache internal:\n"));

    let output = ask(&PathBuf::from("/nonexistent/conntrackd.conf"));
    assert_eq!(status(&output), 1, "{output:?}");
    assert!(stderr(&output).contains("/nonexistent/conntrackd.conf"), "{output:?}");

    for word in ["-h", "-v"] {
        let output = called.command().arg(word).output().expect("the binary runs");
        assert_eq!(status(&output), 0, "no file is needed for {word}: {output:?}");
    }
}

#[test]
fn a_conntrackd_that_runs_is_left_alone() {
    let (daemon, _node, _lan) = alone();
    let (_, node, _other_lan) = alone();
    let called = Called::new();
    let theirs = Conntrackd::start(&node, false);
    let mut command = called.command();
    command.arg("-C").arg(theirs.configuration()).arg("-s");
    command.env("LOCKSTEP_SOCKET", daemon.directory().join("socket"));
    let output = command.output().expect("the binary runs");
    assert_eq!(status(&output), 0, "lockstep is asked at its own socket: {output:?}");
    let runtime = theirs.command(&["-s", "runtime"]);
    assert!(runtime.contains("daemon uptime"), "it still answers: {runtime}");
    theirs.stop();
}
