//! A real keepalived in a namespace.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use lockstep_lab::{Node, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::daemon::children;
use crate::wait;

/// keepalived with its VRRP process only. Dropped, it is killed as by [`Keepalived::kill`]; when the test panics, its log is
/// printed.
#[derive(Debug)]
pub struct Keepalived {
    process: Process,
    directory: TempDir,
}

/// One `vrrp_instance`, named `gateway`, on `eth0`.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `priority`.
    pub priority: u8,
    /// `auth_pass`, or no authentication.
    pub password: Option<String>,
    /// `nopreempt`.
    pub nopreempt: bool,
    /// `virtual_ipaddress`, one line each.
    pub addresses: Vec<String>,
    /// Further lines of `global_defs`.
    pub global: Vec<String>,
}

impl Instance {
    fn text(&self) -> String {
        let authentication = self.password.as_ref().map_or(String::new(), |password| {
            format!("  authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}\n")
        });
        let nopreempt = if self.nopreempt { "  nopreempt\n" } else { "" };
        format!(
            "global_defs {{\n  script_user root\n  vrrp_garp_master_delay 1\n  {}\n}}\n\
             vrrp_instance gateway {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  \
             priority {}\n  advert_int 1\n{nopreempt}{authentication}  \
             virtual_ipaddress {{\n    {}\n  }}\n}}\n",
            self.global.join("\n  "),
            self.priority,
            self.addresses.join("\n    "),
        )
    }
}

impl Keepalived {
    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it does not start; also when keepalived is not installed.
    #[track_caller]
    pub fn start(node: &Node, instance: &Instance) -> Self {
        Self::configured(node, &instance.text())
    }

    /// Starts it with a whole configuration file and waits until it listens.
    ///
    /// # Panics
    /// As [`Keepalived::start`].
    #[track_caller]
    pub fn configured(node: &Node, configuration: &str) -> Self {
        let directory = TempDir::new().expect("a directory for keepalived");
        let path = |name: &str| directory.path().join(name);
        fs::write(path("keepalived.conf"), configuration).expect("its configuration");
        let log = File::create(path("log")).expect("its log");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "keepalived"]);
        command.args(["--vrrp", "--dont-fork", "--log-console", "--log-detail"]);
        command.arg("--use-file").arg(path("keepalived.conf"));
        command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let process = node.start(command).expect("setpriv can be started");
        let mut keepalived = Self { process, directory };
        wait::until("keepalived (is it installed?) has started", || {
            let ended = keepalived.process.ended().expect("it can be waited for");
            assert!(ended.is_none(), "keepalived ended: {}", keepalived.log());
            keepalived.log().contains("VRRP sockpool")
        });
        keepalived
    }

    /// Its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The state it entered last: `MASTER`, `BACKUP` or `FAULT`.
    pub fn state(&self) -> Option<String> {
        let log = self.log();
        let line =
            log.lines().rev().find(|line| line.contains("ntering") && line.contains("STATE"))?;
        line.split_whitespace()
            .find(|word| ["MASTER", "BACKUP", "FAULT"].contains(word))
            .map(str::to_owned)
    }

    /// Waits until it is in this state.
    #[track_caller]
    pub fn wait_for_state(&self, state: &str) {
        wait::until(&format!("keepalived is {state}"), || self.state().as_deref() == Some(state));
    }

    /// Stops it as systemd does: priority 0, addresses removed.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.signal(Signal::SIGTERM).expect("keepalived can be signalled");
        let status = self.process.wait(wait::PATIENCE).expect("it can be waited for");
        assert!(status.is_some(), "keepalived does not end");
    }

    /// Kills it so that it says nothing: its parent process is stopped first, since it would start the other anew, and the
    /// other would say goodbye when its parent dies.
    ///
    /// # Panics
    /// When its process is not known.
    pub fn kill(mut self) {
        assert!(self.kill_both() > 0, "its VRRP process is known");
    }

    /// Returns how many processes its parent process had.
    fn kill_both(&mut self) -> usize {
        if !matches!(self.process.ended(), Ok(None)) {
            return 0;
        }
        let _ = self.process.signal(Signal::SIGSTOP);
        let others = children(self.process.id());
        for process in &others {
            let _ = kill(*process, Signal::SIGKILL);
        }
        let _ = self.process.kill();
        others.len()
    }

    /// Signals the process that speaks VRRP.
    ///
    /// # Panics
    /// When that process is not known.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(self.vrrp_process(), signal).expect("its VRRP process can be signalled");
    }

    /// The process that speaks VRRP.
    ///
    /// # Panics
    /// When it is not known.
    #[track_caller]
    pub fn vrrp_process(&self) -> Pid {
        let pid = fs::read_to_string(self.directory.path().join("vrrp.pid")).expect("its pid file");
        Pid::from_raw(pid.trim().parse().expect("a pid"))
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("==== keepalived:\n{}", self.log());
        }
        // The VRRP process would say goodbye, and now and then hang in it when its interface goes meanwhile.
        self.kill_both();
    }
}

/// The version installed, for example `keepalived 2.2.7`.
///
/// # Panics
/// When keepalived is not installed.
pub fn version() -> String {
    let output = Command::new("keepalived").arg("--version").output();
    let output = output.expect("keepalived (is it installed?) runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let version = text.split_whitespace().nth(1).unwrap_or_default();
    format!("keepalived {}", version.trim_start_matches('v'))
}
