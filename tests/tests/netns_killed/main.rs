//! Killed is not forgotten: whatever becomes of the daemon, no address of a group stays on a router that is not its master.
//!
//! A worker that is back in time goes on as master; one that is not has taken its addresses away; where no worker comes
//! back, its guard has, and where there is no guard either, `lockstep release` has.

mod capabilities;
mod given_up;
mod random;
mod reloaded;
mod resumed;
mod together;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lockstep_lab::Node;
use lockstep_tests::daemon::Lockstep;
use lockstep_tests::frames::Content;
use lockstep_tests::pair::Pair;
use nix::sys::signal::Signal;
use tempfile::TempDir;

/// A configuration with one virtual router and whatever else.
fn config(priority: u8, more: &str) -> String {
    format!(
        r#"
[vrrp.inside]
interface = "eth0"
vrid = 51
priority = {priority}
advertisement-interval = "1s"
addresses = ["10.51.0.1/24"]
[group.gateway]
virtual-routers = ["inside"]
{more}"#
    )
}

/// A guarded daemon that is master.
#[track_caller]
fn master(node: &Node, config: &str) -> Lockstep {
    let lockstep = Lockstep::start_guarded(node, config);
    lockstep.wait_for_state("gateway", "master");
    lockstep
}

/// Sends the worker a signal, and waits until another one has taken its place and answers.
#[track_caller]
fn replace_worker(lockstep: &Lockstep, signal: Signal) {
    let before = lockstep.signal_worker(signal);
    lockstep.wait_for_another_worker(before);
}

/// Why the group entered its present state.
#[track_caller]
fn reason(lockstep: &Lockstep) -> String {
    lockstep.group("gateway")["reason"].as_str().expect("a reason").to_owned()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

/// When advertisements of priority above 0 passed, by the kernel's clock.
fn claims(pair: &Pair) -> Vec<Duration> {
    let frames = pair.capture.frames();
    let claims = frames.iter().filter(
        |frame| matches!(&frame.content, Content::Advertisement(seen) if seen.priority > 0),
    );
    claims.map(|frame| frame.at).collect()
}

/// A hook that writes down what it is called with.
struct Recorder(TempDir);

impl Recorder {
    fn new() -> Self {
        let recorder = Self(TempDir::new().expect("a directory"));
        let lines = recorder.path("lines");
        let script = format!("#!/bin/sh\necho \"$1\" >>{}\n", lines.display());
        fs::write(recorder.path("hook"), script).expect("a hook");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(recorder.path("hook"), mode).expect("its mode");
        recorder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The group's hooks.
    fn notify(&self) -> String {
        let hook = self.path("hook").display().to_string();
        let notify: String = ["master", "backup", "fault", "stop"]
            .map(|state| format!("{state} = [\"{hook}\", \"{state}\"]\n"))
            .concat();
        format!("[group.gateway.notify]\n{notify}")
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("lines")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
