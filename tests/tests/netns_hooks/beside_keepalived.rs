//! The same transitions beside the real keepalived: the same arguments, the same lines in the pipe.

use std::fs;
use std::path::PathBuf;
use std::thread;

use lockstep_tests::daemon::Lockstep;
use lockstep_tests::keepalived::Keepalived;
use lockstep_tests::pair::Pair;
use lockstep_tests::wait;
use tempfile::TempDir;

use crate::write_script;

#[test]
fn the_general_hooks_and_the_pipe_say_what_keepalived_s_say() {
    let (theirs, ours) = (Story::of_keepalived(), Story::of_lockstep());
    for words in ["BACKUP", "MASTER", "FAULT", "STOP"] {
        assert!(theirs.lines.iter().any(|line| line.contains(words)), "{theirs:?}");
    }
    assert_eq!(ours.lines, theirs.lines, "the pipe");
    for place in PLACES {
        assert_eq!(ours.calls(place), theirs.calls(place), "{place}");
    }
}

/// Where hooks stand, in both programs' words: of the virtual router and of the group, for a state
/// and in general.
const PLACES: [&str; 4] = ["router-state", "router-general", "group-state", "group-general"];

/// What the hooks and the pipe of one program were told: a start, a link that goes and comes back,
/// a stop.
#[derive(Debug)]
struct Story {
    /// The lines of the pipe.
    lines: Vec<String>,
    /// Each call: the place, then the arguments.
    calls: Vec<String>,
}

impl Story {
    fn of_keepalived() -> Self {
        let (pair, scripts) = (Pair::new(), Scripts::new());
        let hooks = |owner: &str| {
            let path = |place: &str| scripts.path(place).display().to_string();
            let of_state = path(&format!("{owner}-state"));
            let general = path(&format!("{owner}-general"));
            ["master", "backup", "fault", "stop"]
                .map(|state| format!("  notify_{state} \"{of_state} --{state}\"\n"))
                .concat()
                + &format!("  notify \"{general} own\"\n")
        };
        let fifo = scripts.path("pipe");
        let configuration = format!(
            "global_defs {{\n  script_user root\n  notify_fifo {}\n}}\n\
             vrrp_sync_group gateway {{\n  group {{\n    inside\n  }}\n{}}}\n\
             vrrp_instance inside {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  \
             priority 150\n  advert_int 1\n  virtual_ipaddress {{\n    10.51.0.1/24\n  }}\n{}}}\n",
            fifo.display(),
            hooks("group"),
            hooks("router"),
        );
        let keepalived = Keepalived::configured(&pair.ours, &configuration);
        let pipe = scripts.read_pipe();
        keepalived.wait_for_state("MASTER");
        scripts.wait_for("MASTER", 1);
        pair.ours.set_link("eth0", false).expect("the interface goes down");
        keepalived.wait_for_state("FAULT");
        scripts.wait_for("FAULT", 1);
        pair.ours.set_link("eth0", true).expect("the interface comes back");
        keepalived.wait_for_state("MASTER");
        scripts.wait_for("MASTER", 2);
        keepalived.stop();
        scripts.wait_for("STOP", 1);
        scripts.told(pipe)
    }

    fn of_lockstep() -> Self {
        let (pair, scripts) = (Pair::new(), Scripts::new());
        let hooks = |owner: &str| {
            let path = |place: &str| scripts.path(place).display().to_string();
            let of_state = path(&format!("{owner}-state"));
            let general = path(&format!("{owner}-general"));
            ["master", "backup", "fault", "stop"]
                .map(|state| format!("{state} = [\"{of_state}\", \"--{state}\"]\n"))
                .concat()
                + &format!("notify = [\"{general}\", \"own\"]\n")
        };
        let configuration = format!(
            "[router]\nid = \"ours\"\nnotify-fifo = \"{}\"\n\
             [vrrp.inside]\ninterface = \"eth0\"\nvrid = 51\nversion = 2\npriority = 150\n\
             addresses = [\"10.51.0.1/24\"]\n[vrrp.inside.notify]\n{}\
             [group.gateway]\nvirtual-routers = [\"inside\"]\n[group.gateway.notify]\n{}",
            scripts.path("pipe").display(),
            hooks("router"),
            hooks("group"),
        );
        let mut lockstep = Lockstep::start(&pair.ours, &configuration);
        let pipe = scripts.read_pipe();
        lockstep.wait_for_state("gateway", "master");
        scripts.wait_for("MASTER", 1);
        pair.ours.set_link("eth0", false).expect("the interface goes down");
        lockstep.wait_for_state("gateway", "fault");
        scripts.wait_for("FAULT", 1);
        pair.ours.set_link("eth0", true).expect("the interface comes back");
        lockstep.wait_for_state("gateway", "backup");
        scripts.wait_for("BACKUP", 2);
        lockstep.wait_for_state("gateway", "master");
        scripts.wait_for("MASTER", 2);
        assert!(lockstep.stop().success());
        scripts.wait_for("STOP", 1);
        scripts.told(pipe)
    }

    /// The arguments of each call at a place, in order.
    fn calls(&self, place: &str) -> Vec<&str> {
        let at_place = |call: &'_ String| call.split_once(' ').is_some_and(|(at, _)| at == place);
        let calls = self.calls.iter().filter(|call| at_place(call));
        calls.filter_map(|call| call.split_once(' ')).map(|(_, arguments)| arguments).collect()
    }
}

/// Scripts that write their calls down, and the pipe beside them.
struct Scripts {
    directory: TempDir,
}

impl Scripts {
    fn new() -> Self {
        let scripts = Self { directory: TempDir::new().expect("a directory") };
        let log = scripts.path("calls").display().to_string();
        for place in PLACES {
            let text = format!("#!/bin/sh\necho {place} \"$*\" >>{log}\n");
            write_script(&scripts.path(place), &text);
        }
        scripts
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until this state was told so often by every place: by its general hook, and so often by
    /// the hook for the state.
    fn wait_for(&self, word: &str, times: usize) {
        let option = format!("--{}", word.to_lowercase());
        wait::until(&format!("{word} is told {times} times"), || {
            let calls = self.calls();
            let count = |place: &str, word: &str| {
                let told = |call: &&String| call.starts_with(place) && call.contains(word);
                calls.iter().filter(told).count()
            };
            PLACES.into_iter().all(|place| {
                count(place, if place.ends_with("state") { &option } else { word }) >= times
            })
        });
    }

    /// Reads the pipe, which is there by now, until its writer is gone.
    fn read_pipe(&self) -> thread::JoinHandle<String> {
        let path = self.path("pipe");
        wait::until("the pipe is there", || path.exists());
        thread::spawn(move || fs::read_to_string(path).expect("the pipe can be read"))
    }

    fn told(&self, pipe: thread::JoinHandle<String>) -> Story {
        let text = pipe.join().expect("the reader has read");
        Story { lines: text.lines().map(str::to_owned).collect(), calls: self.calls() }
    }
}
