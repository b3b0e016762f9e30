//! The network thread: links, addresses, routes and rules.
//!
//! Level-triggered: whatever has happened, it looks at what the kernel has and does what is
//! missing. It looks after every announcement of the kernel (a few of them together), after lost
//! announcements, when a refused change is due again, and every ten seconds, because the kernel
//! drops routes at a link's down without saying so. Links and addresses are few and looked at at
//! once; routes may be many, and reading them neither holds up a step nor the news of a link.
//! The steps of a transition move a group from one side to the other and are carried out before
//! anything else. Decides nothing: `lockstep-routes` does.

mod listener;
mod look;
mod own_table;
mod report;
mod requests;
mod step;
#[cfg(test)]
mod tests;
mod virtual_links;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc as handshake;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::Context as _;
use lockstep_failover::Outcome;
use lockstep_kernel::network::Network;
use lockstep_kernel::own_table::Rules;
use lockstep_routes::{
    Actual, Change, Declared, Desired, Interest, Kind, Object, Owned, PROTOCOL_LOCKSTEP, Phases,
    Refusals, plan_kind,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::messages::{CoreEvent, InterfaceState, NetworkRequest};
use listener::Listener;
use look::Schedule;
use own_table::Table;
use requests::{Order, Requests};

pub(crate) use own_table::rules_of;

/// Starts the thread in the caller's network namespace. When this returns, addresses that an
/// earlier run has left are gone; nothing else is touched before `begin` says so, because a start
/// that fails elsewhere must not have taken anybody's address away.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn spawn(
    declared: Declared,
    interfaces: BTreeSet<String>,
    rules: Rules,
    requests: mpsc::Receiver<NetworkRequest>,
    core: mpsc::Sender<CoreEvent>,
    begin: oneshot::Receiver<()>,
) -> anyhow::Result<JoinHandle<()>> {
    let (ready, started) = handshake::channel();
    let thread = thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || run(declared, interfaces, Table::of(rules), requests, core, &ready, begin))
        .context("cannot start the network thread")?;
    started
        .recv()
        .context("the network thread ended at once")?
        .context("cannot read links, addresses, routes and rules")?;
    Ok(thread)
}

fn run(
    declared: Declared,
    interfaces: BTreeSet<String>,
    table: Table,
    requests: mpsc::Receiver<NetworkRequest>,
    core: mpsc::Sender<CoreEvent>,
    ready: &handshake::Sender<io::Result<()>>,
    begin: oneshot::Receiver<()>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let actor = match Actor::start(declared, interfaces, table, core).await {
            Ok(actor) => actor,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Nobody waits any more only when the process is ending.
        drop(ready.send(Ok(())));
        if begin.await.is_err() {
            return;
        }
        if let Err(error) = actor.run(requests).await {
            error!(%error, "links, addresses and routes are no longer watched");
        }
    });
}

struct Actor {
    declared: Declared,
    interest: Arc<Interest>,
    phases: Phases,
    /// What the kernel had at the last look, and what it has acknowledged since.
    actual: Actual,
    refusals: Refusals,
    owned: Owned,
    network: Network,
    table: Table,
    listener: Listener,
    /// The interfaces the core wants to know about, and what it was told last.
    interfaces: BTreeSet<String>,
    told: BTreeMap<String, InterfaceState>,
    core: mpsc::Sender<CoreEvent>,
    schedule: Schedule,
}

impl Actor {
    /// Every group starts as not being master, whatever an earlier run was.
    async fn start(
        declared: Declared,
        interfaces: BTreeSet<String>,
        table: Table,
        core: mpsc::Sender<CoreEvent>,
    ) -> io::Result<Self> {
        let interest = Arc::new(Interest::of(&declared));
        let listener = Listener::connect(Arc::clone(&interest))?;
        let network = Network::connect()?;
        let mut actual = network.dump(&interest).await?;
        let elsewhere = network.own_routes().await?;
        actual.routes.extend(elsewhere.into_iter().filter(|route| !interest.covers(route.table)));
        let mut actor = Self {
            declared,
            interest,
            phases: Phases::default(),
            actual,
            refusals: Refusals::default(),
            owned: Owned::default(),
            network,
            table,
            listener,
            interfaces,
            told: BTreeMap::new(),
            core,
            schedule: Schedule::new(Instant::now()),
        };
        let mut leaving = plan_kind(actor.desired(), &actor.actual, Kind::Addresses);
        let elsewhere = actor.added_elsewhere(&leaving);
        leaving.retain(|change| {
            matches!(change, Change::RemoveAddress { .. }) && !elsewhere.contains(&change.object())
        });
        for change in &leaving {
            info!(%change, "left by an earlier run");
        }
        actor.carry_out(&leaving).await;
        Ok(actor)
    }

    /// Until told to end. When it ends by an error, every step has been answered all the same.
    async fn run(mut self, inbox: mpsc::Receiver<NetworkRequest>) -> io::Result<()> {
        let mut requests = Requests::new(inbox);
        let result = self.serve(&mut requests).await;
        if let Err(error) = &result {
            let outcome = Outcome::Failed(format!("the network is no longer watched: {error}"));
            let unanswered = requests.close().into_iter().map(|id| (id, outcome.clone())).collect();
            // The core is gone only when the process is ending.
            drop(self.core.send(CoreEvent::Stepped(unanswered)).await);
        }
        result
    }

    async fn serve(&mut self, requests: &mut Requests) -> io::Result<()> {
        self.table.install(&self.desired().silent_links());
        self.raise_virtual_links().await;
        self.tell_interfaces().await;
        // The first dump is still good, and has the left-over routes of other tables in it.
        self.settle().await;
        loop {
            match requests.next_order() {
                Some(Order::Stop) => {
                    self.remove_virtual_links().await;
                    return Ok(());
                }
                Some(Order::Steps(steps)) => {
                    let answers = self.steps(&steps).await;
                    // The core is gone only when the process is ending.
                    drop(self.core.send(CoreEvent::Stepped(answers)).await);
                    self.tell_interfaces().await;
                    self.schedule.routes_changed(Instant::now());
                    continue;
                }
                None => {}
            }
            let asked = requests.is_asked();
            let look_at = if asked { Instant::now() } else { self.schedule.look_at() };
            tokio::select! {
                biased;
                () = requests.asked(), if !asked => {}
                () = look::until(self.schedule.links_at()) => self.look_at_links().await,
                () = look::until(Some(look_at)) => self.look(requests).await,
                hints = self.listener.changed() => self.note(hints?),
            }
        }
    }

    fn desired(&self) -> Desired<'_> {
        Desired { declared: &self.declared, phases: &self.phases, owned: &self.owned }
    }

    /// The addresses among what is removed that somebody else has added. They go all the same when
    /// their group begins: two routers must not have them.
    fn added_elsewhere(&self, changes: &[Change]) -> BTreeSet<Object> {
        let others: BTreeSet<_> = self
            .actual
            .addresses
            .iter()
            .filter(|there| there.protocol != PROTOCOL_LOCKSTEP)
            .map(|there| (there.index, there.address))
            .collect();
        changes
            .iter()
            .filter(|change| {
                matches!(change, Change::RemoveAddress { index, address, .. }
                    if others.contains(&(*index, *address)))
            })
            .map(Change::object)
            .collect()
    }

    /// Carries out changes; returns those that the kernel has acknowledged.
    async fn carry_out<'a>(&mut self, changes: &'a [Change]) -> Vec<&'a Change> {
        if changes.is_empty() {
            return Vec::new();
        }
        let answers = self.network.apply(changes).await;
        let elsewhere = self.added_elsewhere(changes);
        let now = Instant::now();
        let mut done = Vec::new();
        for (change, answer) in changes.iter().zip(answers) {
            let object = change.object();
            match answer {
                Ok(()) => {
                    if elsewhere.contains(&object) {
                        warn!(%change, "it was not put there by lockstep: does keepalived still run here?");
                    }
                    debug!(%change, "done");
                    self.refusals.accepted(&object);
                    done.push(change);
                }
                Err(refusal) => {
                    if self.refusals.of(&object).is_none() {
                        warn!("{refusal}");
                    } else {
                        debug!("{refusal}");
                    }
                    self.refusals.refused(object, refusal.words, now);
                }
            }
        }
        self.actual.record_all(done.iter().copied());
        if done.iter().any(|change| matches!(change, Change::AddVirtualLink { .. })) {
            // What number the kernel has given it. Where it cannot be read now, it will be: the
            // kernel has announced the link.
            if let Err(error) = self.take_stock_of_links().await {
                debug!(%error, "cannot read links and addresses");
            }
        }
        done
    }
}
