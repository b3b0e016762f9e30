//! The replicator thread: kernel events and datagrams into `lockstep-replicator`, what it hands
//! out onto the wire, and the steps of a transition that concern flows.
//!
//! Owns the conntrack sockets and the sockets of the dedicated link. Whatever has to do with many
//! flows is a job that is done in pieces of well under a millisecond:
//!
//! ```text
//!   begin what is next: a step, else a purge or a reading whose time has come   ┐
//!   a piece of the commit; without one, a piece of each other job               ├ one turn
//!   timers, datagrams to the peer, news to the core thread                      │
//!   one of: a request, datagrams of the peer, kernel events                     ┘
//! ```
//!
//! A step is answered when what must come before its successors has been done: a commit at its
//! end, a change of role at once; reading the kernel's table goes on afterwards.

mod barrier;
mod commands;
mod commit;
mod events;
mod gathering;
mod kernel;
mod links;
mod reading;
mod removal;
mod report;
mod settings;
mod standby;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::mpsc as handshake;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use lockstep_failover::{OVERTAKEN, Outcome, Step};
use lockstep_kernel::conntrack::{EventSocket, Statistics, TableSocket};
use lockstep_kernel::network::Monitor;
use lockstep_replicator::{CommitPart, Config, Replicator, Role, Start};
use tokio::sync::{mpsc, oneshot};
use tokio::task::yield_now;
use tokio::time::sleep_until;
use tracing::error;

use crate::control::protocol::{Done, What};
use crate::guard::Pulse;
use crate::messages::{CoreEvent, GroupStep, ReplicatorRequest};
use crate::status;
use barrier::Barrier;
use commit::{Committing, Ended};
use gathering::Gathering;
use links::OneLink;
use reading::Reading;
use removal::Removal;
use report::Growing;
use standby::Injection;

/// How often the links and the router's addresses are looked at although nothing is known to have
/// changed.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// How soon a link that has failed is looked at.
const REOPEN: Duration = Duration::from_millis(100);
/// Least time between two readings of the kernel's table after lost events.
const REDUMP: Duration = Duration::from_secs(1);
/// How long a piece of a job may go on with the next part of it.
const PIECE: Duration = Duration::from_micros(300);
/// Payload of a datagram while there is no link to ask.
const USUAL_DATAGRAM: usize = 1500 - 28;
/// Most turns before the runtime may look which sockets have become ready.
const TURNS_IN_A_ROW: u32 = 8;

/// Starts the thread in the caller's network namespace. When this returns, the sockets are open;
/// a link whose interface is missing or down is waited for.
///
/// # Errors
/// Without privilege or connection tracking, or when the port is in use: one sentence.
pub(crate) fn spawn(
    config: Config,
    requests: mpsc::Receiver<ReplicatorRequest>,
    core: mpsc::Sender<CoreEvent>,
    pulse: Pulse,
) -> anyhow::Result<JoinHandle<()>> {
    let (ready, started) = handshake::channel();
    let thread = thread::Builder::new()
        .name("replicator".to_owned())
        .spawn(move || run(config, requests, core, pulse, &ready))
        .context("cannot start the replicator thread")?;
    started.recv().context("the replicator thread ended at once")??;
    Ok(thread)
}

fn run(
    config: Config,
    requests: mpsc::Receiver<ReplicatorRequest>,
    core: mpsc::Sender<CoreEvent>,
    pulse: Pulse,
    ready: &handshake::Sender<anyhow::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.into()))),
    };
    runtime.block_on(async {
        let actor = match Actor::start(config, requests, core, pulse) {
            Ok(actor) => actor,
            Err(error) => return drop(ready.send(Err(error))),
        };
        // Nobody waits any more only when the process is ending.
        drop(ready.send(Ok(())));
        if let Err(error) = Box::pin(actor.run()).await {
            error!("flows are no longer replicated: {error:#}");
        }
    });
}

struct Actor {
    replicator: Replicator,
    config: Config,
    links: Vec<OneLink>,
    /// Says when the links and addresses are worth a look.
    monitor: Option<Monitor>,
    events: EventSocket,
    /// Times that the kernel lost events of earlier sockets.
    overruns_before: u64,
    table: TableSocket,
    injection: Injection,
    /// The kernel's counters as they were seen last, and what was wrong then.
    kernel: Option<Statistics>,
    kernel_trouble: Option<String>,
    /// The router's own addresses.
    local: Vec<IpAddr>,
    requests: mpsc::Receiver<ReplicatorRequest>,
    /// Steps that came while another one was being carried out.
    waiting: VecDeque<GroupStep>,
    /// The groups that this router serves.
    serving: BTreeSet<String>,
    barrier: Option<Barrier>,
    commit: Option<Committing>,
    reading: Option<Reading>,
    /// Who waits for the end of a reading that has not begun yet.
    readers: Vec<Person>,
    /// What it has to read, when nothing but people's wishes leads to it.
    wished: Option<What>,
    removal: Option<Removal>,
    stop: bool,
    core: mpsc::Sender<CoreEvent>,
    /// What the core thread was told last.
    told_in_sync: Option<bool>,
    /// Whose mode has been warned of, and what was said.
    suspected: BTreeMap<IpAddr, String>,
    /// A copy has been completed, and more flows may be on their way.
    growing: Option<Growing>,
    last_commit: Option<status::replication::Commit>,
    /// The last turn has not sent all that is in line.
    more_to_send: bool,
    /// The last turn has not taken all that has come.
    more_to_hear: bool,
    outgoing: Vec<u8>,
    gathering: Gathering,
    started: Instant,
    redump_at: Option<Instant>,
    dumped_at: Option<Instant>,
    housekeeping_at: Instant,
    events_reopened_at: Option<Instant>,
    /// Why this thread cannot go on.
    hopeless: Option<anyhow::Error>,
    /// Shows the guard that it lives.
    pulse: Pulse,
}

/// Whoever asked on the control socket, and waits.
type Person = oneshot::Sender<Result<Done, String>>;

impl Actor {
    fn start(
        config: Config,
        requests: mpsc::Receiver<ReplicatorRequest>,
        core: mpsc::Sender<CoreEvent>,
        pulse: Pulse,
    ) -> anyhow::Result<Self> {
        let now = Instant::now();
        let events = events::open(&config)?;
        let table = TableSocket::open()?;
        let mut actor = Self {
            replicator: Replicator::new(config.clone(), start(), now),
            links: config.links.iter().cloned().map(OneLink::new).collect(),
            config,
            monitor: None,
            events,
            overruns_before: 0,
            table,
            injection: Injection::open()?,
            kernel: None,
            kernel_trouble: None,
            local: Vec::new(),
            requests,
            waiting: VecDeque::new(),
            serving: BTreeSet::new(),
            barrier: None,
            commit: None,
            reading: None,
            readers: Vec::new(),
            wished: None,
            removal: None,
            stop: false,
            core,
            told_in_sync: None,
            suspected: BTreeMap::new(),
            growing: None,
            last_commit: None,
            more_to_send: false,
            more_to_hear: false,
            outgoing: Vec::new(),
            gathering: Gathering::default(),
            started: now,
            redump_at: Some(now),
            dumped_at: None,
            housekeeping_at: now,
            events_reopened_at: None,
            hopeless: None,
            pulse,
        };
        actor.open_links()?;
        actor.filter_events();
        Ok(actor)
    }

    async fn run(mut self) -> anyhow::Result<()> {
        let result = self.take_turns().await;
        if let Err(error) = &result {
            self.refuse_rest(error).await;
        }
        result
    }

    async fn take_turns(&mut self) -> anyhow::Result<()> {
        let mut turns: u32 = 0;
        while !self.stop {
            self.pulse.beat(Instant::now());
            self.work().await?;
            if !self.can_begin_step() && !self.stop {
                // A socket that is never empty would keep the others from being looked at.
                turns = turns.wrapping_add(1);
                if turns.is_multiple_of(TURNS_IN_A_ROW) {
                    yield_now().await;
                }
                self.wait().await;
            }
            if let Some(error) = self.hopeless.take() {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Every step is answered, also by a thread that ends. People hear that nobody answers.
    async fn refuse_rest(&mut self, error: &anyhow::Error) {
        self.requests.close();
        while let Some(request) = self.requests.recv().await {
            self.accept(request);
        }
        let outcome = Outcome::Failed(format!("flows are no longer replicated: {error:#}"));
        let steps = self.commit.take().into_iter().flat_map(|commit| commit.steps);
        let under_way = steps.map(|step| step.id);
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|step| step.id);
        let barrier = self.barrier.take().map(|barrier| barrier.id);
        let answers: Vec<_> =
            under_way.chain(waiting).chain(barrier).map(|id| (id, outcome.clone())).collect();
        if answers.is_empty() {
            return;
        }
        self.tell(CoreEvent::Stepped(answers)).await;
    }

    /// Everything that can be done without waiting.
    async fn work(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + HOUSEKEEPING;
            self.look_around().await;
        }
        self.begin().await?;
        self.do_pieces().await?;
        let now = Instant::now();
        if self.replicator.next_deadline().is_some_and(|at| now >= at) {
            self.replicator.handle_timeout(now);
        }
        self.transmit();
        self.look_at_barrier().await;
        self.report().await
    }

    /// Whether a step can be begun now. The active role forgets what the peers have told, so it waits
    /// for the end of a commit that was too slow to hold it back any longer. No group cuts another
    /// one's commit short.
    fn can_begin_step(&self) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        self.commit.as_ref().is_none_or(|commit| match next.step {
            Step::CommitFlows => true,
            Step::ReplicateActive => false,
            _ => !commit.is_of_others(&next.group),
        })
    }

    /// Answers the steps that are not worth beginning any more.
    async fn pass_overtaken(&mut self) {
        let newer: Vec<_> = self.waiting.iter().map(|it| (it.group.clone(), it.step)).collect();
        let mut overtaken = Vec::new();
        let mut place = 0;
        self.waiting.retain(|it| {
            place += 1;
            let overtakes = |(group, step): &(String, Step)| {
                *group == it.group && it.step.is_overtaken_by(*step)
            };
            let keep = !newer[place..].iter().any(overtakes);
            if !keep {
                overtaken.push((it.id, Outcome::Failed(OVERTAKEN.to_owned())));
            }
            keep
        });
        if !overtaken.is_empty() {
            self.tell(CoreEvent::Stepped(overtaken)).await;
        }
    }

    /// Begins what is next. Steps come first: they tell what the rest is good for.
    async fn begin(&mut self) -> anyhow::Result<()> {
        self.pass_overtaken().await;
        if self.can_begin_step()
            && let Some(next) = self.waiting.pop_front()
        {
            if let Some(commit) = &mut self.commit
                && commit.is_of_others(&next.group)
            {
                // What the peers have told until now is part of it.
                commit.steps.push(next);
                return Ok(());
            }
            if self.commit.is_some() {
                self.end_commit(Ended::CutShort).await?;
            }
            if next.step == Step::CommitFlows {
                self.begin_commit(CommitPart::All, vec![next], Vec::new());
                return Ok(());
            }
            let outcome = self.change_role(next.step, next.group).await;
            self.tell(CoreEvent::Stepped(vec![(next.id, outcome)])).await;
            return Ok(());
        }
        if self.commit.is_some() {
            return Ok(());
        }
        if self.redump_at.is_some_and(|at| Instant::now() >= at) {
            self.begin_reading();
        }
        self.begin_purge();
        Ok(())
    }

    /// A piece of each job under way. While a commit runs nothing else does: the kernel is not
    /// listened to, and what else there is to do with its table comes afterwards anew.
    async fn do_pieces(&mut self) -> anyhow::Result<()> {
        if self.commit.is_some() {
            return self.do_commit().await;
        }
        self.do_reading();
        self.do_removal();
        self.do_injection();
        self.do_refresh();
        Ok(())
    }

    /// Whether there is work for which nothing has to happen first.
    fn has_work(&self) -> bool {
        self.more_to_send
            || self.more_to_hear
            || self.commit.is_some()
            || self.reading.is_some()
            || self.removal.is_some()
            || self.injection.more
            || self.replicator.purge_wanted()
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let deadlines = [
            self.replicator.next_deadline(),
            self.replicator.next_injection(now),
            self.replicator.refresh_deadline(now),
            self.redump_at,
            self.pulse.due(),
            self.barrier_deadline(),
        ];
        deadlines.into_iter().flatten().fold(self.housekeeping_at, Instant::min)
    }

    /// Waits for the next thing to happen, and takes it in. Work for which nothing has to happen is
    /// done in every turn, so it comes last here and keeps nobody from being heard.
    async fn wait(&mut self) {
        let deadline = self.next_deadline();
        let more = self.has_work();
        if !more && let Some(pause) = self.gathering.pause() {
            thread::sleep(pause);
        }
        tokio::select! {
            biased;
            request = self.requests.recv() => match request {
                Some(request) => self.accept(request),
                None => self.stop = true,
            },
            () = links::ready(&mut self.links) => {
                self.gathering.woken(Instant::now());
                self.more_to_hear = false;
                self.hear();
                // However much comes from the peers, the kernel has its turn.
                self.listen();
            }
            ready = self.events.ready() => match ready {
                Ok(()) => {
                    self.gathering.woken(Instant::now());
                    self.listen_a_while();
                }
                Err(error) => self.reopen_events(error),
            },
            changed = links::changed(self.monitor.as_mut()) => self.surroundings_changed(changed),
            () = yield_now(), if more => {}
            () = sleep_until(deadline.into()), if !more => {}
        }
    }

    fn accept(&mut self, request: ReplicatorRequest) {
        match request {
            ReplicatorRequest::Steps(steps) => {
                for next in steps {
                    match next.step {
                        Step::Barrier => self.begin_barrier(next.id),
                        _ => self.waiting.push_back(next),
                    }
                }
            }
            // Whoever asked may have given up.
            ReplicatorRequest::Status(answer) => drop(answer.send(self.status())),
            ReplicatorRequest::Command(command, answer) => self.command(command, answer),
            ReplicatorRequest::Configure(config, person) => self.configure(*config, person),
            ReplicatorRequest::Dump(asked, answer) => drop(answer.send(self.entries(asked))),
            ReplicatorRequest::Stop => self.stop = true,
        }
    }

    async fn change_role(&mut self, step: Step, group: String) -> Outcome {
        self.finish_injection();
        match step {
            Step::ReplicateActive => {
                // The addresses that came with mastership are the router's own from now on.
                self.look_after_addresses().await;
                self.call_off_purge();
                self.serving.insert(group);
                self.replicator.activate(Instant::now());
                if self.replicator.late_flows() > 0 {
                    // Told after the commit. The reading comes after this one.
                    self.begin_commit(CommitPart::All, Vec::new(), Vec::new());
                } else {
                    // What a reading under way has seen may be older than the commit.
                    self.read_anew();
                }
                Outcome::Done("the kernel's flows are read and told to the peer".to_owned())
            }
            Step::ReplicateBackup => {
                // What has happened until now is still this router's to tell.
                self.listen_to_all();
                self.serving.remove(&group);
                if self.replicator.role() == Role::Active && !self.serving.is_empty() {
                    self.replicator.give_up_group(Instant::now());
                    let others: Vec<&str> = self.serving.iter().map(String::as_str).collect();
                    let others = others.join(", ");
                    return Outcome::Done(format!(
                        "flows are told on: this router serves {others}"
                    ));
                }
                self.replicator.deactivate(Instant::now());
                Outcome::Done("the peer is asked for its flows".to_owned())
            }
            Step::CommitFlows
            | Step::HoldForwarding
            | Step::PassForwarding
            | Step::Claim
            | Step::LinksUp
            | Step::AddressesUp
            | Step::RoutesUp
            | Step::Announce
            | Step::StopClaiming
            | Step::AddressesDown
            | Step::RoutesDown
            | Step::LinksDown
            | Step::Hooks
            | Step::Barrier
            | Step::Retire
            | Step::PeerClaims
            | Step::PeerServes => {
                Outcome::Failed(format!("{} is not for the replicator", step.as_str()))
            }
        }
    }

    /// A core thread that has ended is noticed by who waits for it, and this thread is stopped then.
    async fn tell(&self, event: CoreEvent) {
        drop(self.core.send(event).await);
    }
}

fn start() -> Start {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Start {
        first_sequence: unix.as_secs() as u32,
        secret: RandomState::new().build_hasher().finish(),
        max_datagram: USUAL_DATAGRAM,
    }
}

#[cfg(test)]
mod tests;
