//! The configuration is read again while the daemon runs: on SIGHUP and by `lockstep reload`.
//!
//! All or nothing: a file with a mistake, or with a change that a running daemon cannot take,
//! changes nothing. What can be taken is settings of replication, and the replicator thread takes
//! them together.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use lockstep_config::{Changes, Config};
use lockstep_kernel::scheduling::give_back_what_is_free;
use sd_notify::NotifyState;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::cli::{self, BadConfiguration};
use crate::control::protocol::{Reloaded, Request};
use crate::guard::record::Record;
use crate::messages::ReplicatorRequest;
use crate::service;

/// Knows the configuration in force and where its successor is read from.
pub(crate) struct Reloader {
    path: PathBuf,
    /// Held while a successor is read and put in force: one at a time.
    running: Mutex<Config>,
    replicator: Option<mpsc::Sender<ReplicatorRequest>>,
    record: Arc<Record>,
}

impl Reloader {
    pub(crate) fn new(
        path: PathBuf,
        running: Config,
        replicator: Option<mpsc::Sender<ReplicatorRequest>>,
        record: Arc<Record>,
    ) -> Self {
        Self { path, running: Mutex::new(running), replicator, record }
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

    async fn exchange(&self, running: &mut Config) -> anyhow::Result<Reloaded> {
        let path = self.path.clone();
        let wanted = spawn_blocking(move || cli::reread(&path));
        let (wanted, text) = wanted.await.context("reading the configuration has failed")??;
        let Changes { live, restart } = Changes::between(running, &wanted);
        if !restart.is_empty() {
            bail!("nothing is changed; a restart is needed for: {}", restart.join(", "));
        }
        if live.is_empty() {
            let summary = "the configuration is in force already".to_owned();
            return Ok(Reloaded { summary, changed: live });
        }
        self.configure(&wanted).await?;
        running.replication = wanted.replication;
        if let Err(error) = self.record.configure(&text) {
            warn!("the guard still has the configuration before: {error:#}");
        }
        Ok(Reloaded { summary: format!("{} in force", is_or_are(&live)), changed: live })
    }

    /// Waits until the settings are in force and what they let in has been read. The replicator
    /// takes the same settings twice: after an error the next attempt puts everything right.
    async fn configure(&self, wanted: &Config) -> anyhow::Result<()> {
        let replication = wanted.replication.clone().context("replication is not configured")?;
        let replicator = self.replicator.as_ref().context("replication is not configured")?;
        let (sender, receiver) = oneshot::channel();
        let request = ReplicatorRequest::Configure(Box::new(replication), sender);
        let answer = async {
            replicator.send(request).await.ok()?;
            receiver.await.ok()
        };
        match timeout(Request::Reload {}.patience() / 2, answer).await {
            Ok(Some(result)) => result.map(drop).map_err(|reason| anyhow!(reason)),
            Ok(None) => bail!("the replicator thread has ended"),
            Err(_) => bail!("no answer from the replicator thread; it may still change"),
        }
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
