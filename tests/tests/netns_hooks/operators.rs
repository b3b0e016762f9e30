//! Scripts as operators have them, with their ways.

use std::fs;
use std::path::PathBuf;

use lockstep_tests::daemon::{Lockstep, text};
use lockstep_tests::pair::Pair;
use lockstep_tests::wait;
use tempfile::TempDir;

use crate::{Recorder, config, write_script};

#[test]
fn cloudstack_s_scripts_run_unchanged_while_the_group_flaps() {
    let pair = Pair::new();
    let router = CloudRouter::new();
    let settings = config(&router.notify()).replace("[group.gateway]", &router.check());
    let mut lockstep = Lockstep::start(&pair.ours, &settings);
    lockstep.wait_for_state("gateway", "master");
    for _ in 0..4 {
        pair.ours.set_link("eth0", false).expect("the interface goes down");
        lockstep.wait_for_state("gateway", "fault");
        pair.ours.set_link("eth0", true).expect("the interface comes back");
        lockstep.wait_for_state("gateway", "backup");
    }
    lockstep.wait_for_state("gateway", "master");
    wait::until("the databag says master", || router.databag() == "MASTER");
    wait::until("the heartbeat goes on", || router.heartbeats() > 5);
    let status = lockstep.status();
    let hooks = status["hooks"].as_array().expect("a list");
    assert!(hooks.iter().all(|hook| hook["result"] == "exit status 0"), "{hooks:?}");
    assert!(lockstep.stop().success());
    assert_eq!(router.trouble(), "", "nothing found the lock taken, or public links in between");
}

#[test]
fn the_heartbeat_is_stamped_in_every_state_and_while_a_hook_hangs() {
    let pair = Pair::new();
    let router = CloudRouter::new();
    let recorder = Recorder::new("exec sleep 600");
    let settings = config(&recorder.notify()).replace("[group.gateway]", &router.check());
    let lockstep = Lockstep::start(&pair.ours, &settings);
    let goes_on = |state: &str| {
        lockstep.wait_for_state("gateway", state);
        let before = router.heartbeats();
        wait::until(&format!("the heartbeat goes on in {state}"), || {
            router.heartbeats() >= before + 3
        });
        assert_eq!(lockstep.state("gateway"), state);
    };
    goes_on("master");
    pair.ours.set_link("eth0", false).expect("the interface goes down");
    goes_on("fault");
    let running = recorder.lines();
    assert_eq!(running, ["begin --backup"], "one hook hangs all the time");
}

/// The scripts of a virtual router in a cloud, with their ways: a databag that is rewritten, a lock
/// that is waited for and then ignored, services that take their time.
struct CloudRouter {
    directory: TempDir,
}

impl CloudRouter {
    fn new() -> Self {
        let router = Self { directory: TempDir::new().expect("a directory") };
        let directory = router.directory.path().display().to_string();
        let text = format!(
            "#!/bin/sh\ncd {directory}\necho BACKUP >databag\n\
             tries=0\nuntil mkdir lock 2>/dev/null; do\n\
             tries=$((tries + 1)); [ $tries -lt 10 ] || {{ echo \"$1: lock\" >>trouble; break; }}\n\
             sleep 1\ndone\n\
             echo \"$1\" >services\nsleep 0.7\n\
             [ \"$(cat services)\" = \"$1\" ] || echo \"$1: services\" >>trouble\n\
             case $1 in --master) echo MASTER ;; --backup) echo BACKUP ;; *) echo FAULT ;; esac >databag\n\
             rmdir lock\n"
        );
        write_script(&router.file("master.py"), &text);
        let text = format!("#!/bin/sh\ndate +%s >>{directory}/heartbeats\n");
        write_script(&router.file("heartbeat.sh"), &text);
        router
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// As its operators write it: three hooks.
    fn notify(&self) -> String {
        let script = self.file("master.py");
        ["backup", "master", "fault"]
            .map(|state| format!("{state} = [\"{}\", \"--{state}\"]", script.display()))
            .join("\n")
    }

    /// The beginning of the group, with the check in front.
    fn check(&self) -> String {
        format!(
            "[check.heartbeat]\ncommand = [\"{}\"]\ninterval = \"300ms\"\n\
             [group.gateway]\nchecks = [\"heartbeat\"]",
            self.file("heartbeat.sh").display()
        )
    }

    fn databag(&self) -> String {
        fs::read_to_string(self.file("databag")).unwrap_or_default().trim().to_owned()
    }

    fn heartbeats(&self) -> usize {
        fs::read_to_string(self.file("heartbeats")).unwrap_or_default().lines().count()
    }

    /// What the scripts found that should not be.
    fn trouble(&self) -> String {
        fs::read_to_string(self.file("trouble")).unwrap_or_default()
    }
}

#[test]
fn a_reader_that_polls_the_pipe_runs_its_scripts_in_order_and_is_ended_with_the_daemon() {
    let pair = Pair::new();
    let directory = TempDir::new().expect("a directory");
    let file = |name: &str| directory.path().join(name);
    // It polls four times a second, takes 500 bytes at a time, and only ends when it is told to.
    let script = format!(
        "#!/usr/bin/python3\nimport os, re, sys, time\n\
         pipe = os.open(sys.argv[-1], os.O_RDONLY | os.O_NONBLOCK)\n\
         log = open('{}', 'a', buffering=1)\nlog.write(f'{{os.getpid()}} {{sys.argv[1]}}\\n')\n\
         line = re.compile(r'(INSTANCE|GROUP) \"([-\\w]+)\" (\\w+) (\\d+)')\n\
         while True:\n    \
             try: text = os.read(pipe, 500).decode()\n    \
             except BlockingIOError: text = ''\n    \
             for found in line.findall(text):\n        \
                 log.write(' '.join(found) + '\\n')\n    \
             time.sleep(0.25)\n",
        file("told").display()
    );
    write_script(&file("reader"), &script);
    let settings = config("").replace(
        "[router]",
        &format!(
            "[router]\nnotify-fifo = \"{}\"\nnotify-fifo-command = [\"{}\", \"-v\"]",
            file("pipe").display(),
            file("reader").display()
        ),
    );
    let told = || fs::read_to_string(file("told")).unwrap_or_default();
    let mut lockstep = Lockstep::start(&pair.ours, &settings);
    lockstep.wait_for_state("gateway", "master");
    wait::until("the reader has been told", || told().contains("GROUP gateway MASTER 0"));
    let fifo = wait::some("it has read everything", || {
        let fifo = lockstep.status()["notify-fifo"].clone();
        (fifo["unread-bytes"] == 0).then_some(fifo)
    });
    assert_eq!((text(&fifo["reader"]).as_str(), &fifo["lost"]), ("running", &0.into()));

    assert!(lockstep.stop().success());
    let told = told();
    let lines: Vec<&str> = told.lines().collect();
    let expected = [
        "GROUP gateway BACKUP 0",
        "INSTANCE inside_network BACKUP 100",
        "INSTANCE inside_network MASTER 100",
        "GROUP gateway MASTER 0",
        "INSTANCE inside_network STOP 100",
        "GROUP gateway STOP 0",
    ];
    assert_eq!(lines[1..], expected);
    let (pid, argument) = lines[0].split_once(' ').expect("its number and its argument");
    assert_eq!(argument, "-v");
    assert!(!PathBuf::from("/proc").join(pid).exists(), "it has ended");
    assert!(!file("pipe").exists(), "so has the pipe");
}
