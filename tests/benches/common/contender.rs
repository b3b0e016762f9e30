//! lockstep or keepalived, told the same.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Duration;

use lockstep_lab::{Node, Process};
use lockstep_tests::daemon::binary;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cost::Cost;

/// Which daemon.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Keepalived,
    Lockstep,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Keepalived, Self::Lockstep];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::Lockstep => "lockstep",
        }
    }
}

/// One virtual router, with one IPv4 address.
#[derive(Clone, Debug)]
pub(crate) struct VirtualRouter {
    pub(crate) interface: String,
    pub(crate) vrid: u8,
    /// With its prefix length.
    pub(crate) address: String,
    /// 2 or 3.
    pub(crate) version: u8,
    pub(crate) priority: u8,
    pub(crate) interval: Duration,
    /// A command that fails when the router is not fit, run ten times a second.
    pub(crate) check: Option<String>,
}

/// A running daemon with everything it has started. Dropped, it is killed.
pub(crate) struct Daemon {
    process: Process,
    _directory: TempDir,
}

impl Daemon {
    /// Starts it; it may take a while until it is ready.
    pub(crate) fn start(kind: Kind, node: &Node, routers: &[VirtualRouter], more: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        match kind {
            Kind::Keepalived => {
                fs::write(path("keepalived.conf"), keepalived(routers) + more).unwrap();
                command.args(["keepalived", "--vrrp", "--dont-fork", "--log-console"]);
                command.arg("--use-file").arg(path("keepalived.conf"));
                command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
            }
            Kind::Lockstep => {
                fs::write(path("lockstep.toml"), lockstep(routers) + more).unwrap();
                command.arg(binary()).args(["run", "--unsupervised"]);
                command.arg("--config").arg(path("lockstep.toml"));
                command.arg("--socket").arg(path("socket"));
                command.env("NO_COLOR", "1");
            }
        }
        let log = File::create(path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self { process: node.start(command).unwrap(), _directory: directory }
    }

    /// What it has used until now, with its children.
    pub(crate) fn cost(&self) -> Cost {
        Cost::of(&self.processes())
    }

    /// Kills it with all its children at once, so that none says goodbye for another.
    pub(crate) fn kill(mut self) {
        let processes = self.processes();
        for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
            for process in &processes {
                // A hook that has ended meanwhile is gone already.
                let _ = kill(Pid::from_raw(*process as i32), signal);
            }
        }
        self.process.kill().unwrap();
    }

    /// Tells it to end, as systemd does; does not wait.
    pub(crate) fn terminate(&mut self) {
        self.process.signal(Signal::SIGTERM).unwrap();
    }

    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.process.id()];
        let mut next = 0;
        while let Some(process) = found.get(next).copied() {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
            let children = children.unwrap_or_default();
            found.extend(children.split_whitespace().map(|id| id.parse::<u32>().unwrap()));
            next += 1;
        }
        found
    }
}

fn lockstep(routers: &[VirtualRouter]) -> String {
    let mut text = "[router]\nid = \"router\"\n".to_owned();
    for (number, router) in routers.iter().enumerate() {
        let VirtualRouter { interface, vrid, address, version, priority, interval, check } = router;
        let interval = interval.as_millis();
        let _ = write!(
            text,
            "[vrrp.v{number}]\ninterface = \"{interface}\"\nvrid = {vrid}\nversion = {version}\n\
             priority = {priority}\nadvertisement-interval = \"{interval}ms\"\n\
             startup-limit = \"0s\"\naddresses = [\"{address}\"]\n"
        );
        if let Some(check) = check {
            let _ = write!(
                text,
                "checks = [\"c{number}\"]\n[check.c{number}]\n\
                 command = [\"sh\", \"-c\", \"{check}\"]\ninterval = \"100ms\"\n"
            );
        }
    }
    text
}

fn keepalived(routers: &[VirtualRouter]) -> String {
    let mut text = "global_defs {\n script_user root\n}\n".to_owned();
    for (number, router) in routers.iter().enumerate() {
        let VirtualRouter { interface, vrid, address, version, priority, interval, check } = router;
        let interval = interval.as_secs_f64();
        let tracked = match check {
            Some(check) => {
                let _ = write!(
                    text,
                    "vrrp_script c{number} {{\n script \"/bin/sh -c '{check}'\"\n interval 0.1\n}}\n"
                );
                format!(" track_script {{\n  c{number}\n }}\n")
            }
            None => String::new(),
        };
        let _ = write!(
            text,
            "vrrp_instance v{number} {{\n state BACKUP\n interface {interface}\n \
             virtual_router_id {vrid}\n version {version}\n priority {priority}\n \
             advert_int {interval}\n{tracked} virtual_ipaddress {{\n  {address} dev {interface}\n }}\n}}\n"
        );
    }
    text
}
