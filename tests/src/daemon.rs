//! A running `lockstep run` in a namespace, asked through its own command line.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};

use lockstep_lab::{Lab, Node, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::wait;

/// The daemon of one router. Dropped, it is killed; when the test panics, its log is printed.
#[derive(Debug)]
pub struct Lockstep {
    control: Control,
    process: Process,
    directory: TempDir,
}

/// The way to a running daemon: its command line, with its socket.
#[derive(Debug)]
pub struct Control {
    name: String,
    socket: PathBuf,
}

impl Lockstep {
    /// Starts the daemon on `node` with this configuration, and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn start(node: &Node, config: &str) -> Self {
        let daemon = Self::launch(node, config);
        daemon.wait_until_it_answers();
        daemon
    }

    /// [`Lockstep::start`] with the log that a router writes: for whoever measures what it costs.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn start_as_on_a_router(node: &Node, config: &str) -> Self {
        let daemon = Self::begin(node, &["env", "LOCKSTEP_LOG=info"], config, &["--unsupervised"]);
        daemon.wait_until_it_answers();
        daemon
    }

    /// Starts the daemon without waiting for anything, and without a guard: killed, it is as a router
    /// without power.
    pub fn launch(node: &Node, config: &str) -> Self {
        Self::begin(node, &[], config, &["--unsupervised"])
    }

    /// Starts the daemon as an operator does, with its guard, and waits until it answers.
    /// [`Lockstep::process`] is the guard, [`Lockstep::worker`] what it guards.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn start_guarded(node: &Node, config: &str) -> Self {
        let daemon = Self::launch_guarded(node, &[], config);
        daemon.wait_until_it_answers();
        daemon
    }

    /// Starts the program as `PREFIX lockstep run`, with its guard, and waits for nothing.
    pub fn launch_guarded(node: &Node, prefix: &[&str], config: &str) -> Self {
        Self::begin(node, prefix, config, &[])
    }

    fn begin(node: &Node, prefix: &[&str], config: &str, options: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory for the daemon");
        fs::write(directory.path().join("lockstep.toml"), config).expect("its configuration");
        let log = File::create(directory.path().join("log")).expect("its log");
        // The parent-death signal ends it even when the test process is killed; `exec` keeps its process id.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(prefix);
        command.arg(binary()).arg("run").args(options);
        command.arg("--config").arg(directory.path().join("lockstep.toml"));
        command.arg("--socket").arg(directory.path().join("socket"));
        command.env("LOCKSTEP_LOG", "debug").env("NO_COLOR", "1");
        // What it keeps for its next run is nobody else's.
        command.env("STATE_DIRECTORY", directory.path().join("state"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let process = node.start(command).expect("setpriv can be started");
        let control = Control::new(node.name(), directory.path().join("socket"));
        Self { control, process, directory }
    }

    /// The directory of its configuration, log and socket.
    pub fn directory(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process that its guard has started, while there is one.
    pub fn worker(&self) -> Option<Pid> {
        first_child(self.process.id())
    }

    /// Sends its worker a signal.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn signal_worker(&self, signal: Signal) -> Pid {
        let worker = self.worker().expect("it has a worker");
        kill(worker, signal).expect("it can be signalled");
        worker
    }

    /// Waits until another worker than this one has taken its place and answers.
    #[track_caller]
    pub fn wait_for_another_worker(&self, before: Pid) {
        wait::until("another worker answers", || {
            self.worker().is_some_and(|worker| worker != before) && self.try_status().is_some()
        });
    }

    /// Kills guard and worker together: nobody is left to do anything.
    ///
    /// # Panics
    /// When they cannot be killed.
    #[track_caller]
    pub fn kill_all(&mut self) {
        // A guard that dies first lets its worker hand over.
        self.process.signal(Signal::SIGSTOP).expect("it can be signalled");
        self.signal_worker(Signal::SIGKILL);
        self.kill();
    }

    /// Writes another configuration, which it reads when it is told to or starts again.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn configure(&self, config: &str) {
        fs::write(self.directory.path().join("lockstep.toml"), config).expect("its configuration");
    }

    /// Has it read another configuration; the exit code of `lockstep reload`, and all that it said.
    ///
    /// # Panics
    /// When the configuration cannot be written.
    pub fn reload(&self, config: &str) -> (Option<i32>, String) {
        self.configure(config);
        let output = self.command(&["reload"]);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Has it take another configuration; what it said.
    ///
    /// # Panics
    /// When it refuses.
    #[track_caller]
    pub fn take(&self, config: &str) -> String {
        let (status, said) = self.reload(config);
        assert_eq!(status, Some(0), "{said}");
        said
    }

    /// Stops it as systemd does, and waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::SIGTERM).expect("it can be signalled");
        self.ended()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        self.process
            .wait(wait::PATIENCE)
            .expect("it can be waited for")
            .unwrap_or_else(|| panic!("lockstep on {} does not end", self.control.name))
    }

    /// Kills it with SIGKILL: nothing is said and nothing is cleaned up.
    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
    }
}

impl Deref for Lockstep {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Control {
    /// To the daemon of this name that listens there.
    pub fn new(name: &str, socket: PathBuf) -> Self {
        Self { name: name.to_owned(), socket }
    }

    /// The daemon's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `lockstep ARGUMENTS --socket ITS_SOCKET`.
    pub fn command(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .expect("the binary runs")
    }

    /// What a command answers with `--json`.
    ///
    /// # Panics
    /// When it fails or does not answer JSON.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> Value {
        let output = self.command(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "lockstep {arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).expect("the answer is JSON")
    }

    /// `lockstep status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.ask(&["status"])
    }

    /// Waits until it answers `lockstep status`: after its start, or after its worker died, when nobody listens for a
    /// moment.
    #[track_caller]
    pub fn wait_until_it_answers(&self) {
        let what = format!("{} answers `lockstep status`", self.name);
        wait::until(&what, || self.try_status().is_some());
    }

    pub(crate) fn try_status(&self) -> Option<Value> {
        let output = self.command(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok())?
    }

    /// The state of a group, as `status` tells it.
    #[track_caller]
    pub fn state(&self, group: &str) -> String {
        text(&self.group(group)["state"])
    }

    /// A group's entry in `status`.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn group(&self, group: &str) -> Value {
        named(&self.status()["groups"], group)
    }

    /// A virtual router's entry in `status`.
    #[track_caller]
    pub fn virtual_router(&self, name: &str) -> Value {
        named(&self.status()["virtual-routers"], name)
    }

    /// Waits until a group is in this state *and* no transition is under way.
    #[track_caller]
    pub fn wait_for_state(&self, group: &str, state: &str) {
        wait::until(&format!("{} of {} is {state}", group, self.name), || {
            let group = self.group(group);
            group["state"] == state && group["step"].is_null()
        });
    }

    /// The transitions of a group, oldest first, as `journal` tells them.
    ///
    /// # Panics
    /// When the journal is not a list.
    #[track_caller]
    pub fn journal(&self, group: &str) -> Vec<Value> {
        let journal = self.ask(&["journal"]);
        let entries = journal.as_array().expect("the journal is a list");
        entries.iter().filter(|entry| entry["group"] == group).cloned().collect()
    }
}

impl Drop for Lockstep {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let status = self.try_status().map(|status| format!("{status:#}")).unwrap_or_default();
            eprintln!("==== lockstep on {}:\n{}\n{status}", self.control.name, self.log());
        }
    }
}

/// The processes that this one's main thread has started and that live, oldest first.
pub fn children(of: u32) -> Vec<Pid> {
    let children = fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
    let children = children.unwrap_or_default();
    children.split_whitespace().filter_map(|id| id.parse().ok()).map(Pid::from_raw).collect()
}

/// The first of [`children`].
pub fn first_child(of: u32) -> Option<Pid> {
    children(of).first().copied()
}

/// The lab's virtual addresses, as a virtual router's `addresses` lists them.
pub fn virtual_addresses() -> String {
    let listed = Lab::virtual_addresses().map(|(interface, address)| {
        format!("{{ address = \"{address}\", interface = \"{interface}\" }}")
    });
    format!("[{}]", listed.join(", "))
}

/// The program under test.
///
/// # Panics
/// When it has not been built.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let path = test.ancestors().nth(2).expect("tests lie in target/…/deps").join("lockstep");
    assert!(path.exists(), "{} is missing: run `cargo build --workspace` first", path.display());
    path
}

/// The entry of this name in a list of objects.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn named(list: &Value, name: &str) -> Value {
    let entries = list.as_array().expect("a list");
    let entry = entries.iter().find(|entry| entry["name"] == name);
    entry.unwrap_or_else(|| panic!("no {name} in {list:#}")).clone()
}

/// A string value's text.
///
/// # Panics
/// When it is something else.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no string")).to_owned()
}

/// A number's value.
///
/// # Panics
/// When it is something else.
#[track_caller]
pub fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}
