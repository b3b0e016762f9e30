//! Gathers what the other threads know, each within [`PATIENCE`]: a thread that is stuck is shown as
//! such and holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::protocol::{Done, PART_LIMIT};
use crate::checks;
use crate::hooks;
use crate::maintenance::Maintenance;
use crate::messages::{Asked, Command, CoreEvent, Entries, NetworkRequest, ReplicatorRequest};
use crate::network::Snapshot;
use crate::reload::Reloader;
use crate::status::{self, Explanation, Network, Replication, Status, Transition};

/// How long a thread may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long a look at the whole network may take, behind a step that moves many routes.
const LOOK_PATIENCE: Duration = Duration::from_secs(30);

/// Whom to ask.
#[derive(Clone)]
pub(crate) struct Sources {
    /// The router's name.
    pub router: String,
    /// The transitions of earlier runs, oldest first.
    pub earlier: Arc<[Transition]>,
    /// Groups, virtual routers, transitions.
    pub core: mpsc::Sender<CoreEvent>,
    /// Links, addresses, routes, rules.
    pub network: mpsc::Sender<NetworkRequest>,
    /// Flows, when they are replicated.
    pub replicator: Option<mpsc::Sender<ReplicatorRequest>>,
    /// Which groups are in maintenance.
    pub maintenance: Arc<Mutex<Maintenance>>,
    /// Reads the configuration again.
    pub reloader: Arc<Reloader>,
    /// The checks.
    pub checks: watch::Receiver<Vec<checks::Shown>>,
    /// The hooks.
    pub hooks: hooks::Shown,
}

impl Sources {
    /// Everything at once. Never fails and never takes longer than [`PATIENCE`].
    pub(crate) async fn status(&self) -> Status {
        let (core, network, replication) =
            tokio::join!(ask(&self.core, CoreEvent::Status), self.summary(), self.replication());
        let mut no_answer = Vec::new();
        let mut note = |name: &str, missing: bool| {
            if missing {
                no_answer.push(name.to_owned());
            }
        };
        note("core", core.is_none());
        note("network", network.is_none());
        note("replicator", self.replicator.is_some() && replication.is_none());
        let scheduling = core.as_ref().map(|core| core.scheduling.clone());
        let status::Core { groups, virtual_routers, .. } = core.unwrap_or_default();
        let network = network.unwrap_or_default();
        Status {
            router: self.router.clone(),
            groups,
            virtual_routers,
            replication,
            routes: network.routes.clone(),
            network,
            checks: self.checks.borrow().iter().map(|check| check.borrow().clone()).collect(),
            hooks: self.hooks.hooks.borrow().clone(),
            notify_fifo: self.hooks.fifo.borrow().clone(),
            scheduling,
            no_answer,
        }
    }

    /// Why each group is what it is. What replication says of itself is added where a group waits
    /// for it.
    pub(crate) async fn explain(&self) -> Option<Vec<Explanation>> {
        let (groups, replication) =
            tokio::join!(ask(&self.core, CoreEvent::Explain), self.replication());
        let mut groups = groups?;
        if let Some(replication) = replication {
            let word = if replication.in_sync { "in sync" } else { "not in sync" };
            for group in groups.iter_mut().filter(|group| group.replicated) {
                group.because.push(format!("replication is {word}: {}", replication.reason));
            }
        }
        Some(groups)
    }

    /// The last transitions after the one with this number, those of earlier runs first.
    pub(crate) async fn journal(&self, after: u64) -> Option<Vec<Transition>> {
        let now = ask(&self.core, CoreEvent::Journal).await?;
        let all = self.earlier.iter().cloned().chain(now);
        Some(all.filter(|transition| transition.number > after).collect())
    }

    /// Of the declared objects what `status` shows.
    async fn summary(&self) -> Option<Network> {
        let judged = async {
            let snapshot = ask(&self.network, NetworkRequest::Status).await?;
            let judge = move || snapshot.assess().summary(PART_LIMIT as usize);
            spawn_blocking(judge).await.ok()
        };
        timeout(PATIENCE, judged).await.ok().flatten()
    }

    /// What is wanted of the network and what the kernel has now. A large table takes a while.
    pub(crate) async fn look(&self) -> Option<Snapshot> {
        ask_within(&self.network, NetworkRequest::Look, LOOK_PATIENCE).await
    }

    /// Replication; `None` also when it is not configured.
    pub(crate) async fn replication(&self) -> Option<Replication> {
        ask(self.replicator.as_ref()?, ReplicatorRequest::Status).await
    }

    /// A part of a cache.
    pub(crate) async fn entries(&self, asked: Asked) -> Option<Entries> {
        ask(self.replicator.as_ref()?, |answer| ReplicatorRequest::Dump(asked, answer)).await
    }

    /// Has the replicator do what a person asks; `None` when it has not ended within `patience`.
    pub(crate) async fn command(
        &self,
        command: Command,
        patience: Duration,
    ) -> Option<Result<Done, String>> {
        let (sender, receiver) = oneshot::channel();
        let request = ReplicatorRequest::Command(command, sender);
        timeout(PATIENCE, self.replicator.as_ref()?.send(request)).await.ok()?.ok()?;
        timeout(patience, receiver).await.ok()?.ok()
    }
}

/// `None` when the channel stays full, the answer does not come, or the thread is gone.
pub(crate) async fn ask<Message, T>(
    to: &mpsc::Sender<Message>,
    message: impl FnOnce(oneshot::Sender<T>) -> Message,
) -> Option<T> {
    ask_within(to, message, PATIENCE).await
}

async fn ask_within<Message, T>(
    to: &mpsc::Sender<Message>,
    message: impl FnOnce(oneshot::Sender<T>) -> Message,
    patience: Duration,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    let answer = async {
        to.send(message(sender)).await.ok()?;
        receiver.await.ok()
    };
    timeout(patience, answer).await.ok().flatten()
}
