//! The control thread: the control socket, the hooks and the checks.
//!
//! Everything that waits for people, files or other people's programs is here, away from the
//! election and the flows. It only asks the other threads, and never waits for them without end.

use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use lockstep_failover as failover;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tracing::error;

use crate::checks;
use crate::hooks::Hooks;
use crate::messages::{ControlRequest, CoreEvent, NetworkRequest, ReplicatorRequest};
use crate::reload::Reloader;
use crate::tracking;

pub(crate) mod client;
pub(crate) mod protocol;

mod assemble;
mod entries;
mod parts;
mod server;
mod socket;

use assemble::Sources;
use socket::ControlSocket;

/// The other threads.
pub(crate) struct Actors {
    /// Hears of checks and hooks; asked for groups, virtual routers and the journal.
    pub core: mpsc::Sender<CoreEvent>,
    /// Asked for links, addresses, routes and rules.
    pub network: mpsc::Sender<NetworkRequest>,
    /// Asked for flows; `None` when replication is not configured.
    pub replicator: Option<mpsc::Sender<ReplicatorRequest>>,
    /// Reads the configuration again.
    pub reloader: Arc<Reloader>,
}

/// Starts the thread, in the network namespace of the caller; hooks and checks run in it too.
///
/// It ends after [`ControlRequest::Stop`], or when `requests` is closed, and not before running hooks
/// had [`crate::hooks::STOP_PATIENCE`].
///
/// # Errors
/// When the socket at `path` cannot be listened on, or the thread cannot be started.
pub(crate) fn spawn(
    router: &str,
    failover: &failover::Config,
    path: &Path,
    actors: Actors,
    requests: mpsc::Receiver<ControlRequest>,
) -> anyhow::Result<JoinHandle<()>> {
    let socket = ControlSocket::bind(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control thread")?;
    tracking::spawn(failover, &actors.core)?;
    let (router, failover) = (router.to_owned(), failover.clone());
    thread::Builder::new()
        .name("control".to_owned())
        .spawn(move || runtime.block_on(run(router, failover, socket, actors, requests)))
        .context("cannot start the control thread")
}

async fn run(
    router: String,
    failover: failover::Config,
    socket: ControlSocket,
    actors: Actors,
    requests: mpsc::Receiver<ControlRequest>,
) {
    let (hooks, shown) = Hooks::new(router.clone(), &failover.groups, actors.core.clone());
    let checks = checks::spawn(&router, &failover.checks, &actors.core);
    let sources = Arc::new(Sources {
        router,
        core: actors.core,
        network: actors.network,
        replicator: actors.replicator,
        reloader: actors.reloader,
        checks,
        hooks: shown,
    });
    match socket.listener().and_then(UnixListener::from_std) {
        Ok(listener) => drop(tokio::spawn(server::serve(listener, sources))),
        Err(error) => error!(%error, "nobody listens on the control socket"),
    }
    hooks.run(requests).await;
}

#[cfg(test)]
mod tests;
