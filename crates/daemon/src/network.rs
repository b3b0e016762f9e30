//! The network thread: links, addresses, routes and rules.
//!
//! Level-triggered: whatever has happened, it looks at what the kernel has and does what is
//! missing. It looks after every announcement of the kernel (a few of them together), after lost
//! announcements, when a refused change is due again, and every [`INTERVAL`], because the kernel
//! drops routes at a link's down without saying so. The steps of a transition move a group from
//! one side to the other and are carried out at once. Decides nothing: `lockstep-routes` does.

mod report;
mod step;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc as handshake;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lockstep_kernel::network::{Hints, Monitor, Network};
use lockstep_routes::{
    Actual, Change, Declared, Desired, Interest, Kind, Object, Phases, Refusals, plan, plan_kind,
};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::messages::{CoreEvent, InterfaceState, NetworkRequest};

/// Announcements within this time are looked after together.
const COALESCE: Duration = Duration::from_millis(3);
/// Longest time between two looks.
const INTERVAL: Duration = Duration::from_secs(10);
/// Wait after a look that failed.
const FAILED_LOOK: Duration = Duration::from_secs(1);
/// A look that took long is followed by this many times its duration without another, so that
/// somebody else's restless table does not take the whole processor.
const REST: u32 = 4;
/// Most plans carried out after one look. A link that comes up makes addresses possible, and they
/// make routes possible; what is left then waits for the next look.
const ROUNDS: usize = 4;

/// Starts the thread in the caller's network namespace. When this returns, addresses that an
/// earlier run has left are gone.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn spawn(
    declared: Declared,
    interfaces: BTreeSet<String>,
    requests: mpsc::Receiver<NetworkRequest>,
    core: mpsc::Sender<CoreEvent>,
) -> anyhow::Result<JoinHandle<()>> {
    let (ready, started) = handshake::channel();
    let thread = thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || run(declared, interfaces, requests, core, &ready))
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
    requests: mpsc::Receiver<NetworkRequest>,
    core: mpsc::Sender<CoreEvent>,
    ready: &handshake::Sender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let actor = match Actor::start(declared, interfaces, core).await {
            Ok(actor) => actor,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Nobody waits any more only when the process is ending.
        drop(ready.send(Ok(())));
        if let Err(error) = actor.run(requests).await {
            error!(%error, "links, addresses and routes are no longer watched");
        }
    });
}

struct Actor {
    declared: Declared,
    interest: Interest,
    phases: Phases,
    /// What the kernel had at the last look, and what it has acknowledged since.
    actual: Actual,
    refusals: Refusals,
    network: Network,
    monitor: Monitor,
    /// The interfaces the core wants to know about, and what it was told last.
    interfaces: BTreeSet<String>,
    told: BTreeMap<String, InterfaceState>,
    core: mpsc::Sender<CoreEvent>,
    /// When to look again at the latest.
    look_at: Instant,
    /// No look before that.
    rest_until: Instant,
}

impl Actor {
    /// Every group starts as not being master, whatever an earlier run was.
    async fn start(
        declared: Declared,
        interfaces: BTreeSet<String>,
        core: mpsc::Sender<CoreEvent>,
    ) -> io::Result<Self> {
        let interest = Interest::of(&declared);
        let monitor = Monitor::connect(&interest)?;
        let network = Network::connect()?;
        let mut actual = network.dump(&interest).await?;
        let elsewhere = network.own_routes().await?;
        actual.routes.extend(elsewhere.into_iter().filter(|route| !interest.covers(route.table)));
        let now = Instant::now();
        let mut actor = Self {
            declared,
            interest,
            phases: Phases::default(),
            actual,
            refusals: Refusals::default(),
            network,
            monitor,
            interfaces,
            told: BTreeMap::new(),
            core,
            look_at: now,
            rest_until: now,
        };
        let (leaving, _): (Vec<_>, Vec<_>) =
            plan_kind(actor.desired(), &actor.actual, Kind::Addresses)
                .into_iter()
                .partition(|change| matches!(change, Change::RemoveAddress { .. }));
        for change in &leaving {
            info!(%change, "left by an earlier run");
        }
        actor.carry_out(&leaving).await;
        Ok(actor)
    }

    async fn run(mut self, mut requests: mpsc::Receiver<NetworkRequest>) -> io::Result<()> {
        self.tell_interfaces().await;
        // The first dump is still good, and has the left-over routes of other tables in it.
        self.settle().await;
        loop {
            let request = tokio::select! {
                biased;
                request = requests.recv() => request,
                hints = self.monitor.changed() => {
                    self.note(hints?);
                    continue;
                }
                () = tokio::time::sleep_until(self.look_at.into()) => {
                    let began = Instant::now();
                    // A step does not wait for a long dump: that is begun anew after it.
                    tokio::select! {
                        biased;
                        request = requests.recv() => request,
                        stock = self.take_stock() => {
                            self.act_upon(stock, began).await;
                            continue;
                        }
                    }
                }
            };
            match request {
                None | Some(NetworkRequest::Stop) => return Ok(()),
                Some(NetworkRequest::Step { id, group, step }) => {
                    let outcome = self.step(&group, step).await;
                    // The core is gone only when the process is ending.
                    drop(self.core.send(CoreEvent::Stepped { id, outcome }).await);
                    self.tell_interfaces().await;
                    self.look_soon();
                }
                Some(NetworkRequest::Status(answer)) => {
                    match self.network.dump(&self.interest).await {
                        // An asker that no longer waits is no concern of ours.
                        Ok(actual) => drop(answer.send(self.status(&actual))),
                        Err(error) => warn!(%error, "cannot tell the state of the network"),
                    }
                }
            }
        }
    }

    fn desired(&self) -> Desired<'_> {
        Desired { declared: &self.declared, phases: &self.phases }
    }

    fn note(&mut self, hints: Hints) {
        if hints.overrun {
            debug!("announcements of the kernel were lost");
        }
        if hints.any() {
            self.look_soon();
        }
    }

    fn look_soon(&mut self) {
        self.look_at = self.look_at.min((Instant::now() + COALESCE).max(self.rest_until));
    }

    /// Reads what the kernel has. May be given up half way.
    async fn take_stock(&mut self) -> io::Result<()> {
        self.take_stock_of_links().await?;
        // An election hears of its interface before somebody's large table is read.
        self.tell_interfaces().await;
        let routes = self.network.routes(&self.interest).await?;
        let rules = self.network.rules().await?;
        self.actual.routes = routes;
        self.actual.rules = rules;
        Ok(())
    }

    /// Does what is missing.
    async fn act_upon(&mut self, stock: io::Result<()>, began: Instant) {
        let now = Instant::now();
        match stock {
            Ok(()) => {
                self.rest_until = now + (now - began) * REST;
                self.settle().await;
                self.tell_interfaces().await;
            }
            Err(error) => {
                warn!(%error, "cannot read links, addresses, routes and rules");
                self.look_at = now + FAILED_LOOK;
            }
        }
    }

    async fn take_stock_of_links(&mut self) -> io::Result<()> {
        let links = self.network.links().await?;
        let addresses = self.network.addresses().await?;
        self.actual.links = links;
        self.actual.addresses = addresses;
        Ok(())
    }

    /// Carries out plans until nothing is left that can be done now.
    async fn settle(&mut self) {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let changes = plan(self.desired(), &self.actual);
            let missing: BTreeSet<Object> = changes.iter().map(Change::object).collect();
            self.refusals.retain(|object| missing.contains(object));
            let due: Vec<Change> = changes
                .into_iter()
                .filter(|change| self.refusals.is_due(&change.object(), now))
                .collect();
            if due.is_empty() {
                break;
            }
            self.carry_out(&due).await;
        }
        let latest = Instant::now() + INTERVAL;
        self.look_at = self.refusals.next_deadline().map_or(latest, |retry| retry.min(latest));
    }

    /// Carries out changes; returns how many the kernel has acknowledged.
    async fn carry_out(&mut self, changes: &[Change]) -> usize {
        if changes.is_empty() {
            return 0;
        }
        let answers = self.network.apply(changes).await;
        let now = Instant::now();
        let mut done = 0;
        for (change, answer) in changes.iter().zip(answers) {
            let object = change.object();
            match answer {
                Ok(()) => {
                    debug!(%change, "done");
                    self.refusals.accepted(&object);
                    self.actual.record(change);
                    done += 1;
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
        done
    }
}
