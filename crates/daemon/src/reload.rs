//! The configuration is read again while the daemon runs: on SIGHUP and by `lockstep reload`.
//!
//! All or nothing: a file with a mistake, or with a change that a running daemon cannot take,
//! changes nothing. What can be taken goes to the thread that it is about; before that, what is to be
//! no more leaves as long as everybody still knows it.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use lockstep_config::{Changes, Config, Leaving, addresses_of_routers};
use lockstep_kernel::scheduling::give_back_what_is_free;
use sd_notify::NotifyState;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::cli::{self, BadConfiguration};
use crate::control::protocol::{Compared, Reloaded, Request};
use crate::guard::record::Record;
use crate::messages::{
    ControlRequest, CoreEvent, NetworkRequest, ReplicatorRequest, Wanted, WatchRequest,
};
use crate::{network, service};

/// Knows the configuration in force and where its successor is read from.
pub(crate) struct Reloader {
    path: PathBuf,
    /// Held while a successor is read and put in force: one at a time.
    running: Mutex<Running>,
    actors: Actors,
    record: Arc<Record>,
}

/// What is in force.
struct Running {
    config: Config,
    /// What was told to leave it by a successor that did not come into force.
    left: Leaving,
}

/// The threads that take a part of it.
pub(crate) struct Actors {
    /// Limits, elections, announcements.
    pub core: mpsc::Sender<CoreEvent>,
    /// Links, addresses, routes, rules.
    pub network: mpsc::Sender<NetworkRequest>,
    /// Hooks and their pipe.
    pub control: mpsc::Sender<ControlRequest>,
    /// Checks, and whoever looks at files and processes.
    pub watches: mpsc::Sender<WatchRequest>,
    /// Replication, when configured.
    pub replicator: Option<mpsc::Sender<ReplicatorRequest>>,
}

impl Reloader {
    pub(crate) fn new(path: PathBuf, running: Config, actors: Actors, record: Arc<Record>) -> Self {
        let running = Running { config: running, left: Leaving::default() };
        Self { path, running: Mutex::new(running), actors, record }
    }

    /// Reads the file and puts what it changes in force. How it went is in the log too.
    ///
    /// # Errors
    /// [`BadConfiguration`], a sentence that names everything that needs a restart, or why the
    /// file cannot be read. Nothing has been changed then.
    pub(crate) async fn reload(&self) -> anyhow::Result<Reloaded> {
        let mut running = self.running.lock().await;
        tell_systemd_of_the_beginning();
        let result = self.exchange(&mut running).await;
        service::tell(&[NotifyState::Ready]);
        give_back_what_is_free();
        match &result {
            Ok(reloaded) => info!("{}", reloaded.summary),
            // Each of its problems has been logged.
            Err(error) if error.is::<BadConfiguration>() => {
                warn!("the configuration in force stays: the file has errors");
            }
            Err(error) => warn!("not reloaded: {error:#}"),
        }
        result
    }

    /// What a file would change, of the configuration that is in force.
    ///
    /// # Errors
    /// As [`Reloader::reload`], but for what needs a restart.
    pub(crate) async fn compare(&self, file: PathBuf) -> anyhow::Result<Compared> {
        let wanted = spawn_blocking(move || cli::reread(&file));
        let (wanted, _) = wanted.await.context("reading the configuration has failed")??;
        let running = self.running.lock().await;
        let Changes { live, restart, leaving, .. } = Changes::between(&running.config, &wanted);
        // What needs a restart keeps everything from being changed.
        let leaving = if restart.is_empty() { leaving } else { Leaving::default() };
        let leaving = leaving.and(&running.left);
        Ok(Compared { live, restart, leaving: sentences(&leaving, &wanted) })
    }

    async fn exchange(&self, running: &mut Running) -> anyhow::Result<Reloaded> {
        let path = self.path.clone();
        let wanted = spawn_blocking(move || cli::reread(&path));
        let (wanted, text) = wanted.await.context("reading the configuration has failed")??;
        let Changes { live, restart, leaving, mut arriving } =
            Changes::between(&running.config, &wanted);
        if !restart.is_empty() {
            bail!("nothing is changed; a restart is needed for: {}", restart.join(", "));
        }
        if live.is_empty() && running.left.is_empty() {
            let summary = "the configuration is in force already".to_owned();
            return Ok(Reloaded { summary, changed: live });
        }
        let leaving = leaving.and(&running.left);
        let left = sentences(&leaving, &wanted);
        // Who has left and is wanted again comes anew.
        arriving.extend(leaving.virtual_routers.iter().cloned());
        if !leaving.is_empty() {
            running.left = leaving.clone();
            let request = |answer| CoreEvent::Leave(leaving, answer);
            put_in_force(&self.actors.core, request, "core").await?;
        }
        self.configure(&running.config, &wanted, arriving).await?;
        *running = Running { config: wanted, left: Leaving::default() };
        if let Err(error) = self.record.configure(&text) {
            warn!("the guard still has the configuration before: {error:#}");
        }
        let taken = if live.is_empty() {
            "the configuration is in force again".to_owned()
        } else {
            format!("{} in force", is_or_are(&live))
        };
        let summary = [vec![taken], left].concat().join("; ");
        Ok(Reloaded { summary, changed: live })
    }

    /// Waits until the settings are in force and what they let in has been read. Every thread takes the
    /// same settings twice: after an error the next attempt puts everything right.
    ///
    /// The network comes first, so that an address is there before anybody hears of it.
    async fn configure(
        &self,
        running: &Config,
        wanted: &Config,
        arriving: Vec<String>,
    ) -> anyhow::Result<()> {
        let network = of_network(wanted, &arriving);
        if of_network(running, &[]) != network {
            let request = |answer| NetworkRequest::Configure(Box::new(network), answer);
            put_in_force(&self.actors.network, request, "network").await?.map_err(|reason| {
                anyhow!("links, addresses and routes cannot be read: {reason}")
            })?;
        }
        // Whoever runs hooks knows them before the first is asked for.
        let config = Box::new(wanted.clone());
        let request = |answer| ControlRequest::Configure(config, answer);
        put_in_force(&self.actors.control, request, "control").await?;
        // A result counts for the check that the core knows by that name.
        let config = Box::new(wanted.clone());
        let request = |answer| WatchRequest::End(config, answer);
        put_in_force(&self.actors.watches, request, "control").await?;
        let config = Box::new(wanted.clone());
        let request = |answer| CoreEvent::Configure(config, arriving, answer);
        put_in_force(&self.actors.core, request, "core").await?;
        let config = Box::new(wanted.clone());
        let request = |answer| WatchRequest::Begin(config, answer);
        let result = put_in_force(&self.actors.watches, request, "control").await?;
        result.map_err(|reason| anyhow!(reason))?;
        if let (Some(replicator), Some(replication)) =
            (&self.actors.replicator, &wanted.replication)
            && running.replication.as_ref() != Some(replication)
        {
            let replication = Box::new(replication.clone());
            let request = |answer| ReplicatorRequest::Configure(replication, answer);
            let result = put_in_force(replicator, request, "replicator").await?;
            result.map_err(|reason| anyhow!(reason))?;
        }
        Ok(())
    }
}

/// What leaves, and what becomes of it.
fn sentences(leaving: &Leaving, wanted: &Config) -> Vec<String> {
    let Leaving { groups, virtual_routers } = leaving;
    let comes_back = |name: &String| wanted.failover.groups.iter().any(|one| one.name == *name);
    let groups = groups.iter().map(|name| {
        let anew = if comes_back(name) { " and begins anew" } else { "" };
        format!("group {name} stops{anew}")
    });
    let routers = virtual_routers.iter().map(|name| format!("virtual router {name} stops"));
    groups.chain(routers).collect()
}

fn of_network(config: &Config, arriving: &[String]) -> Wanted {
    Wanted {
        declared: config.declared.clone(),
        interfaces: network::interfaces_of(config),
        rules: network::rules_of(config),
        groups: config.failover.groups.iter().map(|group| group.name.clone()).collect(),
        arriving: arriving.iter().cloned().collect(),
        addresses: addresses_of_routers(config),
    }
}

/// Has a thread take its part, and waits for its answer.
async fn put_in_force<Message, T>(
    thread: &mpsc::Sender<Message>,
    request: impl FnOnce(oneshot::Sender<T>) -> Message,
    name: &str,
) -> anyhow::Result<T> {
    let (sender, receiver) = oneshot::channel();
    let answer = async {
        thread.send(request(sender)).await.ok()?;
        receiver.await.ok()
    };
    match timeout(Request::Reload {}.patience() / 4, answer).await {
        Ok(Some(result)) => Ok(result),
        Ok(None) => bail!("the {name} thread has ended"),
        Err(_) => bail!("no answer from the {name} thread; it may still change"),
    }
}

fn is_or_are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

/// With the moment, for `Type=notify-reload`.
fn tell_systemd_of_the_beginning() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => service::tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "systemd is not told: the clock cannot be read"),
    }
}
