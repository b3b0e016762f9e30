//! The control thread: the control socket, the hooks and the checks.
//!
//! Everything that waits for people, files or other people's programs is here, away from the
//! election and the flows. It only asks the other threads, and never waits for them without end.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use lockstep_config::Config;
use tokio::net::UnixListener;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::timeout;
use tracing::{error, warn};

use crate::checks::{self, Checks};
use crate::hooks::{self, Hooks};
use crate::journal::{Journal, News};
use crate::maintenance::Maintenance;
use crate::messages::{ControlRequest, CoreEvent, NetworkRequest, ReplicatorRequest, WatchRequest};
use crate::reload::Reloader;
use crate::tracking::Tracking;

pub(crate) mod client;
pub(crate) mod protocol;

mod assemble;
mod entries;
mod orders;
mod parts;
mod server;
mod socket;

pub(crate) use assemble::ask;

use assemble::Sources;
use socket::ControlSocket;

/// How long the daemon's end waits for the end of the journal.
const JOURNAL_PATIENCE: Duration = Duration::from_secs(2);

/// The other threads.
pub(crate) struct Actors {
    /// Hears of checks and hooks; asked for groups, virtual routers and the journal.
    pub core: mpsc::Sender<CoreEvent>,
    /// Asked for links, addresses, routes and rules.
    pub network: mpsc::Sender<NetworkRequest>,
    /// Asked for flows; `None` when replication is not configured.
    pub replicator: Option<mpsc::Sender<ReplicatorRequest>>,
    /// Which groups are in maintenance.
    pub maintenance: Maintenance,
    /// Reads the configuration again.
    pub reloader: Arc<Reloader>,
    /// The transitions, written down whenever the core says that there are new ones.
    pub journal: (Journal, watch::Receiver<News>),
    /// Asks for other checks, and for other files and processes to be looked at.
    pub watches: mpsc::Receiver<WatchRequest>,
}

/// Starts the thread, in the network namespace of the caller; hooks and checks run in it too.
///
/// It ends after [`ControlRequest::Stop`], or when `requests` is closed, and not before running hooks
/// had [`crate::hooks::STOP_PATIENCE`].
///
/// # Errors
/// When the socket at `path` cannot be listened on, or the thread cannot be started.
pub(crate) fn spawn(
    config: &Config,
    path: &Path,
    actors: Actors,
    requests: mpsc::Receiver<ControlRequest>,
) -> anyhow::Result<JoinHandle<()>> {
    let socket = ControlSocket::bind(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread")?;
    let mut tracking = Tracking::new(actors.core.clone());
    tracking.configure(&config.failover)?;
    let checks = checks::Settings::of(config);
    let hooks = hooks::Settings::of(config);
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || runtime.block_on(run((checks, tracking), hooks, socket, actors, requests)))
        .context("cannot start the control thread")
}

async fn run(
    (settings, tracking): (checks::Settings, Tracking),
    hooks: hooks::Settings,
    socket: ControlSocket,
    actors: Actors,
    requests: mpsc::Receiver<ControlRequest>,
) {
    let router = hooks.router.clone();
    let (mut checks, checks_shown) = Checks::new(actors.core.clone());
    checks.begin(&settings);
    tokio::spawn(watch_others(checks, tracking, actors.watches));
    let (hooks, shown) = Hooks::new(hooks, actors.core.clone()).await;
    let (journal, news) = actors.journal;
    let earlier = journal.earlier();
    let kept = tokio::spawn(journal.keep(actors.core.clone(), news));
    let sources = Arc::new(Sources {
        router,
        earlier,
        core: actors.core,
        network: actors.network,
        replicator: actors.replicator,
        maintenance: Arc::new(Mutex::new(actors.maintenance)),
        reloader: actors.reloader,
        checks: checks_shown,
        hooks: shown,
    });
    match socket.listener().and_then(UnixListener::from_std) {
        Ok(listener) => drop(tokio::spawn(server::serve(listener, sources))),
        Err(error) => error!(%error, "nobody listens on the control socket"),
    }
    hooks.run(requests).await;
    // A disk that hangs must not keep the daemon from ending.
    if timeout(JOURNAL_PATIENCE, kept).await.is_err() {
        warn!("the end of the journal could not be written in time");
    }
}

/// Has checks and looks follow the configuration until nobody can change it any more.
async fn watch_others(
    mut checks: Checks,
    mut tracking: Tracking,
    mut requests: mpsc::Receiver<WatchRequest>,
) {
    while let Some(request) = requests.recv().await {
        // An asker that no longer waits is no concern of theirs.
        match request {
            WatchRequest::End(config, answer) => {
                checks.end(&checks::Settings::of(&config));
                let _ = answer.send(());
            }
            WatchRequest::Begin(config, answer) => {
                checks.begin(&checks::Settings::of(&config));
                let result = tracking.configure(&config.failover);
                let _ = answer.send(result.map_err(|error| format!("{error:#}")));
            }
        }
    }
}

#[cfg(test)]
mod tests;
