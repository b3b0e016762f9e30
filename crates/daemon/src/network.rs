//! The network thread: links, addresses, routes and rules.
//!
//! Level-triggered: whatever has happened, it looks at what the kernel has and does what is
//! missing. It looks after every announcement of the kernel (a few of them together), after lost
//! announcements, when a refused change is due again, and at an interval, because the kernel
//! drops routes at a link's down without saying so. Links and addresses are few and looked at at
//! once; routes may be many, and neither reading nor changing them holds up the links and addresses
//! of a step, or the news of a link.
//! The steps of a transition move a group from one side to the other and are carried out before
//! anything else. Decides nothing: `lockstep-routes` does.

mod configure;
mod listener;
mod look;
mod own_table;
mod ownership;
mod release;
mod report;
mod requests;
mod schedule;
mod snapshot;
mod step;
#[cfg(test)]
mod tests;
mod virtual_links;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as handshake;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use anyhow::Context as _;
use lockstep_failover::{OVERTAKEN, Outcome, StepId};
use lockstep_kernel::network::Network;
use lockstep_kernel::own_table::Rules;
use lockstep_routes::{
    Actual, Address, Change, Declared, Desired, Interest, Kind, Object, PROTOCOL_LOCKSTEP, Phases,
    Refusals, Side, plan_kind,
};
use nix::errno::Errno;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::messages::{CoreEvent, InterfaceState, NetworkRequest};
use listener::Listener;
use own_table::Table;
use ownership::Ownership;
use requests::{Order, Requests};
use schedule::Schedule;

pub(crate) use own_table::rules_of;
pub(crate) use ownership::replace as replace_file;
pub(crate) use release::{Left, release};
pub(crate) use report::interfaces_of;
pub(crate) use snapshot::{Assessed, Snapshot};

/// Most changes carried out before whoever waits for links or addresses has a turn.
const PIECE: usize = 512;

/// What the thread is to look after.
pub(crate) struct Settings {
    /// All that is wanted, at one time or another.
    pub declared: Declared,
    /// The interfaces that the core wants to know about.
    pub interfaces: BTreeSet<String>,
    /// What the nftables table is to hold.
    pub rules: Rules,
    /// Where it is kept what the kernel cannot tell the next run.
    pub state_directory: PathBuf,
    /// The groups that an earlier run has left master a moment ago: what follows them stays until the
    /// core decides.
    pub resumed: Vec<String>,
}

/// Starts the thread in the caller's network namespace. When this returns, addresses that an
/// earlier run has left are gone; nothing else is touched before `begin` says so, because a start
/// that fails elsewhere must not have taken anybody's address away.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn spawn(
    settings: Settings,
    requests: mpsc::Receiver<NetworkRequest>,
    core: mpsc::Sender<CoreEvent>,
    begin: oneshot::Receiver<()>,
) -> anyhow::Result<JoinHandle<()>> {
    let (ready, started) = handshake::channel();
    let thread = thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || run(settings, requests, core, &ready, begin))
        .context("cannot start the network thread")?;
    started
        .recv()
        .context("the network thread ended at once")?
        .context("cannot read links, addresses, routes and rules")?;
    Ok(thread)
}

fn run(
    settings: Settings,
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
        let actor = match Actor::start(settings, core).await {
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
    declared: Arc<Declared>,
    /// The addresses that are not wanted yet, whatever their group is, by their virtual router.
    withheld: BTreeMap<String, Vec<Address>>,
    interest: Arc<Interest>,
    phases: Phases,
    /// What the kernel had at the last look, and what it has acknowledged since.
    actual: Arc<Actual>,
    refusals: Arc<Refusals>,
    ownership: Ownership,
    network: Network,
    table: Table,
    listener: Listener,
    /// The interfaces the core wants to know about, and what it was told last.
    interfaces: BTreeSet<String>,
    told: BTreeMap<String, InterfaceState>,
    core: mpsc::Sender<CoreEvent>,
    schedule: Schedule,
    /// Memory that a long plan has taken is still to be given back.
    has_planned_much: bool,
    /// What is missing is what another configuration has brought.
    is_being_configured: bool,
}

impl Actor {
    /// Every group starts as not being master, whatever an earlier run was, but for those that may
    /// be resumed.
    async fn start(settings: Settings, core: mpsc::Sender<CoreEvent>) -> io::Result<Self> {
        let mut actor = Self::connect(settings, core).await?;
        actor.remove_left_addresses().await;
        Ok(actor)
    }

    /// Reads what the kernel has, and changes nothing.
    async fn connect(settings: Settings, core: mpsc::Sender<CoreEvent>) -> io::Result<Self> {
        let Settings { declared, interfaces, rules, state_directory, resumed } = settings;
        let ownership = Ownership::load(&state_directory);
        let network = Network::connect()?;
        let own = network.own_routes().await?;
        let interest = Interest::of(&declared)
            .and_owned(ownership.owned())
            .and_tables(own.iter().map(|route| route.table));
        let interest = Arc::new(interest);
        let listener = Listener::connect(Arc::clone(&interest))?;
        let actual = Arc::new(network.dump(&interest).await?);
        let mut phases = Phases::default();
        for group in &resumed {
            for kind in Kind::ALL {
                phases.settle(group, kind, Side::Master);
            }
        }
        Ok(Self {
            declared: Arc::new(declared),
            withheld: BTreeMap::new(),
            interest,
            phases,
            actual,
            refusals: Arc::default(),
            ownership,
            network,
            table: Table::of(rules),
            listener,
            interfaces,
            told: BTreeMap::new(),
            core,
            schedule: Schedule::new(Instant::now()),
            has_planned_much: false,
            is_being_configured: false,
        })
    }

    async fn remove_left_addresses(&mut self) {
        let mut leaving = plan_kind(self.desired(), &self.actual, Kind::Addresses);
        let elsewhere = self.added_elsewhere(&leaving);
        // What is only made anew stays until then.
        let comes_back: BTreeSet<Object> = leaving
            .iter()
            .filter(|change| matches!(change, Change::AddAddress { .. }))
            .map(Change::object)
            .collect();
        leaving.retain(|change| {
            let object = change.object();
            matches!(change, Change::RemoveAddress { .. })
                && !elsewhere.contains(&object)
                && !comes_back.contains(&object)
        });
        for change in &leaving {
            info!(%change, "left by an earlier run");
        }
        self.carry_out(&leaving).await;
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
        // The first dump is still good.
        self.settle(None).await;
        loop {
            if let Some((wanted, answer)) = requests.take_configuration() {
                let result = self.configure(wanted, requests).await;
                drop(answer.send(result.map_err(|error| error.to_string())));
                continue;
            }
            match requests.next_order() {
                Some(Order::Stop) => {
                    self.ownership.keep();
                    self.remove_virtual_links().await;
                    return Ok(());
                }
                Some(Order::Steps(steps)) => {
                    let answers = self.steps(&steps, Some(requests)).await;
                    self.answer_steps(answers).await;
                    self.schedule.routes_changed(Instant::now());
                    continue;
                }
                Some(Order::Overtaken(ids)) => {
                    let outcome = Outcome::Failed(OVERTAKEN.to_owned());
                    let answers = ids.into_iter().map(|id| (id, outcome.clone())).collect();
                    self.answer_steps(answers).await;
                    continue;
                }
                None => {}
            }
            let admitted = requests.take_admitted();
            if !admitted.is_empty() {
                self.admit(&admitted).await;
                continue;
            }
            self.answer_from_memory(requests);
            let asked = requests.is_asked();
            let look_at = if asked { Instant::now() } else { self.schedule.look_at() };
            tokio::select! {
                biased;
                () = requests.asked(), if !asked => {}
                () = look::until(self.schedule.links_at()) => self.look_at_links().await,
                () = look::until(Some(look_at)) => self.look(requests).await,
                () = look::until(self.schedule.glance_at()) => self.glance().await,
                hints = self.listener.changed() => self.note(hints?),
            }
        }
    }

    fn desired(&self) -> Desired<'_> {
        Desired { declared: &self.declared, phases: &self.phases, owned: self.ownership.owned() }
    }

    /// The addresses among what is removed that somebody else has added. They go all the same when
    /// their group begins: two routers must not have them.
    fn added_elsewhere(&self, changes: &[Change]) -> BTreeSet<Object> {
        if !changes.iter().any(|change| matches!(change, Change::RemoveAddress { .. })) {
            return BTreeSet::new();
        }
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
        self.ownership.before(changes);
        let answers = self.network.apply(changes).await;
        let elsewhere = self.added_elsewhere(changes);
        let now = Instant::now();
        let refusals = Arc::make_mut(&mut self.refusals);
        let mut done = Vec::new();
        for (change, answer) in changes.iter().zip(answers) {
            let object = change.object();
            match answer {
                Ok(()) => {
                    if elsewhere.contains(&object) {
                        warn!(%change, "it was not put there by lockstep: does keepalived still run here?");
                    }
                    debug!(%change, "done");
                    refusals.accepted(&object);
                    done.push(change);
                }
                Err(refusal) => {
                    if refusal.errno == Errno::EEXIST as i32 {
                        self.ownership.not_made(change);
                    }
                    if refusals.of(&object).is_none() {
                        warn!("{refusal}");
                    } else {
                        debug!("{refusal}");
                    }
                    refusals.refused(object, refusal.words, now);
                }
            }
        }
        self.ownership.after(done.iter().copied());
        Arc::make_mut(&mut self.actual).record_all(done.iter().copied());
        if done.iter().any(|change| matches!(change, Change::AddVirtualLink { .. })) {
            // What number the kernel has given it. Where it cannot be read now, it will be: the
            // kernel has announced the link.
            if let Err(error) = self.take_stock_of_links().await {
                debug!(%error, "cannot read links and addresses");
            }
        }
        done
    }

    /// Tells the core how steps have ended.
    async fn answer_steps(&mut self, answers: Vec<(StepId, Outcome)>) {
        // The core is gone only when the process is ending.
        drop(self.core.send(CoreEvent::Stepped(answers)).await);
        self.tell_interfaces().await;
    }
}
