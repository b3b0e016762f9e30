//! What the demo plays on: the lab, the daemons, the traffic.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use lockstep_lab::traffic::{Connections, Pace, Probe, flows};
use lockstep_lab::{Lab, Node, RouterId};

use super::daemon::{Daemon, Files};
use super::options::Options;

/// Everything that exists during the demo. Its parts end in the order of the fields: first the
/// traffic, then the daemons, then the networks.
pub(super) struct Stage {
    traffic: Option<Traffic>,
    daemons: [Option<Daemon>; 2],
    lab: Lab,
    files: [Files; 2],
    options: Options,
    _directory: Directory,
}

/// What goes through the routers.
pub(super) struct Traffic {
    /// The TCP connections.
    pub connections: Connections,
    /// The UDP probe.
    pub probe: Probe,
}

impl Stage {
    /// Makes the networks and hosts; nothing runs yet.
    pub(super) fn build(options: &Options) -> anyhow::Result<Self> {
        let directory = Directory::new()?;
        let files = RouterId::BOTH.map(|id| Files::new(&directory.path, id));
        let lab = Lab::new(options.firewall.into()).context("cannot make the demo's network")?;
        let room = flows::room(lab.router(RouterId::A)?)?;
        let needed = options.flows.saturating_add(options.connections as u32 + SPARE);
        if needed > room {
            bail!(
                "{} flows do not fit: the kernel tracks at most {room} per router here \
                 (net.netfilter.nf_conntrack_max); use --flows {} or fewer, or raise that limit",
                options.flows,
                room.saturating_sub(options.connections as u32 + SPARE)
            );
        }
        Ok(Self {
            traffic: None,
            daemons: [None, None],
            lab,
            files,
            options: options.clone(),
            _directory: directory,
        })
    }

    /// Starts a router's daemon, and waits for the end of one that was told to stop.
    pub(super) fn start_router(&mut self, id: RouterId) -> anyhow::Result<()> {
        if let Some(mut stopping) = self.daemons[id as usize].take() {
            stopping.wait(END_PATIENCE)?;
        }
        let files = &self.files[id as usize];
        let daemon = Daemon::start(self.lab.router(id)?, id, files, &self.options)?;
        self.daemons[id as usize] = Some(daemon);
        Ok(())
    }

    /// Ends a router's daemon in order.
    pub(super) fn stop_daemon(&mut self, id: RouterId) -> anyhow::Result<()> {
        self.daemons[id as usize].as_mut().context("this router's daemon does not run")?.stop()
    }

    /// Takes a router away: its process, its links, its memory.
    pub(super) fn cut_power(&mut self, id: RouterId) -> anyhow::Result<()> {
        // The links must go before the process has been cleared away, or the kernel would go on
        // forwarding without it.
        if let Some(daemon) = &mut self.daemons[id as usize] {
            daemon.kill()?;
        }
        self.lab.power_off(id);
        self.daemons[id as usize] = None;
        Ok(())
    }

    /// Gives it back: the same hardware and firewall, empty.
    pub(super) fn restore_power(&mut self, id: RouterId) -> anyhow::Result<()> {
        self.lab.power_on(id)
    }

    /// Decides what a router's health check finds.
    pub(super) fn set_health(&self, id: RouterId, healthy: bool) -> anyhow::Result<()> {
        let path = &self.files[id as usize].health;
        let done = if healthy { fs::write(path, "") } else { fs::remove_file(path) };
        done.with_context(|| format!("cannot change {}", path.display()))
    }

    /// Opens the connections and starts the probe.
    pub(super) fn start_traffic(&mut self, options: &Options) -> anyhow::Result<()> {
        let (client, server) = (self.lab.client(), self.lab.server());
        let address = |port| SocketAddr::from((Lab::SERVER, port));
        let connections = Connections::open(
            client,
            server,
            address(TCP_PORT),
            options.connections,
            Pace::default(),
        )?;
        let probe = Probe::start(client, server, address(UDP_PORT))?;
        self.traffic = Some(Traffic { connections, probe });
        Ok(())
    }

    /// The traffic.
    pub(super) fn traffic(&self) -> anyhow::Result<&Traffic> {
        self.traffic.as_ref().context("no traffic yet")
    }

    /// Forgets what was measured so far.
    pub(super) fn begin_measuring(&self) {
        if let Some(traffic) = &self.traffic {
            traffic.connections.forget_gaps();
        }
    }

    /// Puts established connections into a router's table.
    pub(super) fn install_flows(&self, id: RouterId, count: u32) -> anyhow::Result<()> {
        flows::install(self.lab.router(id)?, count)
    }

    /// A router.
    pub(super) fn router(&self, id: RouterId) -> anyhow::Result<&Node> {
        self.lab.router(id)
    }

    /// The client and the server.
    pub(super) fn hosts(&self) -> [&Node; 2] {
        [self.lab.client(), self.lab.server()]
    }

    /// A router's daemon.
    pub(super) fn daemon(&self, id: RouterId) -> anyhow::Result<&Daemon> {
        self.daemons[id as usize].as_ref().context("this router's daemon does not run")
    }

    /// A router's daemon once it answers.
    pub(super) fn daemon_if_ready(&mut self, id: RouterId) -> anyhow::Result<Option<&Daemon>> {
        let daemon = self.daemons[id as usize].as_mut();
        let daemon = daemon.context("this router's daemon does not run")?;
        Ok(if daemon.is_ready()? { Some(daemon) } else { None })
    }

    /// The state of a router's group, `init` before its daemon answers.
    pub(super) fn state_of(&mut self, id: RouterId) -> anyhow::Result<String> {
        match self.daemon_if_ready(id)? {
            Some(daemon) => daemon.state(),
            None => Ok("init".to_owned()),
        }
    }

    /// A router's files.
    pub(super) fn files(&self, id: RouterId) -> &Files {
        &self.files[id as usize]
    }
}

/// A directory that is removed with all its content.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> anyhow::Result<Self> {
        let template = std::env::temp_dir().join("lockstep-demo-XXXXXX");
        let path = nix::unistd::mkdtemp(&template)
            .with_context(|| format!("cannot make a directory {}", template.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Flows beside those asked for: the probe's, and what the kernel counts until it forgets it.
const SPARE: u32 = 64;
const TCP_PORT: u16 = 5001;
const UDP_PORT: u16 = 5002;
const END_PATIENCE: Duration = Duration::from_secs(10);
