//! One router's daemon: its configuration, its process, and what it says over its control socket.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use lockstep_lab::{Lab, Node, Process, RouterId};
use nix::sys::signal::Signal;

use super::failure::Failure;
use super::options::Options;
use crate::control::client::Client;
use crate::control::protocol::Request;
use crate::status::{Status, Transition};

/// The failover group of both routers.
const GROUP: &str = "routers";

/// A daemon that runs on a router of the lab; dropped, it is killed.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Process,
    files: Files,
}

/// What belongs to one router on disk.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Its configuration.
    pub config: PathBuf,
    /// Its control socket.
    pub socket: PathBuf,
    /// What it logs.
    pub log: PathBuf,
    /// Exists as long as the router is healthy.
    pub health: PathBuf,
}

/// A moment in a daemon's journal and in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Since {
    /// Number of the last transition before it.
    pub number: u64,
    /// When.
    pub instant: Instant,
    /// When, by the calendar.
    pub at: SystemTime,
}

impl Since {
    /// Now, in the journal of a daemon that runs.
    pub(super) fn now(daemon: &Daemon) -> anyhow::Result<Self> {
        let journal = daemon.journal(0)?;
        let number = journal.last().map_or(0, |transition| transition.number);
        Ok(Self { number, ..Self::start() })
    }

    /// Now, before the daemon is started.
    pub(super) fn start() -> Self {
        Self { number: 0, instant: Instant::now(), at: SystemTime::now() }
    }
}

impl Files {
    pub(super) fn new(directory: &Path, id: RouterId) -> Self {
        let path = |suffix: &str| directory.join(format!("router-{}.{suffix}", id.name()));
        Self {
            config: path("toml"),
            socket: path("sock"),
            log: path("log"),
            health: path("healthy"),
        }
    }
}

impl Daemon {
    /// Starts the daemon of a router, with a configuration made for it.
    pub(super) fn start(
        node: &Node,
        id: RouterId,
        files: &Files,
        options: &Options,
    ) -> anyhow::Result<Self> {
        fs::write(&files.health, "")?;
        fs::write(&files.config, configuration(id, files, options))?;
        let log = File::options().create(true).append(true).open(&files.log)?;
        // Not by its path: the binary may be replaced, or out of reach in a user namespace.
        let mut command = Command::new("/proc/self/exe");
        command.args(["demo", "--router"]).args([&files.config, &files.socket]);
        command.env("STATE_DIRECTORY", files.config.with_extension("state"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the demo, which ends the daemons itself.
        command.process_group(0);
        Ok(Self { process: node.start(command)?, files: files.clone() })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it listens; an error with the end of its log when it has ended.
    pub(super) fn is_ready(&mut self) -> anyhow::Result<bool> {
        if let Some(status) = self.process.ended()? {
            let log = fs::read_to_string(&self.files.log).unwrap_or_default();
            let last = log.lines().next_back().unwrap_or("it said nothing");
            bail!("a router's daemon has ended ({status}): {last}");
        }
        Ok(Client::connect(&self.files.socket).is_ok())
    }

    /// What it says of itself.
    pub(super) fn status(&self) -> anyhow::Result<Status> {
        Client::connect(&self.files.socket)?.ask(&Request::Status {})
    }

    /// The state of the group.
    pub(super) fn state(&self) -> anyhow::Result<String> {
        let status = self.status()?;
        let group = status.groups.into_iter().find(|group| group.name == GROUP);
        Ok(group.context("the daemon does not know its group")?.state)
    }

    /// The last transition since then, if it leads to mastership; its steps may still run.
    pub(super) fn mastery(&self, since: &Since) -> anyhow::Result<Option<Transition>> {
        let transition = self.journal(since.number)?.into_iter().next_back();
        Ok(transition.filter(|transition| transition.to == "master"))
    }

    /// Ends it in order (SIGTERM); it may go on for a moment.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        Ok(self.process.signal(Signal::SIGTERM)?)
    }

    /// Ends it at once (SIGKILL); nothing of it can tell anybody.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.process.signal(Signal::SIGKILL)?)
    }

    /// Waits for its end after [`Daemon::stop`].
    pub(super) fn wait(&mut self, limit: Duration) -> anyhow::Result<()> {
        match self.process.wait(limit)? {
            Some(_) => Ok(()),
            None => bail!("the daemon does not end {} s after SIGTERM", limit.as_secs()),
        }
    }

    fn journal(&self, after: u64) -> anyhow::Result<Vec<Transition>> {
        let transitions: Vec<Transition> =
            Client::connect(&self.files.socket)?.ask(&Request::Journal { after })?;
        Ok(transitions.into_iter().filter(|transition| transition.group == GROUP).collect())
    }
}

/// What a started process does: it is the daemon, and ends with whoever started it, however that
/// one ends.
pub(super) fn be_a_router(paths: &[PathBuf]) -> anyhow::Result<()> {
    let [config, socket] = paths else { bail!("a router needs a configuration and a socket") };
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    crate::run::run(config, socket, None)
}

fn configuration(id: RouterId, files: &Files, options: &Options) -> String {
    let priority = match id {
        RouterId::A => 150,
        RouterId::B => 100,
    };
    let (check, checks) = match options.failure {
        Failure::Check => (check(&files.health), "checks = [\"healthy\"]"),
        Failure::Kill | Failure::Stop | Failure::Link => (String::new(), ""),
    };
    format!(
        r#"# Made by `lockstep demo` for router {name}.

[router]
id = "{name}"
{check}
[vrrp.gateway]
interface = "eth0"
vrid = 51
version = 3
priority = {priority}
preempt = true
advertisement-interval = "{interval}ms"
addresses = [
    {{ address = "{lan}/32", interface = "eth0" }},
    {{ address = "{wan}/32", interface = "eth1" }},
]

[group.{GROUP}]
virtual-routers = ["gateway"]
{checks}

[replication]
group = "{GROUP}"
protocol = "conntrackd"
mode = "ftfw"

[[replication.link]]
interface = "eth2"
multicast = "225.0.0.50"
port = {port}
checksum = true
send-buffer = {BUFFER}
receive-buffer = {BUFFER}

[replication.filter]
ignore-addresses = ["127.0.0.0/8", "{sync}"]
"#,
        name = id.name(),
        interval = options.advertisement_interval.as_millis(),
        lan = Lab::LAN_VIRTUAL,
        wan = Lab::WAN_VIRTUAL,
        port = Lab::REPLICATION_PORT,
        sync = Lab::SYNC,
    )
}

fn check(health: &Path) -> String {
    // A string that TOML reads as it is, whatever the temporary directory is called.
    let health = format!("'{}'", health.display());
    format!("\n[check.healthy]\ncommand = [\"test\", \"-e\", {health}]\ninterval = \"200ms\"\n")
}

/// Socket buffers towards the other router, in bytes: room for a burst of 4 000 datagrams.
const BUFFER: u32 = 4 << 20;

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_configuration_of_the_demo_is_accepted() {
        for failure in ["kill", "stop", "link", "check"] {
            let line = ["demo", "--failure", failure, "--advertisement-interval", "1s"];
            let options = Line::parse_from(line).options;
            for id in RouterId::BOTH {
                let text = configuration(id, &Files::new(Path::new("/tmp/demo"), id), &options);
                let surroundings = lockstep_config::Surroundings::default();
                let checked = lockstep_config::parse("demo", &text, &surroundings).expect(&text);
                assert_eq!(checked.warnings.len(), 0, "{:?}", checked.warnings);
                let failover = checked.config.failover;
                assert_eq!(failover.groups.len(), 1);
                assert_eq!(failover.checks.len(), usize::from(failure == "check"));
            }
        }
    }
}
